from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.alert import AlertPolicy
from edgelstm.errors import RecordingError
from edgelstm.evaluation.ridge import (
    ORDER,
    RidgeForecasts,
    Rules,
    Watched,
    fit_rows,
    forecast,
    watch,
)

Floats = NDArray[np.float64]
FIT = 400


@pytest.fixture(scope="module")
def pump() -> Floats:
    """Two sines with noise, and noise of another kind on the first from row 900 to 960."""
    rng = np.random.default_rng(2)
    t = np.arange(1200)
    values = np.stack([20 + 3 * np.sin(t / 8), -5 + np.sin(t / 5)], axis=1)
    values += rng.normal(0, [0.3, 0.1], values.shape)
    values[900:960, 0] += rng.normal(0, 3, 60)
    return np.asarray(values)


def watched(values: Floats, targets: Sequence[int] = (0, 1), per_day: float = 0.1) -> Watched:
    return at(np.arange(len(values), dtype=np.float64) * 60, values, targets, per_day)


def at(times: Floats, values: Floats, targets: Sequence[int], per_day: float) -> Watched:
    forecasts = forecast(values, targets, FIT)
    return watch(forecasts, values, times, targets, Rules(per_day, 60.0))


def naive(values: Floats, target: int) -> Floats:
    """The forecast as the docstring has it, by a plain solve and row by row."""
    mean, std = values[:FIT].mean(axis=0), values[:FIT].std(axis=0)
    z = (values - mean) / std
    channels = values.shape[1]
    design = np.array([[*z[t - 5 : t][::-1].ravel(), 1] for t in range(5, FIT)])
    penalty = np.diag([0.5 * 5 * channels] * (5 * channels) + [1e-9])
    weights = np.linalg.inv(design.T @ design + penalty) @ design.T @ z[5:FIT, target]
    rows = np.array([[*z[t - 5 : t][::-1].ravel(), 1] for t in range(5, 850)])
    return np.asarray((z[5:850, target] - rows @ weights) * std[target])


@pytest.mark.parametrize("target", [0, 1])
def test_residuals_are_those_of_a_ridge_regression(pump: Floats, target: int) -> None:
    found = forecast(pump, (0, 1), FIT)
    assert np.isnan(found.residuals[:ORDER]).all()
    assert found.residuals[ORDER:850, target] == pytest.approx(naive(pump, target), abs=1e-8)


def test_held_out_residuals_are_larger_than_fitted_ones(pump: Floats) -> None:
    noise = np.random.default_rng(0).normal(0, 1, (FIT, 8))
    found = forecast(noise, range(8), FIT)
    assert found.held_out.shape == (FIT, 8)
    held_out = np.sqrt(np.nanmean(found.held_out**2))
    assert held_out > 1.05 * np.sqrt(np.nanmean(found.residuals**2))
    assert held_out > 1  # what nothing forecasts is forecast no better than by its mean


def test_later_rows_change_nothing_before(pump: Floats) -> None:
    cut = watched(pump[:930])
    whole = watched(pump)
    assert np.array_equal(whole.scores[:930], cut.scores, equal_nan=True)
    assert (whole.alarm[:930] == cut.alarm).all()


def test_finds_what_is_plain_to_see_and_nothing_else(pump: Floats) -> None:
    found = watched(pump)
    rows = np.flatnonzero(found.onsets)
    assert len(rows) == 1
    assert 900 <= rows[0] <= 905
    assert found.alarm[rows[0] : 960].all()
    assert not found.alarm[: rows[0]].any()


def test_targets_are_scored_and_other_channels_are_not(pump: Floats) -> None:
    assert not watched(pump, targets=(1,)).onsets.any()


def test_units_do_not_matter(pump: Floats) -> None:
    scaled = watched(pump * [1e-6, 1e6] + [5, -3])
    assert scaled.scores[ORDER:] == pytest.approx(watched(pump).scores[ORDER:], rel=1e-4)


def test_missing_values_have_no_residual_and_do_no_harm(pump: Floats) -> None:
    holed = pump.copy()
    holed[500, 0] = np.nan
    holed[600:603] = np.nan
    found = forecast(holed, (0, 1), FIT)
    assert np.isnan(found.residuals[500]).tolist() == [True, False]
    assert np.isnan(found.residuals[600:603]).all()
    assert np.isfinite(np.delete(found.residuals[ORDER:], [495, 595, 596, 597], axis=0)).all()
    result = watched(holed)
    assert np.flatnonzero(np.isnan(result.scores[ORDER:])).tolist() == [595, 596, 597, 598]
    assert result.onsets.sum() == 1


@pytest.mark.parametrize(("missing", "unscored"), [(1, [700]), (11, [700, 701, 702, 703, 704])])
def test_gap_in_time(pump: Floats, missing: int, unscored: list[int]) -> None:
    times = np.arange(len(pump), dtype=np.float64) * 60
    times[700:] += missing * 60
    result = at(times, pump, (0, 1), 0.1)
    assert (np.flatnonzero(np.isnan(result.scores[ORDER:])) + ORDER).tolist() == unscored
    assert result.onsets.sum() == 1


def test_rules_are_those_that_are_given(pump: Floats) -> None:
    """Three exceeding scores in a row are needed, and a gap begins the count anew."""

    def onset(gap: int) -> int:
        times = np.arange(len(pump), dtype=np.float64) * 60
        times[gap:] += 60
        rules = Rules(0.1, 60.0, policy=AlertPolicy(k=3, n=3))
        found = watch(forecast(pump, (0, 1), FIT), pump, times, (0, 1), rules)
        return int(found.onsets.argmax())

    first = int(watched(pump).onsets.argmax())
    assert onset(700) == first + 2
    assert onset(first + 2) == first + 5


def test_wild_value_does_no_lasting_harm(pump: Floats) -> None:
    wild = pump.copy()
    wild[700, 0] = 1e12
    found = forecast(wild, (0, 1), FIT)
    assert np.abs(found.residuals[701:706]).max() < 100
    assert np.array_equal(found.residuals[706:], forecast(pump, (0, 1), FIT).residuals[706:])


def test_constant_channel(pump: Floats) -> None:
    values = np.column_stack([pump[:, 1], np.full(len(pump), 7.0)])
    result = watched(values)
    assert np.isfinite(result.scores[ORDER:]).all()
    assert not result.onsets.any()


def test_too_few_rows_to_fit_on(pump: Floats) -> None:
    with pytest.raises(RecordingError, match=r"needs 155 readings .* there are 154.*--from-row"):
        forecast(pump, (0, 1), 154)
    assert isinstance(forecast(pump, (0, 1), 155), RidgeForecasts)


def test_rows_that_it_is_fitted_on() -> None:
    assert fit_rows(2000, 400) == 400
    assert fit_rows(2000, 0) == 300
    assert fit_rows(22_695, 0) == 750
