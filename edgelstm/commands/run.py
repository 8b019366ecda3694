"""`edgelstm run`."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from edgelstm.commands.console import (
    LiveLine,
    backend_option,
    delegate_option,
    format_budget,
    format_delegate,
    plain_warnings,
)
from edgelstm.commands.watching import in_model_order, open_verified, period_warning, watch
from edgelstm.latency import LatencyHistogram
from edgelstm.pipeline import Pipeline, Verdict
from edgelstm.reading import Reading
from edgelstm.recording import format_time
from edgelstm.sinks import Sink
from edgelstm.sinks.jsonl import JsonlSink
from edgelstm.sinks.log import LogSink

if TYPE_CHECKING:
    from edgelstm_bridge import SerialSource

_STATUS_INTERVAL_S = 0.5


@click.command(short_help="Watch a sensor and print alerts.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--port", required=True, help="A serial port, such as /dev/ttyACM0.")
@click.option(
    "--baud-rate",
    type=click.IntRange(min=1),
    default=115_200,
    show_default=True,
    help="As the firmware has it.",
)
@click.option(
    "--false-alarms-per-day",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="The budget; default: the artifact's own.",
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
    port: str,
    baud_rate: int,
    false_alarms_per_day: float | None,
    backend: str,
    delegate: str | None,
    alerts_file: Path | None,
) -> None:
    """Watch a sensor: read a serial port, step the model, print alerts.

    Ends when the device says that it has sent everything, or with Ctrl-C.

    Example: edgelstm run pump.tflite --port /dev/ttyACM0
    """
    from edgelstm_bridge import SerialSource

    signal.signal(signal.SIGTERM, _interrupt)
    with (
        plain_warnings(),
        open_verified(artifact, backend, delegate) as session,
        ExitStack() as stack,
    ):
        manifest = session.artifact.manifest
        pipeline = Pipeline(session, false_alarms_per_day=false_alarms_per_day)
        source = stack.enter_context(SerialSource(port, baud_rate))
        sinks: list[Sink] = []
        if alerts_file:
            sinks.append(stack.enter_context(closing(JsonlSink(alerts_file))))
        model = [channel.name for channel in manifest.channels]
        device = [channel.name for channel in source.hello.channels]
        readings = in_model_order(source, device, model)
        click.echo(
            f"Watching {', '.join(model)} on {port} with {artifact.name} "
            f"({manifest.recipe}, {session.backend}): {format_budget(pipeline.budget)}. "
            "Times are UTC."
        )
        if warning := period_warning(manifest, source.hello.sample_period_us / 1e6):
            click.echo(f"Warning: {warning}", err=True)
        _watch(pipeline, source, readings, sinks)


def _watch(
    pipeline: Pipeline, source: SerialSource, readings: Iterable[Reading], sinks: Sequence[Sink]
) -> None:
    latency = LatencyHistogram()
    status, next_status = LiveLine(), 0.0

    def write(line: str) -> None:
        status.clear()
        click.echo(line)

    log = LogSink(write)
    try:
        for verdict in watch(pipeline, readings, latency):
            for sink in sinks:
                sink.take(verdict)
            if not log.take(verdict) and status.live and time.monotonic() >= next_status:
                status.show(_status(verdict, pipeline, source))
                next_status = time.monotonic() + _STATUS_INTERVAL_S
    except KeyboardInterrupt:
        status.clear()
        click.echo("Stopped.", err=True)
    finally:
        status.clear()
        _print_summary(pipeline, source, latency)


def _status(verdict: Verdict, pipeline: Pipeline, source: SerialSource) -> str:
    """A sign of life: the last reading, how many there were, and where the score is."""
    score = "warming up"
    if verdict.score is not None and verdict.threshold is not None:
        score = f"score {verdict.score:.1f} of {verdict.threshold:.1f}"
    return (
        f"{format_time(verdict.reading.timestamp)}  {pipeline.counters.readings:,} readings, "
        f"{source.lost:,} lost, {score}"
    )


def _print_summary(pipeline: Pipeline, source: SerialSource, latency: LatencyHistogram) -> None:
    counts, damaged = pipeline.counters, source.counters.damaged
    alerts = "1 alert" if pipeline.alerts == 1 else f"{pipeline.alerts:,} alerts"
    state = ", one still open" if pipeline.open_alert else ""
    click.echo(
        f"{counts.readings:,} readings, {source.lost:,} lost, {damaged:,} damaged frames; "
        f"{alerts}{state}."
    )
    if counts.unusable or counts.gaps or counts.restarts:
        click.echo(
            f"{counts.unusable:,} readings missed a value; after {counts.gaps:,} short gaps a "
            f"reading was not scored; after {counts.restarts:,} long ones the states were reset."
        )
    if counters := pipeline.session.delegate_counters:
        click.echo(format_delegate(counters))
    p50, p99 = latency.quantile_us(0.5), latency.quantile_us(0.99)
    if p50 is not None and p99 is not None:
        click.echo(f"From reading to verdict: median {p50:.0f} us, p99 {p99:.0f} us.")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
