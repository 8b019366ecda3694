"""The legacy fused LSTM operation, as a peer to measure the step graph's speed against.

It is what `TFLiteConverter` made of a Keras 2 LSTM. Keras 3 models cannot be converted that way, so
this needs the package tf_keras, and nothing of a user's model but its sizes.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgelstm.errors import MissingDependencyError
from edgelstm_quantize.isolated import run_isolated
from edgelstm_quantize.progress import Progress, silent

_NEEDED = ("tensorflow", "tf_keras")
_SAMPLES = 100
_STEPS = 1  # of time in the graph: it is run once for each reading
_WEIGHT = 0.6  # weights reach so far: cell states too small make the operation compute nonsense


def fused_lstm(
    channels: int, units: tuple[int, ...], targets: int, *, on_progress: Progress = silent
) -> bytes:
    """LSTM layers and a Dense layer, random weights, as int8 UNIDIRECTIONAL_SEQUENCE_LSTM.

    It is made in a process of its own.

    Args:
        channels: values in a reading.
        units: of each LSTM layer.
        targets: outputs of the Dense layer.
        on_progress: called with the stage.

    Returns:
        A TFLite model that takes float32 (1, 1, channels), gives float32 (1, 1, targets), and
        keeps its states within.

    Raises:
        MissingDependencyError: TensorFlow or tf_keras is not installed.
        ConversionError: TensorFlow failed.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"The fused operation is made with {' and '.join(missing)}, on a machine that has "
            "TensorFlow; run: pip install 'edgelstm[quantize,peers]'"
        )
    return run_isolated(_make, channels, units, targets, on_progress=on_progress)


def _make(channels: int, units: tuple[int, ...], targets: int, *, on_progress: Progress) -> bytes:
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # read when TensorFlow is imported
    on_progress("loading TensorFlow", 0, 1)
    import tensorflow as tf

    keras: Any = importlib.import_module("tf_keras")  # no dependency of this package
    keras.utils.set_random_seed(0)
    weights = keras.initializers.RandomUniform(-_WEIGHT, _WEIGHT)
    inputs = keras.layers.Input(batch_shape=(1, _STEPS, channels))
    z = inputs
    for n in units:
        z = keras.layers.LSTM(
            n, return_sequences=True, kernel_initializer=weights, recurrent_initializer=weights
        )(z)
    model = keras.Model(inputs, keras.layers.Dense(targets)(z))
    rng = np.random.default_rng(0)

    def samples() -> Iterator[list[Any]]:
        for _ in range(_SAMPLES):
            yield [rng.normal(0, 3, (1, _STEPS, channels)).astype(np.float32)]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    on_progress("converting", 0, 1)
    return bytes(converter.convert())
