"""`edgelstm train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgelstm.commands.console import ProgressLine, output_option, read_recording, recording_options
from edgelstm.files import check_output


@click.command(short_help="Train a forecaster on a recording.")
@click.argument("csv", type=click.Path(path_type=Path))
@output_option(".keras")
@recording_options
@click.option(
    "--units",
    type=click.IntRange(1, 1024),
    default=32,
    show_default=True,
    help="Units of the LSTM.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same model.")
@click.option("--force", is_flag=True, help="Replace the output file.")
def train(csv: Path, output: Path, units: int, seed: int, force: bool, **reading: Any) -> None:
    """Train a forecaster on a recording of normal operation.

    CSV has a header row, a column with the time if there is one, and a column of numbers for each
    channel. The model learns to forecast the next reading.

    Example: edgelstm train pump.csv --rows 0:5000 -o pump.keras
    """
    from edgelstm_quantize.isolated import run_isolated
    from edgelstm_quantize.jobs import train_to_file
    from edgelstm_quantize.limits import MIN_TRAINING_READINGS

    check_output(output, force=force, suffix=".keras")
    recording = read_recording(csv, **reading)
    recording.need(MIN_TRAINING_READINGS, "training")
    with ProgressLine() as progress:
        summary = run_isolated(
            train_to_file,
            recording,
            output,
            units=units,
            seed=seed,
            force=force,
            on_progress=progress,
        )
    click.echo(
        f"Trained on {len(recording):,} readings of {', '.join(recording.channels)} "
        f"({summary.parameters:,} parameters, {summary.iterations} iterations of the LSTM)."
    )
    click.echo(
        f"Forecast error on readings it had not seen: {summary.error:.3f} standard deviations "
        f"(its linear part alone: {summary.ridge_error:.3f})."
    )
    click.echo(f"Wrote {output}.")
