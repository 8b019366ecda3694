"""Cells: pieces of a line as numbers, as quantities with a unit, and as names."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from operator import itemgetter

from edgelstm_bridge.messages import MAX_CHANNELS

_NUMBER = re.compile(rb"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_UNIT = rb"[A-Za-z%/\x80-\xff][^\s,;:=]{0,15}"
_QUANTITY = re.compile(rb"(" + _NUMBER.pattern + rb")\s*(" + _UNIT + rb")?")
# What Arduino, C, Python and JSON print where there is no number.
_NO_NUMBERS = frozenset([b"", b"nan", b"inf", b"infinity", b"ovf", b"null", b"none", b"na", b"n/a"])
_AROUND = b" \t\"'"
_NOT_IN_NUMBERS = re.compile(rb"[^0-9+\-.eE]")
_NUMBER_START = re.compile(rb"[+-]?[.,]?\d")
_DIGIT = re.compile(rb"\d")
_IDENTIFIER = re.compile(r"[^\W\d][\w.\-/%°]*")


def number(cell: bytes) -> float:
    """A cell as a number; NaN for an empty cell, for infinity and for words such as "nan".

    Raises:
        ValueError: it is none of these.
    """
    cell = cell.strip(_AROUND)
    if _NUMBER.fullmatch(cell):
        value = float(cell)
        return value if math.isfinite(value) else math.nan
    if is_no_number(cell):
        return math.nan
    raise ValueError(cell)


def is_no_number(cell: bytes) -> bool:
    """Whether a cell is empty or says that there is no number."""
    return cell.strip(_AROUND).lstrip(b"+-").lower() in _NO_NUMBERS


def is_number(cell: bytes) -> bool:
    """Whether a cell holds a number; an empty one and "nan" do not."""
    return _NUMBER.fullmatch(cell.strip(_AROUND)) is not None


def begins_like_number(cell: bytes) -> bool:
    """Whether a cell begins like a number, as no name does."""
    return _NUMBER_START.match(cell.strip(_AROUND)) is not None


def resembles_number(cell: bytes) -> bool:
    """Whether a cell is a number, or one of which a single byte was garbled."""
    cell = cell.strip(_AROUND)
    return _DIGIT.search(cell) is not None and len(_NOT_IN_NUMBERS.findall(cell)) <= 1


def quantity(cell: bytes) -> tuple[float, bytes]:
    """A cell as a number and the unit behind it, which may be empty: b"21.5C" is 21.5, b"C".

    Raises:
        ValueError: it is no such thing.
    """
    cell = cell.strip(_AROUND)
    if is_no_number(cell):
        return math.nan, b""
    match = _QUANTITY.fullmatch(cell)
    if match is None:
        raise ValueError(cell)
    return number(match[1]), match[2] or b""


def split_unit(text: str) -> tuple[str, str]:
    """The name and the unit of a header's cell, "temp [C]" or "temp (C)"."""
    text = text.strip(" \t\"'")
    for opening, closing in ("[]", "()"):
        if text.endswith(closing):
            name, found, unit = text[:-1].rpartition(opening)
            if found and name.strip():
                return name.strip(), unit.strip()
    return text, ""


def is_identifier(name: str) -> bool:
    """Whether a name is one word that begins with a letter or an underscore."""
    return _IDENTIFIER.fullmatch(name) is not None


def picker(
    wanted: Sequence[int], count: int
) -> Callable[[Sequence[bytes]], Sequence[bytes]] | None:
    """What takes the wanted ones out of `count` cells; None when they are all, in their order."""
    if list(wanted) == list(range(count)):
        return None
    if len(wanted) == 1:
        (only,) = wanted
        return lambda cells: (cells[only],)
    return itemgetter(*wanted)


def default_names(count: int) -> tuple[str, ...]:
    """The names of channels that have none."""
    return tuple(f"channel_{k}" for k in range(count))


def name_complaint(names: Sequence[str], most: int | None = MAX_CHANNELS) -> str:
    """What is wrong with names of which `most` are allowed; half a sentence, empty if nothing."""
    if not names:
        return "there is no channel of numbers"
    if most is not None and len(names) > most:
        return f"there are {len(names)} channels, and {most} are the most"
    if not all(names):
        return f"column {list(names).index('') + 1} has no name"
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:  # JSON can write halves of characters
            return f"the name {name!r} is no text"
    twice = [name for name in names if list(names).count(name) > 1]
    return f"two channels are called {twice[0]!r}" if twice else ""
