"""How far ahead `train` forecasts by itself, and what becomes of readings beyond the clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.recording import Recording
from edgelstm.residuals import make_residuals
from edgelstm.session import Session
from edgelstm_quantize import keras_files, train
from edgelstm_quantize.convert import convert
from edgelstm_quantize.encoding import fit_encoding
from edgelstm_quantize.forecasters import Architecture, build_model
from edgelstm_quantize.forecasting import Forecasting
from edgelstm_quantize.sequences import blocks, outside
from edgelstm_quantize.training_data import prepare

Array = NDArray[np.float64]


def autoregression(rows: int, factor: float, seed: int) -> Array:
    z = np.random.default_rng(seed).normal(size=rows)
    for t in range(1, rows):
        z[t] += factor * z[t - 1]
    return z


def recording(*columns: Array) -> Recording:
    names = [f"c{k}" for k in range(len(columns))]
    return Recording.from_array(np.column_stack(columns), channels=names, sample_period=2.0)


def forecast_ahead(*columns: Array, **options: Any) -> int:
    return train(recording(*columns), model="ridge", **options).record.horizon


def test_noise_is_forecast_one_reading_ahead() -> None:
    assert forecast_ahead(autoregression(600, 0.0, 1)) == 1


def test_what_hardly_moves_between_two_readings_is_forecast_further_ahead() -> None:
    noise = np.random.default_rng(2).normal(size=3000)
    assert forecast_ahead(np.sin(np.arange(3000) / 40) + 0.01 * noise) > 4
    # At 0.99 a step, half of the variance is explained 34 steps ahead: 0.99 ** (2 * 34) = 0.5.
    assert forecast_ahead(autoregression(3000, 0.99, 3)) in (16, 32)


def test_a_constant_channel_has_no_say() -> None:
    slow = autoregression(1000, 0.9, 4)
    assert forecast_ahead(slow) > 1
    # Resampling leaves the last digits of a constant at random.
    constant = 0.1 + np.random.default_rng(5).choice([0.0, 2e-17], 1000)
    assert len(np.unique(constant)) == 2
    assert forecast_ahead(slow, constant) == forecast_ahead(slow)


def test_the_horizon_that_is_asked_for_is_taken() -> None:
    assert forecast_ahead(autoregression(600, 0.0, 1), horizon=3) == 3
    assert forecast_ahead(autoregression(600, 0.99, 1), horizon=1) == 1


def test_the_chosen_horizon_travels_to_the_artifact(tmp_path: Path) -> None:
    given = recording(autoregression(600, 0.9, 5))
    trained = train(given, units=2, iterations=5)
    assert trained.record.horizon > 1
    path = tmp_path / "m.keras"
    keras_files.save(trained.model, trained.record, path)
    record = keras_files.read_record(path)
    assert record
    assert record.horizon == trained.record.horizon
    assert convert(path, given).artifact.manifest.horizon == trained.record.horizon


def excursion(rows: int, at: int) -> Recording:
    """Two channels, of which the second leaves 8 standard deviations for a while, both ways."""
    values = np.column_stack([autoregression(rows, 0.8, 6), autoregression(rows, 0.5, 7)])
    values[at : at + 4, 1] += 40
    values[at + 9 : at + 11, 1] -= 50
    return recording(values[:, 0] * 3 + 20, values[:, 1] / 10)


@pytest.mark.filterwarnings("ignore:At row .* the score rises")
@pytest.mark.parametrize("horizon", [1, 4])
def test_out_of_fold_residuals_are_those_that_the_device_takes(horizon: int) -> None:
    given = excursion(600, 290)
    data = prepare([given], targets=["c1"])
    encoding, block = fit_encoding(data), (200, 400)
    assert (np.abs(encoding.normalise(data.values)[slice(*block), 1]) > 8).sum() > 4
    task = Forecasting(data, encoding, horizon, blocks(600, 3))
    kernel = task.solve(outside(block, 600))
    ours = task.residuals(None, kernel, block)[:, 0] * encoding.std[1]

    model = build_model(Architecture("ridge"), encoding, [1], kernel=kernel)
    done = convert(model, given, recipe="float32", horizon=horizon, targets=["c1"])
    theirs = residuals_on_the_device(done.artifact, given.values)[slice(*block), 0]
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * encoding.std[1])


def test_what_an_int8_input_cuts_off_counts_as_the_devices_forecast_has_it(tmp_path: Path) -> None:
    """An excursion in the last fifth is beyond the range of int8, though not beyond the clip."""
    values = autoregression(600, 0.5, 8)
    values[540:552] += 12
    given = recording(values)
    trained = train(given, model="ridge", horizon=1)
    path = tmp_path / "m.keras"
    keras_files.save(trained.model, trained.record, path)
    done = convert(path, given, recipe="int8", allow_low_fidelity=True, force_recipe=True)
    assert done.calibrated
    device = residuals_on_the_device(done.artifact, given.values)
    # That of the Keras model, which sees all of it.
    seen = trained.model(given.values[None].astype(np.float32)).numpy()[0].astype(np.float64)
    exact = np.full_like(device, np.nan)
    exact[1:] = given.values[1:] - seen[:-1]
    assert np.nanmax(np.abs(device - exact)) > 0.3
    np.testing.assert_allclose(
        done.calibrated.residuals, trained.record.residuals + device - exact, atol=1e-4
    )


def residuals_on_the_device(artifact: Any, values: Array) -> Array:
    """(readings, targets), as the pipeline has them."""
    compared = make_residuals(artifact.manifest)
    rows = np.full((len(values), len(artifact.manifest.targets)), np.nan)
    with Session(artifact) as session:
        for t, x in enumerate(values):
            found = compared.update(x.tolist(), session.step(x))
            if found is not None:
                rows[t] = found.residual
    return rows


def test_a_value_that_is_missing_has_no_residual(tmp_path: Path) -> None:
    """Nor has what it is filled with, as on the device."""
    columns = autoregression(400, 0.5, 9), autoregression(400, 0.5, 10)
    trained = train(recording(*columns), model="ridge", horizon=1)
    path = tmp_path / "m.keras"
    keras_files.save(trained.model, trained.record, path)
    other = recording(columns[1], columns[0])
    gone = np.random.default_rng(11).random(other.values.shape) < 0.05
    other.values[gone] = np.nan
    done = convert(path, other, recipe="float32")
    assert done.calibrated
    assert gone.sum() > 20
    assert np.isnan(done.calibrated.residuals[gone]).all()
    assert np.isfinite(done.calibrated.residuals[~gone]).mean() > 0.9
