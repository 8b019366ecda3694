"""What can be wrong with lines of text as a whole; single bad lines are only counted."""

from __future__ import annotations

from edgelstm.errors import ProtocolError

_LONGEST_SHOWN = 60


class FormatError(ProtocolError):
    """The lines of a device are in no format that can be told, or changed on the way."""


class TooFewLinesError(FormatError):
    """So few lines came that more of them may tell the format."""


def shown(line: bytes) -> str:
    """A line for a message: escaped, in quotes, and cut to 60 characters."""
    # Four characters at most stand for one byte, so no long line is escaped as a whole.
    text = line[:_LONGEST_SHOWN].decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    cut = len(text) > _LONGEST_SHOWN or len(line) > _LONGEST_SHOWN
    return f'"{text[: _LONGEST_SHOWN - 3]}..."' if cut else f'"{text}"'
