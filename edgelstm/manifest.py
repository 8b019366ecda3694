"""The manifest: what an artifact says about itself, as plain data with a strict JSON form."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass

from edgelstm.detection import ChannelLimits as ChannelLimits
from edgelstm.detection import Detection as Detection
from edgelstm.detection import Tail as Tail
from edgelstm.errors import ArtifactError, ConfigurationError
from edgelstm.strict import build

SCHEMA_VERSION = 4
# Of each type, what a zero point may be.
_LIMITS = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "int32": (0, 0),
    "int64": (0, 0),
    "float32": (0, 0),
}
SIGNATURE = "step"
"""The signature that the converter writes."""


@dataclass(frozen=True)
class Channel:
    """One input channel or one target: `normalised = (physical - mean) / std`.

    Attributes:
        name: of the channel.
        unit: of its physical values, or "".
        mean: see above.
        std: see above.
        tokens: for a channel of tokens: how many there are (0, 1, ..., tokens - 1); else None.
        categories: of a categorical column: the texts whose codes 0, 1, ... a reading holds; None
            for numbers.
    """

    name: str
    unit: str
    mean: float
    std: float
    tokens: int | None
    categories: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise ArtifactError(
                f"The channel {self.name!r} has mean {self.mean} and std {self.std}, "
                "which scale nothing."
            )


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of the graph's signature.

    Attributes:
        name: its name in the signature.
        dtype: "int8", "int16", "int32" (tokens) or "float32".
        shape: with the batch axis in front.
        scale: `real = (raw - zero_point) * scale`; 0 for a float tensor.
        zero_point: the raw value of 0; 0 for a float tensor.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int


@dataclass(frozen=True)
class Port:
    """One input or one output of the graph.

    Attributes:
        channels: what it carries at each step, in order.
        clip: bound on |normalised value|, or None; who scales keeps it.
        scaling: "session": the session normalises, and the graph takes or gives normalised values;
            "graph": the graph itself takes or gives physical units.
        tensor: its tensor, (1, channels), and for a window (1, window, channels); of tokens (1,)
            and (1, window). Of an output of any shape, its values in a row are the channels.
    """

    channels: tuple[Channel, ...]
    clip: float | None
    scaling: str
    tensor: TensorSpec

    def __post_init__(self) -> None:
        if self.scaling not in ("session", "graph"):
            raise ArtifactError(
                f"The manifest says that {self.tensor.name!r} is scaled by {self.scaling!r}; "
                "this edgelstm knows 'session' and 'graph'."
            )


@dataclass(frozen=True)
class StatePair:
    """A state goes in as `input` and comes out as `output`; both share their quantisation."""

    input: TensorSpec
    output: TensorSpec


@dataclass(frozen=True)
class Operation:
    """An operation that the graph uses: its TFLite name and version, and how often."""

    name: str
    version: int
    count: int


@dataclass(frozen=True)
class Fidelity:
    """How far the quantised model is from the Keras model, measured statefully on held-out time.

    Errors are relative to the root mean square of the Keras model's output: for a model that
    scales its output back (`Normalization(invert=True)`) of the output before that, so that an
    offset does not make errors look small. Of several outputs the worst counts.

    Attributes:
        steps: number of steps compared.
        relative_error: mean |quantised - Keras| / rms(Keras).
        max_error: largest |quantised - Keras| / rms(Keras).
        drift: relative error of the last tenth of the steps over that of the first.
        correlation: of both outputs, the lowest of the targets; None for a constant output.
        score_change: mean relative change of the anomaly score; None without a detection.
    """

    steps: int
    relative_error: float
    max_error: float
    drift: float
    correlation: float | None
    score_change: float | None


@dataclass(frozen=True)
class Manifest:
    """What an artifact says about itself.

    Attributes:
        schema_version: of this structure.
        name: of the model.
        sha256: of the flatbuffer, the first `flatbuffer_bytes` bytes of the file.
        flatbuffer_bytes: length of the flatbuffer; the ZIP archive follows it.
        cpu_sha256: of the same model for the CPU, which the artifact of a compiled model carries;
            else None.
        signature: the graph's signature that is one step.
        mode: "stream": one step per reading; "window": a run over the last `window` readings.
        window: readings in a window; None for a stream.
        hop: readings from one run to the next; 1 for a stream.
        recipe: how it was quantised.
        inputs: what goes in, in the model's order.
        outputs: what comes out, in the model's order; the channels of a forecast are named like
            those that it forecasts.
        task: "forecast": the outputs are channels `horizon` steps ahead; "reconstruction": they
            are the window that went in, (window, channels) in a row; "none": neither.
        horizon: how many steps ahead the outputs are a forecast; 0 when they are no forecast.
        sample_period: seconds between two readings.
        warm_up: steps (runs, of a window) after a reset without alerts.
        states: the states, each in and out.
        operations: of the graph, sorted by name.
        runtimes: the lowest release of each runtime package that computes it correctly, as far
            as tried (docs/decisions/0009); a runtime that does not is left out.
        fidelity: against the Keras model.
        detection: calibration of scorer and threshold; None when the model neither forecasts nor
            reconstructs, or was not calibrated.
        golden_tolerance: by how many raw units of each target a replay of the golden vectors may
            differ (LSB for integers, physical or normalised units for floats), (targets,).
        versions: of everything used to make the artifact; empty for a plain `.tflite` file of
            another tool, of which nothing was measured.
        created: UTC time, ISO 8601.
    """

    schema_version: int
    name: str
    sha256: str
    flatbuffer_bytes: int
    cpu_sha256: str | None
    signature: str
    mode: str
    window: int | None
    hop: int
    recipe: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    task: str
    horizon: int
    sample_period: float
    warm_up: int
    states: tuple[StatePair, ...]
    operations: tuple[Operation, ...]
    runtimes: dict[str, str]
    fidelity: Fidelity
    detection: Detection | None
    golden_tolerance: tuple[float, ...]
    versions: dict[str, str]
    created: str

    def __post_init__(self) -> None:
        if not (self.channels and self.targets):
            raise ArtifactError("The manifest names no channels or no targets.")
        if self.mode not in ("stream", "window"):
            raise ArtifactError(f"The manifest has the mode {self.mode!r}, which is unknown.")
        if self.mode == "stream":
            fits = self.window is None and self.hop == 1
        else:
            fits = self.window is not None and self.window > 0 and self.hop > 0
        if not fits:
            raise ArtifactError(
                f"The manifest has the mode {self.mode!r} with a window of {self.window} readings "
                f"and a hop of {self.hop}."
            )
        if not 0 < self.sample_period < math.inf:
            raise ArtifactError(f"The manifest has a sample period of {self.sample_period} s.")
        if len(self.golden_tolerance) != len(self.targets):
            raise ArtifactError(
                f"The manifest has {len(self.golden_tolerance)} golden tolerances for "
                f"{len(self.targets)} targets."
            )
        self._check_task()

    def _check_task(self) -> None:
        """Refuses a task that the ports cannot do, and a detection that is of another model."""
        tasks = {"forecast": self.horizon > 0, "reconstruction": self.horizon == 0}
        if not (tasks | {"none": self.horizon == 0}).get(self.task, False):
            raise ArtifactError(
                f"The manifest has the task {self.task!r} with a horizon of {self.horizon} steps."
            )
        channels, targets = len(self.channels), len(self.targets)
        if self.task == "reconstruction" and targets != channels * (self.window or 0):
            raise ArtifactError(
                f"The manifest says that {targets} outputs reconstruct {self.window} readings of "
                f"{channels} channels."
            )
        detection = self.detection
        if detection is None:
            return
        per_channel = (detection.channel_mean, detection.channel_std, detection.limits)
        if (
            self.task not in tasks
            or len(detection.residual_scale) != targets
            or any(len(part) != channels for part in per_channel)
        ):
            raise ArtifactError(
                f"The manifest has a detection that does not fit its task ({self.task}), its "
                f"{channels} channels or its {targets} targets."
            )

    @property
    def plain(self) -> bool:
        """Whether this describes a file of another tool: it is derived, and nothing is measured."""
        return not self.versions

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels of all inputs, in order: what a reading holds."""
        return tuple(channel for port in self.inputs for channel in port.channels)

    @property
    def targets(self) -> tuple[Channel, ...]:
        """The channels of all outputs, in order: what a step gives."""
        return tuple(channel for port in self.outputs for channel in port.channels)

    def to_json(self) -> str:
        """The manifest as indented JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Reads a manifest, refusing what this version does not know.

        Raises:
            ArtifactError: it is not JSON, of another schema version, or a field is missing,
                unknown or of a wrong type; the message names the field.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ArtifactError(f"The manifest is not JSON ({error}).") from error
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version != SCHEMA_VERSION:
            raise ArtifactError(
                f"The manifest has schema version {version!r}, and this edgelstm knows "
                f"version {SCHEMA_VERSION}: quantize the model again, or install the edgelstm "
                "that made the file."
            )
        try:
            manifest = build(cls, data, "manifest", ArtifactError)
        except ConfigurationError as error:  # of a detection, which is also made by hand
            raise ArtifactError(f"The manifest is damaged: {error}") from error
        _check_tensors(manifest)
        return manifest


def _check_tensors(manifest: Manifest) -> None:
    """Refuses tensors that cannot be, or that do not fit the channels, with an ArtifactError."""
    for port in manifest.inputs:
        _require_size(port.tensor, len(port.channels) * (manifest.window or 1))
    for port in manifest.outputs:
        _require_size(port.tensor, len(port.channels))
    ports = [port.tensor for port in (*manifest.inputs, *manifest.outputs)]
    for tensor in (*ports, *(pair.input for pair in manifest.states)):
        if tensor.dtype not in _LIMITS:
            raise ArtifactError(
                f"The tensor {tensor.name!r} is of the type {tensor.dtype!r}; this edgelstm knows "
                f"{', '.join(_LIMITS)}."
            )
        low, high = _LIMITS[tensor.dtype]
        if not (0 <= tensor.scale < math.inf and low <= tensor.zero_point <= high):
            raise ArtifactError(
                f"The tensor {tensor.name!r} has the scale {tensor.scale} and the zero point "
                f"{tensor.zero_point}, which no {tensor.dtype} tensor has."
            )
    for pair in manifest.states:
        if pair.output != dataclasses.replace(pair.input, name=pair.output.name):
            raise ArtifactError(
                f"The state {pair.input.name!r} goes in and comes out in different forms, so it "
                "cannot be carried over."
            )


def _require_size(tensor: TensorSpec, values: int) -> None:
    if math.prod(tensor.shape[1:]) != values or any(n < 1 for n in tensor.shape):
        raise ArtifactError(
            f"The tensor {tensor.name!r} has the shape {tensor.shape}, which does not hold "
            f"{values} values."
        )
