"""Calibration: every tensor in time order, states carried on, and what the data must be."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import pytest
from stepping import candidates_of, run_keras, sequences, signals

from edgelstm.errors import CalibrationWarning, RecordingError
from edgelstm.recording import Recording
from edgelstm.session import Session
from edgelstm_quantize import quantize
from edgelstm_quantize.calibration import calibrate, with_excursions
from edgelstm_quantize.convert import convert
from edgelstm_quantize.tflite import open_reference, signature
from edgelstm_quantize.tracing import states_of

layers = keras.layers
DATA = signals(400)


@pytest.fixture(scope="module")
def model() -> Any:
    return sequences(lambda x: layers.LSTM(4, return_sequences=True)(x))


def by_hand(model: Any, x: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """h and c at each step, (steps, units) each, from zero states."""
    kernel, recurrent, bias = (np.asarray(w, np.float64) for w in model.layers[1].get_weights())
    h, c = np.zeros(4), np.zeros(4)
    seen = []
    for row in x:
        i, f, g, o = np.split(row @ kernel + h @ recurrent + bias, 4)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        seen.append((h, c))
    hs, cs = zip(*seen, strict=True)
    return np.array(hs), np.array(cs)


def test_ranges_are_those_of_a_stateful_run(model: Any) -> None:
    form = candidates_of(model, DATA).forms.get("float32")
    seen = calibrate(form.float_model, states_of(form.steps), [{"x": DATA[:200]}])
    h, c = by_hand(model, DATA[:200])
    assert seen.steps == 200
    assert seen.unit_ranges[0] == pytest.approx(np.abs(h).max(axis=0), rel=1e-4)
    assert seen.unit_ranges[1] == pytest.approx(np.abs(c).max(axis=0), rel=1e-4)
    expected = [(min(0, v.min()), max(0, v.max())) for v in (h, c)]
    for low, high in expected:
        same = [r for r in seen.ranges.values() if r == pytest.approx((low, high), rel=1e-4)]
        assert len(same) >= 2  # going in and coming out
    x = seen.ranges[next(name for name in seen.ranges if name.startswith("step_x"))]
    assert x == pytest.approx((DATA[:200].min(), DATA[:200].max()))


def test_states_start_from_zero_in_every_feed(model: Any) -> None:
    form = candidates_of(model, DATA).forms.get("float32")
    parts = [{"x": DATA[:30]}, {"x": DATA[200:260]}]
    seen = calibrate(form.float_model, states_of(form.steps), parts)
    cells = [by_hand(model, part["x"])[1] for part in parts]
    assert seen.unit_ranges[1] == pytest.approx(np.abs(np.concatenate(cells)).max(axis=0), rel=1e-4)
    assert seen.steps == 90


def test_recordings_are_runs_of_their_own(model: Any) -> None:
    halves = [DATA[:150], DATA[150:]]
    done = convert(model, halves, recipe="float32")
    reference = np.concatenate([run_keras(model, half) for half in halves])
    with Session(done.artifact) as session:
        rows = []
        for half in halves:
            session.reset()
            rows += [session.step(x) for x in half]
    assert np.abs(np.array(rows) - reference).max() < 1e-5
    assert done.artifact.manifest.fidelity.relative_error < 1e-5  # states left over would show
    assert done.artifact.manifest.fidelity.steps == 80
    assert len(done.recordings) == 2
    assert done.calibration.steps == 320


@pytest.mark.parametrize(
    "given",
    [
        lambda: DATA,
        lambda: {"x": DATA},
        lambda: Recording.from_array(DATA),
        lambda: (part for part in [DATA]),
    ],
)
def test_forms_of_the_same_data_give_the_same_ranges(given: Any, model: Any) -> None:
    expected = candidates_of(model, DATA).forms.get("float32").calibration.ranges
    assert candidates_of(model, given()).forms.get("float32").calibration.ranges == expected


def test_windows_are_recordings(model: Any) -> None:
    done = convert(model, DATA.reshape(4, 100, 3), recipe="float32")
    assert [len(r) for r in done.recordings] == [100] * 4
    named = convert(model, {"x": DATA.reshape(4, 100, 3)}, recipe="float32")
    assert named.calibration.ranges == done.calibration.ranges


def test_few_steps_are_warned_of_and_too_few_refused(model: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CalibrationWarning)
        done = convert(model, DATA[:199], recipe="float32")
    (told,) = [str(w.message) for w in caught if w.category is CalibrationWarning]
    assert "has 199 steps; with fewer than 200" in told
    assert done.warnings == (told,)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CalibrationWarning)
        assert convert(model, DATA[:200], recipe="float32").warnings == ()
    with pytest.raises(RecordingError, match="has 39 steps; it needs at least 40"):
        convert(model, [DATA[:20], DATA[:19]], recipe="float32")


def test_states_that_never_leave_zero_are_an_error(model: Any) -> None:
    kernel, recurrent, bias = model.layers[1].get_weights()
    dead = keras.models.clone_model(model)
    dead.set_weights([kernel, recurrent, np.where(np.arange(16) // 4 == 2, 0, bias)])
    quantize(dead, DATA, recipe="float32")
    with pytest.raises(RecordingError, match=r"never leave zero.*units that the model takes"):
        quantize(dead, np.zeros_like(DATA), recipe="float32")


def test_values_that_are_not_finite_are_named(model: Any) -> None:
    broken = DATA.copy()
    broken[123, 1] = np.nan
    with pytest.raises(RecordingError, match=r"row 123 .*channel 'channel_1': nan"):
        quantize(model, broken)
    windows = broken.reshape(4, 100, 3)
    with pytest.raises(RecordingError, match=r"window 1.*row 23 "):
        quantize(model, windows)
    with pytest.raises(RecordingError, match=r"window 1.*row 23 "):
        quantize(model, iter(windows))


def test_a_model_that_clips_is_calibrated_up_to_there() -> None:
    z = DATA[:50]
    feeds = with_excursions({"x": z}, {"x": 4.0})
    assert len(feeds) == 3
    np.testing.assert_allclose(feeds[1]["x"].max(axis=0), 4, rtol=1e-6)
    np.testing.assert_allclose(feeds[2]["x"].min(axis=0), -4, rtol=1e-6)
    np.testing.assert_allclose(np.diff(feeds[1]["x"], axis=0), np.diff(z, axis=0), atol=1e-6)
    assert with_excursions({"x": z}, {"x": None}) == [{"x": z}]


def test_a_state_has_one_range_in_and_out_and_it_holds_zero() -> None:
    model = sequences(lambda x: layers.LSTM(6, return_sequences=True)(x))
    # On a ramp the last state is the largest, which goes out and never in.
    ramp = np.linspace(0.5, 3, 400)[:, None] * np.ones(3)
    form = candidates_of(model, ramp).forms.get("int8")
    details = signature(open_reference(form.float_model))
    for state in states_of(form.steps):
        ranges = [
            form.earlier.ranges[str(part[name]["name"])]
            for part, name in (
                (details.inputs, state.name),
                (details.outputs, state.output_name),
            )
        ]
        assert ranges[0] == ranges[1]
        assert ranges[0][0] <= 0 <= ranges[0][1]
