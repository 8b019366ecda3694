"""Runs Keras models over whole recordings, fast and right."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


def open_signature(batch: int, channels: int) -> tf.TensorSpec:
    """Sequences of any length: (batch, time, channels), float32.

    With a length that is fixed in the trace, TensorFlow 2.21's graph remapper computes causal
    convolutions of one channel wrongly, by up to 2 % of a standard deviation; with the length
    left open it gives what an eager call gives (docs/decisions/0006).
    """
    return tf.TensorSpec((batch, None, channels), tf.float32)


def forward(model: Any) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """A function from readings, (steps, channels), to what a model gives, (steps, targets).

    The channels of several inputs lie side by side, and so do the targets of several outputs.
    """
    widths = [_width(tensor) for tensor in model.inputs]
    # Eagerly it would take seconds.
    traced = tf.function(
        lambda *inputs: _side_by_side(model(_as_model_takes(inputs, model), training=False)),
        input_signature=[tf.TensorSpec((1, None, *t.shape[2:]), _dtype(t)) for t in model.inputs],
    )

    def run(readings: NDArray[Any]) -> NDArray[np.float64]:
        parts = _split(readings, widths)
        inputs = [_tensor(part[None], t) for part, t in zip(parts, model.inputs, strict=True)]
        y: NDArray[Any] = traced(*inputs).numpy()[0]
        return y.astype(np.float64)

    return run


def forward_windows(
    model: Any, window: int, hop: int
) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """Like `forward` for a model over windows: (steps, targets), the outputs of a window in a row.

    A row is NaN where no window ends: before the first is full, and between hops.
    """
    widths = [_width(tensor) for tensor in model.inputs]
    width = sum(math.prod(tensor.shape[1:]) for tensor in model.outputs)

    def run(readings: NDArray[Any]) -> NDArray[np.float64]:
        ends = window_ends(len(readings), window, hop)
        result = np.full((len(readings), width), np.nan)
        if not ends:
            return result
        inputs = []
        for part, tensor in zip(_split(readings, widths), model.inputs, strict=True):
            cut = np.stack([part[end - window : end] for end in ends])
            inputs.append(_tensor(cut, tensor))
        # Eagerly, because a trace would have a fixed length: see `open_signature`.
        outputs = keras.tree.flatten(model(_as_model_takes(inputs, model), training=False))
        rows = np.concatenate([np.asarray(y).reshape(len(ends), -1) for y in outputs], axis=1)
        result[np.array(ends) - 1] = rows
        return result

    return run


def window_ends(steps: int, window: int, hop: int) -> list[int]:
    """How many readings have been taken each time that a window runs."""
    return list(range(window, steps + 1, hop))


def _width(tensor: Any) -> int:
    return int(tensor.shape[2]) if len(tensor.shape) > 2 else 1


def _split(readings: NDArray[Any], widths: list[int]) -> list[NDArray[Any]]:
    return np.split(readings, np.cumsum(widths)[:-1], axis=1)


def _dtype(tensor: Any) -> str:
    return str(keras.backend.standardize_dtype(tensor.dtype))


def _tensor(part: NDArray[Any], like: Any) -> Any:
    """Readings (..., steps, channels) as the model's input, tokens without the last axis."""
    return tf.constant(part[..., 0] if len(like.shape) == 2 else part, _dtype(like))


def _as_model_takes(inputs: Sequence[Any], model: Any) -> Any:
    if isinstance(model, keras.Sequential):  # which knows of no structure before it was called
        return inputs[0]
    return keras.tree.pack_sequence_as(model.input, list(inputs))


def _side_by_side(outputs: Any) -> Any:
    return tf.concat(keras.tree.flatten(outputs), axis=-1)
