"""What holds for every scorer, threshold, rule and fault detector, and for all of them in a row."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import math
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm.alert import AlertPolicy, AlertRule, ChannelShare
from edgelstm.artifact import Artifact
from edgelstm.calibrating import fit_scores
from edgelstm.detectors import SCORERS, THRESHOLDS, make_scorer, make_threshold
from edgelstm.errors import StateError
from edgelstm.manifest import ChannelLimits, Detection
from edgelstm.pipeline_state import from_plain, to_plain
from edgelstm.reading import Reading
from edgelstm.scorer import Scorer
from edgelstm.sensor_faults import SensorFaults
from edgelstm.threshold import Judgement

few = settings(deadline=None, max_examples=8)
NAN = math.nan
TARGETS = 3
# Wild, missing, tame: what residuals may be.
WILD = (0.0, -0.0, 5e-324, 1e-310, 1e300, -1e300, math.inf, -math.inf, NAN)
numbers = st.sampled_from(WILD) | st.floats(-30, 30) | st.integers(-3, 3).map(float)


def _rows(drawn: list[float]) -> list[tuple[float, ...]]:
    count = len(drawn)
    return [tuple(drawn[(i + 3 * k) % count] for k in range(TARGETS)) for i in range(count)]


# Whatever a piece takes is made of such rows.
rows = st.lists(numbers, min_size=1, max_size=20).map(_rows)


@functools.cache
def detection(scorer: str = "ewma") -> Detection:
    """Calibrated on exponential scores around 1."""
    known = Artifact.read(Path(__file__).parents[1] / "data" / "tiny.tflite").manifest.detection
    assert known is not None
    scale = tuple(0.5 + i for i in range(TARGETS))
    blank = dataclasses.replace(known, scorer=scorer, residual_scale=scale, readings=1500)
    return fit_scores(blank, np.random.default_rng(0).exponential(size=1500))


def warmed_up(scorer: Scorer) -> Scorer:
    targets = len(scorer.shares())
    for residual in np.random.default_rng(1).normal(size=(70, targets)):
        scorer.update(residual)
    return scorer


def many_targets() -> Scorer:
    scale = tuple(0.5 + i for i in range(40))
    return make_scorer(dataclasses.replace(detection(), residual_scale=scale))


class Part:
    """One piece in a form that is the same for all: takes rows, gives what can be compared."""

    def __init__(self, piece: Any, take: Callable[[Any, int, Sequence[float]], Any]) -> None:
        self.piece = piece
        self._take = take
        self.time = 0

    def feed(self, row: Sequence[float]) -> Any:
        self.time += 1
        return self._take(self.piece, self.time, row)


def as_residual(scorer: Scorer, _: int, row: Sequence[float]) -> Any:
    score = scorer.update(np.resize(row, len(scorer.shares())))
    return score, scorer.shares().tolist()


def as_score(row: Sequence[float]) -> float:
    """A score that a scorer may give."""
    known = [abs(value) for value in row if math.isfinite(value)]
    return min(max(known, default=0.0), 1e6)


def judged(threshold: Any, _: int, row: Sequence[float]) -> Judgement:
    judgement: Judgement = threshold.update(as_score(row))
    return judgement


def ruled(rule: AlertRule, time: int, row: Sequence[float]) -> Any:
    if math.isnan(row[0]):
        rule.gap()
    score = as_score(row)
    shares = (ChannelShare("a", 0.2), ChannelShare("b", 0.8))
    return rule.update(time, score, Judgement(4.0, score > 4, 2.5), shares), rule.open


def watched(faults: SensorFaults, time: int, row: Sequence[float]) -> Any:
    # Rounding makes stretches of equal values, and the gaps make rates wrong.
    values = tuple(round(v) if abs(v) < 3 else v for v in row)
    changes = faults.update(Reading(time * (1.5 if row[0] > 0 else 1.0), values, None))
    return changes, faults.silent(time + (12 if row[1] == 0 else 0)), faults.open


class Chain:
    """Scorer, threshold and rule as a pipeline has them in a row; its state is theirs."""

    def __init__(self) -> None:
        self.parts: list[Any] = [
            make_scorer(detection()),
            make_threshold(detection(), 100),
            AlertRule(AlertPolicy(quiet=2)),
        ]


def chained(chain: Chain, time: int, row: Sequence[float]) -> Any:
    scorer, threshold, rule = chain.parts
    score = scorer.update(row)
    if score is None:
        return None
    judgement = threshold.update(score)
    return score, judgement, rule.update(time, score, judgement)


TUNED = AlertPolicy(k=2, n=4, minimum_duration=2, quiet=2, cool_down=3, release=0.9)
LIMITS = [ChannelLimits(-5, 5, 3), ChannelLimits(flat=4), ChannelLimits(high=2)]

SCORING: dict[str, Callable[[], Scorer]] = {
    "ewma": lambda: make_scorer(detection()),
    "ewma, many targets": many_targets,
    "robust": lambda: warmed_up(make_scorer(detection("robust"))),
}
PARTS: dict[str, Callable[[], Part]] = {
    **{name: lambda make=make: Part(make(), as_residual) for name, make in SCORING.items()},  # type: ignore[misc]
    **{
        name: lambda name=name: Part(make_threshold(detection(), 200, name), judged)  # type: ignore[misc]
        for name in THRESHOLDS
    },
    "rule": lambda: Part(AlertRule(AlertPolicy(quiet=2)), ruled),
    "tuned rule": lambda: Part(AlertRule(TUNED), ruled),
    "faults": lambda: Part(SensorFaults(["a", "b", "c"], LIMITS, 1.0), watched),
    "chain": lambda: Part(Chain(), chained),
}
every_part = pytest.mark.parametrize("name", PARTS)
every_scorer = pytest.mark.parametrize("name", SCORING)
every_threshold = pytest.mark.parametrize("name", THRESHOLDS)


def pieces(part: Part) -> list[Any]:
    return part.piece.parts if isinstance(part.piece, Chain) else [part.piece]


def through_json(state: Any) -> Any:
    text = json.dumps(to_plain(state), allow_nan=False)
    return from_plain(type(state), json.loads(text))


def test_all_scorers_are_among_the_parts() -> None:
    assert {type(SCORING[name]()) for name in SCORERS} == {
        type(make()) for make in SCORING.values()
    }


# All of them


@every_part
@few
@given(run=rows, data=st.data())
def test_future_never_changes_the_past(name: str, run: list[Any], data: st.DataObject) -> None:
    whole, prefix = PARTS[name](), PARTS[name]()
    stop = data.draw(st.integers(1, len(run)))
    given_out = [prefix.feed(row) for row in run[:stop]]
    as_they_were = copy.deepcopy(given_out)
    for row in run[stop:]:
        prefix.feed(row)
    assert given_out == as_they_were  # nothing that was handed out changes later
    assert [whole.feed(row) for row in run][:stop] == given_out


@every_part
@few
@given(first=rows, second=rows, data=st.data())
def test_two_do_not_know_of_each_other(
    name: str, first: list[Any], second: list[Any], data: st.DataObject
) -> None:
    alone = [
        [part.feed(row) for row in run]
        for part, run in ((PARTS[name](), first), (PARTS[name](), second))
    ]
    turns = st.lists(st.integers(0, 1), min_size=len(first), max_size=len(first))
    order = [*data.draw(turns), *[0, 1] * (len(first) + len(second))]
    parts, left = (PARTS[name](), PARTS[name]()), (iter(first), iter(second))
    together: tuple[list[Any], list[Any]] = ([], [])
    for which in order:
        together[which].extend(parts[which].feed(row) for row in islice(left[which], 1))
    assert list(together) == alone


@every_part
@few
@given(run=rows, data=st.data())
def test_saving_and_restoring_changes_nothing(
    name: str, run: list[Any], data: st.DataObject
) -> None:
    whole, first, second = PARTS[name](), PARTS[name](), PARTS[name]()
    stop = data.draw(st.integers(0, len(run)))
    expected = [whole.feed(row) for row in run]
    head = [first.feed(row) for row in run[:stop]]
    second.time = first.time
    for old, new in zip(pieces(first), pieces(second), strict=True):
        kept = old.state
        assert hash(kept) == hash(old.state)  # a frozen value
        new.state = through_json(kept)
        assert new.state == kept
    assert head + [second.feed(row) for row in run[stop:]] == expected
    # and taking the state did not disturb
    assert head + [first.feed(row) for row in run[stop:]] == expected


@pytest.mark.parametrize("name", PARTS)
def test_state_of_another_part_is_refused(name: str) -> None:
    for other in PARTS:
        for piece, wrong in zip(pieces(PARTS[name]()), pieces(PARTS[other]()), strict=False):
            if type(wrong) is not type(piece):
                with pytest.raises(StateError):
                    piece.state = wrong.state


# Scorers


@every_scorer
@few
@given(run=rows)
def test_scores_are_finite_and_never_negative(name: str, run: list[Any]) -> None:
    scorer = SCORING[name]()
    size = len(scorer.shares())
    for row in run:
        score = scorer.update(np.resize(row, size))
        shares = scorer.shares()
        assert score is None or 0 <= score < math.inf
        assert shares.shape == (size,)
        assert (shares >= 0).all()
        assert shares.sum() == pytest.approx(1)


@every_scorer
@few
@given(run=rows)
def test_missing_residuals_leave_no_trace(name: str, run: list[Any]) -> None:
    scorer, other = SCORING[name](), SCORING[name]()
    size = len(scorer.shares())
    for row in run:
        assert scorer.update([NAN] * size) is None
        residual = np.resize(row, size)
        assert scorer.update(residual) == other.update(residual)
    assert scorer.state == other.state


@every_scorer
@few
@given(
    run=rows,
    target=st.integers(0, TARGETS - 1),
    sizes=st.tuples(*[st.floats(0, 3) | st.floats(0, 1e300)] * 2),
)
def test_larger_residual_never_scores_lower(
    name: str, run: list[Any], target: int, sizes: tuple[float, float]
) -> None:
    scorers = (SCORING[name](), SCORING[name]())
    size = len(scorers[0].shares())
    for scorer in scorers:
        for row in run:
            scorer.update(np.resize(np.clip(row, -30, 30), size))
    scores = []
    # A robust scorer measures from the median: there they are beyond all before.
    least = 30 if name == "robust" else 0
    for scorer, extra in zip(scorers, sorted(sizes), strict=True):
        residual = np.resize(np.clip(run[-1], -30, 30), size)
        residual[target] = least + extra
        scores.append(scorer.update(residual))
    assert None not in scores
    assert scores[0] <= scores[1] * (1 + 1e-12)  # type: ignore[operator]


@every_scorer
@few
@given(run=rows, power=st.integers(-40, 40))
def test_units_do_not_matter(name: str, run: list[Any], power: int) -> None:
    unit = 2.0**power  # exact, so that nothing is rounded
    own = SCORING[name]()
    size = len(own.shares())
    kind = "robust" if name == "robust" else "ewma"
    scale = tuple((0.5 + i) * unit for i in range(size))
    other = make_scorer(dataclasses.replace(detection(kind), residual_scale=scale))
    if kind == "robust":
        for residual in np.random.default_rng(1).normal(size=(70, size)):
            other.update(residual * unit)
    for row in run:
        residual = np.resize(np.clip(row, -1e200, 1e200), size)
        residual[np.abs(residual) < 1e-200] = 0
        assert own.update(residual) == other.update(residual * unit)
    assert own.shares().tolist() == other.shares().tolist()


# Thresholds

wild_scores = st.lists(
    st.sampled_from([0.0, 5e-324, 1e-310, 1e6, 1e300]) | st.floats(0, 30), min_size=1, max_size=60
)


@every_threshold
@few
@given(run=wild_scores)
def test_levels_are_finite_and_the_release_is_below(name: str, run: list[float]) -> None:
    threshold = make_threshold(detection(), 200, name)
    for score in run:
        level, exceeded, release = threshold.update(score)
        assert 0 < level < math.inf
        assert 0 <= release <= level
        assert exceeded == (score > level)


@every_threshold
@few
@given(run=wild_scores, budgets=st.tuples(*[st.floats(51, 1e9)] * 2))
def test_stricter_budget_never_has_the_lower_level(
    name: str, run: list[float], budgets: tuple[float, float]
) -> None:
    generous, strict = (make_threshold(detection(), n, name) for n in sorted(budgets))
    for score in run:
        strict.state = generous.state
        probe = strict.update(score).threshold
        assert generous.update(score).threshold <= probe * (1 + 1e-12)


@every_threshold
def test_constant_scores_keep_a_level_above_them(name: str) -> None:
    threshold = make_threshold(detection(), 200, name)
    judgements = [threshold.update(0.5) for _ in range(300)]
    assert not any(judgement.exceeded for judgement in judgements)
