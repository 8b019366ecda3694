"""Which recipe a model gets: advice against int8, force, and auto."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from stepping import candidates_of, roughen, sequences, signals

from edgelstm.errors import ConversionError
from edgelstm_quantize.choice import choose_smallest
from edgelstm_quantize.convert import convert
from edgelstm_quantize.memory import measure_memory
from edgelstm_quantize.recipes import RECIPES
from edgelstm_quantize.step_graph import StepGraph

layers = keras.layers
DATA = signals(700)


def remembering(tau: float, kind: str = "lstm") -> Any:
    """A model whose states decay with the time constant `tau` (steps), whatever goes in."""
    keras.utils.set_random_seed(3)
    x = keras.Input((None, 3))
    make = layers.LSTM if kind == "lstm" else layers.GRU
    model = keras.Model(x, layers.Dense(2)(make(8, return_sequences=True, name="memory")(x)))
    roughen(model)
    layer = model.get_layer("memory")
    kernel, recurrent, bias = layer.get_weights()
    keep = -np.log(np.expm1(1 / tau))  # sigmoid(keep) = exp(-1 / tau)
    gate = slice(8, 16) if kind == "lstm" else slice(0, 8)  # forget; update
    kernel[:, gate], recurrent[:, gate] = 0, 0
    bias[..., gate] = 0
    (bias if kind == "lstm" else bias[0])[gate] = keep
    layer.set_weights([kernel, recurrent, bias])
    return model


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_time_constants_are_measured(kind: str) -> None:
    candidates = candidates_of(remembering(50, kind), DATA)
    (memory,) = candidates.memory()
    assert memory.layer == "memory"
    assert memory.state == ("state_1" if kind == "lstm" else "state_0")
    assert memory.time_constants == pytest.approx([50] * 8, rel=1e-3)
    form = candidates.forms.any()
    units = form.calibration.unit_ranges[1 if kind == "lstm" else 0]
    by_hand = np.median(0.5 * 50 / 128 * units.max() / units)  # half a code, each step a tau-th
    assert memory.deadband == pytest.approx(by_hand, rel=1e-3)
    # Integers keep the same: a form of other operations must measure the same.
    integer = candidates.forms.get("int8")
    assert isinstance(integer.steps, StepGraph)
    again = measure_memory(integer.steps, integer.calibration)
    assert again[0].time_constants == pytest.approx([50] * 8, rel=1e-2)


class _Leaky(keras.layers.Layer):  # type: ignore[misc]
    """A cell of the user's own: one state that decays by itself, with 12 steps."""

    units = state_size = output_size = 3

    def call(self, x: Any, states: Any) -> Any:
        h = float(np.exp(-1 / 12)) * states[0] + x
        return h, [h]


def test_the_decay_of_an_own_cell_is_its_derivative() -> None:
    x = keras.Input((None, 3))
    model = keras.Model(x, layers.RNN(_Leaky(), return_sequences=True, name="leaky")(x))
    (memory,) = candidates_of(model, DATA).memory()
    assert memory.layer == "leaky"
    assert memory.time_constants == pytest.approx([12] * 3, rel=1e-3)
    # What mixes its units does not decay by itself: nothing is said of it.
    mixing = sequences(lambda x: layers.SimpleRNN(4, return_sequences=True)(x))
    assert candidates_of(mixing, DATA).memory() == []


def test_a_long_memory_is_kept_from_int8_unless_it_is_forced() -> None:
    model = remembering(120)
    with pytest.raises(ConversionError) as error:
        convert(model, DATA, recipe="int8")
    message = str(error.value)
    assert "'memory'" in message
    assert "time constant 120 steps" in message
    assert "--recipe int8-float or int16x8" in message
    assert "--force-recipe" in message
    assert "\n" not in message
    forced = convert(model, DATA, recipe="int8", force_recipe=True, allow_low_fidelity=True)
    assert forced.artifact.manifest.recipe == "int8"
    assert forced.summary.memory[0].time_constant == pytest.approx(120, rel=0.01)
    other = convert(model, DATA, recipe="int16x8")
    assert other.artifact.manifest.fidelity.relative_error < 0.02


def test_auto_takes_the_smallest_that_is_close_enough() -> None:
    candidates = candidates_of(sequences(lambda x: layers.Dense(2)(_lstm(x, 24))), DATA)
    taken, trials = choose_smallest(candidates, max_error=0.2)
    by_name = {trial.recipe: trial for trial in trials}
    assert set(by_name) == set(RECIPES)
    sizes = {name: trial.bytes for name, trial in by_name.items() if trial.bytes}
    assert taken.recipe.name == min(sizes, key=lambda name: sizes[name])
    assert trials[-1].recipe == taken.recipe.name
    assert trials[-1].remark == ""
    assert all(trial.remark for trial in trials[:-1])
    # In whatever order they are tried.
    pair = {name: RECIPES[name] for name in ("float32", "int8-weight")}
    assert choose_smallest(candidates, max_error=0.2, recipes=pair)[0].recipe.name == "int8-weight"
    # Closer than the closest of the quantised: only float32 is left.
    errors = {t.recipe: t.fidelity.relative_error for t in trials if t.fidelity}
    closest = min(error for name, error in errors.items() if name != "float32")
    exact, _ = choose_smallest(candidates, max_error=closest / 2)
    assert exact.recipe.name == "float32"
    with pytest.raises(ConversionError) as error:
        choose_smallest(
            candidates,
            max_error=closest / 2,
            recipes={name: recipe for name, recipe in RECIPES.items() if name != "float32"},
        )
    assert "allow more with --max-error" in str(error.value)
    assert all(name in str(error.value) for name in ("int8", "int8-float", "int16x8"))


def _lstm(x: Any, units: int) -> Any:
    return layers.LSTM(units, return_sequences=True)(x)


def test_auto_leaves_int8_out_for_a_long_memory() -> None:
    done = convert(remembering(120), DATA, recipe="auto", max_error=0.05)
    assert done.artifact.manifest.recipe != "int8"
    (int8,) = [trial for trial in done.trials if trial.recipe == "int8"]
    assert int8.bytes is None
    assert "remembers for long" in int8.remark
    assert done.summary.trials == done.trials
