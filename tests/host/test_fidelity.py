"""The figures that say how far a quantised model is from the Keras model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from stepping import candidates_of, make, sequences, signals

from edgelstm.recording import Recording
from edgelstm_quantize import quantize
from edgelstm_quantize.fidelity import compare, relative_change

ONE = [slice(0, 1)]
RNG = np.random.default_rng(0)
REFERENCE = RNG.normal(0, 2, (1000, 2))


def test_figures_worked_by_hand() -> None:
    # rms of the reference: sqrt((9 + 16) / 2) = 5 / sqrt(2); errors 0.5 and 0, ten times each.
    reference = np.array([[3.0], [-4.0]] * 10)
    quantized = np.array([[3.5], [-4.0]] * 10)
    rms = 5 / np.sqrt(2)
    fidelity = compare(quantized, reference, ONE)
    assert fidelity.steps == 20
    assert fidelity.relative_error == pytest.approx(0.25 / rms)
    assert fidelity.max_error == pytest.approx(0.5 / rms)
    assert fidelity.drift == pytest.approx(1)
    assert fidelity.correlation == pytest.approx(1)
    assert fidelity.score_change is None


def test_drift_is_the_last_tenth_over_the_first() -> None:
    # 30 steps: three make a tenth. Errors 1, 2, 3 at first, 4, 4, 10 at last, a lot in between.
    reference = np.ones((30, 1))
    error = np.full(30, 50.0)
    error[:3], error[-3:] = [1, 2, 3], [4, 4, 10]
    fidelity = compare(reference + error[:, None], reference, ONE)
    assert fidelity.drift == pytest.approx(6 / 2)
    assert compare(reference, reference, ONE).drift == 1
    assert compare(reference[:5] + error[:5, None], reference[:5], ONE).drift == pytest.approx(50)


def test_the_worst_output_counts_and_each_has_its_own_level() -> None:
    # Three columns, of which the last two are one output.
    reference = np.array([[1.0, 100.0, 100.0], [-1.0, 100.0, -100.0]] * 5)
    near = reference + np.array([0.02, 1.0, 1.0])
    outputs = [slice(0, 1), slice(1, 3)]
    assert compare(near, reference, outputs).relative_error == pytest.approx(0.02)
    near = reference + np.array([0.002, 1.0, 0.0])
    assert compare(near, reference, outputs).relative_error == pytest.approx(0.005)
    # As one output the small column would be lost beside the large ones.
    assert compare(near, reference, [slice(0, 3)]).relative_error < 0.005


def test_the_unit_of_an_output_does_not_matter() -> None:
    error = RNG.normal(0, 0.1, REFERENCE.shape)
    both = [slice(0, 2)]
    plain = compare(REFERENCE + error, REFERENCE, both)
    milli = compare((REFERENCE + error) * 1e-3, REFERENCE * 1e-3, both)
    assert milli.relative_error == pytest.approx(plain.relative_error)
    assert milli.drift == pytest.approx(plain.drift)


def test_the_lowest_correlation_counts_and_a_constant_output_has_none() -> None:
    one_lost = REFERENCE.copy()
    one_lost[:, 1] = RNG.normal(0, 2, 1000)
    correlation = compare(one_lost, REFERENCE, [slice(0, 2)]).correlation
    assert correlation is not None
    assert abs(correlation) < 0.2
    constant = np.full((100, 1), 2.0)
    fidelity = compare(constant + 0.5, constant, ONE)
    assert fidelity.correlation is None
    assert fidelity.relative_error == pytest.approx(0.25)


def test_a_silent_output_has_its_error_as_it_is() -> None:
    silent = np.zeros((100, 1))
    assert compare(silent + 0.5, silent, ONE).relative_error == pytest.approx(0.5)
    assert compare(silent, silent, ONE).relative_error == 0


def test_the_manifest_has_the_figures_of_the_held_out_fifth() -> None:
    """Worked again from what the session and the Keras model give."""
    data = signals(500)
    model = sequences(lambda x: keras.layers.Dense(2)(keras.layers.GRU(6)(x)))
    made, y = make(candidates_of(model, data), "int8")
    exact = candidates_of(model, data).reference[0][400:]
    error = np.abs(y[400:] - exact) / np.sqrt((exact**2).mean())
    assert made.fidelity.steps == 100
    assert made.fidelity.relative_error == pytest.approx(error.mean())
    assert made.fidelity.max_error == pytest.approx(error.max())
    assert made.fidelity.drift == pytest.approx(error[-10:].mean() / error[:10].mean())
    np.testing.assert_allclose(made.errors, error.mean(axis=1))


def test_a_change_of_scores_is_relative_to_their_mean() -> None:
    assert relative_change(np.array([1.1, 2.2]), np.array([1.0, 2.0])) == pytest.approx(0.1)
    assert relative_change(np.zeros(3), np.zeros(3)) == 0


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_the_unit_of_a_sensor_does_not_change_its_detection(waves: Recording, unit: float) -> None:
    """A model without any Normalization of its own, in bar, in pascal or in megapascal."""
    keras.utils.set_random_seed(0)
    values = (waves.values - waves.values.mean(axis=0)) / waves.values.std(axis=0)
    x = keras.Input((None, 3))
    y = keras.layers.LSTM(3, return_sequences=True)(keras.layers.Rescaling(1 / unit)(x))
    model = keras.Model(x, keras.layers.Rescaling(unit)(y))
    recording = Recording("w", waves.channels, waves.timestamps, values * unit, 10.0)
    detection: Any = quantize(model, recording, recipe="float32").manifest.detection
    residuals = values[1:] - _forecast(model, values * unit) / unit
    base = np.sqrt(np.mean(residuals[19:] ** 2, axis=0))  # without the warm-up
    assert np.array(detection.residual_scale) / unit == pytest.approx(base + 0.01, rel=1e-3)


def _forecast(model: keras.Model, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    y: np.ndarray[Any, Any] = model(values[None].astype(np.float32)).numpy()[0, :-1]
    return y
