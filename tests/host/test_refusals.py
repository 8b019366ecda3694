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

from edgelstm.errors import ConfigurationError, ConversionError, ModelError, RecordingError
from edgelstm.recording import Recording
from edgelstm_quantize import quantize

layers = keras.layers


def _model(body: Callable[[Any], Any], shape: tuple[int | None, int] = (None, 3)) -> keras.Model:
    x = keras.Input(shape)
    return keras.Model(x, body(x))


def _two_inputs() -> keras.Model:
    a, b = keras.Input((None, 3)), keras.Input((None, 3))
    return keras.Model([a, b], layers.LSTM(4, return_sequences=True)(layers.Add()([a, b])))


def _used_twice(x: Any) -> Any:
    layer = layers.LSTM(3, return_sequences=True)
    return layer(layer(x))


def _initial_state() -> keras.Model:
    x = keras.Input((None, 3))
    encoded = layers.LSTM(4, return_sequences=True)(x)
    start = layers.LSTM(4, return_sequences=True)(encoded)
    return keras.Model(
        x, layers.LSTM(4, return_sequences=True)(x, initial_state=[start[:, 0], start[:, 0]])
    )


class _Subclass(keras.Model):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return x


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "not a model": (lambda: ["x", "y", "z"], "not a Keras model"),
    "subclass": (_Subclass, "functional API"),
    "two inputs": (_two_inputs, "2 inputs and 1 outputs"),
    "one answer": (lambda: _model(lambda x: layers.LSTM(4)(x)), "return_sequences=True"),
    "no recurrent layer": (lambda: _model(lambda x: layers.Dense(3)(x)), "no recurrent layer"),
    "bidirectional": (
        lambda: _model(
            lambda x: layers.Bidirectional(layers.LSTM(4, return_sequences=True))(
                layers.LSTM(3, return_sequences=True)(x)
            )
        ),
        "Bidirectional",
    ),
    "future": (
        lambda: _model(
            lambda x: layers.Conv1D(3, 3, padding="same")(layers.LSTM(3, return_sequences=True)(x))
        ),
        "padding='causal'",
    ),
    "dilated": (
        lambda: _model(
            lambda x: layers.Conv1D(3, 3, padding="causal", dilation_rate=2)(
                layers.LSTM(3, return_sequences=True)(x)
            )
        ),
        "dilation",
    ),
    "backwards": (
        lambda: _model(lambda x: layers.LSTM(3, return_sequences=True, go_backwards=True)(x)),
        "backwards",
    ),
    "masking": (
        lambda: _model(lambda x: layers.LSTM(3, return_sequences=True)(layers.Masking()(x))),
        "Masking",
    ),
    "attention": (
        lambda: _model(
            lambda x: layers.Attention()([layers.LSTM(3, return_sequences=True)(x)] * 2)
        ),
        "Attention",
    ),
    "joined in time": (
        lambda: _model(
            lambda x: layers.Concatenate(axis=1)([layers.LSTM(3, return_sequences=True)(x), x])
        ),
        "time axis",
    ),
    "tokens": (
        lambda: keras.Sequential(
            [keras.Input((None,)), layers.Embedding(5, 3), layers.LSTM(3, return_sequences=True)]
        ),
        "(batch, time, channels)",
    ),
    "shared layer": (lambda: _model(_used_twice), "used 2 times"),
    "scaled in time": (
        lambda: _model(
            lambda x: layers.LSTM(3, return_sequences=True)(
                layers.Normalization(axis=1, mean=[0.0] * 9, variance=[1.0] * 9)(x)
            ),
            (9, 3),
        ),
        "time axis",
    ),
    "half precision": (
        lambda: _model(lambda x: layers.LSTM(3, return_sequences=True, dtype="mixed_float16")(x)),
        "float16",
    ),
    "initial state": (_initial_state, "cannot stream"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_cannot_stream_is_refused_with_the_reason(case: str, waves: Recording) -> None:
    make, reason = REFUSED[case]
    with pytest.raises(ModelError) as error:
        quantize(make(), waves)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_another_keras_backend_is_refused(
    waves: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ModelError, match="KERAS_BACKEND=tensorflow"):
        quantize(_lstm(), waves)


def _lstm(channels: int = 3) -> keras.Model:
    return _model(lambda x: layers.LSTM(channels, return_sequences=True)(x), (None, channels))


def test_a_recording_with_other_channels_is_refused(waves: Recording) -> None:
    with pytest.raises(RecordingError, match=r"3 channels .* model takes 2"):
        quantize(_lstm(2), waves)


def test_a_short_recording_is_refused(waves: Recording) -> None:
    with pytest.raises(RecordingError, match="at least 250"):
        quantize(_lstm(), waves.rows(0, 249))


def test_an_unknown_recipe_is_refused(waves: Recording) -> None:
    with pytest.raises(ConfigurationError, match="int8 or float32"):
        quantize(_lstm(), waves, recipe="int4")


def test_an_operation_that_would_stay_float_is_refused_for_int8(waves: Recording) -> None:
    model = _model(lambda x: layers.LeakyReLU()(layers.LSTM(3, return_sequences=True)(x)))
    with pytest.raises(ConversionError, match=r"operation LEAKY_RELU stays in float"):
        quantize(model, waves)
    assert quantize(model, waves, recipe="float32").manifest.recipe == "float32"


def test_a_conversion_that_loses_too_much_fails_unless_told_otherwise(waves: Recording) -> None:
    # Raw inputs of very different size share one int8 scale: the small channels are lost.
    keras.utils.set_random_seed(0)
    scaling: dict[str, Any] = {"axis": -1, "mean": [20.0, -5, 1000], "variance": [4.0, 1, 2500]}
    x = keras.Input((None, 3))
    y = layers.LSTM(8, return_sequences=True)(layers.Normalization(**scaling)(layers.Dropout(0)(x)))
    model = keras.Model(x, layers.Dense(3)(y))
    with pytest.raises(ConversionError, match="--allow-low-fidelity"):
        quantize(model, waves)
    artifact = quantize(model, waves, allow_low_fidelity=True)
    assert artifact.manifest.fidelity.relative_error > 0.1


def test_files_that_are_no_keras_models_are_refused(waves: Recording, tmp_path: Path) -> None:
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
            quantize(tmp_path / name, waves)
        assert name in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match="No such file"):
        quantize(tmp_path / "none.keras", waves)
    with pytest.raises(ModelError, match="cannot be read"):
        quantize(tmp_path, waves)


def test_a_model_that_forecasts_nothing_has_no_threshold(waves: Recording) -> None:
    artifact = quantize(
        _model(lambda x: layers.Dense(2)(layers.LSTM(4, return_sequences=True)(x))),
        Recording("z", waves.channels, waves.timestamps, np.sin(waves.values / [2, 1, 50]), 10.0),
    )
    assert artifact.manifest.detection is None
    assert [t.name for t in artifact.manifest.targets] == ["output_0", "output_1"]
