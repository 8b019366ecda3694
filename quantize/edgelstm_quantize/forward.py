"""Runs Keras models over whole recordings, fast and right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    """A function from readings, (steps, channels), to what a model gives, (steps, targets)."""
    # Eagerly it would take seconds.
    traced = tf.function(
        lambda x: model(x, training=False),
        input_signature=[open_signature(1, int(model.inputs[0].shape[-1]))],
    )

    def run(readings: NDArray[Any]) -> NDArray[np.float64]:
        y: NDArray[Any] = traced(tf.constant(readings[None], tf.float32)).numpy()[0]
        return y.astype(np.float64)

    return run
