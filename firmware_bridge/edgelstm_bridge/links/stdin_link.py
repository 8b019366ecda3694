"""The standard input as a link: what another program pipes in."""

from __future__ import annotations

import os

from edgelstm.errors import SourceError
from edgelstm_bridge.links.descriptor import DescriptorLink
from edgelstm_bridge.links.link import Link
from edgelstm_bridge.urls import SourceUrl

_STDIN = 0


def open_stdin(_url: SourceUrl) -> Link:
    """Reads the standard input to its end; it stays open, and blocking for who shares it.

    Raises:
        SourceError: this process has none.
    """
    try:
        os.fstat(_STDIN)
    except OSError as error:
        raise SourceError("There is no standard input: pipe something into edgelstm.") from error
    return DescriptorLink(
        _STDIN, "the standard input", close=_leave_open, can_wait=True, has_end=True
    )


def _leave_open() -> None:
    """The standard input is not ours to close."""
