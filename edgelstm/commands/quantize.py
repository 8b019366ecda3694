"""`edgelstm quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

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
from edgelstm.files import check_output
from edgelstm.manifest import Manifest
from edgelstm.threshold import DEFAULT_FALSE_ALARMS_PER_DAY
from edgelstm_quantize.recipes import AUTO, RECIPES
from edgelstm_quantize.summary import Summary


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
    "--horizon",
    type=click.IntRange(0, 1),
    help="1: the model forecasts the next reading; 0: it forecasts nothing, so there is no "
    "anomaly detection. Default: 1 where it has as many outputs as channels.",
)
@click.option(
    "--false-alarms-per-day",
    type=click.FloatRange(min=0, min_open=True),
    default=DEFAULT_FALSE_ALARMS_PER_DAY,
    show_default="one in 7 days",
    metavar="N",
    help="The budget that the threshold keeps.",
)
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
    recordings = [read_recording(path, **reading) for path in calibration]
    keras_files.check(model)
    given["name"] = given["name"] or output.stem
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
    lines = describe_conversion(done.manifest) + describe_choice(done.summary)
    for file in (output, done.compiled, report):
        if file:
            lines.append(f"Wrote {file} ({file.stat().st_size:,} bytes).")
    for line in lines:
        click.echo(line, err=as_json)
    if as_json:
        click.echo(done.summary.to_json())


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


def describe_conversion(manifest: Manifest) -> list[str]:
    """What a conversion gave, in a few lines: size, fidelity, threshold."""
    fidelity, detection = manifest.fidelity, manifest.detection
    size = f"{manifest.flatbuffer_bytes:,} bytes"
    kept = f"{len(manifest.states)} states" if not manifest.window else f"window {manifest.window}"
    model = f"{manifest.recipe}, {size}, {kept}"
    if manifest.horizon:
        model += f", forecasts {', '.join(t.name for t in manifest.targets)} one reading ahead"
    spread = f"{fidelity.max_error:.2%} at most, drift {fidelity.drift:.2f}"
    if fidelity.correlation is not None:
        spread += f", correlation {fidelity.correlation:.4f}"
    threshold = "none: the model forecasts nothing"
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
