"""`edgelstm calibrate`."""

from __future__ import annotations

import dataclasses
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from edgelstm.artifact import Artifact, read_bytes
from edgelstm.calibration_file import SUFFIX, CalibrationFile, calibration_path
from edgelstm.commands.calibration_options import (
    Range,
    as_budget,
    as_ranges,
    recalibration_options,
)
from edgelstm.commands.collecting import Collected, blank, collect, need_task
from edgelstm.commands.console import (
    LiveLine,
    Rows,
    backend_option,
    delegate_option,
    plain_warnings,
)
from edgelstm.commands.event_lines import format_event
from edgelstm.commands.recalibration import Wanted, recalibrate
from edgelstm.commands.record import Duration
from edgelstm.commands.scoring import read_for_model
from edgelstm.commands.sourcing import as_rate, open_chosen, optional_source_options
from edgelstm.commands.watching import open_verified
from edgelstm.errors import ConfigurationError, RecordingError
from edgelstm.files import check_output
from edgelstm.manifest import Detection, Manifest
from edgelstm.reading import Reading
from edgelstm.session import Session
from edgelstm.signing import signed_by
from edgelstm.sinks.log import format_duration

if TYPE_CHECKING:
    from edgelstm_bridge.source import Source

_INTERVAL_S = 0.5
_SHOWN = 16  # channels


@click.command(short_help="Set an artifact's threshold anew, for the sensor at hand.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path), required=False)
@optional_source_options
@click.option(
    "--duration", type=Duration(), help="How long to listen to the device, such as 10m or 2h."
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The calibration to write; default: beside ARTIFACT, where run, score and evaluate take "
    f"it: pump{SUFFIX} for pump.tflite.",
)
@click.option("--into", is_flag=True, help="Write it into ARTIFACT instead.")
@recalibration_options
@click.option(
    "--set-rate", is_flag=True, help="Ask the device to send at the rate that the model needs."
)
@click.option(
    "--resample", is_flag=True, help="Put the readings onto the rate that the model needs."
)
@click.option("--any-rate", is_flag=True, help="Go on, with a warning, at a wrong rate.")
@click.option("--time-column", metavar="NAME", help="Of FILE; default: timestamp, time, datetime.")
@click.option("--rows", type=Rows(), default=":", help="Only these rows of FILE, such as 0:750.")
@backend_option
@delegate_option
@click.option("--force", is_flag=True, help="Replace a calibration that is there.")
def calibrate(
    artifact: Path,
    file: Path | None,
    duration: float | None,
    output: Path | None,
    into: bool,
    false_alarms_per_day: float | None,
    false_alarms_per_month: float | None,
    scorer: str | None,
    threshold: str | None,
    ranges: tuple[tuple[str, Range], ...],
    set_rate: bool,
    resample: bool,
    any_rate: bool,
    time_column: str | None,
    rows: tuple[int | None, int | None],
    backend: str,
    delegate: str | None,
    force: bool,
    **source: Any,
) -> None:
    """Set an artifact's threshold anew, on normal readings of the sensor that it is to watch.

    They come from FILE, a recording, or from a device at --port, for --duration or until Ctrl-C.
    The model itself stays as it is. Needs no TensorFlow.

    Example: edgelstm calibrate pump.tflite --port /dev/ttyACM0 --duration 10m
    """
    if (file is None) == (source["port"] is None):
        raise ConfigurationError(
            "Readings come either from FILE or from a device at --port; give one of them."
        )
    budget = as_budget(false_alarms_per_day, false_alarms_per_month)
    target = _output(artifact, output, into, force)
    with (
        plain_warnings(),
        open_verified(artifact, backend, delegate, calibration=False) as session,
        ExitStack() as stack,
    ):
        content = session.artifact
        manifest = content.manifest
        need_task(manifest)
        given = _check_ranges(as_ranges(ranges), manifest)
        display = _Display(manifest, duration)
        if file is not None:
            readings = _from_file(file, manifest, time_column, rows, any_rate, display)
            where = file.name
        else:
            from edgelstm.intake import Intake

            device = stack.enter_context(
                open_chosen(**source, sample_period=manifest.sample_period if set_rate else None)
            )
            where = device.description
            _stop_in_time(device, duration, stack)
            display.live = True
            intake = Intake(
                manifest,
                [channel.name for channel in device.channels],
                device.sample_period,
                rate=as_rate(set_rate=set_rate, resample=resample, any_rate=any_rate),
                warn=display.warn,
            )
            readings = intake.take_all(display.readings(device))
            model = [channel.name for channel in manifest.channels]
            click.echo(f"Listening to {', '.join(model)} on {where}.", err=True)
        found = _collect(session, readings, display)
        made = recalibrate(manifest, found, Wanted(budget, scorer, threshold, given))
        for line in made.warnings:
            click.echo(f"Warning: {line}", err=True)
        for line in made.lines:
            click.echo(line)
        _write(target, artifact, content, made.detection, where, into=into, force=force)
    click.echo(f"Wrote {target} ({target.stat().st_size:,} bytes).")


def _output(artifact: Path, output: Path | None, into: bool, force: bool) -> Path:
    """The file to write, which may be written."""
    beside = calibration_path(artifact)
    if not into:
        target = output or beside
        check_output(target, force=force, suffix=SUFFIX)
        return target
    if output is not None:
        raise ConfigurationError("--into writes into the artifact itself; leave out -o.")
    if beside.exists():
        raise ConfigurationError(
            f"{beside} lies beside the artifact and would be taken in place of what is in it: "
            "remove it first."
        )
    check_output(artifact, force=True)
    return artifact


def _check_ranges(ranges: dict[str, Range], manifest: Manifest) -> dict[str, Range]:
    names = [channel.name for channel in manifest.channels]
    if unknown := [name for name in ranges if name not in names]:
        raise ConfigurationError(
            f"A range is given for {unknown[0]!r}, which is none of the model's channels "
            f"{', '.join(names)}."
        )
    return ranges


class _Display:
    """A line of progress, and what happens to the device."""

    def __init__(self, manifest: Manifest, duration: float | None) -> None:
        self._period = manifest.sample_period
        self._duration = duration
        self._line = LiveLine()
        self._next = 0.0
        self.total: int | None = None
        """How many readings there are, where that is known."""
        self.live = False
        """Whether they come from a device, which is stopped when the time is over."""

    def readings(self, source: Source) -> Iterator[Reading]:
        """The readings of a device; what happens to it is shown as it comes."""
        from edgelstm_bridge.events import Gap

        for event in source.events():
            if type(event) is Reading:
                yield event
            elif type(event) is not Gap and (text := format_event(event)):
                self._line.clear()
                click.echo(text, err=True)

    def warn(self, text: str) -> None:
        """Shows a warning."""
        self._line.clear()
        click.echo(f"Warning: {text}", err=True)

    def progress(self, found: Collected, seconds: float) -> bool:
        """Shows how far it is; tells whether to go on."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _INTERVAL_S
            total = f" of {self.total:,}" if self.total else ""
            left = f" of {format_duration(self._duration)}" if self._duration else ""
            self._line.show(f"{len(found):,}{total} readings, {format_duration(seconds)}{left}")
        # The last reading of a duration is one period before its end.
        return self.live or self._duration is None or seconds + self._period < self._duration

    def done(self) -> None:
        """Takes the line away."""
        self._line.clear()


def _from_file(
    file: Path,
    manifest: Manifest,
    time_column: str | None,
    rows: tuple[int | None, int | None],
    any_rate: bool,
    display: _Display,
) -> Iterator[Reading]:
    """The rows of a recording as readings."""
    recording = read_for_model(file, blank(manifest), time_column=time_column, rows=rows)
    if not any_rate:
        recording.need_order()
    found, needed = recording.sample_period, manifest.sample_period
    if not any_rate and abs(found / needed - 1) > 0.1:
        raise RecordingError(
            f"{file} has a reading every {found:.4g} s, but the model was made for one every "
            f"{needed:.4g} s: train and quantize a model for that rate, or take the rows as they "
            "come with --any-rate."
        )
    display.total = len(recording)
    pairs = zip(recording.timestamps.tolist(), recording.values.tolist(), strict=True)
    return (
        Reading(timestamp, tuple(values), i if any_rate else None)
        for i, (timestamp, values) in enumerate(pairs)
    )


def _stop_in_time(device: Source, duration: float | None, stack: ExitStack) -> None:
    """Ends a device after a time, also when nothing comes; SIGTERM ends it as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, interrupt))
    if duration and duration < threading.TIMEOUT_MAX:
        timer = threading.Timer(duration, device.stop)
        timer.daemon = True
        timer.start()
        stack.callback(timer.cancel)


def _collect(session: Session, readings: Iterator[Reading], display: _Display) -> Collected:
    try:
        found, pipeline = collect(session, readings, display.progress)
    finally:
        display.done()
    if len(found) >= found.room:
        display.warn(f"The memory is full after {len(found):,} readings; these are used.")
    if pipeline.counters.backwards:
        display.warn(
            f"The time went back at {pipeline.counters.backwards:,} readings, which were left out: "
            "the clock of the device was set."
        )
    return found


def _write(
    target: Path,
    path: Path,
    content: Artifact,
    detection: Detection,
    where: str,
    *,
    into: bool,
    force: bool,
) -> None:
    if into:
        if signed_by(read_bytes(path)):
            click.echo(f"Warning: {path} is no longer signed; sign it again.", err=True)
        manifest = dataclasses.replace(content.manifest, detection=detection)
        dataclasses.replace(content, manifest=manifest).write(path, force=True)
    else:
        CalibrationFile.of(content, detection, where).write(target, force=force)
