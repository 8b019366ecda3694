"""`edgelstm quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgelstm.commands.console import (
    ProgressLine,
    format_budget,
    output_option,
    read_recording,
    recording_options,
)
from edgelstm.files import check_output
from edgelstm.manifest import Manifest
from edgelstm.threshold import DEFAULT_FALSE_ALARMS_PER_DAY
from edgelstm_quantize.recipes import RECIPES


@click.command(short_help="Turn a Keras model into an int8 artifact.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--calibration",
    required=True,
    metavar="CSV",
    type=click.Path(path_type=Path),
    help="A recording of normal operation: ranges, fidelity and threshold come from it.",
)
@output_option(".tflite")
@recording_options
@click.option(
    "--recipe",
    type=click.Choice(list(RECIPES)),
    default="int8",
    show_default=True,
    help="int8: every tensor; float32: nothing, as a reference.",
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
    "--allow-low-fidelity", is_flag=True, help="Write the file even when int8 lost too much."
)
@click.option("--force", is_flag=True, help="Replace the output file.")
def quantize(
    model: Path,
    calibration: Path,
    output: Path,
    recipe: str,
    name: str | None,
    horizon: int | None,
    false_alarms_per_day: float,
    allow_low_fidelity: bool,
    force: bool,
    **reading: Any,
) -> None:
    """Turn a Keras model into an artifact: one int8 .tflite file that steps statefully.

    MODEL is a .keras or .h5 file with recurrent layers that answer every step.

    Example: edgelstm quantize pump.keras --calibration pump.csv -o pump.tflite
    """
    from edgelstm_quantize import keras_files
    from edgelstm_quantize.isolated import run_isolated
    from edgelstm_quantize.jobs import quantize_to_file
    from edgelstm_quantize.limits import MIN_CALIBRATION_READINGS

    check_output(output, force=force, suffix=".tflite")
    recording = read_recording(calibration, **reading)
    recording.need(MIN_CALIBRATION_READINGS, "calibration")
    keras_files.check(model)
    with ProgressLine() as progress:
        manifest = run_isolated(
            quantize_to_file,
            model,
            recording,
            output,
            recipe=recipe,
            name=name or output.stem,
            horizon=horizon,
            false_alarms_per_day=false_alarms_per_day,
            allow_low_fidelity=allow_low_fidelity,
            force=force,
            on_progress=progress,
        )
    for line in describe_conversion(manifest):
        click.echo(line)
    click.echo(f"Wrote {output} ({output.stat().st_size:,} bytes).")


def describe_conversion(manifest: Manifest) -> list[str]:
    """What a conversion gave, in a few lines: size, fidelity, threshold."""
    fidelity, detection = manifest.fidelity, manifest.detection
    model = f"{manifest.recipe}, {manifest.flatbuffer_bytes:,} bytes, {len(manifest.states)} states"
    if manifest.horizon:
        model += f", forecasts {', '.join(t.name for t in manifest.targets)} one reading ahead"
    spread = f"worst tenth {fidelity.worst_drift:.2%}"
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
        f"Threshold {threshold}",
    ]
