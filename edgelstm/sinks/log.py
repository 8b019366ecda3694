"""Alerts as lines that people read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from edgelstm.alert import Alert, AlertChange, AlertEvent, AlertKind, ChannelShare
from edgelstm.manifest import ChannelLimits, Manifest
from edgelstm.pipeline import Verdict
from edgelstm.recording import format_time

_NAMED = 3  # channels of an anomaly
_WORTH_NAMING = 0.05  # share of the score


class LogSink:
    """Writes a line when an alert opens or closes.

    Args:
        write: takes one line, without its end.
        limits: of the channels by name, so that a fault can be told with its figures.
    """

    def __init__(
        self, write: Callable[[str], None], limits: Mapping[str, ChannelLimits] | None = None
    ) -> None:
        self._write = write
        self._limits = limits or {}

    def take(self, verdict: Verdict) -> bool:
        """Writes a line for each alert that opened or closed at this reading."""
        for change in verdict.changes:
            self._write(format_change(change, verdict, self._limits))
        return bool(verdict.changes)

    def close(self) -> None:
        """Holds nothing."""


def limits_by_name(manifest: Manifest) -> dict[str, ChannelLimits]:
    """The limits of an artifact's channels, by their names; empty without a detection."""
    if manifest.detection is None:
        return {}
    names = [channel.name for channel in manifest.channels]
    return dict(zip(names, manifest.detection.limits, strict=True))


def format_change(
    change: AlertChange, verdict: Verdict, limits: Mapping[str, ChannelLimits]
) -> str:
    """One line about an alert that opened or closed at the reading of this verdict."""
    event, alert = change
    is_fault = alert.kind is AlertKind.SENSOR_FAULT
    if event is AlertEvent.OPENED:
        if is_fault:
            return (
                f"{format_time(alert.opened)}  SENSOR FAULT {alert.number} opened  "
                f"{_about(alert, limits)}"
            )
        channels = format_shares(alert.channels)
        return (
            f"{format_time(alert.opened)}  ALERT {alert.number} opened   "
            f"score {verdict.score:.1f} > {verdict.threshold:.1f}{channels and '  ' + channels}"
        )
    closed = alert.closed if alert.closed is not None else alert.opened
    lasted = f"after {format_duration(closed - alert.opened)}"
    if is_fault:
        return (
            f"{format_time(closed)}  sensor fault {alert.number} closed  "
            f"{_names(alert)}: no longer {alert.reason}, {lasted}"
        )
    return (
        f"{format_time(closed)}  alert {alert.number} closed   "
        f"{lasted}, peak score {alert.peak_score:.1f}"
    )


def format_shares(channels: Sequence[ChannelShare]) -> str:
    """The channels that most of a score is of; empty where there is one only."""
    if len(channels) < 2:
        return ""
    named = [c for k, c in enumerate(channels[:_NAMED]) if k == 0 or c.share >= _WORTH_NAMING]
    return ", ".join(f"{channel.name} {channel.share:.0%}".replace("%", " %") for channel in named)


def _about(alert: Alert, limits: Mapping[str, ChannelLimits]) -> str:
    """What is wrong with the sensor."""
    what = alert.reason
    limit = limits.get(alert.channels[0].name) if len(alert.channels) == 1 else None
    if limit is not None:
        if alert.reason == "flat" and limit.flat is not None:
            what = f"flat for {limit.flat:,} readings"
        elif alert.reason == "out of range":
            low = "" if limit.low is None else f"{limit.low:g}"
            high = "" if limit.high is None else f"{limit.high:g}"
            what = f"out of range ({low}..{high})"
    return f"{_names(alert)}: {what}"


def _names(alert: Alert) -> str:
    return ", ".join(channel.name for channel in alert.channels) or "all channels"


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
