"""`edgelstm run`."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from edgelstm.commands.console import (
    LiveLine,
    backend_option,
    delegate_option,
    format_budget,
    format_delegate,
    plain_warnings,
)
from edgelstm.commands.detection_options import detection_options, take_detection
from edgelstm.commands.event_lines import RateLimit, format_event
from edgelstm.commands.sourcing import format_trouble, open_chosen, source_options
from edgelstm.commands.watching import (
    RateGuard,
    SilenceClock,
    format_achieved,
    in_model_order,
    open_verified,
    resampled,
    watch,
)
from edgelstm.latency import LatencyHistogram
from edgelstm.pipeline import Pipeline, Verdict
from edgelstm.reading import Reading
from edgelstm.recording import format_time
from edgelstm.sinks import Sink
from edgelstm.sinks.jsonl import JsonlSink
from edgelstm.sinks.log import LogSink, limits_by_name

if TYPE_CHECKING:
    from edgelstm_bridge.receiver import SourceCounters
    from edgelstm_bridge.source import Source

_STATUS_INTERVAL_S = 0.5


@click.command(short_help="Watch a sensor and print alerts.")
@click.argument("artifact", type=click.Path(path_type=Path))
@source_options
@click.option(
    "--set-rate", is_flag=True, help="Ask the device to send at the rate that the model needs."
)
@click.option(
    "--resample", is_flag=True, help="Put the readings onto the rate that the model needs."
)
@click.option("--any-rate", is_flag=True, help="Go on, with a warning, at a wrong rate.")
@detection_options
@click.option(
    "--no-calibration", is_flag=True, help="Leave a calibration that lies beside ARTIFACT alone."
)
@backend_option
@delegate_option
@click.option(
    "--alerts",
    "alerts_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also append the alerts to this file, as JSON lines.",
)
def run(
    artifact: Path,
    set_rate: bool,
    resample: bool,
    any_rate: bool,
    no_calibration: bool,
    backend: str,
    delegate: str | None,
    alerts_file: Path | None,
    **options: Any,
) -> None:
    """Watch a sensor: take readings from a device, step the model, print alerts.

    A device that goes away is waited for. Ends when the device says that it has sent everything,
    or with Ctrl-C.

    Example: edgelstm run pump.tflite --port /dev/ttyACM0
    """
    signal.signal(signal.SIGTERM, _interrupt)
    detection = take_detection(options)
    with (
        plain_warnings(),
        open_verified(artifact, backend, delegate, calibration=not no_calibration) as session,
        ExitStack() as stack,
    ):
        manifest = session.artifact.manifest
        pipeline = Pipeline(session, any_rate=any_rate, **detection)
        period = manifest.sample_period
        source = stack.enter_context(
            open_chosen(**options, sample_period=period if set_rate else None)
        )
        sinks: list[Sink] = []
        if alerts_file:
            sinks.append(stack.enter_context(closing(JsonlSink(alerts_file))))
        model = [channel.name for channel in manifest.channels]
        device = [channel.name for channel in source.channels]
        display = _Display(pipeline, source, sinks)
        readings = in_model_order(display.readings(), device, model)
        if resample:
            readings = resampled(readings, period)
        else:
            guard = RateGuard(manifest, any_rate, display.warn)
            if not set_rate:
                guard.announced(source.sample_period)
            readings = guard.watch(readings)
        click.echo(
            f"Watching {', '.join(model)} on {source.description} with {artifact.name} "
            f"({manifest.recipe}, {session.backend}): {format_budget(pipeline.budget)}. "
            "Times are UTC."
        )
        display.watch(readings)


class _Display:
    """What is shown while it runs: alerts, what happens to the device, and a line of status."""

    def __init__(self, pipeline: Pipeline, source: Source, sinks: Sequence[Sink]) -> None:
        self._pipeline = pipeline
        self._source = source
        manifest = pipeline.session.artifact.manifest
        self._log = LogSink(self._write, limits_by_name(manifest))
        self._sinks = sinks
        self._line = LiveLine()
        self._lines = RateLimit(self._write_aside)
        self._next_status = 0.0
        self._clock = SilenceClock(self._silent)
        self._time: float | None = None  # of the last reading
        self._scored: Verdict | None = None  # the last with a score
        self._told_backwards = False

    def readings(self) -> Iterator[Reading]:
        """The readings of the source; what happens to the device is shown as it comes.

        Gaps are not: the status line counts them, and the pipeline knows what to do.
        """
        from edgelstm_bridge.events import Disconnected, Gap, Silence

        for event in self._source.events():
            if type(event) is Reading:
                self._clock.stop()
                yield event
                continue
            if type(event) is not Gap and (text := format_event(event)):
                self._lines.take(text, time.monotonic())
            if isinstance(event, Silence):
                self._clock.start(event.seconds)
            elif isinstance(event, Disconnected):
                self._clock.start(0.0)

    def warn(self, text: str) -> None:
        """Shows a warning."""
        self._write_aside(f"Warning: {text}")

    def watch(self, readings: Iterable[Reading]) -> None:
        """Puts readings through the pipeline and into the sinks, until they end."""
        latency = LatencyHistogram()
        try:
            for verdict in watch(self._pipeline, readings, latency):
                self._time = verdict.reading.timestamp
                if not self._tell(verdict):
                    self._show_status(verdict)
        except KeyboardInterrupt:
            self._line.clear()
            click.echo("Stopped.", err=True)
        finally:
            self._clock.stop()
            self._lines.close()
            self._line.clear()
            _print_summary(self._pipeline, self._source.counters, latency)

    def _tell(self, verdict: Verdict) -> bool:
        for sink in self._sinks:
            sink.take(verdict)
        return self._log.take(verdict)

    def _silent(self, seconds: float) -> None:
        """Nothing has come for so long."""
        timestamp = (time.time() - seconds if self._time is None else self._time) + seconds
        if changes := self._pipeline.silent(timestamp):
            # Sinks take verdicts; this one is on no reading.
            self._tell(Verdict(Reading(timestamp, ()), changes=changes))

    def _write(self, line: str) -> None:
        self._line.clear()
        click.echo(line)

    def _write_aside(self, line: str) -> None:
        self._line.clear()
        click.echo(line, err=True)

    def _show_status(self, verdict: Verdict) -> None:
        """A sign of life: the last reading, how many there were, and where the score is."""
        if verdict.score is not None:
            self._scored = verdict
        if self._pipeline.counters.backwards and not self._told_backwards:
            self._told_backwards = True
            self.warn(
                f"The time went back to {format_time(verdict.reading.timestamp)}; readings of the "
                "past are left out, unless they go on: then the model starts afresh."
            )
        if not self._line.live or time.monotonic() < self._next_status:
            return
        self._next_status = time.monotonic() + _STATUS_INTERVAL_S
        score = "warming up"
        if self._scored is not None and not self._pipeline.warming_up:
            score = f"score {self._scored.score:.1f} of {self._scored.threshold:.1f}"
        self._line.show(
            f"{format_time(verdict.reading.timestamp)}  "
            f"{self._pipeline.counters.readings:,} readings, "
            f"{self._source.counters.lost:,} lost, {score}"
        )


def _print_summary(pipeline: Pipeline, source: SourceCounters, latency: LatencyHistogram) -> None:
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


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
