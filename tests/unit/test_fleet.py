from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgelstm.alert import AlertPolicy
from edgelstm.artifact import Artifact
from edgelstm.errors import ArtifactError, BackendError, ConfigurationError, ReadingError
from edgelstm.fleet import Fleet
from edgelstm.pipeline import LONG_GAP, Pipeline, Stepped, Verdict
from edgelstm.pipeline_state import PipelineState
from edgelstm.reading import Reading
from edgelstm.session import Session
from edgelstm.streams import Streams

PERIOD = 60.0
SENSORS = 5
NAN = math.nan
WHOLE_NUMBERS = ["tiny", "tiny_window", "tiny_ahead", "tiny_again"]
FLOATS = ["tiny_float", "tiny_float32"]  # a batch of them may be computed in another order

Ticks = Sequence[Sequence[Reading | None]]


def plain(verdict: Verdict | None) -> tuple[Any, ...] | None:
    """A verdict bit for bit."""
    if verdict is None:
        return None
    arrays = [None if a is None else a.tobytes() for a in (verdict.predicted, verdict.residual)]
    return (repr(verdict.reading), *arrays, *verdict[3:])


def quick(artifact: Artifact) -> Artifact:
    """The artifact with a warm-up that is soon over."""
    manifest = dataclasses.replace(artifact.manifest, warm_up=3)
    return dataclasses.replace(artifact, manifest=manifest)


def check_close(verdict: Verdict | None, expected: Verdict | None) -> None:
    """A verdict within rounding."""
    if verdict is None or expected is None:
        assert verdict is expected
        return
    assert repr(verdict.reading) == repr(expected.reading)
    for mine, other in ((verdict.predicted, expected.predicted), (verdict.score, expected.score)):
        assert (mine is None) == (other is None)
        if mine is not None and other is not None:
            np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-4)
    assert [c.event for c in verdict.changes] == [c.event for c in expected.changes]


def check_as_single(artifact: Artifact, ticks: Ticks, *, exactly: bool = True) -> list[Pipeline]:
    """Each sensor of a fleet does what a pipeline of its own does; exactly is bit for bit."""
    singles = [Pipeline(Session(artifact)) for _ in range(SENSORS)]
    with Fleet(artifact, SENSORS) as fleet:
        for tick in ticks:
            verdicts = fleet.update(tick)
            expected = [
                None if reading is None else single.update(reading)
                for single, reading in zip(singles, tick, strict=True)
            ]
            if exactly:
                assert list(map(plain, verdicts)) == list(map(plain, expected))
            for verdict, other in zip(verdicts, expected, strict=True):
                check_close(verdict, other)
        for single, row in zip(singles, fleet.pipelines, strict=True):
            assert row.counters == single.counters
            assert len(row.open_alerts) == len(single.open_alerts)
            if exactly:
                assert row.state == single.state
    return singles


def eventful(sines: NDArray[np.float64]) -> Ticks:
    """Each sensor has another trouble."""
    count = 90
    rng = np.random.default_rng(0)
    ticks: list[list[Reading | None]] = []
    for i in range(count):
        tick: list[Reading | None] = []
        for k in range(SENSORS):
            values = sines[i + 7 * k].copy()
            time = PERIOD * i
            if k == 1 and 30 <= i < 50:
                values += 12
            if k == 2 and i % 9 == 4:
                values[i % 2] = NAN
            if k == 3 and 40 <= i < 40 + LONG_GAP + 4:
                tick.append(None)
                continue
            if k == 4 and (rng.random() < 0.1 or i == 60):
                time -= 5 * PERIOD
            tick.append(Reading(time, tuple(values.tolist())))
        ticks.append(tick)
    return ticks


@pytest.mark.parametrize("name", [*WHOLE_NUMBERS, *FLOATS])
def test_each_sensor_is_watched_as_if_alone(
    name: str, request: pytest.FixtureRequest, sines: NDArray[np.float64]
) -> None:
    artifact = quick(request.getfixturevalue(name))
    singles = check_as_single(artifact, eventful(sines), exactly=name in WHOLE_NUMBERS)
    counters = [single.counters for single in singles]
    # What the readings are meant to bring about has come about.
    assert singles[1].alerts
    assert counters[3].restarts == 1
    assert counters[4].backwards


VALUE = st.sampled_from([18.0, 20.0, 21.5, 90.0, -1e30, NAN, math.inf])
STEP = st.sampled_from([1.0, 1.0, 1.0, 1.0, 0.0, 2.0, 4.0, -1.0, 30.0])
READING = st.one_of(st.none(), st.tuples(STEP, VALUE, VALUE, st.booleans()))


@pytest.mark.parametrize("name", WHOLE_NUMBERS)
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.lists(st.tuples(*[READING] * SENSORS), max_size=25))
def test_whatever_comes(name: str, request: pytest.FixtureRequest, data: Any) -> None:
    times = [0.0] * SENSORS
    ticks: list[list[Reading | None]] = []
    for number, row in enumerate(data):
        tick: list[Reading | None] = []
        for k, drawn in enumerate(row):
            if drawn is None:
                tick.append(None)
                continue
            step, flow, level, counts = drawn
            times[k] += step * PERIOD
            tick.append(Reading(times[k], (flow, level), number if counts else None))
        ticks.append(tick)
    check_as_single(quick(request.getfixturevalue(name)), ticks)


def test_large_fleet_is_right_within_rounding(
    tiny_float: Artifact, sines: NDArray[np.float64]
) -> None:
    single = Pipeline(Session(tiny_float))
    with Fleet(tiny_float, 64) as fleet:
        for i, values in enumerate(sines[:60].tolist()):
            reading = Reading(i * PERIOD, tuple(values))
            (expected, *others) = (single.update(reading), *fleet.update([reading] * 64))
            for verdict in others:
                assert verdict is not None
                if expected.score is None:
                    assert verdict.score is None
                else:
                    assert verdict.score == pytest.approx(expected.score, rel=0.05, abs=0.02)


# Pipelines of their own


def run(sines: NDArray[np.float64], start: int, stop: int) -> Iterator[Reading]:
    for i in range(start, stop):
        yield Reading(i * PERIOD, tuple(sines[i].tolist()))


def test_a_sensor_moves_from_a_session_into_a_fleet_and_back(
    tiny: Artifact, sines: NDArray[np.float64]
) -> None:
    before, whole, after = (Pipeline(Session(tiny)) for _ in range(3))
    for reading in run(sines, 0, 30):
        before.update(reading)
    with Fleet(tiny, 3) as fleet:
        fleet.pipelines[1].state = PipelineState.load(before.state.save())
        for reading in run(sines, 30, 60):
            fleet.update([None, reading, None])
        after.state = fleet.pipelines[1].state
        assert fleet.pipelines[0].counters.readings == 0
        assert fleet.pipelines[0].state == Pipeline(Session(tiny)).state
    for reading in run(sines, 60, 90):
        after.update(reading)
    for reading in run(sines, 0, 90):
        whole.update(reading)
    assert after.state == whole.state


def test_a_pipeline_of_a_fleet_takes_a_reading_by_itself(
    tiny: Artifact, tiny_window: Artifact, sines: NDArray[np.float64]
) -> None:
    for artifact in (tiny, tiny_window):
        single = Pipeline(Session(artifact))
        with Fleet(artifact, 2) as fleet:
            for reading in run(sines, 0, 40):
                assert plain(fleet.pipelines[1].update(reading)) == plain(single.update(reading))


def test_each_pipeline_has_its_own_settings(tiny: Artifact) -> None:
    def make(number: int, row: Stepped) -> Pipeline:
        policy = AlertPolicy(quiet=1 + number)
        return Pipeline(row, false_alarms_per_day=1.0 + number, policy=policy)

    with Fleet(tiny, 3, make) as fleet:
        assert [pipeline.budget for pipeline in fleet.pipelines] == [1, 2, 3]
        assert len(fleet) == 3
        session = fleet.pipelines[0].session
        assert (session.invalid, session.delegate_counters) == ("hold", None)
        assert session.backend in {"litert", "tflite_runtime", "tensorflow"}
        assert session.release
        assert session.counters.held == 0


def test_silence_is_of_one_sensor(tiny: Artifact) -> None:
    with Fleet(tiny, 2) as fleet:
        fleet.update([Reading(0.0, (20.0, -5.0))] * 2)
        assert fleet.pipelines[1].silent(1e4)
        assert [len(pipeline.open_alerts) for pipeline in fleet.pipelines] == [0, 1]


# What goes wrong


def test_a_reading_of_another_size_is_refused_before_anything_happens(tiny: Artifact) -> None:
    with Fleet(tiny, 2) as fleet:
        before = [pipeline.state for pipeline in fleet.pipelines]
        good = Reading(0.0, (20.0, -5.0))
        with pytest.raises(ReadingError, match="sensor 1 has 3 values; this model takes 2"):
            fleet.update([good, Reading(0.0, (1.0, 2.0, 3.0))])
        with pytest.raises(ReadingError, match="2 sensors takes as many readings, and was given 1"):
            fleet.update([good])
        assert [pipeline.state for pipeline in fleet.pipelines] == before


def test_readings_at_which_the_runtime_fails_are_counted(
    tiny: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise BackendError("The runtime failed.")

    good = Reading(0.0, (20.0, -5.0))
    with Fleet(tiny, 3) as fleet:
        with monkeypatch.context() as patch:
            patch.setattr(Streams, "step", fail)
            with pytest.raises(BackendError):
                fleet.update([good, None, good._replace(values=(NAN, NAN))])
        counts = [pipeline.counters for pipeline in fleet.pipelines]
        assert [c.failed for c in counts] == [1, 0, 0]
        assert [c.unusable for c in counts] == [0, 0, 1]
        assert fleet.update([good] * 3)


def test_a_fleet_needs_a_detection(tiny: Artifact) -> None:
    manifest = dataclasses.replace(tiny.manifest, detection=None)
    with pytest.raises(ArtifactError, match="edgelstm calibrate"):
        Fleet(dataclasses.replace(tiny, manifest=manifest), 2)


def test_a_closed_fleet_says_so(tiny: Artifact) -> None:
    fleet = Fleet(tiny, 2)
    fleet.pipelines[0].session.close()  # the fleet's to close
    fleet.update([Reading(0.0, (20.0, -5.0))] * 2)
    fleet.close()
    fleet.close()
    with pytest.raises(ConfigurationError, match="closed"):
        fleet.update([Reading(60.0, (20.0, -5.0))] * 2)
