from __future__ import annotations

import dataclasses
import platform
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from edgelstm import load
from edgelstm.artifact import Artifact
from edgelstm.backends import BACKENDS, litert
from edgelstm.errors import (
    BackendError,
    ConfigurationError,
    MissingDependencyError,
    ReadingError,
    StateError,
    UnfitRuntimeError,
)
from edgelstm.session import Session
from edgelstm.state import State

Readings = NDArray[np.float64]


@pytest.fixture
def session(tiny: Artifact) -> Session:
    return Session(tiny)


@pytest.fixture
def float_session(tiny_float32: Artifact) -> Session:
    return Session(tiny_float32)


def stepped(session: Session, x: ArrayLike) -> Readings:
    y = session.step(x)
    assert y is not None
    return y


def run(session: Session, readings: Readings) -> Readings:
    return np.array([stepped(session, x) for x in readings])


def raw_run(session: Session, readings: NDArray[Any]) -> NDArray[Any]:
    """The raw outputs of every step side by side, (steps, targets)."""
    outputs = []
    for x in readings:
        raw = session.step_raw(session.to_raw(x.astype(np.float64)))
        assert raw is not None
        outputs.append(np.concatenate(raw))
    return np.array(outputs)


def with_manifest(artifact: Artifact, **changes: Any) -> Artifact:
    manifest = dataclasses.replace(artifact.manifest, **changes)
    return dataclasses.replace(artifact, manifest=manifest)


def same_state(a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def error_of(outputs: Readings, reference: Readings) -> Readings:
    """Mean absolute difference over the rms of the reference around its mean, per target."""
    rms = np.sqrt(np.mean((reference - reference.mean(axis=0)) ** 2, axis=0))
    return np.asarray(np.mean(np.abs(outputs - reference), axis=0) / rms)


# Steps and states


def test_step_gives_the_targets_in_physical_units(session: Session) -> None:
    y = stepped(session, [20.0, -5.0])
    assert y.shape == (2,)
    assert y.dtype == np.float64
    assert abs(y - [20, -5]).max() < 3


def test_load_opens_a_file(tiny_path: Path, session: Session, sines: Readings) -> None:
    with load(tiny_path) as loaded:
        assert loaded.backend in BACKENDS
        assert np.array_equal(run(loaded, sines[:50]), run(session, sines[:50]))


def test_steps_are_deterministic(tiny: Artifact, sines: Readings) -> None:
    assert np.array_equal(run(Session(tiny), sines), run(Session(tiny), sines))


def test_reset_is_as_good_as_a_new_session(session: Session, sines: Readings) -> None:
    first = run(session, sines[:100])
    assert not np.array_equal(run(session, sines[:100]), first)
    session.reset()
    assert np.array_equal(run(session, sines[:100]), first)


def test_states_stand_for_zero_after_a_reset(session: Session, sines: Readings) -> None:
    run(session, sines[:10])
    session.reset()
    state = session.state
    for pair in session.artifact.manifest.states:
        assert (state[pair.input.name] == pair.input.zero_point).all()


def test_states_are_fed_back_like_in_the_golden_run(session: Session) -> None:
    golden = session.artifact.golden
    raw = raw_run(session, golden.x)
    assert len(raw) > 100
    difference = np.abs(raw.astype(int) - golden.y.astype(int))
    assert (difference <= session.artifact.manifest.golden_tolerance).all()


def test_memory_matters(session: Session, float_session: Session, sines: Readings) -> None:
    readings = sines[:300]
    stateful, reference = run(session, readings), run(float_session, readings)
    forgetful = []
    for x in readings:
        session.reset()
        forgetful.append(stepped(session, x))
    assert (error_of(stateful, reference) < 0.05).all()
    assert (error_of(np.array(forgetful), reference) > 0.2).all()


def test_forecast_is_better_than_the_last_reading(session: Session, sines: Readings) -> None:
    forecast = run(session, sines)
    error = np.abs(sines[1:] - forecast[:-1])[20:].mean(axis=0)
    persistence = np.abs(np.diff(sines, axis=0))[20:].mean(axis=0)
    assert (error < 0.8 * persistence).all()


def test_int8_stays_close_to_float32(
    session: Session, float_session: Session, sines: Readings
) -> None:
    outputs, reference = run(session, sines), run(float_session, sines)
    assert len(sines) == 500
    assert (error_of(outputs, reference) < 0.05).all()
    assert (error_of(outputs[-50:], reference[-50:]) < 0.05).all()  # it does not drift away


@pytest.mark.parametrize("stop", [0, 1, 57])
def test_saved_state_goes_on_exactly(tiny: Artifact, sines: Readings, stop: int) -> None:
    first, second = Session(tiny), Session(tiny)
    run(first, sines[:stop])
    run(second, sines[100:130])  # another past, which the state must replace
    saved = first.state
    expected = run(first, sines[stop:150])
    second.state = saved
    assert same_state(second.state, saved)
    assert np.array_equal(run(second, sines[stop:150]), expected)


def test_state_is_a_copy(session: Session, sines: Readings) -> None:
    run(session, sines[:20])
    saved = session.state
    before = {name: value.copy() for name, value in saved.items()}
    run(session, sines[20:40])
    assert same_state(saved, before)
    for value in session.state.values():
        value[:] = 0
    assert not same_state(session.state, {name: 0 * value for name, value in saved.items()})


def test_set_state_is_a_copy(session: Session, sines: Readings) -> None:
    run(session, sines[:20])
    state = session.state
    session.state = state
    for value in state.values():
        value[:] = 0
    assert not same_state(session.state, state)


def test_sessions_of_one_artifact_are_independent(tiny: Artifact, sines: Readings) -> None:
    alone = run(Session(tiny), sines[:60])
    a, b = Session(tiny), Session(tiny)
    together = [
        (stepped(a, x), stepped(b, z)) for x, z in zip(sines[:60], sines[60:120], strict=True)
    ]
    assert np.array_equal([y for y, _ in together], alone)


def test_state_of_another_model_is_refused(
    session: Session, tiny_float32: Artifact, sines: Readings
) -> None:
    run(session, sines[:20])
    before = session.state

    def like(arrays: Mapping[str, NDArray[Any]]) -> State:
        return State(arrays, before.sha256, before.last, before.held)

    short = like({name: value[:, :-1] for name, value in before.items()})
    renamed = like({f"{name}_": value for name, value in before.items()})
    wide = like({name: value.astype(np.int16) for name, value in before.items()})
    for state in (like({}), short, renamed, wide, Session(tiny_float32).state):
        with pytest.raises(StateError, match="another model"):
            session.state = state
    assert same_state(session.state, before)


@pytest.mark.parametrize("x", [[20.0], [20.0, -5.0, 1.0], [[20.0, -5.0]], 20.0, []])
def test_bad_reading_is_refused_and_changes_nothing(
    session: Session, sines: Readings, x: Any
) -> None:
    run(session, sines[:20])
    before = session.state
    with pytest.raises(ReadingError, match="A reading has"):
        session.step(x)
    assert same_state(session.state, before)


def test_clip_bounds_the_normalised_input(tiny: Artifact, session: Session) -> None:
    port = dataclasses.replace(tiny.manifest.inputs[0], clip=0.5)
    clipped = Session(with_manifest(tiny, inputs=(port,)))
    mean, std = 20.0, tiny.manifest.channels[0].std
    (at_the_bound,) = session.to_raw(np.array([mean + 0.5 * std, -5.0]))
    (beyond,) = clipped.to_raw(np.array([mean + 9 * std, -5.0]))
    assert np.array_equal(beyond, at_the_bound)
    within = np.array([mean + 0.3 * std, -5.2])
    assert np.array_equal(clipped.to_raw(within), session.to_raw(within))


@pytest.mark.parametrize("name", ["tiny", "tiny_float", "tiny_float32", "tiny_window"])
@pytest.mark.parametrize("huge", [1e38, -1e38, 1e300, -1e300])
def test_huge_readings_do_not_spoil_the_states(
    name: str, huge: float, sines: Readings, request: pytest.FixtureRequest
) -> None:
    session = Session(request.getfixturevalue(name))
    feed(session, sines[:20])
    feed(session, np.array([[huge, -5.0], [20.0, -huge], [huge, huge]]))
    after = feed(session, sines[20:60])
    assert len(after) >= 10
    assert np.isfinite(after).all()
    assert (np.abs(after[-1] - [20, -5]) < [6, 2]).all()  # it is over it


def feed(session: Session, readings: Readings) -> Readings:
    """Like `run`, without the readings that gave nothing."""
    outputs = [y for y in map(session.step, readings) if y is not None]
    return np.array(outputs)


# Scaling in the graph


def test_a_graph_that_scales_itself_takes_and_gives_physical_units(
    tiny_float: Artifact, sines: Readings
) -> None:
    session = Session(tiny_float)
    (x,) = session.to_raw(sines[0])
    assert x.dtype == np.float32
    assert np.array_equal(x, sines[0].astype(np.float32))
    raw = session.step_raw([x])
    assert raw is not None
    session.reset()
    y = stepped(session, sines[0])
    assert y.dtype == np.float64
    assert np.array_equal(y, raw[0])


def test_a_graph_that_scales_itself_forecasts_as_well(
    tiny_float: Artifact, sines: Readings
) -> None:
    forecast = run(Session(tiny_float), sines)
    error = np.abs(sines[1:] - forecast[:-1])[20:].mean(axis=0)
    persistence = np.abs(np.diff(sines, axis=0))[20:].mean(axis=0)
    assert (error < 0.8 * persistence).all()


# Several inputs and outputs


@pytest.fixture
def ports(tiny_ports: Artifact) -> Session:
    return Session(tiny_ports)


def named(x: Readings) -> dict[str, ArrayLike]:
    return {"vibration": x[:2], "load": x[2:]}


@pytest.fixture
def loads(sines: Readings) -> Readings:
    """Readings for `tiny_ports`, (500, 3)."""
    return np.concatenate([sines, sines.sum(axis=1, keepdims=True)], axis=1)


def test_outputs_of_several_ports_lie_side_by_side(ports: Session, loads: Readings) -> None:
    y = run(ports, loads)
    assert y.shape == (500, 3)
    later = y[20:]
    assert np.abs(later[:, :2].sum(axis=1) - 1).max() < 0.02  # two classes
    error = np.abs(loads[21:, 2] - later[:-1, 2])
    assert error.mean() < 0.8 * np.abs(np.diff(loads[20:, 2])).mean()


def test_step_named_gives_what_step_gives(
    ports: Session, tiny_ports: Artifact, loads: Readings
) -> None:
    other = Session(tiny_ports)
    for x in loads[:50]:
        y, by_name = stepped(ports, x), other.step_named(named(x))
        assert by_name is not None
        assert list(by_name) == ["higher", "next_load"]
        assert np.array_equal(by_name["higher"], y[:2])
        assert np.array_equal(by_name["next_load"], y[2:])


def test_step_named_takes_any_order_and_single_numbers(
    ports: Session, tiny_ports: Artifact
) -> None:
    x: dict[str, ArrayLike] = {"load": 15.0, "vibration": (20, -5)}
    y, expected = ports.step_named(x), stepped(Session(tiny_ports), [20.0, -5.0, 15.0])
    assert y is not None
    assert np.array_equal(np.concatenate(list(y.values())), expected)


def test_step_named_of_a_model_of_one_input(session: Session, tiny: Artifact) -> None:
    y = session.step_named({"x": [21.0, -5.5]})
    assert y is not None
    assert y.keys() == {"y"}
    assert np.array_equal(y["y"], stepped(Session(tiny), [21.0, -5.5]))


@pytest.mark.parametrize(
    ("x", "given"),
    [
        ({}, "none"),
        ({"vibration": [20, -5]}, "'vibration'"),
        ({"vibration": [20, -5], "Load": 15}, "'vibration', 'Load'"),
        ({"vibration": [20, -5], "load": 15, "speed": 1}, "'vibration', 'load', 'speed'"),
    ],
)
def test_missing_and_unknown_inputs_are_named(
    ports: Session, loads: Readings, x: dict[str, ArrayLike], given: str
) -> None:
    run(ports, loads[:20])
    before = ports.state
    with pytest.raises(ConfigurationError) as caught:
        ports.step_named(x)
    assert str(caught.value) == (
        f"This model has the inputs vibration, load, and was given {given}."
    )
    assert same_state(ports.state, before)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            {"vibration": [20], "load": [-5, 15]},
            r"A reading of vibration has the shape \(1,\); this model takes \(2,\)",
        ),
        ({"vibration": [20, -5], "load": [15, 15]}, r"A reading of load has the shape \(2,\)"),
        ({"vibration": [20, -5], "load": []}, r"A reading of load has the shape \(0,\)"),
        ({"vibration": [[20, -5]], "load": 15}, r"A reading of vibration has the shape \(1, 2\)"),
        ({"vibration": ["a", "b"], "load": 15}, "A reading of vibration has to be 2 numbers"),
    ],
)
def test_values_that_do_not_fit_an_input_are_refused(
    ports: Session, loads: Readings, x: dict[str, ArrayLike], message: str
) -> None:
    run(ports, loads[:20])
    before = ports.state
    with pytest.raises(ConfigurationError, match=message):
        ports.step_named(x)
    assert same_state(ports.state, before)


def test_each_input_is_scaled_on_its_own(ports: Session) -> None:
    vibration, load = ports.to_raw(np.array([20.0, -5.0, 15.0]))
    manifest = ports.artifact.manifest
    for raw, port in zip((vibration, load), manifest.inputs, strict=True):
        assert raw.dtype == np.int8
        assert (raw == port.tensor.zero_point).all()  # each value is its channel's mean
    assert (vibration.shape, load.shape) == ((2,), (1,))


def test_step_raw_gives_an_array_for_each_output(ports: Session) -> None:
    raw = ports.step_raw(ports.to_raw(np.array([20.0, -5.0, 15.0])))
    assert raw is not None
    assert [(y.shape, y.dtype.name) for y in raw] == [((2,), "int8"), ((1,), "int8")]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_step_raw_wants_an_array_for_each_input(ports: Session, count: int) -> None:
    with pytest.raises(ReadingError, match=f"has {count} arrays; this model takes 2"):
        ports.step_raw([np.zeros(1, np.int8)] * count)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            np.zeros(2, np.int16),
            r"A raw reading of x is int16 \(2,\); this model takes int8 \(2,\)",
        ),
        (np.zeros((1, 2), np.int8), r"int8 \(1, 2\)"),
        (np.zeros(3, np.int8), r"int8 \(3,\)"),
    ],
)
def test_a_raw_reading_that_does_not_fit_is_refused_and_changes_nothing(
    session: Session, sines: Readings, raw: NDArray[Any], message: str
) -> None:
    run(session, sines[:20])
    before = session.state
    with pytest.raises(ReadingError, match=message):
        session.step_raw([raw])
    assert same_state(session.state, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_raw_reading_that_is_not_finite_is_refused(
    float_session: Session, sines: Readings, value: float
) -> None:
    run(float_session, sines[:20])
    before = float_session.state
    with pytest.raises(ReadingError, match="A raw reading of x is not finite"):
        float_session.step_raw([np.array([20, value], np.float32)])
    with pytest.raises(ReadingError, match="not finite"):
        float_session.to_raw([20.0, value])
    assert same_state(float_session.state, before)


# Tokens


def test_tokens_are_told_apart(tiny_tokens: Artifact) -> None:
    session = Session(tiny_tokens)
    tokens = np.arange(200) % 5
    likely = [stepped(session, [token]).argmax() for token in tokens]
    assert likely[20:] == ((tokens[20:] + 1) % 5).tolist()


@pytest.mark.parametrize("token", [5.0, 1e9, 1e300, -1.0, 0.5, 3.999])
def test_what_is_no_token_is_refused_and_changes_nothing(
    tiny_tokens: Artifact, token: float
) -> None:
    session, other = Session(tiny_tokens), Session(tiny_tokens)
    tokens = (np.arange(60) % 5)[:, None].astype(np.float64)
    run(session, tokens[:20])
    run(other, tokens[:20])
    before = session.state
    with pytest.raises(ConfigurationError) as caught:
        session.step([token])
    message = str(caught.value)
    assert message.startswith(f"A reading has the tokens [{token!r}]; this model knows")
    assert message.count(".") - repr(token).count(".") == 1  # one sentence
    assert same_state(session.state, before)
    assert np.array_equal(run(session, tokens[20:]), run(other, tokens[20:]))


# The self-test


ALL = ["tiny", "tiny_float", "tiny_float32", "tiny_window", "tiny_ports", "tiny_tokens"]


@pytest.mark.parametrize("name", ALL)
def test_verify(name: str, request: pytest.FixtureRequest) -> None:
    assert Session(request.getfixturevalue(name)).verify() is None


def with_golden(artifact: Artifact, y: NDArray[Any], tolerance: tuple[float, ...]) -> Artifact:
    golden = dataclasses.replace(artifact.golden, y=y)
    return with_manifest(dataclasses.replace(artifact, golden=golden), golden_tolerance=tolerance)


def golden_run(artifact: Artifact) -> NDArray[Any]:
    """What this machine gives for the golden readings."""
    return np.array(Session(artifact).replay(artifact.golden.x))


@pytest.mark.parametrize("name", ALL)
def test_replay_gives_the_raw_outputs_of_every_run(
    name: str, request: pytest.FixtureRequest
) -> None:
    artifact = request.getfixturevalue(name)
    session = Session(artifact)
    outputs = session.replay(artifact.golden.x)
    assert len(outputs) == len(artifact.golden.y)
    for y in outputs:
        assert y.shape == (len(artifact.manifest.targets),)
        assert y.dtype == artifact.manifest.outputs[0].tensor.dtype


@pytest.mark.parametrize("step", [0, 40, 127])
def test_verify_names_the_first_step_that_differs(tiny: Artifact, step: int) -> None:
    y = golden_run(tiny)
    y[step:, 1] -= np.where(y[step:, 1] > 0, 2, -2).astype(np.int8)
    assert Session(with_golden(tiny, y, (1.0, 1.0))).verify() == step


def test_verify_grants_the_tolerance(tiny: Artifact) -> None:
    y = golden_run(tiny)
    y -= np.where(y > 0, 1, -1).astype(np.int8)
    assert Session(with_golden(tiny, y, (1.0, 1.0))).verify() is None
    assert Session(with_golden(tiny, y, (0.5, 0.5))).verify() == 0


@pytest.mark.parametrize("target", [0, 1])
def test_each_target_has_its_own_tolerance(tiny: Artifact, target: int) -> None:
    y = golden_run(tiny)
    y[9, target] += 3 if y[9, target] < 0 else -3
    wide, narrow = [0.0, 0.0], [3.0, 3.0]
    wide[target], narrow[target] = 3.0, 2.0
    assert Session(with_golden(tiny, y, tuple(wide))).verify() is None
    assert Session(with_golden(tiny, y, tuple(narrow))).verify() == 9


@pytest.mark.parametrize("target", [0, 1, 2])
def test_the_targets_of_several_outputs_have_their_own_tolerances(
    tiny_ports: Artifact, target: int
) -> None:
    y = golden_run(tiny_ports)
    y[9, target] += 3 if y[9, target] < 0 else -3
    tolerance = [0.0, 0.0, 0.0]
    assert Session(with_golden(tiny_ports, y, tuple(tolerance))).verify() == 9
    tolerance[target] = 3.0
    assert Session(with_golden(tiny_ports, y, tuple(tolerance))).verify() is None


def test_tolerance_of_floats_is_in_their_own_units(tiny_float: Artifact) -> None:
    y = golden_run(tiny_float)
    y[9, 1] += 0.02
    assert Session(with_golden(tiny_float, y, (1e-6, 0.021))).verify() is None
    assert Session(with_golden(tiny_float, y, (1.0, 0.019))).verify() == 9


def test_verify_counts_the_runs_of_a_window(tiny_window: Artifact) -> None:
    y = golden_run(tiny_window)
    assert len(y) == (len(tiny_window.golden.x) - 8) // 3 + 1
    y[5, 0] += 2 if y[5, 0] < 0 else -2
    assert Session(with_golden(tiny_window, y, (1.0, 1.0))).verify() == 5


def test_verify_does_not_take_nan_for_an_agreement(tiny_float32: Artifact) -> None:
    y = golden_run(tiny_float32)
    y[5] = np.nan
    assert Session(with_golden(tiny_float32, y, (1e-4, 1e-4))).verify() == 5


@pytest.mark.parametrize("steps", [0, 30])
def test_verify_leaves_the_state_as_it_was(tiny: Artifact, sines: Readings, steps: int) -> None:
    checked, other = Session(tiny), Session(tiny)
    run(checked, sines[:steps])
    run(other, sines[:steps])
    before = checked.state
    assert checked.verify() is None
    assert same_state(checked.state, before)
    assert np.array_equal(run(checked, sines[steps:80]), run(other, sines[steps:80]))


# Opening


def test_unknown_backend(tiny: Artifact) -> None:
    with pytest.raises(ConfigurationError, match=r"'abacus'; try auto, litert, tflite-runtime"):
        Session(tiny, backend="abacus")


@pytest.fixture
def no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("ai_edge_litert", "tflite_runtime"):
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.setitem(sys.modules, f"{package}.interpreter", None)
    monkeypatch.setitem(sys.modules, "tensorflow", None)


@pytest.mark.usefixtures("no_runtime")
@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("auto", "No TFLite runtime is installed .* pip install ai-edge-litert"),
        ("litert", "The backend litert is not installed .* pip install ai-edge-litert"),
        ("tflite-runtime", r"pip install 'edgelstm\[tflite-runtime\]'"),
        ("tensorflow", "pip install tensorflow"),
    ],
)
def test_missing_runtime_names_the_pip_command(tiny: Artifact, backend: str, message: str) -> None:
    with pytest.raises(MissingDependencyError, match=message):
        Session(tiny, backend=backend)


@pytest.fixture
def unfit_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """tflite-runtime beside numpy 2, where it imports and cannot work."""
    package = types.ModuleType("tflite_runtime.interpreter")
    monkeypatch.setattr(package, "Interpreter", None, raising=False)
    monkeypatch.setitem(sys.modules, "tflite_runtime", types.ModuleType("tflite_runtime"))
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", package)
    monkeypatch.setattr(np, "__version__", "2.1.0")


@pytest.mark.usefixtures("unfit_runtime")
def test_tflite_runtime_with_numpy_2_names_the_pip_command(tiny: Artifact) -> None:
    with pytest.raises(
        BackendError, match=r"numpy 2\.1\.0 is installed; run: pip install 'numpy<2'"
    ):
        Session(tiny, backend="tflite-runtime")


def test_auto_takes_the_first_backend_that_is_installed(
    tiny: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    opened = litert.LiteRtGraph._open

    def note(
        self: litert.LiteRtGraph, flatbuffer: bytes, threads: int, delegates: list[Any]
    ) -> Any:
        calls.append(threads)
        return opened(self, flatbuffer, threads, delegates)

    monkeypatch.setattr(litert.LiteRtGraph, "_open", note)
    assert Session(tiny, threads=2).backend == "litert"
    assert calls == [2]


@pytest.mark.parametrize("threads", [0, -2, 1.5, "2"])
def test_a_number_of_threads_that_is_none(tiny: Artifact, threads: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^The number of threads is {threads!r}; take 1"):
        Session(tiny, threads=threads)


def test_model_that_a_backend_cannot_run(tiny: Artifact) -> None:
    with pytest.raises(BackendError, match="The backend litert cannot run this model"):
        Session(dataclasses.replace(tiny, flatbuffer=b"\0" * 64), backend="litert")


@pytest.mark.parametrize(
    ("runtimes", "run_with"),
    [
        ({"tflite-runtime": "2.14.0"}, "run it with tflite-runtime 2.14.0"),
        ({"tflite-runtime": "2.14.0", "other": "1.0"}, "tflite-runtime 2.14.0, other 1.0"),
        ({}, "run it with another runtime"),
    ],
)
@pytest.mark.parametrize("backend", ["auto", "litert"])
def test_runtime_that_computes_wrongly_is_refused(
    tiny: Artifact, runtimes: dict[str, str], run_with: str, backend: str
) -> None:
    with pytest.raises(BackendError) as caught:
        Session(with_manifest(tiny, runtimes=runtimes), backend=backend)
    message = str(caught.value)
    assert message.startswith("ai-edge-litert loads this model (int8) but computes it wrongly; ")
    assert run_with in message
    assert message.endswith("or convert it with --runtime ai-edge-litert.")


def test_runtime_is_taken_when_another_computes_wrongly(tiny: Artifact) -> None:
    artifact = with_manifest(tiny, runtimes={"ai-edge-litert": "1.0.0"})
    assert Session(artifact).verify() is None


def test_close_may_be_called_twice(tiny: Artifact) -> None:
    with Session(tiny) as session:
        session.close()


@pytest.mark.usefixtures("unfit_runtime")
def test_auto_goes_on_from_a_runtime_that_does_not_fit_and_names_it_when_none_does(
    tiny: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ai_edge_litert", "ai_edge_litert.interpreter", "tensorflow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnfitRuntimeError, match=r"run: pip install 'numpy<2'$"):
        Session(tiny)


@pytest.mark.parametrize(
    ("machine", "package"), [("armv7l", r"edgelstm\[tflite-runtime\]"), ("aarch64", "ai-edge")]
)
def test_the_advice_fits_the_machine(
    tiny: Artifact, machine: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ai_edge_litert", "ai_edge_litert.interpreter", "tflite_runtime", "tensorflow"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(MissingDependencyError, match=package):
        Session(tiny)


def test_a_closed_session_says_so_and_can_be_closed_again(tiny: Artifact) -> None:
    with Session(tiny) as session:
        session.step([20.0, -5.0])
    session.close()
    for use in uses(session):
        with pytest.raises(ConfigurationError, match="closed"):
            use()
    session.close()
    assert session.backend == "closed"


def test_a_closed_session_of_windows_says_so(tiny_window: Artifact) -> None:
    session = Session(tiny_window)
    session.step([20.0, -5.0])
    session.close()
    for use in uses(session):
        with pytest.raises(ConfigurationError, match="closed"):
            use()


def uses(session: Session) -> list[Callable[[], object]]:
    state = Session(session.artifact).state

    def set_state() -> None:
        session.state = state

    return [
        lambda: session.step([20.0, -5.0]),
        lambda: session.step_named({"x": [20.0, -5.0]}),
        lambda: session.state,
        session.reset,
        session.verify,
        set_state,
    ]


def test_raw_readings_may_be_lists_of_the_right_type_only(tiny: Artifact) -> None:
    session = Session(tiny)
    with pytest.raises(ConfigurationError, match=r"A raw reading of x is int64 \(2,\)"):
        session.step_raw([[1, 2]])  # type: ignore[list-item]  # as a user may


def test_inputs_by_name_are_a_mapping(ports: Session) -> None:
    with pytest.raises(ConfigurationError, match=r"takes its inputs by name, and was given \[20"):
        ports.step_named([20.0, -5.0, 15.0])  # type: ignore[arg-type]  # as a user may


def test_a_closed_session_says_so_whatever_the_reading(tiny: Artifact) -> None:
    session = Session(tiny)
    session.close()
    with pytest.raises(ConfigurationError, match="closed"):
        session.step([np.nan, -5.0])
