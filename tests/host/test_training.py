"""The default forecaster, and what its calibration is worth."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgelstm.errors import (
    CalibrationWarning,
    ConfigurationError,
    OutputExistsError,
    RecordingError,
)
from edgelstm.recording import Recording
from edgelstm_quantize import keras_files, quantize, train
from edgelstm_quantize.encoding import fit_encoding
from edgelstm_quantize.forecasters import Architecture, build_model, build_network
from edgelstm_quantize.forecasting import Forecasting
from edgelstm_quantize.sequences import blocks, outside
from edgelstm_quantize.training import Trained
from edgelstm_quantize.training_data import prepare


@pytest.fixture(scope="module")
def recording() -> Recording:
    """A stable autoregression of order 2 in two channels: white innovations of 1 and 0.1."""
    rng = np.random.default_rng(1)
    z = np.zeros((600, 2))
    for t in range(2, 600):
        z[t] = 1.5 * z[t - 1] - 0.7 * z[t - 2] + rng.normal(0, 1, 2)
    return Recording(
        "ar2", ("p", "q"), np.arange(600, dtype=np.float64) * 2, z * [1, 0.1] + [100, 0], 2.0
    )


@pytest.fixture(scope="module")
def trained(recording: Recording) -> Trained:
    return train(recording, units=8, horizon=1)


def test_the_forecaster_finds_the_innovations(trained: Trained, recording: Recording) -> None:
    residual_rms = np.sqrt(np.nanmean(trained.record.residuals**2, axis=0))
    # What cannot be forecast is the innovation; a persistence forecast would be off by more.
    assert residual_rms == pytest.approx([1.0, 0.1], rel=0.15)
    persistence = np.diff(recording.values, axis=0).std(axis=0)
    assert (residual_rms < 0.8 * persistence).all()


def test_the_whole_model_is_no_worse_than_its_linear_part(trained: Trained) -> None:
    assert trained.error <= trained.ridge_error * 1.01


def test_the_model_takes_and_gives_physical_units(trained: Trained, recording: Recording) -> None:
    y = trained.model(recording.values[None, :200].astype(np.float32)).numpy()[0]
    residual = recording.values[1:200] - y[:-1]
    assert np.sqrt(np.mean(residual[10:] ** 2, axis=0)) == pytest.approx([1.0, 0.1], rel=0.25)


def test_a_fold_learns_nothing_from_the_readings_it_is_tested_on(recording: Recording) -> None:
    data = prepare([recording])
    values = recording.values.copy()
    values[200:400] = np.random.default_rng(0).normal(0, 1, (200, 2)) * [1, 0.1] + [100, 0]
    folds, seen = blocks(600, 3), outside((200, 400), 600)
    encoding = fit_encoding(data)
    first, other = (
        Forecasting(dataclasses.replace(data, values=v), encoding, 1, folds)
        for v in (recording.values, values)
    )
    np.testing.assert_array_equal(first.solve(seen), other.solve(seen))
    assert not np.allclose(first.solve(seen | True), other.solve(seen | True))

    # With a linear part of zeros, a sequence's targets are the readings themselves.
    nothing = np.zeros_like(first.solve(seen))
    draw = first.draw(nothing, seen, np.random.default_rng(0))
    forbidden = {tuple(row) for row in encoding.normalise(data.values)[200:400].astype(np.float32)}
    for _ in range(50):
        assert not forbidden & {tuple(row) for row in draw().y.reshape(-1, 2)}


def test_the_same_seed_gives_the_same_model(recording: Recording, trained: Trained) -> None:
    again = train(recording, units=8, horizon=1)
    for a, b in zip(trained.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(trained.record.residuals, again.record.residuals)


def test_a_constant_channel_is_no_trouble(recording: Recording) -> None:
    values = np.concatenate([recording.values, np.full((600, 1), 42.0)], axis=1)
    three = Recording("x", ("p", "q", "r"), recording.timestamps, values, 2.0)
    result = train(three, units=4)
    assert np.isfinite(result.error)
    artifact = quantize(result.model, three)
    assert artifact.manifest.detection is not None
    assert artifact.manifest.detection.residual_scale[2] > 0


def test_a_short_recording_is_refused(recording: Recording) -> None:
    with pytest.raises(RecordingError, match="at least 180"):
        train(recording.rows(0, 179))


def test_the_training_record_travels_with_the_model(
    trained: Trained, recording: Recording, tmp_path: Path
) -> None:
    path = tmp_path / "m.keras"
    keras_files.save(trained.model, trained.record, path)
    with pytest.raises(OutputExistsError):
        keras_files.save(trained.model, trained.record, path)
    with pytest.raises(ConfigurationError, match=r"\.keras"):
        keras_files.save(trained.model, trained.record, tmp_path / "m.h5")
    assert list(tmp_path.iterdir()) == [path]

    same = quantize(path, recording).manifest.detection
    assert same is not None
    assert same.residuals == "out-of-fold"
    # Of a part of them the model's own residuals count, and are said to be too small.
    with pytest.raises(CalibrationWarning, match="trained on some of these readings"):
        quantize(path, recording.rows(0, 550))
    # On readings that it was not trained on, the model's own residuals count.
    other = Recording("y", ("q", "p"), recording.timestamps, recording.values[:, ::-1] * 1.01, 2.0)
    foreign = quantize(path, other).manifest
    assert [c.name for c in foreign.channels] == ["p", "q"]
    assert foreign.detection is not None
    assert foreign.detection.residuals == "recording"


def test_int8_adds_its_own_error_to_the_residuals(
    trained: Trained, recording: Recording, tmp_path: Path
) -> None:
    path = tmp_path / "m.keras"
    keras_files.save(trained.model, trained.record, path)
    int8, float32 = (quantize(path, recording, recipe=r).manifest for r in ("int8", "float32"))
    assert int8.detection is not None
    assert float32.detection is not None
    assert int8.detection.residual_scale > float32.detection.residual_scale
    assert int8.fidelity.score_change is not None
    assert 0 < int8.fidelity.score_change < 0.2
    assert float32.fidelity.score_change == pytest.approx(0, abs=1e-3)


def test_the_model_works_further_out_than_it_was_calibrated(
    trained: Trained, recording: Recording
) -> None:
    """A sensor that drifts to four standard deviations is still forecast, in int8."""
    from edgelstm.session import Session

    mean, std = recording.values.mean(axis=0), recording.values.std(axis=0)
    with Session(quantize(trained.model, recording, recipe="int8")) as session:
        assert session.artifact.manifest.inputs[0].clip == 8.0
        for _ in range(30):
            y = session.step(mean + 4 * std)
    expected = trained.model((np.ones((1, 30, 2)) * (mean + 4 * std)).astype(np.float32))
    assert (y - mean) / std == pytest.approx((expected.numpy()[0, -1] - mean) / std, abs=0.3)


def test_one_channel_is_forecast_as_an_eager_call_does(recording: Recording) -> None:
    """TensorFlow's graph remapper gets one-channel convolutions of a fixed length wrong."""
    one = Recording("one", ("p",), recording.timestamps, recording.values[:, :1], 2.0)
    data = prepare([one])
    encoding, everything = fit_encoding(data), np.ones(600, bool)
    task = Forecasting(data, encoding, 1, blocks(600, 3))
    network = build_network(Architecture(units=4), 1, 1)
    assert network is not None
    kernel = task.solve(everything)
    model = build_model(Architecture(units=4), encoding, [0], network=network, kernel=kernel)
    eager = np.asarray(model(one.values[None].astype(np.float32)))[0]
    forecast = one.values - task.residuals(network, kernel, (0, 600)) * encoding.std
    np.testing.assert_allclose(forecast[8:], eager[7:-1], rtol=1e-6)

    fidelity = quantize(train(one, units=4).model, one, recipe="float32").manifest.fidelity
    assert fidelity.relative_error < 1e-5
