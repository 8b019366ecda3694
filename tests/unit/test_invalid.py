"""Readings with values that are not finite, and what the policies make of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.direct import closer_look
from edgelstm.errors import ConfigurationError, ReadingError
from edgelstm.session import INVALID_POLICIES, Session, SessionCounters
from edgelstm.state import State

Readings = NDArray[np.float64]
NAN, INF = math.nan, math.inf
ALL = ["tiny", "tiny_float", "tiny_float32", "tiny_window", "tiny_ports", "tiny_tokens"]


@pytest.fixture
def opened(request: pytest.FixtureRequest) -> Any:
    """Opens an artifact by its name."""

    def open_session(name: str, **options: Any) -> Session:
        found: Artifact = request.getfixturevalue(name)
        return Session(found, **options)

    return open_session


def readings_of(name: str, sines: Readings) -> Readings:
    """500 readings for an artifact."""
    if name == "tiny_tokens":
        return (np.arange(500) % 5)[:, None].astype(np.float64)
    if name == "tiny_ports":
        return np.concatenate([sines, sines.sum(axis=1, keepdims=True)], axis=1)
    return sines


def run(session: Session, readings: Any) -> list[list[float] | None]:
    outputs = [session.step(x) for x in readings]
    return [None if y is None else y.tolist() for y in outputs]


def counts(session: Session) -> tuple[int, int, int]:
    c = session.counters
    return c.held, c.skipped, c.resets


def same_state(a: State, b: State) -> bool:
    """Whether two states hold the same values, however they came about."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# Hold


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("name", ALL)
def test_each_value_that_is_missing_is_held(
    name: str, value: float, opened: Any, sines: Readings
) -> None:
    session, other = opened(name), opened(name)
    readings = readings_of(name, sines)[:120]
    given, meant = readings.copy(), readings.copy()
    rng = np.random.default_rng(0)
    for i in range(20, 110, 4):
        # Some of the channels, or all of them.
        lost: NDArray[np.bool_] = np.array(rng.random(readings.shape[1]) < 0.6)
        lost[rng.integers(readings.shape[1])] = True
        given[i, lost] = value
        meant[i, lost] = meant[i - 1, lost]
    assert run(session, given) == run(other, meant)
    assert same_state(session.state, other.state)
    assert counts(session) == (len(range(20, 110, 4)), 0, 0)
    assert counts(other) == (0, 0, 0)


@pytest.mark.parametrize("name", ALL)
def test_what_stood_in_stands_in_again(name: str, opened: Any, sines: Readings) -> None:
    session, other = opened(name, hold_limit=4), opened(name)
    readings = readings_of(name, sines)
    for x in readings[:20]:
        session.step(x)
        other.step(x)
    # The first channel is lost four times, the others go on.
    for x in readings[20:24]:
        lost, meant = x.copy(), x.copy()
        lost[0], meant[0] = NAN, readings[19, 0]
        assert run(session, [lost]) == run(other, [meant])
    assert counts(session) == (4, 0, 0)
    assert run(session, readings[24:60]) == run(other, readings[24:60])


@pytest.mark.parametrize("name", ["tiny_float", "tiny_float32"])
def test_what_the_direct_way_took_last_is_held(name: str, opened: Any, sines: Readings) -> None:
    session, other = opened(name), opened(name)
    run(session, sines[:31])
    assert session._direct is not closer_look
    run(other, sines[:31])
    assert run(session, [[NAN, -5.5]]) == run(other, [[sines[30, 0], -5.5]])
    assert run(session, [[NAN, NAN]]) == run(other, [[sines[30, 0], -5.5]])
    # The direct way is open again after a good reading.
    assert run(session, sines[31:60]) == run(other, sines[31:60])
    assert session._direct is not closer_look


def test_values_beyond_the_bounds_are_held_as_the_model_took_them(
    opened: Any, sines: Readings
) -> None:
    for name in ("tiny", "tiny_float"):
        session, other = opened(name), opened(name)
        for x in (*sines[:20], np.array([1e300, -5.0])):
            session.step(x)
            other.step(x)
        assert run(session, [[NAN, -5.0]]) == run(other, [[1e300, -5.0]])


def test_step_named_holds_too(opened: Any, sines: Readings) -> None:
    session, other = opened("tiny_ports"), opened("tiny_ports")
    readings = readings_of("tiny_ports", sines)
    for x in readings[:20]:
        session.step_named({"vibration": x[:2], "load": x[2]})
        other.step(x)
    y = session.step_named({"vibration": [20.0, NAN], "load": INF})
    held = other.step([20.0, readings[19, 1], readings[19, 2]])
    assert y is not None
    assert np.concatenate(list(y.values())).tolist() == held.tolist()
    assert counts(session) == (1, 0, 0)


def test_a_raw_reading_may_stand_in(opened: Any, sines: Readings) -> None:
    for name in ("tiny", "tiny_float"):
        session, other = opened(name), opened(name)
        for x in sines[:20]:
            session.step_raw(session.to_raw(x))
            other.step(x)
        assert run(session, [[NAN, NAN]]) == run(other, [sines[19]])


@pytest.mark.parametrize("name", ALL)
def test_a_first_reading_that_is_bad_is_skipped(name: str, opened: Any, sines: Readings) -> None:
    session, other = opened(name), opened(name)
    readings = readings_of(name, sines)
    bad = np.full_like(readings[0], NAN)
    assert run(session, [bad, bad]) == [None, None]
    assert counts(session) == (0, 2, 0)
    assert same_state(session.state, other.state)
    assert run(session, readings[:50]) == run(other, readings[:50])
    session.reset()
    assert run(session, [bad]) == [None]  # what was before a reset does not stand in
    assert counts(session) == (0, 3, 0)


# The limit


@pytest.mark.parametrize("limit", [0, 1, 3, 10])
@pytest.mark.parametrize("name", ALL)
def test_too_many_in_a_row_reset_the_states_once(
    name: str, limit: int, opened: Any, sines: Readings
) -> None:
    session, fresh = opened(name, hold_limit=limit), opened(name)
    readings = readings_of(name, sines)
    run(session, readings[:30])
    bad = np.full_like(readings[0], NAN)
    for _ in range(limit):
        session.step(bad)
        assert session.counters.resets == 0
    assert counts(session) == (limit, 0, 0)
    assert run(session, [bad]) == [None]
    assert counts(session) == (limit, 1, 1)
    assert same_state(session.state, fresh.state)
    # Until a good reading comes, none is stepped, and there is nothing to reset.
    assert run(session, [bad] * 30) == [None] * 30
    assert counts(session) == (limit, 31, 1)
    assert same_state(session.state, fresh.state)
    assert run(session, readings[30:80]) == run(fresh, readings[30:80])
    for _ in range(limit + 1):
        session.step(bad)
    assert counts(session) == (2 * limit, 32, 2)


def test_ten_in_a_row_are_held_unless_told_otherwise(opened: Any, sines: Readings) -> None:
    session = opened("tiny")
    run(session, sines[:5])
    outputs = run(session, [[NAN, NAN]] * 11)
    assert [y is None for y in outputs] == [False] * 10 + [True]


@pytest.mark.parametrize("name", ["tiny", "tiny_float", "tiny_window"])
def test_a_good_reading_in_between_starts_the_count_afresh(
    name: str, opened: Any, sines: Readings
) -> None:
    session = opened(name, hold_limit=2)
    run(session, sines[:20])
    for x in sines[20:60]:
        run(session, [[NAN, x[1]], [x[0], NAN], x])
    assert counts(session) == (80, 0, 0)


def test_readings_that_are_refused_do_not_count(opened: Any, sines: Readings) -> None:
    session = opened("tiny_float", hold_limit=2)
    run(session, [*sines[:20], [NAN, NAN], [NAN, NAN]])
    with pytest.raises(ReadingError):
        session.step([NAN])
    assert counts(session) == (2, 0, 0)
    assert session.state.held == 2


def test_a_replay_does_not_count(opened: Any, sines: Readings) -> None:
    session = opened("tiny_float")
    run(session, [*sines[:20], [NAN, NAN]])
    assert session.verify() is None
    assert counts(session) == (1, 0, 0)
    assert session.state.held == 1


# Skip


@pytest.mark.parametrize("name", ALL)
def test_skip_leaves_a_bad_reading_out(name: str, opened: Any, sines: Readings) -> None:
    session, other = opened(name, invalid="skip"), opened(name)
    readings = readings_of(name, sines)[:100]
    for i, x in enumerate(readings):
        if i % 3 == 0:
            bad = x.copy()
            bad[i % len(bad)] = (NAN, INF, -INF)[i % 9 // 3]
            assert session.step(bad) is None
        assert run(session, [x]) == run(other, [x])
    assert same_state(session.state, other.state)
    assert counts(session) == (0, 34, 0)


# Raise


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("name", ALL)
def test_raise_refuses_a_bad_reading_and_changes_nothing(
    name: str, value: float, opened: Any, sines: Readings
) -> None:
    session, other = opened(name, invalid="raise"), opened(name)
    readings = readings_of(name, sines)
    run(session, readings[:30])
    run(other, readings[:30])
    bad = readings[30].copy()
    bad[-1] = value
    before = session.state.save()
    with pytest.raises(ReadingError, match="A reading has a value that is not finite") as caught:
        session.step(bad)
    assert str(bad.tolist()) in str(caught.value)
    assert isinstance(caught.value, ConfigurationError)
    assert session.state.save() == before
    assert session.counters == SessionCounters()
    assert run(session, readings[30:80]) == run(other, readings[30:80])


def test_warm_up_is_by_the_policy(opened: Any, sines: Readings) -> None:
    session, other = opened("tiny"), opened("tiny")
    y = session.warm_up([*sines[:20], [NAN, NAN]])
    assert y is not None
    assert y.tolist() == run(other, [*sines[:20], sines[19]])[-1]
    assert session.warm_up([]) is None
    with pytest.raises(ReadingError, match="not finite"):
        opened("tiny", invalid="raise").warm_up([sines[0], [NAN, NAN]])


# Settings


def test_what_no_policy_is_called(opened: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        opened("tiny", invalid="guess")
    assert str(caught.value) == "No policy is called 'guess'; try hold, skip, raise."
    assert set(INVALID_POLICIES) == {"hold", "skip", "raise"}


def test_a_negative_limit_is_refused(opened: Any) -> None:
    with pytest.raises(ConfigurationError, match="hold limit is -1; take 0 or more"):
        opened("tiny", hold_limit=-1)
