"""Models that stream: every recipe, stepped statefully, against the Keras model itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from stepping import (
    STEPS,
    candidates_of,
    keras_runner,
    make,
    relative_error,
    roughen,
    run_keras,
    sequences,
    signals,
)

from edgelstm.errors import ConversionError
from edgelstm.session import Session
from edgelstm_quantize import quantize
from edgelstm_quantize.cells import PeepholeLSTMCell

layers, ops = keras.layers, keras.ops
DATA = signals()


class LeakyCell(keras.layers.Layer):  # type: ignore[misc]
    """A cell of the user's own: two states, one of which is a running mean of the inputs."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.units = units
        self.state_size = [units, 3]
        self.output_size = units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight((shape[-1], self.units), name="kernel")
        self.memory = self.add_weight((3, self.units), name="memory")
        self.leak = self.add_weight((self.units,), initializer="zeros", name="leak")

    def call(self, x: Any, states: Any) -> Any:
        h, mean = states
        keep = ops.sigmoid(self.leak)
        mean = 0.9 * mean + 0.1 * x
        new = ops.tanh(ops.matmul(x, self.kernel) + ops.matmul(mean, self.memory))
        h = keep * h + (1.0 - keep) * new
        return h, [h, mean]


def lstm(x: Any, units: int = 8, **options: Any) -> Any:
    return layers.LSTM(units, return_sequences=True, **options)(x)


def gru(x: Any, units: int = 8, **options: Any) -> Any:
    return layers.GRU(units, return_sequences=True, **options)(x)


def rnn(x: Any, cell: Any) -> Any:
    return layers.RNN(cell, return_sequences=True)(x)


def _dropouts(x: Any) -> Any:
    x = layers.GaussianNoise(0.1)(layers.Dropout(0.2)(lstm(x)))
    x = layers.AlphaDropout(0.2)(layers.GaussianDropout(0.2)(layers.SpatialDropout1D(0.2)(x)))
    return layers.Identity()(layers.ActivityRegularization(0.1)(lstm(x, 6, dropout=0.3)))


def _merges(x: Any) -> Any:
    h = layers.Dense(6, activation="tanh")(x)
    a, b = lstm(h, 6), gru(h, 6)
    parts = [
        layers.Add()([a, h]),
        layers.Subtract()([a, b]),
        layers.Multiply()([a, b]),
        layers.Average()([a, b, h]),
        layers.Maximum()([a, b]),
        layers.Minimum()([a, h]),
        x,
    ]
    return layers.Concatenate()(parts)


def _time_distributed(x: Any) -> Any:
    inner = [layers.Dense(6, activation="tanh"), layers.Dense(5)]
    x = lstm(layers.TimeDistributed(layers.Dense(8, activation="tanh"))(x))
    return layers.TimeDistributed(keras.Sequential([keras.Input((8,)), *inner]))(x)


def _without_time_distributed(x: Any) -> Any:
    x = lstm(layers.Dense(8, activation="tanh")(x))
    return layers.Dense(5)(layers.Dense(6, activation="tanh")(x))


def _normalised(x: Any) -> Any:
    z = layers.Normalization(axis=-1, mean=[0.1, -0.2, 0.3], variance=[0.5, 0.4, 0.6])(x)
    y = layers.BatchNormalization()(lstm(layers.BatchNormalization(scale=False)(z)))
    return layers.Rescaling(2.0, offset=-0.5)(y)


def _activations(x: Any) -> Any:
    z = layers.Dense(6)(x)
    z = layers.Concatenate()(
        [
            layers.ReLU(max_value=0.6)(z),
            layers.ReLU(negative_slope=0.1)(z),
            layers.LeakyReLU(0.2)(z),
            layers.PReLU(shared_axes=[1])(z),
            layers.Activation("relu6")(z),
            layers.Activation("silu")(z),
            layers.Activation("sigmoid")(z),
        ]
    )
    return lstm(z)


def _convolutions(x: Any) -> Any:
    z = layers.Conv1D(8, 5, padding="causal", activation="relu")(x)
    z = layers.Conv1D(8, 3, padding="causal", dilation_rate=4)(z)
    z = layers.Conv1D(8, 3, padding="causal", groups=4, use_bias=False)(z)
    return layers.Add()([z, lstm(layers.Conv1D(4, 1)(z))])


def _padded_convolutions(x: Any) -> Any:
    z = layers.DepthwiseConv1D(4, depth_multiplier=2)(layers.ZeroPadding1D((3, 0))(x))
    z = layers.SeparableConv1D(5, 3, activation="tanh")(layers.ZeroPadding1D((2, 0))(z))
    z = layers.Conv1D(4, 2, dilation_rate=3)(layers.ZeroPadding1D((3, 0))(z))
    return lstm(z)


def _nested(x: Any) -> Any:
    a = keras.Input((None, 3))
    z = layers.Dense(4)(a)
    deep = keras.Sequential([keras.Input((None, 4)), layers.GRU(5, return_sequences=True)])
    inner = keras.Model(a, [layers.Add()([z, layers.Dense(4)(deep(z))]), z], name="inner")
    y, z = inner(layers.Dense(3)(x))
    return lstm(layers.Concatenate()([y, z]))


def _operations(x: Any) -> Any:
    z = ops.clip(ops.multiply(x[..., :2], 0.7) + x[:, :, 1:], -0.8, 0.8)
    y = lstm(ops.subtract(z, 0.1) * z)
    y = ops.maximum(ops.absolute(y), ops.tanh(-y)) + ops.relu(y) + ops.minimum(y, 0.05)
    return ops.concatenate([ops.sigmoid(y), ops.square(y) / 2.0, x], axis=-1)


def _float_only(x: Any) -> Any:
    z = layers.ELU()(layers.LayerNormalization()(layers.Dense(6)(x)))
    z = layers.LayerNormalization(center=False)(lstm(z))
    z = layers.UnitNormalization()(layers.RMSNormalization()(layers.Dense(4)(z)))
    return layers.Softmax()(ops.exp(z) + ops.square(z))


@dataclass(frozen=True)
class Kind:
    """A model, and how far from it int8-float and int8 may be (None: int8 is not for it)."""

    body: Callable[[Any], Any]
    dynamic: float = 0.02
    int8: float | None = 0.05


KINDS: dict[str, Kind] = {
    "lstm": Kind(lstm),
    "stacked, dropouts": Kind(_dropouts),
    "gru": Kind(gru),
    "gru, reset before": Kind(lambda x: gru(x, reset_after=False)),
    "without bias": Kind(
        lambda x: gru(
            gru(lstm(x, use_bias=False), use_bias=False), reset_after=False, use_bias=False
        )
    ),
    "simple rnn": Kind(
        lambda x: layers.SimpleRNN(
            8, return_sequences=True, kernel_initializer="orthogonal", use_bias=False
        )(layers.SimpleRNN(8, return_sequences=True)(x))
    ),
    "peephole": Kind(lambda x: rnn(x, PeepholeLSTMCell(8))),
    "list of cells": Kind(
        lambda x: rnn(x, [layers.LSTMCell(6), PeepholeLSTMCell(5), layers.GRUCell(6)])
    ),
    "own cell": Kind(lambda x: rnn(x, LeakyCell(8))),
    "hard sigmoid, softsign": Kind(
        lambda x: lstm(x, activation="softsign", recurrent_activation="hard_sigmoid")
    ),
    "relu, leaky relu": Kind(
        lambda x: layers.SimpleRNN(6, return_sequences=True, activation="leaky_relu")(
            gru(x, activation="relu", kernel_initializer="orthogonal")
        )
    ),
    "merges, residual": Kind(_merges),
    "time distributed": Kind(_time_distributed),
    "normalisations": Kind(_normalised),
    "activation layers": Kind(_activations),
    "causal convolutions": Kind(_convolutions),
    "padded convolutions": Kind(_padded_convolutions),
    "nested": Kind(_nested),
    "operations": Kind(_operations),
    "float only": Kind(_float_only, int8=None),
}


@pytest.mark.parametrize("name", KINDS)
def test_steps_give_what_the_keras_model_gives(name: str) -> None:
    kind = KINDS[name]
    model = sequences(lambda x: layers.Dense(2)(kind.body(x)))
    twin = model
    if name == "time distributed":  # which Keras computes wrongly where the length is left open
        twin = sequences(lambda x: layers.Dense(2)(_without_time_distributed(x)))
        twin.set_weights(model.get_weights())
    reference = run_keras(twin, DATA)
    assert reference.std(axis=0).min() > 0.01  # so that the comparison says something
    candidates = candidates_of(model, DATA)
    exact, y = make(candidates, "float32")
    assert y.shape == (STEPS, 2)
    assert np.abs(y - reference).max() < 2e-5 * max(1, np.abs(reference).max())
    assert exact.artifact.manifest.states
    _, y = make(candidates, "int8-float")
    assert relative_error(y, reference) < kind.dynamic
    if kind.int8 is None:
        with pytest.raises(ConversionError, match="int8-float"):
            make(candidates, "int8")
        return
    made, y = make(candidates, "int8")
    assert relative_error(y, reference) < kind.int8
    # No drift: the last quarter is no worse than the first.
    error = np.abs(y - reference)
    assert error[-STEPS // 4 :].mean() < 2 * error[: STEPS // 4].mean()
    manifest = made.artifact.manifest
    assert {port.tensor.dtype for port in manifest.inputs + manifest.outputs} == {"int8"}
    assert {pair.input.dtype for pair in manifest.states} == {"int8"}


def test_a_graph_without_its_states_is_far_off() -> None:
    """The comparison above would notice states that are lost between steps."""
    model = sequences(lambda x: layers.Dense(2)(lstm(x)))
    reference = run_keras(model, DATA[:300])
    with Session(quantize(model, DATA, recipe="float32")) as session:
        stepped = []
        for x in DATA[:300]:
            session.reset()
            stepped.append(session.step(x))
    assert relative_error(np.array(stepped), reference) > 0.05


def test_a_classifier_answers_every_step() -> None:
    def body(x: Any) -> Any:
        last = layers.BatchNormalization()(layers.GRU(6)(lstm(x)))
        hidden = layers.Dropout(0.5)(layers.PReLU()(layers.Dense(5)(last)))
        return layers.Dense(4, activation="softmax")(hidden)

    model = sequences(body)
    every_step = keras.Sequential([keras.Input((None, 3)), *_sequence_layers(model)])
    answers = run_keras(every_step, DATA)
    answer = keras_runner(model, DATA)
    candidates = candidates_of(model, DATA)
    for recipe, limit in (("float32", 1e-6), ("int8-float", 0.02), ("int8", 0.05)):
        made, y = make(candidates, recipe)
        assert len(made.artifact.manifest.targets) == 4
        assert relative_error(y, answers) < limit
        for t in (0, 1, 7, 100, STEPS - 1):
            assert np.abs(y[t] - answer(DATA[: t + 1])).max() < limit * 4


def _sequence_layers(model: Any) -> list[Any]:
    """The layers of a classifier, each with its weights, the last recurrent one for every step."""
    made = []
    for layer in model.layers[1:]:
        config = layer.get_config()
        if "return_sequences" in config:
            config["return_sequences"] = True
        if isinstance(layer, layers.PReLU):
            config["shared_axes"] = [1]
        made.append(type(layer).from_config(config))
    built = keras.Sequential([keras.Input((None, 3)), *made])
    pairs = zip(model.get_weights(), built.weights, strict=True)
    built.set_weights([value.reshape(weight.shape) for value, weight in pairs])
    return made


def _cell_pair(x: Any, **options: Any) -> Any:
    y = layers.LSTM(6, return_sequences=True, **options)(x)
    return layers.Dense(2)(layers.GRU(5, return_sequences=True, **options)(y))


@pytest.mark.parametrize("option", ["unroll", "stateful"])
def test_layers_tied_to_a_length_or_a_batch_stream_as_well(option: str) -> None:
    keras.utils.set_random_seed(3)
    batch, length = (1, 20) if option == "stateful" else (None, 20)
    x = keras.Input(batch_shape=(batch, length, 3))
    model = roughen(keras.Model(x, _cell_pair(x, **{option: True})))
    y = keras.Input((None, 3))
    free = keras.Model(y, _cell_pair(y))
    free.set_weights(model.get_weights())
    reference = run_keras(free, DATA)
    if option == "stateful":  # it carries its states on by itself, from call to call
        parts = [model(part[None]) for part in np.split(DATA[:100], 5)]
        assert np.abs(np.concatenate(parts, axis=1)[0] - reference[:100]).max() < 1e-6
    candidates = candidates_of(model, DATA)
    assert np.abs(make(candidates, "float32")[1] - reference).max() < 2e-5
    assert relative_error(make(candidates, "int8")[1], reference) < 0.05


def test_tokens_are_embedded() -> None:
    keras.utils.set_random_seed(3)
    x = keras.Input((None,), dtype="int32")
    body = layers.LSTM(6, return_sequences=True)(layers.Embedding(9, 5)(x))
    model = roughen(keras.Model(x, layers.Dense(2)(body)))
    tokens = np.random.default_rng(0).integers(0, 9, STEPS)
    reference = run_keras(model, tokens.astype(np.int32))
    candidates = candidates_of(model, tokens)
    for recipe, limit in (("float32", 1e-6), ("int8-float", 0.02), ("int8", 0.05)):
        made, y = make(candidates, recipe)
        (port,) = made.artifact.manifest.inputs
        assert port.tensor.dtype == "int32"
        assert port.channels[0].tokens == 9
        assert relative_error(y, reference) < limit


def test_files_of_both_formats_give_the_model(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    gru_layer = layers.GRU(8, return_sequences=True)
    model = roughen(keras.Sequential([keras.Input((50, 3)), gru_layer, layers.Dense(3)]))
    reference = np.asarray(model(DATA[None, :50]))[0]
    for name in ("model.keras", "model.h5"):
        model.save(tmp_path / name)
        with Session(quantize(tmp_path / name, DATA, recipe="float32")) as session:
            stepped = np.array([session.step(x) for x in DATA[:50]])
        assert np.abs(stepped - reference).max() < 1e-6
