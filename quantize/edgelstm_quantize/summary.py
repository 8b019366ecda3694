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
    warnings: tuple[str, ...]
    seconds: float

    def to_json(self) -> str:
        """The summary as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2)
