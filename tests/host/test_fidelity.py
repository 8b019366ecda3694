"""The figures that say how far a quantised model is from the Keras model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from edgelstm.recording import Recording
from edgelstm_quantize import quantize
from edgelstm_quantize.fidelity import compare, relative_change

RNG = np.random.default_rng(0)
REFERENCE = RNG.normal(0, 2, (1000, 2))
SPREAD = np.array([2.0, 2.0])


def test_the_error_is_in_standard_deviations_of_the_output() -> None:
    fidelity = compare(REFERENCE + 0.2, REFERENCE, SPREAD)
    assert fidelity.steps == 1000
    assert fidelity.relative_error == pytest.approx(0.1)
    assert fidelity.worst_drift == pytest.approx(fidelity.relative_error)
    assert fidelity.correlation == pytest.approx(1)


def test_neither_offset_nor_unit_change_it() -> None:
    error = RNG.normal(0, 0.1, REFERENCE.shape)
    plain = compare(REFERENCE + error, REFERENCE, SPREAD).relative_error
    kelvin = compare(REFERENCE + error + 273, REFERENCE + 273, SPREAD).relative_error
    milli = compare((REFERENCE + error) * 1e-3, REFERENCE * 1e-3, SPREAD * 1e-3).relative_error
    assert [kelvin, milli] == pytest.approx([plain, plain])


def test_an_error_that_grows_shows_in_the_worst_tenth() -> None:
    growing = REFERENCE + np.linspace(0, 1, 1000)[:, None]
    fidelity = compare(growing, REFERENCE, SPREAD)
    assert fidelity.worst_drift == pytest.approx(1.9 * fidelity.relative_error, rel=0.02)


def test_the_lowest_correlation_counts_and_a_constant_output_has_none() -> None:
    one_lost = REFERENCE.copy()
    one_lost[:, 1] = RNG.normal(0, 2, 1000)
    correlation = compare(one_lost, REFERENCE, SPREAD).correlation
    assert correlation is not None
    assert abs(correlation) < 0.2
    constant = np.ones((100, 1))
    fidelity = compare(constant + 0.5, constant, np.ones(1))
    assert fidelity.correlation is None
    assert fidelity.relative_error == pytest.approx(0.5)


def test_a_change_of_scores_is_relative_to_their_mean() -> None:
    assert relative_change(np.array([1.1, 2.2]), np.array([1.0, 2.0])) == pytest.approx(0.1)
    assert relative_change(np.zeros(3), np.zeros(3)) == 0


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e4])
def test_the_unit_of_a_sensor_does_not_change_its_detection(waves: Recording, unit: float) -> None:
    """A model without any Normalization of its own, in bar, in pascal or in megapascal."""
    keras.utils.set_random_seed(0)
    values = (waves.values - waves.values.mean(axis=0)) / waves.values.std(axis=0)
    x = keras.Input((None, 3))
    y = keras.layers.LSTM(3, return_sequences=True)(keras.layers.Rescaling(1 / unit)(x))
    model = keras.Model(x, keras.layers.Rescaling(unit)(y))
    recording = Recording("w", waves.channels, waves.timestamps, values * unit, 10.0)
    detection: Any = quantize(model, recording, recipe="float32").manifest.detection
    base = np.sqrt(np.mean((values[1:] - _forecast(model, values * unit) / unit) ** 2, axis=0))
    assert np.array(detection.residual_scale) / unit == pytest.approx(base + 0.01, rel=1e-3)


def _forecast(model: keras.Model, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    y: np.ndarray[Any, Any] = model(values[None].astype(np.float32)).numpy()[0, :-1]
    return y
