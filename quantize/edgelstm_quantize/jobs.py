"""The host side's work from file to file, to be run by `run_isolated`."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgelstm.errors import CalibrationWarning
from edgelstm.manifest import Manifest
from edgelstm.recording import Recording
from edgelstm_quantize.progress import Progress
from edgelstm_quantize.summary import Summary
from edgelstm_quantize.training_data import TrainingData, prepare

# Up to these a step of training is so short that threads mostly wait for one another.
_FEW_UNITS = 128


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training, as the command line has them: see `training.train`."""

    model: str = "hybrid"
    units: int = 32
    layers: int = 1
    horizon: int | None = None
    dropout: float = 0.0
    window: int | None = None
    iterations: int | None = None
    warm_start: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class TargetSummary:
    """How well one channel is forecast.

    Attributes:
        name: of the channel.
        std: its standard deviation, physical units.
        rms: of its out-of-fold residuals, physical units.
        ridge_rms: the same of the linear part alone.
    """

    name: str
    std: float
    rms: float
    ridge_rms: float


@dataclass(frozen=True)
class TrainingSummary:
    """What a training gave: see `training.Trained`."""

    parameters: int
    ridge_error: float
    error: float
    iterations: int
    horizon: int
    targets: tuple[TargetSummary, ...]
    remarks: tuple[str, ...]


def train_to_file(
    data: Recording | Sequence[Recording] | TrainingData,
    output: Path,
    options: TrainingOptions,
    *,
    report: Path | None = None,
    force: bool,
    on_progress: Progress,
) -> TrainingSummary:
    """Trains a model and writes it as a `.keras` file. Raises what `train` and `save` do.

    Args:
        data: see `training.train`.
        output: the file to write.
        options: of the training.
        report: an HTML page to write, or None.
        force: whether files are replaced.
        on_progress: told what is going on.
    """
    on_progress("loading TensorFlow", 0, 1)
    import tensorflow as tf

    if options.units <= _FEW_UNITS:
        tf.config.threading.set_intra_op_parallelism_threads(1)
    from edgelstm_quantize import keras_files
    from edgelstm_quantize.training import train

    if not isinstance(data, TrainingData):
        data = prepare([data] if isinstance(data, Recording) else data)
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    trained = train(data, **given, on_progress=on_progress)
    keras_files.save(trained.model, trained.record, output, force=force)
    if report:
        from edgelstm_quantize.training_report import write_training_report

        on_progress("writing the report", 0, 1)
        write_training_report(trained, data, report, force=force)
    return TrainingSummary(
        trained.model.count_params(),
        trained.ridge_error,
        trained.error,
        trained.iterations,
        trained.record.horizon,
        tuple(map(TargetSummary, data.targets, trained.std, trained.rms, trained.ridge_rms)),
        trained.remarks,
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
    task: str | None = None
    horizon: int | None = None
    targets: tuple[str, ...] = ()
    scorer: str = "ewma"
    threshold: str = "adaptive-tail"
    ranges: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    false_alarms_per_day: float | None = None
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
