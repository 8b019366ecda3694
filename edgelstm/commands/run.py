"""`edgelstm run`."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from edgelstm.backends import BACKENDS
from edgelstm.commands.console import DEFAULT_BAUD_RATE, format_budget, format_event, quiet_runtime
from edgelstm.errors import ArtifactError

if TYPE_CHECKING:
    from edgelstm.latency import LatencyHistogram
    from edgelstm.pipeline import Pipeline
    from edgelstm_bridge import SerialSource


@click.command(short_help="Watch a sensor and print alerts.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--port", required=True, help="A serial port, such as /dev/ttyACM0.")
@click.option(
    "--baud-rate",
    type=click.IntRange(min=1),
    default=DEFAULT_BAUD_RATE,
    show_default=True,
    help="As the firmware has it.",
)
@click.option(
    "--false-alarms-per-day",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="The budget; default: the artifact's own.",
)
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default="auto",
    show_default=True,
    help="The TFLite runtime; auto takes the first that is installed.",
)
def run(
    artifact: Path, port: str, baud_rate: int, false_alarms_per_day: float | None, backend: str
) -> None:
    """Watch a sensor: read a serial port, step the model, print alerts.

    Ends when the device says that it has sent everything, or with Ctrl-C.

    Example: edgelstm run pump.tflite --port /dev/ttyACM0
    """
    from edgelstm.commands.watching import in_model_order, period_warning, watch
    from edgelstm.latency import LatencyHistogram
    from edgelstm.pipeline import Pipeline
    from edgelstm.session import load
    from edgelstm_bridge import SerialSource

    signal.signal(signal.SIGTERM, _interrupt)
    with quiet_runtime():
        session = load(artifact, backend=backend)
    with session:
        if (step := session.verify()) is not None:
            raise ArtifactError(
                f"{artifact} does not give its golden vectors on this machine (first at step "
                f"{step}): the runtime {session.backend} computes something else."
            )
        manifest = session.artifact.manifest
        pipeline = Pipeline(session, false_alarms_per_day=false_alarms_per_day)
        latency = LatencyHistogram()
        with SerialSource(port, baud_rate) as source:
            device = [channel.name for channel in source.hello.channels]
            model = [channel.name for channel in manifest.channels]
            readings = in_model_order(source, device, model)
            click.echo(
                f"Watching {', '.join(model)} on {port} with {artifact.name} "
                f"({manifest.recipe}, {session.backend}): {format_budget(pipeline.budget)}."
            )
            if warning := period_warning(manifest, source.hello.sample_period_us / 1e6):
                click.echo(f"Warning: {warning}", err=True)
            try:
                for verdict in watch(pipeline, readings, latency):
                    if line := format_event(verdict):
                        click.echo(line)
            except KeyboardInterrupt:
                click.echo("Stopped.", err=True)
            finally:
                _print_summary(source, pipeline, latency)


def _print_summary(source: SerialSource, pipeline: Pipeline, latency: LatencyHistogram) -> None:
    counters = source.counters
    damaged = counters.bad_crc + counters.bad_frame + counters.oversize
    state = ", one still open" if pipeline.open_alert else ""
    click.echo(
        f"{pipeline.counters.readings:,} readings, {source.lost:,} lost, {damaged:,} damaged "
        f"frames; {pipeline.alerts:,} alerts{state}."
    )
    counts = pipeline.counters
    if counts.unusable or counts.gaps or counts.restarts:
        click.echo(
            f"{counts.unusable:,} readings missed a value; after {counts.gaps:,} short gaps a "
            f"reading was not scored; after {counts.restarts:,} long ones the states were reset."
        )
    p50, p99 = latency.quantile_us(0.5), latency.quantile_us(0.99)
    if p50 is not None and p99 is not None:
        click.echo(f"From reading to verdict: median {p50:.0f} us, p99 {p99:.0f} us.")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
