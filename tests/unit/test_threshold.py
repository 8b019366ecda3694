from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgelstm.errors import ConfigurationError
from edgelstm.threshold import (
    Judgement,
    Tail,
    Threshold,
    ThresholdState,
    fit_tail,
    readings_per_false_alarm,
)

TAIL = Tail(start=2.0, scale=0.5)
# ln(50 e^4) - ln 50 = 4 scales above the start
BUDGET = 50 * math.e**4
RATE = 2 / 4001

scores_lists = st.lists(st.floats(0, 100), min_size=1, max_size=60)
fast = settings(deadline=None, max_examples=50)


def run(threshold: Threshold, scores: list[float]) -> list[Judgement]:
    return [threshold.update(score) for score in scores]


# The level


def test_level_is_the_tail_at_the_budget() -> None:
    judgement = Threshold(TAIL, BUDGET).update(0)
    assert judgement.threshold == pytest.approx(2.0 + 0.5 * 4)


def test_score_must_be_above_the_level() -> None:
    level = Threshold(TAIL, BUDGET).update(0).threshold
    assert not Threshold(TAIL, BUDGET).update(level).exceeded
    assert Threshold(TAIL, BUDGET).update(math.nextafter(level, math.inf)).exceeded


def test_level_rises_with_the_budget() -> None:
    levels = [Threshold(TAIL, n).update(0).threshold for n in (51, 100, 1000, 1e6)]
    assert levels == sorted(levels)
    assert levels[3] - levels[2] == pytest.approx(0.5 * math.log(1000))


@pytest.mark.parametrize("budget", [49.9, 1, 0, -1, math.nan])
def test_budget_that_is_too_generous_is_refused(budget: float) -> None:
    with pytest.raises(ConfigurationError, match="fewer false alarms per day"):
        Threshold(TAIL, budget)


# Learning


def test_score_is_judged_before_it_is_learnt() -> None:
    threshold = Threshold(TAIL, BUDGET)
    expected = 2.0 + 0.5 * 4
    assert threshold.update(1000.0).threshold == pytest.approx(expected)
    assert threshold.state.tail.start > TAIL.start


def test_low_score_pulls_the_tail_down() -> None:
    threshold = Threshold(TAIL, BUDGET)
    threshold.update(1.0)
    decay = math.exp(-0.2 * RATE)
    assert threshold.state.tail.start == pytest.approx(2.0 * decay, rel=1e-12)
    assert threshold.state.tail.scale == pytest.approx(0.5 * decay, rel=1e-12)


def test_high_score_pushes_the_tail_up_and_its_scale_towards_the_excess() -> None:
    threshold = Threshold(TAIL, BUDGET)
    threshold.update(3.0)  # above the start, below the level
    growth = math.exp(9.8 * RATE)
    grown = 0.5 * growth
    scale = grown + RATE * 50 * 0.2 * (1.0 - grown)
    assert threshold.state.tail.start == pytest.approx(2.0 * growth, rel=1e-12)
    assert threshold.state.tail.scale == pytest.approx(scale, rel=1e-12)


def test_excess_that_is_learnt_is_bounded() -> None:
    threshold = Threshold(TAIL, 50 * math.e**20)  # level 12: 11 does not exceed
    assert not threshold.update(11.0).exceeded
    grown = 0.5 * math.exp(9.8 * RATE)
    expected = grown + RATE * 50 * 0.2 * (8 * 0.5 - grown)
    assert threshold.state.tail.scale == pytest.approx(expected, rel=1e-9)


def test_learning_is_ten_times_slower_while_exceeded() -> None:
    quiet, exceeded = Threshold(TAIL, 1e9), Threshold(TAIL, 51)
    assert not quiet.update(3.0).exceeded
    assert exceeded.update(3.0).exceeded
    growth = [math.log(t.state.tail.start / TAIL.start) for t in (quiet, exceeded)]
    assert growth[0] == pytest.approx(10 * growth[1])


def test_alarm_is_not_locked_in_for_ever() -> None:
    threshold = Threshold(TAIL, BUDGET)
    verdicts = [j.exceeded for j in run(threshold, [8.0] * 40_000)]
    assert all(verdicts[:100])
    assert not any(verdicts[-100:])


def test_tail_never_falls_below_its_floors() -> None:
    threshold = Threshold(Tail(2e-3, 2e-3), BUDGET)
    run(threshold, [0.0] * 20_000)
    assert threshold.state.tail == Tail(1e-3, 1e-3)


def test_scale_never_falls_below_a_share_of_the_start() -> None:
    threshold = Threshold(Tail(100.0, 1e-3), BUDGET)
    threshold.update(100.0)
    tail = threshold.state.tail
    assert tail.scale == pytest.approx(0.05 * tail.start)


def test_constant_zero_never_alarms() -> None:
    threshold = Threshold(fit_tail(np.zeros(100)), BUDGET)
    assert not any(j.exceeded for j in run(threshold, [0.0] * 5000))


# The peak


def test_recent_peak_raises_what_is_needed() -> None:
    threshold = Threshold(TAIL, BUDGET)
    level = threshold.update(0).threshold
    threshold.update(30.0)
    judgement = threshold.update(8.0)  # above the level, below 0.4 * 30
    assert judgement.threshold == pytest.approx(0.4 * 30 * 2 ** (-1 / 200))
    assert judgement.threshold > 8 > level
    assert not judgement.exceeded


def test_peak_halves_in_two_hundred_readings() -> None:
    threshold = Threshold(TAIL, BUDGET)
    threshold.update(30.0)
    run(threshold, [0.0] * 200)
    assert threshold.state.peak == pytest.approx(15.0)


def test_peak_is_bounded_by_ten_levels() -> None:
    threshold = Threshold(TAIL, BUDGET)
    threshold.update(1e6)
    assert threshold.state.peak == pytest.approx(10 * 4.0)


# Causality and state


@fast
@given(scores_lists, st.data())
def test_future_scores_do_not_change_past_judgements(
    scores: list[float], data: st.DataObject
) -> None:
    stop = data.draw(st.integers(1, len(scores)))
    whole = run(Threshold(TAIL, BUDGET), scores)
    assert run(Threshold(TAIL, BUDGET), scores[:stop]) == whole[:stop]


@fast
@given(scores_lists, st.data())
def test_restored_state_goes_on_as_before(scores: list[float], data: st.DataObject) -> None:
    stop = data.draw(st.integers(0, len(scores)))
    first, second = Threshold(TAIL, BUDGET), Threshold(Tail(9, 9), BUDGET)
    head = run(first, scores[:stop])
    second.state = first.state
    assert head + run(second, scores[stop:]) == run(Threshold(TAIL, BUDGET), scores)


@fast
@given(scores_lists)
def test_tail_keeps_its_floors_whatever_comes(scores: list[float]) -> None:
    threshold = Threshold(TAIL, BUDGET)
    for judgement in run(threshold, scores):
        assert judgement.threshold > 0
    tail = threshold.state.tail
    assert tail.start >= 1e-3
    assert tail.scale >= max(0.05 * tail.start, 1e-3)


def test_state_before_the_first_score() -> None:
    assert Threshold(TAIL, BUDGET).state == ThresholdState(TAIL, 0.0)


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


@pytest.mark.parametrize(("score", "tail"), [(0.0, Tail(1e-3, 1e-3)), (4.0, Tail(4.0, 0.2))])
def test_fit_tail_of_constant_scores_has_floors(score: float, tail: Tail) -> None:
    assert fit_tail(np.full(500, score)) == tail


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


@pytest.mark.parametrize("budget", [1000, 10_000])
def test_false_alarms_keep_the_budget_on_exponential_scores(budget: int) -> None:
    scores = np.random.default_rng(1).exponential(1.0, 200_000)
    threshold = Threshold(fit_tail(scores[:1000]), budget)
    alarms = sum(threshold.update(score).exceeded for score in scores.tolist())
    assert len(scores) / budget / 3 < alarms < len(scores) / budget * 3


def test_threshold_follows_scores_that_grow() -> None:
    scores = np.random.default_rng(2).exponential(1.0, 60_000)
    threshold = Threshold(fit_tail(scores[:2000]), 1000)
    drift = np.linspace(1, 3, len(scores))  # three times louder in the end
    exceeded = [threshold.update(score).exceeded for score in (scores * drift).tolist()]
    assert sum(exceeded[-20_000:]) < 3 * 20
