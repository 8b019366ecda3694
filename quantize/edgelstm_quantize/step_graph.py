"""Turns a Keras model over sequences into a step graph: one time step, states in and out.

The step graph has the same layers and the same weights as the model. Only the layers that
cross the time axis are replaced: a recurrent layer by one step of its cell, a causal
convolution by one product with the last inputs. What such a layer remembers from one step to
the next becomes an input and an output of the graph, named `state_<i>` and `next_state_<i>`.
So the graph has no loops and no hidden variables, and whoever runs it owns the states.

Tensors have no time axis there: a step is (batch, features).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgelstm_quantize.activations import activate
from edgelstm_quantize.cell_steps import cell_step
from edgelstm_quantize.layer_graph import Call, LayerGraph, is_tensor
from edgelstm_quantize.pointwise import Pointwise, matmul, plain, pointwise, weights
from edgelstm_quantize.recipes import Arithmetic
from edgelstm_quantize.rim import Rim
from edgelstm_quantize.streaming import CONVOLUTIONS, channels_taken

layers = keras.layers
Groups = Mapping[str, Sequence[NDArray[np.intp]]]
"""Name of an LSTM layer -> its units in groups, see `cell_step`."""


@dataclass
class Stepped:
    """What a step gave: outputs and new states by name, and what was kept of the old states."""

    outputs: dict[str, Any]
    states: list[Any] = field(default_factory=list)
    retention: list[Any] = field(default_factory=list)


class StepGraph:
    """One step of a model that streams, as a function of tensors.

    Args:
        graph: from `as_stream`.
        rim: what stays outside.
        arithmetic: what the graph is to be computed in.
        groups: units of LSTM layers that get cell states of their own.
    """

    def __init__(
        self, graph: LayerGraph, rim: Rim, *, arithmetic: Arithmetic, groups: Groups | None = None
    ) -> None:
        self.graph = graph
        self._rim = rim
        self._integer = arithmetic != "float32"
        # By the call: a layer with states is called once.
        self._memories = {
            id(call): _memory(
                call.operation, arithmetic, (groups or {}).get(call.operation.name, ())
            )
            for call in graph.calls
            if isinstance(call.operation, (layers.RNN, *CONVOLUTIONS))
        }
        self.state_shapes: Sequence[tuple[int, ...]] = [
            shape for memory in self._memories.values() for shape in memory.state_shapes
        ]
        """Without the batch axis, in the order of the layers."""
        owners = [
            call
            for call in graph.calls
            if id(call) in self._memories
            for _ in self._memories[id(call)].state_shapes
        ]
        self.state_owners = [str(call.operation.name) for call in owners]
        """The name of the layer that each state belongs to."""
        self.state_scopes = [graph.labels[id(call)] for call in owners]
        """The scope of that layer's tensors."""

    def __call__(self, inputs: Mapping[str, Any], states: Sequence[Any]) -> Stepped:
        """Runs one step.

        Args:
            inputs: by name, each (batch, features), tokens (batch,).
            states: in order, each (batch, *shape).
        """
        values = {id(end.tensor): inputs[end.name] for end in self.graph.inputs}
        remaining = iter(states)
        done = Stepped({})
        for call in self.graph.calls:
            with tf.name_scope(self.graph.labels[id(call)]):
                values[id(call.output)] = self._do(call, values, remaining, done)
        done.outputs = {end.name: plain(values[id(end.tensor)]) for end in self.graph.outputs}
        return done

    def _do(
        self, call: Call, values: Mapping[int, Any], states: Iterator[Any], done: Stepped
    ) -> Any:
        operation = call.operation
        inputs = [values[id(a)] if is_tensor(a) else a for a in keras.tree.flatten(call.args)]
        if id(operation) in self._rim.removed or isinstance(operation, layers.ZeroPadding1D):
            return inputs[0]
        if memory := self._memories.get(id(call)):
            own = [next(states) for _ in memory.state_shapes]
            y, new, kept = memory.advance(inputs[0], own)
            done.states += new
            done.retention += kept
            return y
        if isinstance(operation, layers.Embedding):
            return tf.gather(weights(operation.embeddings), inputs[0])
        if isinstance(operation, layers.TimeDistributed):
            inner = pointwise(operation.layer)
            if inner is None:
                return operation.layer(plain(inputs[0]), training=False)
            return inner(operation.layer, [plain(inputs[0])], self._integer)
        if type(operation).__name__ == "GetItem":
            return plain(inputs[0])[:, channels_taken(call)]
        function = cast("Pointwise", pointwise(operation))  # `as_stream` saw to it
        if not isinstance(operation, (layers.Dense, layers.Dropout)):
            inputs = [plain(x) for x in inputs]
        return function(operation, inputs, self._integer)


class _Memory:
    """A layer that crosses the time axis, one step at a time."""

    state_shapes: Sequence[tuple[int, ...]]

    def advance(self, x: Any, states: list[Any]) -> tuple[Any, list[Any], list[Any]]:
        """The output, the new states, and what was kept of the old ones (or None for each)."""
        raise NotImplementedError


def _memory(layer: Any, arithmetic: Arithmetic, groups: Sequence[NDArray[np.intp]]) -> _Memory:
    if isinstance(layer, layers.RNN):
        return _Recurrent(layer, arithmetic, groups)
    return _Convolution(layer, arithmetic != "float32")


class _Recurrent(_Memory):
    def __init__(
        self, layer: Any, arithmetic: Arithmetic, groups: Sequence[NDArray[np.intp]]
    ) -> None:
        self._step = cell_step(layer.cell, arithmetic=arithmetic, groups=groups)
        self.state_shapes = self._step.state_shapes

    def advance(self, x: Any, states: list[Any]) -> tuple[Any, list[Any], list[Any]]:
        done = self._step.advance(self._step.project(x), states)
        return done.output, done.states, done.retention


class _Convolution(_Memory):
    """A causal convolution: a product with the last inputs, kept as one flat state."""

    def __init__(self, layer: Any, integer: bool) -> None:
        self._layer, self._integer = layer, integer
        self._taps, self._dilation = layer.kernel_size[0], layer.dilation_rate[0]
        separable = isinstance(layer, layers.SeparableConv1D)
        self._kernel = weights(layer.depthwise_kernel if separable else layer.kernel)
        if isinstance(layer, layers.Conv1D):
            self._kernel = _dense_kernel(self._kernel, layer.groups)
        self._channels = self._kernel.shape[1]
        self._kept = (self._taps - 1) * self._dilation
        self.state_shapes = [(self._kept * self._channels,)] if self._kept else []

    def advance(self, x: Any, states: list[Any]) -> tuple[Any, list[Any], list[Any]]:
        window = tf.concat([*states, plain(x)], axis=-1) if states else plain(x)
        new = [window[:, self._channels :]] if states else []
        return self._convolve(window), new, [None] * len(new)

    def _convolve(self, window: Any) -> Any:
        layer = self._layer
        if isinstance(layer, layers.Conv1D):
            bias = weights(layer.bias) if layer.use_bias else None
            taps = self._pick(window)
            y = matmul(taps, self._kernel.reshape(-1, self._kernel.shape[-1]), bias)
            return activate(layer.activation, y, integer=self._integer)
        y = self._depthwise(window)
        if isinstance(layer, layers.SeparableConv1D):
            y = matmul(y, weights(layer.pointwise_kernel)[0])
        if layer.use_bias:
            y = y + weights(layer.bias)
        return activate(layer.activation, y, integer=self._integer)

    def _pick(self, window: Any) -> Any:
        """The inputs that the kernel sees, (batch, taps * channels)."""
        if self._dilation == 1:
            return window
        batch = window.shape[0]
        spread = tf.reshape(window, (batch, self._kept + 1, self._channels))
        return tf.reshape(spread[:, :: self._dilation], (batch, self._taps * self._channels))

    def _depthwise(self, window: Any) -> Any:
        batch = window.shape[0]
        taps = tf.reshape(self._pick(window), (batch, self._taps, 1, self._channels))
        kernel = self._kernel[:, None]
        y = tf.nn.depthwise_conv2d(taps, kernel, (1, 1, 1, 1), "VALID")
        return tf.reshape(y, (batch, kernel.shape[2] * kernel.shape[3]))


def _dense_kernel(kernel: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    """The kernel of a grouped convolution with its zeros, (taps, channels, filters)."""
    if groups == 1:
        return kernel
    taps, channels, filters = kernel.shape
    full = np.zeros((taps, channels * groups, filters), np.float32)
    each = filters // groups
    for g in range(groups):
        columns = slice(g * each, (g + 1) * each)
        full[:, g * channels : (g + 1) * channels, columns] = kernel[:, :, columns]
    return full
