"""Time columns: which names say that a column is the time, in which unit, and ISO 8601."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "iso": 1.0}

_SPELLINGS = {
    "s": ("s", "sec", "secs", "second", "seconds"),
    "ms": ("ms", "msec", "milli", "millis", "millisecond", "milliseconds"),
    "us": ("us", "usec", "µs", "μs", "micro", "micros", "microsecond", "microseconds"),
    "ns": ("ns", "nsec", "nano", "nanos", "nanosecond", "nanoseconds"),
}
_UNIT_OF = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings}
_STEMS = ("time", "t", "ts", "timestamp", "uptime", "clock", "elapsed")
_UNITLESS = ("time", "timestamp", "ts", "uptime", "datetime", "date_time", "date")
# A channel may well be called so: `t` for a temperature, `s` for a switch.
_UNSURE = frozenset(["t", "s", "us", "ns"])
_UNIX = ("unix", "unixtime", "unix_time", "epoch")

_TIME_NAMES: dict[str, str | None] = {
    **{f"{stem}_{spelling}": unit for stem in _STEMS for spelling, unit in _UNIT_OF.items()},
    **_UNIT_OF,
    **dict.fromkeys((*_UNITLESS, "t"), None),
    **dict.fromkeys(_UNIX, "s"),
}
_FEWEST_TICKS = 5


class TimeName(NamedTuple):
    """What a column's name says about time.

    Attributes:
        unit: one of `TIME_UNITS`; None when the name does not say it.
        sure: False for a name such as `t` that often is no time.
    """

    unit: str | None
    sure: bool


def time_name(name: str, unit: str = "") -> TimeName | None:
    """What a column's name and unit say about time; None when it is no time.

    Args:
        name: in any case, such as "Time_ms" or "millis()".
        unit: as the header or the values have it, such as "ms"; may be empty.
    """
    key = name.lower().removesuffix("()").strip().replace(" ", "_").replace("-", "_")
    if key not in _TIME_NAMES:
        return None
    if not unit:
        return TimeName(_TIME_NAMES[key], key not in _UNSURE)
    if unit.lower() not in _UNIT_OF:
        return None
    return TimeName(_UNIT_OF[unit.lower()], sure=True)


def is_clock(values: Sequence[float]) -> bool:
    """Whether numbers look like the ticks of a clock: they grow, and in even steps."""
    if len(values) < _FEWEST_TICKS:
        return False
    steps = [after - before for before, after in pairwise(values)]
    usual = statistics.median(steps)
    even = sum(0.5 * usual <= step <= 1.5 * usual for step in steps)
    return min(steps) > 0 and even >= 0.8 * len(steps)


def unix_seconds(text: str) -> float:
    """A time in ISO 8601 as Unix seconds; without an offset it is UTC.

    Raises:
        ValueError: it is no such time.
    """
    moment = datetime.fromisoformat(text.strip(" \t\"'"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def is_iso(text: str) -> bool:
    """Whether a text is a time in ISO 8601; digits alone are a number."""
    if "-" not in text[1:]:
        return False
    try:
        unix_seconds(text)
    except ValueError:
        return False
    return True
