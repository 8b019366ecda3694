"""What others say, as messages and logs may show it."""

from __future__ import annotations


def printable(text: str) -> str:
    """A text with a ? for every sign that would drive a terminal, or end a line or a message."""
    return "".join(c if c.isprintable() else "?" for c in text)


def one_line(text: str) -> str:
    """A printable text on one line, with one blank between words."""
    return printable(" ".join(text.split()))
