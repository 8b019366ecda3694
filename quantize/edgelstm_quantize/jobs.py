"""The host side's work from file to file, to be run by `run_isolated`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgelstm.manifest import Manifest
from edgelstm.recording import Recording
from edgelstm_quantize.progress import Progress


@dataclass(frozen=True)
class TrainingSummary:
    """What a training gave: see `training.Trained`."""

    parameters: int
    ridge_error: float
    error: float
    iterations: int


def train_to_file(
    recording: Recording,
    output: Path,
    *,
    units: int,
    seed: int,
    force: bool,
    on_progress: Progress,
) -> TrainingSummary:
    """Trains a forecaster and writes it as a `.keras` file. Raises what `train` and `save` do."""
    on_progress("loading TensorFlow", 0, 1)
    from edgelstm_quantize import keras_files
    from edgelstm_quantize.training import train

    trained = train(recording, units=units, seed=seed, on_progress=on_progress)
    keras_files.save(trained.model, trained.record, output, force=force)
    return TrainingSummary(
        trained.model.count_params(), trained.ridge_error, trained.error, trained.iterations
    )


def quantize_to_file(
    model: Path,
    calibration: Recording,
    output: Path,
    *,
    recipe: str,
    name: str | None,
    horizon: int | None,
    false_alarms_per_day: float,
    allow_low_fidelity: bool,
    force: bool,
    on_progress: Progress,
) -> Manifest:
    """Converts a Keras model file to an artifact file. Raises what `quantize` and `write` do."""
    on_progress("loading TensorFlow", 0, 1)
    from edgelstm_quantize.convert import quantize

    artifact = quantize(
        model,
        calibration,
        recipe=recipe,
        name=name,
        horizon=horizon,
        false_alarms_per_day=false_alarms_per_day,
        allow_low_fidelity=allow_low_fidelity,
        on_progress=on_progress,
    )
    artifact.write(output, force=force)
    return artifact.manifest
