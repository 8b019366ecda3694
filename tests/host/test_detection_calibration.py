"""What `quantize` calibrates: horizons, targets, reconstruction, and out-of-fold residuals."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from edgelstm.calibrating import calibrate, find_limits
from edgelstm.calibration_file import CalibrationFile, calibration_path
from edgelstm.cli import main
from edgelstm.errors import (
    CalibrationWarning,
    ConfigurationError,
    ModelError,
    RecordingError,
)
from edgelstm.recording import Recording
from edgelstm.session import Session
from edgelstm_quantize import keras_files
from edgelstm_quantize.convert import Conversion, convert
from edgelstm_quantize.keras_files import TrainingRecord, fingerprint

layers = keras.layers
Array = NDArray[np.float64]
WARM_UP = 20


def forecaster(targets: int = 3) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((None, 3))
    z = layers.Rescaling([1 / 2, 1.0, 1 / 50], [-10.0, 5.0, -20.0])(x)
    h = layers.LSTM(4, return_sequences=True)(z)
    scale, offset = np.array([2.0, 1.0, 50.0]), np.array([20.0, -5.0, 1000.0])
    return keras.Model(
        x, layers.Rescaling(scale[:targets], offset[:targets])(layers.Dense(targets)(h))
    )


def autoencoder(window: int) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((window, 3))
    z = layers.Normalization(mean=[20.0, -5.0, 1000.0], variance=[4.0, 1.0, 2500.0])(x)
    h = layers.RepeatVector(window)(layers.LSTM(6)(z))
    y = layers.TimeDistributed(layers.Dense(3))(layers.LSTM(6, return_sequences=True)(h))
    invert = layers.Normalization(
        mean=[20.0, -5.0, 1000.0], variance=[4.0, 1.0, 2500.0], invert=True
    )
    return keras.Model(x, invert(y))


def outputs_of(done: Conversion, values: Array) -> list[Array | None]:
    with Session(done.artifact) as session:
        return [session.step(x) for x in values]


def expected_of(residuals: Array, values: Array, columns: list[int]) -> Any:
    return calibrate(
        residuals,
        values,
        targets=columns,
        residuals_kind="recording",
        false_alarms_per_day=1.0,
    )


@pytest.mark.parametrize("horizon", [1, 3])
def test_a_forecast_is_compared_with_the_reading_that_it_is_for(
    waves: Recording, horizon: int
) -> None:
    recording = waves.rows(0, 600)
    done = convert(forecaster(), recording, recipe="float32", horizon=horizon)
    manifest = done.artifact.manifest
    assert (manifest.task, manifest.horizon) == ("forecast", horizon)
    outputs = outputs_of(done, recording.values)
    residuals = np.full((600, 3), np.nan)
    for t in range(WARM_UP - 1 + horizon, 600):
        residuals[t] = recording.values[t] - np.asarray(outputs[t - horizon])
    expected = expected_of(residuals, recording.values, [0, 1, 2])
    assert manifest.detection is not None
    assert manifest.detection.residual_scale == pytest.approx(expected.residual_scale, rel=1e-9)
    assert manifest.detection.tail.start == pytest.approx(expected.tail.start, rel=1e-9)
    assert manifest.detection.readings == 600 - WARM_UP + 1 - horizon


def test_targets_are_compared_with_their_own_channels(waves: Recording) -> None:
    """The outputs are the channels c and a, in this order."""
    recording = waves.rows(0, 600)
    done = convert(forecaster(2), recording, recipe="float32", targets=["c", "a"])
    manifest = done.artifact.manifest
    assert [target.name for target in manifest.targets] == ["c", "a"]
    outputs = outputs_of(done, recording.values)
    residuals = np.full((600, 2), np.nan)
    for t in range(WARM_UP, 600):
        residuals[t] = recording.values[t, [2, 0]] - np.asarray(outputs[t - 1])
    expected = expected_of(residuals, recording.values, [2, 0])
    assert manifest.detection is not None
    assert manifest.detection.residual_scale == pytest.approx(expected.residual_scale, rel=1e-9)
    assert len(manifest.detection.limits) == 3
    assert done.summary.detection is not None
    assert [channel.name for channel in done.summary.detection.channels] == ["c", "a"]


def test_a_window_is_compared_with_itself(waves: Recording) -> None:
    recording = waves.rows(0, 600)
    options: dict[str, Any] = {"mode": "window", "hop": 2, "task": "reconstruction"}
    done = convert(autoencoder(8), recording, recipe="float32", **options)
    manifest = done.artifact.manifest
    assert (manifest.task, manifest.horizon, len(manifest.targets)) == ("reconstruction", 0, 24)
    assert [t.name for t in manifest.targets][:4] == ["a[-7]", "b[-7]", "c[-7]", "a[-6]"]
    assert manifest.targets[-1].name == "c[0]"
    residuals = np.full((600, 24), np.nan)
    runs = 0
    for t, y in enumerate(outputs_of(done, recording.values)):
        if y is not None:
            runs += 1
            if runs > WARM_UP:
                residuals[t] = recording.values[t - 7 : t + 1].reshape(-1) - y
    expected = expected_of(residuals, recording.values, [0, 1, 2] * 8)
    assert manifest.detection is not None
    assert manifest.detection.residual_scale == pytest.approx(expected.residual_scale, rel=1e-9)
    assert manifest.detection.readings == (600 - 8) // 2 + 1 - WARM_UP
    summary = done.summary.detection
    assert summary is not None
    of_a = np.sqrt(np.nanmean(residuals[:, 0::3] ** 2))
    assert summary.channels[0].rms == pytest.approx(of_a, rel=1e-6)
    assert summary.channels[0].float_rms == pytest.approx(of_a, rel=1e-3)


def test_the_device_calibrates_to_the_same(waves: Recording, tmp_path: Path) -> None:
    recording = waves.rows(0, 700)
    done = convert(forecaster(), recording, recipe="int8-float", horizon=2)
    path = tmp_path / "pump.tflite"
    done.artifact.write(path)
    rows = zip(recording.timestamps, recording.values.tolist(), strict=True)
    lines = [",".join(map(repr, [float(t), *values])) for t, values in rows]
    (tmp_path / "waves.csv").write_text("\n".join(["time,a,b,c", *lines]))
    result = CliRunner().invoke(main, ["calibrate", str(path), str(tmp_path / "waves.csv")])
    assert result.exit_code == 0, result.output
    host, device = (
        done.artifact.manifest.detection,
        CalibrationFile.read(calibration_path(path)).detection,
    )
    assert host is not None
    assert device.readings == host.readings
    assert device.residual_scale == pytest.approx(host.residual_scale, rel=1e-6)
    assert device.score_peaks == pytest.approx(host.score_peaks, rel=1e-6)
    assert dataclasses.astuple(device.tail) == pytest.approx(
        dataclasses.astuple(host.tail), rel=1e-6
    )
    assert device.limits == host.limits


def record_of(recording: Recording, residuals: Array, **changes: Any) -> TrainingRecord:
    record = TrainingRecord(
        channels=recording.channels,
        horizon=1,
        data_sha256=fingerprint(recording.values),
        residuals=residuals,
        targets=recording.channels,
        categories=(None,) * len(recording.channels),
        task="forecast",
        sample_period=recording.sample_period,
    )
    return dataclasses.replace(record, **changes)


@pytest.fixture
def trained(waves: Recording, tmp_path: Path) -> tuple[Path, Recording, Array]:
    """A model as `train` would have left it; its out-of-fold residuals are made up."""
    recording = waves.rows(0, 600)
    residuals = np.random.default_rng(0).normal(size=(600, 3)) * [0.3, 0.2, 9.0]
    residuals[:8] = np.nan
    path = tmp_path / "model.keras"
    keras_files.save(forecaster(), record_of(recording, residuals), path)
    return path, recording, residuals


def test_out_of_fold_residuals_count_and_what_quantising_adds(
    trained: tuple[Path, Recording, Array],
) -> None:
    path, recording, residuals = trained
    done = convert(path, recording, recipe="int8-float")
    detection = done.artifact.manifest.detection
    assert detection is not None
    assert (detection.residuals, detection.readings) == ("out-of-fold", 592)
    model, _ = keras_files.load(path)
    exact = model(recording.values[None].astype(np.float32)).numpy()[0]
    added = np.full((600, 3), np.nan)
    for t, y in enumerate(outputs_of(done, recording.values)[:-1]):
        added[t + 1] = exact[t] - np.asarray(y)
    ours = residuals + added
    expected = expected_of(ours, recording.values, [0, 1, 2])
    assert detection.residual_scale == pytest.approx(expected.residual_scale, rel=1e-4)
    summary = done.summary.detection
    assert summary is not None
    for k, channel in enumerate(summary.channels):
        assert channel.float_rms == pytest.approx(np.sqrt(np.nanmean(residuals[:, k] ** 2)))
        assert channel.rms == pytest.approx(np.sqrt(np.nanmean(ours[:, k] ** 2)), rel=1e-4)


def test_another_recording_has_residuals_of_its_own(
    trained: tuple[Path, Recording, Array], waves: Recording
) -> None:
    path, _, _ = trained
    done = convert(path, waves.rows(600, 1200), recipe="float32")
    assert done.artifact.manifest.detection is not None
    assert done.artifact.manifest.detection.residuals == "recording"


@pytest.mark.parametrize(
    "options",
    [
        {"horizon": 2},
        {"targets": ["a"]},
        {"targets": ["c", "b", "a"]},
        {"task": "reconstruction"},
    ],
)
def test_what_the_training_noted_cannot_be_talked_away(
    trained: tuple[Path, Recording, Array], options: dict[str, Any]
) -> None:
    path, recording, _ = trained
    with pytest.raises(ConfigurationError, match="was trained to forecast a, b, c 1 readings"):
        convert(path, recording, recipe="float32", **options)


def test_what_the_training_noted_may_be_left_out(
    trained: tuple[Path, Recording, Array],
) -> None:
    path, recording, _ = trained
    for options in ({"horizon": 0}, {"task": "none"}):
        manifest = convert(path, recording, recipe="float32", **options).artifact.manifest
        assert (manifest.task, manifest.detection) == ("none", None)


def test_missing_values_are_filled_as_in_training(
    trained: tuple[Path, Recording, Array], tmp_path: Path
) -> None:
    """The fingerprint is of the filled values; the channels may come in any order."""
    _, recording, residuals = trained
    values = recording.values.copy()
    values[100, 1] = values[99, 1]
    path = tmp_path / "filled.keras"
    whole = dataclasses.replace(recording, values=values)
    keras_files.save(forecaster(), record_of(whole, residuals), path)
    pierced = values.copy()
    pierced[100, 1] = np.nan
    other = dataclasses.replace(recording, values=pierced).with_channels(["c", "a", "b"])
    detection = convert(path, other, recipe="float32").artifact.manifest.detection
    assert detection is not None
    assert detection.residuals == "out-of-fold"


def test_texts_are_the_codes_of_the_training(waves: Recording, tmp_path: Path) -> None:
    recording = waves.rows(0, 600)
    values = recording.values.copy()
    values[:, 1] = np.arange(600) // 50 % 2  # "off", "on"
    coded = dataclasses.replace(recording, values=values, categories={"b": ("off", "on")})
    path = tmp_path / "model.keras"
    record = record_of(coded, np.ones((600, 3)), categories=(None, ("off", "on"), None))
    keras_files.save(forecaster(), record, path)
    manifest = convert(path, coded, recipe="float32").artifact.manifest
    assert [c.categories for c in manifest.channels] == [None, ("off", "on"), None]
    assert manifest.detection is not None
    assert manifest.detection.residuals == "out-of-fold"
    swapped = values.copy()
    swapped[:, 1] = 1 - values[:, 1]
    others = dataclasses.replace(coded, values=swapped, categories={"b": ("on", "off")})
    detection = convert(path, others, recipe="float32").artifact.manifest.detection
    assert detection is not None
    assert detection.residuals == "out-of-fold"
    unknown = dataclasses.replace(coded, categories={"b": ("off", "open")})
    with pytest.raises(RecordingError, match="'open' did not occur in training"):
        convert(path, unknown, recipe="float32")


def test_no_residual_crosses_from_one_recording_to_the_next(waves: Recording) -> None:
    """Two halves that have nothing to do with each other: each has a warm-up of its own."""
    first = waves.rows(0, 300)
    second = dataclasses.replace(first, values=first.values + np.array([40.0, 0, 0]))
    done = convert(forecaster(), [first, second], recipe="float32")
    assert done.calibrated is not None
    residuals = done.calibrated.residuals
    known = np.isfinite(residuals).all(axis=1)
    assert np.flatnonzero(~known).tolist() == [*range(20), *range(300, 320)]


def test_another_rate_than_in_training_is_refused(
    trained: tuple[Path, Recording, Array],
) -> None:
    path, recording, _ = trained
    slower = dataclasses.replace(recording, timestamps=recording.timestamps * 2, sample_period=20.0)
    with pytest.raises(RecordingError, match="every 20 s, but the model was trained on one every"):
        convert(path, slower, recipe="float32")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"targets": ["a", "x"]}, ConfigurationError, "'x' is none of the channels a, b, c"),
        ({"horizon": 2}, ModelError, "2 outputs for 3 channels.* --target"),
        ({"task": "reconstruction"}, ConfigurationError, "reconstructs no window"),
        (
            {"task": "reconstruction", "mode": "window", "window": 8},
            ModelError,
            "16 outputs for a window of 8 readings of 3 channels",
        ),
        ({"task": "guess"}, ConfigurationError, "No task is called 'guess'"),
        ({"task": "none", "horizon": 2}, ConfigurationError, "does not go with --horizon"),
        ({"task": "forecast", "horizon": 0}, ConfigurationError, "does not go with --horizon"),
        ({"ranges": {"x": (0.0, 1.0)}}, ConfigurationError, "'x', which is none of the channels"),
        ({"scorer": "loud"}, ConfigurationError, "No scorer is called 'loud'"),
    ],
)
def test_what_does_not_fit_is_refused(
    waves: Recording, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        convert(forecaster(2), waves.rows(0, 300), recipe="float32", **options)


def test_ranges_and_kinds_are_noted(waves: Recording) -> None:
    recording = waves.rows(0, 600)
    options: dict[str, Any] = {
        "ranges": {"b": (-9.0, None)},
        "scorer": "robust",
        "threshold": "static-quantile",
        "false_alarms_per_day": 2.0,
    }
    detection = convert(forecaster(), recording, recipe="float32", **options)
    found = detection.artifact.manifest.detection
    assert found is not None
    assert found.limits == tuple(
        find_limits(recording.values, [(None, None), (-9.0, None), (None, None)])
    )
    assert (found.scorer, found.threshold, found.false_alarms_per_day) == (
        "robust",
        "static-quantile",
        2.0,
    )


def test_the_default_budget_is_what_the_calibration_can_speak_for(waves: Recording) -> None:
    detection = convert(forecaster(), waves.rows(0, 600), recipe="float32").artifact.manifest
    assert detection.detection is not None
    assert detection.detection.false_alarms_per_day == pytest.approx(8640 / (10 * 580))


def quietly(recording: Recording, **options: Any) -> Conversion:
    """A conversion whose warnings are looked at in what it gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)
        return convert(forecaster(), recording, recipe="float32", **options)


def test_a_calibration_that_is_too_short_leaves_no_threshold(waves: Recording) -> None:
    done = quietly(waves.rows(0, 160))
    assert any("has no threshold: " in warning for warning in done.warnings)
    assert any("record for 10 readings more" in warning for warning in done.warnings)
    assert done.artifact.manifest.detection is None
    assert done.artifact.manifest.task == "forecast"


def test_an_anomaly_in_the_calibration_is_warned_of(waves: Recording) -> None:
    values = waves.values[:900].copy()
    values[500] += [60, 30, 1500]
    done = quietly(dataclasses.replace(waves.rows(0, 900), values=values))
    assert any("of the calibration the score rises to" in text for text in done.warnings)


def test_a_budget_that_cannot_be_kept_is_warned_of(waves: Recording) -> None:
    done = quietly(waves.rows(0, 600), false_alarms_per_day=5000)
    assert any("ask for fewer" in text for text in done.warnings)
    assert done.summary.detection is not None
    assert done.summary.detection.alerts is None


def test_a_budget_far_beyond_the_calibration_is_warned_of(waves: Recording) -> None:
    done = quietly(waves.rows(0, 600), false_alarms_per_day=0.1)
    assert any("extrapolated 149-fold" in text for text in done.warnings)
