"""`edgelstm quantize`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from edgelstm.commands.calibration_options import as_budget, as_ranges, calibration_options
from edgelstm.commands.console import (
    RECORDING_OPTIONS,
    Percentage,
    ProgressLine,
    format_budget,
    format_runtimes,
    output_option,
    read_recording,
    recording_options,
)
from edgelstm.commands.resampling import as_trained
from edgelstm.errors import ModelError
from edgelstm.files import check_output
from edgelstm.manifest import Manifest
from edgelstm.recording import Recording
from edgelstm_quantize.keras_files import TrainingRecord
from edgelstm_quantize.recipes import AUTO, RECIPES
from edgelstm_quantize.summary import DetectionSummary, Summary


@click.command(short_help="Turn a Keras model into an int8 artifact.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--calibration",
    required=True,
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A recording (CSV or Parquet) of normal operation: ranges, fidelity and threshold come "
    "from it. Give it again for further recordings; states start from zero in each.",
)
@output_option(".tflite")
@recording_options
@click.option(
    "--recipe",
    type=click.Choice([*RECIPES, AUTO]),
    show_default="the device's",
    help="How to quantise. "
    + " ".join(f"{r.name}: {r.summary}." for r in RECIPES.values())
    + " auto: the smallest within --max-error.",
)
@click.option(
    "--device",
    metavar="PROFILE",
    help="What it is to run on, such as pi4 or coral-usb: see 'edgelstm devices'.",
)
@click.option(
    "--runtime",
    type=click.Choice(["ai-edge-litert", "tflite-runtime"]),
    show_default="the device's, else ai-edge-litert",
    help="What it is to run with; the old tflite-runtime needs other forms.",
)
@click.option(
    "--max-error",
    type=Percentage(),
    metavar="P",
    help="Largest error against the Keras model, such as 1%. Default for auto: 1%.",
)
@click.option(
    "--mode",
    type=click.Choice(["stream", "window"]),
    help="stream: a step per reading; window: a run over the last N. Default: stream where it can.",
)
@click.option(
    "--window",
    type=click.IntRange(min=1),
    metavar="N",
    help="Readings in a window. Default: the length that the model has.",
)
@click.option(
    "--hop",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Readings from one run of a window to the next.",
)
@click.option(
    "--custom-objects",
    metavar="MODULE|FILE.py",
    help="Where the model's own classes (cells, layers) are defined.",
)
@click.option("--name", help="Of the artifact; default: that of the file.")
@click.option(
    "--task",
    type=click.Choice(["forecast", "reconstruction", "none"]),
    help="What the model gives: later readings, its window again (an autoencoder), or something "
    "else, without anomaly detection. Default: what its training noted, else forecast where it "
    "has as many outputs as channels.",
)
@click.option(
    "--horizon",
    type=click.IntRange(min=0),
    metavar="N",
    help="How many readings ahead a forecast is; 0 is --task none. Default: what its training "
    "noted, else 1.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="A channel that the model forecasts, in the order of its outputs, where it has fewer "
    "outputs than channels.",
)
@calibration_options
@click.option(
    "--force-recipe", is_flag=True, help="Quantise to int8 although the model remembers too long."
)
@click.option(
    "--allow-low-fidelity", is_flag=True, help="Write the file even when it lost too much."
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write an HTML page about the conversion.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--force", is_flag=True, help="Replace the output files.")
def quantize(
    model: Path,
    calibration: tuple[Path, ...],
    output: Path,
    device: str | None,
    report: Path | None,
    as_json: bool,
    force: bool,
    **given: Any,
) -> None:
    """Turn a Keras model into an artifact: one .tflite file that steps statefully.

    MODEL is a .keras or .h5 file with recurrent layers.

    Example: edgelstm quantize pump.keras --calibration pump.csv -o pump.tflite
    """
    from edgelstm_devices import find_profile
    from edgelstm_quantize import keras_files
    from edgelstm_quantize.isolated import run_isolated
    from edgelstm_quantize.jobs import QuantizeOptions, TargetDevice, quantize_to_file

    check_output(output, force=force, suffix=".tflite")
    if report:
        check_output(report, force=force, suffix=".html")
    profile = find_profile(device) if device else None
    target = (
        TargetDevice(profile.name, profile.runtime, profile.recipe, profile.accelerator)
        if profile
        else None
    )
    reading = {name: given.pop(name) for name in RECORDING_OPTIONS}
    record = None
    with contextlib.suppress(ModelError):  # a mistake in the recordings is told first
        record = keras_files.read_record(model)
    recordings = _read(calibration, record, reading)
    keras_files.check(model)
    given["name"] = given["name"] or output.stem
    given["ranges"] = as_ranges(given["ranges"])
    month = given.pop("false_alarms_per_month")
    given["false_alarms_per_day"] = as_budget(given["false_alarms_per_day"], month)
    with ProgressLine() as progress:
        done = run_isolated(
            quantize_to_file,
            model,
            recordings,
            output,
            QuantizeOptions(device=target, **given),
            report=report,
            force=force,
            on_progress=progress,
        )
    for warning in done.summary.warnings:
        click.echo(f"Warning: {warning}", err=True)
    lines = [
        *describe_conversion(done.manifest),
        *describe_detection(done.summary.detection),
        *describe_choice(done.summary),
    ]
    lines += [
        f"Wrote {file} ({file.stat().st_size:,} bytes)."
        for file in (output, done.compiled, report)
        if file
    ]
    for line in lines:
        click.echo(line, err=as_json)
    if as_json:
        click.echo(done.summary.to_json())


def _read(
    files: tuple[Path, ...], record: TrainingRecord | None, reading: dict[str, Any]
) -> list[Recording]:
    """The recordings: of a model that `train` made its channels, in which values may be missing."""
    if record is None:
        return [read_recording(path, **reading, in_order=True) for path in files]
    if not reading["columns"]:
        reading["columns"] = ",".join(record.channels)
    known = zip(record.channels, record.categories, strict=True)
    texts = {name: texts for name, texts in known if texts is not None}
    recordings = [
        read_recording(path, **reading, missing=True, categorical=texts, in_order=True)
        for path in files
    ]
    return [
        as_trained(each, record.sample_period, record.categorical, always=record.resampled)
        for each in recordings
    ]


def describe_choice(summary: Summary) -> list[str]:
    """Why auto took its recipe, and what the Edge TPU's compiler said."""
    lines = []
    if len(summary.trials) > 1:
        for trial in summary.trials:
            size = f"{trial.bytes:,} bytes" if trial.bytes else "-"
            error = f"{trial.fidelity.relative_error:.2%}" if trial.fidelity else "-"
            lines.append(f"  {trial.recipe:<12}{size:>14}{error:>9}  {trial.remark or 'taken'}")
    if summary.edge_tpu:
        tpu = summary.edge_tpu
        lines.append(
            f"Edge TPU  {tpu.mapped} of {tpu.operations} operations ({tpu.share:.0%}) run on it, "
            f"says its compiler {tpu.version}"
        )
    return lines


def describe_detection(detection: DetectionSummary | None) -> list[str]:
    """What the threshold makes of the recording that it was set on."""
    if detection is None or detection.alerts is None or detection.days is None:
        return []
    alerts = "1 alert" if detection.alerts == 1 else f"{detection.alerts:,} alerts"
    rate = f", {detection.alerts / detection.days:.2g} a day" if detection.alerts else ""
    return [f"          {alerts} in the {detection.days:.3g} days of the calibration itself{rate}"]


def describe_conversion(manifest: Manifest) -> list[str]:
    """What a conversion gave, in a few lines: size, fidelity, threshold."""
    fidelity, detection = manifest.fidelity, manifest.detection
    size = f"{manifest.flatbuffer_bytes:,} bytes"
    kept = f"{len(manifest.states)} states" if not manifest.window else f"window {manifest.window}"
    model = f"{manifest.recipe}, {size}, {kept}"
    if manifest.task == "forecast":
        ahead = "one reading" if manifest.horizon == 1 else f"{manifest.horizon} readings"
        model += f", forecasts {', '.join(t.name for t in manifest.targets)} {ahead} ahead"
    elif manifest.task == "reconstruction":
        model += ", gives back its window"
    spread = f"{fidelity.max_error:.2%} at most, drift {fidelity.drift:.2f}"
    if fidelity.correlation is not None:
        spread += f", correlation {fidelity.correlation:.4f}"
    threshold = "none: the model forecasts nothing"
    if manifest.task != "none":
        threshold = "none: the calibration is too short"
    elif manifest.window:
        threshold += "; an autoencoder needs --task reconstruction"
    if detection:
        threshold = (
            f"set on {detection.readings:,} {detection.residuals} residuals for "
            f"{format_budget(detection.false_alarms_per_day)}"
        )
        if manifest.recipe != "float32" and fidelity.score_change is not None:
            threshold += f"; {manifest.recipe} changes scores by {fidelity.score_change:.1%}"
    return [
        f"Model     {model}",
        f"Fidelity  differs from the Keras model by {fidelity.relative_error:.2%} of its output "
        f"over {fidelity.steps:,} held-out steps ({spread})",
        f"Runtimes  {format_runtimes(manifest)}",
        f"Threshold {threshold}",
    ]
