"""One step of a recurrent cell, in the fewest operations.

The three cells of Keras are written out: bias fused into the matrix products, gates taken apart
by one SPLIT. Any other cell is called as it is.

`x @ W + h @ U` stays two products: a CONCATENATION of x and h would force one scale on both.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgelstm_quantize.activations import activate
from edgelstm_quantize.pointwise import Reordered, matmul, plain, weights
from edgelstm_quantize.recipes import Arithmetic

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
        project: (rows, features) -> one or more of (rows, n): the part that needs no state.
        advance: (projected, states) -> `Advance`.
    """

    state_shapes: tuple[tuple[int, ...], ...]
    project: Callable[[Any], Any]
    advance: Callable[[Any, Tensors], Advance]


def cell_step(
    cell: Any, *, arithmetic: Arithmetic, groups: Sequence[NDArray[np.intp]] = ()
) -> CellStep:
    """The step of a cell.

    Args:
        cell: any cell of a built `keras.layers.RNN`.
        arithmetic: what the graph is to be computed in.
        groups: for an LSTM cell in int8: its units in groups, each of which gets a cell state of
            its own, and thus a scale of its own. The hidden state, and the output, then are in
            the order of the groups.
    """
    integer = arithmetic != "float32"
    if isinstance(cell, keras.layers.StackedRNNCells):
        return _stacked([cell_step(c, arithmetic=arithmetic) for c in cell.cells])
    # Exactly these: a subclass may compute something else.
    if type(cell) is keras.layers.LSTMCell:
        if arithmetic == "int8":
            return _lstm_in_int8(cell, groups or [np.arange(cell.units)])
        return _lstm(cell, integer)
    if type(cell) is keras.layers.GRUCell:
        return _gru(cell, integer)
    if type(cell) is keras.layers.SimpleRNNCell:
        return _simple(cell, integer)
    return _any(cell)


def _lstm(cell: Any, integer: bool) -> CellStep:
    kernel, recurrent = weights(cell.kernel), weights(cell.recurrent_kernel)
    bias = weights(cell.bias) if cell.use_bias else None

    def gate(z: Any) -> Any:
        return activate(cell.recurrent_activation, z, integer=integer)

    def squash(z: Any) -> Any:
        return activate(cell.activation, z, integer=integer)

    def advance(projected: Any, states: Tensors) -> Advance:
        h, c = states
        i, f, g, o = tf.split(projected + tf.matmul(h, recurrent), 4, axis=-1)
        forget = gate(f)
        c = forget * c + gate(i) * squash(g)
        h = gate(o) * squash(c)
        return Advance(h, [h, c], [None, forget])

    units = (cell.units,)
    return CellStep((units, units), lambda x: matmul(x, kernel, bias), advance)


def _lstm_in_int8(cell: Any, groups: Sequence[NDArray[np.intp]]) -> CellStep:
    """An LSTM step in the form that loses least in 8 bits (docs/decisions/0011).

    The gates and the candidate have products of their own, because their ranges differ. The cell
    state changes by what is added less what is forgotten, `c + (i g - (1 - f) c)`: both are
    smaller than c, so their scales are finer. And it is held in groups of units.
    """
    units, order = cell.units, np.concatenate(groups)
    # Keras has the gates in the order i, f, candidate, o. With the weights of f negated, its
    # sigmoid is 1 - f.
    gates = np.concatenate([order, order + units, order + 3 * units])
    sign = np.repeat(np.array([1, -1, 1], np.float32), units)
    candidate = order + 2 * units
    kernel, recurrent = weights(cell.kernel), weights(cell.recurrent_kernel)[order]
    bias = weights(cell.bias) if cell.use_bias else None
    negatable = cell.recurrent_activation is keras.activations.sigmoid
    if not negatable:
        sign = np.ones_like(sign)
    w_gates, w_candidate = kernel[:, gates] * sign, kernel[:, candidate]
    u_gates, u_candidate = recurrent[:, gates] * sign, recurrent[:, candidate]
    b_gates = None if bias is None else bias[gates] * sign
    b_candidate = None if bias is None else bias[candidate]
    ends = np.cumsum([0, *map(len, groups)]).tolist()
    parts = [slice(start, stop) for start, stop in itertools.pairwise(ends)]

    def gate(z: Any) -> Any:
        return activate(cell.recurrent_activation, z, integer=True)

    def squash(z: Any) -> Any:
        return activate(cell.activation, z, integer=True)

    def cut(x: Any, part: slice) -> Any:
        return x if len(parts) == 1 else x[:, part]

    def project(x: Any) -> Any:
        return matmul(x, w_gates, b_gates), matmul(x, w_candidate, b_candidate)

    def advance(projected: Any, states: Tensors) -> Advance:
        h, *cells = states
        z, z_candidate = projected
        i, f, o = tf.split(z + tf.matmul(h, u_gates), 3, axis=-1)
        g = squash(z_candidate + tf.matmul(h, u_candidate))
        add, drop = gate(i), gate(f) if negatable else 1.0 - gate(f)
        new, squashed, kept = [], [], []
        for c, part in zip(cells, parts, strict=True):
            less = cut(drop, part)
            new.append(c + (cut(add, part) * cut(g, part) - less * c))
            squashed.append(squash(new[-1]))
            kept.append(1.0 - less)
        whole = squashed[0] if len(parts) == 1 else tf.concat(squashed, axis=-1)
        h = gate(o) * whole
        return Advance(h if len(parts) == 1 else Reordered(h, order), [h, *new], [None, *kept])

    sizes = [(len(group),) for group in groups]
    return CellStep(((units,), *sizes), project, advance)


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
        # z h + (1 - z) candidate, in one product less: a rounding less in integers.
        new = candidate + z * (h - candidate)
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
