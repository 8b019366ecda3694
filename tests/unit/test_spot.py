from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from edgelstm.artifact import Artifact
from edgelstm.calibrating import fit_scores
from edgelstm.detectors.spot import Spot, SpotState, fit_pareto
from edgelstm.errors import ConfigurationError, StateError
from edgelstm.manifest import Detection

RNG = np.random.default_rng(3)
EXPONENTIAL = RNG.exponential(size=2000)


def of(tiny: Artifact, scores: ArrayLike) -> Detection:
    detection = tiny.manifest.detection
    assert detection is not None
    values = np.asarray(scores, np.float64)
    return dataclasses.replace(fit_scores(detection, values), readings=len(values))


def pareto(shape: float, count: int) -> NDArray[np.float64]:
    """Excesses of a generalised Pareto distribution of scale 1, evenly by rank, ascending."""
    above = 1 - (np.arange(count) + 0.5) / count
    return -np.log(above) if not shape else (above**-shape - 1) / shape


# The fit


@pytest.mark.parametrize("shape", [0.0, 0.2, 0.4])
def test_fit_finds_scale_and_shape(shape: float) -> None:
    scale, found, unseen = fit_pareto((3 * pareto(shape, 2000)).tolist(), 9.0, 0.0)
    assert found == pytest.approx(shape, abs=0.02)
    assert scale == pytest.approx(3, rel=0.02)
    assert unseen == 0


def test_shape_of_few_peaks_is_drawn_towards_exponential() -> None:
    assert fit_pareto(pareto(0.4, 20).tolist(), 9.0, 0.0).shape < 0.2


def test_shape_is_neither_negative_nor_wild() -> None:
    bounded = np.arange(1, 200) / 200
    assert fit_pareto(bounded.tolist(), 9.0, 0.0).shape == 0
    assert fit_pareto((pareto(0.4, 200) ** 4).tolist(), 9.0, 0.0).shape == 0.5
    assert fit_pareto([1.0], 9.0, 0.0).shape == 0
    assert fit_pareto([2.0] * 50, 9.0, 0.0) == (2.0, 0.0, 0.0)


@pytest.mark.parametrize("shape", [0.0, 0.2])
def test_fit_allows_for_what_was_too_high_to_be_learnt(shape: float) -> None:
    excesses = pareto(shape, 2000)
    limit = float(excesses[1800])  # a tenth is missing
    kept = excesses[:1800].tolist()
    blind, fitted = fit_pareto(kept, limit, 0.0), fit_pareto(kept, limit, 1.0)
    assert blind.scale < 0.85
    assert fitted.scale == pytest.approx(1, rel=0.1)
    assert fitted.unseen == pytest.approx(0.1, abs=0.03)


# The level


def test_level_is_the_quantile_of_the_fitted_tail(tiny: Artifact) -> None:
    detection = of(tiny, EXPONENTIAL**3)
    start = detection.tail.start
    excesses = [p - start for p in detection.score_peaks]
    scale, shape, _ = fit_pareto(excesses, 0.0, 0.0)
    expected = start + scale / shape * ((1000 / 50) ** shape - 1)
    assert Spot(detection, 1000).update(0).threshold == pytest.approx(expected, rel=1e-6)


def test_level_grows_with_the_budget_and_stays_above_the_start(tiny: Artifact) -> None:
    detection = of(tiny, EXPONENTIAL)
    levels = [Spot(detection, n).update(0).threshold for n in (50.1, 500, 5e4, 1e12)]
    assert levels == sorted(set(levels))
    assert levels[0] >= detection.tail.start
    judgement = Spot(detection, 500).update(0)
    assert detection.tail.start < judgement.release < judgement.threshold


def test_calibration_without_peaks_has_an_exponential_tail(tiny: Artifact) -> None:
    detection = of(tiny, np.zeros(300))
    level = Spot(detection, 50 * math.e).update(0).threshold
    assert level == pytest.approx(detection.tail.start + detection.tail.scale)


# Learning


def test_low_scores_teach_nothing_until_the_next_peak(tiny: Artifact) -> None:
    threshold = Spot(of(tiny, EXPONENTIAL), 1000)
    before = threshold.state
    levels = {threshold.update(0.5).threshold for _ in range(500)}
    assert len(levels) == 1
    assert threshold.state == dataclasses.replace(before, since=500)


def test_peaks_are_rarer_after_a_long_calm(tiny: Artifact) -> None:
    detection = of(tiny, EXPONENTIAL)
    calm, usual = Spot(detection, 1000), Spot(detection, 1000)
    for _ in range(3000):
        calm.update(0.5)
    for threshold in (calm, usual):
        threshold.update(detection.tail.start + 0.5)
    assert calm.update(0).threshold < usual.update(0).threshold


def test_high_peaks_raise_the_level_and_are_judged_first(tiny: Artifact) -> None:
    threshold = Spot(of(tiny, EXPONENTIAL), 10_000)
    level = threshold.update(0).threshold
    judgement = threshold.update(level - 0.01)
    assert judgement.threshold == level
    assert not judgement.exceeded
    assert threshold.update(0).threshold > level


def test_alarms_teach_nothing(tiny: Artifact) -> None:
    threshold = Spot(of(tiny, EXPONENTIAL), 1000)
    before = threshold.state
    assert all(threshold.update(score).exceeded for score in (20.0, 1e6, 50.0))
    assert threshold.state == before


def test_number_of_peaks_is_bounded(tiny: Artifact) -> None:
    detection = of(tiny, EXPONENTIAL)
    threshold = Spot(detection, 1000)
    for i in range(700):
        threshold.update(detection.tail.start + 0.1 + i % 7 / 10)
    state = threshold.state
    assert len(state.excesses) == len(state.spacings) == 500
    assert state.learnt == 500
    assert set(state.spacings) == {1}
    other = Spot(detection, 1000)
    other.state = state
    assert other.update(0) == threshold.update(0)


def test_budget_holds_on_scores_like_the_calibration(tiny: Artifact) -> None:
    threshold = Spot(of(tiny, EXPONENTIAL), 200)
    scores = np.random.default_rng(1).exponential(size=20_000).tolist()
    alarms = sum(threshold.update(score).exceeded for score in scores)
    assert 100 / 2 < alarms < 100 * 2


# What is refused


@pytest.mark.parametrize("budget", [50, 1, 0, -1, math.nan, math.inf])
def test_budget_that_is_too_generous_is_refused(tiny: Artifact, budget: float) -> None:
    with pytest.raises(ConfigurationError, match="one in 50"):
        Spot(of(tiny, EXPONENTIAL), budget)


@pytest.mark.parametrize(
    "state",
    [
        None,
        SpotState((1.0,), (), 0, 0, 1.0),
        SpotState((1.0,) * 501, (1,) * 501, 0, 0, 1.0),
        SpotState((0.0,), (1,), 0, 0, 1.0),
        SpotState((math.nan,), (1,), 0, 0, 1.0),
        SpotState((1.0,), (0,), 0, 0, 1.0),
        SpotState((1.0,), (1,), -1, 0, 1.0),
        SpotState((1.0,), (1,), 0, 2, 1.0),
        SpotState((1.0,), (1,), 0, 1, math.inf),
    ],
)
def test_wrong_state_is_refused(tiny: Artifact, state: object) -> None:
    with pytest.raises(StateError, match="no state of a SPOT threshold; start afresh"):
        Spot(of(tiny, EXPONENTIAL), 1000).state = state  # type: ignore[assignment]
