"""The host side's work from file to file, to be run by `run_isolated`."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path

from edgelstm.errors import CalibrationWarning
from edgelstm.manifest import Manifest
from edgelstm.recording import Recording
from edgelstm.threshold import DEFAULT_FALSE_ALARMS_PER_DAY
from edgelstm_quantize.progress import Progress
from edgelstm_quantize.summary import Summary


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


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of a conversion, as the command line has them: see `convert.convert`.

    `custom_objects` is the name of a module or the path of a Python file.
    """

    recipe: str | None = None
    device: TargetDevice | None = None
    runtime: str | None = None
    mode: str | None = None
    window: int | None = None
    hop: int = 1
    name: str | None = None
    horizon: int | None = None
    false_alarms_per_day: float = DEFAULT_FALSE_ALARMS_PER_DAY
    max_error: float | None = None
    force_recipe: bool = False
    allow_low_fidelity: bool = False
    custom_objects: str | None = None


@dataclass(frozen=True)
class TargetDevice:
    """What a conversion needs to know of a device: see `convert.Device`."""

    name: str
    runtime: str
    recipe: str
    accelerator: str


@dataclass(frozen=True)
class Converted:
    """What `quantize_to_file` wrote."""

    manifest: Manifest
    summary: Summary
    compiled: Path | None


def quantize_to_file(
    model: Path,
    calibration: list[Recording],
    output: Path,
    options: QuantizeOptions,
    *,
    report: Path | None,
    force: bool,
    on_progress: Progress,
) -> Converted:
    """Converts a Keras model file to an artifact file. Raises what `convert` and `write` do.

    Args:
        model: the `.keras` or `.h5` file.
        calibration: recordings in time order.
        output: the artifact to write; one for the Edge TPU stands beside it.
        options: of the conversion.
        report: an HTML page to write, or None.
        force: whether files are replaced.
        on_progress: told what is going on.
    """
    on_progress("loading TensorFlow", 0, 1)
    from edgelstm_quantize.convert import convert
    from edgelstm_quantize.custom_objects import load_custom_objects
    from edgelstm_quantize.report import write_report

    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    given["custom_objects"] = load_custom_objects(options.custom_objects)
    data = calibration[0] if len(calibration) == 1 else calibration
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)  # the summary has them
        done = convert(model, data, **given, on_progress=on_progress)
    done.artifact.write(output, force=force)
    compiled = None
    if done.compiled:
        compiled = output.with_name(f"{output.stem}_edgetpu{output.suffix}")
        done.compiled.write(compiled, force=force)
    if report:
        on_progress("writing the report", 0, 1)
        write_report(done, report, force=force)
    return Converted(done.artifact.manifest, done.summary, compiled)
