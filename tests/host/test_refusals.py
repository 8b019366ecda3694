"""Models and recordings that are refused, and what the user is told."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from stepping import roughen, signals

from edgelstm.errors import ConfigurationError, ConversionError, ModelError, RecordingError
from edgelstm.recording import Recording
from edgelstm_quantize import quantize

layers, ops = keras.layers, keras.ops
DATA = signals(250)


def _lstm(x: Any, **options: Any) -> Any:
    return layers.LSTM(3, return_sequences=True, **options)(x)


def _model(body: Callable[[Any], Any], shape: tuple[int | None, ...] = (None, 3)) -> Any:
    x = keras.Input(shape)
    return keras.Model(x, body(x))


def _named(layer: Any) -> Any:
    """A model that has the layer, called `culprit`, behind an LSTM."""
    return _model(lambda x: layer(_lstm(x)))


def _used_twice(**options: Any) -> Any:
    layer = layers.LSTM(3, name="culprit", **options)
    return _model(lambda x: layers.Add()([layer(x), layer(layers.Dense(3)(x))]))


def _initial_state() -> Any:
    x = keras.Input((None, 3))
    h = layers.GRU(4)(x)
    return keras.Model(x, layers.LSTM(4, name="culprit")(x, initial_state=[h, h]))


def _initial_state_as_input() -> Any:
    x, h = keras.Input((None, 3)), keras.Input((4,), name="h")
    return keras.Model([x, h], layers.GRU(4, name="culprit")(x, initial_state=h))


class _Subclass(keras.Model):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return x


class _OwnLayer(keras.layers.Layer):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return x * 2


class _OwnStart(keras.layers.LSTMCell):  # type: ignore[misc]
    def get_initial_state(self, batch_size: Any = None) -> Any:
        return [ops.ones((batch_size, self.units)), ops.zeros((batch_size, self.units))]


def _two_lengths() -> Any:
    a, b = keras.Input((9, 3)), keras.Input((8, 3))
    both = [layers.Bidirectional(layers.LSTM(3))(x) for x in (a, b)]
    return keras.Model([a, b], layers.Add()(both), name="culprit")


# What makes the model, options, and what the message must say. Each names `culprit`.
REFUSED: dict[str, tuple[Callable[[], Any], dict[str, Any], list[str]]] = {
    "masking": (
        lambda: _model(lambda x: _lstm(layers.Masking(name="culprit")(x))),
        {},
        ["Masking", "without it"],
    ),
    "masking a window": (
        lambda: _model(lambda x: _lstm(layers.Masking(name="culprit")(x)), (9, 3)),
        {"mode": "window"},
        ["Masking", "without it"],
    ),
    "embedding that masks": (
        lambda: _model(
            lambda x: _lstm(layers.Embedding(5, 3, mask_zero=True, name="culprit")(x)), (None,)
        ),
        {},
        ["mask_zero=False"],
    ),
    "lambda": (
        lambda: _named(layers.Lambda(lambda x: x, name="culprit")),
        {},
        ["cannot be seen", "class"],
    ),
    "own layer": (
        lambda: _named(_OwnLayer(name="culprit")),
        {"mode": "stream"},
        ["keras.layers.TimeDistributed"],
    ),
    "shared": (
        lambda: _used_twice(return_sequences=True),
        {},
        ["used 2 times", "a layer of its own"],
    ),
    "shared, one answer": (_used_twice, {}, ["used 2 times", "a layer of its own"]),
    "shared, in a nested model": (
        lambda: _model(_used_twice()),
        {},
        ["used 2 times", "a layer of its own"],
    ),
    "initial state": (_initial_state, {"mode": "stream"}, ["initial state", "starts at zero"]),
    "initial state as an input": (
        _initial_state_as_input,
        {},
        ["'h'", "no Embedding", "(batch, time, channels)"],
    ),
    "slopes of each step": (
        lambda: _model(lambda x: layers.PReLU(name="culprit")(_lstm(x)), (9, 3)),
        {"mode": "stream"},
        ["shared_axes=[1]"],
    ),
    "padding in front of causal": (
        lambda: _model(
            lambda x: layers.Conv1D(3, 3, padding="causal")(
                layers.ZeroPadding1D((2, 0), name="culprit")(_lstm(x))
            )
        ),
        {"mode": "stream"},
        ["lengthens"],
    ),
    "single steps": (
        lambda: _model(lambda x: _lstm(x)[:, -1]),
        {"mode": "stream"},
        ["GetItem", "x[..., a:b]"],
    ),
    "state handed on": (
        lambda: _model(lambda x: layers.LSTM(4, return_state=True, name="culprit")(x)[1]),
        {},
        ["last state", "--window N"],
    ),
    "cell that does not start at zero": (
        lambda: _model(
            lambda x: layers.RNN(_OwnStart(4), return_sequences=True, name="culprit")(x)
        ),
        {"mode": "stream"},
        ["zero states"],
    ),
    "the same in a window": (
        lambda: _model(lambda x: layers.RNN(_OwnStart(4), name="culprit")(x), (9, 3)),
        {"mode": "window"},
        ["zero states"],
    ),
    "both ways": (
        lambda: _named(layers.Bidirectional(layers.LSTM(4), name="culprit")),
        {},
        ["whole window", "--window N"],
    ),
    "backwards": (
        lambda: _named(layers.LSTM(3, go_backwards=True, name="culprit")),
        {},
        ["backwards", "--window N"],
    ),
    "strides": (
        lambda: _named(layers.Conv1D(3, 3, strides=2, padding="causal", name="culprit")),
        {},
        ["strides", "--window N"],
    ),
    "future": (
        lambda: _named(layers.Conv1D(3, 3, padding="same", name="culprit")),
        {"mode": "stream"},
        ["future", "padding='causal'"],
    ),
    "shorter": (
        lambda: _named(layers.Conv1D(3, 4, dilation_rate=2, padding="valid", name="culprit")),
        {"mode": "stream"},
        ["padding='causal'", "ZeroPadding1D((6, 0))"],
    ),
    "padding alone": (
        lambda: _named(layers.ZeroPadding1D((2, 0), name="culprit")),
        {"mode": "stream"},
        ["lengthens"],
    ),
    "padding behind": (
        lambda: _named(layers.ZeroPadding1D((1, 1), name="culprit")),
        {"mode": "stream"},
        ["after the end"],
    ),
    "pooling": (
        lambda: _named(layers.GlobalMaxPooling1D(name="culprit")),
        {},
        ["whole window", "--window N"],
    ),
    "attention": (
        lambda: _model(lambda x: layers.Attention(name="culprit")([_lstm(x)] * 2)),
        {},
        ["whole window"],
    ),
    "joined in time": (
        lambda: _model(lambda x: layers.Concatenate(axis=1, name="culprit")([_lstm(x), x])),
        {"mode": "stream"},
        ["time axis", "axis=-1"],
    ),
    "recurrent in each step": (
        lambda: _model(
            lambda x: layers.TimeDistributed(
                keras.Sequential([layers.Reshape((3, 1)), layers.LSTM(2)]), name="culprit"
            )(_lstm(x))
        ),
        {"mode": "stream"},
        ["within each step"],
    ),
    "half precision": (
        lambda: _named(layers.Dense(3, dtype="mixed_float16", name="culprit")),
        {},
        ["float16", "float32 policy"],
    ),
    "no recurrent layer": (
        lambda: keras.Sequential([keras.Input((None, 3)), layers.Dense(3)], name="culprit"),
        {},
        ["no recurrent layer"],
    ),
    "steps of more axes": (
        lambda: _model(lambda x: layers.ConvLSTM1D(2, 2, name="culprit")(x), (None, 5, 3)),
        {},
        ["(batch, time, channels)"],
    ),
    "images": (
        lambda: keras.Sequential(
            [
                keras.Input((9, 8, 8, 1), name="culprit"),
                layers.TimeDistributed(layers.Flatten()),
                layers.LSTM(3),
            ]
        ),
        {},
        ["culprit", "(batch, time, channels)"],
    ),
    "any number of channels": (
        lambda: _model(lambda x: _lstm(layers.Dense(3)(ops.reshape(x, (-1, 5, 3)))), (None, None)),
        {"mode": "window", "window": 5},
        ["fixed number of channels"],
    ),
    "inputs of different lengths": (_two_lengths, {}, ["different lengths (8, 9)"]),
    "subclass": (lambda: _Subclass(name="culprit"), {}, ["functional API"]),
    "no input": (
        lambda: keras.Sequential([layers.LSTM(3)], name="culprit"),
        {},
        ["keras.Input first"],
    ),
}
# There is no name that the user gave.
NAMELESS = {
    "steps of more axes",
    "any number of channels",
    "single steps",
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_cannot_be_converted_is_refused_with_the_way_out(case: str) -> None:
    build, options, said = REFUSED[case]
    model = build()
    with pytest.raises(ModelError) as error:
        quantize(model, DATA, **options)
    message = str(error.value)
    for part in said:
        assert part in message
    assert case in NAMELESS or "culprit" in message
    assert "\n" not in message
    assert message.endswith(".")


def test_what_is_no_keras_model_at_all() -> None:
    with pytest.raises(ModelError, match="a list, not a Keras model"):
        quantize(["x"], DATA)


def test_another_keras_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ModelError, match="KERAS_BACKEND=tensorflow"):
        quantize(_model(_lstm), DATA)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"recipe": "int4"}, "int8-weight, int16x8, float32 or auto"),
        ({"mode": "batch"}, "try stream or window"),
        ({"mode": "stream", "window": 5}, "leave out --window"),
        ({"hop": 2}, "--mode window"),
        ({"runtime": "onnx"}, "tflite-runtime"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        quantize(_model(_lstm), DATA, **options)
    assert said in str(error.value)


def test_a_horizon_in_the_past_is_refused() -> None:
    with pytest.raises(ModelError, match="The horizon is -1 steps"):
        quantize(_model(_lstm), DATA, horizon=-1)


def test_a_recording_with_other_channels_is_refused() -> None:
    with pytest.raises(RecordingError, match=r"3 channels .* model takes 2"):
        quantize(_model(_lstm, (None, 2)), Recording.from_array(DATA))


def test_a_conversion_that_loses_too_much_fails_unless_told_otherwise() -> None:
    # Raw inputs of very different size share one int8 scale: the small channels are lost.
    keras.utils.set_random_seed(0)
    scaling: dict[str, Any] = {"axis": -1, "mean": [20.0, -5, 1000], "variance": [4.0, 1, 2500]}
    x = keras.Input((None, 3))
    y = _lstm(layers.Normalization(**scaling)(layers.Dense(3, kernel_initializer="identity")(x)))
    model = keras.Model(x, layers.Dense(3)(y))
    data = DATA * [2, 1, 50] + [20, -5, 1000]
    with pytest.raises(ConversionError, match=r"--recipe auto.*--allow-low-fidelity"):
        quantize(model, data, recipe="int8")
    artifact = quantize(model, data, recipe="int8", allow_low_fidelity=True)
    assert artifact.manifest.fidelity.relative_error > 0.1


def test_the_largest_error_can_be_set() -> None:
    model = roughen(_model(lambda x: layers.Dense(2)(_lstm(x))))
    with pytest.raises(ConversionError, match=r"more than the 0\.01% that are"):
        quantize(model, DATA, recipe="int8-float", max_error=1e-4)


def test_files_that_are_no_keras_models_are_refused(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("hello.txt", "x")
    files = {
        "text.keras": b"hello",
        "other.keras": archive.getvalue(),
        "broken.h5": b"\x89HDF\r\n\x1a\n" + b"x" * 100,
        "archive.h5": archive.getvalue(),
        "hdf.keras": b"\x89HDF\r\n\x1a\n" + b"x" * 100,
        "empty.keras": b"",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelError) as error:
            quantize(tmp_path / name, DATA)
        assert name in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match="No such file"):
        quantize(tmp_path / "none.keras", DATA)
    with pytest.raises(ModelError, match="cannot be read"):
        quantize(tmp_path, DATA)


def test_a_file_with_classes_that_are_not_known_asks_for_them(tmp_path: Path) -> None:
    _named(_OwnLayer(name="own")).save(tmp_path / "own.keras")
    with pytest.raises(ModelError, match="--custom-objects") as error:
        quantize(tmp_path / "own.keras", DATA)
    assert "\n" not in str(error.value)
    known = {"_OwnLayer": _OwnLayer}
    with pytest.raises(ModelError, match="TimeDistributed"):
        quantize(tmp_path / "own.keras", DATA, custom_objects=known, mode="stream")


def test_a_model_that_forecasts_nothing_has_no_threshold() -> None:
    model = roughen(_model(lambda x: layers.Dense(2)(_lstm(x))))
    artifact = quantize(model, DATA)
    assert artifact.manifest.detection is None
    assert [t.name for t in artifact.manifest.targets] == ["output_0", "output_1"]
    chooses = roughen(_model(lambda x: layers.Dense(3, activation="softmax")(_lstm(x))))
    assert quantize(chooses, DATA, recipe="float32").manifest.horizon == 0
    assert np.isfinite(artifact.golden.y).all()


@pytest.mark.parametrize("recipe", ["int8", "int16x8"])
def test_an_operation_without_an_integer_form_is_refused_with_its_layer(recipe: str) -> None:
    def body(x: Any) -> Any:
        y = layers.LSTM(3, return_sequences=True)(x)
        return layers.Dense(2)(layers.Activation("exponential", name="growth")(y))

    model = _model(body)
    with pytest.raises(ConversionError, match=r"EXP \(of 'growth'\) stays in float"):
        quantize(model, signals(400), recipe=recipe, horizon=0)
    done = quantize(model, signals(400), recipe="int8-float", horizon=0)
    assert "EXP" in {operation.name for operation in done.manifest.operations}
