"""The converter: Keras model -> graph -> float TFLite -> calibration -> recipe -> artifact."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.detectors import SCORERS, THRESHOLDS
from edgelstm.errors import (
    CalibrationWarning,
    CannotStreamError,
    ConfigurationError,
    ConversionError,
    RecordingError,
)
from edgelstm.recording import Recording
from edgelstm_quantize import coral, keras_files
from edgelstm_quantize.calibration import Calibration
from edgelstm_quantize.calibration_data import CalibrationInput, as_recordings, check_length
from edgelstm_quantize.candidates import Candidates, Target
from edgelstm_quantize.choice import choose, choose_smallest
from edgelstm_quantize.description import Purpose, describe_file
from edgelstm_quantize.detection import NO_RANGES, Calibrated, Ranges, calibrate_detection
from edgelstm_quantize.excerpts import are_within
from edgelstm_quantize.layer_graph import LayerGraph
from edgelstm_quantize.memory import Memory
from edgelstm_quantize.progress import Progress, silent
from edgelstm_quantize.recipes import AUTO, DEFAULT_RECIPE, find_recipe
from edgelstm_quantize.rim import channels_of
from edgelstm_quantize.seen import like_the_training
from edgelstm_quantize.streaming import as_stream
from edgelstm_quantize.summary import (
    EdgeTpuSummary,
    MemorySummary,
    Summary,
    Trial,
)
from edgelstm_quantize.tasks import Wish, decide
from edgelstm_quantize.window_graph import as_window

DEFAULT_RUNTIME = "ai-edge-litert"


class Device(Protocol):
    """What a conversion needs to know of a device; `edgelstm_devices.Profile` is one."""

    name: str
    runtime: str
    recipe: str
    accelerator: str


@dataclass(frozen=True)
class Conversion:
    """An artifact and how it came about.

    Attributes:
        artifact: the result.
        compiled: the same for the Edge TPU, where its compiler ran.
        compilation: what that compiler said.
        graph: the layers of the model.
        calibration: what the calibration run saw.
        recordings: what it ran over.
        memory: how long the states of the model remember.
        calibrated: what the detection came from; None when the artifact has none.
        trials: the recipes that were tried, the one taken last.
        float_bytes: size of the float model.
        drift: error of each held-out step, relative to the rms of the output, (steps,).
        seconds: it took.
        warnings: sentences for the user.
    """

    artifact: Artifact
    compiled: Artifact | None
    compilation: coral.Compilation | None
    graph: LayerGraph
    calibration: Calibration
    recordings: tuple[Recording, ...]
    memory: tuple[Memory, ...]
    calibrated: Calibrated | None
    trials: tuple[Trial, ...]
    float_bytes: int
    drift: NDArray[np.float64]
    seconds: float
    warnings: tuple[str, ...]

    @property
    def summary(self) -> Summary:
        """The figures of the conversion, as plain data."""
        memory = tuple(
            MemorySummary(
                m.layer,
                m.state,
                float(np.median(m.time_constants)),
                float(m.time_constants.max()),
                m.deadband,
            )
            for m in self.memory
        )
        manifest, done = self.artifact.manifest, self.compilation
        return Summary(
            recipe=manifest.recipe,
            mode=manifest.mode,
            window=manifest.window,
            bytes=manifest.flatbuffer_bytes,
            channels=tuple(channel.name for channel in manifest.channels),
            targets=tuple(target.name for target in manifest.targets),
            fidelity=manifest.fidelity,
            ops=manifest.operations,
            runtimes=manifest.runtimes,
            float_bytes=self.float_bytes,
            memory=memory,
            trials=self.trials,
            edge_tpu=EdgeTpuSummary(done.mapped, done.operations, done.share, done.version)
            if done
            else None,
            task=manifest.task,
            horizon=manifest.horizon,
            detection=self.calibrated.summary if self.calibrated else None,
            warnings=self.warnings,
            seconds=self.seconds,
        )


def quantize(model: Any, calibration: CalibrationInput, **options: Any) -> Artifact:
    """Converts a Keras model to an artifact: `convert(...).artifact`.

    Args:
        model: see `convert`.
        calibration: see `convert`.
        options: see `convert`.
    """
    return convert(model, calibration, **options).artifact


def convert(
    model: Any,
    calibration: CalibrationInput,
    *,
    recipe: str | None = None,
    device: Device | None = None,
    runtime: str | None = None,
    mode: str | None = None,
    window: int | None = None,
    hop: int = 1,
    name: str | None = None,
    task: str | None = None,
    horizon: int | None = None,
    targets: Sequence[str] = (),
    scorer: str = "ewma",
    threshold: str = "adaptive-tail",
    ranges: Ranges = NO_RANGES,
    false_alarms_per_day: float | None = None,
    max_error: float | None = None,
    force_recipe: bool = False,
    allow_low_fidelity: bool = False,
    custom_objects: Mapping[str, Any] | None = None,
    on_progress: Progress = silent,
) -> Conversion:
    """Converts a Keras model to an artifact.

    The first four fifths of the calibration readings give the ranges; fidelity is measured on the
    rest, statefully, against the Keras model.

    Args:
        model: a path (`.keras`, `.h5`) or a live Keras model.
        calibration: readings of the model's channels in time order, see `as_recordings`. For a
            model made by `train`, the channels of a `Recording` are found by name.
        recipe: a name from `edgelstm_quantize.recipes.RECIPES`, or "auto" for the smallest that is
            within `max_error`; by default the device's.
        device: a profile from `edgelstm_devices`.
        runtime: "ai-edge-litert" or "tflite-runtime"; by default the device's.
        mode: "stream" or "window"; by default a stream where the model can.
        window: readings in a window; by default the length of the model's input.
        hop: readings from one run of a window to the next.
        name: of the artifact; the model's by default.
        task: "forecast", "reconstruction" (the outputs are the window that went in) or "none". By
            default what `train` noted, else "forecast" for a model with as many outputs as
            channels and no softmax at its end.
        horizon: steps ahead that the model forecasts its channels, by default 1; 0 is "none".
        targets: the channels that it forecasts, in the order of its outputs; by default all.
        scorer: what turns residuals into scores: a name from `edgelstm.detectors.SCORERS`.
        threshold: what judges them: a name from `edgelstm.detectors.THRESHOLDS`.
        ranges: of some channels, by name, the lowest and the highest value that a sensor can give:
            outside it has a fault.
        false_alarms_per_day: the budget that the artifact's threshold keeps unless told otherwise;
            by default `edgelstm.threshold.default_budget`.
        max_error: largest relative error to accept; by default 1 % for "auto", and for another
            recipe what only a failed conversion exceeds.
        force_recipe: quantise to int8 even where the states of the model decay too slowly for it.
        allow_low_fidelity: return an artifact even when it is further from the Keras model than
            it should be.
        custom_objects: classes that the model file needs, by name.
        on_progress: told what is going on.

    Raises:
        ModelError: the model cannot be read or converted; the message names the layer.
        RecordingError: the recording is too short or does not fit the model.
        ConversionError: the conversion went wrong, lost too much fidelity, or the runtime would
            compute the result wrongly.
        ConfigurationError: an option makes no sense.
    """
    started = time.monotonic()
    name_of_recipe, target = _plan(recipe, device, runtime)
    record = None
    if isinstance(model, (str, Path)):
        model, record = keras_files.load(Path(model), custom_objects)
    graph, window = _open(model, mode, window)
    if window is None and hop != 1:
        raise ConfigurationError("A stream runs at every reading; a hop goes with --mode window.")
    recordings, remarks = _recordings(calibration, graph, record)
    first = recordings[0]
    does = decide(graph, first.channels, window, record, Wish(task, horizon, targets))
    _check_detection(scorer, threshold, ranges, first.channels)
    purpose = Purpose(
        name=name or model.name,
        channels=first.channels,
        categories=record.categories if record else (None,) * len(first.channels),
        sample_period=first.sample_period,
        task=does.name,
        horizon=does.horizon,
        targets=does.targets,
        window=window,
        hop=hop,
    )
    candidates = Candidates(graph, recordings, purpose, target, on_progress)
    if name_of_recipe == AUTO:
        made, trials = choose_smallest(candidates, max_error=max_error)
    else:
        made, trials = choose(
            candidates,
            find_recipe(name_of_recipe),
            max_error=max_error,
            force_recipe=force_recipe,
            allow_low_fidelity=allow_low_fidelity,
        )
    artifact, calibrated = made.artifact, None
    if does.name != "none":
        out_of_fold = _out_of_fold(recordings, record)
        if record and out_of_fold is None:
            remarks += _seen_in_training(recordings, record)
        try:
            calibrated = calibrate_detection(
                artifact.manifest,
                recordings,
                (made.outputs, candidates.reference),
                out_of_fold=out_of_fold,
                false_alarms_per_day=false_alarms_per_day,
                scorer=scorer,
                threshold=threshold,
                ranges=ranges,
            )
        except RecordingError as error:
            remarks.append(f"The artifact has no threshold: {error}")
        else:
            remarks += calibrated.remarks
            artifact = _with_detection(artifact, calibrated)
    compiled, compilation = None, None
    if target.edge_tpu:
        compiled, compilation = _compile(artifact, remarks, on_progress)
    for remark in remarks:
        warnings.warn(remark, CalibrationWarning, stacklevel=2)
    return Conversion(
        artifact=artifact,
        compiled=compiled,
        compilation=compilation,
        graph=graph,
        calibration=made.calibration,
        recordings=tuple(recordings),
        memory=tuple(candidates.memory()),
        calibrated=calibrated,
        trials=tuple(trials),
        float_bytes=made.float_bytes,
        drift=made.errors,
        seconds=time.monotonic() - started,
        warnings=tuple(remarks),
    )


def _plan(recipe: str | None, device: Device | None, runtime: str | None) -> tuple[str, Target]:
    """The recipe to use and what the model is to run on."""
    runtime = runtime or (device.runtime if device else DEFAULT_RUNTIME)
    if runtime not in (DEFAULT_RUNTIME, "tflite-runtime"):
        raise ConfigurationError(
            f"No runtime is called {runtime!r}; try {DEFAULT_RUNTIME} or tflite-runtime."
        )
    if device and device.accelerator == "edgetpu":
        if recipe not in (None, "int8", AUTO):
            raise ConfigurationError(
                f"{device.name} has an Edge TPU, which computes in int8 only; leave out --recipe "
                f"{recipe}, or choose a device without one."
            )
        return "int8", Target(runtime, edge_tpu=True)
    if recipe is None:
        recipe = device.recipe if device else DEFAULT_RECIPE
        if runtime == "tflite-runtime" and recipe == DEFAULT_RECIPE:
            recipe = "int8-weight"  # as fast there, and as precise as it gets
    elif recipe != AUTO:
        find_recipe(recipe)
    return recipe, Target(runtime, edge_tpu=False)


def _open(model: Any, mode: str | None, window: int | None) -> tuple[LayerGraph, int | None]:
    """Lays the model open in the mode asked for, or in the one it can have."""
    if mode not in (None, "stream", "window"):
        raise ConfigurationError(f"No mode is called {mode!r}; try stream or window.")
    if mode == "stream" and window is not None:
        raise ConfigurationError("A stream has no window; leave out --window or --mode stream.")
    if mode == "window" or window is not None:
        return as_window(model, window)
    try:
        return as_stream(model), None
    except CannotStreamError as reason:
        if mode == "stream":
            raise
        lengths = {t.shape[1] for t in model.inputs}
        if None in lengths:
            raise CannotStreamError(
                f"{reason} Or convert it for windows of N readings, with --window N."
            ) from reason
        return as_window(model, None)


def _recordings(
    data: CalibrationInput, graph: LayerGraph, record: keras_files.TrainingRecord | None
) -> tuple[list[Recording], list[str]]:
    if record:
        data = like_the_training(data, record)
    recordings = as_recordings(data, inputs={end.name: channels_of(end) for end in graph.inputs})
    return recordings, check_length(recordings)


def _check_detection(scorer: str, threshold: str, ranges: Ranges, channels: Sequence[str]) -> None:
    for what, name, known in (("scorer", scorer, SCORERS), ("threshold", threshold, THRESHOLDS)):
        if name not in known:
            raise ConfigurationError(f"No {what} is called {name!r}; try {', '.join(known)}.")
    if unknown := [name for name in ranges if name not in channels]:
        raise ConfigurationError(
            f"A range is given for {unknown[0]!r}, which is none of the channels "
            f"{', '.join(channels)}."
        )


def _out_of_fold(
    recordings: Sequence[Recording], record: keras_files.TrainingRecord | None
) -> NDArray[np.float64] | None:
    """The residuals of models that had not seen these readings, where there were such."""
    values = np.concatenate([recording.values for recording in recordings])
    if record is None or record.data_sha256 != keras_files.fingerprint(values):
        return None
    return record.residuals


def _seen_in_training(
    recordings: Sequence[Recording], record: keras_files.TrainingRecord
) -> list[str]:
    """A sentence where the model was trained on some of the readings; else none."""
    if not any(are_within(record.excerpts, recording.values) for recording in recordings):
        return []
    return [
        "The model was trained on some of these readings, so its residuals on them are too small, "
        "and so may be the threshold: calibrate on exactly the files and --rows of the training, "
        "in their order, or on readings that it has not seen."
    ]


def _with_detection(artifact: Artifact, calibrated: Calibrated) -> Artifact:
    manifest = artifact.manifest
    fidelity = dataclasses.replace(manifest.fidelity, score_change=calibrated.score_change)
    manifest = dataclasses.replace(manifest, detection=calibrated.detection, fidelity=fidelity)
    return dataclasses.replace(artifact, manifest=manifest)


def _compile(
    artifact: Artifact, remarks: list[str], on_progress: Progress
) -> tuple[Artifact | None, coral.Compilation | None]:
    """The artifact for the Edge TPU, where its compiler is at hand."""
    compiler = coral.find_compiler()
    if compiler is None:
        remarks.append(coral.WHERE_TO_GET_THE_COMPILER)
        return None, None
    on_progress("compiling for the Edge TPU", 0, 1)
    try:
        done = coral.compile_model(artifact.flatbuffer, compiler)
    except ConversionError as error:  # the artifact for the CPU is good all the same
        remarks.append(str(error))
        return None, None
    manifest = dataclasses.replace(
        describe_file(artifact.manifest, done.flatbuffer), cpu_sha256=artifact.manifest.sha256
    )
    # It carries the model for the CPU, to go on with when the stick fails.
    return Artifact(manifest, done.flatbuffer, artifact.golden, cpu=artifact.flatbuffer), done
