from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgelstm.detectors.robust import RobustScorer, RobustState
from edgelstm.errors import ConfigurationError, StateError
from edgelstm.scorer import EwmaScorer, EwmaState

NAN = math.nan
RNG = np.random.default_rng(5)
NORMAL = RNG.normal(size=(700, 1))


def after(run: NDArray[np.float64], scale: float = 1.0, span: int = 20) -> RobustScorer:
    scorer = RobustScorer([scale] * run.shape[1], span)
    for residual in run:
        scorer.update(residual)
    return scorer


def modified_z(value: float, before: list[float]) -> float:
    """As Iglewicz and Hoaglin have it, of an odd number of values."""
    middle = statistics.median(before)
    return 0.6745 * (value - middle) / statistics.median(abs(v - middle) for v in before)


def test_score_is_of_the_modified_z_among_the_residuals_before() -> None:
    before = NORMAL[:101]
    scorer = after(before, span=1)  # no averaging
    assert scorer.update([3.0]) == pytest.approx(modified_z(3.0, before[:, 0].tolist()) ** 2)


def test_window_is_of_the_latest_500() -> None:
    run = np.concatenate([np.full((300, 1), 50.0), NORMAL[:500]])
    assert after(run, span=1).update([3.0]) == after(NORMAL[:500], span=1).update([3.0])
    assert after(run[1:], span=1).update([3.0]) == after(NORMAL[:500], span=1).update([3.0])


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(-9, 9) | st.floats(-1e3, 1e3), min_size=65, max_size=90))
def test_median_and_mad_are_right_after_every_residual(run: list[float]) -> None:
    scorer = RobustScorer([1.0], span=1)
    for seen, value in enumerate(run):
        score = scorer.update([value])
        if seen >= 60:
            ordered = sorted(run[:seen])
            middle = ordered[seen // 2]
            mad = sorted(abs(v - middle) for v in ordered)[seen // 2]
            z = 0.6745 * (value - middle) / max(mad, 0.06745)
            assert score == pytest.approx(min(z * z, 1e6))


def test_score_does_not_depend_on_the_scale_of_the_calibration() -> None:
    one, other = after(NORMAL), after(NORMAL, scale=0.25)
    assert one.update([2.0]) == pytest.approx(other.update([2.0]))


def test_sensor_that_became_noisier_is_normal_again_after_the_window() -> None:
    run = np.concatenate([NORMAL[:300], 3 * NORMAL])
    noisy, usual = after(run), EwmaScorer([1.0])
    for residual in run:
        fixed = usual.update(residual)
    assert fixed is not None
    assert fixed > 4
    score = noisy.update(run[-1])
    assert score is not None
    assert score < 2


def test_anomaly_shorter_than_half_the_window_does_not_become_normal() -> None:
    run = np.concatenate([NORMAL[:500], NORMAL[:200] + 20])
    score = after(run).update([20.0])
    assert score is not None
    assert score > 50


def test_constant_residual_is_calm_and_a_tenth_of_the_scale_is_the_least() -> None:
    scorer = after(np.full((100, 1), 7.0), scale=2.0, span=1)
    assert scorer.update([7.0]) == 0
    assert scorer.update([7.2]) == pytest.approx(1)


# What is not known


def test_there_is_no_score_before_sixty_residuals() -> None:
    scorer = RobustScorer([1.0])
    scores = [scorer.update(residual) for residual in NORMAL[:62]]
    assert scores[:60] == [None] * 60
    assert None not in scores[60:]


def test_target_that_has_had_too_few_is_left_out() -> None:
    scorer = RobustScorer([1.0, 1.0], span=1)
    for residual in NORMAL[:80]:
        scorer.update([residual[0], NAN])
    assert scorer.update([3.0, 100.0]) == after(NORMAL[:80], span=1).update([3.0])
    assert scorer.shares().tolist() == [1, 0]


def test_residual_that_is_not_known_changes_nothing() -> None:
    scorer = after(NORMAL[:80])
    state = scorer.state
    assert scorer.update([NAN]) is None
    assert scorer.state == state


# The state


def test_reset_forgets_everything() -> None:
    scorer = after(NORMAL[:80])
    scorer.reset()
    assert scorer.state == RobustScorer([1.0]).state
    assert scorer.update([1.0]) is None


@pytest.mark.parametrize(
    "state",
    [
        None,
        EwmaState((0.0,)),
        RobustState((), EwmaState((0.0,))),
        RobustState(((0.0,) * 501,), EwmaState((0.0,))),
        RobustState(((NAN,),), EwmaState((0.0,))),
        RobustState(((0.0,),), EwmaState((0.0, 0.0))),
    ],
)
def test_wrong_state_is_refused(state: object) -> None:
    with pytest.raises(StateError, match=r"no state of a (robust )?scorer of 1 targets"):
        RobustScorer([1.0]).state = state  # type: ignore[assignment]


@pytest.mark.parametrize("scale", [0.0, -1.0, NAN])
def test_scale_that_is_not_positive_is_refused(scale: float) -> None:
    with pytest.raises(ConfigurationError, match="not positive"):
        RobustScorer([scale])
