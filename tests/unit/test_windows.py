from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.backends import Wiring, open_graph
from edgelstm.errors import BackendError, ReadingError, StateError
from edgelstm.manifest import Channel, Port, TensorSpec
from edgelstm.session import Session
from edgelstm.windows import Windows

Readings = NDArray[np.float64]
LENGTH, HOP = 8, 3  # of `tiny_window`


def port(name: str, channels: int, length: int, dtype: str = "int8") -> Port:
    tokens = dtype == "int32"
    shape = (1, length) if tokens else (1, length, channels)
    columns = (Channel("c", "", 0.0, 1.0, 9 if tokens else None),) * channels
    return Port(columns, None, "session", TensorSpec(name, dtype, shape, 0.0, 0))


def counting(length: int, hop: int) -> Windows:
    """Of one channel; its readings are to be 1, 2, 3, ..."""
    return Windows([port("x", 1, length)], length, hop)


def push(windows: Windows, value: int) -> bool:
    return windows.push([np.array([value], np.int8)])


def kept(windows: Windows) -> list[int]:
    values: list[int] = windows.arrays[0].ravel().tolist()
    return values


def same_state(a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# When it runs, and on what


@pytest.mark.parametrize(
    ("length", "hop", "runs"),
    [
        (1, 1, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (1, 4, [1, 5, 9]),
        (4, 1, [4, 5, 6, 7, 8, 9]),
        (4, 3, [4, 7]),
        (3, 3, [3, 6, 9]),
        (2, 5, [2, 7]),
        (10, 1, []),
    ],
)
def test_runs_when_full_and_then_every_hop(length: int, hop: int, runs: list[int]) -> None:
    windows = counting(length, hop)
    assert [i for i in range(1, 10) if push(windows, i)] == runs


@pytest.mark.parametrize(("length", "hop"), [(1, 1), (4, 1), (4, 3), (3, 7)])
def test_the_window_holds_the_last_readings_the_oldest_first(length: int, hop: int) -> None:
    windows = counting(length, hop)
    for i in range(1, 40):
        if push(windows, i):
            assert kept(windows) == list(range(i - length + 1, i + 1))


def test_each_input_has_its_own_window() -> None:
    ports = [port("a", 2, 3), port("b", 1, 3, "float32"), port("t", 1, 3, "int32")]
    windows = Windows(ports, 3, 1)
    for i in range(1, 6):
        readings: list[NDArray[Any]] = [
            np.array([i, -i], np.int8),
            np.array([i / 2], np.float32),
            np.array([i], np.int32),
        ]
        windows.push(readings)
    a, b, t = windows.arrays
    assert (a.shape, b.shape, t.shape) == ((1, 3, 2), (1, 3, 1), (1, 3))
    assert [array.dtype.name for array in windows.arrays] == ["int8", "float32", "int32"]
    assert a.tolist() == [[[3, -3], [4, -4], [5, -5]]]
    assert b.ravel().tolist() == [1.5, 2.0, 2.5]
    assert t.tolist() == [[3, 4, 5]]


def test_a_reading_for_each_input_is_needed() -> None:
    windows = Windows([port("a", 2, 3), port("b", 1, 3)], 3, 1)
    with pytest.raises(ValueError, match="zip"):
        windows.push([np.zeros(2, np.int8)])


# State


def test_state_holds_the_readings_so_far() -> None:
    windows = counting(4, 3)
    assert windows.state["x"].shape == (0, 1)
    assert windows.state["due"] == 4
    for i in range(1, 4):
        push(windows, i)
        assert windows.state["x"].ravel().tolist() == list(range(1, i + 1))
        assert windows.state["due"] == 4 - i
    for i, due in ((4, 3), (5, 2), (6, 1), (7, 3)):
        push(windows, i)
        assert windows.state["x"].ravel().tolist() == list(range(i - 3, i + 1))
        assert windows.state["due"] == due


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 30), st.integers(0, 30))
def test_saved_state_goes_on_exactly(length: int, hop: int, before: int, past: int) -> None:
    first, second = counting(length, hop), counting(length, hop)
    for i in range(before):
        push(first, i)
    for i in range(past):
        push(second, 100 - i)
    saved = first.state
    second.state = saved
    assert same_state(second.state, saved)
    for i in range(before, before + 20):
        run = push(first, i)
        assert push(second, i) == run
        assert not run or kept(second) == kept(first)


def test_empty_is_the_state_at_the_start() -> None:
    windows = counting(4, 3)
    assert same_state(windows.empty(), windows.state)
    for i in range(6):
        push(windows, i)
    windows.state = windows.empty()
    assert same_state(windows.state, counting(4, 3).state)
    assert [i for i in range(1, 10) if push(windows, i)] == [4, 7]


def test_state_and_empty_are_copies() -> None:
    windows = counting(4, 3)
    for i in range(6):
        push(windows, i)
    saved, empty = windows.state, windows.empty()
    for state in (saved, empty):
        for value in state.values():
            value[...] = 99
    assert windows.state["x"].ravel().tolist() == [2, 3, 4, 5]
    assert windows.state["due"] == 1
    assert windows.empty()["due"] == 4


def state(
    readings: int, due: int, channels: int = 1, dtype: str = "int8", name: str = "x"
) -> dict[str, NDArray[Any]]:
    return {name: np.zeros((readings, channels), dtype), "due": np.array(due)}


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"x": np.zeros((4, 1), np.int8)},
        {"due": np.array(1)},
        state(4, 1) | {"h": np.zeros(1)},
        state(4, 1, name="y"),
        state(4, 1, channels=2),
        state(4, 1, dtype="float32"),
        state(5, 1),  # longer than the window
        state(4, 0),
        state(4, -1),
        state(4, 4),  # due later than a hop
        state(2, 1),  # would run before it is full
        state(2, 3),
        state(0, 1),
    ],
)
def test_state_of_another_model_is_refused(other: dict[str, NDArray[Any]]) -> None:
    windows = counting(4, 3)
    for i in range(6):
        push(windows, i)
    before = windows.state
    with pytest.raises(StateError, match="another model"):
        windows.state = other
    assert same_state(windows.state, before)
    assert [i for i in range(6, 12) if push(windows, i)] == [6, 9]


def test_state_whose_inputs_hold_different_readings_is_refused() -> None:
    windows = Windows([port("a", 1, 4), port("b", 1, 4)], 4, 1)
    uneven = {"a": np.zeros((2, 1), np.int8), "b": np.zeros((1, 1), np.int8), "due": np.array(2)}
    with pytest.raises(StateError, match="another model"):
        windows.state = uneven


# In a session


@pytest.fixture
def session(tiny_window: Artifact) -> Session:
    return Session(tiny_window)


def run(session: Session, readings: Readings) -> list[list[float] | None]:
    """The output after each reading, None where there is none."""
    outputs = [session.step(x) for x in readings]
    return [None if y is None else y.tolist() for y in outputs]


def test_a_session_runs_when_the_window_is_full_and_then_every_hop(
    session: Session, sines: Readings
) -> None:
    outputs = run(session, sines[:40])
    runs = [i for i, y in enumerate(outputs, 1) if y is not None]
    assert runs == list(range(LENGTH, 41, HOP))


def test_a_session_runs_the_graph_on_the_last_readings(
    session: Session, tiny_window: Artifact, sines: Readings
) -> None:
    graph = open_graph(tiny_window.flatbuffer, Wiring.of(tiny_window.manifest))
    raw = np.array([session.to_raw(x)[0] for x in sines[:60]])
    for i, x in enumerate(sines[:60], 1):
        y = session.step_raw(session.to_raw(x))
        if y is not None:
            (expected,) = graph.run([raw[i - LENGTH : i]])
            assert np.array_equal(y[0], expected[0])


def test_a_window_forecasts_better_than_the_last_reading(session: Session, sines: Readings) -> None:
    outputs = run(session, sines)
    runs = [i for i, y in enumerate(outputs[:-1]) if y is not None]
    forecast = np.array([outputs[i] for i in runs])
    after, last = sines[np.array(runs) + 1], sines[runs]
    assert (np.abs(after - forecast).mean(axis=0) < 0.8 * np.abs(after - last).mean(axis=0)).all()


def test_reset_empties_the_window(session: Session, tiny_window: Artifact, sines: Readings) -> None:
    run(session, sines[:50])
    session.reset()
    fresh = Session(tiny_window)
    assert same_state(session.state, fresh.state)
    assert len(session.state["x"]) == 0
    assert run(session, sines[100:140]) == run(fresh, sines[100:140])


@pytest.mark.parametrize("stop", [0, 1, 5, 7, 8, 9, 10, 11, 30])
def test_saved_state_of_a_session_goes_on_exactly(
    session: Session, tiny_window: Artifact, sines: Readings, stop: int
) -> None:
    other = Session(tiny_window)
    run(session, sines[:stop])
    run(other, sines[200:217])  # another past, which the state must replace
    saved = session.state
    expected = run(session, sines[stop:60])
    other.state = saved
    assert same_state(other.state, saved)
    assert run(other, sines[stop:60]) == expected


@pytest.mark.parametrize("steps", [0, 5, 9])
def test_verify_leaves_the_window_as_it_was(
    session: Session, tiny_window: Artifact, sines: Readings, steps: int
) -> None:
    other = Session(tiny_window)
    run(session, sines[:steps])
    run(other, sines[:steps])
    assert session.verify() is None
    assert same_state(session.state, other.state)
    assert run(session, sines[steps:40]) == run(other, sines[steps:40])


def test_states_of_other_sessions_are_refused(
    session: Session, tiny: Artifact, tiny_ports: Artifact, sines: Readings
) -> None:
    run(session, sines[:9])
    before = session.state
    for other in (tiny, tiny_ports):
        with pytest.raises(StateError, match="another model"):
            session.state = Session(other).state
        with pytest.raises(StateError, match="another model"):
            Session(other).state = before
    assert same_state(session.state, before)


@pytest.mark.parametrize("x", [[20.0], ["a", "b"], [[20.0, -5.0]]])
def test_bad_reading_does_not_enter_the_window(session: Session, sines: Readings, x: Any) -> None:
    run(session, sines[:7])
    before = session.state
    with pytest.raises(ReadingError, match="A reading has"):
        session.step(x)
    assert same_state(session.state, before)
    assert session.step(sines[7]) is not None


@pytest.mark.parametrize(
    ("error", "raised"),
    [(RuntimeError, BackendError), (KeyboardInterrupt, KeyboardInterrupt)],
)
def test_a_run_that_fails_leaves_the_window_as_it_was(
    error: type[BaseException],
    raised: type[BaseException],
    session: Session,
    tiny_window: Artifact,
    sines: Readings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = Session(tiny_window)
    assert run(session, sines[:7]) == run(other, sines[:7])
    before = session.state.save()

    def fail() -> None:
        raise error("node 3 failed")

    with monkeypatch.context() as patched:
        patched.setattr(session._graph, "_invoke", fail)
        for _ in range(2):
            with pytest.raises(raised, match="node 3 failed"):
                session.step(sines[7])
    assert session.state.save() == before
    assert run(session, sines[7:40]) == run(other, sines[7:40])


def test_step_named_gives_none_while_a_run_is_not_due(
    session: Session, tiny_window: Artifact, sines: Readings
) -> None:
    expected = run(Session(tiny_window), sines[:20])
    outputs = [session.step_named({"x": x}) for x in sines[:20]]
    assert [None if y is None else y["y"].tolist() for y in outputs] == expected
