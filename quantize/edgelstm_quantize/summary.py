"""What a conversion gave, as plain data: the figures that `--json` prints."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from edgelstm.manifest import Fidelity, Operation


@dataclass(frozen=True)
class Trial:
    """A recipe that was tried.

    Attributes:
        recipe: its name.
        bytes: size of the model it gave; None when it gave none.
        fidelity: of that model; None when there is none.
        remark: why it was not taken; "" for the one that was.
    """

    recipe: str
    bytes: int | None
    fidelity: Fidelity | None
    remark: str


@dataclass(frozen=True)
class MemorySummary:
    """How one state remembers: see `edgelstm_quantize.memory.Memory`.

    Attributes:
        layer: the layer it belongs to.
        state: its name in the graph.
        time_constant: median over the units, in steps.
        longest: the longest of a unit, in steps.
        deadband: what of a unit's range an int8 state would not let decay, median.
    """

    layer: str
    state: str
    time_constant: float
    longest: float
    deadband: float


@dataclass(frozen=True)
class EdgeTpuSummary:
    """What the compiler for the Edge TPU said.

    Attributes:
        mapped: operations that run on the Edge TPU.
        operations: of the model in all.
        share: mapped / operations.
        version: of the compiler.
    """

    mapped: int
    operations: int
    share: float
    version: str


@dataclass(frozen=True)
class ResidualSummary:
    """The residuals of one channel; of a window, over all its readings.

    Attributes:
        name: of the channel.
        rms: of the quantised model's residuals, physical units.
        float_rms: of the Keras model's.
        scale: the residual that counts as one, see `Detection.residual_scale`.
    """

    name: str
    rms: float
    float_rms: float
    scale: float


@dataclass(frozen=True)
class DetectionSummary:
    """What the detection was calibrated to: see `edgelstm.manifest.Detection`.

    Attributes:
        residuals: where they come from.
        readings: how many are behind the figures.
        channels: their size, of each channel.
        tail_start: the 98 % quantile of the scores.
        tail_scale: their mean excess over it.
        false_alarms_per_day: the budget.
        alerts: how many the threshold would have opened over the calibration recording itself;
            None where it cannot keep the budget.
        days: how long the scored readings of that took; likewise.
    """

    residuals: str
    readings: int
    channels: tuple[ResidualSummary, ...]
    tail_start: float
    tail_scale: float
    false_alarms_per_day: float
    alerts: int | None
    days: float | None


@dataclass(frozen=True)
class Summary:
    """What a conversion gave.

    Attributes:
        recipe: how it was quantised.
        mode: "stream" or "window".
        window: readings in a window; None for a stream.
        bytes: size of the TFLite model.
        float_bytes: size of the same model before it was quantised.
        channels: names of the inputs' channels, in order.
        targets: names of the outputs' channels, in order.
        fidelity: against the Keras model, on held-out time.
        ops: operations of the model.
        runtimes: lowest release of each runtime that computes it correctly.
        memory: of the states that decay by themselves.
        trials: recipes that were tried; the one taken has no remark.
        edge_tpu: None without its compiler.
        task: what the outputs are: see `Manifest.task`.
        horizon: steps ahead of a forecast; 0 for anything else.
        detection: None when the artifact has none.
        warnings: sentences for the user.
        seconds: that the conversion took, without loading TensorFlow.
    """

    recipe: str
    mode: str
    window: int | None
    bytes: int
    float_bytes: int
    channels: tuple[str, ...]
    targets: tuple[str, ...]
    fidelity: Fidelity
    ops: tuple[Operation, ...]
    runtimes: dict[str, str]
    memory: tuple[MemorySummary, ...]
    trials: tuple[Trial, ...]
    edge_tpu: EdgeTpuSummary | None
    task: str
    horizon: int
    detection: DetectionSummary | None
    warnings: tuple[str, ...]
    seconds: float

    def to_json(self) -> str:
        """The summary as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2)
