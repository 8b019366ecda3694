"""Activations and elementwise operations in forms that stay integer.

ai-edge-quantizer knows no integer form of some operations (MINIMUM, RELU6, LEAKY_RELU, NEG, ABS,
...) and leaves them in float, which full-integer recipes cannot have. Each is written here in
operations that it does know: RELU, ADD, SUB, MUL, DIV, MAXIMUM. The results are equal, up to the
rounding of float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def activate(function: Callable[..., Any], x: Any, *, integer: bool) -> Any:
    """Applies a Keras activation function.

    Args:
        function: as `layer.activation` holds it.
        x: a tensor.
        integer: whether to use the form that stays integer, where there is one.
    """
    if integer and function in _INTEGER_ACTIVATIONS:
        return _INTEGER_ACTIVATIONS[function](x)
    return function(x)


def leaky_relu(x: Any, negative_slope: Any) -> Any:
    """max(x, slope * x), for slopes up to 1; a tensor of slopes has one per channel."""
    return tf.maximum(x, x * negative_slope)


def clip(x: Any, low: float, high: float) -> Any:
    """x, but no less than `low` and no more than `high`."""
    return low + tf.nn.relu(x - low) - tf.nn.relu(x - high)


def minimum(x: Any, y: Any) -> Any:
    """The smaller of both."""
    return x - tf.nn.relu(x - y)


def absolute(x: Any) -> Any:
    """|x|."""
    return tf.maximum(x, x * -1.0)


def _relu6(x: Any) -> Any:
    return clip(x, 0.0, 6.0)


def _hard_sigmoid(x: Any) -> Any:
    return clip(x / 6 + 0.5, 0.0, 1.0)


def _softsign(x: Any) -> Any:
    return x / (absolute(x) + 1.0)


_INTEGER_ACTIVATIONS: dict[Callable[..., Any], Callable[[Any], Any]] = {
    keras.activations.relu6: _relu6,
    keras.activations.hard_sigmoid: _hard_sigmoid,
    keras.activations.hard_tanh: lambda x: clip(x, -1.0, 1.0),
    keras.activations.leaky_relu: lambda x: leaky_relu(x, 0.2),
    keras.activations.softsign: _softsign,
    keras.activations.silu: lambda x: x * tf.sigmoid(x),
    keras.activations.hard_silu: lambda x: x * _hard_sigmoid(x),
}
