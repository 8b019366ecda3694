"""What an error of somebody else's says, in one line of ours."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of an error's message without its full stop; else the name of its class."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
