"""Graphs of a batch: resized, or where that is not possible one step after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.backends import Graph, Wiring, open_graph
from edgelstm.backends.graph import Memory
from edgelstm.errors import BackendError
from edgelstm.manifest import TensorSpec


class LoopedGraph:
    """`batch` graphs side by side, made of one.

    Args:
        graph: of batch 1; closed with this.
        wiring: its tensors.
        batch: how many.
    """

    memory: Memory | None = None

    def __init__(self, graph: Graph, wiring: Wiring, batch: int) -> None:
        self._graph, self._wiring = graph, wiring
        self._states = [
            np.full((batch, *pair.input.shape[1:]), pair.input.zero_point, pair.input.dtype)
            for pair in wiring.states
        ]
        self._inputs = [np.zeros((batch, *spec.shape[1:]), spec.dtype) for spec in wiring.inputs]

    @property
    def backend(self) -> str:
        """See `Graph.backend`."""
        return self._graph.backend

    @property
    def release(self) -> str:
        """See `Graph.release`."""
        return self._graph.release

    def run(
        self, inputs: Sequence[NDArray[Any]], rows: Sequence[int] | None = None
    ) -> list[NDArray[Any]]:
        """See `Graph.run`. Only these rows run, by default all; the outputs of others are 0."""
        given = [x.reshape(old.shape) for x, old in zip(inputs, self._inputs, strict=True)]
        following = [state.copy() for state in self._states]
        outputs = [np.zeros((len(given[0]), *s.shape[1:]), s.dtype) for s in self._wiring.outputs]
        for i in range(len(given[0])) if rows is None else rows:
            self._graph.states = [state[i : i + 1] for state in self._states]
            for whole, part in zip(
                outputs, self._graph.run([x[i : i + 1] for x in given]), strict=True
            ):
                whole[i] = part[0]
            for state, after in zip(following, self._graph.states, strict=True):
                state[i] = after[0]
        self._states, self._inputs = following, [x.copy() for x in given]
        return outputs

    @property
    def states(self) -> list[NDArray[Any]]:
        """See `Graph.states`."""
        return [state.copy() for state in self._states]

    @states.setter
    def states(self, states: Sequence[NDArray[Any]]) -> None:
        for own, new in zip(self._states, states, strict=True):
            own[...] = new

    @property
    def inputs(self) -> list[NDArray[Any]]:
        """See `Graph.inputs`."""
        return [value.copy() for value in self._inputs]

    def close(self) -> None:
        """See `Graph.close`."""
        self._graph.close()


def open_batch(flatbuffer: bytes, wiring: Wiring, backend: str, threads: int, batch: int) -> Graph:
    """A graph that takes `batch` steps side by side: resized, or looped where it cannot be.

    Args:
        flatbuffer: the model.
        wiring: its tensors.
        backend: a name from `BACKENDS`.
        threads: threads the interpreter may use.
        batch: how many.

    Raises what `open_graph` does.
    """
    single = open_graph(flatbuffer, wiring, backend, threads)
    try:
        whole = open_graph(flatbuffer, wiring, backend, threads, batch=batch)
    except BackendError:
        return LoopedGraph(single, wiring, batch)
    if _agree(whole, single, wiring, batch):
        single.close()
        return whole
    whole.close()
    return LoopedGraph(single, wiring, batch)


def _agree(whole: Graph, single: Graph, wiring: Wiring, batch: int) -> bool:
    """Whether the rows of a batch are steps of their own: a shape baked into a graph may mix them.

    The states of the batch are zero afterwards.
    """
    rng = np.random.default_rng(0)
    inputs = [_noise(rng, spec, batch) for spec in wiring.inputs]
    states = [_noise(rng, pair.input, batch) for pair in wiring.states]
    whole.states = states
    together = [*whole.run(inputs), *whole.states]
    specs = [*wiring.outputs, *(pair.input for pair in wiring.states)]
    zero = [pair.input.zero_point for pair in wiring.states]
    whole.states = [np.full_like(s, z) for s, z in zip(states, zero, strict=True)]
    for i in {0, batch // 2, batch - 1}:
        single.states = [state[i : i + 1] for state in states]
        alone = [*single.run([x[i : i + 1] for x in inputs]), *single.states]
        for many, one, spec in zip(together, alone, specs, strict=True):
            a, b = many[i].astype(np.float64), one[0].astype(np.float64)
            tolerance = 1.0 if spec.scale else 1e-3 * max(1.0, np.abs(b).max(initial=0))
            if not np.abs(a - b).max(initial=0) <= tolerance:
                return False
    return True


def _noise(rng: np.random.Generator, spec: TensorSpec, batch: int) -> NDArray[Any]:
    """Raw values that any model takes: tokens are 0."""
    level = {"int32": 0, "int64": 0, "float32": 1}.get(spec.dtype, 20)
    noise = rng.normal(0, 1, (batch, *spec.shape[1:])) * level + spec.zero_point
    raw: NDArray[Any] = noise.clip(-128, 127).astype(spec.dtype)
    return raw
