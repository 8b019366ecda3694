"""JSON lines: one object of numbers, or one array of them, a line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

from edgelstm_bridge.formats.cells import number
from edgelstm_bridge.formats.format import Format
from edgelstm_bridge.formats.rows import Row, TextCounters
from edgelstm_bridge.formats.times import unix_seconds

_DEEPEST = 8
_NUMBERS = frozenset([float, int])
# What C and Arduino print for floats that are no numbers, which JSON does not know.
_BARE_NAN = re.compile(r"(?<=[:,\[])\s*-?(?:nan|inf|ovf)(?=\s*[,\]}])", re.IGNORECASE)
_ARRAY_START = re.compile(rb"\s*\[\s*[-+\d\]\[\"nNtf]")
_OBJECT_START = re.compile(rb"\s*\{")


def load_line(line: bytes, decode: Callable[[str], Any]) -> Any:
    """The JSON value in a line.

    Raises:
        ValueError: there is none.
    """
    text = line.decode()
    try:
        try:
            return decode(text)
        except ValueError:
            mended = _BARE_NAN.sub("NaN", text)
            if mended == text:
                raise
            return decode(mended)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def starts_like(line: bytes, array: bool) -> bool:
    """Whether a line begins like an array, or an object, of JSON."""
    return (_ARRAY_START if array else _OBJECT_START).match(line) is not None


def flatten(value: Any) -> dict[str, Any]:
    """The leaves of an object or array by their names, such as "acc.x" or "acc.0".

    Raises:
        ValueError: it is nested too deeply.
    """
    return dict(_leaves(value, "", 0))


def to_number(value: Any) -> float:
    """A leaf as a number: true is 1, false 0, null NaN, and a text what it reads as.

    Raises:
        ValueError: it is a text that is no number.
    """
    if value is None:
        return math.nan
    if isinstance(value, str):
        return number(value.encode("utf-8", "replace"))
    try:
        converted = float(value)
    except OverflowError:
        return math.nan
    return converted if math.isfinite(converted) else math.nan


class JsonParser:
    """Parses JSON lines.

    Args:
        fmt: complete.
        counters: where unknown labels are counted.
    """

    def __init__(self, fmt: Format, counters: TextCounters) -> None:
        self._counters = counters
        self._decode = json.JSONDecoder().decode
        self._array = bool(fmt.array)
        self._type = list if self._array else dict
        columns = fmt.columns or ()
        # The leaves of an array are called by their indices until their columns name them.
        keys = [str(k) for k in range(len(columns))] if self._array else columns
        key_of = dict(zip(columns, keys, strict=True))
        self._count = len(columns)
        self._columns = frozenset(keys)
        self._channels = [key_of[name] for name in fmt.channels or ()]
        self._time = key_of[fmt.time] if fmt.time else None
        self._time_is_text = fmt.time_is_text
        wanted = [*self._channels, *([] if self._time is None else [self._time])]
        self._pick = _picker([int(key) for key in wanted] if self._array else wanted)

    def parse(self, line: bytes) -> Row | None:
        """See `LineParser.parse`."""
        try:
            loaded = load_line(line, self._decode)
            if type(loaded) is not self._type:
                return None
            row = self._quickly(loaded)
            return self._slowly(loaded) if row is None else row
        except (ValueError, OverflowError):
            return None

    def resembles(self, line: bytes) -> bool:
        """See `LineParser.resembles`."""
        return starts_like(line, self._array)

    def is_header(self, line: bytes, may_be_cut: bool = False) -> bool:  # noqa: ARG002
        """See `LineParser.is_header`."""
        return False

    def _quickly(self, loaded: Any) -> Row | None:
        """The row of a flat value with all its columns and nothing but numbers."""
        if len(loaded) != self._count:
            return None
        try:
            picked = self._pick(loaded)
        except KeyError:
            return None
        if not _NUMBERS.issuperset(map(type, picked)):
            return None
        try:
            values = tuple(map(float, picked))
        except OverflowError:
            return None
        total = sum(values)
        if total - total != 0.0:
            return None
        return Row(values, None) if self._time is None else Row(values[:-1], values[-1])

    def _slowly(self, loaded: Any) -> Row | None:
        """The row of any value.

        Raises:
            ValueError: a value is no number, or there is no time.
        """
        leaves = flatten(loaded)
        if self._array and leaves.keys() != self._columns:
            return None
        known = leaves.keys() & self._columns
        if not known.intersection(self._channels):
            return None
        values = tuple([to_number(leaves.get(key)) for key in self._channels])
        clock = None if self._time is None else self._clock(leaves.get(self._time))
        self._counters.unknown_labels += len(leaves) - len(known)
        return Row(values, clock)

    def _clock(self, leaf: Any) -> float:
        clock = unix_seconds(str(leaf)) if self._time_is_text else to_number(leaf)
        if math.isnan(clock):
            raise ValueError("no time")
        return clock


def _leaves(value: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict | list):
        yield name, value
        return
    if depth == _DEEPEST:
        raise ValueError("nested too deeply")
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(inner, f"{name}.{key}" if depth else str(key), depth + 1)


def _picker(keys: list[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """What takes the values of some keys or indices as a tuple."""
    if len(keys) == 1:
        (only,) = keys
        return lambda loaded: (loaded[only],)
    return itemgetter(*keys)
