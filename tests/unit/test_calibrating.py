from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgelstm.alert import AlertEvent, AlertRule
from edgelstm.calibrating import (
    MIN_RESIDUALS,
    SETTLING,
    calibrate,
    calibrate_with_scores,
    find_limits,
    fit_scores,
    judge,
    limits_of,
    longest_run,
    score,
    settled,
)
from edgelstm.detectors import SCORERS, THRESHOLDS, make_threshold
from edgelstm.errors import ConfigurationError, RecordingError
from edgelstm.manifest import Channel, ChannelLimits, Detection
from edgelstm.scorer import EwmaScorer
from edgelstm.threshold import fit_tail

Array = NDArray[np.float64]
NORMAL = np.random.default_rng(0).normal(size=(1000, 2))


def calibrated(residuals: Array, values: Array | None = None, **options: Any) -> Detection:
    given: dict[str, Any] = {
        "targets": range(residuals.shape[1]),
        "residuals_kind": "recording",
        "false_alarms_per_day": 3.0,
    } | options
    return calibrate(residuals, residuals if values is None else values, **given)


def ewma(energies: list[float], span: int = 20) -> list[float]:
    state, scores = 0.0, []
    for energy in energies:
        state += 2 / (span + 1) * (energy - state)
        scores.append(state)
    return scores


# Golden figures


def test_a_small_case_by_hand() -> None:
    """Residuals 3, -3, ... and 4, -4, ... of channels that swing by 1 and by 5."""
    sign = np.where(np.arange(200) % 2, -1.0, 1.0)[:, np.newaxis]
    values = np.array([10.0, -2.0]) + sign * [1.0, 5.0]
    detection, scores = calibrate_with_scores(
        sign * [3.0, 4.0],
        values,
        targets=[0, 1],
        residuals_kind="recording",
        false_alarms_per_day=2.0,
    )
    assert detection.residual_scale == pytest.approx((3.01, 4.05))
    energy = ((3 / 3.01) ** 2 + (4 / 4.05) ** 2) / 2
    assert scores == pytest.approx(ewma([energy] * 200))
    assert detection.score_body == pytest.approx([energy] * 99, rel=3e-3)
    assert detection.tail.start == pytest.approx(energy)
    assert detection.channel_mean == pytest.approx((10.0, -2.0))
    assert detection.channel_std == pytest.approx((1.0, 5.0))
    assert detection.limits == (ChannelLimits(), ChannelLimits())  # two values: a switch
    assert (detection.scorer, detection.threshold) == ("ewma", "adaptive-tail")
    assert (detection.readings, detection.residuals, detection.span) == (200, "recording", 20)
    assert detection.false_alarms_per_day == 2.0


def test_the_scores_are_those_of_the_scorer_and_their_tail_is_fitted_without_the_first() -> None:
    detection, scores = calibrate_with_scores(
        NORMAL,
        NORMAL * 100,
        targets=[0, 1],
        residuals_kind="out-of-fold",
        false_alarms_per_day=1.0,
    )
    scorer = EwmaScorer(detection.residual_scale)
    again = [scorer.update(row) for row in NORMAL]
    assert scores.tolist() == again
    assert detection.residual_scale == pytest.approx(
        np.sqrt((NORMAL**2).mean(axis=0)) + NORMAL.std(axis=0)
    )
    assert SETTLING == 60
    late = scores[60:]
    assert detection.tail == fit_tail(late)
    assert detection.score_body == pytest.approx(np.quantile(late, np.arange(99) / 100))
    assert detection.score_peaks == tuple(sorted(late[late > np.quantile(late, 0.98)]))
    assert len(detection.score_body) == 99
    assert len(detection.score_peaks) == 19  # 2 % of 940


def test_of_many_peaks_500_are_kept_evenly() -> None:
    scores = np.arange(100_000.0)
    peaks = fit_scores(calibrated(NORMAL), scores).score_peaks
    assert len(peaks) == 500
    assert (peaks[0], peaks[-1]) == (98_000.0, 99_999.0)
    assert set(np.diff(peaks)) <= {4.0, 5.0}


def test_a_target_has_the_scale_of_its_own_channel() -> None:
    values = np.array([1.0, 100.0, 10_000.0]) * np.random.default_rng(1).normal(size=(1000, 3))
    detection = calibrated(NORMAL, values, targets=[2, 0])
    expected = np.sqrt((NORMAL**2).mean(axis=0)) + 0.01 * values.std(axis=0)[[2, 0]]
    assert detection.residual_scale == pytest.approx(expected)
    assert len(detection.channel_mean) == len(detection.limits) == 3


@pytest.mark.parametrize("level", [0.0, 20.0, 1e6])
def test_a_constant_channel_counts_as_one_unit(level: float) -> None:
    values = np.stack([NORMAL[:, 0], np.full(1000, level)], axis=1)
    residuals = np.stack([NORMAL[:, 0], np.zeros(1000)], axis=1)
    detection = calibrated(residuals, values)
    assert detection.residual_scale[1] == pytest.approx(0.01)
    assert detection.channel_std[1] == 0


def test_rounding_noise_on_a_constant_is_constant() -> None:
    values = NORMAL.copy()
    values[:, 1] = 1e6 + 1e-5 * NORMAL[:, 1]
    assert calibrated(NORMAL * [1, 0], values).residual_scale[1] == pytest.approx(0.01)


def test_missing_residuals_and_values_are_left_out() -> None:
    """As if they were not there: what is all missing leaves no trace, a part leaves the rest."""
    holes = NORMAL.copy()
    holes = np.insert(holes, 300, np.nan, axis=0)
    whole, pierced = calibrated(NORMAL), calibrated(holes)
    assert pierced.readings == whole.readings == 1000
    assert pierced.residual_scale == pytest.approx(whole.residual_scale)
    assert pierced.tail == whole.tail
    one = NORMAL.copy()
    one[100:200, 1] = np.nan
    detection = calibrated(one)
    assert detection.readings == 1000
    known = np.delete(NORMAL[:, 1], np.arange(100, 200))
    expected = np.sqrt((known**2).mean()) + 0.01 * known.std()
    assert detection.residual_scale[1] == pytest.approx(expected)


@pytest.mark.parametrize(("count", "more"), [(0, 150), (100, 50), (149, 1)])
def test_a_recording_that_is_too_short_says_how_many_are_missing(count: int, more: int) -> None:
    residuals = np.full((500, 2), np.nan)
    residuals[:count] = NORMAL[:count]
    message = f"{count} residuals, .* needs 150: record for {more} readings more"
    with pytest.raises(RecordingError, match=message):
        calibrated(residuals, NORMAL[:500])
    calibrated(NORMAL[:MIN_RESIDUALS])


def test_a_channel_without_a_residual_is_refused() -> None:
    residuals = NORMAL.copy()
    residuals[:, 1] = np.nan
    with pytest.raises(RecordingError, match="no residual at all"):
        calibrated(residuals, NORMAL)


def test_residuals_of_targets_in_turn_may_be_too_few_for_scores() -> None:
    sparse = np.full((200, 4), np.nan)
    for row in range(200):
        sparse[row, row % 4] = NORMAL[row, 0]
    with pytest.raises(RecordingError, match="give 0 settled scores, and a threshold needs 30"):
        calibrated(sparse, np.nan_to_num(sparse), scorer="robust")


@pytest.mark.parametrize(
    "damage",
    [
        {"score_peaks": (math.nan,)},
        {"score_body": (math.inf,)},
        {"channel_mean": (math.nan, 0.0)},
        {"channel_std": (0.0, math.inf)},
        {"readings": -1},
    ],
)
def test_a_detection_that_cannot_be_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="not finite, or a negative"):
        dataclasses.replace(calibrated(NORMAL[:200]), **damage)


def test_a_static_threshold_needs_no_readings() -> None:
    detection = dataclasses.replace(calibrated(NORMAL[:200]), readings=0)
    assert make_threshold(detection, 1000, "static-quantile").update(0.0).threshold > 0


def test_a_channel_without_a_value_is_refused() -> None:
    with pytest.raises(RecordingError, match="no value at all"):
        calibrated(NORMAL, np.insert(NORMAL, 2, np.nan, axis=1))


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_every_scorer_and_threshold_can_be_calibrated(scorer: str, threshold: str) -> None:
    detection = calibrated(NORMAL, scorer=scorer, threshold=threshold)
    assert (detection.scorer, detection.threshold) == (scorer, threshold)
    judged = judge(score(NORMAL, detection), detection, 60.0)
    assert np.isfinite(judged.thresholds).sum() > 500


def test_the_unit_changes_nothing_but_the_scale() -> None:
    plain, milli = calibrated(NORMAL), calibrated(NORMAL * 1e-3)
    assert np.array(milli.residual_scale) * 1e3 == pytest.approx(plain.residual_scale)
    assert milli.tail.start == pytest.approx(plain.tail.start)


@pytest.mark.parametrize("start", [0, 1, 500, 939, 940])
def test_settled_leaves_out_the_first_scores_that_there_are(start: int) -> None:
    scores = np.full(1000, np.nan)
    scores[start:] = np.arange(1000 - start)
    assert settled(scores).tolist() == list(range(60, 1000 - start))


# What the threshold makes of it


def test_judging_is_what_the_threshold_and_the_rule_say() -> None:
    residuals = NORMAL.copy()
    residuals[700:730] *= 9
    detection = calibrated(NORMAL)
    scores = score(residuals, detection)
    scores[:10] = np.nan
    judged = judge(scores, detection, 60.0)
    threshold, rule = make_threshold(detection, 86_400 / 60 / 3.0), AlertRule()
    onsets = []
    for row in range(10, 1000):
        judgement = threshold.update(scores[row])
        assert judged.thresholds[row] == judgement.threshold
        change = rule.update(row * 60.0, scores[row], judgement, ())
        if change and change.event is AlertEvent.OPENED:
            onsets.append(row)
        assert judged.alerting[row] == (rule.open is not None)
    assert judged.onsets == tuple(onsets)
    assert any(700 <= row < 730 for row in onsets)
    assert np.isnan(judged.thresholds[:10]).all()
    assert judged.days == pytest.approx(990 * 60 / 86_400)
    assert judged.per_day == pytest.approx(len(onsets) / judged.days)


def test_a_budget_that_cannot_be_kept_is_refused() -> None:
    detection = calibrated(NORMAL, false_alarms_per_day=1e6)
    with pytest.raises(ConfigurationError, match="ask for fewer"):
        judge(score(NORMAL, detection), detection, 60.0)


# What a working sensor gives


@pytest.mark.parametrize(
    ("column", "longest"),
    [
        ([1.0], 1),
        ([1, 2, 3], 1),
        ([1, 1, 2, 2, 2, 1], 3),
        ([5, 5, 5, 5], 4),
        ([1, 1, math.nan, 1, 1, 1], 3),
        ([math.nan, math.nan, math.nan], 1),
    ],
)
def test_longest_run(column: list[float], longest: int) -> None:
    assert longest_run(np.array(column, np.float64)) == longest


@settings(max_examples=30)
@given(st.lists(st.sampled_from([1.0, 2.0]), min_size=1, max_size=30))
def test_longest_run_is_that_of_the_groups(column: list[float]) -> None:
    expected = max(len(list(group)) for _, group in itertools.groupby(column))
    assert longest_run(np.array(column)) == expected


def runs_of(length: int, readings: int = 1000) -> Array:
    """A value that changes after so many readings."""
    return (np.arange(readings) // length).astype(np.float64)[:, np.newaxis]


@pytest.mark.parametrize(
    ("length", "flat"), [(1, 60), (6, 60), (7, 70), (50, 500), (100, 1000), (101, None)]
)
def test_a_sensor_is_stuck_after_ten_times_its_longest_run(length: int, flat: int | None) -> None:
    assert find_limits(runs_of(length)) == [ChannelLimits(None, None, flat)]


def test_a_switch_and_a_constant_may_stay() -> None:
    values = np.stack([np.arange(1000) % 2, np.full(1000, 7.0), np.arange(1000) % 3], axis=1)
    flats = [limits.flat for limits in find_limits(values.astype(np.float64))]
    assert flats == [None, None, 60]


def test_codes_may_stay() -> None:
    values = np.stack([np.arange(1000) % 5, np.arange(1000) % 7, np.arange(1000.0)], axis=1)
    channels = [
        Channel("mode", "", 0.0, 1.0, None, ("a", "b", "c", "d", "e")),
        Channel("token", "", 0.0, 1.0, 7),
        Channel("level", "", 0.0, 1.0, None),
    ]
    limits = limits_of(values, channels, {"level": (0.0, None)})
    assert limits == [ChannelLimits(), ChannelLimits(), ChannelLimits(0.0, None, 60)]


def test_ranges_are_those_that_were_stated() -> None:
    limits = find_limits(NORMAL, [(None, 4.0), (-1.0, 9.0)])
    assert limits == [ChannelLimits(None, 4.0, 60), ChannelLimits(-1.0, 9.0, 60)]
    assert [(one.low, one.high) for one in find_limits(NORMAL)] == [(None, None)] * 2
    detection = calibrated(NORMAL, limits=limits)
    assert detection.limits == tuple(limits)


def test_a_detection_is_json() -> None:
    detection = calibrated(NORMAL)
    plain = dataclasses.asdict(detection)
    assert all(type(x) is float for x in (*plain["score_body"], *plain["residual_scale"]))
