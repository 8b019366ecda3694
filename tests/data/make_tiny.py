"""Makes `tiny*.tflite`, the artifacts that the device-side tests use.

They are small, and those tests need no TensorFlow. Run it again after a change of the artifact's
schema: python tests/data/make_tiny.py [FOLDER]

- `tiny` (int8) and `tiny_float32` forecast two sines by one and the same LSTM;
- `tiny_float` (int8-float, scaling in the graph) forecasts them by a wider one, whose products are
  large enough to be done in int8;
- `tiny_ahead` forecasts the second of them three readings ahead;
- `tiny_window` forecasts them from windows of eight readings, at every third one;
- `tiny_again` gives windows of eight readings back, at every second one;
- `tiny_ports` has two inputs and two outputs;
- `tiny_tokens` reads tokens.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(SOURCE_DATE_EPOCH="1767225600", TF_CPP_MIN_LOG_LEVEL="3")

import keras
import numpy as np
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.recording import Recording
from edgelstm_quantize import quantize

HERE = Path(__file__).parent
SCALING = {"axis": -1, "mean": [20.0, -5.0], "variance": [4.5, 0.5]}
WEEKLY = {"false_alarms_per_day": 1 / 7}
layers = keras.layers


def sines(readings: int) -> Recording:
    """Two noisy sines in physical units: 20 +- 3 and -5 +- 1."""
    t = np.arange(readings, dtype=np.float64)
    rng = np.random.default_rng(0)
    waves = np.stack([np.sin(t / 8), np.sin(t / 5 + 1)], axis=1) + rng.normal(0, 0.1, (readings, 2))
    return Recording("sines", ("flow", "level"), t * 60.0, waves * [3, 1] + [20, -5], 60.0)


def cut(values: NDArray[Any], length: int, every: int) -> NDArray[Any]:
    """Windows of a series, (windows, length, ...)."""
    return np.stack([values[i : i + length] for i in range(0, len(values) - length + 1, every)])


def forecaster(recording: Recording, units: int) -> keras.Model:
    """The next reading from all before it."""
    x = keras.Input((None, 2))
    z = layers.Normalization(**SCALING)(x)
    y = layers.Dense(2)(layers.LSTM(units, return_sequences=True)(z))
    model = keras.Model(x, layers.Normalization(**SCALING, invert=True)(y), name="tiny")
    model.compile(keras.optimizers.Adam(0.02), "mse")
    windows = cut(recording.values[:800].astype(np.float32), 101, 50)
    model.fit(windows[:, :-1], windows[:, 1:], epochs=150, verbose=0)
    return model


def window_forecaster(recording: Recording) -> keras.Model:
    """The next reading from the last eight, read both ways."""
    x = keras.Input((8, 2))
    z = layers.Normalization(**SCALING)(x)
    y = layers.Dense(2)(layers.Bidirectional(layers.SimpleRNN(4))(z))
    model = keras.Model(x, layers.Normalization(**SCALING, invert=True)(y), name="tiny_window")
    model.compile(keras.optimizers.Adam(0.02), "mse")
    windows = cut(recording.values[:800].astype(np.float32), 9, 1)
    model.fit(windows[:, :-1], windows[:, -1], epochs=40, verbose=0)
    return model


def far_forecaster(recording: Recording) -> keras.Model:
    """The second sine three readings ahead."""
    x = keras.Input((None, 2))
    z = layers.Normalization(**SCALING)(x)
    y = layers.Dense(1)(layers.LSTM(8, return_sequences=True)(z))
    invert = layers.Normalization(axis=-1, mean=[-5.0], variance=[0.5], invert=True)
    model = keras.Model(x, invert(y), name="tiny_ahead")
    model.compile(keras.optimizers.Adam(0.02), "mse")
    windows = cut(recording.values[:800].astype(np.float32), 103, 50)
    model.fit(windows[:, :-3], windows[:, 3:, 1:], epochs=150, verbose=0)
    return model


def autoencoder(recording: Recording) -> keras.Model:
    """A window of eight readings through four numbers."""
    x = keras.Input((8, 2))
    z = layers.Normalization(**SCALING)(x)
    h = layers.RepeatVector(8)(layers.LSTM(4)(z))
    y = layers.Dense(2)(layers.LSTM(4, return_sequences=True)(h))
    model = keras.Model(x, layers.Normalization(**SCALING, invert=True)(y), name="tiny_again")
    model.compile(keras.optimizers.Adam(0.02), "mse")
    windows = cut(recording.values[:800].astype(np.float32), 8, 1)
    model.fit(windows, windows, epochs=40, verbose=0)
    return model


def two_ports(recording: Recording) -> keras.Model:
    """From `vibration` (both sines) and `load` (their sum): the next load, and which is higher."""
    vibration, load = keras.Input((None, 2), name="vibration"), keras.Input((None, 1), name="load")
    z = layers.Concatenate()(
        [
            layers.Normalization(**SCALING)(vibration),
            layers.Normalization(axis=-1, mean=[15.0], variance=[5.0])(load),
        ]
    )
    h = layers.GRU(8, return_sequences=True)(z)
    forecast = layers.Normalization(axis=-1, mean=[15.0], variance=[5.0], invert=True)
    outputs = {
        "higher": layers.Dense(2, activation="softmax")(h),
        "next_load": forecast(layers.Dense(1)(h)),
    }
    model = keras.Model([vibration, load], outputs, name="tiny_ports")
    model.compile(
        keras.optimizers.Adam(0.02),
        {"higher": "sparse_categorical_crossentropy", "next_load": "mse"},
    )
    values = cut(recording.values[:800].astype(np.float32), 101, 50)
    total = values.sum(axis=2, keepdims=True)
    higher = ((values[..., 0] - 20) / 3 > values[..., 1] + 5).astype(np.int32)
    model.fit(
        [values[:, :-1], total[:, :-1]],
        {"higher": higher[:, :-1, None], "next_load": total[:, 1:]},
        epochs=100,
        verbose=0,
    )
    return model


def token_counter(tokens: NDArray[np.int32]) -> keras.Model:
    """How likely each of five tokens comes next."""
    x = keras.Input((None,), dtype="int32", name="token")
    h = layers.LSTM(8, return_sequences=True)(layers.Embedding(5, 4)(x))
    model = keras.Model(x, layers.Dense(5, activation="softmax")(h), name="tiny_tokens")
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    windows = cut(tokens[:800], 101, 50)
    model.fit(windows[:, :-1], windows[:, 1:, None], epochs=100, verbose=0)
    return model


def make_forecasters() -> dict[str, Artifact]:
    recording = sines(900)
    model, wide = forecaster(recording, 8), forecaster(recording, 32)
    return {
        "tiny": quantize(model, recording, recipe="int8", **WEEKLY),
        "tiny_float32": quantize(model, recording, recipe="float32", **WEEKLY),
        "tiny_float": quantize(wide, recording, recipe="int8-float", name="tiny_float", **WEEKLY),
    }


def make_window() -> dict[str, Artifact]:
    recording = sines(900)
    model = window_forecaster(recording)
    options: dict[str, Any] = {"recipe": "int8", "mode": "window", "window": 8, "hop": 3}
    return {"tiny_window": quantize(model, recording, **options, **WEEKLY)}


def make_ahead() -> dict[str, Artifact]:
    recording = sines(900)
    options: dict[str, Any] = {"recipe": "int8", "horizon": 3, "targets": ["level"]}
    return {"tiny_ahead": quantize(far_forecaster(recording), recording, **options, **WEEKLY)}


def make_again() -> dict[str, Artifact]:
    recording = sines(900)
    options: dict[str, Any] = {"recipe": "int8", "mode": "window", "hop": 2}
    model = autoencoder(recording)
    return {"tiny_again": quantize(model, recording, task="reconstruction", **options, **WEEKLY)}


def make_ports() -> dict[str, Artifact]:
    values = sines(900).values
    data = {"vibration": values, "load": values.sum(axis=1, keepdims=True)}
    return {"tiny_ports": quantize(two_ports(sines(900)), data, recipe="int8")}


def make_tokens() -> dict[str, Artifact]:
    rng = np.random.default_rng(0)
    # A token is followed by the one after it, or now and then by any.
    jumps = np.where(rng.random(900) < 0.2, rng.integers(0, 5, 900), 1)
    tokens = (np.cumsum(jumps) % 5).astype(np.int32)
    return {"tiny_tokens": quantize(token_counter(tokens), tokens[:, None], recipe="int8")}


MAKERS: list[Callable[[], dict[str, Artifact]]] = [
    make_forecasters,
    make_window,
    make_ports,
    make_tokens,
    make_ahead,
    make_again,
]


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for make in MAKERS:
        keras.utils.set_random_seed(1)
        for name, artifact in make().items():
            artifact.write(out / f"{name}.tflite", force=True)
            print(name, (out / f"{name}.tflite").stat().st_size, artifact.manifest.fidelity)  # noqa: T201


if __name__ == "__main__":
    main()
