from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from edgelstm.alert import AlertEvent, AlertKind, AlertPolicy
from edgelstm.artifact import Artifact
from edgelstm.detectors import SCORERS, make_threshold
from edgelstm.errors import ArtifactError, ConfigurationError, ReadingError
from edgelstm.manifest import ChannelLimits, Tail
from edgelstm.pipeline import LONG_GAP, Achieved, Pipeline, PipelineCounters, Verdict
from edgelstm.reading import Reading
from edgelstm.session import Session, SessionCounters

PERIOD = 60.0
WARM_UP = 20


class Persistence:
    """A session whose forecast is the last reading; it counts what is asked of it."""

    invalid = "hold"

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.counters = SessionCounters()
        self.stepped: list[list[float]] = []
        self.resets = 0

    def step(self, x: ArrayLike) -> NDArray[np.float64] | None:
        values = np.array(x, np.float64)
        self.stepped.append(values.tolist())
        return values

    def reset(self) -> None:
        self.resets += 1


def with_detection(
    artifact: Artifact, warm_up: int = 0, *, real: bool = False, **changes: Any
) -> Artifact:
    """The artifact with another detection: residuals count in units of 1, scores are energies.

    Unless it is for a real session, its inputs have no ends, so that nothing is carried beyond
    them (edgelstm.reach).
    """
    assert artifact.manifest.detection is not None
    detection = dataclasses.replace(
        artifact.manifest.detection,
        residual_scale=(1.0, 1.0),
        span=1,
        tail=Tail(1.0, 1.0),
        limits=(ChannelLimits(), ChannelLimits()),
        readings=1000,
        false_alarms_per_day=1.0,
    )
    detection = dataclasses.replace(detection, **changes)
    inputs = tuple(
        dataclasses.replace(port, clip=None, tensor=dataclasses.replace(port.tensor, scale=0.0))
        for port in artifact.manifest.inputs
    )
    manifest = dataclasses.replace(
        artifact.manifest,
        detection=detection,
        warm_up=warm_up,
        inputs=artifact.manifest.inputs if real else inputs,
    )
    return dataclasses.replace(artifact, manifest=manifest)


@pytest.fixture
def fake(tiny: Artifact) -> Persistence:
    return Persistence(with_detection(tiny))


@pytest.fixture
def pipeline(fake: Persistence) -> Pipeline:
    return Pipeline(cast(Session, fake))


@pytest.fixture
def warming(tiny: Artifact) -> Pipeline:
    """Like `pipeline`, but with a warm-up."""
    return Pipeline(cast(Session, Persistence(with_detection(tiny, warm_up=WARM_UP))))


def readings(values: Iterable[Iterable[float]], start: int = 0) -> list[Reading]:
    """Readings without a sequence number, a sample period apart."""
    return [Reading((start + i) * PERIOD, tuple(v)) for i, v in enumerate(values)]


def quiet(count: int, start: int = 0) -> list[Reading]:
    return readings([(20.0, -5.0)] * count, start)


def feed(pipeline: Pipeline, run: Iterable[Reading]) -> list[Verdict]:
    return [pipeline.update(reading) for reading in run]


def scored(verdicts: Iterable[Verdict]) -> list[bool]:
    return [verdict.score is not None for verdict in verdicts]


def compared(verdicts: Iterable[Verdict]) -> list[list[float] | None]:
    return [None if v.residual is None else v.residual.tolist() for v in verdicts]


def events(verdicts: Iterable[Verdict]) -> list[AlertEvent]:
    return [change.event for verdict in verdicts for change in verdict.changes]


def first_level(pipeline: Pipeline, scores_per_false_alarm: float) -> float:
    """The level of the threshold alone for a first score of 0."""
    detection = pipeline.session.artifact.manifest.detection
    assert detection is not None
    return make_threshold(detection, scores_per_false_alarm).update(0.0).threshold


# Forecast and score


def test_first_reading_has_no_score(pipeline: Pipeline) -> None:
    reading = Reading(0.0, (20.0, -5.0))
    assert pipeline.update(reading) == Verdict(reading)
    assert pipeline.counters == PipelineCounters(readings=1, warming_up=1)


def test_reading_is_compared_with_the_forecast_of_the_one_before(pipeline: Pipeline) -> None:
    values = [(0.0, 0.0), (2.0, 0.0), (2.0, 4.0), (1.0, 4.0)]
    verdicts = feed(pipeline, readings(values))
    predicted = [v.predicted.tolist() for v in verdicts[1:] if v.predicted is not None]
    assert predicted == [list(v) for v in values[:-1]]
    assert compared(verdicts) == [None, [2, 0], [0, 4], [-1, 0]]
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

    artifact = with_detection(tiny)
    (output,) = artifact.manifest.outputs
    assert artifact.manifest.detection is not None
    manifest = dataclasses.replace(
        artifact.manifest,
        outputs=(dataclasses.replace(output, channels=output.channels[1:]),),
        golden_tolerance=artifact.manifest.golden_tolerance[1:],
        detection=dataclasses.replace(artifact.manifest.detection, residual_scale=(1.0,)),
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
    assert windowed.counters == PipelineCounters(readings=10, scored=3, warming_up=3, not_due=4)


def test_warm_up_counts_the_runs_of_a_window(tiny_window: Artifact) -> None:
    fake = EveryThird(with_detection(tiny_window, warm_up=WARM_UP))
    verdicts = feed(Pipeline(cast(Session, fake)), quiet(3 * WARM_UP + 4))
    # Runs come at readings 3, 6, ...; scores one later.
    assert [i for i, is_scored in enumerate(scored(verdicts)) if is_scored] == [
        3 * WARM_UP,
        3 * WARM_UP + 3,
    ]


def test_budget_of_a_window_counts_its_scores(windowed: Pipeline) -> None:
    threshold = feed(windowed, quiet(4))[-1].threshold
    # A reading a minute and a score in three: 480 a day.
    assert threshold == first_level(windowed, 480)


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
    forecasts = list(range(8, 500, 3))
    assert [i for i, v in enumerate(verdicts) if v.predicted is not None] == forecasts
    warm_up = tiny_window.manifest.warm_up
    assert [i for i, v in enumerate(verdicts) if v.score is not None] == forecasts[warm_up - 1 :]
    opened = [i for i, v in enumerate(verdicts) if AlertEvent.OPENED in events([v])]
    assert len(opened) == 1
    assert 300 <= opened[0] <= 305


def test_long_gap_empties_the_window(tiny_window: Artifact, sines: NDArray[np.float64]) -> None:
    pipeline = Pipeline(Session(tiny_window))
    feed(pipeline, readings(sines[:50].tolist()))
    after = feed(pipeline, readings(sines[100:130].tolist(), start=100))
    fresh = feed(Pipeline(Session(tiny_window)), readings(sines[100:130].tolist()))
    assert compared(after) == compared(fresh)
    assert [v.predicted is not None for v in after[:9]] == [False] * 8 + [True]


# Warm-up


def test_there_is_no_score_in_warm_up(warming: Pipeline) -> None:
    wild = readings([(1000.0 * (-1) ** i, 0.0) for i in range(WARM_UP + 1)])
    *before, judged = feed(warming, wild)
    assert scored(before) == [False] * WARM_UP
    assert compared(before)[1:] == [[2000.0 * (-1) ** i, 0] for i in range(1, WARM_UP)]
    assert all(v.threshold is None and not v.exceeded and not v.changes for v in before)
    assert judged.threshold is not None
    assert judged.exceeded
    assert events([judged]) == [AlertEvent.OPENED]


def test_it_says_whether_it_is_warming_up(warming: Pipeline) -> None:
    feed(warming, quiet(WARM_UP))
    assert warming.warming_up
    feed(warming, quiet(1, start=WARM_UP))
    assert not warming.warming_up
    feed(warming, quiet(1, start=500))
    assert warming.warming_up


@pytest.mark.parametrize("gap", [False, True])
def test_what_the_warm_up_was_like_is_no_part_of_a_score(tiny: Artifact, gap: bool) -> None:
    fake = Persistence(with_detection(tiny, warm_up=WARM_UP, span=50))
    pipeline = Pipeline(cast(Session, fake))
    wild = [((-1.0) ** i * 30, 0.0) for i in range(WARM_UP)]
    run = readings([*wild, *[(-30.0, 0.0)] * 5])
    if gap:  # the reading after a short gap has no score: the next one is the first to be judged
        del run[WARM_UP + 1]
    judged = [v for v in feed(pipeline, run) if v.score is not None]
    assert len(judged) == (3 if gap else 5)
    assert [v.score for v in judged] == [0.0] * len(judged)
    assert not any(v.exceeded for v in judged)


def test_threshold_does_not_learn_in_warm_up(tiny: Artifact) -> None:
    def level(before: Iterable[Iterable[float]]) -> float | None:
        fake = Persistence(with_detection(tiny, warm_up=WARM_UP))
        run = readings([*before, (0.0, 0.0)])
        return feed(Pipeline(cast(Session, fake)), run)[-1].threshold

    assert level([(9.0 * (-1) ** i, 0.0) for i in range(WARM_UP)]) == level([(0.0, 0.0)] * WARM_UP)


def test_a_model_without_states_needs_no_warm_up(pipeline: Pipeline) -> None:
    assert scored(feed(pipeline, quiet(3))) == [False, True, True]


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
    assert pipeline.counters == PipelineCounters(
        readings=4, scored=2, warming_up=1, after_gap=1, gaps=1
    )


@pytest.mark.parametrize("missing", [1, 2, LONG_GAP])
def test_short_gap_by_time_skips_one_score(
    pipeline: Pipeline, fake: Persistence, missing: int
) -> None:
    verdicts = feed(pipeline, timed([0, 1, 2 + missing, 3 + missing]))
    assert scored(verdicts) == [False, True, False, True]
    assert fake.resets == 0
    assert pipeline.counters == PipelineCounters(
        readings=4, scored=2, warming_up=1, after_gap=1, gaps=1
    )


def test_reading_after_a_short_gap_is_stepped_and_forecasts_the_next(pipeline: Pipeline) -> None:
    run = [Reading(0, (1, 1), 1), Reading(0, (5, 5), 3), Reading(0, (6, 5), 4)]
    verdict = feed(pipeline, run)[-1]
    assert verdict.predicted is not None
    assert verdict.predicted.tolist() == [5, 5]


def test_short_gap_keeps_the_warm_up_that_was_done(warming: Pipeline) -> None:
    feed(warming, quiet(WARM_UP + 1))
    after = feed(warming, quiet(2, start=WARM_UP + 3))
    assert scored(after) == [False, True]


@pytest.mark.parametrize(
    "run",
    [numbered([5, 6, 8 + LONG_GAP, 9 + LONG_GAP]), timed([0, 1, 3 + LONG_GAP, 4 + LONG_GAP])],
    ids=["by sequence number", "by time"],
)
def test_long_gap_starts_afresh(pipeline: Pipeline, fake: Persistence, run: list[Reading]) -> None:
    assert scored(feed(pipeline, run)) == [False, True, False, True]
    assert fake.resets == 1
    assert pipeline.counters == PipelineCounters(readings=4, scored=2, warming_up=2, restarts=1)


def test_long_gap_warms_up_again(warming: Pipeline) -> None:
    feed(warming, quiet(50))
    after = feed(warming, quiet(WARM_UP + 1, start=100))
    assert scored(after) == [False] * WARM_UP + [True]


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
    assert compared(after) == compared(fresh)


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


# Missing values

NAN = math.nan


def test_a_reading_without_a_value_is_none(pipeline: Pipeline, fake: Persistence) -> None:
    run = readings([(1, 1), (2, 1), (NAN, NAN), (-math.inf, math.inf), (3, 1), (4, 1)])
    verdicts = feed(pipeline, run)
    assert fake.stepped == [[1, 1], [2, 1], [3, 1], [4, 1]]
    assert verdicts[2] == Verdict(run[2])
    assert scored(verdicts) == [False, True, False, False, False, True]
    assert pipeline.counters == PipelineCounters(
        readings=6, scored=2, warming_up=1, after_gap=1, unusable=2, gaps=1
    )


def test_many_readings_without_a_value_are_a_long_gap(
    pipeline: Pipeline, fake: Persistence
) -> None:
    feed(pipeline, readings([(1, 1), *[(NAN, NAN)] * (LONG_GAP + 1), (3, 1)]))
    assert fake.resets == 1


@pytest.mark.parametrize("missing", [NAN, math.inf, -math.inf])
def test_a_missing_channel_is_left_out_of_the_score(pipeline: Pipeline, missing: float) -> None:
    verdicts = feed(pipeline, readings([(1, 1), (missing, 3)]))
    residual = verdicts[1].residual
    assert residual is not None
    assert np.isnan(residual[0])
    assert verdicts[1].score == residual[1] ** 2 == 4


@pytest.fixture
def real(tiny: Artifact) -> Pipeline:
    """A pipeline without warm-up on a session that holds, which scores in units of 1."""
    return Pipeline(Session(with_detection(tiny, real=True)))


def test_the_model_goes_on_with_the_last_good_value(real: Pipeline, tiny: Artifact) -> None:
    verdicts = feed(real, readings([(21, -5), (22, -4.8), (NAN, -4.6), (21, -4.4)]))
    session = Session(tiny)
    session.warm_up([(21, -5), (22, -4.8), (22, -4.6)])
    forecast = session.step((21, -4.4))
    after = real.update(readings([(20, -4)], start=4)[0])
    assert after.predicted is not None
    assert np.array_equal(after.predicted, cast(Any, forecast))
    assert scored([*verdicts, after]) == [False, True, True, True, True]
    assert real.counters == PipelineCounters(readings=5, scored=4, warming_up=1)


def test_a_dead_channel_does_not_blind_the_others(real: Pipeline) -> None:
    feed(real, readings([(21, -5), (22, -4.8)]))
    gone = feed(real, readings([(NAN, -4.6)] * 100, start=2))
    assert all(scored(gone))
    assert np.isnan([v.residual for v in gone if v.residual is not None]).sum(axis=0).tolist() == [
        100,
        0,
    ]
    (fault,) = [change.alert for verdict in gone for change in verdict.changes]
    assert (fault.kind, fault.reason) == (AlertKind.SENSOR_FAULT, "missing")
    assert real.counters == PipelineCounters(
        readings=102, scored=101, warming_up=1, sensor_faults=1
    )


def test_an_anomaly_is_seen_beside_a_dead_channel(tiny: Artifact) -> None:
    pipeline = Pipeline(Session(with_detection(tiny, real=True)))
    run = readings([(21, -5)] * 20 + [(NAN, -5)] * 100 + [(NAN, 5)] * 5)
    verdicts = feed(pipeline, run)
    (alert,) = [
        change.alert
        for verdict in verdicts[120:]
        for change in verdict.changes
        if change.alert.kind is AlertKind.ANOMALY
    ]
    assert alert.channels[0].name == tiny.manifest.channels[1].name


def test_a_channel_that_is_back_is_compared_when_its_forecasts_know_it(tiny: Artifact) -> None:
    pipeline = Pipeline(Session(with_detection(tiny, real=True, warm_up=WARM_UP)))
    before = [(21.0, -5.0)] * 30
    verdicts = feed(pipeline, readings([*before, *[(NAN, -5)] * 11, *[(21, -5)] * 30]))
    missing = [v.residual is None or bool(np.isnan(v.residual[0])) for v in verdicts[30:]]
    assert missing == [True] * (11 + WARM_UP + 1) + [False] * (30 - WARM_UP - 1)
    assert all(scored(verdicts[30:]))


def test_a_channel_that_is_dead_from_the_start_stands_at_its_mean(tiny: Artifact) -> None:
    artifact = with_detection(tiny, real=True, channel_mean=(20.0, -5.0))
    pipeline = Pipeline(Session(artifact))
    verdicts = feed(pipeline, readings([(NAN, -4.8)] * (LONG_GAP + 3)))
    assert scored(verdicts) == [False] * (LONG_GAP + 1) + [True] * 2
    session = Session(tiny)
    session.step((20, -4.8))
    assert np.array_equal(cast(Any, verdicts[-1].predicted), cast(Any, session.step((20, -4.8))))
    assert pipeline.counters.unusable == LONG_GAP


def test_what_is_beyond_the_reach_is_carried_over_a_missing_value(tiny: Artifact) -> None:
    run = readings([(1000.0, -5.0)] * 4)
    whole = feed(Pipeline(Session(with_detection(tiny, real=True))), run)
    run[2] = run[2]._replace(values=(NAN, -5.0))
    holed = feed(Pipeline(Session(with_detection(tiny, real=True))), run)
    assert compared(holed)[3] == compared(whole)[3]


def test_a_first_reading_with_a_hole_is_not_used(real: Pipeline) -> None:
    verdicts = feed(real, readings([(NAN, -5), (21, -5), (22, -5)]))
    assert scored(verdicts) == [False, False, True]
    assert real.counters == PipelineCounters(readings=3, scored=1, warming_up=1, unusable=1)


@pytest.mark.parametrize("policy", ["skip", "raise"])
def test_the_sessions_own_policy_counts(tiny: Artifact, policy: str) -> None:
    pipeline = Pipeline(Session(with_detection(tiny, real=True), invalid=policy))
    run = readings([(21, -5), (NAN, -5), (21, -5), (22, -5)])
    if policy == "raise":
        with pytest.raises(ReadingError, match="not finite"):
            feed(pipeline, run)
        return
    assert scored(feed(pipeline, run)) == [False, False, False, True]
    assert pipeline.counters == PipelineCounters(
        readings=4, scored=1, warming_up=2, unusable=1, gaps=1
    )


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
    changes = [(i, *change) for i, v in enumerate(verdicts) for change in v.changes]
    assert [event for _, event, _ in changes] == [AlertEvent.OPENED, AlertEvent.CLOSED]
    (opened, _, first), (closed, _, last) = changes
    assert 300 <= opened <= 305
    assert 330 < closed < 420
    assert first.opened == last.opened == opened * PERIOD
    assert last.closed == closed * PERIOD
    assert last.peak_score == max(v.score or 0 for v in verdicts)
    assert [channel.name for channel in last.channels] == ["flow", "level"]
    assert last.channels[0].share > 0.8
    assert sum(channel.share for channel in last.channels) == pytest.approx(1)
    # The figures of the channels are those at the peak.
    assert last.peaked is not None
    peak = verdicts[round(last.peaked / PERIOD)]
    assert peak.score == last.peak_score
    assert peak.predicted is not None
    assert peak.residual is not None
    assert [c[2:] for c in last.channels] == list(
        zip(peak.residual.tolist(), peak.reading.values, peak.predicted.tolist(), strict=True)
    )
    assert first.threshold == last.threshold == verdicts[opened].threshold
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
    feed(pipeline, quiet(5))
    assert pipeline.open_alert is None
    verdict = pipeline.update(Reading(5 * PERIOD, (60.0, -5.0)))
    (change,) = verdict.changes
    assert change.event is AlertEvent.OPENED
    assert pipeline.open_alert == change.alert
    assert pipeline.alerts == 1


def test_the_policy_is_kept(fake: Persistence) -> None:
    pipeline = Pipeline(cast(Session, fake), policy=AlertPolicy(k=2, n=3, quiet=4))
    wild = [(0.0, 0.0), (0.0, 0.0), (50.0, 0.0), (0.0, 0.0), (0.0, 0.0)]
    assert events(feed(pipeline, readings(wild))) == [AlertEvent.OPENED]
    assert events(feed(pipeline, readings([(0.0, 0.0)] * 3, start=5))) == [AlertEvent.CLOSED]


def test_what_exceeded_before_a_gap_does_not_count_after_it(fake: Persistence) -> None:
    def opens(missing: int) -> bool:
        pipeline = Pipeline(cast(Session, fake), policy=AlertPolicy(k=2, n=2))
        feed(pipeline, quiet(3))
        values = [(60.0, -5.0), (20.0, -5.0), (500.0, -5.0)]
        at = [3, 4 + missing, 5 + missing]
        run = [Reading(i * PERIOD, v) for i, v in zip(at, values, strict=True)]
        return AlertEvent.OPENED in events(feed(pipeline, run))

    assert opens(0)
    assert not opens(1)
    assert not opens(LONG_GAP + 1)


def test_achieved_alerts_are_per_day_of_scored_readings(pipeline: Pipeline) -> None:
    assert pipeline.achieved() == Achieved(0, 0)
    assert pipeline.achieved().per_day is None
    run = quiet(721)
    run[400] = run[400]._replace(values=(60.0, -5.0))
    feed(pipeline, run)
    assert pipeline.achieved() == Achieved(1, 0.5)
    assert pipeline.achieved().per_day == 2


def test_achieved_alerts_of_a_window_count_what_a_score_stands_for(windowed: Pipeline) -> None:
    feed(windowed, quiet(721))
    assert windowed.counters.scored == 240
    assert windowed.achieved() == Achieved(0, 0.5)


# Faults of the sensor


@pytest.fixture
def limited(tiny: Artifact) -> Pipeline:
    limits = (ChannelLimits(flat=30), ChannelLimits(low=-20.0, high=20.0))
    return Pipeline(cast(Session, Persistence(with_detection(tiny, limits=limits))))


def test_a_fault_of_the_sensor_is_no_anomaly(limited: Pipeline) -> None:
    verdicts = feed(limited, readings([(20.0, i % 2) for i in range(60)]))
    ((event, alert),) = [change for v in verdicts for change in v.changes]
    assert event is AlertEvent.OPENED
    assert (alert.kind, alert.reason) == (AlertKind.SENSOR_FAULT, "flat")
    assert [channel.name for channel in alert.channels] == ["flow"]
    assert limited.alerts == 0
    assert limited.open_alert is None
    assert limited.counters.sensor_faults == 1
    assert limited.achieved().alerts == 0


def test_both_kinds_of_alert_may_open_at_one_reading(limited: Pipeline) -> None:
    verdicts = feed(limited, readings([(20.0, 15.0 * (i == 29)) for i in range(30)]))
    assert events(verdicts[:-1]) == []
    kinds = [change.alert.kind for change in verdicts[-1].changes]
    assert kinds == [AlertKind.SENSOR_FAULT, AlertKind.ANOMALY]


def test_faults_are_seen_where_there_is_no_score(limited: Pipeline) -> None:
    run = readings([(NAN, NAN)] * 20)
    kinds = [change.alert.reason for v in feed(limited, run) for change in v.changes]
    assert set(kinds) == {"missing"}
    assert limited.counters.sensor_faults == len(kinds) > 0


def test_silence_is_a_fault_and_ends_with_the_next_reading(limited: Pipeline) -> None:
    feed(limited, readings([(i % 2, 0.0) for i in range(5)]))
    last = 4 * PERIOD
    assert limited.silent(last + 2 * PERIOD) == ()
    (change,) = limited.silent(last + 11 * PERIOD)
    assert change.event is AlertEvent.OPENED
    assert change.alert.reason == "missing"
    assert limited.silent(last + 12 * PERIOD) == ()
    assert limited.counters.sensor_faults == 1
    verdict = limited.update(Reading(last + 13 * PERIOD, (1.0, 0.0)))
    assert events([verdict]) == [AlertEvent.CLOSED]
    assert limited.counters.sensor_faults == 1


# Settings


def test_budget_of_the_artifact_is_the_default(fake: Persistence) -> None:
    assert Pipeline(cast(Session, fake)).budget == 1.0


def test_budget_can_be_overridden(tiny: Artifact) -> None:
    # A reading a minute: 1440 readings per false alarm by default.
    levels: list[float] = []
    for budget, readings_each in ((10, 144), (None, 1440), (0.1, 14_400)):
        fake = cast(Session, Persistence(with_detection(tiny)))
        pipeline = Pipeline(fake, false_alarms_per_day=budget)
        levels.append(feed(pipeline, quiet(2))[-1].threshold or math.nan)
        assert levels[-1] == first_level(pipeline, readings_each)
    assert levels == sorted(set(levels))


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detection": None}, "'tiny' was not calibrated .* 'edgelstm calibrate'"),
        (
            {"detection": None, "task": "none", "horizon": 0},
            "'tiny' neither forecasts nor reconstructs .* 'edgelstm train'",
        ),
    ],
)
def test_artifact_without_a_detection_is_refused(
    tiny: Artifact, changes: dict[str, Any], message: str
) -> None:
    manifest = dataclasses.replace(tiny.manifest, **changes)
    fake = Persistence(dataclasses.replace(tiny, manifest=manifest))
    with pytest.raises(ArtifactError, match=message):
        Pipeline(cast(Session, fake))


@pytest.mark.parametrize("name", ["tiny_ports", "tiny_tokens"])
def test_artifact_that_forecasts_nothing_is_refused(
    name: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(ArtifactError, match=f"{name!r} neither forecasts"):
        Pipeline(Session(request.getfixturevalue(name)))


def test_threshold_can_be_chosen(tiny: Artifact, sines: NDArray[np.float64]) -> None:
    def levels(kind: str | None) -> list[float | None]:
        verdicts = feed(Pipeline(Session(tiny), threshold=kind), readings(sines[:60].tolist()))
        return [v.threshold for v in verdicts]

    assert levels("static-quantile") != levels(None) == levels("adaptive-tail")
    assert len(set(levels("static-quantile"))) == 2  # None, and the level that never moves
    with pytest.raises(ConfigurationError, match="No threshold is called 'magic'"):
        levels("magic")


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
    assert a.counters == PipelineCounters(readings=100, scored=100 - WARM_UP, warming_up=WARM_UP)
    assert b.alerts > 0
    assert a.alerts == 0


def test_alert_stays_open_over_a_long_gap(warming: Pipeline) -> None:
    feed(warming, quiet(WARM_UP + 5))
    warming.update(Reading((WARM_UP + 5) * PERIOD, (60.0, -5.0)))
    after = feed(warming, quiet(WARM_UP, start=500))
    assert events(after) == []
    assert warming.open_alert is not None
    assert events(feed(warming, quiet(60, start=500 + WARM_UP))) == [AlertEvent.CLOSED]


# Horizons


@pytest.fixture
def ahead(tiny: Artifact) -> Pipeline:
    artifact = with_detection(tiny)
    manifest = dataclasses.replace(artifact.manifest, horizon=3)
    return Pipeline(cast(Session, Persistence(dataclasses.replace(artifact, manifest=manifest))))


def test_a_forecast_waits_for_the_reading_that_it_is_for(ahead: Pipeline) -> None:
    verdicts = feed(ahead, readings([(float(i * i), 0.0) for i in range(6)]))
    assert [None if v.predicted is None else v.predicted[0] for v in verdicts] == [
        *[None] * 3,
        *[0.0, 1.0, 4.0],
    ]
    assert compared(verdicts)[3:] == [[9, 0], [15, 0], [21, 0]]


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
def test_after_a_gap_forecasts_are_still_for_the_right_time(ahead: Pipeline, missing: int) -> None:
    # Reading i has the value i, and is there or not; each is forecast three readings earlier.
    there = [i for i in range(20) if not 8 <= i < 8 + missing]
    verdicts = feed(ahead, [Reading(i * PERIOD, (float(i), 0.0)) for i in there])
    for i, verdict in zip(there, verdicts, strict=True):
        known = i - 3 in there
        assert (verdict.predicted is not None) == known
        if verdict.predicted is not None:
            assert verdict.predicted[0] == i - 3


def test_a_long_gap_drops_all_forecasts(ahead: Pipeline) -> None:
    feed(ahead, quiet(5))
    assert scored(feed(ahead, quiet(5, start=40))) == [False] * 3 + [True] * 2


def test_warm_up_is_that_of_the_forecast(tiny: Artifact) -> None:
    artifact = with_detection(tiny, warm_up=4)
    manifest = dataclasses.replace(artifact.manifest, horizon=3)
    fake = Persistence(dataclasses.replace(artifact, manifest=manifest))
    verdicts = feed(Pipeline(cast(Session, fake)), quiet(10))
    # The fourth step is the first that counts, and is for three readings later.
    assert scored(verdicts) == [False] * 6 + [True] * 4


# Reconstruction


class Mean(Persistence):
    """A window of four that gives back its mean, at every second reading."""

    def step(self, x: ArrayLike) -> NDArray[np.float64] | None:
        values = super().step(x)
        if values is None or len(self.stepped) < 4 or len(self.stepped) % 2:
            return None
        return np.tile(np.nanmean(self.stepped[-4:], axis=0), 4)

    def reset(self) -> None:
        super().reset()
        self.stepped.clear()


def reconstructing(artifact: Artifact, warm_up: int = 0) -> Pipeline:
    given = with_detection(artifact, warm_up=warm_up)
    (output,) = given.manifest.outputs
    detection = given.manifest.detection
    assert detection is not None
    manifest = dataclasses.replace(
        given.manifest,
        task="reconstruction",
        horizon=0,
        window=4,
        hop=2,
        outputs=(dataclasses.replace(output, channels=output.channels * 4),),
        golden_tolerance=(0.0,) * 8,
        detection=dataclasses.replace(detection, residual_scale=(1.0,) * 8),
    )
    return Pipeline(cast(Session, Mean(dataclasses.replace(given, manifest=manifest))))


def test_a_reconstruction_is_compared_with_its_whole_window(tiny_window: Artifact) -> None:
    pipeline = reconstructing(tiny_window)
    verdicts = feed(pipeline, readings([(float(i), 10.0 * (i == 3)) for i in range(6)]))
    assert scored(verdicts) == [False, False, False, True, False, True]
    assert compared(verdicts)[3] == [-1.5, -2.5, -0.5, -2.5, 0.5, -2.5, 1.5, 7.5]
    assert verdicts[3].predicted is not None
    assert verdicts[3].predicted.tolist() == [1.5, 2.5] * 4
    assert verdicts[3].score == pytest.approx((2 * (0.25 + 2.25) + 3 * 6.25 + 56.25) / 8)


def test_the_shares_of_a_reconstruction_are_of_channels(tiny_window: Artifact) -> None:
    pipeline = reconstructing(tiny_window)
    verdicts = feed(pipeline, readings([(float(i), 10.0 * (i == 3)) for i in range(4)]))
    ((_, alert),) = verdicts[3].changes
    assert [channel.name for channel in alert.channels] == ["level", "flow"]
    assert alert.channels[0].share == pytest.approx(75 / 80)
    # Of its last reading, (3, 10).
    assert [channel[2:] for channel in alert.channels] == [(7.5, 10, 2.5), (1.5, 3, 1.5)]


def test_a_missing_value_is_left_out_of_a_reconstruction(tiny_window: Artifact) -> None:
    pipeline = reconstructing(tiny_window)
    residual = feed(pipeline, readings([(0, 0), (NAN, 0), (3, 0), (3, 0)]))[3].residual
    assert residual is not None
    assert np.isnan(residual).tolist() == [False, False, True, *[False] * 5]


def test_a_window_over_a_gap_is_not_compared(tiny_window: Artifact) -> None:
    pipeline = reconstructing(tiny_window)
    run = [Reading(i * PERIOD, (1.0, 1.0)) for i in range(15) if i != 5]
    verdicts = feed(pipeline, run)
    assert [i for i, v in enumerate(verdicts) if v.predicted is not None] == [3, 9, 11, 13]


def test_the_warm_up_of_a_reconstruction_is_in_runs(tiny_window: Artifact) -> None:
    verdicts = feed(reconstructing(tiny_window, warm_up=2), quiet(9))
    assert [v.residual is not None for v in verdicts].count(True) == 3
    assert scored(verdicts) == [False] * 7 + [True, False]


# What becomes of readings


def check_counts(pipeline: Pipeline, verdicts: list[Verdict]) -> PipelineCounters:
    """Each reading is counted once, and the verdict does not say otherwise."""
    counters = pipeline.counters
    assert counters.readings == len(verdicts)
    assert counters.scored == sum(scored(verdicts))
    assert counters.readings == counters.scored + sum(counters.skipped.values())
    assert min(counters.skipped.values()) >= 0
    return counters


def test_each_reason_is_counted_apart(tiny: Artifact) -> None:
    pipeline = Pipeline(Session(with_detection(tiny, real=True)))
    run = [
        *readings([(20, -5)] * 5),  # the first is for the warm-up
        *readings([(20, -5)] * 3, start=7),  # the first is after the gap
        *readings([(NAN, NAN)] * 2, start=10),  # unusable
        *readings([(20, -5)], start=12),  # after the gap that they are
        *readings([(20, -5)] * 4, start=2),  # of the past
        *readings([(20, -5)] * 2, start=40),  # afresh
    ]
    counters = check_counts(pipeline, feed(pipeline, run))
    assert counters.skipped == {
        "warming_up": 2,
        "after_gap": 2,
        "not_due": 0,
        "uncompared": 0,
        "unusable": 2,
        "backwards": 4,
        "failed": 0,
    }
    assert (counters.gaps, counters.restarts) == (2, 1)


def test_a_reading_without_a_value_to_compare_is_uncompared(tiny_ahead: Artifact) -> None:
    manifest = dataclasses.replace(tiny_ahead.manifest, warm_up=1)
    pipeline = Pipeline(Session(dataclasses.replace(tiny_ahead, manifest=manifest)))
    run = readings([(20.0, -5.0)] * 10 + [(20.0, NAN)] * 3 + [(NAN, -5.0)] * 3)
    verdicts = feed(pipeline, run)
    assert scored(verdicts) == [False] * 3 + [True] * 7 + [False] * 3 + [True] * 3
    counters = check_counts(pipeline, verdicts)
    assert (counters.warming_up, counters.uncompared) == (3, 3)


def test_a_window_says_when_it_is_not_due(tiny_again: Artifact) -> None:
    manifest = dataclasses.replace(tiny_again.manifest, warm_up=0)
    pipeline = Pipeline(Session(dataclasses.replace(tiny_again, manifest=manifest)))
    # Full at the eighth reading, and due at each second one; after the gap it fills anew.
    run = [*quiet(12), *quiet(20, start=13)]
    counters = check_counts(pipeline, feed(pipeline, run))
    assert counters == PipelineCounters(
        readings=32, scored=3 + 7, warming_up=7, not_due=2 + 10, after_gap=3, gaps=1
    )


def test_a_reading_at_which_an_error_was_raised_has_failed(tiny: Artifact) -> None:
    pipeline = Pipeline(Session(tiny, invalid="raise"))
    pipeline.update(Reading(0.0, (20.0, -5.0)))
    for values in ((1.0,), (NAN, 1.0)):
        with pytest.raises(ReadingError):
            pipeline.update(Reading(PERIOD, values))
    pipeline.session.close()
    with pytest.raises(ConfigurationError):
        pipeline.update(Reading(PERIOD, (20.0, -5.0)))
    assert pipeline.counters == PipelineCounters(readings=4, warming_up=1, failed=3)


VALUE = st.sampled_from([18.0, 20.0, 21.5, 90.0, NAN, math.inf])
STEP = st.sampled_from([1.0] * 6 + [0.0, 1.4, 2.0, 4.0, -1.0, -8.0, 30.0])
STREAM = st.lists(st.tuples(STEP, VALUE, VALUE, st.booleans(), st.integers(1, 4)), max_size=25)


@pytest.mark.parametrize(
    "name", ["tiny", "tiny_float", "tiny_float32", "tiny_window", "tiny_ahead", "tiny_again"]
)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=STREAM, warm_up=st.integers(0, 3), scorer=st.sampled_from(SCORERS))
def test_the_reasons_add_up_whatever_comes(
    name: str, request: pytest.FixtureRequest, data: Any, warm_up: int, scorer: str
) -> None:
    given_artifact: Artifact = request.getfixturevalue(name)
    old = given_artifact.manifest.detection
    assert old is not None
    manifest = dataclasses.replace(
        given_artifact.manifest,
        warm_up=warm_up,
        detection=dataclasses.replace(old, scorer=scorer),
    )
    pipeline = Pipeline(Session(dataclasses.replace(given_artifact, manifest=manifest)))
    time, number, run = 0.0, 0, []
    for step, flow, level, counts, times in data:
        for _ in range(times):
            time += step * PERIOD
            number += max(round(step), 1)
            run.append(Reading(time, (flow, level), number if counts else None))
    check_counts(pipeline, feed(pipeline, run))


def test_all_that_is_open_can_be_looked_at(tiny: Artifact) -> None:
    assert Pipeline(Session(tiny)).open_alerts == ()
    pipeline = Pipeline(Session(with_detection(tiny, real=True)))
    feed(pipeline, readings([(20, -5)] * 5 + [(NAN, -5)] * 12 + [(NAN, 90)]))
    anomaly, fault = pipeline.open_alerts
    assert anomaly == pipeline.open_alert
    assert (fault.kind, fault.reason) == (AlertKind.SENSOR_FAULT, "missing")
    level, flow = anomaly.channels
    assert (level.name, level.observed) == ("level", 90)
    # JSON has no NaN.
    assert (flow.share, flow.residual, flow.observed) == (0, None, None)
    assert flow.predicted is not None


# Times that go back


def test_a_source_that_counts_anew_goes_on(pipeline: Pipeline) -> None:
    feed(pipeline, numbered([700, 701, 702]))
    pipeline.renumber()
    after = [Reading((3 + i) * PERIOD, (20.0, -5.0), i) for i in range(3)]
    assert scored(feed(pipeline, after)) == [True] * 3
    assert pipeline.counters.backwards == pipeline.counters.gaps == 0


def test_a_reading_of_the_past_is_left_out(pipeline: Pipeline, fake: Persistence) -> None:
    values = [(1.0, 1.0), (2.0, 1.0), (9.0, 1.0), (3.0, 1.0)]
    run = [Reading(t * PERIOD, v) for t, v in zip([0, 1, 0.5, 2], values, strict=True)]
    verdicts = feed(pipeline, run)
    assert verdicts[2] == Verdict(run[2])
    assert fake.stepped == [[1, 1], [2, 1], [3, 1]]
    assert compared(verdicts)[3] == [1, 0]
    assert pipeline.counters == PipelineCounters(readings=4, scored=2, warming_up=1, backwards=1)


def test_readings_at_the_same_time_follow_one_another(pipeline: Pipeline) -> None:
    assert scored(feed(pipeline, timed([0, 1, 1, 2]))) == [False, True, True, True]


def test_a_clock_that_was_set_back_is_believed_in_the_end(
    pipeline: Pipeline, fake: Persistence
) -> None:
    feed(pipeline, timed(range(100)))
    verdicts = feed(pipeline, timed(range(40, 60)))
    assert scored(verdicts) == [False] * (LONG_GAP + 1) + [True] * (9)
    assert fake.resets == 1
    assert pipeline.counters.backwards == LONG_GAP  # the next one is believed
    assert pipeline.counters.restarts == 1


def test_a_few_strays_are_never_believed(pipeline: Pipeline, fake: Persistence) -> None:
    for i in range(1, 100):
        pipeline.update(Reading(i * PERIOD, (20.0, -5.0)))
        pipeline.update(Reading((i - 0.5) * PERIOD, (20.0, -5.0)))
    assert fake.resets == 0
    assert pipeline.counters == PipelineCounters(
        readings=198, scored=98, warming_up=1, backwards=99
    )


def test_a_number_that_goes_back_is_of_the_past(pipeline: Pipeline) -> None:
    verdicts = feed(pipeline, numbered([5, 6, 6, 4, 7]))
    assert scored(verdicts) == [False, True, False, False, True]
    assert pipeline.counters.backwards == 2


def test_any_rate_takes_readings_as_they_come(tiny: Artifact) -> None:
    fake = cast(Session, Persistence(with_detection(tiny)))
    pipeline = Pipeline(fake, any_rate=True)
    assert scored(feed(pipeline, timed([0, 5, 10, 500, 400, 405]))) == [False] + [True] * 5
    feed(pipeline, timed([5 * i for i in range(200)]))
    assert pipeline.counters.sensor_faults == 0
    assert scored(feed(pipeline, numbered([1, 2, 4, 5]))) == [True, True, False, True]


def test_a_wrong_rate_is_a_fault_of_the_sensor(pipeline: Pipeline) -> None:
    feed(pipeline, timed([i / 2 for i in range(200)]))
    assert pipeline.counters.sensor_faults == 1
