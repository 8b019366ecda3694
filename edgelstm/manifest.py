"""The manifest: what an artifact says about itself, as plain data with a strict JSON form."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass

from edgelstm.errors import ArtifactError
from edgelstm.strict import build

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Channel:
    """One input channel or one target: `normalised = (physical - mean) / std`."""

    name: str
    unit: str
    mean: float
    std: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise ArtifactError(
                f"The channel {self.name!r} has mean {self.mean} and std {self.std}, "
                "which scale nothing."
            )


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of the step graph's signature.

    Attributes:
        name: its name in the signature.
        dtype: "int8" or "float32".
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
class StatePair:
    """A state goes in as `input` and comes out as `output`; both share their quantisation."""

    input: TensorSpec
    output: TensorSpec


@dataclass(frozen=True)
class Fidelity:
    """How far the quantised model is from the Keras model, measured statefully on held-out time.

    Attributes:
        steps: number of steps compared.
        relative_error: mean |quantised - Keras|, in standard deviations of the Keras output.
        worst_drift: the same error over the worst tenth of the run (consecutive steps), so that
            an error that grows with time shows.
        correlation: of both outputs, the lowest of the targets; None for a constant output.
        score_change: mean relative change of the anomaly score; None without a detection.
    """

    steps: int
    relative_error: float
    worst_drift: float
    correlation: float | None
    score_change: float | None


@dataclass(frozen=True)
class Detection:
    """What the scorer and the threshold were calibrated to, on the quantised model's residuals.

    Attributes:
        residual_scale: per target, in physical units: the residual that counts as one.
        span: readings over which the score averages (`alpha = 2 / (span + 1)`).
        tail_start: the 98 % quantile of the score on the calibration recording.
        tail_scale: mean excess of the score over `tail_start`.
        readings: number of calibration readings behind these figures.
        residuals: "out-of-fold" (each residual from a model that had not seen it) or
            "recording" (from the model as it is, on a recording that it was not trained on,
            as far as is known).
        false_alarms_per_day: the budget that the threshold keeps unless told otherwise.
    """

    residual_scale: tuple[float, ...]
    span: int
    tail_start: float
    tail_scale: float
    readings: int
    residuals: str
    false_alarms_per_day: float


@dataclass(frozen=True)
class Manifest:
    """What an artifact says about itself.

    Attributes:
        schema_version: of this structure.
        name: of the model.
        sha256: of the flatbuffer, the first `flatbuffer_bytes` bytes of the file.
        flatbuffer_bytes: length of the flatbuffer; the ZIP archive follows it.
        mode: "stream": one step per reading.
        recipe: how it was quantised.
        channels: the inputs, in order, with the scaling that turns them into graph inputs.
        clip: bound on |normalised input|, or None.
        targets: the outputs, in order; named like the channels that they forecast.
        horizon: how many steps ahead the outputs are a forecast; 0 when they are no forecast.
        sample_period: seconds between two readings.
        warm_up: steps after a reset without alerts.
        input: the tensor that takes the reading.
        output: the tensor that gives the targets.
        states: the states, each in and out.
        operations: builtin operations of the graph, sorted.
        fidelity: against the Keras model.
        detection: calibration of scorer and threshold; None when the model forecasts nothing.
        golden_tolerance: by how many raw units a replay of the golden vectors may differ (LSB for
            integers, absolute for float32).
        versions: of everything used to make the artifact.
        created: UTC time, ISO 8601.
    """

    schema_version: int
    name: str
    sha256: str
    flatbuffer_bytes: int
    mode: str
    recipe: str
    channels: tuple[Channel, ...]
    clip: float | None
    targets: tuple[Channel, ...]
    horizon: int
    sample_period: float
    warm_up: int
    input: TensorSpec
    output: TensorSpec
    states: tuple[StatePair, ...]
    operations: tuple[str, ...]
    fidelity: Fidelity
    detection: Detection | None
    golden_tolerance: float
    versions: dict[str, str]
    created: str

    def __post_init__(self) -> None:
        if not (self.channels and self.targets):
            raise ArtifactError("The manifest names no channels or no targets.")
        if not 0 < self.sample_period < math.inf:
            raise ArtifactError(f"The manifest has a sample period of {self.sample_period} s.")

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
                f"version {SCHEMA_VERSION}: install the edgelstm that made the file."
            )
        return build(cls, data, "manifest", ArtifactError)
