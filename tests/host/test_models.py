"""Models that stream: the step graph against the Keras model, and int8 against both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from edgelstm.errors import ConversionError
from edgelstm.recording import Recording
from edgelstm.session import Session
from edgelstm_quantize import quantize
from edgelstm_quantize.forward import forward

layers = keras.layers
STEPS = 1000
MEAN, STD = [20.0, -5.0, 1000.0], [2.0, 1.0, 50.0]


class PeepholeCell(keras.layers.Layer):  # type: ignore[misc]
    """An LSTM cell whose gates also see the cell state: a custom cell as users write them."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.units = units
        self.state_size = [units, units]
        self.output_size = units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], 4 * self.units))
        self.recurrent = self.add_weight(shape=(self.units, 4 * self.units))
        self.peephole = self.add_weight(shape=(self.units,))
        self.bias = self.add_weight(shape=(4 * self.units,), initializer="zeros")

    def call(self, x: Any, states: Any, training: bool = False) -> Any:  # noqa: ARG002  # Keras passes it
        h, c = states
        gates = keras.ops.matmul(x, self.kernel) + keras.ops.matmul(h, self.recurrent) + self.bias
        i, f, g, o = keras.ops.split(gates, 4, axis=-1)
        c = keras.ops.sigmoid(f + self.peephole * c) * c + keras.ops.sigmoid(i) * keras.ops.tanh(g)
        h = keras.ops.sigmoid(o) * keras.ops.tanh(c)
        return h, [h, c]


def _lstm(x: Any) -> Any:
    return layers.LSTM(16, return_sequences=True)(x)


def _stacked(x: Any) -> Any:
    x = layers.Dropout(0.2)(_lstm(x))
    return layers.LSTM(12, return_sequences=True, use_bias=False)(x)


def _residual(x: Any) -> Any:
    h = layers.Dense(16, activation="tanh")(x)
    return layers.Concatenate()([layers.Add()([h, _lstm(h)]), x])


def _convolution(x: Any) -> Any:
    skip = layers.Conv1D(8, 5, padding="causal", activation="relu")(x)
    return layers.Add()([skip, layers.LSTM(8, return_sequences=True)(skip)])


MODELS: dict[str, Callable[[Any], Any]] = {
    "lstm": _lstm,
    "stacked": _stacked,
    "gru": lambda x: layers.GRU(16, return_sequences=True)(x),
    "gru_reset_before": lambda x: layers.GRU(16, return_sequences=True, reset_after=False)(x),
    "simple_rnn": lambda x: layers.SimpleRNN(16, return_sequences=True)(x),
    "cells": lambda x: layers.RNN([layers.LSTMCell(8), layers.GRUCell(8)], return_sequences=True)(
        x
    ),
    "custom_cell": lambda x: layers.RNN(PeepholeCell(8), return_sequences=True)(x),
    "residual": _residual,
    "convolution": _convolution,
    "batch_normalization": lambda x: layers.BatchNormalization()(_lstm(x)),
}


def build(kind: str) -> keras.Model:
    """A model with random weights that takes and gives physical units."""
    keras.utils.set_random_seed(3)
    scaling: dict[str, Any] = {"axis": -1, "mean": MEAN, "variance": np.square(STD).tolist()}
    x = keras.Input((None, 3))
    z = layers.Normalization(**scaling)(x)
    y = layers.Dense(3)(MODELS[kind](z))
    return keras.Model(x, layers.Normalization(**scaling, invert=True)(y), name=kind)


def run(model: keras.Model, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What the Keras model gives for the whole sequence, normalised."""
    return (forward(model)(values) - MEAN) / STD


@pytest.mark.parametrize("kind", MODELS)
def test_float_steps_give_what_the_keras_model_gives(kind: str, waves: Recording) -> None:
    model = build(kind)
    artifact = quantize(model, waves, recipe="float32")
    with Session(artifact) as session:
        stepped = np.array([session.step(x) for x in waves.values[:STEPS]])
    error = np.abs((stepped - MEAN) / STD - run(model, waves.values[:STEPS]))
    # Keras computes in physical units in float32: 1000 has a resolution of 6e-5.
    assert error.max() < 2e-5


@pytest.mark.parametrize("kind", MODELS)
def test_int8_steps_stay_close_to_the_keras_model(kind: str, waves: Recording) -> None:
    model = build(kind)
    artifact = quantize(model, waves, recipe="int8")
    manifest = artifact.manifest
    assert manifest.input.dtype == manifest.output.dtype == "int8"
    assert {s.input.dtype for s in manifest.states} == {"int8"}
    assert all(
        (s.input.scale, s.input.zero_point) == (s.output.scale, s.output.zero_point)
        for s in manifest.states
    )
    with Session(artifact) as session:
        stepped = np.array([session.step(x) for x in waves.values[:STEPS]])
        assert session.verify() is None
    reference = run(model, waves.values[:STEPS])
    error = np.abs((stepped - MEAN) / STD - reference)
    assert error.mean() < 0.05 * np.sqrt(np.mean(reference**2))
    # What the manifest says (in standard deviations) is what is measured here, over other steps.
    assert error.mean() == pytest.approx(manifest.fidelity.relative_error, rel=0.5)
    # No drift: the last quarter is no worse than the first.
    assert error[-250:].mean() < 2 * error[:250].mean()


def test_layer_normalization_streams_in_float_and_is_refused_in_int8(waves: Recording) -> None:
    z = Recording("z", waves.channels, waves.timestamps, (waves.values - MEAN) / STD, 10.0)
    x = keras.Input((None, 3))
    model = keras.Model(x, layers.LayerNormalization()(_lstm(x)))
    assert quantize(model, z, recipe="float32", horizon=0).manifest.fidelity.relative_error < 1e-5
    with pytest.raises(ConversionError, match="stays in float"):
        quantize(model, z, horizon=0)


def test_a_graph_without_its_states_is_far_off(waves: Recording) -> None:
    """The comparison above would notice states that are lost between steps."""
    model = build("lstm")
    reference = run(model, waves.values[:300])
    with Session(quantize(model, waves, recipe="float32")) as session:
        stepped = []
        for x in waves.values[:300]:
            session.reset()
            stepped.append(session.step(x))
    error = np.abs((np.array(stepped) - MEAN) / STD - reference)
    assert error.mean() > 0.3 * np.sqrt(np.mean(reference**2))


def test_sequential_models_and_h5_files_convert(waves: Recording, tmp_path: Any) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((50, 3)), layers.GRU(8, return_sequences=True), layers.Dense(3)]
    )
    scaled = Recording(
        "scaled", waves.channels, waves.timestamps, (waves.values - MEAN) / STD, 10.0
    )
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "model.h5")
    for name in ("model.keras", "model.h5"):
        artifact = quantize(tmp_path / name, scaled)
        with Session(artifact) as session:
            stepped = np.array([session.step(x) for x in scaled.values[:50]])
        reference = np.asarray(model(scaled.values[None, :50].astype(np.float32)))[0]
        assert np.abs(stepped - reference).mean() < 0.05 * np.abs(reference).mean()


@pytest.mark.parametrize("option", ["unroll", "stateful"])
def test_layers_tied_to_a_length_or_a_batch_stream_as_well(option: str, waves: Recording) -> None:
    keras.utils.set_random_seed(0)
    x = keras.Input(batch_shape=(4, 20, 3))
    scaling: dict[str, Any] = {"axis": -1, "mean": MEAN, "variance": np.square(STD).tolist()}
    z = layers.Normalization(**scaling)(x)
    y = layers.Dense(3)(layers.LSTM(8, return_sequences=True, **{option: True})(z))
    model = keras.Model(x, y)
    with Session(quantize(model, waves, recipe="float32", horizon=0)) as session:
        stepped = np.array([session.step(row) for row in waves.values[:20]])
    batch = np.repeat(waves.values[None, :20], 4, axis=0).astype(np.float32)
    reference = np.asarray(model(batch, training=False))[2]
    assert np.abs(stepped - reference).max() < 2e-5


def test_the_same_input_gives_the_same_bytes(
    waves: Recording, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    build("lstm").save(tmp_path / "lstm.keras")
    for name in ("a", "b"):
        quantize(tmp_path / "lstm.keras", waves).write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
