from __future__ import annotations

import dataclasses
import platform
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm import load
from edgelstm.artifact import Artifact
from edgelstm.backends import BACKENDS, litert
from edgelstm.errors import (
    ArtifactError,
    BackendError,
    ConfigurationError,
    MissingDependencyError,
    UnfitRuntimeError,
)
from edgelstm.session import Session

Readings = NDArray[np.float64]


@pytest.fixture
def session(tiny: Artifact) -> Session:
    return Session(tiny)


@pytest.fixture
def float_session(tiny_float32: Artifact) -> Session:
    return Session(tiny_float32)


def run(session: Session, readings: Readings) -> Readings:
    return np.array([session.step(x) for x in readings])


def same_state(a: dict[str, NDArray[Any]], b: dict[str, NDArray[Any]]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def error_of(outputs: Readings, reference: Readings) -> Readings:
    """Mean absolute difference over the rms of the reference around its mean, per target."""
    rms = np.sqrt(np.mean((reference - reference.mean(axis=0)) ** 2, axis=0))
    return np.asarray(np.mean(np.abs(outputs - reference), axis=0) / rms)


# Steps and states


def test_step_gives_the_targets_in_physical_units(session: Session) -> None:
    y = session.step([20.0, -5.0])
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
    raw = np.array([session.step_raw(session.to_raw(x.astype(np.float64))) for x in golden.x])
    assert len(raw) > 100
    difference = np.abs(raw.astype(int) - golden.y.astype(int))
    assert difference.max() <= session.artifact.manifest.golden_tolerance


def test_memory_matters(session: Session, float_session: Session, sines: Readings) -> None:
    readings = sines[:300]
    stateful, reference = run(session, readings), run(float_session, readings)
    forgetful = []
    for x in readings:
        session.reset()
        forgetful.append(session.step(x))
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
    together = [(a.step(x), b.step(z)) for x, z in zip(sines[:60], sines[60:120], strict=True)]
    assert np.array_equal([y for y, _ in together], alone)


def test_state_of_another_model_is_refused(
    session: Session, tiny_float32: Artifact, sines: Readings
) -> None:
    run(session, sines[:20])
    before = session.state
    fine = session.state
    short = {name: value[:, :-1] for name, value in fine.items()}
    renamed = {f"{name}_": value for name, value in fine.items()}
    for state in ({}, short, renamed, Session(tiny_float32).state):
        with pytest.raises(ConfigurationError, match="another model"):
            session.state = state
    assert same_state(session.state, before)


@pytest.mark.parametrize(
    "x", [[20.0], [20.0, -5.0, 1.0], [[20.0, -5.0]], 20.0, [np.nan, -5.0], [20.0, np.inf]]
)
def test_bad_reading_is_refused_and_changes_nothing(
    session: Session, sines: Readings, x: Any
) -> None:
    run(session, sines[:20])
    before = session.state
    with pytest.raises(ConfigurationError, match="A reading has"):
        session.step(x)
    assert same_state(session.state, before)


def test_clip_bounds_the_normalised_input(tiny: Artifact, session: Session) -> None:
    clipped = Session(
        dataclasses.replace(tiny, manifest=dataclasses.replace(tiny.manifest, clip=0.5))
    )
    mean, std = 20.0, tiny.manifest.channels[0].std
    at_the_bound = session.to_raw(np.array([mean + 0.5 * std, -5.0]))
    assert np.array_equal(clipped.to_raw(np.array([mean + 9 * std, -5.0])), at_the_bound)
    within = np.array([mean + 0.3 * std, -5.2])
    assert np.array_equal(clipped.to_raw(within), session.to_raw(within))


def test_huge_reading_does_not_spoil_the_states(float_session: Session, sines: Readings) -> None:
    run(float_session, sines[:20])
    float_session.step([3e38, -5.0])
    assert np.isfinite(run(float_session, sines[20:40])).all()


# The self-test


def test_verify(session: Session, float_session: Session) -> None:
    assert session.verify() is None
    assert float_session.verify() is None


def with_golden(artifact: Artifact, y: NDArray[Any], tolerance: float) -> Artifact:
    return dataclasses.replace(
        artifact,
        golden=dataclasses.replace(artifact.golden, y=y),
        manifest=dataclasses.replace(artifact.manifest, golden_tolerance=tolerance),
    )


def golden_run(artifact: Artifact) -> NDArray[Any]:
    """What this machine gives for the golden readings."""
    session = Session(artifact)
    readings = artifact.golden.x.astype(np.float64)
    return np.array([session.step_raw(session.to_raw(x)) for x in readings])


@pytest.mark.parametrize("step", [0, 40, 127])
def test_verify_names_the_first_step_that_differs(tiny: Artifact, step: int) -> None:
    y = golden_run(tiny)
    y[step:, 1] -= np.where(y[step:, 1] > 0, 2, -2).astype(np.int8)
    assert Session(with_golden(tiny, y, tolerance=1.0)).verify() == step


def test_verify_grants_the_tolerance(tiny: Artifact) -> None:
    y = golden_run(tiny)
    y -= np.where(y > 0, 1, -1).astype(np.int8)
    assert Session(with_golden(tiny, y, tolerance=1.0)).verify() is None
    assert Session(with_golden(tiny, y, tolerance=0.5)).verify() == 0


def test_verify_does_not_take_nan_for_an_agreement(tiny_float32: Artifact) -> None:
    y = golden_run(tiny_float32)
    y[5] = np.nan
    assert Session(with_golden(tiny_float32, y, tolerance=1e-4)).verify() == 5


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
    interpreter = litert.LiteRtGraph._interpreter

    def note(self: litert.LiteRtGraph, flatbuffer: bytes, threads: int) -> Any:
        calls.append(threads)
        return interpreter(self, flatbuffer, threads)

    monkeypatch.setattr(litert.LiteRtGraph, "_interpreter", note)
    assert Session(tiny, threads=2).backend == "litert"
    assert calls == [2]


def test_model_that_a_backend_cannot_run(tiny: Artifact) -> None:
    with pytest.raises(BackendError, match="The backend litert cannot run this model"):
        Session(dataclasses.replace(tiny, flatbuffer=b"\0" * 64), backend="litert")


def test_window_mode_is_refused(tiny: Artifact) -> None:
    manifest = dataclasses.replace(tiny.manifest, mode="window")
    with pytest.raises(ArtifactError, match="not mode 'window'"):
        Session(dataclasses.replace(tiny, manifest=manifest))


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
    for use in (lambda: session.step([20.0, -5.0]), session.reset, lambda: session.state):
        with pytest.raises(ConfigurationError, match="closed"):
            use()
