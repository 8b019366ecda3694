"""A pipeline that is saved and goes on elsewhere, at any reading."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import zipfile
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgelstm.alert import AlertPolicy
from edgelstm.artifact import Artifact
from edgelstm.detectors import THRESHOLDS
from edgelstm.errors import StateError
from edgelstm.manifest import ChannelLimits
from edgelstm.pipeline import LONG_GAP, Pipeline, Verdict
from edgelstm.pipeline_state import PipelineState
from edgelstm.reading import Reading
from edgelstm.session import Session

PERIOD = 60.0
NAN = math.nan


def changed(artifact: Artifact, detection: dict[str, Any], **manifest: Any) -> Artifact:
    """The artifact with other figures in its manifest and its detection."""
    old = artifact.manifest.detection
    assert old is not None
    new = dataclasses.replace(old, **detection)
    return dataclasses.replace(
        artifact, manifest=dataclasses.replace(artifact.manifest, detection=new, **manifest)
    )


def eventful(sines: NDArray[np.float64]) -> list[Reading]:
    """An alert, gaps of both kinds, holes, a stuck channel and times that go back."""
    count = 100
    values = sines[:count].copy()
    values[30:50, 0] += 12  # an anomaly that goes on over the short gap
    values[60:74, 1] = -5.0
    values[54:57, 0] = NAN
    values[58] = NAN
    times = PERIOD * np.arange(count)
    times[45:] += 2 * PERIOD
    times[76:] += (LONG_GAP + 5) * PERIOD
    times[40] -= 5 * PERIOD
    times[86:] -= 30 * PERIOD
    return [Reading(t, tuple(v)) for t, v in zip(times.tolist(), values.tolist(), strict=True)]


def plain(verdict: Verdict) -> tuple[Any, ...]:
    """A verdict bit for bit."""
    arrays = [None if a is None else a.tobytes() for a in (verdict.predicted, verdict.residual)]
    return (repr(verdict.reading), *arrays, *verdict[3:])


JUNK = [Reading(1e7, (90.0, 3.0)), Reading(1e7 + PERIOD, (NAN, 2.0)), Reading(-1e7, (1.0, 1.0))]


def check_every_step(artifact: Artifact, run: list[Reading], **settings: Any) -> Pipeline:
    """Saves and loads at every reading, into another pipeline that has seen something else."""
    pipeline = Pipeline(Session(artifact), **settings)
    other = Pipeline(Session(artifact), **settings)
    for reading in run:
        for junk in JUNK:  # or it would go on by itself
            other.update(junk)
        state = pipeline.state
        other.state = PipelineState.load(state.save())
        assert other.state == state
        assert plain(other.update(reading)) == plain(pipeline.update(reading))
        assert other.counters == pipeline.counters
        assert other.open_alert == pipeline.open_alert
        assert other.warming_up == pipeline.warming_up
        assert other.achieved() == pipeline.achieved()
    assert other.state == pipeline.state
    now = run[-1].timestamp + 1000 * PERIOD
    assert other.silent(now) == pipeline.silent(now) != ()
    return pipeline


@pytest.mark.parametrize("name", ["tiny", "tiny_float", "tiny_window"])
def test_it_goes_on_bit_for_bit(
    name: str, request: pytest.FixtureRequest, sines: NDArray[np.float64]
) -> None:
    limits = (ChannelLimits(low=0.0, high=25.0), ChannelLimits(flat=8))
    artifact = changed(request.getfixturevalue(name), {"limits": limits}, warm_up=5)
    counters = check_every_step(artifact, eventful(sines)).counters
    # What the readings are meant to bring about has come about.
    assert counters.gaps
    assert counters.restarts == 2
    assert counters.unusable == 1
    assert counters.backwards == LONG_GAP + 1
    assert counters.sensor_faults >= 2


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_whatever_the_threshold(tiny: Artifact, sines: NDArray[np.float64], threshold: str) -> None:
    policy = AlertPolicy(k=2, n=4, minimum_duration=120, cool_down=600)
    pipeline = check_every_step(
        tiny, eventful(sines)[20:60], threshold=threshold, false_alarms_per_day=2, policy=policy
    )
    assert pipeline.alerts


def test_whatever_the_scorer(tiny: Artifact, sines: NDArray[np.float64]) -> None:
    check_every_step(changed(tiny, {"scorer": "robust"}), eventful(sines)[:70])


def test_whatever_the_horizon(tiny: Artifact, sines: NDArray[np.float64]) -> None:
    check_every_step(changed(tiny, {}, horizon=4), eventful(sines)[:70])


VALUE = st.sampled_from([18.0, 20.0, 21.5, 90.0, NAN, math.inf])
STEP = st.sampled_from([1.0, 1.0, 1.0, 1.0, 0.0, 1.4, 2.0, 4.0, -1.0, 30.0])


@settings(max_examples=8, deadline=None)
@given(data=st.lists(st.tuples(STEP, VALUE, VALUE, st.booleans()), max_size=30))
def test_whatever_comes(
    tiny_window: Artifact, data: list[tuple[float, float, float, bool]]
) -> None:
    time, run = 0.0, [Reading(0.0, (20.0, -5.0))]
    for number, (step, flow, level, counts) in enumerate(data):
        time += step * PERIOD
        run.append(Reading(time, (flow, level), number if counts else None))
    check_every_step(changed(tiny_window, {}, warm_up=1), run)


def test_a_budget_may_change_over_a_restart(tiny: Artifact, sines: NDArray[np.float64]) -> None:
    pipeline = Pipeline(Session(tiny))
    for reading in eventful(sines)[:25]:
        pipeline.update(reading)
    strict = Pipeline(Session(tiny), false_alarms_per_day=0.01)
    strict.state = pipeline.state
    reading = eventful(sines)[25]
    levels = [p.update(reading).threshold or 0.0 for p in (pipeline, strict)]
    assert levels[0] < levels[1]


# What is refused


@pytest.fixture
def state(tiny: Artifact, sines: NDArray[np.float64]) -> PipelineState:
    pipeline = Pipeline(Session(tiny))
    for reading in eventful(sines)[:36]:
        pipeline.update(reading)
    return pipeline.state


def refuses(artifact: Artifact, state: Any, message: str, **settings: Any) -> None:
    """Setting the state raises and changes nothing."""
    pipeline = Pipeline(Session(artifact), **settings)
    for i in range(30):
        pipeline.update(Reading(i * PERIOD, (20.0 + i % 3, -5.0)))
    before, counters = pipeline.state, dataclasses.replace(pipeline.counters)
    with pytest.raises(StateError, match=message):
        pipeline.state = state
    assert pipeline.state == before
    assert pipeline.counters == counters


def test_the_state_of_another_artifact_is_refused(
    tiny_window: Artifact, tiny_float32: Artifact, state: PipelineState
) -> None:
    for artifact in (tiny_window, tiny_float32):
        refuses(artifact, state, "another artifact or calibration")


def test_the_state_of_another_calibration_is_refused(tiny: Artifact, state: PipelineState) -> None:
    refuses(changed(tiny, {"residual_scale": (2.0, 2.0)}), state, "another artifact or calibration")


def test_the_state_of_the_model_alone_is_not_enough(
    tiny: Artifact, tiny_float32: Artifact, state: PipelineState
) -> None:
    """Both say that they are of this calibration, but the states are of another model."""
    mixed = PipelineState(Session(tiny_float32).state, state.rest)
    refuses(tiny, mixed, "another model")
    refuses(tiny, state.session, "pipeline.state or PipelineState.load gave")


def test_the_state_of_another_threshold_is_refused(tiny: Artifact, state: PipelineState) -> None:
    refuses(tiny, state, "another scorer or threshold", threshold="conformal")


def other_rest(state: PipelineState, **changes: Any) -> PipelineState:
    return PipelineState(state.session, json.dumps(json.loads(state.rest) | changes))


def other_part(state: PipelineState, name: str, **changes: Any) -> PipelineState:
    parts = json.loads(state.rest)["parts"]
    return other_rest(state, parts=parts | {name: parts[name] | changes})


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("residuals", {"pending": [{"due": 1, "warm": True, "values": [1.0, 2.0]}]}),
        ("residuals", {"pending": [{"due": -1, "warm": True, "values": [1.0, 2.0]}]}),
        ("residuals", {"pending": [{"due": 0, "warm": True, "values": [1.0]}]}),
        ("residuals", {"pending": [{"due": 0, "warm": 1, "values": [1.0, 2.0]}]}),
        ("residuals", {"runs": -1}),
        ("residuals", {"runs": 1.5}),
        ("rule", {"fresh": -1}),
        ("progress", {"behind": "many"}),
        ("progress", {"last": [1.0]}),
        ("progress", {"something": 1}),
    ],
)
def test_parts_that_cannot_be_are_refused(
    tiny: Artifact, state: PipelineState, name: str, changes: dict[str, Any]
) -> None:
    refuses(tiny, other_part(state, name, **changes), "start afresh")


def test_a_missing_part_is_refused(tiny: Artifact, state: PipelineState) -> None:
    others: list[Any] = [{}, [], None, {"scorer": 1}]
    for parts in others:
        refuses(tiny, other_rest(state, parts=parts), "another scorer or threshold")


def test_another_version_is_refused(state: PipelineState) -> None:
    with pytest.raises(StateError, match="version 99, and this edgelstm knows version 2"):
        PipelineState.load(other_rest(state, version=99).save())


def test_damaged_bytes_are_refused(state: PipelineState) -> None:
    good = state.save()
    damaged = [b"", b"PK", good[:-30], good[: len(good) // 2], good[10:]]
    damaged += [
        good[:i] + bytes([good[i] ^ 0x55]) + good[i + 1 :]
        for i in range(40, len(good), len(good) // 20)
    ]
    for content in ("1", "[]", '"x"', "{", "[" * 100_000):
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("session.npz", state.session.save())
            archive.writestr("pipeline.json", content)
        damaged.append(buffer.getvalue())
    refused = 0
    for data in damaged:
        with contextlib.suppress(StateError):
            assert PipelineState.load(data) == state  # where that was no part of the content
            continue
        refused += 1
    assert refused > 20


def test_a_state_is_a_value(tiny: Artifact, state: PipelineState) -> None:
    pipeline = Pipeline(Session(tiny))
    pipeline.state = state
    pipeline.update(Reading(36 * PERIOD, (20.0, -5.0)))
    assert pipeline.state != state
    pipeline.state = state
    assert pipeline.state == state
