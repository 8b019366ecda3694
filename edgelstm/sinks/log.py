"""Alerts as lines that people read."""

from __future__ import annotations

import importlib.util
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TextIO

from edgelstm.alert import Alert, AlertChange, AlertEvent, AlertKind, ChannelShare, Severity
from edgelstm.errors import SinkError
from edgelstm.manifest import ChannelLimits, Manifest
from edgelstm.notice import ACKNOWLEDGED, Notice
from edgelstm.pipeline import Verdict
from edgelstm.recording import format_time
from edgelstm.sinks import Sink, SinkContext
from edgelstm.sinks.one_line import printable

_NAMED = 3  # channels of an anomaly
_WORTH_NAMING = 0.05  # share of the score


@dataclass(frozen=True)
class LogConfig:
    """Options of the sink "log"."""

    stream: Literal["stdout", "stderr"] = field(
        default="stdout", metadata={"help": "stdout or stderr."}
    )


class LogSink(Sink):
    """Writes a line for each notice.

    Lines have colours on a terminal when rich is installed and NO_COLOR is not set.

    Args:
        config: its options.
        context: tells how many sensors there are: of several each line has the name.
        write: takes one line, without its end, instead of the stream.
    """

    Config = LogConfig

    def __init__(
        self,
        config: LogConfig,
        context: SinkContext,
        write: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(config, context)
        self._stream: TextIO = sys.stderr if config.stream == "stderr" else sys.stdout
        self._write = write or self._print
        self._paint: Callable[[str, str], str] | None = None

    def send(self, notice: Notice) -> None:
        """Writes a line.

        Raises:
            SinkError: the stream is closed.
        """
        if self._paint is None:
            self._paint = painter(self._stream)
        named = len(self.context.sensors()) > 1
        line = self._paint(format_notice(notice, named=named), _style(notice))
        try:
            self._write(line)
        except (OSError, ValueError) as error:  # ValueError: of a file that was closed
            raise SinkError(f"The line of an alert cannot be written: {error}.") from error

    def _print(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


def format_notice(notice: Notice, *, named: bool = False) -> str:
    """One line: time, the sensor's name where there are several, and what happened."""
    sensor = f"{notice.sensor}  " if named and notice.sensor else ""
    return f"{format_time(notice.time)}  {sensor}{printable(_what(notice))}"


def _what(notice: Notice) -> str:
    if notice.event != ACKNOWLEDGED or notice.acknowledged is None:
        return notice.text
    return f"{_name(notice.alert)} {notice.text}"  # which names none


def painter(stream: TextIO) -> Callable[[str, str], str]:
    """Gives what colours a line for a stream: `paint(line, style)`, a style of rich.

    Without rich, on no terminal, or with NO_COLOR, it leaves lines as they are.
    """
    plain: Callable[[str, str], str] = lambda line, _style: line  # noqa: E731
    if not stream.isatty() or os.environ.get("NO_COLOR"):
        return plain
    if importlib.util.find_spec("rich") is None:
        return plain
    from rich.console import Console
    from rich.text import Text

    system: Any = Console(file=stream).color_system
    if system is None:  # such as TERM=dumb
        return plain
    console = Console(file=io.StringIO(), force_terminal=True, color_system=system)

    def paint(line: str, style: str) -> str:
        with console.capture() as capture:
            console.print(Text(line, style=style), soft_wrap=True, end="")
        return capture.get()

    return paint


def _style(notice: Notice) -> str:
    """The style of a line, as rich says it."""
    if notice.event in (AlertEvent.CLOSED.value, ACKNOWLEDGED):
        return "green" if notice.event == AlertEvent.CLOSED.value else "dim"
    if notice.alert.severity is Severity.CRITICAL:
        return "bold red"
    return "yellow"


def limits_by_name(manifest: Manifest) -> dict[str, ChannelLimits]:
    """The limits of an artifact's channels, by their names; empty without a detection."""
    if manifest.detection is None:
        return {}
    names = [channel.name for channel in manifest.channels]
    return dict(zip(names, manifest.detection.limits, strict=True))


def summary(
    change: AlertChange, verdict: Verdict, limits: Mapping[str, ChannelLimits] | None = None
) -> str:
    """One line, without the time, about what happened to an alert.

    Args:
        change: of the alert.
        verdict: on the reading at which it came.
        limits: of the channels by name, so that a fault can be told with its figures.
    """
    event, alert = change
    critical = ", critical" if alert.severity is Severity.CRITICAL else ""
    if alert.kind is AlertKind.ANOMALY:
        return _of_anomaly(event, alert, verdict, critical)
    if event is AlertEvent.CLOSED:
        return f"{_name(alert)} closed  {_names(alert)}: no longer {alert.reason}, {_lasted(alert)}"
    about = _about(alert, limits or {}) + critical
    if event is AlertEvent.OPENED:
        return f"{_name(alert).upper()} opened  {about}"
    return f"{_name(alert)} goes on  {about}"


def _of_anomaly(event: AlertEvent, alert: Alert, verdict: Verdict, critical: str) -> str:
    if event is AlertEvent.CLOSED:
        peak = "" if alert.peak_score is None else f", peak score {alert.peak_score:.1f}"
        return f"{_name(alert)} closed   {_lasted(alert)}{peak}"
    channels = format_shares(alert.channels)
    channels = channels and f"  {channels}"
    if event is AlertEvent.OPENED:
        judged = verdict.score is not None and verdict.threshold is not None
        score = f"   score {verdict.score:.1f} > {verdict.threshold:.1f}" if judged else ""
        return f"{_name(alert).upper()} opened{score}{critical}{channels}"
    peak = "" if alert.peak_score is None else f"     score {alert.peak_score:.1f}"
    if event is AlertEvent.ESCALATED:
        return f"{_name(alert).upper()} is worse{peak[2:]}{critical}{channels}"
    return f"{_name(alert)} rose{peak}{critical}{channels}"


def _name(alert: Alert) -> str:
    words = {AlertKind.ANOMALY: "alert", AlertKind.SENSOR_FAULT: "sensor fault"}
    return f"{words.get(alert.kind, 'service fault')} {alert.number}"


def _lasted(alert: Alert) -> str:
    return f"after {format_duration(max(alert.duration or 0.0, 0.0))}"


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
