"""The converter: Keras model -> step graph -> float TFLite -> calibration -> recipe -> artifact."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import platform
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

import edgelstm
from edgelstm.artifact import Artifact, Golden
from edgelstm.errors import ConversionError, ModelError, RecordingError
from edgelstm.manifest import SCHEMA_VERSION, Channel, Detection, Fidelity, Manifest
from edgelstm.recording import Recording
from edgelstm.scaling import OutputScaling
from edgelstm.session import Session
from edgelstm.threshold import DEFAULT_FALSE_ALARMS_PER_DAY
from edgelstm_quantize import keras_files
from edgelstm_quantize.calibration import excursions, record_ranges
from edgelstm_quantize.detection import calibrate_detection, scores
from edgelstm_quantize.fidelity import compare, relative_change
from edgelstm_quantize.forward import forward
from edgelstm_quantize.limits import MIN_CALIBRATION_READINGS
from edgelstm_quantize.progress import Progress, silent
from edgelstm_quantize.quantization import QuantizedGraph, apply_recipe
from edgelstm_quantize.recipes import Recipe, find_recipe
from edgelstm_quantize.step_graph import StepGraph, as_sequence_model, build_step_graph

_HELD_OUT = 0.2  # of the recording, its end: fidelity is measured there
_GOLDEN_STEPS = 128
_WARM_UP = 20  # steps after a reset without alerts: the span of the score


def quantize(
    model: Any,
    calibration: Recording,
    *,
    recipe: str = "int8",
    name: str | None = None,
    horizon: int | None = None,
    false_alarms_per_day: float = DEFAULT_FALSE_ALARMS_PER_DAY,
    allow_low_fidelity: bool = False,
    on_progress: Progress = silent,
) -> Artifact:
    """Converts a Keras model to an artifact.

    The first four fifths of the calibration recording give the ranges; fidelity is measured on
    the rest.

    Args:
        model: a path (`.keras`, `.h5`) or a live Keras model that streams, see `as_sequence_model`.
        calibration: readings of the model's channels, in order, at least 250. For a model made by
            `train`, its channels are found by name.
        recipe: a name from `edgelstm_quantize.recipes.RECIPES`.
        name: of the artifact; the model's by default.
        horizon: steps ahead that the model forecasts its own channels; 0 when it forecasts
            nothing. By default what `train` noted, else 1 when it has as many outputs as channels.
        false_alarms_per_day: the budget that the artifact's threshold keeps unless told otherwise.
        allow_low_fidelity: return an artifact even when it is further from the Keras model than
            its recipe should be.
        on_progress: told what is going on.

    Raises:
        ModelError: the model cannot be read or cannot stream.
        RecordingError: the recording is too short or has other channels.
        ConversionError: the conversion went wrong or lost too much fidelity.
        ConfigurationError: there is no recipe of that name.
    """
    chosen = find_recipe(recipe)
    record = None
    if isinstance(model, (str, Path)):
        model, record = keras_files.load(Path(model))
    sequence = as_sequence_model(model)
    graph = build_step_graph(sequence)
    if record:
        calibration = calibration.with_channels(record.channels)
    calibration.need(MIN_CALIBRATION_READINGS, "calibration")
    _check_channels(calibration, graph)
    z = _normalise(calibration.values, graph)
    held_out = int(len(z) * (1 - _HELD_OUT))

    on_progress("converting to TFLite", 0, 1)
    float_model = _to_tflite(graph)
    ranges = {}
    if chosen.needs_ranges:
        sequences = excursions(z[:held_out], graph.clip)
        ranges = record_ranges(float_model, graph.states, sequences, on_progress)
    quantized = apply_recipe(chosen, float_model, graph.states, ranges)

    if horizon is None:
        horizon = record.horizon if record else int(len(graph.outputs.mean) == z.shape[1])
    if horizon not in (0, 1):
        raise ModelError(f"The horizon is {horizon}; this version knows 1 (a forecast) and 0.")
    manifest = _manifest(chosen, quantized, graph, calibration, name or model.name, horizon)
    draft = Artifact(manifest, quantized.flatbuffer, Golden(np.empty(0, np.float32), np.empty(0)))

    on_progress("measuring fidelity", 0, 1)
    run_whole = forward(sequence.model)
    with Session(draft) as session:
        golden = _golden(session, calibration)
        tolerance = _golden_tolerance(chosen, golden, run_whole(golden.x), manifest)
        ours = np.array([session.step(x) for x in calibration.values])
    reference = run_whole(calibration.values)
    detection, score_change = None, None
    if horizon:
        detection, score_change = _detection(
            calibration, record, ours, reference, false_alarms_per_day
        )
    fidelity = compare(
        ours[held_out:], reference[held_out:], _spread(graph, reference), score_change
    )
    if not allow_low_fidelity:
        _require_fidelity(chosen, fidelity)
    return Artifact(
        dataclasses.replace(
            manifest, fidelity=fidelity, detection=detection, golden_tolerance=tolerance
        ),
        quantized.flatbuffer,
        golden,
    )


def _check_channels(recording: Recording, graph: StepGraph) -> None:
    channels = len(graph.inputs.mean)
    if len(recording.channels) != channels:
        raise RecordingError(
            f"{recording.source} has {len(recording.channels)} channels "
            f"({', '.join(recording.channels)}), but the model takes {channels}; "
            "choose them with --columns, in the model's order."
        )


def _normalise(values: NDArray[np.float64], graph: StepGraph) -> NDArray[np.float64]:
    z = (values - graph.inputs.mean) / graph.inputs.std
    return z if graph.clip is None else np.clip(z, -graph.clip, graph.clip)


def _to_tflite(graph: StepGraph) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(graph.module, folder, signatures={"step": graph.function})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["step"])
        try:
            return bytes(converter.convert())
        except Exception as error:  # the converter raises several unrelated types
            reason = str(error).strip().splitlines()[0]
            raise ConversionError(f"TensorFlow cannot convert the step graph: {reason}") from error


def _manifest(
    recipe: Recipe,
    quantized: QuantizedGraph,
    graph: StepGraph,
    recording: Recording,
    name: str,
    horizon: int,
) -> Manifest:
    channels = tuple(
        Channel(channel, "", float(mean), float(std))
        for channel, mean, std in zip(
            recording.channels, graph.inputs.mean, graph.inputs.std, strict=True
        )
    )
    outputs = len(graph.outputs.mean)
    names = recording.channels if horizon else [f"output_{i}" for i in range(outputs)]
    if len(names) != outputs:
        raise ModelError(
            f"The model has {outputs} outputs for {len(names)} channels, so it is no forecast of "
            "them; use --horizon 0 to convert it without anomaly detection."
        )
    targets = tuple(
        Channel(target, "", float(mean), float(std))
        for target, mean, std in zip(names, graph.outputs.mean, graph.outputs.std, strict=True)
    )
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        sha256=hashlib.sha256(quantized.flatbuffer).hexdigest(),
        flatbuffer_bytes=len(quantized.flatbuffer),
        mode="stream",
        recipe=recipe.name,
        channels=channels,
        clip=graph.clip,
        targets=targets,
        horizon=horizon,
        sample_period=recording.sample_period,
        warm_up=_WARM_UP,
        input=quantized.input,
        output=quantized.output,
        states=quantized.states,
        operations=quantized.operations,
        fidelity=Fidelity(0, 0.0, 0.0, None, None),  # measured below, with the graph at work
        detection=None,
        golden_tolerance=recipe.rounding,
        versions=_versions(),
        created=_now(),
    )


def _golden(session: Session, recording: Recording) -> Golden:
    x = recording.values[-_GOLDEN_STEPS:].astype(np.float32)
    return Golden(x, np.array(session.replay(x)))


def _golden_tolerance(
    recipe: Recipe, golden: Golden, reference: NDArray[np.float64], manifest: Manifest
) -> float:
    """By how many raw units another correct runtime may differ from the golden outputs.

    Another runtime may round differently at each step, and the states carry that on. It is then
    about as far from these outputs as these are from the exact ones.
    """
    if manifest.output.scale == 0:
        return recipe.rounding
    scaling = OutputScaling(manifest.targets, manifest.output)
    error = np.abs((scaling(golden.y) - reference) / scaling.unit)
    return max(recipe.rounding, math.ceil(float(error.max())))


def _spread(graph: StepGraph, reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation of each output: what the model scales it by, else what it shows."""
    if not graph.outputs.is_identity:
        return graph.outputs.std
    spread = reference.std(axis=0)
    return np.where(spread > 0, spread, 1.0)  # a constant output has nothing to be relative to


def _detection(
    recording: Recording,
    record: keras_files.TrainingRecord | None,
    ours: NDArray[np.float64],
    reference: NDArray[np.float64],
    false_alarms_per_day: float,
) -> tuple[Detection, float]:
    """Calibrates scorer and threshold on the residuals of the quantised model.

    Residuals on data that the model was trained on are too small. Where they are known from
    models that had not seen the data, those count, plus what quantisation adds to them.
    """
    nothing = np.full((1, ours.shape[1]), np.nan)
    if record and record.data_sha256 == keras_files.fingerprint(recording.values):
        kind = "out-of-fold"
        float_residuals = record.residuals
        lost = np.concatenate([nothing, (reference - ours)[:-1]])
        residuals = float_residuals + lost
    else:
        kind = "recording"
        float_residuals = recording.values - np.concatenate([nothing, reference[:-1]])
        residuals = recording.values - np.concatenate([nothing, ours[:-1]])
    spread = recording.values.std(axis=0)
    detection = calibrate_detection(residuals, spread, kind, false_alarms_per_day)
    return detection, relative_change(
        scores(residuals, detection), scores(float_residuals, detection)
    )


def _require_fidelity(recipe: Recipe, fidelity: Fidelity) -> None:
    if fidelity.relative_error > recipe.largest_error:
        raise ConversionError(
            f"The {recipe.name} model differs from the Keras model by "
            f"{fidelity.relative_error:.1%} of its output, more than the "
            f"{recipe.largest_error:.1%} that are allowed. Give the model a Normalization layer in "
            "front where it has none, calibrate on a longer recording, try --recipe float32, or "
            "accept it with --allow-low-fidelity."
        )


def _versions() -> dict[str, str]:
    packages = ("tensorflow", "keras", "ai-edge-quantizer", "ai-edge-litert", "numpy")
    return {
        "edgelstm": edgelstm.__version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def _now() -> str:
    """The time of creation; SOURCE_DATE_EPOCH fixes it for reproducible files."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.isoformat(timespec="seconds")
