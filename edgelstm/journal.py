"""Entries for systemd's journal, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
"""Where journald listens."""

IDENTIFIER = "edgelstm"
"""What `journalctl -t` finds entries by."""

_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_MOST_BYTES = 8192
"""Of a value. A datagram has to fit into the socket's buffer, which is about 200 kB."""


class Priority(IntEnum):
    """How much an entry matters, as syslog has it; the journal colours and filters by it."""

    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


def encode(fields: Mapping[str, object]) -> bytes:
    """An entry as journald takes it.

    Args:
        fields: names of capital letters, digits and underscores, which begin with a letter, with
            values that are written as text; None is left out. Of a long value the middle is.

    Raises:
        ValueError: journald would drop a field because of its name.
    """
    parts = []
    for name, value in fields.items():
        if value is None:
            continue
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a journal field")
        data = _shortened(str(value).encode(errors="backslashreplace"))
        if b"\n" in data:
            parts.append(b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(data)), data))
        else:
            parts.append(b"%s=%s\n" % (name.encode(), data))
    return b"".join(parts)


def _shortened(data: bytes) -> bytes:
    if len(data) <= _MOST_BYTES:
        return data
    half = _MOST_BYTES // 2 - 8
    # What is no UTF-8, journalctl shows as a blob: no character may be cut.
    ends = [part.decode(errors="ignore").encode() for part in (data[:half], data[-half:])]
    return b" [...] ".join(ends)


class Journal:
    """Sends entries to journald.

    Args:
        path: of the socket.
        timeout: seconds to wait while journald is busy; 0 for not at all.
    """

    def __init__(self, path: Path = JOURNAL_SOCKET, timeout: float = 0.0) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(timeout)

    def send(self, fields: Mapping[str, object]) -> None:
        """Sends an entry; see `encode`.

        Raises:
            OSError: journald is not there. BlockingIOError or TimeoutError: it is busy.
        """
        # By name each time, so that a journald that came back is found.
        self._socket.sendto(encode(fields), self._path)

    def close(self) -> None:
        """Closes the socket; may be called twice."""
        self._socket.close()
