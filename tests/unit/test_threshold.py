from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgelstm.errors import ConfigurationError, StateError
from edgelstm.threshold import (
    AdaptiveTail,
    Judgement,
    Tail,
    ThresholdState,
    default_budget,
    fit_tail,
    readings_per_false_alarm,
)

# Five excursions known, their peaks 20 % above the start on average, one in 200 readings.
TAIL = Tail(start=2.0, scale=0.1, excess=0.2, excursions=5, rate=1 / 200, readings=1000)
BUDGET = 2000.0
LEVEL = 2 * (1 + 0.2 * 5 * (10 ** (1 / 5) - 1))  # once in ten excursions
RATE = 2 / 8001

scores_lists = st.lists(st.floats(0, 100), min_size=1, max_size=60)
fast = settings(deadline=None, max_examples=50)


def run(threshold: AdaptiveTail, scores: list[float]) -> list[Judgement]:
    return [threshold.update(score) for score in scores]


# The level


def test_level_is_what_peaks_exceed_once_in_the_budget() -> None:
    judgement = AdaptiveTail(TAIL, BUDGET).update(0)
    assert judgement.threshold == pytest.approx(LEVEL)
    assert judgement.release == pytest.approx((2 + LEVEL) / 2)


def test_many_known_peaks_make_the_tail_exponential() -> None:
    tail = replace(TAIL, excursions=10**6)
    level = AdaptiveTail(tail, BUDGET).update(0).threshold
    assert level == pytest.approx(2 * (1 + 0.2 * math.log(10)), rel=1e-5)
    assert level < LEVEL  # the fewer are known, the higher it has to be


def test_single_scores_set_a_lower_bound() -> None:
    tail = replace(TAIL, scale=2.0)
    level = AdaptiveTail(tail, BUDGET).update(0).threshold
    assert level == pytest.approx(2 + 0.5 * 2 * math.log(BUDGET / 50))
    assert level > LEVEL


def test_more_alarms_than_excursions_takes_the_level_below_the_start() -> None:
    judgement = AdaptiveTail(replace(TAIL, scale=1e-3), 100).update(0)
    assert judgement.threshold == pytest.approx(2 + 0.5 * 1e-3 * math.log(2))
    tail = replace(TAIL, scale=1e-3, rate=1 / 51)
    assert AdaptiveTail(tail, 51).update(0).threshold == pytest.approx(2, rel=1e-3)


def test_score_must_be_above_the_level() -> None:
    level = AdaptiveTail(TAIL, BUDGET).update(0).threshold
    assert not AdaptiveTail(TAIL, BUDGET).update(level).exceeded
    assert AdaptiveTail(TAIL, BUDGET).update(math.nextafter(level, math.inf)).exceeded


def test_level_rises_with_the_budget() -> None:
    levels = [AdaptiveTail(TAIL, n).update(0).threshold for n in (51, 100, 300, 1000, 1e6, 1e9)]
    assert levels == sorted(levels)
    assert levels[1] < levels[-2] < levels[-1]


@pytest.mark.parametrize("budget", [49.9, 1, 0, -1, math.nan])
def test_budget_that_is_too_generous_is_refused(budget: float) -> None:
    with pytest.raises(ConfigurationError, match="fewer false alarms per day"):
        AdaptiveTail(TAIL, budget)


# Learning


def test_score_is_judged_before_it_is_learnt() -> None:
    threshold = AdaptiveTail(TAIL, BUDGET)
    assert threshold.update(1000.0).threshold == pytest.approx(LEVEL)
    assert threshold.state.tail.start > TAIL.start


def test_low_score_pulls_the_tail_down() -> None:
    threshold = AdaptiveTail(TAIL, BUDGET)
    threshold.update(1.0)
    decay = math.exp(-0.2 * RATE)
    assert threshold.state.tail.start == pytest.approx(2.0 * decay, rel=1e-12)
    assert threshold.state.tail.scale == pytest.approx(0.1 * decay, rel=1e-12)


def test_high_score_pushes_the_tail_up_and_its_scale_towards_the_excess() -> None:
    threshold = AdaptiveTail(TAIL, BUDGET)
    threshold.update(2.3)  # above the start, below the level
    growth = math.exp(9.8 * RATE)
    grown = 0.1 * growth
    assert threshold.state.tail.start == pytest.approx(2.0 * growth, rel=1e-12)
    assert threshold.state.tail.scale == pytest.approx(
        grown + RATE * 50 * 0.2 * (0.3 - grown), rel=1e-12
    )


def test_excess_that_the_scale_learns_is_bounded() -> None:
    threshold = AdaptiveTail(TAIL, 1e6)
    assert not threshold.update(3.9).exceeded
    grown = 0.1 * math.exp(9.8 * RATE)
    expected = grown + RATE * 50 * 0.2 * (8 * 0.1 - grown)
    assert threshold.state.tail.scale == pytest.approx(expected, rel=1e-9)


def test_learning_is_five_times_slower_while_exceeded() -> None:
    quiet, exceeded = AdaptiveTail(TAIL, 1e9), AdaptiveTail(TAIL, BUDGET)
    assert not quiet.update(3.4).exceeded
    assert exceeded.update(3.4).exceeded
    growth = [math.log(t.state.tail.start / TAIL.start) for t in (quiet, exceeded)]
    assert growth[0] == pytest.approx(5 * growth[1])


def test_what_has_exceeded_for_long_is_learnt_at_the_full_rate() -> None:
    threshold = AdaptiveTail(TAIL, BUDGET)
    starts = []
    for _ in range(301):
        assert threshold.update(50.0).exceeded
        starts.append(threshold.state.tail.start)
    growth = np.diff(np.log(starts))
    assert growth[297] == pytest.approx(9.8 * RATE / 5)  # of the 299th
    assert growth[298] == pytest.approx(9.8 * RATE)  # of the 300th


def test_alarm_is_not_locked_in_for_ever() -> None:
    threshold = AdaptiveTail(TAIL, BUDGET)
    verdicts = [j.exceeded for j in run(threshold, [8.0] * 3000)]
    assert all(verdicts[:300])
    assert not any(verdicts[-100:])


def test_tail_never_falls_below_its_floors() -> None:
    threshold = AdaptiveTail(Tail(2e-3, 2e-3), BUDGET)
    run(threshold, [0.0] * 20_000)
    tail = threshold.state.tail
    assert (tail.start, tail.scale) == (1e-3, 1e-3)


def test_scale_never_falls_below_a_share_of_the_start() -> None:
    threshold = AdaptiveTail(Tail(100.0, 1e-3), BUDGET)
    threshold.update(100.0)
    tail = threshold.state.tail
    assert tail.scale == pytest.approx(0.05 * tail.start)


def test_constant_zero_never_alarms() -> None:
    threshold = AdaptiveTail(fit_tail(np.zeros(100)), BUDGET)
    assert not any(j.exceeded for j in run(threshold, [0.0] * 5000))


# Excursions


def test_excursion_counts_once_and_by_its_peak() -> None:
    threshold = AdaptiveTail(TAIL, 1e9)  # nothing exceeds
    run(threshold, [2.1, 2.6, 1.0, 2.2] + [1.0] * 9)
    before = threshold.state
    assert before.tail.excursions == 5
    assert before.excursion == pytest.approx(0.3, rel=0.02)  # 2.6 / 2 - 1
    threshold.update(1.0)  # the tenth calm one
    after = threshold.state
    assert after.excursion is None
    assert after.tail.excursions == 6
    peak = before.excursion
    assert peak is not None
    assert after.tail.excess == pytest.approx(0.2 + (peak - 0.2) / 6)


def test_rate_is_that_of_excursions_not_of_scores() -> None:
    threshold = AdaptiveTail(TAIL, 1e9)
    threshold.update(2.5)
    begun = threshold.state.tail
    assert begun.rate == pytest.approx(1 / 200 + (1 - 1 / 200) / 1000)
    assert begun.readings == 1001
    threshold.update(2.5)
    assert threshold.state.tail.rate == pytest.approx(begun.rate * (1 - 1 / 1001))


def test_what_exceeds_does_not_make_excursions_more_frequent() -> None:
    threshold = AdaptiveTail(TAIL, BUDGET)
    assert threshold.update(50.0).exceeded
    assert threshold.state.tail.rate == TAIL.rate


def test_no_peak_counts_more_than_twelve_times_the_mean() -> None:
    threshold = AdaptiveTail(TAIL, BUDGET)
    threshold.update(1e6)
    assert threshold.state.excursion == pytest.approx(12 * 0.2)


def test_memory_of_excursions_is_bounded() -> None:
    threshold = AdaptiveTail(replace(TAIL, readings=4149), 1e9)
    for _ in range(8):
        run(threshold, [2.2] + [1.0] * 10)
    assert threshold.state.tail.excursions == 10
    assert threshold.state.tail.readings == 4150


def test_after_a_failure_the_level_comes_back() -> None:
    rng = np.random.default_rng(0)
    quiet = [sum(rng.exponential(size=10)) / 10 for _ in range(4000)]
    threshold = AdaptiveTail(fit_tail(quiet[:1000]), BUDGET)
    before = [j.threshold for j in run(threshold, quiet[1000:2000])][-1]
    run(threshold, [400.0] * 40)
    after = [j.threshold for j in run(threshold, quiet[2000:])]
    assert after[100] > 2 * before  # half of the recent peak
    assert after[-1] < 1.5 * before


# The peak


def test_recent_peak_raises_what_is_needed() -> None:
    threshold = AdaptiveTail(TAIL, BUDGET)
    level = threshold.update(0).threshold
    threshold.update(20.0)
    judgement = threshold.update(9.0)  # above the level, below half of 20
    assert judgement.threshold == pytest.approx(0.5 * 20 * 2 ** (-1 / 200))
    assert judgement.threshold > 9 > level
    assert not judgement.exceeded


def test_peak_halves_in_two_hundred_readings() -> None:
    threshold = AdaptiveTail(TAIL, BUDGET)
    threshold.update(20.0)
    run(threshold, [0.0] * 200)
    assert threshold.state.peak == pytest.approx(10.0)


def test_peak_is_bounded_by_ten_levels() -> None:
    threshold = AdaptiveTail(TAIL, BUDGET)
    threshold.update(1e6)
    assert threshold.state.peak == pytest.approx(10 * LEVEL)


# Causality and state


@fast
@given(scores_lists, st.data())
def test_future_scores_do_not_change_past_judgements(
    scores: list[float], data: st.DataObject
) -> None:
    stop = data.draw(st.integers(1, len(scores)))
    whole = run(AdaptiveTail(TAIL, BUDGET), scores)
    assert run(AdaptiveTail(TAIL, BUDGET), scores[:stop]) == whole[:stop]


@fast
@given(scores_lists, st.data())
def test_restored_state_goes_on_as_before(scores: list[float], data: st.DataObject) -> None:
    stop = data.draw(st.integers(0, len(scores)))
    first, second = AdaptiveTail(TAIL, BUDGET), AdaptiveTail(Tail(9, 9), BUDGET)
    head = run(first, scores[:stop])
    second.state = first.state
    assert head + run(second, scores[stop:]) == run(AdaptiveTail(TAIL, BUDGET), scores)


@fast
@given(scores_lists)
def test_tail_keeps_its_floors_whatever_comes(scores: list[float]) -> None:
    threshold = AdaptiveTail(TAIL, BUDGET)
    for judgement in run(threshold, scores):
        assert judgement.threshold >= judgement.release > 0
    tail = threshold.state.tail
    assert tail.start >= 1e-3
    assert tail.scale >= max(0.05 * tail.start, 1e-3)
    assert tail.excess >= 0.02
    assert 0 < tail.rate < 1


def test_state_before_the_first_score() -> None:
    assert AdaptiveTail(TAIL, BUDGET).state == ThresholdState(TAIL, 0.0)


@pytest.mark.parametrize(
    "damage",
    [
        {"peak": math.nan},  # with it no score would ever exceed again
        {"peak": math.inf},
        {"peak": -1.0},
        {"excursion": math.nan},
        {"excursion": -0.1},
        {"calm": -1},
        {"exceeding": -1},
    ],
)
def test_state_that_cannot_be_is_refused(damage: dict[str, Any]) -> None:
    threshold = AdaptiveTail(TAIL, BUDGET)
    with pytest.raises(StateError, match="no state of an adaptive threshold"):
        threshold.state = replace(threshold.state, **damage)
    assert threshold.state == ThresholdState(TAIL, 0.0)


# The tail


@pytest.mark.parametrize(
    ("start", "scale"), [(0, 1), (1, 0), (-1, 1), (math.nan, 1), (1, math.nan)]
)
def test_tail_that_is_not_positive_is_refused(start: float, scale: float) -> None:
    with pytest.raises(ConfigurationError, match="not positive"):
        Tail(start, scale)


def test_fit_tail_recovers_an_exponential() -> None:
    scores = np.random.default_rng(0).exponential(0.7, 200_000)
    tail = fit_tail(scores)
    assert tail.start == pytest.approx(0.7 * math.log(50), rel=0.02)
    # The spread between quantile and median sets a floor of 0.3 (ln 50 - ln 2) = 0.966 scales.
    assert tail.scale == pytest.approx(0.7, rel=0.05)
    # One in fifty scores is above the start, and ten calm ones end an excursion.
    assert 1 / tail.rate == pytest.approx(50 / 0.98**10, rel=0.3)
    assert (tail.excursions, tail.readings) == (10, 4150)


@pytest.mark.parametrize(
    ("scores", "start", "scale"),
    [
        # 99 and 100 are above the 98 % quantile; the spread to the median, 50, is wider.
        (np.arange(101.0), 98.0, 0.3 * 48),
        # The quantile lies 2 % of the way from 1 to 2; the mean excess is the rest.
        (np.array([1.0] * 49 + [2.0]), 1.02, 0.98),
    ],
)
def test_fit_tail_by_hand(scores: NDArray[np.float64], start: float, scale: float) -> None:
    tail = fit_tail(scores)
    assert tail.start == pytest.approx(start)
    assert tail.scale == pytest.approx(scale)


def test_fit_tail_counts_excursions_in_time_order() -> None:
    scores = np.ones(400)
    scores[[100, 105, 200, 300]] = 1.5, 2.5, 2.0, 1.5  # the first two are one excursion
    scores[:20:3] = 1.1
    tail = fit_tail(scores)
    start = tail.start
    assert 1 < start < 1.5
    assert tail.excursions == 2 + 3 + (start < 1.1)
    assert tail.readings == 150 + 400


@pytest.mark.parametrize(("score", "start", "scale"), [(0.0, 1e-3, 1e-3), (4.0, 4.0, 0.2)])
def test_fit_tail_of_constant_scores_has_floors(score: float, start: float, scale: float) -> None:
    tail = fit_tail(np.full(500, score))
    assert (tail.start, tail.scale, tail.excess) == (start, scale, 0.02)


# The budget


def test_budget_in_readings() -> None:
    # One a day, and a reading a minute.
    assert readings_per_false_alarm(1, 60) == 1440
    # One in 7 days, and ten readings a second.
    assert readings_per_false_alarm(1 / 7, 0.1) == pytest.approx(7 * 864_000)


@pytest.mark.parametrize(("budget", "period"), [(0, 1), (-1, 1), (1, 0), (1, -1), (math.nan, 1)])
def test_budget_that_makes_no_sense_is_refused(budget: float, period: float) -> None:
    with pytest.raises(ConfigurationError, match="must be positive"):
        readings_per_false_alarm(budget, period)


def test_budget_of_all_but_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is none at all"):
        readings_per_false_alarm(1e-320, 1)


@pytest.mark.parametrize(
    ("readings", "period", "expected"),
    [
        (60_480, 1, 1 / 7),  # a tenth of a week, once a second
        (6048, 1, 10 / 7),
        (400, 1, 21.6),  # once in 4,000 readings
        (750, 300, 1 / 7),
    ],
)
def test_default_budget_is_no_rarer_than_the_calibration_can_tell(
    readings: int, period: float, expected: float
) -> None:
    assert default_budget(readings, period) == pytest.approx(expected)


@pytest.mark.parametrize("budget", [500, 1000, 5000])
def test_false_alarms_keep_the_budget_on_smoothed_scores(budget: int) -> None:
    noise = np.random.default_rng(1).normal(size=60_000) ** 2
    scores, level = [], 1.0
    for energy in noise.tolist():
        level += (energy - level) * 2 / 21
        scores.append(level)
    threshold = AdaptiveTail(fit_tail(scores[:1000]), budget)
    alarms, calm = 0, 10
    for judgement, score in zip(run(threshold, scores), scores, strict=True):
        alarms += judgement.exceeded and calm >= 10
        calm = 0 if judgement.exceeded else calm + (score <= judgement.release)
    assert len(scores) / budget / 3 < alarms < len(scores) / budget * 3


def test_threshold_follows_scores_that_grow() -> None:
    scores = np.random.default_rng(2).exponential(1.0, 60_000)
    threshold = AdaptiveTail(fit_tail(scores[:2000]), 1000)
    drift = np.linspace(1, 3, len(scores))  # three times louder in the end
    exceeded = [threshold.update(score).exceeded for score in (scores * drift).tolist()]
    assert sum(exceeded[-20_000:]) < 3 * 20
