"""Layers that treat every time step alike and by itself, as functions of tensors.

They work on the last axis, so they serve a single step (batch, features) and a window (batch,
time, features) alike. Weights become constants, and each layer is written in the fewest operations
that stay integer when quantised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgelstm_quantize.activations import absolute, activate, clip, leaky_relu, minimum

layers = keras.layers
_NO_LENGTH = 1e-24  # Keras's epsilon for the length of a vector, squared

Pointwise = Callable[[Any, list[Any], bool], Any]
"""Function of the layer, its input tensors, and whether the operations must stay integer."""


def pointwise(operation: Any) -> Pointwise | None:
    """How to compute a layer that knows no time; None for any other operation."""
    if isinstance(operation, layers.Layer):
        return next((f for kind, f in _LAYERS.items() if type(operation) is kind), None)
    return _OPERATIONS.get(type(operation).__name__)


def works_on_channels(operation: Any, rank: int) -> bool:
    """Whether a layer with an axis has the last one.

    Args:
        operation: a layer.
        rank: number of axes of its input.
    """
    axes = keras.tree.flatten(getattr(operation, "axis", -1))
    return set(axes) <= {-1, rank - 1}


def weights(value: Any) -> NDArray[np.float32]:
    """The present value of a Keras variable or tensor, as float32."""
    with tf.init_scope():  # a variable has no value within a trace
        return np.asarray(keras.ops.convert_to_numpy(value), np.float32)


def affine(layer: Any, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of a `Normalization` layer, per channel, float64.

    Keras divides by max(sqrt(variance), epsilon).
    """
    mean = np.broadcast_to(weights(layer.mean).reshape(-1).astype(np.float64), (channels,))
    variance = np.broadcast_to(weights(layer.variance).reshape(-1).astype(np.float64), (channels,))
    return mean.copy(), np.maximum(np.sqrt(variance), keras.backend.epsilon())


@dataclass(frozen=True)
class Reordered:
    """A tensor whose features are in another order: `tensor[..., i]` is feature `order[i]`.

    A matrix product takes that up by reordering its kernel's rows, for nothing; `plain` puts the
    features back in order for everything else.
    """

    tensor: Any
    order: NDArray[np.intp]


def plain(x: Any) -> Any:
    """The tensor with its features in order."""
    return tf.gather(x.tensor, np.argsort(x.order), axis=-1) if isinstance(x, Reordered) else x


def matmul(x: Any, kernel: NDArray[np.float32], bias: NDArray[np.float32] | None = None) -> Any:
    """X @ kernel + bias over the last axis, as one FULLY_CONNECTED."""
    if isinstance(x, Reordered):
        x, kernel = x.tensor, kernel[x.order]
    flat = x if len(x.shape) == 2 else tf.reshape(x, (-1, kernel.shape[0]))
    y = tf.matmul(flat, kernel)
    if bias is not None:
        y = y + bias
    return y if len(x.shape) == 2 else tf.reshape(y, (*x.shape[:-1], kernel.shape[1]))


def _identity(_layer: Any, inputs: list[Any], _integer: bool) -> Any:
    return inputs[0]


def _dense(layer: Any, inputs: list[Any], integer: bool) -> Any:
    bias = weights(layer.bias) if layer.use_bias else None
    y = matmul(inputs[0], weights(layer.kernel), bias)
    return activate(layer.activation, y, integer=integer)


def _activation(layer: Any, inputs: list[Any], integer: bool) -> Any:
    return activate(layer.activation, inputs[0], integer=integer)


def _relu(layer: Any, inputs: list[Any], integer: bool) -> Any:
    (x,) = inputs
    if not integer or layer.threshold:
        return layer(x)
    y = tf.nn.relu(x) if not layer.negative_slope else leaky_relu(x, layer.negative_slope)
    if layer.max_value is None:
        return y
    return minimum(y, float(layer.max_value))


def _leaky_relu(layer: Any, inputs: list[Any], integer: bool) -> Any:
    slope = float(layer.negative_slope)
    return leaky_relu(inputs[0], slope) if integer and slope <= 1 else layer(inputs[0])


def _prelu(layer: Any, inputs: list[Any], _integer: bool) -> Any:
    (x,) = inputs
    alpha = weights(layer.alpha)
    if len(x.shape) == 2:
        alpha = alpha.reshape(-1)  # of all steps the same: see `as_stream`
    return tf.nn.relu(x) - alpha * tf.nn.relu(x * -1.0)


def _by_itself(layer: Any, inputs: list[Any], _integer: bool) -> Any:
    return layer(inputs[0])


def _normalization(layer: Any, inputs: list[Any], _integer: bool) -> Any:
    (x,) = inputs
    mean, std = affine(layer, int(x.shape[-1]))
    if layer.invert:
        return x * std.astype(np.float32) + mean.astype(np.float32)
    # The multiplication first: as the last one the converter would fold it into the kernel of a
    # product that follows, whose weights then are too unlike to share a scale.
    return x * (1 / std).astype(np.float32) - (mean / std).astype(np.float32)


def _batch_normalization(layer: Any, inputs: list[Any], _integer: bool) -> Any:
    gain = 1 / np.sqrt(weights(layer.moving_variance) + np.float32(layer.epsilon))
    if layer.scale:
        gain = gain * weights(layer.gamma)
    offset = -weights(layer.moving_mean) * gain
    if layer.center:
        offset = offset + weights(layer.beta)
    return inputs[0] * gain + offset


def _layer_normalization(layer: Any, inputs: list[Any], _integer: bool) -> Any:
    (x,) = inputs
    if layer.rms_scaling:
        return layer(x)
    centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
    variance = tf.reduce_mean(centred * centred, axis=-1, keepdims=True)
    y = centred * tf.math.rsqrt(variance + layer.epsilon)
    if layer.scale:
        y = y * weights(layer.gamma)
    if layer.center:
        y = y + weights(layer.beta)
    return y


def _rms_normalization(layer: Any, inputs: list[Any], _integer: bool) -> Any:
    (x,) = inputs
    power = tf.reduce_mean(x * x, axis=-1, keepdims=True)
    return x * tf.math.rsqrt(power + layer.epsilon) * weights(layer.scale)


def _unit_normalization(_layer: Any, inputs: list[Any], _integer: bool) -> Any:
    (x,) = inputs
    return x * tf.math.rsqrt(tf.reduce_sum(x * x, axis=-1, keepdims=True) + _NO_LENGTH)


def _rescaling(layer: Any, inputs: list[Any], _integer: bool) -> Any:
    scale, offset = (np.asarray(v, np.float32) for v in (layer.scale, layer.offset))
    y = inputs[0] * scale
    return y + offset if np.any(offset) else y


def _add(_layer: Any, inputs: list[Any], _integer: bool) -> Any:
    return reduce(tf.add, inputs)


def _subtract(_layer: Any, inputs: list[Any], _integer: bool) -> Any:
    return inputs[0] - inputs[1]


def _multiply(_layer: Any, inputs: list[Any], _integer: bool) -> Any:
    return reduce(tf.multiply, inputs)


def _average(_layer: Any, inputs: list[Any], _integer: bool) -> Any:
    return reduce(tf.add, inputs) * (1 / len(inputs))


def _maximum(_layer: Any, inputs: list[Any], _integer: bool) -> Any:
    return reduce(tf.maximum, inputs)


def _minimum(_layer: Any, inputs: list[Any], integer: bool) -> Any:
    return reduce(minimum if integer else tf.minimum, inputs)


def _concatenate(_layer: Any, inputs: list[Any], _integer: bool) -> Any:
    return tf.concat(inputs, axis=-1)


def _divide(_layer: Any, inputs: list[Any], _integer: bool) -> Any:
    return inputs[0] / inputs[1]


def _clip(operation: Any, inputs: list[Any], integer: bool) -> Any:
    low, high = float(operation.x_min), float(operation.x_max)
    return clip(inputs[0], low, high) if integer else tf.clip_by_value(inputs[0], low, high)


def _absolute(_layer: Any, inputs: list[Any], integer: bool) -> Any:
    return absolute(inputs[0]) if integer else tf.abs(inputs[0])


def _unary(function: Callable[[Any], Any]) -> Pointwise:
    return lambda _operation, inputs, _integer: function(inputs[0])


_LAYERS: dict[type[Any], Pointwise] = {
    layers.Activation: _activation,
    layers.ActivityRegularization: _identity,
    layers.Add: _add,
    layers.AlphaDropout: _identity,
    layers.Average: _average,
    layers.BatchNormalization: _batch_normalization,
    layers.Concatenate: _concatenate,
    layers.Dense: _dense,
    layers.Dropout: _identity,
    layers.ELU: _by_itself,
    layers.GaussianDropout: _identity,
    layers.GaussianNoise: _identity,
    layers.Identity: _identity,
    layers.LayerNormalization: _layer_normalization,
    layers.LeakyReLU: _leaky_relu,
    layers.Maximum: _maximum,
    layers.Minimum: _minimum,
    layers.Multiply: _multiply,
    layers.Normalization: _normalization,
    layers.PReLU: _prelu,
    layers.RMSNormalization: _rms_normalization,
    layers.ReLU: _relu,
    layers.Rescaling: _rescaling,
    layers.Softmax: _by_itself,
    layers.SpatialDropout1D: _identity,
    layers.Subtract: _subtract,
    layers.UnitNormalization: _unit_normalization,
}
# Bare `keras.ops` calls (and `+`, `*`, ...) in a functional model.
_OPERATIONS: dict[str, Pointwise] = {
    "Absolute": _absolute,
    "Add": _add,
    "Clip": _clip,
    "Concatenate": _concatenate,
    "Divide": _divide,
    "Exp": _unary(tf.exp),
    "Log": _unary(tf.math.log),
    "Maximum": _maximum,
    "Minimum": _minimum,
    "Multiply": _multiply,
    "Negative": _unary(lambda x: x * -1.0),
    "Relu": _unary(tf.nn.relu),
    "Sigmoid": _unary(tf.sigmoid),
    "Sqrt": _unary(tf.sqrt),
    "Square": _unary(lambda x: x * x),
    "Subtract": _subtract,
    "Tanh": _unary(tf.tanh),
    "TrueDivide": _divide,
}
