"""`LineSplitter`: bytes in chunks of any size to lines, with a hard cap; and what is text."""

from __future__ import annotations

import re

MAX_LINE_SIZE = 4096
BOM = b"\xef\xbb\xbf"  # what some programs put before text in UTF-8

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # what ESP-IDF puts around its log lines
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


class LineSplitter:
    """Cuts bytes into lines at CR, LF and CRLF.

    It never holds more than one line's bytes beside the chunk it is given. A CRLF may come as a
    line and an empty one, depending on where the chunks end.

    Attributes:
        oversize: lines dropped because they are longer than `MAX_LINE_SIZE`.
    """

    def __init__(self) -> None:
        self.oversize = 0
        self._incomplete = bytearray()
        self._skipping = False  # inside an over-long line, until it ends

    def feed(self, data: bytes) -> list[bytes]:
        """Returns the lines that `data` ends, without their ends."""
        if b"\n" not in data and b"\r" not in data:
            self._keep(data)
            return []
        lines = data.splitlines()
        tail = b"" if data.endswith((b"\n", b"\r")) else lines.pop()
        if self._skipping:
            self._skipping = False
            del lines[0]
        elif self._incomplete:
            lines[0] = bytes(self._incomplete) + lines[0]
        self._incomplete.clear()
        if max(map(len, lines), default=0) > MAX_LINE_SIZE:
            fitting = [line for line in lines if len(line) <= MAX_LINE_SIZE]
            self.oversize += len(lines) - len(fitting)
            lines = fitting
        self._keep(tail)
        return lines

    def drop(self) -> bytes:
        """Forgets the incomplete line and returns it; empty when there is none."""
        incomplete = bytes(self._incomplete)
        self._incomplete.clear()
        self._skipping = False
        return incomplete

    def _keep(self, tail: bytes) -> None:
        if self._skipping:
            return
        self._incomplete += tail
        if len(self._incomplete) > MAX_LINE_SIZE:
            self.oversize += 1
            self._incomplete.clear()
            self._skipping = True


def to_text(line: bytes) -> str | None:
    """A line as text for people, without colours; None when it is not text in UTF-8."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return None
    if "\x1b" in text:
        text = _COLOUR.sub("", text)
    return None if _CONTROL.search(text) else text
