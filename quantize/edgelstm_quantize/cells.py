"""Recurrent cells beside Keras's own, for `keras.layers.RNN`."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="edgelstm")
class PeepholeLSTMCell(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """An LSTM cell whose gates also see the cell state, through diagonal weights.

    With x the input, h the hidden state and c the cell state:

        i  = sigmoid(x W_i + h U_i + p_i * c + b_i)
        f  = sigmoid(x W_f + h U_f + p_f * c + b_f)
        c' = f * c + i * tanh(x W_c + h U_c + b_c)
        o  = sigmoid(x W_o + h U_o + p_o * c' + b_o)
        h' = o * tanh(c')

    Source: Gers, Schraudolph and Schmidhuber, "Learning Precise Timing with LSTM Recurrent
    Networks", JMLR 3, 2002. Peepholes help where the distance between events matters.

    Use it as `keras.layers.RNN(PeepholeLSTMCell(32), return_sequences=True)`. A model file with
    it loads wherever this module is imported.

    Args:
        units: number of units.
        unit_forget_bias: start the forget gate's bias at 1, as `keras.layers.LSTMCell` does.
        options: of `keras.layers.Layer`.
    """

    def __init__(self, units: int, unit_forget_bias: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.units = units
        self.unit_forget_bias = unit_forget_bias
        self.state_size = [units, units]
        self.output_size = units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the weights for inputs of shape (batch, features)."""
        self.kernel = self.add_weight(
            (input_shape[-1], 4 * self.units), initializer="glorot_uniform", name="kernel"
        )
        self.recurrent_kernel = self.add_weight(
            (self.units, 4 * self.units), initializer="orthogonal", name="recurrent_kernel"
        )
        self.peephole = self.add_weight((3, self.units), initializer="zeros", name="peephole")
        self.bias = self.add_weight((4 * self.units,), initializer=self._first_bias, name="bias")

    def _first_bias(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        gates = keras.ops.zeros(shape, dtype)
        if not self.unit_forget_bias:
            return gates
        ones = keras.ops.ones((self.units,), dtype)
        return keras.ops.slice_update(gates, (self.units,), ones)

    def call(
        self,
        x: Any,
        states: Any,
        training: bool = False,  # noqa: ARG002  # Keras passes it
    ) -> tuple[Any, list[Any]]:
        """One step: x (batch, features) and [h, c], each (batch, units), to (h', [h', c'])."""
        ops = keras.ops
        h, c = states
        z = ops.matmul(x, self.kernel) + self.bias + ops.matmul(h, self.recurrent_kernel)
        i, f, g, o = ops.split(z, 4, axis=-1)
        p_i, p_f, p_o = ops.unstack(self.peephole, axis=0)
        i = ops.sigmoid(i + p_i * c)
        f = ops.sigmoid(f + p_f * c)
        c = f * c + i * ops.tanh(g)
        h = ops.sigmoid(o + p_o * c) * ops.tanh(c)
        return h, [h, c]

    def get_config(self) -> dict[str, Any]:
        """What `__init__` takes."""
        config: dict[str, Any] = super().get_config()
        return config | {"units": self.units, "unit_forget_bias": self.unit_forget_bias}
