"""The state of a session as a value: copied, set, saved, and gone on with elsewhere."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.direct import closer_look
from edgelstm.errors import ConfigurationError, StateError
from edgelstm.session import Session
from edgelstm.state import State
from edgelstm.streams import Streams

Readings = NDArray[np.float64]
DATA = Path(__file__).parents[1] / "data"
NAMES = ["tiny", "tiny_float", "tiny_float32", "tiny_window", "tiny_ports", "tiny_tokens"]
STOP, END = 30, 80  # in the middle, also of a hop of the window


def artifact(name: str) -> Artifact:
    return Artifact.read(DATA / f"{name}.tflite")


def readings_of(name: str, sines: Readings) -> Readings:
    """500 readings for an artifact."""
    if name == "tiny_tokens":
        return (np.arange(500) % 5)[:, None].astype(np.float64)
    if name == "tiny_ports":
        return np.concatenate([sines, sines.sum(axis=1, keepdims=True)], axis=1)
    return sines


def run(session: Session, readings: Readings) -> list[list[float] | None]:
    outputs = [session.step(x) for x in readings]
    return [None if y is None else y.tolist() for y in outputs]


def at(name: str, sines: Readings, stop: int = STOP) -> Session:
    """A session after some readings."""
    session = Session(artifact(name))
    run(session, readings_of(name, sines)[:stop])
    return session


def same(a: State, b: State) -> bool:
    """Whether two states are the same in all that they hold."""
    return (a.sha256, a.held) == (b.sha256, b.held) and all(
        same_arrays(one, other) for one, other in ((a, b), (a.last or {}, b.last or {}))
    )


def same_arrays(a: Any, b: Any) -> bool:
    return a.keys() == b.keys() and all(
        a[n].dtype == b[n].dtype and np.array_equal(a[n], b[n]) for n in a
    )


def spoil(state: State) -> None:
    """Overwrites every array of a state."""
    for value in (*state.values(), *(state.last or {}).values()):
        value[...] = 1


# Saving


@pytest.mark.parametrize("steps", [0, 1, STOP])
@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_it_is_the_same(name: str, steps: int, sines: Readings) -> None:
    state = at(name, sines, steps).state
    data = state.save()
    loaded = State.load(data)
    assert same(loaded, state)
    assert (loaded.last is None) == (steps == 0)
    arrays = [*state.values(), *(state.last or {}).values()]
    assert len(data) < sum(a.nbytes for a in arrays) + 500 * len(arrays) + 1500


# What a session saved, a Python process of its own goes on with.
GO_ON = """
import json, sys
import edgelstm
answers = {}
for name, (path, state, readings) in json.load(sys.stdin).items():
    session = edgelstm.load(path)
    session.state = edgelstm.State.load(bytes.fromhex(state))
    outputs = [session.step(x) for x in readings]
    answers[name] = [None if y is None else y.tolist() for y in outputs]
print(json.dumps(answers))
"""


def test_another_process_goes_on_bit_for_bit(sines: Readings) -> None:
    tasks, expected = {}, {}
    for name in NAMES:
        session = at(name, sines)
        saved, rest = session.state.save(), readings_of(name, sines)[STOP:END].tolist()
        # The third is missing a value: the last reading is in the state too.
        broken = [rest[0], [float("nan"), *rest[1][1:]], *rest[2:]]
        for case, readings in (("whole", rest), ("broken", [broken[1], *broken])):
            path = str(DATA / f"{name}.tflite")
            tasks[f"{name} {case}"] = (path, saved.hex(), readings)
            session.state = State.load(saved)
            expected[f"{name} {case}"] = run(session, np.array(readings))
    done = subprocess.run(
        [sys.executable, "-c", GO_ON],
        input=json.dumps(tasks),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == expected
    assert all(y is not None for name in ("tiny", "tiny_ports") for y in expected[f"{name} broken"])


@pytest.mark.parametrize("name", NAMES)
def test_it_carries_the_last_reading_and_how_often_it_stood_in(name: str, sines: Readings) -> None:
    readings = readings_of(name, sines)
    missing = np.full_like(readings[0], np.nan)
    session = Session(artifact(name), hold_limit=5)
    run(session, readings[:STOP])
    run(session, np.array([missing] * 3))
    other = Session(session.artifact, hold_limit=5)
    run(other, readings[200:217])  # another past
    other.state = State.load(session.state.save())
    assert other.state.held == 3
    rest = np.array([missing, missing, missing, missing, *readings[STOP:END]])
    counters = other.counters
    assert run(other, rest) == run(session, rest)
    # Two more stood in, then it was reset, and the fourth had none before it.
    assert (counters.held, counters.resets, counters.skipped) == (2, 1, 2)


def test_one_without_a_last_reading_makes_the_session_forget_its_own(sines: Readings) -> None:
    session = at("tiny_float", sines)
    session.state = Session(session.artifact).state
    assert session.state.last is None
    assert session.step([np.nan, -5.0]) is None


# Copies


@pytest.mark.parametrize("name", NAMES)
def test_the_state_that_is_got_is_a_copy(name: str, sines: Readings) -> None:
    session = at(name, sines)
    before, state = session.state.save(), session.state
    spoil(state)
    assert session.state.save() == before
    state = session.state
    kept = state.save()
    run(session, readings_of(name, sines)[STOP:END])
    assert state.save() == kept


@pytest.mark.parametrize("name", NAMES)
def test_the_state_that_is_set_is_a_copy(name: str, sines: Readings) -> None:
    session, other = at(name, sines), Session(artifact(name))
    state = session.state
    before = state.save()
    other.state = state
    spoil(state)
    assert other.state.save() == before
    state = State.load(before)
    other.state = state
    run(other, readings_of(name, sines)[STOP:END])
    assert state.save() == before


@pytest.mark.parametrize("name", ["tiny_float", "tiny_float32"])
def test_both_ways_of_a_step_leave_the_same_state(name: str, sines: Readings) -> None:
    direct, careful = Session(artifact(name)), Session(artifact(name))
    assert direct._open_way is not closer_look
    careful._open_way = closer_look
    for x in sines[:100]:
        direct.step(x)
        careful.step(x)
        assert direct.state.save() == careful.state.save()


@pytest.mark.parametrize("name", NAMES)
def test_a_raw_reading_is_not_kept_by_reference(name: str, sines: Readings) -> None:
    session, other = at(name, sines), at(name, sines)
    readings = readings_of(name, sines)
    raw = session.to_raw(readings[STOP])
    session.step_raw(raw)
    other.step_raw(other.to_raw(readings[STOP]))
    for value in raw:
        value[:] = 0  # the caller's own, to be used again
    missing = np.full_like(readings[:9], np.nan)
    assert run(session, missing) == run(other, missing)


# What is no state of this model


def refused(session: Session, state: Any) -> str:
    """The sentence with which a session refuses a state; it changes nothing."""
    before = session.state.save()
    with pytest.raises(StateError) as caught:
        session.state = state
    assert isinstance(caught.value, ConfigurationError)
    assert session.state.save() == before
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_that_of_another_artifact_is_refused(name: str, sines: Readings) -> None:
    session = at(name, sines)
    for other in NAMES:
        if other != name:
            message = refused(session, State.load(at(other, sines).state.save()))
            assert message == "This state belongs to another model."


def test_that_of_another_artifact_with_the_same_tensors_is_refused(sines: Readings) -> None:
    session = at("tiny", sines)
    state = session.state
    twin = State(state, "0" * 64, state.last, state.held)
    assert "another model" in refused(session, twin)


@pytest.mark.parametrize("name", ["tiny", "tiny_window", "tiny_ports"])
@pytest.mark.parametrize(
    "change",
    [
        lambda _: {},
        lambda last: {f"{name}_": v for name, v in last.items()},
        lambda last: {name: v[:-1] for name, v in last.items()},
        lambda last: {name: v.astype(np.float32) for name, v in last.items()},
        lambda last: {name: v[None] for name, v in last.items()},
    ],
)
def test_a_last_reading_of_another_model_is_refused(
    name: str, change: Callable[[Any], Any], sines: Readings
) -> None:
    session = at(name, sines)
    state = session.state
    assert "another model" in refused(
        session, State(state, state.sha256, change(state.last), state.held)
    )


def test_a_negative_count_is_refused(sines: Readings) -> None:
    session = at("tiny", sines)
    state = session.state
    assert "another model" in refused(session, State(state, state.sha256, state.last, -1))


@pytest.mark.parametrize("name", ["tiny", "tiny_window"])
@pytest.mark.parametrize("make", [dict, list, State.save, repr])
def test_what_is_no_state_is_refused(
    name: str, make: Callable[[State], Any], sines: Readings
) -> None:
    session = at(name, sines)
    assert "session.state or State.load" in refused(session, make(session.state))
    assert "session.state or State.load" in refused(session, None)


# Damage


def archive(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def one_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        b"\x80\x04N.",  # a pickle
        b"\x93NUMPY",
        one_array(),
        archive(),
        archive(other=np.zeros(3)),
        archive(about=np.array("1")),
        archive(about=np.array(["1", "0" * 64])),
        archive(about=np.array(["1", "0" * 64, "often"])),
        archive(about=np.array(["1", "0" * 64, ""])),
        archive(about=np.array(["1", "0" * 64, "0", "more"])),
    ],
)
def test_what_is_no_saved_state_says_so(data: bytes) -> None:
    with pytest.raises(StateError) as caught:
        State.load(data)
    assert str(caught.value) == (
        "These bytes are not the state of a session, or are damaged; start afresh."
    )


def test_a_saved_state_runs_no_code() -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("it ran",))

    data = archive(about=np.array([Evil()], object))
    with pytest.raises(StateError, match="damaged"):
        State.load(data)


@pytest.mark.parametrize("version", ["0", "2", "x"])
def test_another_version_says_so(version: str) -> None:
    with pytest.raises(StateError) as caught:
        State.load(archive(about=np.array([version, "0" * 64, "0"])))
    assert f"has version {version}, and this edgelstm knows version 1" in str(caught.value)


@pytest.mark.parametrize("name", ["tiny", "tiny_window"])
def test_every_truncation_is_refused(name: str, sines: Readings) -> None:
    data = at(name, sines).state.save()
    for length in range(len(data)):
        with pytest.raises(StateError):
            State.load(data[:length])


@pytest.mark.parametrize("name", ["tiny", "tiny_float", "tiny_window", "tiny_ports"])
def test_flipped_bits_are_refused_or_harmless(name: str, sines: Readings) -> None:
    session = at(name, sines)
    state = session.state
    data = state.save()
    rng = np.random.default_rng(0)
    refusals = 0
    for _ in range(1500):
        damaged = bytearray(data)
        for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
            bit = int(rng.integers(8 * len(data)))
            damaged[bit // 8] ^= 1 << bit % 8
        try:
            session.state = State.load(bytes(damaged))
        except StateError:
            refusals += 1
            continue
        assert same(session.state, state)  # what changed was a time or the like
    assert refusals > 1000


@pytest.mark.parametrize("name", NAMES)
def test_states_are_equal_when_they_hold_the_same(name: str, sines: Readings) -> None:
    session, x = Session(artifact(name)), readings_of(name, sines)[0]
    first = session.state
    session.step(x)
    second = session.state
    assert first == Session(artifact(name)).state
    assert State.load(second.save()) == second == session.state
    assert first != second
    assert second != dict(second)
    assert second != State(dict(second), second.sha256, second.last, 1)
    assert second != State(dict(second), second.sha256, None, 0)
    assert second != State(dict(second), "another", second.last, 0)


def test_a_count_out_of_all_bounds_is_refused(sines: Readings) -> None:
    with Streams(DATA / "tiny.tflite", 1) as streams:
        state = streams.state(0)
        with pytest.raises(StateError):
            streams.set_state(0, State(dict(state), state.sha256, None, 2**70))
