"""The direct way through a step against the careful one: the same numbers, the same errors."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import fractions
import gc
import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.backends import Wiring, open_graph
from edgelstm.backends.graph import Memory
from edgelstm.direct import closer_look, direct_step
from edgelstm.errors import BackendError, ConfigurationError
from edgelstm.manifest import Channel, Port, TensorSpec
from edgelstm.scaling import InputScaling, OutputScaling
from edgelstm.session import Session

Readings = NDArray[np.float64]
DIRECT = ["tiny", "tiny_float", "tiny_float32"]
OTHERS = ["tiny_window", "tiny_ports", "tiny_tokens"]


@pytest.fixture(params=DIRECT)
def artifact(request: pytest.FixtureRequest) -> Artifact:
    found: Artifact = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def direct(artifact: Artifact) -> Session:
    """A session that takes the direct way wherever it may."""
    session = Session(artifact)
    assert session._open_way is not closer_look
    return session


@pytest.fixture
def careful(artifact: Artifact) -> Session:
    """A session that never does."""
    session = Session(artifact)
    session._open_way = closer_look
    return session


def stepped(session: Session, x: Any) -> Readings:
    y = session.step(x)
    assert y is not None
    return y


def went_directly(session: Session, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Counts the steps that did not take the careful way."""
    careful_steps = []
    take = session._take

    def note(values: Readings) -> Any:
        careful_steps.append(values)
        return take(values)

    monkeypatch.setattr(session, "_take", note)
    return lambda: len(careful_steps)


# The same numbers

KINDS: dict[str, Callable[[Readings], Any]] = {
    "float64": lambda x: x,
    "float32": lambda x: x.astype(np.float32),
    "float16": lambda x: x.astype(np.float16),
    "longdouble": lambda x: x.astype(np.longdouble),
    "int8": lambda x: x.astype(np.int8),
    "uint16": lambda x: np.abs(x).astype(np.uint16),
    "int64": lambda x: x.astype(np.int64),
    "bool": lambda x: x > 0,
    "big endian": lambda x: x.astype(">f8"),
    "a view with strides": lambda x: np.stack([x, x], axis=1)[:, 1],
    "list": lambda x: x.tolist(),
    "tuple": lambda x: tuple(x.tolist()),
    "list of int": lambda x: [int(v) for v in x],
    "list of bool": lambda x: [bool(v > 0) for v in x],
    "list of numpy scalars": list,
    "mixed": lambda x: (int(x[0]), np.float32(x[1])),
    "range": lambda x: range(int(x[0]), int(x[0]) + 2),
    "masked": lambda x: np.ma.array(x),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_reading_gives_the_same_by_both_ways(
    kind: str, direct: Session, careful: Session, sines: Readings
) -> None:
    for x in sines[:100]:
        given = KINDS[kind](x)
        y = stepped(direct, given)
        assert y.dtype == np.float64
        assert y.shape == (2,)
        assert np.array_equal(y, stepped(careful, given))
    assert direct.state.save() == careful.state.save()


def test_500_readings_give_the_same_by_three_ways(
    artifact: Artifact, direct: Session, careful: Session, sines: Readings
) -> None:
    raw = Session(artifact)
    by_hand = []
    for x in sines:
        outputs = raw.step_raw(raw.to_raw(x))
        assert outputs is not None
        by_hand.append(raw._units.from_raw(outputs))
    y = np.array([stepped(direct, x) for x in sines])
    assert np.array_equal(y, [stepped(careful, x) for x in sines])
    assert np.array_equal(y, by_hand)


def test_the_direct_way_is_taken_after_the_first_reading(
    direct: Session, sines: Readings, monkeypatch: pytest.MonkeyPatch
) -> None:
    careful_steps = went_directly(direct, monkeypatch)
    for x in sines[:50]:
        direct.step(x)
        direct.step(x.tolist())
        direct.step(tuple(x.tolist()))
        direct.step(x.astype(np.float32))
        direct.step(x.astype(np.int64))
    assert careful_steps() == 1
    direct.reset()
    direct.step(sines[0])
    direct.step(sines[0])
    assert careful_steps() == 2


@pytest.mark.parametrize("name", OTHERS)
def test_windows_tokens_and_several_ports_have_no_direct_way(
    name: str, request: pytest.FixtureRequest
) -> None:
    assert Session(request.getfixturevalue(name))._open_way is closer_look


def values_at(bound: float) -> list[float]:
    """Values on both sides of a bound, and other extreme ones."""
    near = [math.nextafter(bound, 0), bound, math.nextafter(bound, math.inf), bound * 0.99]
    tiny = [0.0, -0.0, 5e-324, 1e-300, 1.2e-38, 1e-45]
    return [*near, *(-v for v in near), *tiny, 1e38, -1e38, 1e300, -1e300, 1.7e308, 3.5e38]


def test_extreme_values_give_the_same_by_both_ways(
    direct: Session, careful: Session, sines: Readings
) -> None:
    (scaling,) = direct._units.inputs
    assert scaling.affine is not None
    gain, offset, low, high = (part[0] for part in scaling.affine)
    bounds = [scaling.plain] if scaling.plain else [(low - offset) / gain, (high - offset) / gain]
    values = [value for bound in bounds for value in values_at(float(bound))]
    for i, value in enumerate(values):
        for x in ([value, -5.0], [20.0, value], [value, value], np.array([value, -value])):
            assert np.array_equal(stepped(direct, x), stepped(careful, x))
        for x in (sines[2 * i], sines[2 * i + 1]):
            assert np.array_equal(stepped(direct, x), stepped(careful, x))
    for step in np.linspace(-400, 400, 4001):  # across every code and half of one
        x = [20 + step / 10, -5 + step / 40]
        assert np.array_equal(stepped(direct, x), stepped(careful, x))
    assert direct.state.save() == careful.state.save()
    assert np.isfinite(stepped(direct, sines[0])).all()


@pytest.mark.parametrize("x", [[2**53 + 1, -5], [10**9 + 1, 0], [-(2**31), 2**31]])
def test_large_whole_numbers_give_the_same_by_both_ways(
    direct: Session, careful: Session, x: list[int]
) -> None:
    for _ in range(3):
        assert np.array_equal(stepped(direct, x), stepped(careful, x))


# The same errors

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
NOT_READINGS: dict[str, Callable[[], Any]] = {
    "text": lambda: "20",
    "text of the right length": lambda: "ab",
    "bytes": lambda: b"ab",
    "texts": lambda: ["20", "-5"],
    "array of texts": lambda: np.array(["20", "-5"]),
    "a text among numbers": lambda: [20.0, "-5"],
    "nothing": lambda: None,
    "nothing among numbers": lambda: [20.0, None],
    "a number": lambda: 20.0,
    "a numpy number": lambda: np.float64(20),
    "array without axes": lambda: np.array(20.0),
    "too few": lambda: [20.0],
    "too many": lambda: [20.0, -5.0, 1.0],
    "too many in an array": lambda: np.array([20.0, -5.0, 1.0]),
    "none": list,
    "no values": lambda: np.zeros(0),
    "nested": lambda: [[20.0, -5.0]],
    "nested array": lambda: np.array([[20.0, -5.0]]),
    "column": lambda: np.array([[20.0], [-5.0]]),
    "list of arrays": lambda: [np.array([20.0]), np.array([-5.0])],
    "ragged": lambda: [[20.0], [-5.0, 1.0]],
    "dict": lambda: {0: 20.0, 1: -5.0},
    "set": lambda: {20.0, -5.0},
    "complex": lambda: [20 + 0j, -5.0],
    "complex array": lambda: np.array([20 + 0j, -5.0]),
    "objects": lambda: np.array([20.0, -5.0], object),
    "objects that are none": lambda: np.array([20.0, None], object),
    "date": lambda: NOW,
    "dates": lambda: [NOW, NOW],
    "array of dates": lambda: np.array([20, 5], "datetime64[ns]"),
    "array of days": lambda: np.array([20, 5], "datetime64[D]"),
    "array of durations": lambda: np.array([20, 5], "timedelta64[ns]"),
    "structured array": lambda: np.array([(20.0, -5.0)], [("a", float), ("b", float)]),
    "type": lambda: list,
    "a huge number": lambda: [10**400, 1.0],
}


@pytest.mark.parametrize("kind", NOT_READINGS)
def test_what_is_no_reading_gets_the_same_error_by_both_ways(
    kind: str, direct: Session, careful: Session, sines: Readings
) -> None:
    for session in (direct, careful):
        for x in sines[:20]:
            session.step(x)
    before = direct.state.save()
    messages = []
    for session in (direct, careful):
        with pytest.raises(ConfigurationError) as caught:  # and no warning
            session.step(NOT_READINGS[kind]())
        messages.append(f"{type(caught.value).__name__}: {caught.value}")
    assert messages[0] == messages[1]
    assert messages[0].startswith("ReadingError: A reading has ")
    assert direct.state.save() == careful.state.save() == before
    for x in sines[20:40]:
        assert np.array_equal(stepped(direct, x), stepped(careful, x))


def test_a_generator_is_no_reading(direct: Session, sines: Readings) -> None:
    direct.step(sines[0])
    with pytest.raises(ConfigurationError, match="A reading has to be 2 numbers"):
        direct.step(v for v in (20.0, -5.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [decimal.Decimal, fractions.Fraction, float])
def test_numbers_of_other_types_are_taken_for_what_they_are_or_refused(
    kind: Callable[[str], Any], direct: Session, careful: Session, sines: Readings
) -> None:
    for session in (direct, careful):
        session.step(sines[0])
    expected = stepped(careful, [20.5, -5.25])
    try:
        y = stepped(direct, [kind("20.5"), kind("-5.25")])
    except ConfigurationError:
        return
    assert np.array_equal(y, expected)


@pytest.mark.parametrize("x", [[2**70, 1], [1, -(2**64)], [2**1000, 1]])
def test_whole_numbers_beyond_any_type_do_no_harm(
    x: list[int], direct: Session, sines: Readings
) -> None:
    for reading in sines[:5]:
        direct.step(reading)
    try:
        y = stepped(direct, x)
    except ConfigurationError:
        y = sines[0]
    assert np.isfinite(y).all()
    assert np.isfinite(stepped(direct, sines[5])).all()


# What comes out is the caller's own


@pytest.mark.parametrize("name", [*DIRECT, *OTHERS])
def test_what_a_session_gave_never_changes(
    name: str, sines: Readings, request: pytest.FixtureRequest
) -> None:
    session = Session(request.getfixturevalue(name))
    readings = sines
    if name == "tiny_tokens":
        readings = (np.arange(500) % 5)[:, None].astype(np.float64)
    elif name == "tiny_ports":
        readings = np.concatenate([sines, sines.sum(axis=1, keepdims=True)], axis=1)
    given: list[NDArray[Any]] = []
    for x in readings[:40]:
        y, raw = session.step(x), session.step_raw(session.to_raw(x))
        state = session.state
        given += [] if y is None else [y]
        given += raw or []
        given += [*state.values(), *(state.last or {}).values(), *session._graph.states]
        given += session._graph.inputs
    before = [array.copy() for array in given]
    for array in given:
        owner = array if array.base is None else array.base
        assert owner.flags.owndata
        assert owner.base is None
    for x in readings[40:100]:
        session.step(x)
    session.verify()
    session.reset()
    assert all(map(np.array_equal, given, before))
    session.close()
    gc.collect()
    filler = [np.full(1000, 7.0) for _ in range(100)]
    assert all(map(np.array_equal, given, before))
    del filler
    # Written to, they change nothing either.
    session = Session(session.artifact)
    other = Session(session.artifact)
    for x in readings[:40]:
        y = session.step(x)
        other.step(x)
        if y is not None:
            y[:] = 1e30
        for array in (*session._graph.states, *session._graph.inputs):
            array[...] = 1
    assert session.state.save() == other.state.save()


def test_a_reading_is_not_changed(direct: Session, sines: Readings) -> None:
    array, values = sines[0].copy(), sines[0].tolist()
    for _ in range(3):
        direct.step(array)
        direct.step(values)
    assert np.array_equal(array, sines[0])
    assert values == sines[0].tolist()


def test_a_closed_session_lets_the_interpreter_go(artifact: Artifact, sines: Readings) -> None:
    session = Session(artifact)
    for x in sines[:5]:
        y, state = session.step(x), session.state
    graph: Any = session._graph
    gone = weakref.ref(graph._interpreter)
    del graph
    session.close()
    gc.collect()
    assert gone() is None
    with pytest.raises(ConfigurationError, match="closed"):
        session.step(sines[0])
    assert y is not None
    assert np.isfinite(y).all()
    assert state.sha256 == artifact.manifest.sha256


def test_a_closed_session_is_no_cycle_that_keeps_the_interpreter(artifact: Artifact) -> None:
    """A cycle would keep its memory until the collector runs, which may be never."""
    session = Session(artifact)
    way = weakref.ref(session._open_way)
    assert way() is not closer_look
    gc.collect()
    gc.disable()
    try:
        session.close()
        assert way() is None
    finally:
        gc.enable()


# The step itself


@pytest.fixture
def memory(tiny_float32: Artifact) -> Iterator[Memory]:
    graph = open_graph(tiny_float32.flatbuffer, Wiring.of(tiny_float32.manifest), "litert")
    found = graph.memory
    assert found is not None
    yield found  # while the graph lives
    graph.close()


def port(
    channels: int, dtype: str = "float32", scaling: str = "graph", *, clip: float | None = None
) -> Port:
    integer = dtype != "float32"
    columns = tuple(Channel(f"c{i}", "", 10.0 * i, 2.0 + i, None) for i in range(channels))
    tensor = TensorSpec("t", dtype, (1, channels), 0.05 if integer else 0.0, 3 if integer else 0)
    return Port(columns, clip, "session" if integer else scaling, tensor)


def made(
    memory: Memory, into: Port | None = None, out: Port | None = None
) -> Callable[[Any], NDArray[np.float64] | None]:
    """A step that a graph of this memory has."""
    step = direct_step(
        memory,
        InputScaling(into or port(memory.inputs[0].size)),
        OutputScaling(out or port(memory.outputs[0].size)),
    )
    assert step is not None
    return step


def test_a_run_that_fails_leaves_the_states(memory: Memory) -> None:
    fails = False

    def invoke() -> None:
        if fails:
            raise RuntimeError("node 3 failed")
        memory.invoke()

    step = made(dataclasses.replace(memory, invoke=invoke))
    step([20.0, -5.0])
    before = [bytes(into) for into, _ in memory.carries]
    fails = True
    with pytest.raises(BackendError, match="The runtime failed at a step: node 3 failed"):
        step([25.0, -5.0])
    assert [bytes(into) for into, _ in memory.carries] == before
    fails = False
    assert step([20.0, -5.0]) is not None
    assert [bytes(into) for into, _ in memory.carries] != before


def array(*shape: int, dtype: str = "float32") -> NDArray[Any]:
    return np.zeros(shape, dtype)


def doubling(inputs: NDArray[Any], outputs: NDArray[Any]) -> Memory:
    """A graph that gives twice what it takes."""

    def invoke() -> None:
        outputs[...] = 2 * inputs

    return Memory([inputs], [outputs], [], invoke)


def test_values_are_taken_below_the_bound_only() -> None:
    memory = doubling(array(1, 2), array(1, 2))
    step = made(memory, port(2))
    bound = InputScaling(port(2)).plain
    assert step([bound * 0.99, -5.0]) is not None
    assert step([0.8 * bound, -0.8 * bound]) is not None
    before = memory.inputs[0].copy()
    for bad in (
        [bound, 0.0],
        [0.0, -bound],
        [1.1 * bound, -1.1 * bound],
        [math.nan, 0.0],
        [0.0, math.nan],
        [math.inf, math.nan],
    ):
        assert step(bad) is None
        assert step(np.array(bad)) is None
    assert np.array_equal(memory.inputs[0], before)


@pytest.mark.parametrize("channels", [1, 2, 3, 16])
@pytest.mark.parametrize("dtype", ["float32", "int8", "int16"])
@pytest.mark.parametrize("scaling", ["graph", "session"])
@pytest.mark.parametrize("clip", [None, 1.5])
def test_scaling_is_that_of_the_careful_way(
    channels: int, dtype: str, scaling: str, clip: float | None
) -> None:
    into, out = (port(channels, dtype, scaling, clip=c) for c in (clip, None))
    memory = doubling(array(1, channels, dtype=dtype), array(1, channels, dtype=dtype))
    step = made(memory, into, out)
    scale_in, scale_out = InputScaling(into), OutputScaling(out)
    rng = np.random.default_rng(0)
    for spread in (1.0, 10.0, 1e3, 1e12, 1e200):
        for _ in range(50):
            x = rng.normal(0, spread, channels)
            y = step(x)
            if y is None:  # a bound is for the careful way to keep
                assert spread > 1e3
                continue
            raw = scale_in(x)
            assert memory.inputs[0].ravel().tolist() == raw.tolist()
            assert np.array_equal(y, scale_out((2 * raw).astype(dtype)))
            assert y.dtype == np.float64
            if spread > 1e12:
                continue
            # NumPy's own scalars are computed with as doubles, too.
            narrow = x.astype(np.float32)
            step(list(narrow))
            assert memory.inputs[0].ravel().tolist() == scale_in(narrow.astype(float)).tolist()


@pytest.mark.parametrize("std", [5e-324, 1e-300, 1e300])
def test_scaling_that_is_out_of_bounds_does_no_harm(std: float) -> None:
    """Such a manifest makes no sense, and must not end in another error than the careful way's."""
    into = port(1, "int8")
    channel = dataclasses.replace(into.channels[0], std=std)
    with np.errstate(all="ignore"):
        step = made(
            doubling(array(1, 1, dtype="int8"), array(1, 1, dtype="int8")),
            dataclasses.replace(into, channels=(channel,)),
        )
    for x in (1.0, -1.0, 1e300):
        step([x])


def test_other_graphs_have_no_direct_way() -> None:
    def found(into: Port) -> object:
        size = len(into.channels)
        memory = doubling(array(1, size, dtype=into.tensor.dtype), array(1, size))
        return direct_step(memory, InputScaling(into), OutputScaling(port(size)))

    assert found(port(32)) is not None
    assert found(port(33)) is None
    token = Channel("t", "", 0.0, 1.0, 5)
    assert found(Port((token,), None, "session", TensorSpec("t", "int32", (1,), 0.0, 0))) is None


def test_a_graph_without_states_has_one() -> None:
    y = made(doubling(array(1, 3), array(1, 3)))([1, 2.5, -3])
    assert y is not None
    assert y.tolist() == [2, 5, -6]


def test_an_output_that_is_a_state_as_it_came_in_is_read_before_the_states_move() -> None:
    held, following = array(1, 2), array(1, 2)
    into = array(1, 2)

    def invoke() -> None:
        following[...] = into

    carries = [(held.view(np.uint8).reshape(-1).data, following.view(np.uint8).reshape(-1).data)]
    step = made(Memory([into], [held], carries, invoke))
    outputs = [step([float(i), -1.0]) for i in range(1, 4)]
    assert [y.tolist() for y in outputs if y is not None] == [[0, 0], [1, -1], [2, -1]]
