from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm import Session, State, Streams
from edgelstm.artifact import Artifact
from edgelstm.backends import Wiring, open_graph
from edgelstm.backends.batch import LoopedGraph, open_batch
from edgelstm.errors import (
    ArtifactError,
    BackendError,
    ConfigurationError,
    ReadingError,
    StateError,
)

Readings = NDArray[np.float64]
ALL = ["tiny", "tiny_float", "tiny_float32", "tiny_window", "tiny_ports", "tiny_tokens"]


@pytest.fixture(params=ALL)
def artifact(request: pytest.FixtureRequest) -> Artifact:
    found: Artifact = request.getfixturevalue(request.param)
    return found


def ticks(artifact: Artifact, streams: int, count: int) -> Readings:
    """Readings, (count, streams, channels): each stream is somewhere else in the golden ones."""
    x = artifact.golden.x.astype(np.float64)
    return np.stack([[x[(t + 17 * i) % len(x)] for i in range(streams)] for t in range(count)])


def check_close(found: NDArray[Any], expected: NDArray[Any]) -> None:
    # A batch of floats is computed in another order.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def check_row(row: Readings, expected: Readings | None) -> None:
    if expected is None:
        assert np.isnan(row).all()
    else:
        check_close(row, expected)


def check_state(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for name in found:
        assert found[name].dtype == expected[name].dtype
        check_close(found[name], expected[name])
    assert found.held == expected.held
    assert (found.last is None) == (expected.last is None)
    for name, value in (expected.last or {}).items():
        assert found.last is not None
        np.testing.assert_array_equal(found.last[name], value)


def test_each_stream_is_a_session_of_its_own(artifact: Artifact) -> None:
    streams, sessions = Streams(artifact, 5), [Session(artifact) for _ in range(5)]
    for x in ticks(artifact, 5, 60):
        y = streams.step(x)
        assert y.shape == (5, len(artifact.manifest.targets))
        assert y.dtype == np.float64
        for i, session in enumerate(sessions):
            check_row(y[i], session.step(x[i]))
    for i, session in enumerate(sessions):
        check_state(streams.state(i), session.state)


def test_a_stream_may_skip_a_tick(artifact: Artifact) -> None:
    streams, sessions = Streams(artifact, 4), [Session(artifact) for _ in range(4)]
    rng = np.random.default_rng(0)
    for t, x in enumerate(ticks(artifact, 4, 60)):
        present = None if t % 3 == 0 else rng.random(4) < 0.5
        given = x.copy()
        if present is not None:
            given[~present] = np.nan  # whatever stands there
        y = streams.step(given, present)
        for i, session in enumerate(sessions):
            check_row(y[i], session.step(x[i]) if present is None or present[i] else None)
    for i, session in enumerate(sessions):
        check_state(streams.state(i), session.state)
        assert streams.counters[i] == session.counters


def test_no_stream_has_a_reading(artifact: Artifact) -> None:
    streams = Streams(artifact, 2)
    for x in ticks(artifact, 2, 10):
        streams.step(x)
    before = [streams.state(i) for i in range(2)]
    assert np.isnan(streams.step(np.full_like(x, np.nan), np.zeros(2, bool))).all()
    for i in range(2):
        check_state(streams.state(i), before[i])


@pytest.mark.parametrize("policy", ["hold", "skip"])
def test_policies_are_those_of_a_session(tiny_float: Artifact, policy: str) -> None:
    options: dict[str, Any] = {"invalid": policy, "hold_limit": 3}
    streams = Streams(tiny_float, 3, **options)
    sessions = [Session(tiny_float, **options) for _ in range(3)]
    rng = np.random.default_rng(1)
    for t, x in enumerate(ticks(tiny_float, 3, 120)):
        x[0, 0] = np.inf if t == 0 else x[0, 0]  # the first reading of all
        x[1][rng.random(2) < 0.3] = np.nan
        if 40 <= t < 50:
            x[2] = np.nan
        y = streams.step(x)
        for i, session in enumerate(sessions):
            check_row(y[i], session.step(x[i]))
    for i, session in enumerate(sessions):
        check_state(streams.state(i), session.state)
        assert streams.counters[i] == session.counters
    if policy == "hold":
        assert streams.counters[2].held == 3
        assert streams.counters[2].resets == 1
        assert streams.counters[2].skipped == 7
        assert streams.counters[0].skipped == 1
    else:
        assert streams.counters[2].skipped == 10


def test_policy_raise_names_the_stream_and_changes_nothing(tiny: Artifact) -> None:
    streams = Streams(tiny, 3, invalid="raise")
    for x in ticks(tiny, 3, 10):
        streams.step(x)
    before = [streams.state(i) for i in range(3)]
    x[1, 1] = np.nan
    with pytest.raises(ReadingError, match="The reading of stream 1 has a value that is not fin"):
        streams.step(x)
    for i in range(3):
        check_state(streams.state(i), before[i])


def test_a_token_that_is_none_changes_nothing(tiny_tokens: Artifact) -> None:
    streams = Streams(tiny_tokens, 2)
    for x in ticks(tiny_tokens, 2, 10):
        streams.step(x)
    before = [streams.state(i) for i in range(2)]
    with pytest.raises(ReadingError, match="tokens"):
        streams.step([[1.0], [9.0]])
    check_state(streams.state(0), before[0])
    y = streams.step([[1.0], [9.0]], [True, False])  # what an absent row holds does not matter
    assert np.isfinite(y[0]).all()


# Coming and going


def test_streams_leave_and_join(artifact: Artifact) -> None:
    streams = Streams(artifact, 2)
    sessions: dict[int, Session] = {i: Session(artifact) for i in range(2)}
    for t, x in enumerate(ticks(artifact, 12, 90)):
        if t in (10, 12, 30, 31, 32, 33, 34, 35, 36, 60):
            i = streams.join()
            assert i not in sessions
            sessions[i] = Session(artifact)
        if t in (11, 20, 50):
            i = max(sessions) if t == 20 else min(sessions)
            streams.leave(i)
            del sessions[i]
        y = streams.step(x[: len(streams)])
        assert streams.active.tolist() == [i in sessions for i in range(len(streams))]
        for i, row in enumerate(y):
            check_row(row, sessions[i].step(x[i]) if i in sessions else None)
    assert len(streams) == 9
    for i, session in sessions.items():
        check_state(streams.state(i), session.state)


def test_the_lowest_free_number_is_taken(tiny: Artifact) -> None:
    streams = Streams(tiny, 4)
    streams.leave(2)
    streams.leave(1)
    assert [streams.join() for _ in range(3)] == [1, 2, 4]


def test_a_new_stream_knows_nothing_of_the_one_before_it(tiny_float: Artifact) -> None:
    streams, fresh = Streams(tiny_float, 2), Session(tiny_float)
    readings = ticks(tiny_float, 2, 40)
    for x in readings[:20]:
        streams.step(x)
    x[0] = np.nan
    streams.step(x)
    assert streams.counters[0].held == 1
    streams.leave(0)
    assert streams.join() == 0
    assert streams.counters[0].held == 0
    assert streams.state(0).last is None
    for x in readings[20:]:
        check_row(streams.step(x)[0], fresh.step(x[0]))


@pytest.mark.parametrize("stream", [-1, 2, 7])
def test_a_stream_that_is_not_there(tiny: Artifact, stream: int) -> None:
    streams = Streams(tiny, 3)
    streams.leave(2)
    for use in (streams.leave, streams.reset, streams.state):
        with pytest.raises(ConfigurationError, match=f"There is no stream {stream}"):
            use(stream)


# States


def test_a_stream_moves_to_a_session_and_back(artifact: Artifact) -> None:
    streams, session = Streams(artifact, 3), Session(artifact)
    readings = ticks(artifact, 3, 60)
    for x in readings[:25]:
        streams.step(x)
    session.state = State.load(streams.state(1).save())
    others = Streams(artifact, 2)
    others.set_state(1, session.state)
    for x in readings[25:]:
        y = streams.step(x)
        expected = session.step(x[1])
        check_row(y[1], expected)
        check_row(others.step(x[[0, 1]])[1], expected)


def test_reset_of_one_and_of_all(artifact: Artifact) -> None:
    streams = Streams(artifact, 3)
    readings = ticks(artifact, 3, 40)
    first = np.array([streams.step(x) for x in readings[:20]])
    streams.reset(1)
    second = np.array([streams.step(x) for x in readings[:20]])
    check_close(second[:, 1], first[:, 1])
    assert not np.allclose(second[:, 0], first[:, 0], equal_nan=True)
    streams.reset()
    third = np.array([streams.step(x) for x in readings[:20]])
    np.testing.assert_array_equal(third, first)


def test_states_of_another_model_are_refused(tiny: Artifact, tiny_float32: Artifact) -> None:
    streams = Streams(tiny, 2)
    for x in ticks(tiny, 2, 5):
        streams.step(x)
    before = streams.state(0)
    with pytest.raises(StateError, match="another model"):
        streams.set_state(0, Session(tiny_float32).state)
    check_state(streams.state(0), before)


def test_outputs_and_states_are_copies(tiny_float: Artifact) -> None:
    streams = Streams(tiny_float, 3)
    readings = ticks(tiny_float, 3, 30)
    kept = []
    for x in readings:
        given = x.copy()
        y, state = streams.step(given), streams.state(1)
        assert np.array_equal(given, x)
        kept.append((y, y.copy(), state, {k: v.copy() for k, v in state.items()}))
    streams.close()
    for y, then, state, values in kept:
        assert y.base is None or y.base.base is None
        assert np.array_equal(y, then)
        assert all(np.array_equal(state[k], v) for k, v in values.items())


# What does not fit


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[20.0, -5.0]], r"have the shape \(1, 2\); give \(2, 2\)"),
        ([20.0, -5.0], r"have the shape \(2,\)"),
        (20.0, r"have the shape \(\)"),
        ([["a", "b"], ["c", "d"]], "are not numbers"),
        ([[None, 1.0], [1.0, 1.0]], "are not numbers"),
        ([[1.0], [1.0, 2.0]], "are not numbers"),
        ([[1j, 1], [1, 1]], "are not numbers"),
    ],
)
def test_readings_that_do_not_fit(tiny: Artifact, x: Any, message: str) -> None:
    with pytest.raises(ReadingError, match=message):
        Streams(tiny, 2).step(x)


@pytest.mark.parametrize("present", [[True], [[True, True]], [1, 0], True])
def test_present_that_does_not_fit(tiny: Artifact, present: Any) -> None:
    with pytest.raises(ReadingError, match=r"`present` is .*; give bool \(2,\)"):
        Streams(tiny, 2).step([[20.0, -5.0]] * 2, present)


@pytest.mark.parametrize("n", [0, -1, 2.5, "2", None])
def test_there_has_to_be_a_stream(tiny: Artifact, n: Any) -> None:
    with pytest.raises(ConfigurationError, match="their number is 1 or more"):
        Streams(tiny, n)


def test_unknown_policy(tiny: Artifact) -> None:
    with pytest.raises(ConfigurationError, match="'pray'; try hold, skip, raise"):
        Streams(tiny, 2, invalid="pray")


def test_from_a_file(tiny_path: Path, tmp_path: Path) -> None:
    with Streams(tiny_path, 2) as streams:
        assert streams.step([[20.0, -5.0]] * 2).shape == (2, 2)
    with pytest.raises(ArtifactError):
        Streams(tmp_path / "none.tflite", 2)


def test_closed_streams_say_so(tiny: Artifact) -> None:
    streams = Streams(tiny, 2)
    streams.close()
    streams.close()
    for use in (
        lambda: streams.step([[20.0, -5.0]] * 2),
        lambda: streams.state(0),
        lambda: streams.reset(0),
        streams.reset,
        streams.join,
    ):
        with pytest.raises(ConfigurationError, match="closed"):
            use()


def test_a_runtime_that_computes_wrongly_is_refused(tiny: Artifact) -> None:
    manifest = dataclasses.replace(tiny.manifest, runtimes={})
    with pytest.raises(BackendError, match="computes it wrongly"):
        Streams(dataclasses.replace(tiny, manifest=manifest), 2)


def test_huge_readings_are_bounded_as_in_a_session(tiny_float: Artifact) -> None:
    streams, session = Streams(tiny_float, 2), Session(tiny_float)
    readings = ticks(tiny_float, 2, 20)
    readings[10] = [[1e300, -5.0], [20.0, -1e30]]
    for x in readings:
        check_row(streams.step(x)[0], session.step(x[0]))


# Batches


def test_what_cannot_be_resized_is_looped(tiny_window: Artifact, tiny: Artifact) -> None:
    # Its graph cuts the batch into pieces along the wrong axis when it is resized.
    assert not Streams(tiny_window, 3).batched
    assert Streams(tiny, 3).batched


def test_a_looped_graph_is_a_batch(tiny: Artifact) -> None:
    wiring = Wiring.of(tiny.manifest)
    looped = LoopedGraph(open_graph(tiny.flatbuffer, wiring), wiring, 4)
    batch = open_batch(tiny.flatbuffer, wiring, "auto", 1, 4)
    assert not isinstance(batch, LoopedGraph)
    rng = np.random.default_rng(0)
    for _ in range(30):
        x = rng.integers(-128, 127, (4, 2)).astype(np.int8)
        for a, b in zip(looped.run([x]), batch.run([x]), strict=True):
            assert np.array_equal(a, b)
    for a, b in zip(looped.states, batch.states, strict=True):
        assert np.array_equal(a, b)


def test_only_the_rows_asked_for_run(tiny: Artifact) -> None:
    wiring = Wiring.of(tiny.manifest)
    looped = LoopedGraph(open_graph(tiny.flatbuffer, wiring), wiring, 3)
    before = looped.states
    (y,) = looped.run([np.full((3, 2), 50, np.int8)], [1])
    for old, new in zip(before, looped.states, strict=True):
        assert np.array_equal(old[[0, 2]], new[[0, 2]])
        assert not np.array_equal(old[1], new[1])
    assert not y[0].any()
    assert not y[2].any()
    assert y[1].any()


@pytest.mark.parametrize("error", [BackendError, KeyboardInterrupt])
def test_a_failed_run_leaves_windows_as_they_were(
    error: type[BaseException], tiny_window: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = Streams(tiny_window, 2)
    for x in ticks(tiny_window, 2, 7):
        streams.step(x)
    before = [streams.state(i) for i in range(2)]

    def fail(*_: object) -> None:
        raise error("out of order")

    with monkeypatch.context() as patch:
        patch.setattr(LoopedGraph, "run", fail)
        with pytest.raises(error, match="out of order"):
            streams.step(x)
    for i in range(2):
        check_state(streams.state(i), before[i])
    assert np.isfinite(streams.step(x)).all()


def test_a_reset_forgets_how_long_a_stream_was_held(tiny_float: Artifact) -> None:
    streams = Streams(tiny_float, 2, hold_limit=2)
    x = ticks(tiny_float, 2, 1)[0]
    bad = np.array([[np.nan, -5.0], x[1]])
    for reading in (x, bad, bad):
        streams.step(reading)
    assert streams.state(0).held == 2
    streams.reset(0)
    assert streams.state(0).held == 0
    streams.step(x)
    streams.step(bad)
    assert (streams.counters[0].held, streams.counters[0].resets) == (3, 0)
