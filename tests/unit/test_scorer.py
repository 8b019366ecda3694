from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm.errors import ConfigurationError, StateError
from edgelstm.scorer import EwmaScorer, EwmaState

residuals = st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 2), min_size=1, max_size=40)
fast = settings(deadline=None, max_examples=30)

NAN = math.nan
MANY = 40  # targets: the way through numpy


# The score


def test_energy_is_the_mean_of_squares_in_units_of_the_scale() -> None:
    # span 1: no averaging, so the score is the energy. ((3/1)^2 + (4/2)^2) / 2
    assert EwmaScorer([1, 2], span=1).update([3, -4]) == 6.5


def test_score_is_an_exponential_mean_from_zero() -> None:
    scorer = EwmaScorer([2], span=3)  # alpha = 1/2
    assert [scorer.update([r]) for r in (4, 0, 2, 2)] == [2, 1, 1, 1]


def test_span_sets_the_weight_of_a_reading() -> None:
    assert EwmaScorer([1], span=20).update([1]) == pytest.approx(2 / 21)


def test_score_of_a_constant_residual_reaches_its_energy() -> None:
    scorer = EwmaScorer([0.5, 4], span=20)
    for _ in range(400):
        score = scorer.update([1, 4])
    assert score == pytest.approx((4 + 1) / 2)


@pytest.mark.parametrize("targets", [1, MANY])
def test_wild_value_is_bounded(targets: int) -> None:
    scorer = EwmaScorer([1e-3] * targets, span=1)
    assert scorer.update([1e300] * targets) == pytest.approx(1e6)
    assert scorer.update([-math.inf] * targets) == pytest.approx(1e6)
    # One of them is as bounded as all.
    assert scorer.update([1e300] + [0.0] * (targets - 1)) == pytest.approx(1e6 / targets)


@fast
@given(residuals)
def test_sign_and_order_of_the_targets_do_not_matter(run: list[tuple[float, float]]) -> None:
    scorer, mirrored = EwmaScorer([1, 3]), EwmaScorer([3, 1])
    for a, b in run:
        score = scorer.update([a, b])
        assert mirrored.update([-b, -a]) == pytest.approx(score, rel=1e-9)


def test_many_targets_score_as_few_do() -> None:
    rng = np.random.default_rng(0)
    run = rng.standard_t(1, size=(50, MANY)) * 100
    run[rng.random(run.shape) < 0.2] = NAN
    run[7] = NAN
    scale = rng.uniform(0.1, 10, MANY)
    # The mean over all is the mean of the halves, each weighted by what is known of it.
    whole = EwmaScorer(scale.tolist(), span=1)
    halves = [EwmaScorer(part.tolist(), span=1) for part in np.split(scale, 2)]
    for row in run:
        parts = np.split(row, 2)
        known = [int(np.isfinite(part).sum()) for part in parts]
        scores = [half.update(part) or 0.0 for half, part in zip(halves, parts, strict=True)]
        expected = np.average(scores, weights=known) if sum(known) else None
        assert whole.update(row) == (expected and pytest.approx(expected))


# What is not known


@pytest.mark.parametrize("targets", [2, MANY])
def test_target_that_is_not_known_is_left_out_of_the_mean(targets: int) -> None:
    scorer = EwmaScorer([2.0] * targets, span=1)
    assert scorer.update([6.0] + [NAN] * (targets - 1)) == pytest.approx(9)
    assert scorer.update([NAN] + [2.0] * (targets - 1)) == pytest.approx(1)


@pytest.mark.parametrize("targets", [2, MANY])
def test_residual_that_is_not_known_at_all_changes_nothing(targets: int) -> None:
    scorer, other = EwmaScorer([1.0] * targets), EwmaScorer([1.0] * targets)
    first, second = np.arange(targets) + 1.0, np.arange(targets) - 3.0
    assert scorer.update(first) == other.update(first)
    state = scorer.state
    assert scorer.update([NAN] * targets) is None
    assert scorer.state == state
    assert scorer.update(second) == other.update(second)


# Shares


@pytest.mark.parametrize("targets", [3, MANY])
def test_shares_are_those_of_the_energy(targets: int) -> None:
    scorer = EwmaScorer([1.0] * targets, span=1)
    scorer.update([3.0, 4.0] + [0.0] * (targets - 2))
    assert scorer.shares() == pytest.approx([0.36, 0.64] + [0.0] * (targets - 2))


def test_shares_are_averaged_like_the_score() -> None:
    scorer = EwmaScorer([1, 1], span=3)  # alpha = 1/2
    scorer.update([2, 0])
    score = scorer.update([0, 2])
    assert score == pytest.approx((4 / 4 + 4 / 2) / 2)
    assert scorer.shares() == pytest.approx([1 / 3, 2 / 3])


def test_shares_add_up_to_the_score_when_a_target_was_not_known() -> None:
    scorer = EwmaScorer([1, 1], span=1)
    scorer.update([NAN, 3.0])
    assert scorer.shares().tolist() == [0, 1]


@pytest.mark.parametrize("targets", [1, 4, MANY])
def test_shares_of_no_score_are_equal(targets: int) -> None:
    assert EwmaScorer([1.0] * targets).shares() == pytest.approx([1 / targets] * targets)


# The state


def test_reset_forgets_everything() -> None:
    scorer = EwmaScorer([1])
    first, fresh = scorer.update([2]), EwmaScorer([1]).state
    scorer.update([5])
    scorer.reset()
    assert scorer.state == fresh
    assert scorer.update([2]) == first


def test_state_is_a_value() -> None:
    scorer = EwmaScorer([1, 1])
    scorer.update([1, 2])
    state = scorer.state
    scorer.update([3, 4])
    assert state != scorer.state
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.contributions = (0.0, 0.0)  # type: ignore[misc]


@pytest.mark.parametrize("targets", [2, MANY])
def test_own_state_is_never_refused(targets: int) -> None:
    scorer = EwmaScorer([1.0] * targets)
    for _ in range(500):  # rounding may carry the energy beyond its bound
        scorer.update([1e9] * targets)
        scorer.state = scorer.state


@pytest.mark.parametrize(
    "state", [None, (0.0, 0.0), EwmaState((0.0,)), EwmaState((0.0, -1.0)), EwmaState((0.0, NAN))]
)
def test_wrong_state_is_refused(state: object) -> None:
    with pytest.raises(StateError, match="no state of a scorer of 2 targets; start afresh"):
        EwmaScorer([1, 1]).state = state  # type: ignore[assignment]


# Settings


@pytest.mark.parametrize("scale", [[0.0], [-1.0], [NAN], [math.inf], [1, 0], []])
def test_scale_that_is_not_positive_is_refused(scale: list[float]) -> None:
    with pytest.raises(ConfigurationError, match="not positive"):
        EwmaScorer(scale)


@pytest.mark.parametrize("span", [0, -3])
def test_span_below_one_is_refused(span: int) -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        EwmaScorer([1], span)
