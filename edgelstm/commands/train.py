"""`edgelstm train`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgelstm.commands import resampling
from edgelstm.commands.console import ProgressLine, output_option, read_recording, recording_options
from edgelstm.errors import ConfigurationError, RecordingError
from edgelstm.files import check_output
from edgelstm.recording import Recording
from edgelstm.sinks.log import format_duration

if TYPE_CHECKING:
    from edgelstm_quantize.jobs import TrainingSummary
    from edgelstm_quantize.training_data import TrainingData

_KINDS = ("hybrid", "lstm", "gru", "ridge", "autoencoder")


@click.command(short_help="Train a model on recordings.")
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@output_option(".keras")
@recording_options
@click.option(
    "--resample",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Put the readings onto an even grid: one every so many seconds, as a mean or on the line "
    "between two.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="A channel to forecast and watch; the others only help. Default: all that are numbers.",
)
@click.option(
    "--categorical",
    multiple=True,
    metavar="NAME",
    help="A column of text or of whole numbers for a few modes or states; it helps, and is not "
    "forecast.",
)
@click.option(
    "--model",
    type=click.Choice(_KINDS),
    default="hybrid",
    show_default=True,
    help="hybrid: a linear forecast that an LSTM corrects; ridge: the linear forecast alone; "
    "autoencoder: gives its window of readings back.",
)
@click.option(
    "--units",
    type=click.IntRange(1, 1024),
    default=32,
    show_default=True,
    help="Units of each recurrent layer.",
)
@click.option(
    "--layers",
    type=click.IntRange(1, 8),
    default=1,
    show_default=True,
    help="Recurrent layers on top of one another.",
)
@click.option(
    "--horizon",
    type=click.IntRange(1, 10_000),
    help="How many readings ahead it forecasts. Default: 1, or for a smooth signal as many, up to "
    "32, as it takes for the forecast not to be easy.",
)
@click.option(
    "--window",
    type=click.IntRange(2, 1024),
    metavar="READINGS",
    help="Of an autoencoder; default: 32.",
)
@click.option(
    "--dropout",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of the recurrent layers' outputs left out at random in training.",
)
@click.option(
    "--iterations",
    type=click.IntRange(min=0),
    help="At most so many steps of training; it stops by itself before that.",
)
@click.option(
    "--warm-start",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="A .keras file of the same make to start from, such as one of a similar machine.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Same seed, same model.",
)
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write a page (.html) on the training."
)
@click.option("--force", is_flag=True, help="Replace the output files.")
def train(
    files: tuple[Path, ...],
    output: Path,
    resample: float | None,
    targets: tuple[str, ...],
    categorical: tuple[str, ...],
    report: Path | None,
    force: bool,
    columns: str | None,
    time_column: str | None,
    sample_period: float,
    rows: tuple[int | None, int | None],
    **given: Any,
) -> None:
    """Train a model on recordings of normal operation.

    FILE is a CSV file with a header row, or a Parquet file: a column with the time if there is
    one, and a column of numbers for each channel. Of several FILEs all have the same channels.
    Missing values are filled, and no forecast is judged by them.

    The model learns to forecast later readings; how far it is off tells what is not normal.

    Example: edgelstm train pump.csv --rows 0:5000 -o pump.keras
    """
    from edgelstm_quantize.isolated import run_isolated
    from edgelstm_quantize.jobs import TrainingOptions, train_to_file
    from edgelstm_quantize.limits import training_readings
    from edgelstm_quantize.training_data import prepare
    from edgelstm_quantize.training_remarks import worse_than_linear

    _check_files(files, output, report, given["warm_start"], force)
    reading = (columns, time_column, sample_period, rows)
    recordings = [
        read_recording(path, *reading, missing=True, categorical=categorical, in_order=True)
        for path in files
    ]
    used = recordings
    if resample:
        used = [resampling.resample(recording, resample, categorical) for recording in recordings]
    data = prepare(used, targets=targets or None, categorical=categorical)
    options = TrainingOptions(**given)
    _need_enough(data, training_readings(options.horizon or 1, options.window), files)
    for line in _describe_data(data, recordings, resample):
        click.echo(line)
    for remark in data.remarks:
        click.echo(f"Note: {remark}", err=True)
    with ProgressLine() as progress:
        summary = run_isolated(
            train_to_file,
            data,
            output,
            options,
            report=report,
            force=force,
            on_progress=progress,
        )
    for remark in summary.remarks:
        if remark not in data.remarks:
            click.echo(f"Note: {remark}", err=True)
    worse = worse_than_linear(options.model, summary.error, summary.ridge_error)
    if worse:
        click.echo(f"Note: {worse}", err=True)
    for line in _describe_training(data, summary, options.model):
        click.echo(line)
    for path in (output, report):
        if path:
            click.echo(f"Wrote {path}.")


def _check_files(
    files: Sequence[Path],
    output: Path,
    report: Path | None,
    warm_start: Path | None,
    force: bool,
) -> None:
    """Refuses what cannot be read or written, before any work is done for it."""
    for path in files:
        if path in (output, report) or any(
            other and other.exists() and path.exists() and other.samefile(path)
            for other in (output, report)
        ):
            raise ConfigurationError(f"{path} is the recording itself; name another output file.")
    check_output(output, force=force, suffix=".keras")
    if report:
        check_output(report, force=force, suffix=".html")
    if warm_start:
        from edgelstm_quantize import keras_files

        keras_files.check(warm_start)


def _need_enough(data: TrainingData, need: int, files: Sequence[Path]) -> None:
    """Refuses what is too little to train on, before TensorFlow is loaded for it."""
    if len(data) < need:
        raise RecordingError(
            f"{', '.join(path.name for path in files)}: {len(data)} readings can be trained on; "
            f"this training needs at least {need}: record for longer."
        )


def _describe_data(
    data: TrainingData, recordings: Sequence[Recording], period: float | None
) -> Iterator[str]:
    """What is trained on, where it is not simply one file as it is."""
    if len(recordings) > 1:
        read = sum(map(len, recordings))
        yield f"Read {read:,} readings from {len(recordings)} files."
    if period:
        how = resampling.how_resampled(recordings[0], period)
        yield f"Resampled to {len(data):,} readings, one every {period:g} s: {how}."
    helpers = [name for name in data.channels if name not in data.targets]
    if helpers:
        yield (
            f"Targets are {', '.join(data.targets)}; {', '.join(helpers)} only "
            f"help{'s' if len(helpers) == 1 else ''}."
        )


def _describe_training(data: TrainingData, summary: TrainingSummary, kind: str) -> Iterator[str]:
    """What came of a training, in a few lines."""
    of = {"lstm": " of the LSTM", "gru": " of the GRU", "hybrid": " of the LSTM"}.get(kind, "")
    iterations = "" if kind == "ridge" else f", {summary.iterations:,} iterations{of}"
    yield (
        f"Trained on {len(data):,} readings of {', '.join(data.channels)} "
        f"({summary.parameters:,} parameters{iterations})."
    )
    if summary.horizon > 1:
        ahead = format_duration(summary.horizon * data.sample_period)
        yield f"It forecasts {summary.horizon} readings, {ahead}, ahead."
    what = "Reconstruction" if kind == "autoencoder" else "Forecast"
    beside = {
        "ridge": "it is linear",
        "hybrid": f"its linear part alone: {summary.ridge_error:.3f}",
        "autoencoder": f"a linear one with as many numbers: {summary.ridge_error:.3f}",
    }.get(kind, f"a linear forecast: {summary.ridge_error:.3f}")
    yield (
        f"{what} error on readings it had not seen: {summary.error:.3f} standard deviations "
        f"({beside})."
    )
    moving = [target for target in summary.targets if target.std > 0]
    if len(moving) > 1:
        shares = [(max(1 - (t.rms / t.std) ** 2, 0.0), t.name) for t in moving]
        (most, best), (least, worst) = max(shares), min(shares)
        done = "reconstructed" if kind == "autoencoder" else "forecast"
        yield (
            f"Best {done} is {best} ({most:.0%} of its variance explained), worst {worst} "
            f"({least:.0%})."
        )
