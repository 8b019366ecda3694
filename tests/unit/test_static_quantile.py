from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from numpy.typing import ArrayLike

from edgelstm.artifact import Artifact
from edgelstm.calibrating import fit_scores
from edgelstm.detectors import SCORERS, THRESHOLDS, make_scorer, make_threshold
from edgelstm.detectors.quantiles import quantiles, scattered
from edgelstm.detectors.robust import RobustScorer
from edgelstm.detectors.static_quantile import StaticQuantile
from edgelstm.errors import ConfigurationError, StateError
from edgelstm.manifest import Detection
from edgelstm.scorer import EwmaScorer
from edgelstm.threshold import AdaptiveTail, Judgement

RAMP = np.arange(10_000) / 10_000


def of(tiny: Artifact, scores: ArrayLike) -> Detection:
    detection = tiny.manifest.detection
    assert detection is not None
    values = np.asarray(scores, np.float64)
    return dataclasses.replace(fit_scores(detection, values), readings=len(values))


@pytest.mark.parametrize("budget", [2, 10, 49, 100, 400])
def test_level_is_the_empirical_quantile_where_enough_scores_are_above(
    tiny: Artifact, budget: float
) -> None:
    level = StaticQuantile(of(tiny, RAMP), budget).level
    assert level == pytest.approx(1 - 1 / budget, abs=2e-4)


def test_level_beyond_goes_on_exponentially(tiny: Artifact) -> None:
    levels = [StaticQuantile(of(tiny, RAMP), n).level for n in (500, 5_000, 50_000)]
    # Of the ramp the mean excess over its 98 % quantile is 0.01; the floors of the tail are higher.
    scale = of(tiny, RAMP).tail.scale
    assert np.diff(levels) == pytest.approx([scale * math.log(10)] * 2)


def test_short_calibration_is_only_continued_from_its_98_percent(tiny: Artifact) -> None:
    detection = of(tiny, np.random.default_rng(0).exponential(size=200))
    assert StaticQuantile(detection, 50).level == pytest.approx(detection.score_body[-1], rel=0.1)
    expected = detection.tail.scale * math.log(10)
    rise = StaticQuantile(detection, 1000).level - StaticQuantile(detection, 100).level
    assert rise == pytest.approx(expected)


def test_heavy_tail_is_continued_with_the_mean_excess_where_it_ends(tiny: Artifact) -> None:
    detection = of(tiny, 1 / (1 - RAMP))  # Pareto: the mean excess grows with the level
    rise = StaticQuantile(detection, 10_000).level - StaticQuantile(detection, 1_000).level
    assert rise > 3 * detection.tail.scale * math.log(10)


def test_level_never_moves(tiny: Artifact) -> None:
    threshold = StaticQuantile(of(tiny, RAMP), 100)
    first = threshold.update(0.0)
    for score in (0.0, 1e6, 5.0) * 50:
        threshold.update(score)
    assert threshold.update(0.0) == first
    assert first == Judgement(threshold.level, False, first.release)
    assert first.release == pytest.approx((0.98 + 0.99) / 2, abs=2e-4)
    assert not threshold.update(threshold.level).exceeded
    assert threshold.update(math.nextafter(threshold.level, 9)).exceeded


def test_release_of_a_level_below_the_tail_is_the_level(tiny: Artifact) -> None:
    judgement = StaticQuantile(of(tiny, RAMP), 2).update(0)
    assert judgement.release == judgement.threshold


def test_constant_sensor_has_a_level_above_zero(tiny: Artifact) -> None:
    for budget in (2, 1000):
        assert StaticQuantile(of(tiny, np.zeros(500)), budget).level >= 1e-3


@pytest.mark.parametrize("budget", [1, 0.5, 0, -3, math.nan, math.inf])
def test_budget_that_makes_no_sense_is_refused(tiny: Artifact, budget: float) -> None:
    with pytest.raises(ConfigurationError, match="fewer false alarms per day"):
        StaticQuantile(of(tiny, RAMP), budget)


def test_wrong_state_is_refused(tiny: Artifact) -> None:
    with pytest.raises(StateError, match="no state of a static threshold"):
        StaticQuantile(of(tiny, RAMP), 100).state = None  # type: ignore[assignment]


# What the thresholds share


def test_quantiles_join_the_body_and_the_peaks(tiny: Artifact) -> None:
    shares = np.array([1.0, 0.5, 0.03, 0.02, 0.01, 0.001])
    assert quantiles(of(tiny, RAMP), shares) == pytest.approx(1 - shares, abs=2e-4)
    # Of 10,000 scores 200 are above; a thousandth of them is the highest one.
    assert quantiles(of(tiny, RAMP), np.array([1e-9])) == [0.9999]


def test_many_peaks_are_thinned_and_still_are_two_percent(tiny: Artifact) -> None:
    scores = np.arange(100_000) / 100_000
    detection = of(tiny, scores)
    assert len(detection.score_peaks) == 500
    assert quantiles(detection, np.array([0.005])) == pytest.approx([0.995], abs=1e-4)


def test_scattered_values_are_the_same_in_an_order_of_their_own() -> None:
    values = list(range(100))
    order = scattered(values)
    assert sorted(order) == values
    # No quarter is much like another than the whole.
    assert all(35 < np.mean(order[i : i + 25]) < 65 for i in (0, 25, 50, 75))


# The registries


def test_every_threshold_is_made_by_its_name(tiny: Artifact) -> None:
    detection = of(tiny, RAMP)
    made = [type(make_threshold(detection, 1000, kind)) for kind in THRESHOLDS]
    assert len(set(made)) == len(THRESHOLDS) == 4
    assert made[0] is AdaptiveTail


def test_detection_names_its_own_threshold_and_scorer(tiny: Artifact) -> None:
    detection = dataclasses.replace(of(tiny, RAMP), threshold="static-quantile", scorer="robust")
    assert isinstance(make_threshold(detection, 1000), StaticQuantile)
    assert isinstance(make_scorer(detection), RobustScorer)
    assert SCORERS == ("ewma", "robust")
    assert isinstance(make_scorer(dataclasses.replace(detection, scorer="ewma")), EwmaScorer)


def test_unknown_names_are_refused(tiny: Artifact) -> None:
    detection = of(tiny, RAMP)
    with pytest.raises(ConfigurationError, match="No threshold is called 'magic'; try adaptive-"):
        make_threshold(detection, 1000, "magic")
    with pytest.raises(ConfigurationError, match="No scorer is called 'magic'; try ewma, robust"):
        make_scorer(dataclasses.replace(detection, scorer="magic"))
