"""Turns a Keras model into a graph over one whole window: recurrent layers unrolled, no state.

This is for models that need all of a window before they answer: bidirectional layers,
autoencoders with RepeatVector, pooling over time, encoders and decoders. Any layer of Keras that
TFLite can compute is taken as it is; recurrent ones are unrolled over the window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from edgelstm.errors import ModelError
from edgelstm_quantize.cell_steps import cell_step
from edgelstm_quantize.layer_graph import Call, LayerGraph, check_form, is_tensor, open_up
from edgelstm_quantize.pointwise import plain, pointwise, works_on_channels
from edgelstm_quantize.reasons import first_line
from edgelstm_quantize.recipes import Arithmetic
from edgelstm_quantize.rim import Rim
from edgelstm_quantize.step_graph import Stepped
from edgelstm_quantize.streaming import refuse_what_never_works, zero_start

layers = keras.layers


def as_window(model: keras.Model, window: int | None) -> tuple[LayerGraph, int]:
    """Lays a model open over a window of fixed length.

    Args:
        model: a Keras model.
        window: steps in a window; None takes the length that the model's inputs have.

    Returns:
        The layers, and the length.

    Raises:
        ModelError: the model has no length and none is given, has another one, or its layers do
            not take that length.
    """
    check_form(model)
    refuse_what_never_works(model)
    own = {int(t.shape[1]) for t in model.inputs if t.shape[1] is not None}
    if len(own) > 1:
        raise ModelError(
            f"The inputs of {model.name!r} have windows of different lengths "
            f"({', '.join(map(str, sorted(own)))}); edgelstm steps all inputs together."
        )
    length = window or next(iter(own), None)
    if length is None:
        raise ModelError(
            f"The model {model.name!r} has no fixed length of its input: say how many readings "
            "make a window with --window N."
        )
    try:
        return open_up(model, length), length
    except ModelError:
        raise
    except Exception as error:  # a layer raises what it likes
        raise ModelError(
            f"The model {model.name!r} does not take a window of {length} readings: "
            f"{first_line(error)}."
        ) from error


class WindowGraph:
    """A model over one window, as a function of tensors.

    Args:
        graph: from `as_window`.
        rim: what stays outside.
        arithmetic: what the graph is to be computed in.

    Raises:
        ModelError: a layer cannot be unrolled.
    """

    def __init__(self, graph: LayerGraph, rim: Rim, *, arithmetic: Arithmetic) -> None:
        self.graph = graph
        self.state_shapes: Sequence[tuple[int, ...]] = []
        self._rim = rim
        self._arithmetic = arithmetic
        self._integer = arithmetic != "float32"
        for call in graph.calls:
            _check(call)

    def __call__(self, inputs: Mapping[str, Any], _states: Sequence[Any]) -> Stepped:
        """Runs one window.

        Args:
            inputs: by name, each (1, time, features), tokens (1, time).
        """
        values = {id(end.tensor): inputs[end.name] for end in self.graph.inputs}
        for call in self.graph.calls:
            with tf.name_scope(self.graph.labels[id(call)]):
                done = self._do(call, values)
            for tensor, value in zip(call.outputs, keras.tree.flatten(done), strict=True):
                values[id(tensor)] = value
        return Stepped({end.name: values[id(end.tensor)] for end in self.graph.outputs})

    def _do(self, call: Call, values: Mapping[int, Any]) -> Any:
        operation = call.operation
        args, kwargs = keras.tree.map_structure(
            lambda a: values[id(a)] if is_tensor(a) else a, (call.args, call.kwargs)
        )
        if id(operation) in self._rim.removed:
            return args[0]
        if isinstance(operation, layers.RNN):
            initial = args[1] if len(args) > 1 else kwargs.get("initial_state")
            return self._recurrent(operation, args[0], initial)
        if isinstance(operation, layers.Bidirectional):
            return self._both_ways(operation, args[0])
        if isinstance(operation, layers.RepeatVector):
            return tf.stack([args[0]] * operation.n, axis=1)
        if isinstance(operation, layers.GlobalMaxPooling1D):
            return _max_over_time(args[0], operation.keepdims)
        if isinstance(operation, layers.TimeDistributed):
            return self._each_step(operation.layer, args[0])
        function = pointwise(operation)
        ranks = [len(t.shape) for t in call.inputs]
        if function and all(works_on_channels(operation, rank) for rank in ranks):
            return function(operation, keras.tree.flatten(args), self._integer)
        kwargs.pop("training", None)
        return operation(*args, **kwargs)

    def _recurrent(self, layer: Any, x: Any, initial: Any) -> Any:
        ys, states = self._unroll(layer, x, initial)
        y = tf.stack(ys, axis=1) if layer.return_sequences else ys[-1]
        return [y, *states] if layer.return_state else y

    def _unroll(self, layer: Any, x: Any, initial: Any = None) -> tuple[list[Any], list[Any]]:
        """The output of each step in the order of reading, and the last states."""
        step = cell_step(layer.cell, arithmetic=self._arithmetic)
        length, features = x.shape[1:]
        # The part that needs no state is one product for the whole window.
        projected = step.project(tf.reshape(x, (length, features)))
        rows = [
            keras.tree.pack_sequence_as(projected, row)
            for row in zip(
                *(tf.split(part, length, axis=0) for part in keras.tree.flatten(projected)),
                strict=True,
            )
        ]
        if layer.go_backwards:
            rows = rows[::-1]
        states = keras.tree.flatten(initial) if initial is not None else []
        states = states or [tf.zeros((1, *shape)) for shape in step.state_shapes]
        ys = []
        for row in rows:
            done = step.advance(row, states)
            states = done.states
            ys.append(plain(done.output))
        return ys, states

    def _both_ways(self, layer: Any, x: Any) -> Any:
        there, _ = self._unroll(layer.forward_layer, x)
        back, _ = self._unroll(layer.backward_layer, x)
        if not layer.return_sequences:
            return _merge(layer.merge_mode, there[-1], back[-1])
        return _merge(layer.merge_mode, tf.stack(there, axis=1), tf.stack(back[::-1], axis=1))

    def _each_step(self, layer: Any, x: Any) -> Any:
        function = pointwise(layer)
        if function:
            return function(layer, [x], self._integer)
        rows = layer(tf.reshape(x, (x.shape[1], *x.shape[2:])), training=False)
        return tf.reshape(rows, (1, *rows.shape))


def _merge(mode: str | None, there: Any, back: Any) -> Any:
    if mode == "concat":
        return tf.concat([there, back], axis=-1)
    if mode == "sum":
        return there + back
    if mode == "ave":
        return (there + back) * 0.5
    if mode == "mul":
        return there * back
    return [there, back]


def _max_over_time(x: Any, keepdims: bool) -> Any:
    # MAX_POOL_2D has an integer form, REDUCE_MAX has none in ai-edge-quantizer.
    length, features = x.shape[1:]
    pooled = tf.nn.max_pool2d(x[:, :, None], (length, 1), 1, "VALID")
    return tf.reshape(pooled, (1, 1, features) if keepdims else (1, features))


def _check(call: Call) -> None:
    operation = call.operation
    parts = (
        [operation.forward_layer, operation.backward_layer]
        if isinstance(operation, layers.Bidirectional)
        else [operation]
    )
    for part in parts:
        if not isinstance(part, layers.RNN):
            continue
        if len(call.inputs[0].shape) != 3:
            raise ModelError(
                f"The layer {operation.name!r} ({type(operation).__name__}) cannot be converted: "
                "each of its steps has more than one axis; use a recurrent layer over vectors."
            )
        given = [a for a in keras.tree.flatten([call.args[1:], call.kwargs]) if is_tensor(a)]
        masked = is_tensor(call.kwargs.get("mask"))
        if masked or (given and isinstance(operation, layers.Bidirectional)):
            raise ModelError(
                f"The layer {operation.name!r} ({type(operation).__name__}) cannot be converted: "
                "it is given a mask or, being bidirectional, an initial state."
            )
        if not given and not zero_start(part):
            raise ModelError(
                f"The layer {operation.name!r} cannot be converted: its cell does not start from "
                "zero states."
            )
    if isinstance(operation, layers.Bidirectional) and parts[0].return_state:
        raise ModelError(
            f"The layer {operation.name!r} (Bidirectional) cannot be converted: it hands its "
            "states on (return_state=True); use two layers, one with go_backwards=True."
        )
