"""Makes `tiny.tflite` and `tiny_float32.tflite`, the artifacts that the device-side tests use.

A forecaster of two sines by an LSTM of 8 units, so that those tests need no TensorFlow. Run it
again after a change of the artifact's schema: python tests/data/make_tiny.py
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.update(SOURCE_DATE_EPOCH="1767225600", TF_CPP_MIN_LOG_LEVEL="3")

import keras
import numpy as np

from edgelstm.recording import Recording
from edgelstm_quantize import quantize

HERE = Path(__file__).parent


def sines(readings: int) -> Recording:
    """Two noisy sines in physical units: 20 +- 3 and -5 +- 1."""
    t = np.arange(readings, dtype=np.float64)
    rng = np.random.default_rng(0)
    waves = np.stack([np.sin(t / 8), np.sin(t / 5 + 1)], axis=1) + rng.normal(0, 0.1, (readings, 2))
    return Recording("sines", ("flow", "level"), t * 60.0, waves * [3, 1] + [20, -5], 60.0)


def main() -> None:
    keras.utils.set_random_seed(1)
    recording = sines(900)
    scaling = {"axis": -1, "mean": [20.0, -5.0], "variance": [4.5, 0.5]}
    x = keras.Input((None, 2))
    z = keras.layers.Normalization(**scaling)(x)
    y = keras.layers.Dense(2)(keras.layers.LSTM(8, return_sequences=True)(z))
    model = keras.Model(x, keras.layers.Normalization(**scaling, invert=True)(y), name="tiny")
    model.compile(keras.optimizers.Adam(0.02), "mse")
    values = recording.values.astype(np.float32)
    inputs = np.stack([values[i : i + 100] for i in range(0, 700, 50)])
    targets = np.stack([values[i + 1 : i + 101] for i in range(0, 700, 50)])
    model.fit(inputs, targets, epochs=150, verbose=0)
    for recipe, file in (("int8", "tiny.tflite"), ("float32", "tiny_float32.tflite")):
        artifact = quantize(model, recording, recipe=recipe)
        artifact.write(HERE / file, force=True)
        print(file, artifact.manifest.fidelity)  # noqa: T201


if __name__ == "__main__":
    main()
