"""One step of a recurrent cell, in the fewest operations.

The three cells of Keras are written out: bias fused into the matrix products, gates taken apart
by one SPLIT. Any other cell is called as it is.

`x @ W + h @ U` stays two products: a CONCATENATION of x and h would force one scale on both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgelstm_quantize.activations import activate
from edgelstm_quantize.pointwise import Reordered, matmul, plain, weights

Tensors = list[Any]


@dataclass
class Advance:
    """What a step gave.

    Attributes:
        output: (batch, units).
        states: the new states.
        retention: for each state, the factor by which this step kept the old value (the forget
            gate of an LSTM), of the state's shape; None where the cell has no such factor.
    """

    output: Any
    states: Tensors
    retention: Tensors = field(default_factory=list)


@dataclass(frozen=True)
class CellStep:
    """A cell as two functions, so that a window can do the first for all its steps at once.

    Attributes:
        state_shapes: without the batch axis.
        project: (rows, features) -> (rows, n): the part that needs no state.
        advance: (projected (batch, n), states) -> `Advance`.
    """

    state_shapes: tuple[tuple[int, ...], ...]
    project: Callable[[Any], Any]
    advance: Callable[[Any, Tensors], Advance]


def cell_step(cell: Any, *, integer: bool, groups: Sequence[NDArray[np.intp]] = ()) -> CellStep:
    """The step of a cell.

    Args:
        cell: any cell of a built `keras.layers.RNN`.
        integer: whether activations must have forms that stay integer.
        groups: for an LSTM cell: its units in groups, each of which gets a cell state of its own
            (and thus a scale of its own when quantised). The hidden state, and the output, then
            are in the order of the groups.
    """
    if isinstance(cell, keras.layers.StackedRNNCells):
        return _stacked([cell_step(c, integer=integer) for c in cell.cells])
    # Exactly these: a subclass may compute something else.
    if type(cell) is keras.layers.LSTMCell:
        return _lstm(cell, integer, groups or [np.arange(cell.units)])
    if type(cell) is keras.layers.GRUCell:
        return _gru(cell, integer)
    if type(cell) is keras.layers.SimpleRNNCell:
        return _simple(cell, integer)
    return _any(cell)


def _lstm(cell: Any, integer: bool, groups: Sequence[NDArray[np.intp]]) -> CellStep:
    order = np.concatenate(groups)
    # Columns by gate, and within a gate by group: one SPLIT gives every gate of every group.
    columns = np.concatenate([order + gate * cell.units for gate in range(4)])
    kernel = weights(cell.kernel)[:, columns]
    recurrent = weights(cell.recurrent_kernel)[order][:, columns]
    bias = weights(cell.bias)[columns] if cell.use_bias else None
    n = len(groups)

    def gate(z: Any) -> Any:
        return activate(cell.recurrent_activation, z, integer=integer)

    def squash(z: Any) -> Any:
        return activate(cell.activation, z, integer=integer)

    def advance(projected: Any, states: Tensors) -> Advance:
        h, *cells = states
        parts = tf.split(projected + tf.matmul(h, recurrent), 4 * n, axis=-1)
        hidden, kept = [], []
        for k, c in enumerate(cells):
            i, f, g, o = (parts[k + n * j] for j in range(4))
            forget = gate(f)
            new = forget * c + gate(i) * squash(g)
            hidden.append(gate(o) * squash(new))
            cells[k] = new
            kept.append(forget)
        h = hidden[0] if n == 1 else tf.concat(hidden, axis=-1)
        return Advance(h if n == 1 else Reordered(h, order), [h, *cells], [None, *kept])

    sizes = [(len(group),) for group in groups]
    return CellStep(((cell.units,), *sizes), lambda x: matmul(x, kernel, bias), advance)


def _gru(cell: Any, integer: bool) -> CellStep:
    kernel, recurrent = weights(cell.kernel), weights(cell.recurrent_kernel)
    bias = inner_bias = None
    if cell.use_bias:
        bias, inner_bias = weights(cell.bias) if cell.reset_after else (weights(cell.bias), None)
    units = cell.units

    def gate(z: Any) -> Any:
        return activate(cell.recurrent_activation, z, integer=integer)

    def advance(projected: Any, states: Tensors) -> Advance:
        (h,) = states
        x_z, x_r, x_h = tf.split(projected, 3, axis=-1)
        if cell.reset_after:
            h_z, h_r, h_h = tf.split(matmul(h, recurrent, inner_bias), 3, axis=-1)
            z, r = gate(x_z + h_z), gate(x_r + h_r)
            inner = r * h_h
        else:
            h_z, h_r = tf.split(tf.matmul(h, recurrent[:, : 2 * units]), 2, axis=-1)
            z, r = gate(x_z + h_z), gate(x_r + h_r)
            inner = tf.matmul(r * h, recurrent[:, 2 * units :])
        candidate = activate(cell.activation, x_h + inner, integer=integer)
        new = z * h + (1.0 - z) * candidate
        return Advance(new, [new], [z])

    return CellStep(((units,),), lambda x: matmul(x, kernel, bias), advance)


def _simple(cell: Any, integer: bool) -> CellStep:
    kernel, recurrent = weights(cell.kernel), weights(cell.recurrent_kernel)
    bias = weights(cell.bias) if cell.use_bias else None

    def advance(projected: Any, states: Tensors) -> Advance:
        z = projected + tf.matmul(states[0], recurrent)
        h = activate(cell.activation, z, integer=integer)
        return Advance(h, [h], [None])

    return CellStep(((cell.units,),), lambda x: matmul(x, kernel, bias), advance)


def _any(cell: Any) -> CellStep:
    sizes = cell.state_size
    nested = isinstance(sizes, (list, tuple))
    # A size is a number or a shape.
    flat = keras.tree.flatten(list(sizes)) if nested else [sizes]
    shapes = tuple(tuple(int(n) for n in np.atleast_1d(size)) for size in flat)

    def advance(x: Any, states: Tensors) -> Advance:
        packed = keras.tree.pack_sequence_as(list(sizes), states) if nested else states
        y, new = cell(x, packed, training=False)
        return Advance(y, keras.tree.flatten(new), [None] * len(states))

    return CellStep(shapes, plain, advance)


def _stacked(steps: list[CellStep]) -> CellStep:
    def advance(projected: Any, states: Tensors) -> Advance:
        states, new, kept = list(states), [], []
        y = projected
        for k, step in enumerate(steps):
            own = [states.pop(0) for _ in step.state_shapes]
            done = step.advance(y if k == 0 else step.project(y), own)
            y = done.output
            new += done.states
            kept += done.retention
        return Advance(y, new, kept)

    shapes = tuple(shape for step in steps for shape in step.state_shapes)
    return CellStep(shapes, steps[0].project, advance)
