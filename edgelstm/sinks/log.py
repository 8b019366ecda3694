"""Alerts as lines that people read."""

from __future__ import annotations

from collections.abc import Callable

from edgelstm.alert import AlertEvent
from edgelstm.pipeline import Verdict
from edgelstm.recording import format_time


class LogSink:
    """Writes a line when an alert opens or closes.

    Args:
        write: takes one line, without its end.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def take(self, verdict: Verdict) -> bool:
        """Writes a line, if an alert opened or closed at this reading."""
        line = format_event(verdict)
        if line is not None:
            self._write(line)
        return line is not None

    def close(self) -> None:
        """Holds nothing."""


def format_event(verdict: Verdict) -> str | None:
    """One line about an alert that opened or closed at this reading; None when none did."""
    alert = verdict.alert
    if alert is None:
        return None
    if verdict.event is AlertEvent.OPENED:
        return (
            f"{format_time(alert.opened)}  ALERT {alert.number} opened   "
            f"score {verdict.score:.1f} > {verdict.threshold:.1f}"
        )
    closed = alert.closed if alert.closed is not None else alert.opened
    return (
        f"{format_time(closed)}  alert {alert.number} closed   "
        f"after {format_duration(closed - alert.opened)}, peak score {alert.peak_score:.1f}"
    )


def format_duration(seconds: float) -> str:
    """A duration as people say it: `40 s`, `25 min`, `2 h 15 min`, `3 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min"
