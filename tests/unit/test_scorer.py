from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm.errors import ConfigurationError
from edgelstm.scorer import Scorer

residuals = st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 2), min_size=1, max_size=40)
fast = settings(deadline=None, max_examples=50)


def test_energy_is_the_mean_of_squares_in_units_of_the_scale() -> None:
    # span 1: no averaging, so the score is the energy. ((3/1)^2 + (4/2)^2) / 2
    assert Scorer([1, 2], span=1).update([3, -4]) == 6.5


def test_score_is_an_exponential_mean_from_zero() -> None:
    scorer = Scorer([2], span=3)  # alpha = 1/2
    assert [scorer.update([r]) for r in (4, 0, 2, 2)] == [2, 1, 1, 1]


def test_span_sets_the_weight_of_a_reading() -> None:
    assert Scorer([1], span=20).update([1]) == pytest.approx(2 / 21)


def test_score_of_a_constant_residual_reaches_its_energy() -> None:
    scorer = Scorer([0.5, 4], span=20)
    for _ in range(400):
        score = scorer.update([1, 4])
    assert score == pytest.approx((4 + 1) / 2)


def test_wild_value_is_bounded() -> None:
    scorer = Scorer([1e-3], span=1)
    assert scorer.update([1e300]) == 1e6
    assert scorer.update([-math.inf]) == 1e6
    assert scorer.standardise([5.0]) == [1000]


def test_reset_forgets_everything() -> None:
    scorer = Scorer([1])
    first = scorer.update([2])
    scorer.update([5])
    scorer.reset()
    assert scorer.state == 0
    assert scorer.update([2]) == first


@fast
@given(residuals)
def test_score_is_never_negative(run: list[tuple[float, float]]) -> None:
    scorer = Scorer([1, 3])
    assert all(scorer.update(r) >= 0 for r in run)


@fast
@given(residuals, st.data())
def test_future_residuals_do_not_change_past_scores(
    run: list[tuple[float, float]], data: st.DataObject
) -> None:
    whole, prefix = Scorer([1, 3]), Scorer([1, 3])
    stop = data.draw(st.integers(1, len(run)))
    scores = [whole.update(r) for r in run]
    assert [prefix.update(r) for r in run[:stop]] == scores[:stop]


@fast
@given(residuals, st.data())
def test_restored_state_goes_on_as_before(
    run: list[tuple[float, float]], data: st.DataObject
) -> None:
    stop = data.draw(st.integers(0, len(run)))
    whole, first, second = Scorer([1, 3]), Scorer([1, 3]), Scorer([1, 3])
    scores = [whole.update(r) for r in run]
    head = [first.update(r) for r in run[:stop]]
    second.state = first.state
    assert head + [second.update(r) for r in run[stop:]] == scores


@fast
@given(residuals)
def test_sign_and_order_of_the_targets_do_not_matter(run: list[tuple[float, float]]) -> None:
    scorer, mirrored = Scorer([1, 3]), Scorer([3, 1])
    for a, b in run:
        score = scorer.update([a, b])
        assert mirrored.update([-b, -a]) == pytest.approx(score, rel=1e-9)


@pytest.mark.parametrize("scale", [[0.0], [-1.0], [math.nan], [math.inf], [1, 0]])
def test_scale_that_is_not_positive_is_refused(scale: list[float]) -> None:
    with pytest.raises(ConfigurationError, match="not positive"):
        Scorer(scale)


@pytest.mark.parametrize("span", [0, -3])
def test_span_below_one_is_refused(span: int) -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        Scorer([1], span)


def test_larger_residual_gives_a_larger_score() -> None:
    rng = np.random.default_rng(0)
    run = rng.normal(size=(100, 2))
    small, large = Scorer([1, 1]), Scorer([1, 1])
    assert all(large.update(2 * r) > small.update(r) for r in run)
