"""What was recorded, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgelstm.sinks.log import format_duration

if TYPE_CHECKING:
    from edgelstm_bridge.recorder import RecordingSummary

_PRECISE_S = 600.0  # below this, durations are written with a decimal


def format_summary(summary: RecordingSummary) -> Iterator[str]:
    """A line about the recording, and one about what else went wrong, if anything did.

    Args:
        summary: of a recording that was written.
    """
    seconds = summary.seconds
    span = f"{seconds:.1f} s" if seconds < _PRECISE_S else format_duration(seconds)
    at_once = 2 * summary.repeated_times >= summary.readings > 1
    rate = f" ({_rate(summary.rate_hz)})" if summary.rate_hz and not at_once else ""
    channels = _count(len(summary.channels), "channel")
    if summary.numbered:
        kept = f"{summary.lost:,} lost, {_count(summary.damaged, 'damaged frame')}"
    else:
        kept = f"{_count(summary.gaps, 'gap')}, {_count(summary.damaged, 'damaged line')}"
    rows = "" if summary.rows == summary.readings else f"{_count(summary.rows, 'row')} to "
    yield (
        f"{_count(summary.readings, 'reading')} of {channels} in {span}{rate}, {kept}; wrote "
        f"{rows}{summary.file} ({_size(summary.size)})."
    )
    others = [
        (summary.gaps if summary.numbered else 0, "gap"),
        (summary.restarts, "restart"),
        (summary.reconnects, "reconnect"),
        (summary.reordered, "late or repeated reading"),
        (summary.notes, "note"),
    ]
    said = [_count(number, name) for number, name in others if number]
    if said:
        yield f"Also {', '.join(said)}."
    if summary.unusable:
        yield f"Left out for a value that is no number: {_count(summary.unusable, 'reading')}."
    if at_once:
        yield (
            "Most readings have the time of the one before, so train and quantize will refuse the "
            "file or take a wrong rate from it: they came all at once, or the device's clock is "
            "too coarse for their rate."
        )
    if summary.overflow:
        yield f"Lost because this computer was too slow: {_count(summary.overflow, 'reading')}."
    if summary.dropped_by_device or summary.missed_by_device:
        yield (
            f"The device says that it dropped {summary.dropped_by_device:,} readings for want of "
            f"room and missed {summary.missed_by_device:,} for want of time."
        )


def rate_warning(measured: float, expected: float, *, asked: bool = False) -> str:
    """A sentence when readings come at another pace than they should.

    Args:
        measured: seconds between two readings.
        expected: seconds, as the device says it or was asked.
        asked: whether it was asked.
    """
    from edgelstm_bridge.rate import format_period

    who = "was asked for" if asked else "says that it takes"
    return (
        f"The device {who} a reading every {format_period(expected)}, but one comes every "
        f"{format_period(measured)}."
    )


def _rate(hertz: float) -> str:
    return f"{hertz:.1f} Hz" if hertz >= 1 else f"one in {format_duration(1 / hertz)}"


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def _size(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            number = size / factor
            return f"{number:.0f} {unit}" if number >= 100 else f"{number:.3g} {unit}"
    return f"{size} bytes"
