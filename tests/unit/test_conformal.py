from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from numpy.typing import ArrayLike

from edgelstm.artifact import Artifact
from edgelstm.calibrating import fit_scores
from edgelstm.detectors.conformal import AdaptiveConformal, ConformalState
from edgelstm.errors import ConfigurationError, StateError
from edgelstm.manifest import Detection

RAMP = (np.arange(2000) + 0.5) / 2000
WINDOW = tuple(RAMP.tolist())


def of(tiny: Artifact, scores: ArrayLike) -> Detection:
    detection = tiny.manifest.detection
    assert detection is not None
    values = np.asarray(scores, np.float64)
    return dataclasses.replace(fit_scores(detection, values), readings=len(values))


def make(tiny: Artifact, budget: float, **changes: object) -> AdaptiveConformal:
    """One whose window is the ramp, in that order."""
    threshold = AdaptiveConformal(of(tiny, RAMP), budget)
    threshold.state = dataclasses.replace(ConformalState(WINDOW, 1.0, 0), **changes)  # type: ignore[arg-type]
    return threshold


# The level


def test_window_begins_with_the_scores_of_the_calibration(tiny: Artifact) -> None:
    state = AdaptiveConformal(of(tiny, RAMP), 100).state
    assert sorted(state.scores) == pytest.approx(RAMP, abs=2e-3)
    assert sorted(state.scores[:200]) == pytest.approx(RAMP[::10], abs=0.02)  # in no order


@pytest.mark.parametrize("budget", [51, 80, 100])
def test_level_is_the_conformal_quantile_of_the_window(tiny: Artifact, budget: float) -> None:
    rank = math.ceil((1 - 1 / budget) * 2001)
    assert make(tiny, budget).update(0).threshold == WINDOW[rank - 1]


def test_level_beyond_the_twentieth_highest_is_exponential(tiny: Artifact) -> None:
    levels = [make(tiny, n).update(0).threshold for n in (100.1, 1001, 10_010)]
    base, scale = WINDOW[-21], np.mean(WINDOW[-40:]) - WINDOW[-41]
    assert levels[0] == pytest.approx(base, abs=1e-4)
    assert np.diff(levels) == pytest.approx([scale * math.log(10)] * 2)


def test_release_is_half_way_to_where_the_tail_begins(tiny: Artifact) -> None:
    judgement = make(tiny, 1000).update(0)
    assert judgement.release == (WINDOW[-41] + judgement.threshold) / 2


def test_constant_sensor_has_a_level_above_zero(tiny: Artifact) -> None:
    for budget in (60, 1000):
        threshold = AdaptiveConformal(of(tiny, np.zeros(500)), budget)
        assert threshold.update(0).threshold >= 1e-3


# The share of errors


def test_share_grows_while_nothing_exceeds(tiny: Artifact) -> None:
    threshold = make(tiny, 100)
    for _ in range(80):
        threshold.update(0.5)
    assert threshold.state.ratio == pytest.approx(1 + 80 / 8 / 100)


def test_an_alarm_is_one_error_however_long(tiny: Artifact) -> None:
    threshold = make(tiny, 100)
    for score in (5, 5, 5, 5):
        threshold.update(score)
    assert threshold.state.ratio == pytest.approx(1 - 1 / 8 + 4 / 8 / 100)
    threshold.update(0)
    threshold.update(5)
    assert threshold.state.ratio == pytest.approx(1 - 2 / 8 + 6 / 8 / 100)


def test_lower_share_is_a_higher_level(tiny: Artifact) -> None:
    levels = [make(tiny, 1000, ratio=r).update(0).threshold for r in (16, 4, 1, 1 / 4, 1 / 16)]
    assert levels == sorted(levels)


def test_share_is_bounded(tiny: Artifact) -> None:
    threshold = make(tiny, 60, ratio=1 / 8)
    threshold.update(5)
    assert threshold.state.ratio == 1 / 16
    threshold = make(tiny, 60, ratio=16.0)
    threshold.update(0.5)
    assert threshold.state.ratio == 16
    # 16 / 60 of all scores would be half of the body
    assert threshold.update(0.5).threshold > 0.979


def test_wrong_tail_is_corrected_in_time(tiny: Artifact) -> None:
    rng = np.random.default_rng(2)
    threshold = AdaptiveConformal(of(tiny, rng.exponential(size=750)), 200)
    scores = np.abs(rng.standard_t(2, size=20_000)).tolist()
    alarms = sum(threshold.update(score).exceeded for score in scores)
    assert 100 / 2 < alarms < 100 * 2


# The window


def test_scores_enter_the_window_and_leave_it(tiny: Artifact) -> None:
    threshold = make(tiny, 1000)
    threshold.update(0.25)
    assert threshold.state.scores == (*WINDOW[1:], 0.25)


def test_exceeding_scores_are_learnt_one_in_ten_and_bounded(tiny: Artifact) -> None:
    threshold = make(tiny, 1000)
    for _ in range(9):
        level = threshold.update(1e300).threshold
    assert threshold.state.scores == WINDOW
    level = threshold.update(1e300).threshold
    assert threshold.state.scores == (*WINDOW[1:], 2 * level)


def test_lasting_change_becomes_normal(tiny: Artifact) -> None:
    threshold = make(tiny, 1000)
    exceeded = [threshold.update(3.0).exceeded for _ in range(2000)]
    assert exceeded[0]
    assert not exceeded[-1]


# What is refused


@pytest.mark.parametrize("budget", [50, 1, 0, -1, math.nan, math.inf])
def test_budget_that_is_too_generous_is_refused(tiny: Artifact, budget: float) -> None:
    with pytest.raises(ConfigurationError, match="one in 50"):
        AdaptiveConformal(of(tiny, RAMP), budget)


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": WINDOW[1:]},
        {"scores": (*WINDOW[1:], math.nan)},
        {"scores": (*WINDOW[1:], -1.0)},
        {"ratio": 1 / 17},
        {"ratio": 17.0},
        {"exceeding": -1},
    ],
)
def test_wrong_state_is_refused(tiny: Artifact, changes: dict[str, object]) -> None:
    with pytest.raises(StateError, match="no state of a conformal threshold; start afresh"):
        make(tiny, 1000, **changes)


def test_state_of_something_else_is_refused(tiny: Artifact) -> None:
    with pytest.raises(StateError, match="no state of a conformal threshold; start afresh"):
        make(tiny, 1000).state = None  # type: ignore[assignment]
