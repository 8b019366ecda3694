"""`trusting`: whose certificates a sink believes."""

from __future__ import annotations

import ssl
from pathlib import Path

from edgelstm.errors import SinkError


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """A context that checks a server's certificate, and its name.

    Args:
        ca_file: certificates of the authorities to trust, instead of the system's.

    Raises:
        SinkError: the file cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:  # ssl.SSLError is one
        raise SinkError(
            f"The certificates in {ca_file} cannot be read ({error.strerror or error}); name a PEM "
            "file with ca_file."
        ) from error
