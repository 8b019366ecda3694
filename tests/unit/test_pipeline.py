from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from edgelstm.alert import AlertEvent
from edgelstm.artifact import Artifact
from edgelstm.errors import ArtifactError, ConfigurationError
from edgelstm.manifest import Detection
from edgelstm.pipeline import LONG_GAP, Pipeline, PipelineCounters, Verdict
from edgelstm.reading import Reading
from edgelstm.session import Session

PERIOD = 60.0
WARM_UP = 20


class Persistence:
    """A session whose forecast is the last reading; it counts what is asked of it."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.stepped: list[list[float]] = []
        self.resets = 0

    def step(self, x: ArrayLike) -> NDArray[np.float64] | None:
        values = np.array(x, np.float64)
        self.stepped.append(values.tolist())
        return values

    def reset(self) -> None:
        self.resets += 1


def with_detection(artifact: Artifact, **changes: Any) -> Artifact:
    """The artifact with another detection: residuals count in units of 1, scores are energies."""
    detection = Detection(
        residual_scale=(1.0, 1.0),
        span=1,
        tail_start=1.0,
        tail_scale=1.0,
        readings=1000,
        residuals="recording",
        false_alarms_per_day=1.0,
    )
    detection = dataclasses.replace(detection, **changes)
    manifest = dataclasses.replace(artifact.manifest, detection=detection)
    return dataclasses.replace(artifact, manifest=manifest)


@pytest.fixture
def fake(tiny: Artifact) -> Persistence:
    return Persistence(with_detection(tiny))


@pytest.fixture
def pipeline(fake: Persistence) -> Pipeline:
    return Pipeline(cast(Session, fake))


def readings(values: Iterable[Iterable[float]], start: int = 0) -> list[Reading]:
    """Readings without a sequence number, a sample period apart."""
    return [Reading((start + i) * PERIOD, tuple(v)) for i, v in enumerate(values)]


def quiet(count: int, start: int = 0) -> list[Reading]:
    return readings([(20.0, -5.0)] * count, start)


def feed(pipeline: Pipeline, run: Iterable[Reading]) -> list[Verdict]:
    return [pipeline.update(reading) for reading in run]


def scored(verdicts: Iterable[Verdict]) -> list[bool]:
    return [verdict.score is not None for verdict in verdicts]


# Forecast and score


def test_first_reading_has_no_score(pipeline: Pipeline) -> None:
    reading = Reading(0.0, (20.0, -5.0))
    assert pipeline.update(reading) == Verdict(reading)
    assert pipeline.counters == PipelineCounters(readings=1)


def test_reading_is_compared_with_the_forecast_of_the_one_before(pipeline: Pipeline) -> None:
    values = [(0.0, 0.0), (2.0, 0.0), (2.0, 4.0), (1.0, 4.0)]
    verdicts = feed(pipeline, readings(values))
    predicted = [v.predicted.tolist() for v in verdicts[1:] if v.predicted is not None]
    assert predicted == [list(v) for v in values[:-1]]
    # The mean over two channels of the squared change since the reading before.
    assert [v.score for v in verdicts] == [None, 2.0, 8.0, 0.5]


def test_each_reading_is_stepped_once_and_in_order(pipeline: Pipeline, fake: Persistence) -> None:
    values = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    feed(pipeline, readings(values))
    assert fake.stepped == values
    assert fake.resets == 0


def test_forecasts_are_those_of_the_session(tiny: Artifact, sines: NDArray[np.float64]) -> None:
    verdicts = feed(Pipeline(Session(tiny)), readings(sines[:50].tolist()))
    session = Session(tiny)
    forecasts = [session.step(x) for x in sines[:50]]
    for verdict, forecast in zip(verdicts[1:], forecasts[:-1], strict=True):
        assert verdict.predicted is not None
        assert forecast is not None
        assert np.array_equal(verdict.predicted, forecast)


def test_targets_are_compared_with_their_own_channels(tiny: Artifact) -> None:
    class LevelOnly(Persistence):
        def step(self, x: ArrayLike) -> NDArray[np.float64] | None:
            values = super().step(x)
            return None if values is None else values[1:]

    artifact = with_detection(tiny, residual_scale=(1.0,))
    (output,) = artifact.manifest.outputs
    manifest = dataclasses.replace(
        artifact.manifest,
        outputs=(dataclasses.replace(output, channels=output.channels[1:]),),
        golden_tolerance=artifact.manifest.golden_tolerance[1:],
    )
    fake = LevelOnly(dataclasses.replace(artifact, manifest=manifest))
    verdicts = feed(Pipeline(cast(Session, fake)), readings([(9, 1), (7, 1), (8, 3)]))
    assert [v.score for v in verdicts] == [None, 0.0, 4.0]


def test_later_readings_do_not_change_earlier_verdicts(
    tiny: Artifact, sines: NDArray[np.float64]
) -> None:
    whole = feed(Pipeline(Session(tiny)), readings(sines[:200].tolist()))
    part = feed(Pipeline(Session(tiny)), readings(sines[:120].tolist()))
    assert [v.score for v in part] == [v.score for v in whole[:120]]
    assert [v.threshold for v in part] == [v.threshold for v in whole[:120]]


# Windows


class EveryThird(Persistence):
    """Forecasts like `Persistence`, but at every third reading only."""

    def step(self, x: ArrayLike) -> NDArray[np.float64] | None:
        values = super().step(x)
        return values if len(self.stepped) % 3 == 0 else None


@pytest.fixture
def windowed(tiny_window: Artifact) -> Pipeline:
    return Pipeline(cast(Session, EveryThird(with_detection(tiny_window))))


def test_without_a_forecast_there_is_no_score(windowed: Pipeline) -> None:
    values = [(float(i * i), 0.0) for i in range(10)]
    verdicts = feed(windowed, readings(values))
    assert scored(verdicts) == [False] * 3 + [True, False, False] * 2 + [True]
    for i in (3, 6, 9):
        predicted = verdicts[i].predicted
        assert predicted is not None
        assert predicted.tolist() == list(values[i - 1])
    for i in (0, 1, 2, 4, 5, 7, 8):
        assert verdicts[i] == Verdict(readings(values)[i])
    assert windowed.counters == PipelineCounters(readings=10, scored=3)


def test_warm_up_counts_the_runs_of_a_window(windowed: Pipeline) -> None:
    verdicts = feed(windowed, quiet(3 * WARM_UP + 7))
    judged = [i for i, v in enumerate(verdicts) if v.threshold is not None]
    # Runs come at readings 3, 6, ...; scores one later. The run after the warm-up is the first
    # whose score, or any later one, counts.
    assert judged == [3 * (WARM_UP + 1), 3 * (WARM_UP + 2)]


def test_budget_of_a_window_counts_its_scores(windowed: Pipeline) -> None:
    threshold = feed(windowed, quiet(3 * WARM_UP + 4))[-1].threshold
    # A reading a minute and a score in three: 480 a day.
    assert threshold == pytest.approx(1 + math.log(480 / 50))


def test_budget_that_is_too_generous_for_the_scores_of_a_window_is_refused(
    tiny_window: Artifact,
) -> None:
    fake = cast(Session, EveryThird(with_detection(tiny_window)))
    assert Pipeline(fake, false_alarms_per_day=9).budget == 9
    with pytest.raises(ConfigurationError, match="fewer false alarms per day"):
        Pipeline(fake, false_alarms_per_day=10)


def test_window_artifact_is_watched(tiny_window: Artifact, sines: NDArray[np.float64]) -> None:
    shifted = sines.copy()
    shifted[300:360, 0] += 6
    pipeline = Pipeline(Session(tiny_window))
    verdicts = feed(pipeline, readings(shifted.tolist()))
    # The first run is at the eighth reading, then at every third; each is for the next reading.
    assert [i for i, v in enumerate(verdicts) if v.score is not None] == list(range(8, 500, 3))
    opened = [i for i, v in enumerate(verdicts) if v.event is AlertEvent.OPENED]
    assert len(opened) == 1
    assert 300 <= opened[0] <= 305


def test_long_gap_empties_the_window(tiny_window: Artifact, sines: NDArray[np.float64]) -> None:
    pipeline = Pipeline(Session(tiny_window))
    feed(pipeline, readings(sines[:50].tolist()))
    after = feed(pipeline, readings(sines[100:130].tolist(), start=100))
    fresh = feed(Pipeline(Session(tiny_window)), readings(sines[100:130].tolist()))
    assert [v.score for v in after] == [v.score for v in fresh]
    assert scored(after)[:9] == [False] * 8 + [True]


# Warm-up


def test_warm_up_scores_but_does_not_judge(pipeline: Pipeline) -> None:
    wild = readings([(1000.0 * (-1) ** i, 0.0) for i in range(WARM_UP + 1)])
    *warming, judged = feed(pipeline, wild)
    assert scored(warming) == [False] + [True] * (WARM_UP - 1)
    assert all(v.threshold is None and not v.exceeded and v.event is None for v in warming)
    assert judged.threshold is not None
    assert judged.exceeded
    assert judged.event is AlertEvent.OPENED


@pytest.mark.parametrize("gap", [False, True])
def test_what_the_warm_up_was_like_is_no_part_of_a_score(tiny: Artifact, gap: bool) -> None:
    fake = Persistence(with_detection(tiny, span=50))
    pipeline = Pipeline(cast(Session, fake))
    wild = [((-1.0) ** i * 30, 0.0) for i in range(WARM_UP)]
    quiet = [(-30.0 if WARM_UP % 2 == 0 else 30.0, 0.0)] * 5
    run = readings([*wild, *quiet])
    if gap:  # the reading after a short gap has no score: the next one is the first to be judged
        del run[WARM_UP + 1]
    verdicts = [pipeline.update(reading) for reading in run]
    assert (verdicts[WARM_UP - 1].score or 0) > 100
    judged = [v for v in verdicts[WARM_UP:] if v.score is not None]
    assert len(judged) == (3 if gap else 5)
    assert [v.score for v in judged] == [0.0] * len(judged)
    assert not any(v.exceeded for v in judged)


def test_threshold_does_not_learn_in_warm_up(tiny: Artifact) -> None:
    def level(warming: Iterable[Iterable[float]]) -> float | None:
        fake = Persistence(with_detection(tiny))
        run = readings([*warming, (0.0, 0.0)])
        return feed(Pipeline(cast(Session, fake)), run)[-1].threshold

    assert level([(9.0 * (-1) ** i, 0.0) for i in range(WARM_UP)]) == level([(0.0, 0.0)] * WARM_UP)


# Gaps


def numbered(numbers: Iterable[int], period: float = PERIOD) -> list[Reading]:
    return [Reading(i * period, (20.0, -5.0), n) for i, n in enumerate(numbers)]


def timed(periods: Iterable[float]) -> list[Reading]:
    return [Reading(p * PERIOD, (20.0, -5.0)) for p in periods]


@pytest.mark.parametrize("missing", [1, 2, LONG_GAP])
def test_short_gap_by_sequence_number_skips_one_score(
    pipeline: Pipeline, fake: Persistence, missing: int
) -> None:
    verdicts = feed(pipeline, numbered([5, 6, 7 + missing, 8 + missing]))
    assert scored(verdicts) == [False, True, False, True]
    assert fake.resets == 0
    assert pipeline.counters == PipelineCounters(readings=4, scored=2, gaps=1)


@pytest.mark.parametrize("missing", [1, 2, LONG_GAP])
def test_short_gap_by_time_skips_one_score(
    pipeline: Pipeline, fake: Persistence, missing: int
) -> None:
    verdicts = feed(pipeline, timed([0, 1, 2 + missing, 3 + missing]))
    assert scored(verdicts) == [False, True, False, True]
    assert fake.resets == 0
    assert pipeline.counters == PipelineCounters(readings=4, scored=2, gaps=1)


def test_reading_after_a_short_gap_is_stepped_and_forecasts_the_next(pipeline: Pipeline) -> None:
    run = [Reading(0, (1, 1), 1), Reading(0, (5, 5), 3), Reading(0, (6, 5), 4)]
    verdict = feed(pipeline, run)[-1]
    assert verdict.predicted is not None
    assert verdict.predicted.tolist() == [5, 5]


def test_short_gap_keeps_the_warm_up_that_was_done(pipeline: Pipeline) -> None:
    feed(pipeline, quiet(WARM_UP + 1))
    after = feed(pipeline, quiet(2, start=WARM_UP + 3))
    assert [v.threshold is None for v in after] == [True, False]


@pytest.mark.parametrize(
    "run",
    [numbered([5, 6, 8 + LONG_GAP, 9 + LONG_GAP]), timed([0, 1, 3 + LONG_GAP, 4 + LONG_GAP])],
    ids=["by sequence number", "by time"],
)
def test_long_gap_starts_afresh(pipeline: Pipeline, fake: Persistence, run: list[Reading]) -> None:
    assert scored(feed(pipeline, run)) == [False, True, False, True]
    assert fake.resets == 1
    assert pipeline.counters == PipelineCounters(readings=4, scored=2, restarts=1)


def test_long_gap_warms_up_again(pipeline: Pipeline) -> None:
    feed(pipeline, quiet(50))
    after = feed(pipeline, quiet(WARM_UP + 1, start=100))
    assert [v.threshold is None for v in after] == [True] * WARM_UP + [False]


def test_long_gap_resets_the_score(tiny: Artifact) -> None:
    pipeline = Pipeline(cast(Session, Persistence(with_detection(tiny, span=20))))
    feed(pipeline, readings([(100.0 * (-1) ** i, 0.0) for i in range(10)]))
    assert [v.score for v in feed(pipeline, quiet(2, start=100))] == [None, 0.0]


def test_long_gap_resets_the_states(tiny: Artifact, sines: NDArray[np.float64]) -> None:
    pipeline = Pipeline(Session(tiny))
    feed(pipeline, readings(sines[:50].tolist()))
    after = feed(pipeline, readings(sines[100:130].tolist(), start=100))
    fresh = feed(Pipeline(Session(tiny)), readings(sines[100:130].tolist()))
    assert [v.score for v in after] == [v.score for v in fresh]


@pytest.mark.parametrize("shift", [-3600.0, 3600.0])
def test_wall_clock_steps_are_no_gap_while_the_device_counts_on(
    pipeline: Pipeline, fake: Persistence, shift: float
) -> None:
    run = [Reading(i * PERIOD + (shift if i >= 5 else 0), (20.0, -5.0), i) for i in range(10)]
    assert scored(feed(pipeline, run)) == [False] + [True] * 9
    assert fake.resets == 0
    assert pipeline.counters.gaps == pipeline.counters.restarts == 0


def test_jitter_of_less_than_half_a_period_is_no_gap(pipeline: Pipeline) -> None:
    assert scored(feed(pipeline, timed([0, 1.4, 2.0, 3.3, 4.0]))) == [False] + [True] * 4


def test_reading_that_misses_a_value_is_counted_and_not_stepped(
    pipeline: Pipeline, fake: Persistence
) -> None:
    run = readings([(1, 1), (2, 1), (math.nan, 1), (2, math.inf), (3, 1), (4, 1)])
    verdicts = feed(pipeline, run)
    assert fake.stepped == [[1, 1], [2, 1], [3, 1], [4, 1]]
    assert verdicts[2] == Verdict(run[2])
    assert scored(verdicts) == [False, True, False, False, False, True]
    assert pipeline.counters == PipelineCounters(readings=6, scored=2, unusable=2, gaps=1)


def test_many_readings_that_miss_a_value_are_a_long_gap(
    pipeline: Pipeline, fake: Persistence
) -> None:
    feed(pipeline, readings([(1, 1), *[(math.nan, 1)] * (LONG_GAP + 1), (3, 1)]))
    assert fake.resets == 1


def test_reading_with_another_number_of_values_is_refused(tiny: Artifact) -> None:
    with pytest.raises(ConfigurationError, match="shape"):
        Pipeline(Session(tiny)).update(Reading(0.0, (1.0,)))


# Alerts


def test_level_shift_of_a_sine_is_announced_and_nothing_before_it(
    tiny: Artifact, sines: NDArray[np.float64]
) -> None:
    shifted = sines.copy()
    shifted[300:330, 0] += 6  # twice the amplitude of the sine
    pipeline = Pipeline(Session(tiny))
    verdicts = feed(pipeline, readings(shifted.tolist()))
    events = [(i, v.event, v.alert) for i, v in enumerate(verdicts) if v.event]
    assert [event for _, event, _ in events] == [AlertEvent.OPENED, AlertEvent.CLOSED]
    (opened, _, first), (closed, _, last) = events
    assert 300 <= opened <= 305
    assert 330 < closed < 420
    assert first is not None
    assert last is not None
    assert first.opened == last.opened == opened * PERIOD
    assert last.closed == closed * PERIOD
    assert last.peak_score == max(v.score or 0 for v in verdicts)
    assert pipeline.alerts == 1
    assert pipeline.open_alert is None


def test_exceeded_means_a_score_above_the_threshold(
    tiny: Artifact, sines: NDArray[np.float64]
) -> None:
    shifted = sines.copy()
    shifted[200:, 0] += 6
    verdicts = feed(Pipeline(Session(tiny)), readings(shifted.tolist()))
    judged = [v for v in verdicts if v.threshold is not None]
    assert any(v.exceeded for v in judged)
    for v in judged:
        assert v.score is not None
        assert v.threshold is not None
        assert v.exceeded == (v.score > v.threshold)


def test_open_alert(pipeline: Pipeline) -> None:
    feed(pipeline, quiet(WARM_UP + 5))
    assert pipeline.open_alert is None
    verdict = pipeline.update(Reading((WARM_UP + 5) * PERIOD, (60.0, -5.0)))
    assert verdict.event is AlertEvent.OPENED
    assert pipeline.open_alert == verdict.alert
    assert pipeline.alerts == 1


# Settings


def test_budget_of_the_artifact_is_the_default(fake: Persistence) -> None:
    assert Pipeline(cast(Session, fake)).budget == 1.0


def test_budget_can_be_overridden(tiny: Artifact) -> None:
    def level(budget: float | None) -> float:
        fake = cast(Session, Persistence(with_detection(tiny)))
        pipeline = Pipeline(fake, false_alarms_per_day=budget)
        threshold = feed(pipeline, quiet(WARM_UP + 1))[-1].threshold
        assert threshold is not None
        return threshold

    # A reading a minute: 1440 readings per false alarm by default, tail start 1 and scale 1.
    assert level(None) == pytest.approx(1 + math.log(1440 / 50))
    assert level(0.1) == pytest.approx(1 + math.log(14_400 / 50))
    assert level(10) == pytest.approx(1 + math.log(144 / 50))


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (-1.0, "must be positive"),
        (0.0, "must be positive"),
        (math.nan, "must be positive"),
        (100.0, "fewer false alarms per day"),  # one in 14.4 readings
    ],
)
def test_budget_that_makes_no_sense_is_refused(
    fake: Persistence, budget: float, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Pipeline(cast(Session, fake), false_alarms_per_day=budget)


@pytest.mark.parametrize("changes", [{"detection": None}, {"horizon": 0}])
def test_artifact_without_a_forecast_is_refused(tiny: Artifact, changes: dict[str, Any]) -> None:
    manifest = dataclasses.replace(tiny.manifest, **changes)
    fake = Persistence(dataclasses.replace(tiny, manifest=manifest))
    with pytest.raises(ArtifactError, match="'tiny' does not forecast"):
        Pipeline(cast(Session, fake))


@pytest.mark.parametrize("name", ["tiny_ports", "tiny_tokens"])
def test_artifact_that_forecasts_nothing_is_refused(
    name: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(ArtifactError, match=f"{name!r} does not forecast"):
        Pipeline(Session(request.getfixturevalue(name)))


def test_two_pipelines_are_independent(tiny: Artifact, sines: NDArray[np.float64]) -> None:
    run = readings(sines[:100].tolist())
    alone = feed(Pipeline(Session(tiny)), run)
    a, b = Pipeline(Session(tiny)), Pipeline(Session(tiny))
    together = []
    for i, reading in enumerate(run):
        together.append(a.update(reading))
        b.update(Reading(i * PERIOD, (25.0, -5.0 + i % 3)))
    assert [v.score for v in together] == [v.score for v in alone]
    assert [v.threshold for v in together] == [v.threshold for v in alone]
    assert a.counters == PipelineCounters(readings=100, scored=99)
    assert b.alerts > 0
    assert a.alerts == 0


def test_alert_stays_open_over_a_long_gap(pipeline: Pipeline) -> None:
    feed(pipeline, quiet(WARM_UP + 5))
    pipeline.update(Reading((WARM_UP + 5) * PERIOD, (60.0, -5.0)))
    after = feed(pipeline, quiet(WARM_UP, start=500))
    assert [v.event for v in after] == [None] * WARM_UP
    assert pipeline.open_alert is not None
    last = feed(pipeline, quiet(60, start=500 + WARM_UP))
    assert [v.event for v in last if v.event] == [AlertEvent.CLOSED]
