"""What `edgelstm run` shows: lines on what happens, a line of status, and what came of it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from edgelstm.commands.console import LiveLine, format_budget, format_delegate
from edgelstm.commands.event_lines import RateLimit, format_event
from edgelstm.commands.sourcing import format_trouble
from edgelstm.commands.watching import format_achieved
from edgelstm.recording import format_time

if TYPE_CHECKING:
    from edgelstm.service.lane import Lane
    from edgelstm.service.sensor import WatchedSensor
    from edgelstm.service.service import Service
    from edgelstm_bridge.events import Event

log = logging.getLogger("edgelstm.source")

_MOST_LINES = 1000
_FLUSH_S = 2.0


class RunDisplay(logging.Handler):
    """Shows what a service does. Results go to standard output, everything else beside it.

    It is a logging handler as well, for what the service and its parts log. What cannot be shown,
    because a disk is full or a terminal is gone, stops nothing; only `write` tells of it. Nor does
    a terminal that somebody has halted: a thread of its own waits for it.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.service: Service | None = None
        """Is set as soon as it is made."""
        self.stopping = False
        """Whether somebody asked to stop."""
        self._told_stopped = False
        self._line = LiveLine()
        self._printer = _Printer()
        self._limiting = threading.RLock()
        self._limits: dict[str, RateLimit] = {}
        self._told_backwards: set[str] = set()

    def write(self, line: str) -> None:
        """Shows a line on an alert, and waits until it is shown; from any thread.

        Raises:
            OSError: it cannot be shown.
        """
        self._printer.do(lambda: self._write(line, err=False))

    def emit(self, record: logging.LogRecord) -> None:
        """Shows a record: a warning as such."""
        text = record.getMessage()
        if record.levelno >= logging.ERROR:
            text = f"Error: {text}"
        elif record.levelno >= logging.WARNING:
            text = f"Warning: {text}"
        self._printer.post(lambda: self._write(text, err=True))

    def event(self, source: str, event: Event) -> None:
        """Shows what happened to a source, but no flood of it."""
        if not (text := format_event(event)):
            return
        several = self.service is not None and len(self.service.lanes) > 1
        with self._limiting:
            if source not in self._limits:
                self._limits[source] = RateLimit(lambda line: log.info("%s", line))
            self._limits[source].take(f"{source}: {text}" if several else text, time.monotonic())

    def connected(self, lane: Lane) -> None:
        """Says what is watched."""
        source = lane.source
        for sensor in lane.sensors:
            manifest = sensor.manifest
            channels = ", ".join(channel.name for channel in manifest.channels)
            line = (
                f"Watching {channels} on {source.description if source else lane.name} with "
                f"{sensor.settings.artifact.name} ({manifest.recipe}, "
                f"{sensor.pipeline.session.backend}): {format_budget(sensor.pipeline.budget)}. "
                "Times are UTC."
            )
            self._printer.post(lambda line=line: self._write(line, err=False))  # type: ignore[misc]  # mypy cannot type a default of a lambda

    def tick(self) -> None:
        """Shows a sign of life: the last reading, how many there were, where the score is."""
        if self.service is None:
            return
        for lane in list(self.service.lanes.values()):
            self._warn_backwards(lane)
        if self._line.live:
            status = _status(self.service)
            self._printer.post(lambda: self._line.show(status))

    def ended(self) -> None:
        """Shows what came of it."""
        assert self.service is not None  # noqa: S101 - nothing ends that was not made
        for limit in self._limits.values():
            limit.close()
        lanes = list(self.service.lanes.values())
        for lane in lanes:
            self._warn_backwards(lane)
        if not self._printer.flush(_FLUSH_S):
            return
        with suppress(OSError):
            self._line.clear()
            number = sum(len(lane.sensors) for lane in lanes)
            for lane in lanes:
                for sensor in lane.sensors:
                    if number > 1:
                        click.echo(f"{sensor.name}:")
                    _print_summary(sensor, lane)

    def stopped(self) -> None:
        """Says that it was told to stop, once."""
        if not self._told_stopped:
            self._told_stopped = True
            self._printer.post(lambda: self._write("Stopped.", err=True))
            self._printer.flush(_FLUSH_S)

    def _write(self, line: str, *, err: bool) -> None:
        self._line.clear()
        click.echo(line, err=err)

    def _warn_backwards(self, lane: Lane) -> None:
        for sensor in lane.sensors:
            if not sensor.pipeline.counters.backwards or sensor.name in self._told_backwards:
                continue
            self._told_backwards.add(sensor.name)
            log.warning(
                "The time went back to %s; readings of the past are left out, unless they go on: "
                "then the model starts afresh.",
                format_time(sensor.timestamp or 0.0),
            )


class _Printer:
    """A thread that alone waits for the terminal."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Callable[[], None]] = queue.Queue(_MOST_LINES)
        threading.Thread(target=self._run, name="edgelstm display", daemon=True).start()

    def post(self, show: Callable[[], None]) -> None:
        """Shows something soon; left out when too much waits. Never blocks."""
        with suppress(queue.Full):
            self._queue.put_nowait(show)

    def do(self, show: Callable[[], None]) -> None:
        """Shows something, after all that waits, and comes back when that is done.

        Raises:
            OSError: it cannot be shown.
        """
        done = threading.Event()
        errors: list[OSError] = []

        def act() -> None:
            try:
                show()
            except OSError as error:
                errors.append(error)
            finally:
                done.set()

        self._queue.put(act)
        done.wait()
        if errors:
            raise errors[0]

    def flush(self, timeout: float) -> bool:
        """Waits until all is shown; whether that was within so many seconds."""
        done = threading.Event()
        self.post(done.set)
        return done.wait(timeout)

    def _run(self) -> None:
        while True:
            show = self._queue.get()
            with suppress(OSError):
                show()


def _status(service: Service) -> str:
    """One line: of the sensor that was heard of last, where there are several."""
    lanes = list(service.lanes.values())
    sensors = [sensor for lane in lanes for sensor in lane.sensors]
    latest = max(sensors, key=lambda sensor: sensor.timestamp or 0.0)
    if latest.timestamp is None:
        return "no reading yet"
    score = "warming up"
    if (scored := latest.scored) is not None and not latest.pipeline.warming_up:
        score = f"score {scored.score:.1f} of {scored.threshold:.1f}"
    readings = sum(sensor.pipeline.counters.readings for sensor in sensors)
    lost = sum(lane.counters.lost for lane in lanes)
    return f"{format_time(latest.timestamp)}  {readings:,} readings, {lost:,} lost, {score}"


def _print_summary(sensor: WatchedSensor, lane: Lane) -> None:
    pipeline, source, latency = sensor.pipeline, lane.counters, sensor.latency
    counts = pipeline.counters
    alerts = "1 alert" if pipeline.alerts == 1 else f"{pipeline.alerts:,} alerts"
    state = ", one still open" if pipeline.open_alert else ""
    if faults := counts.sensor_faults:
        state += f"; {faults:,} sensor fault{'' if faults == 1 else 's'}"
    click.echo(
        f"{counts.readings:,} readings, {source.lost:,} lost, {source.damaged:,} damaged; "
        f"{alerts}{state}."
    )
    if counts.scored:
        click.echo(format_achieved(pipeline.achieved(), pipeline.budget))
    if more := format_trouble(source):
        click.echo(f"{more}.")
    if counts.unusable or counts.gaps or counts.restarts:
        click.echo(
            f"{counts.unusable:,} readings missed a value; after {counts.gaps:,} short gaps a "
            f"reading was not scored; after {counts.restarts:,} long ones the states were reset."
        )
    if counts.backwards:
        click.echo(f"{counts.backwards:,} readings were left out because their time went back.")
    if counters := pipeline.session.delegate_counters:
        click.echo(format_delegate(counters))
    p50, p99 = latency.quantile_us(0.5), latency.quantile_us(0.99)
    if p50 is not None and p99 is not None:
        click.echo(f"From reading to verdict: median {p50:.0f} us, p99 {p99:.0f} us.")
