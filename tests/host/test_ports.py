"""Several inputs and outputs, by name."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from stepping import STEPS, candidates_of, make, relative_error, roughen, signals

from edgelstm.errors import ConfigurationError, ModelError, RecordingError
from edgelstm.recording import Recording
from edgelstm.session import Session
from edgelstm_quantize import quantize

layers = keras.layers
DATA = signals(channels=4)
SCALING: dict[str, Any] = {"axis": -1, "mean": [20.0, -5.0], "variance": [4.0, 0.25]}
VIBRATION = (DATA[:, :2] * [2, 0.5] + [20, -5]).astype(np.float32)
LOAD = DATA[:, 2:3]
TOKENS = np.random.default_rng(0).integers(0, 4, STEPS)
ASKED = [0, 3, 10, 30, 59]
FED: Any = {"vibration": VIBRATION, "load": LOAD, "shift": TOKENS}


@pytest.fixture(scope="module")
def model() -> Any:
    """Three inputs, one of which is scaled and one tokens, and two outputs, one scaled back."""
    keras.utils.set_random_seed(3)
    vibration = keras.Input((None, 2), name="vibration")
    load = keras.Input((None, 1), name="load")
    shift = keras.Input((None,), dtype="int32", name="shift")
    z = layers.Normalization(**SCALING)(vibration)
    z = layers.Concatenate()([z, load, layers.Embedding(4, 2)(shift)])
    y = layers.LSTM(8, return_sequences=True)(z)
    level = layers.Normalization(**SCALING, invert=True, name="level")(layers.Dense(2)(y))
    state = layers.Dense(3, activation="softmax", name="state")(layers.GRU(5)(y))
    return roughen(keras.Model([vibration, load, shift], [level, state]))


@pytest.fixture(scope="module")
def reference(model: Any) -> list[Any]:
    """Level and state after the steps in `ASKED`."""
    rows = [
        model([v[None, : t + 1] for v in (VIBRATION, LOAD, TOKENS)], training=False) for t in ASKED
    ]
    return [
        np.stack([np.asarray(row[0])[0, -1] for row in rows]),
        np.stack([np.asarray(row[1])[0] for row in rows]),
    ]


@pytest.mark.parametrize("recipe", ["float32", "int8-float", "int8", "int16x8"])
def test_inputs_and_outputs_go_by_their_names(
    recipe: str, model: Any, reference: list[Any]
) -> None:
    artifact = quantize(model, FED, recipe=recipe)
    manifest = artifact.manifest
    assert [port.tensor.name for port in manifest.inputs] == ["vibration", "load", "shift"]
    assert [port.tensor.name for port in manifest.outputs] == ["level", "state"]
    assert [c.name for c in manifest.channels] == [
        "vibration_0",
        "vibration_1",
        "load_0",
        "shift_0",
    ]
    assert [t.name for t in manifest.targets] == [
        *("level_0", "level_1"),
        *("state_0", "state_1", "state_2"),
    ]
    assert manifest.detection is None
    with Session(artifact) as session:
        rows = np.concatenate([VIBRATION, LOAD, TOKENS[:, None]], axis=1)
        flat = np.array([session.step(row) for row in rows[:60]])
        session.reset()
        named: list[Any] = [
            session.step_named({"shift": TOKENS[t], "load": LOAD[t], "vibration": VIBRATION[t]})
            for t in range(60)
        ]
        with pytest.raises(ConfigurationError, match="whole numbers from 0 to 3"):
            session.step([20, -5, 0, 4])
    level, state = (np.array([n[name] for n in named]) for name in ("level", "state"))
    np.testing.assert_array_equal(np.concatenate([level, state], axis=1), flat)
    limit = {"float32": 2e-5, "int8-float": 0.02, "int8": 0.06, "int16x8": 0.02}[recipe]
    std = np.array([2, 0.5])
    level, state = level[ASKED], state[ASKED]
    assert relative_error((level - [20, -5]) / std, (reference[0] - [20, -5]) / std) < limit
    assert relative_error(state, reference[1]) < limit


def test_the_worst_output_counts(model: Any) -> None:
    made, y = make(candidates_of(model, FED), "int8")
    held_out = int(STEPS * 0.8)
    exact = candidates_of(model, FED).reference[0][held_out:]
    ours = y[held_out:]
    mean, std = [20, -5], [2, 0.5]
    errors = [
        relative_error((ours[:, :2] - mean) / std, (exact[:, :2] - mean) / std),
        relative_error(ours[:, 2:], exact[:, 2:]),
    ]
    assert made.fidelity.relative_error == pytest.approx(max(errors), rel=1e-3)
    assert made.fidelity.steps == STEPS - held_out


def test_unnamed_inputs_and_outputs_are_counted() -> None:
    keras.utils.set_random_seed(3)
    a, b = keras.Input((None, 2)), keras.Input((None, 2))
    y = layers.LSTM(4, return_sequences=True)(layers.Add()([a, b]))
    model = keras.Model([a, b], [layers.Dense(1)(y), layers.Dense(2)(y)])
    manifest = quantize(model, DATA, recipe="float32").manifest
    assert [port.tensor.name for port in manifest.inputs] == ["x_0", "x_1"]
    assert [port.tensor.name for port in manifest.outputs] == ["y_0", "y_1"]
    assert [t.name for t in manifest.targets] == ["y_0", "y_1_0", "y_1_1"]


def test_a_model_of_dictionaries() -> None:
    keras.utils.set_random_seed(3)
    ins = {"b": keras.Input((None, 2), name="b"), "a": keras.Input((None, 1), name="a")}
    y = layers.LSTM(4, return_sequences=True)(layers.Concatenate()([ins["b"], ins["a"]]))
    outs = {"late": layers.Dense(1)(y), "early": layers.Dense(2)(y)}
    model = roughen(keras.Model(ins, outs))
    data = {"a": DATA[:, :1], "b": DATA[:, 1:3]}
    expected = model({name: part[None, :100] for name, part in data.items()})
    artifact = quantize(model, data, recipe="float32")
    with Session(artifact) as session:
        for t in range(100):
            y = session.step_named({name: part[t] for name, part in data.items()})
            assert y is not None
            for name, values in expected.items():
                assert y[name] == pytest.approx(np.asarray(values)[0, t], abs=1e-5)


def test_a_recording_gives_the_channels_of_all_inputs_in_order(model: Any) -> None:
    rows = np.concatenate([VIBRATION, LOAD, TOKENS[:, None]], axis=1)
    recording = Recording.from_array(rows, channels=["p", "q", "load", "shift"])
    manifest = quantize(model, recording, recipe="float32").manifest
    assert [c.name for port in manifest.inputs for c in port.channels] == [
        *("p", "q"),
        "load",
        "shift",
    ]
    with pytest.raises(RecordingError, match="has 3 channels"):
        quantize(model, Recording.from_array(rows[:, :3]))
    with pytest.raises(ModelError, match="no forecast"):
        quantize(model, recording, recipe="float32", horizon=1)
