"""`edgelstm demo`: the main job, end to end, on a real recording."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edgelstm.alert import AlertEvent, AlertKind
from edgelstm.commands.console import ProgressLine
from edgelstm.commands.quantize import quantize
from edgelstm.commands.train import train
from edgelstm.commands.watching import open_verified, watch
from edgelstm.demo.evaluation import (
    RECORDING,
    TRAINING_ROWS,
    Announcement,
    Evaluation,
    evaluate,
    read_failures,
)
from edgelstm.demo.plot import draw
from edgelstm.errors import MissingDependencyError, SourceError
from edgelstm.files import atomic_path, check_output
from edgelstm.latency import LatencyHistogram
from edgelstm.notice import AlertBook
from edgelstm.pipeline import Pipeline, Verdict
from edgelstm.recording import format_time
from edgelstm.sinks import SinkContext, SinkOptions
from edgelstm.sinks.log import LogConfig, LogSink, format_duration, summary


@click.command(short_help="Run the main job on a real recording.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("edgelstm-demo"),
    show_default=True,
    help="Folder for the files it makes; files of an earlier demo are replaced.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the summary here."
)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw a picture (.png) of the run.")
@click.pass_context
def demo(ctx: click.Context, out: Path, json_file: Path | None, plot: Path | None) -> None:
    """Run the main job on a real recording of a machine that fails four times.

    Trains an LSTM forecaster on the first 750 readings, quantizes it to int8, and watches the
    other 21,945 as they come over a serial port from a virtual device.

    Example: edgelstm demo --plot demo.png
    """
    if plot and importlib.util.find_spec("matplotlib") is None:
        raise MissingDependencyError("--plot needs matplotlib; run: pip install 'edgelstm[plot]'")
    for path in (json_file, plot):
        if path:
            check_output(path, force=True)
    out.mkdir(parents=True, exist_ok=True)
    model, artifact = out / "machine.keras", out / "machine.tflite"
    prefix = f"--rows 0:{TRAINING_ROWS}"
    training = {"rows": (0, TRAINING_ROWS), "force": True}

    _heading(1, f"train {RECORDING.name} {prefix} -o {model}")
    ctx.invoke(train, files=(RECORDING,), output=model, **training)

    given = f"--calibration {RECORDING.name} {prefix} --recipe int8 -o {artifact}"
    _heading(2, f"quantize {model} {given}")
    ctx.invoke(
        quantize,
        model=model,
        calibration=(RECORDING,),
        output=artifact,
        recipe="int8",  # the hardest one: if that works, the others do
        **training,
    )

    rest = f"{TRAINING_ROWS}:"
    _heading(3, f"simulate {RECORDING.name} --rows {rest}")
    with _virtual_device(RECORDING, rest) as device:
        click.echo(f"A process of its own is the device: {device.readings:,} readings wait.")
        _heading(4, f"run {artifact} --port {device.port}")
        figures, verdicts = _watch(artifact, device)

    changes = [change for verdict in verdicts for change in verdict.changes]
    alerts = [
        change.alert.opened
        for change in changes
        if change.event is AlertEvent.OPENED and change.alert.kind is AlertKind.ANOMALY
    ]
    evaluation = evaluate(alerts, read_failures())
    summary = figures | {
        "alerts": len(alerts),
        "windows_hit": evaluation.hits,
        "windows": len(evaluation.announcements),
        "false_alarms": len(evaluation.false_alarms),
        "artifact": str(artifact),
    }
    if plot:
        draw(verdicts, evaluation, plot)
    if json_file:
        with atomic_path(json_file) as temporary:
            temporary.write_text(json.dumps(summary, indent=2, sort_keys=True) + "\n")
    _print_summary(summary, evaluation, verdicts)
    files = [path for path in (model, artifact, json_file, plot) if path]
    click.echo(f"Files        {', '.join(map(str, files))}")
    click.echo("\nNext, with a recording of your own sensor and the device on a port:")
    for command in (
        "edgelstm train sensor.csv -o sensor.keras",
        "edgelstm quantize sensor.keras --calibration sensor.csv -o sensor.tflite",
        "edgelstm run sensor.tflite --port /dev/ttyACM0",
    ):
        click.echo(f"  {command}")


class _Device:
    """The process of `edgelstm simulate`, as seen from here."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        announcement = self._read()
        self.port = str(announcement["port"])
        self.readings = int(announcement["readings"])

    def sent(self) -> int:
        """Waits for the end of the process: how many readings it says it sent."""
        return int(self._read()["sent"])

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise SourceError("The virtual device ended without an answer; see above.")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def _virtual_device(csv: Path, rows: str) -> Iterator[_Device]:
    command = [sys.executable, "-m", "edgelstm", "simulate", str(csv), "--rows", rows]
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            yield _Device(process)
        finally:
            process.terminate()  # does nothing to a process that has ended


def _watch(artifact: Path, device: _Device) -> tuple[dict[str, Any], list[Verdict]]:
    from edgelstm_bridge.sources import open_source

    latency = LatencyHistogram()
    progress = ProgressLine()

    def write(line: str) -> None:
        progress.done()
        click.echo(line)

    log = LogSink(LogConfig(), SinkContext(), write)
    book = AlertBook("", "machine", summary)
    verdicts = []
    with (
        open_verified(artifact, calibration=False) as session,
        open_source(device.port, format="frames") as source,
    ):
        pipeline = Pipeline(session)
        for verdict in watch(pipeline, source, latency):
            verdicts.append(verdict)
            if len(verdicts) % 500 == 0:
                progress("watching", len(verdicts), device.readings)
            for notice in filter(SinkOptions("log").takes, book.take(verdict)):
                log.send(notice)
        progress.done()
        received, lost = source.counters.readings, source.counters.lost
    return {
        "sent": device.sent(),
        "received": received,
        "scored": pipeline.counters.scored,
        "lost": lost,
        "step_us": {"p50": latency.quantile_us(0.5), "p99": latency.quantile_us(0.99)},
    }, verdicts


def _heading(number: int, command: str) -> None:
    click.secho(f"\n[{number}/4] edgelstm {command}", bold=True)


def _print_summary(
    summary: dict[str, Any], evaluation: Evaluation, verdicts: list[Verdict]
) -> None:
    span = verdicts[-1].reading.timestamp - verdicts[0].reading.timestamp
    click.secho("\nSummary", bold=True)
    click.echo(
        f"Readings     {summary['sent']:,} sent, {summary['received']:,} received, "
        f"{summary['lost']:,} lost"
    )
    click.echo(f"Alerts       {summary['alerts']}: {evaluation} in {format_duration(span)}")
    for announcement in evaluation.announcements:
        click.echo(f"  failure    {format_time(announcement.failure.time)}  {_when(announcement)}")
    for alert in evaluation.false_alarms:
        click.echo(f"  false      {format_time(alert)}")
    step = summary["step_us"]
    click.echo(
        f"Time         {step['p50']:.0f} us from decoded reading to verdict (median), "
        f"{step['p99']:.0f} us (p99)"
    )


def _when(announcement: Announcement) -> str:
    if announcement.alert is None:
        return "not announced"
    ahead = announcement.failure.time - announcement.alert
    side = "early" if ahead >= 0 else "late"
    return f"announced {format_duration(abs(ahead))} {side}"
