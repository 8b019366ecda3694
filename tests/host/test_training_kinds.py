"""Every kind of model that `train` makes, and what it may and may not learn from."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from stepping import candidates_of, keras_runner, make, roughen

from edgelstm.errors import ConfigurationError, ModelError, RecordingError
from edgelstm.recording import Recording
from edgelstm_quantize import keras_files, train
from edgelstm_quantize.encoding import Encoding, fit_encoding
from edgelstm_quantize.forecasters import Architecture, build_model, build_network
from edgelstm_quantize.forecasting import SETTLING, Forecasting
from edgelstm_quantize.forward import forward, forward_windows
from edgelstm_quantize.ridge import TAPS
from edgelstm_quantize.sequences import blocks
from edgelstm_quantize.training import Trained
from edgelstm_quantize.training_data import TrainingData, prepare

CODES = (0.0, 1.0, 3.0)


def noise(readings: int, channels: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(readings, channels))


def recording(values: NDArray[np.float64], names: str = "abcdefgh") -> Recording:
    return Recording.from_array(values, channels=list(names[: values.shape[1]]))


def rms(residuals: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.sqrt(np.nanmean(residuals**2, axis=0))
    return found


def weights_of(trained: Trained) -> list[bytes]:
    return [w.tobytes() for w in trained.model.get_weights()]


@pytest.fixture(scope="module")
def mixed() -> TrainingData:
    """Three smooth channels and one of codes, in two segments; 5 % of the numbers filled, and the
    last two readings of each segment."""
    rng = np.random.default_rng(5)
    z = np.zeros((620, 3))
    for t in range(2, 620):
        z[t] = 1.5 * z[t - 1] - 0.7 * z[t - 2] + rng.normal(0, 1, 3)
    codes = rng.choice(CODES, 620)
    values = np.column_stack([z[:, 0] * 3 + 50, codes, z[:, 1:] * [0.1, 1]])
    known = np.ones(values.shape, bool)
    known[:, [0, 2, 3]] = rng.random((620, 3)) > 0.05
    known[np.ix_([308, 309, 618, 619], [0, 2, 3])] = False
    return TrainingData(
        ("a", "mode", "b", "c"),
        ("a", "c"),
        {"mode": CODES},
        {"mode": ("idle", "slow", "off", "fast")},
        values,
        known,
        ((0, 310), (310, 620)),
        2.0,
        ("a remark",),
    )


@pytest.fixture(scope="module")
def trained(mixed: TrainingData) -> Trained:
    """Of everything at once."""
    return train(mixed, units=4, layers=2, horizon=2, dropout=0.2, iterations=20)


def test_everything_at_once_gives_a_model_of_physical_units(
    trained: Trained, mixed: TrainingData
) -> None:
    y = keras_runner(trained.model, mixed.values.astype(np.float32))(
        mixed.values[:300].astype(np.float32)
    )
    assert y.shape == (300, 2)
    residuals = mixed.values[2:300, [0, 3]] - y[:-2]
    # One fit on everything and one on two thirds forecast much the same.
    assert rms(residuals[20:]) == pytest.approx(np.array(trained.rms), rel=0.2)
    assert (np.array(trained.rms) < 0.95 * np.array(trained.std)).all()
    assert trained.error <= trained.ridge_error * 1.01
    assert trained.remarks == ("a remark",)
    assert len(trained.curves) == len(trained.best) == 3
    for curve, best in zip(trained.curves, trained.best, strict=True):
        assert [i for i, _ in curve] == [0, 10, 20]
        assert best in (0, min(curve, key=lambda point: point[1])[0])


def test_the_record_says_what_it_was(trained: Trained, mixed: TrainingData, tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    keras_files.save(trained.model, trained.record, path)
    _, record = keras_files.load(path)
    assert record is not None
    assert record.channels == ("a", "mode", "b", "c")
    assert record.targets == ("a", "c")
    assert record.categories == (None, ("idle", "slow", "off", "fast"), None, None)
    assert (record.task, record.horizon, record.sample_period) == ("forecast", 2, 2.0)
    np.testing.assert_array_equal(record.residuals, trained.record.residuals)

    # No residual without a past, nor where the value is not known.
    nothing = np.isnan(record.residuals)
    expected = ~mixed.known[:, [0, 3]]
    for start, _ in mixed.segments:
        expected[start : start + SETTLING + 1] = True
    np.testing.assert_array_equal(nothing, expected)


def test_what_was_filled_has_no_influence(trained: Trained, mixed: TrainingData) -> None:
    """Nor has anything else: the same seed gives the same, to the bit.

    The last readings of a segment are targets only, so there not even an input is touched.
    """
    values = mixed.values.copy()
    for row in (308, 309, 618, 619):
        assert not mixed.known[row, [0, 2, 3]].any()
        values[row, [0, 2, 3]] += 1e4
    other = dataclasses.replace(mixed, values=values)
    again = train(other, units=4, layers=2, horizon=2, dropout=0.2, iterations=20)
    assert weights_of(again) == weights_of(trained)
    np.testing.assert_array_equal(again.record.residuals, trained.record.residuals)
    assert again.curves == trained.curves
    assert again.record.data_sha256 != trained.record.data_sha256


def test_no_sequence_crosses_a_cut() -> None:
    sides = np.repeat([1.0, -1.0, 1.0], [150, 200, 250])
    values = np.column_stack([sides, noise(600, 1)])
    data = prepare([recording(values)])
    data = dataclasses.replace(data, segments=((0, 150), (150, 350), (350, 600)))
    encoding = fit_encoding(data)
    task = Forecasting(data, encoding, 3, blocks(600, 3))
    everything = np.ones(600, bool)
    linear = task.solve(everything)
    draw = task.draw(np.zeros_like(linear), everything, np.random.default_rng(0))
    for _ in range(100):
        batch = draw()
        numbers = np.sign(np.concatenate([batch.x[:, :, 0], batch.y[:, SETTLING:, 0]], axis=1))
        assert (numbers == numbers[:, :1]).all()


def test_states_and_windows_begin_anew_in_each_segment() -> None:
    values = noise(600, 1).cumsum(axis=0)
    other = values.copy()
    other[:300] = noise(300, 1, seed=3)
    data = dataclasses.replace(prepare([recording(values)]), segments=((0, 300), (300, 600)))
    encoding = fit_encoding(data)
    network = build_network(Architecture(units=4), 1, 1)
    assert network is not None
    roughen(network)
    kernel = noise(TAPS, 1).reshape(TAPS, 1, 1)
    first, second = (
        Forecasting(dataclasses.replace(data, values=v), encoding, 1, blocks(600, 3)).residuals(
            network, kernel, (0, 600)
        )
        for v in (values, other)
    )
    np.testing.assert_array_equal(first[300:], second[300:])
    assert np.isnan(first[300 : 300 + SETTLING]).all()
    assert not np.allclose(first[SETTLING:300], second[SETTLING:300])


def test_residuals_are_out_of_fold() -> None:
    """Noise cannot be forecast: 40 weights fit 300 readings better than they forecast others."""
    assert train(recording(noise(300, 8)), model="ridge").error > 1.0


def test_several_recordings_are_one_training() -> None:
    whole = noise(600, 2).cumsum(axis=0)
    apart = train([recording(whole[:250]), recording(whole[250:])], model="ridge", horizon=1)
    assert len(apart.record.residuals) == 600
    assert np.flatnonzero(np.isnan(apart.record.residuals[:, 0])).tolist() == [
        *range(SETTLING),
        *range(250, 250 + SETTLING),
    ]


def test_a_delay_is_forecast_exactly_at_its_own_horizon() -> None:
    """`b` is what `a` was three readings ago: known three ahead, and no further."""
    x = noise(903, 1)[:, 0]
    delayed = recording(np.column_stack([x[3:], x[:-3]]))
    three = train(delayed, model="ridge", horizon=3, targets=("b",))
    assert three.record.residuals.shape == (900, 1)
    assert rms(three.record.residuals) < 0.05
    y = three.model(delayed.values[None].astype(np.float32)).numpy()[0]
    np.testing.assert_allclose(y[5:-3, 0], delayed.values[8:, 1], atol=0.1)
    four = train(delayed, model="ridge", horizon=4, targets=("b",))
    assert rms(four.record.residuals) > 0.9


def test_a_level_that_goes_with_the_mode_is_forecast() -> None:
    rng = np.random.default_rng(2)
    mode = rng.choice(4, 900)
    level = np.array([0.0, 10.0, -5.0, 3.0])[mode]
    values = np.column_stack([np.append(0, level[:-1]) + rng.normal(0, 0.1, 900), mode])
    jumping = recording(values)
    blind = train(jumping, model="ridge", targets=("a",))
    told = train(jumping, model="ridge", categorical=("b",))
    assert rms(blind.record.residuals)[0] > 3
    assert rms(told.record.residuals)[0] < 0.3
    assert told.record.targets == ("a",)
    assert told.record.categories == (None, None)
    y = told.model(values[None].astype(np.float32)).numpy()[0]
    assert rms(values[10:, :1] - y[9:-1])[0] < 0.3


def test_the_model_sees_the_features_that_it_was_trained_on(mixed: TrainingData) -> None:
    encoding = fit_encoding(mixed)
    ridge = build_model(
        Architecture("ridge"), encoding, [0], kernel=np.ones((TAPS, encoding.width, 1))
    )
    seen = keras.Model(ridge.input, ridge.get_layer("features").output)
    np.testing.assert_allclose(
        seen(mixed.values[None].astype(np.float32)).numpy()[0],
        encoding.features(mixed.values),
        atol=1e-5,
    )


def test_rounding_to_int8_leaves_categories_as_they_are() -> None:
    """Even 32 of them, half a code off."""
    codes = tuple(float(k) for k in range(32))
    encoding = Encoding(np.array([15.5]), np.array([31 / 14]), (codes,))
    ridge = build_model(Architecture("ridge"), encoding, [0], kernel=np.ones((TAPS, 32, 1)))
    seen = keras.Model(ridge.input, ridge.get_layer("category_0_c").output)
    half = 8 / 127 / 2 * 31 / 14
    for off in (-half, 0.0, half):
        x = np.arange(32.0)[None, :, None] + off
        np.testing.assert_allclose(seen(x.astype(np.float32)).numpy()[0], np.eye(32), atol=1e-5)


def test_a_warm_start_starts_there(trained: Trained, mixed: TrainingData, tmp_path: Path) -> None:
    options: dict[str, Any] = {"units": 4, "layers": 2, "horizon": 2, "iterations": 0}
    path = tmp_path / "m.keras"
    keras_files.save(trained.model, trained.record, path)
    shifted = dataclasses.replace(mixed, values=mixed.values + np.array([5, 0, 0, 1]))
    for source in (path, trained.model):
        warm = train(shifted, **options, seed=9, warm_start=source)
        for name in ("lstm", "lstm_2", "correction"):
            for own, other in zip(
                warm.model.get_layer(name).get_weights(),
                trained.model.get_layer(name).get_weights(),
                strict=True,
            ):
                np.testing.assert_array_equal(own, other)
    scaled = warm.model.get_layer("normalise").mean.numpy().reshape(-1)
    assert scaled[0] == pytest.approx(fit_encoding(shifted).mean[0])

    # With another channel, what fits is taken all the same.
    wider = prepare([recording(noise(400, 6))])
    more = train(wider, **options, warm_start=path)
    kernel, recurrent, _ = more.model.get_layer("lstm").get_weights()
    old, expected, _ = trained.model.get_layer("lstm").get_weights()
    assert kernel.shape == old.shape
    np.testing.assert_array_equal(kernel, old)
    np.testing.assert_array_equal(recurrent, expected)
    assert more.model.get_layer("correction").get_weights()[0].shape == (4, 6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"units": 5, "layers": 2}, "2 LSTM layers of 4 units"),
        ({"units": 4}, "1 LSTM layer of 4 units"),
        ({"units": 4, "layers": 2, "model": "gru"}, "kind gru with 2 GRU layers"),
        ({"units": 4, "model": "autoencoder"}, "windows of 32 readings"),
        ({"model": "ridge"}, "starts from nothing"),
    ],
)
def test_a_warm_start_of_another_make_is_refused(
    options: dict[str, Any], said: str, trained: Trained
) -> None:
    with pytest.raises((ModelError, ConfigurationError)) as error:
        train(recording(noise(300, 2)), **options, warm_start=trained.model)
    assert said in str(error.value)


def test_a_warm_start_from_something_else_is_refused() -> None:
    x = keras.Input((None, 2))
    other = keras.Model(x, keras.layers.LSTM(4, return_sequences=True)(x), name="mine")
    with pytest.raises(ModelError, match="'mine' is no model that edgelstm trained"):
        train(recording(noise(300, 2)), units=4, warm_start=other)


def test_an_autoencoder_gives_windows_back_out_of_fold() -> None:
    t = np.arange(420)
    waves = np.column_stack([np.sin(t / 5), np.cos(t / 7)]) * [1, 10] + 0.05 * noise(420, 2)
    found = train(recording(waves), model="autoencoder", window=12, units=8, iterations=150)
    assert found.error < 0.9
    record = found.record
    assert (record.task, record.horizon) == ("reconstruction", 0)
    assert record.residuals.shape == (420, 12 * 2)
    # A window that began in another block was partly seen.
    nothing = np.isnan(record.residuals).all(axis=1)
    assert np.flatnonzero(nothing).tolist() == [k for a in (0, 140, 280) for k in range(a, a + 11)]
    y = found.model(waves[None, 100:112].astype(np.float32)).numpy()[0]
    assert y.shape == (12, 2)
    missed = np.sqrt(np.mean(((waves[100:112] - y) / waves.std(axis=0)) ** 2))
    assert missed == pytest.approx(found.error, rel=0.6)


@pytest.mark.parametrize("kind", ["hybrid", "ridge", "lstm", "gru", "two layers", "one-hot"])
def test_every_kind_streams(kind: str, tmp_path: Path) -> None:
    """In int8-float and int8, from a file, as one model gives it over the whole recording."""
    values = noise(700, 3)
    for t in range(1, 700):
        values[t] += 0.8 * values[t - 1]
    values = values * [1, 10, 0.1] + [5, 0, 1]
    data, targets = prepare([recording(values)]), [0, 1, 2]
    if kind == "one-hot":
        values[:, 1] = np.random.default_rng(1).choice(CODES, 700)
        data = dataclasses.replace(data, values=values, categories={"b": CODES})
        targets = [0, 2]
    layers = 2 if kind == "two layers" else 1
    made = Architecture(kind if kind in ("ridge", "lstm", "gru") else "hybrid", 8, layers)
    encoding = fit_encoding(data, made.clip)
    network = build_network(made, encoding.width, len(targets))
    if network is not None:
        roughen(network)
    kernel = 0.2 * noise(TAPS * encoding.width, len(targets)).reshape(TAPS, encoding.width, -1)
    model = build_model(
        made, encoding, targets, network=network, kernel=kernel if made.linear else None
    )
    error = errors(model, values, tmp_path)
    assert error["float32"] < 1e-5
    assert error["int8-float"] < 0.02
    assert error["int8"] < 0.1


def test_an_autoencoder_converts_for_its_window(tmp_path: Path) -> None:
    values = noise(400, 2).cumsum(axis=0) * [1, 10] + [5, 0]
    encoding = fit_encoding(prepare([recording(values)]))
    made = Architecture("autoencoder", 4, window=8)
    network = build_network(made, 2, 2)
    assert network is not None
    model = build_model(made, encoding, [0, 1], network=roughen(network))
    error = errors(model, values, tmp_path, windows=True)
    assert error["float32"] < 1e-5
    assert error["int8-float"] < 0.02
    assert error["int8"] < 0.1


def errors(
    model: Any, values: NDArray[np.float64], folder: Path, *, windows: bool = False
) -> dict[str, float]:
    """What three recipes lose of a model that was saved and loaded, in standard deviations."""
    model.save(folder / "m.keras")
    model, _ = keras_files.load(folder / "m.keras")
    x = values.astype(np.float32)
    candidates = candidates_of(model, x, windows=windows)
    run = forward_windows(model, model.inputs[0].shape[1], 1) if windows else forward(model)
    expected = run(x)
    found = {}
    for recipe in ("float32", "int8-float", "int8"):
        _, y = make(candidates, recipe)
        found[recipe] = float(np.nanmean(np.abs(y - expected) / np.nanstd(expected, axis=0)))
    return found


@pytest.mark.parametrize(
    ("readings", "options", "said"),
    [
        (179, {}, "needs at least 180"),
        (185, {"horizon": 3}, "forecast 3 ahead needs at least 186"),
        (400, {"model": "autoencoder", "window": 60}, "of 60 readings needs at least 540"),
        (300, {"targets": ("nowhere",)}, "'nowhere'"),
        (300, {"model": "transformer"}, "'transformer'"),
        (300, {"window": 8}, "goes with the autoencoder"),
        (300, {"model": "autoencoder", "horizon": 2}, "forecasts nothing"),
        (300, {"model": "autoencoder", "targets": ("a",)}, "reconstructs every channel"),
        (300, {"horizon": 0}, "at least 1"),
        (300, {"dropout": 1.0}, "dropout"),
        (300, {"layers": 0}, "at least one"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    readings: int, options: dict[str, Any], said: str
) -> None:
    with pytest.raises((RecordingError, ConfigurationError)) as error:
        train(recording(noise(readings, 2)), **options)
    assert said in str(error.value)
    assert str(error.value).count(". ") == 0


def test_readings_that_teach_nothing_are_refused() -> None:
    for values in (np.full((300, 2), 7.0), np.full((300, 2), np.nan)):
        data = TrainingData(
            ("a", "b"), ("a", "b"), {}, {}, values, np.isfinite(values), ((0, 300),), 1.0
        )
        with pytest.raises(RecordingError, match=r"never change|has no value"):
            train(data)
    pieces = tuple((k, k + 12) for k in range(0, 300, 12))
    data = dataclasses.replace(prepare([recording(noise(300, 1))]), segments=pieces)
    for model in ("hybrid", "autoencoder"):
        with pytest.raises(RecordingError, match="long enough"):
            train(data, model=model)


def test_a_record_of_an_earlier_version_is_read(trained: Trained, tmp_path: Path) -> None:
    path, old = tmp_path / "m.keras", tmp_path / "old.keras"
    keras_files.save(trained.model, trained.record, path)
    with zipfile.ZipFile(path) as new, zipfile.ZipFile(old, "w") as archive:
        for name in new.namelist():
            content = new.read(name)
            if name == "edgelstm/training.json":
                now = json.loads(content)
                then = {key: now[key] for key in ("channels", "horizon", "data_sha256")}
                content = json.dumps(then).encode()
            archive.writestr(name, content)
    _, record = keras_files.load(old)
    assert record is not None
    assert record.targets == record.channels == ("a", "mode", "b", "c")
    assert record.categories == (None,) * 4
    assert (record.task, record.sample_period) == ("forecast", None)
