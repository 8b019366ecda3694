"""The rim of a model: per-channel scaling at its inputs and outputs.

A per-channel affine layer at the rim (`Normalization` on an input, with the clip that may follow
it, and `Normalization(invert=True)` on an output) is known as numbers. In a graph of integers it
stays outside: an integer input is scaled anyway, and folding both scalings into one saves two
roundings (docs/decisions/0003). A graph of floats keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgelstm_quantize.layer_graph import End, LayerGraph
from edgelstm_quantize.pointwise import affine


@dataclass(frozen=True)
class Scaling:
    """Of one input or output: `normalised = (physical - mean) / std`.

    Attributes:
        mean: (channels,), float64.
        std: (channels,), float64.
        clip: bound on |normalised|, or None.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    clip: float | None = None

    @classmethod
    def identity(cls, channels: int) -> Scaling:
        """No scaling at all."""
        return cls(np.zeros(channels), np.ones(channels))

    def normalise(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Physical units, (..., channels), to what the core of the model sees."""
        z: NDArray[np.float64] = (x - self.mean) / self.std
        return z if self.clip is None else np.clip(z, -self.clip, self.clip)


@dataclass(frozen=True)
class Rim:
    """What was found at the inputs and outputs of a model.

    Attributes:
        inputs: scaling of each input, in order.
        outputs: scaling of each output, in order.
        removed: `id` of the layers that stay outside the graph.
    """

    inputs: tuple[Scaling, ...]
    outputs: tuple[Scaling, ...]
    removed: frozenset[int] = field(default=frozenset())

    @property
    def within(self) -> Rim:
        """The same rim, left in the graph."""
        return replace(self, removed=frozenset())


def find_rim(graph: LayerGraph) -> Rim:
    """Finds the scaling at the inputs (and its clip) and at the outputs."""
    removed: set[int] = set()
    inputs = tuple(_of_input(graph, end, removed) for end in graph.inputs)
    outputs = tuple(_of_output(graph, end, removed) for end in graph.outputs)
    return Rim(inputs, outputs, frozenset(removed))


def channels_of(end: End) -> int:
    """The number of values that one step of an input or output has."""
    return int(end.tensor.shape[-1]) if len(end.tensor.shape) > 2 else 1


def _of_input(graph: LayerGraph, end: End, removed: set[int]) -> Scaling:
    scaling = Scaling.identity(channels_of(end))
    call = graph.only_reader(end.tensor)
    if call and _is_scaling(call.operation, invert=False) and len(end.tensor.shape) > 2:
        scaling = Scaling(*affine(call.operation, channels_of(end)))
        removed.add(id(call.operation))
        call = graph.only_reader(call.output)
    if call and type(call.operation).__name__ == "Clip":
        low, high = call.operation.x_min, call.operation.x_max
        if low == -high:
            scaling = replace(scaling, clip=float(high))
            removed.add(id(call.operation))
    return scaling


def _of_output(graph: LayerGraph, end: End, removed: set[int]) -> Scaling:
    width = int(end.tensor.shape[-1])
    last = next((call for call in graph.calls if call.output is end.tensor), None)
    if last and _is_scaling(last.operation, invert=True) and not graph.readers(end.tensor):
        removed.add(id(last.operation))
        return Scaling(*affine(last.operation, width))
    return Scaling.identity(width)


def _is_scaling(operation: Any, *, invert: bool) -> bool:
    if not isinstance(operation, keras.layers.Normalization) or operation.invert != invert:
        return False
    return set(keras.tree.flatten(operation.axis)) <= {-1, 2} and np.size(operation.mean) > 0
