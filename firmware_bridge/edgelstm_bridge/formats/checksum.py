"""The checksum of NMEA 0183 at a line's end: `*` and the XOR of the bytes before it, in hex."""

from __future__ import annotations

from functools import reduce
from operator import xor

_STAR = ord("*")
_HEX = frozenset(b"0123456789ABCDEFabcdef")
_SUFFIX_SIZE = 3


def has_checksum(line: bytes) -> bool:
    """Whether a line (without blanks at its end) ends like one with a checksum."""
    return len(line) >= _SUFFIX_SIZE and line[-3] == _STAR and line[-2] in _HEX and line[-1] in _HEX


def without_checksum(line: bytes) -> bytes:
    """What a line says: without its checksum and the `$` that may begin it.

    Raises:
        ValueError: it has no checksum, or one that does not fit.
    """
    line = line.rstrip()
    if not has_checksum(line):
        raise ValueError("no checksum")
    start = 1 if line.startswith(b"$") else 0
    body = line[start:-_SUFFIX_SIZE]
    if reduce(xor, body, 0) != int(line[-2:], 16):
        raise ValueError("bad checksum")
    return body


def with_checksum(body: bytes) -> bytes:
    """The line that carries `body`, begun by a `$`."""
    return b"$%s*%02X" % (body, reduce(xor, body, 0))
