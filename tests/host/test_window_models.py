"""Models over windows: every recipe against the Keras model itself, window by window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from stepping import CHANNELS, candidates_of, make, relative_error, roughen, signals

from edgelstm.errors import ConversionError, ModelError, RecordingError
from edgelstm.session import Session
from edgelstm_quantize import quantize
from edgelstm_quantize.cells import PeepholeLSTMCell

layers = keras.layers
LENGTH = 6
DATA = signals(300)


def _both_ways(cell: Any, mode: str | None, *, sequences: bool = True, **options: Any) -> Any:
    return layers.Bidirectional(cell(4, return_sequences=sequences, **options), merge_mode=mode)


def _bidirectional(x: Any) -> Any:
    y = _both_ways(layers.LSTM, "concat")(x)
    return layers.Dense(2)(_both_ways(layers.GRU, "sum", sequences=False)(y))


def _bidirectional_other_modes(x: Any) -> Any:
    a = _both_ways(layers.GRU, "ave", reset_after=False)(x)
    b = _both_ways(layers.LSTM, "mul", stateful=False, unroll=True)(x)
    c, d = _both_ways(layers.SimpleRNN, None)(x)
    return layers.Dense(2)(layers.Add()([a, b, c, d]))


def _autoencoder(x: Any) -> Any:
    code = layers.LSTM(6)(x)
    y = layers.LSTM(6, return_sequences=True)(layers.RepeatVector(LENGTH)(code))
    return layers.TimeDistributed(layers.Dense(CHANNELS))(y)


def _pooled(x: Any) -> Any:
    y = layers.GRU(6, return_sequences=True)(x)
    pools = [layers.GlobalAveragePooling1D()(y), layers.GlobalMaxPooling1D()(y)]
    return layers.Dense(2)(layers.Concatenate()(pools))


def _convolved(x: Any) -> Any:
    y = layers.MaxPooling1D(2)(layers.Conv1D(4, 3, activation="relu", padding="same")(x))
    y = layers.Conv1D(5, 2, strides=2)(layers.LSTM(6, return_sequences=True)(y))
    y = layers.AveragePooling1D(2)(layers.ZeroPadding1D(1)(y))
    return layers.Dense(2)(layers.Flatten()(y))


def _backwards(x: Any) -> Any:
    y = layers.LSTM(5, return_sequences=True, go_backwards=True)(x)
    return layers.Dense(2)(layers.RNN(PeepholeLSTMCell(4), go_backwards=True)(y))


def _attention(x: Any) -> Any:
    y = layers.LSTM(6, return_sequences=True)(x)
    query = layers.Dense(6)(y)
    return layers.Dense(2)(layers.GlobalAveragePooling1D()(layers.Attention()([query, y])))


def _state_handed_on(x: Any) -> Any:
    _, h, c = layers.LSTM(5, return_state=True)(x)
    y = layers.LSTM(5, return_sequences=True)(x, initial_state=[h, c])
    return layers.Dense(2)(y[:, -1])


WINDOWED: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "bidirectional": (_bidirectional, True),
    "bidirectional, other modes": (_bidirectional_other_modes, True),
    "autoencoder": (_autoencoder, True),
    "pooled": (_pooled, True),
    "convolved": (_convolved, True),
    "backwards": (_backwards, True),
    "attention": (_attention, False),
    "state handed on": (_state_handed_on, True),
}


def build(body: Callable[[Any], Any], length: int | None = LENGTH) -> Any:
    keras.utils.set_random_seed(3)
    x = keras.Input((length, CHANNELS))
    return roughen(keras.Model(x, body(x)))


def run_windows(model: Any, data: Any, length: int = LENGTH, hop: int = 1) -> Any:
    """What the Keras model gives for every window, (windows, values)."""
    ends = range(length, len(data) + 1, hop)
    y = model(np.stack([data[end - length : end] for end in ends]), training=False)
    return np.asarray(y).reshape(len(ends), -1)


@pytest.mark.parametrize("name", WINDOWED)
def test_every_window_gives_what_the_keras_model_gives(name: str) -> None:
    body, integer = WINDOWED[name]
    model = build(body)
    reference = run_windows(model, DATA)
    assert reference.std(axis=0).min() > 0.005
    candidates = candidates_of(model, DATA, windows=True)
    made, y = make(candidates, "float32")
    assert (made.artifact.manifest.mode, made.artifact.manifest.window) == ("window", LENGTH)
    assert np.isnan(y[: LENGTH - 1]).all()
    assert np.abs(y[LENGTH - 1 :] - reference).max() < 1e-5
    assert relative_error(make(candidates, "int8-float")[1][LENGTH - 1 :], reference) < 0.02
    if integer:
        assert relative_error(make(candidates, "int8")[1][LENGTH - 1 :], reference) < 0.06


def test_a_hop_leaves_windows_out() -> None:
    model = build(_pooled)
    reference = run_windows(model, DATA, hop=3)
    artifact = quantize(model, DATA, recipe="float32", hop=3)
    assert (artifact.manifest.window, artifact.manifest.hop) == (LENGTH, 3)
    with Session(artifact) as session:
        given = [session.step(x) for x in DATA]
        assert session.verify() is None
    assert [y is not None for y in given[:12]] == [i in (5, 8, 11) for i in range(12)]
    y = np.array([y for y in given if y is not None])
    assert np.abs(y - reference).max() < 1e-5


def test_a_model_of_any_length_takes_the_window_that_is_asked_for() -> None:
    model = build(_bidirectional, None)
    with pytest.raises(ModelError, match="--window N"):
        quantize(model, DATA)
    artifact = quantize(model, DATA, window=5, recipe="float32")
    assert artifact.manifest.window == 5
    with Session(artifact) as session:
        given = [session.step(x) for x in DATA[:100]]
    y = np.array(given[4:])
    assert np.abs(y - run_windows(model, DATA[:100], 5)).max() < 1e-5


def test_another_length_than_the_models_own() -> None:
    longer = quantize(build(_pooled), DATA, window=12, recipe="float32").manifest
    assert longer.window == 12
    with pytest.raises(ModelError, match="does not take a window of 20 readings"):
        quantize(build(_convolved), DATA, window=20)


def test_a_stateful_bidirectional_layer_keeps_its_weights() -> None:
    """Keras makes a new layer, with new weights, of what it is given as the one to run forward."""
    keras.utils.set_random_seed(3)
    x = keras.Input(batch_shape=(1, LENGTH, CHANNELS))
    y = layers.Dense(2)(_both_ways(layers.LSTM, "concat", stateful=True)(x))
    model = roughen(keras.Model(x, y))
    free = build(lambda x: layers.Dense(2)(_both_ways(layers.LSTM, "concat")(x)))
    free.set_weights(model.get_weights())
    with Session(quantize(model, DATA, recipe="float32")) as session:
        y = np.array([y for y in map(session.step, DATA[:50]) if y is not None])
    assert np.abs(y - run_windows(free, DATA[:50])).max() < 1e-5


def test_encoder_and_decoder_have_an_input_each() -> None:
    keras.utils.set_random_seed(3)
    past, known = keras.Input((6, 2), name="past"), keras.Input((6, 1), name="known")
    _, h, c = layers.LSTM(5, return_state=True)(past)
    decoded = layers.LSTM(5, return_sequences=True)(known, initial_state=[h, c])
    _, g = layers.GRU(4, return_state=True)(past)
    other = layers.GRU(4, return_sequences=True)(known, initial_state=g)
    y = layers.Dense(1, name="future")(layers.Concatenate()([decoded, other]))
    model = roughen(keras.Model([past, known], y))
    data = {"past": DATA[:, :2], "known": DATA[:, 2:]}
    ends = range(6, len(DATA) + 1)
    cut = [np.stack([part[end - 6 : end] for end in ends]) for part in data.values()]
    reference = np.asarray(model(cut))[..., 0]
    candidates = candidates_of(model, data, windows=True)
    for recipe, limit in (("float32", 1e-6), ("int8-float", 0.02), ("int8", 0.06)):
        made, y = make(candidates, recipe)
        ports = made.artifact.manifest.inputs
        assert [port.tensor.name for port in ports] == ["past", "known"]
        assert [t.name for t in made.artifact.manifest.targets] == [f"output_{i}" for i in range(6)]
        assert relative_error(y[5:], reference) < limit


def test_windows_of_tokens() -> None:
    keras.utils.set_random_seed(3)
    x = keras.Input((6,), dtype="int32")
    y = _both_ways(layers.LSTM, "concat", sequences=False)(layers.Embedding(7, 4)(x))
    model = roughen(keras.Model(x, layers.Dense(3, activation="softmax")(y)))
    tokens = np.random.default_rng(0).integers(0, 7, 300)
    windows = np.stack([tokens[end - 6 : end] for end in range(6, 301)])
    candidates = candidates_of(model, tokens, windows=True)
    for recipe, limit in (("float32", 1e-6), ("int8-float", 0.02), ("int8", 0.06)):
        made, stepped = make(candidates, recipe)
        assert made.artifact.manifest.inputs[0].tensor.shape == (1, 6)
        assert relative_error(stepped[5:], np.asarray(model(windows))) < limit


def test_scaling_at_both_ends_of_a_window() -> None:
    """Integers leave it to the session; floats have it in the graph: the outputs are the same."""
    mean, variance = [20.0, -5.0, 1000.0], [4.0, 1.0, 2500.0]
    scaling: dict[str, Any] = {"axis": -1, "mean": mean, "variance": variance}

    def body(x: Any) -> Any:
        y = _autoencoder(layers.Normalization(**scaling)(x))
        return layers.Normalization(**scaling, invert=True)(y)

    model = build(body)
    std = np.sqrt(variance)
    data = (DATA * std + mean).astype(np.float32)
    reference = (run_windows(model, data).reshape(-1, LENGTH, 3) - mean) / std
    candidates = candidates_of(model, data, windows=True)
    for recipe, limit in (("float32", 1e-4), ("int8", 0.06)):
        made, y = make(candidates, recipe)
        z = (y[LENGTH - 1 :].reshape(-1, LENGTH, 3) - mean) / std
        assert relative_error(z, reference) < limit
        where = {port.scaling for port in made.artifact.manifest.outputs}
        assert where == {"graph" if recipe == "float32" else "session"}


def test_data_that_is_no_longer_than_a_window_is_refused() -> None:
    model = build(lambda x: layers.SimpleRNN(2, go_backwards=True)(x), 45)
    with pytest.raises(RecordingError, match="the 45 readings of a window"):
        quantize(model, DATA[:44])
    with pytest.raises(RecordingError, match="too short"):
        quantize(model, DATA[:55])
    with pytest.raises(RecordingError, match="last fifth"):
        quantize(build(_pooled), [DATA[:200], *(DATA[:5] for _ in range(10))])


def test_what_stays_float_is_named() -> None:
    with pytest.raises(ConversionError, match=r"stays in float.*--recipe int8-float"):
        quantize(build(lambda x: layers.ELU()(_pooled(x))), DATA, recipe="int8")
