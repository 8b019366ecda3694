"""Full int8, tuned: cell states in groups, and ranges that clip a little."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest
from stepping import candidates_of, make, relative_error, run_keras, sequences, signals

from edgelstm_quantize import int8
from edgelstm_quantize.calibration import Ranges
from edgelstm_quantize.quantization import apply_recipe
from edgelstm_quantize.recipes import find_recipe
from edgelstm_quantize.refine import Loss, _split, groups_of_units, rollout, search_clips
from edgelstm_quantize.step_graph import StepGraph
from edgelstm_quantize.tracing import states_of

layers = keras.layers
DATA = signals()


def test_groups_have_the_least_noise() -> None:
    sizes = np.array([0.1, 3.0, 0.2, 0.15, 1.0, 1.1, 2.9], np.float32)
    groups = _split(sizes)
    assert sorted(np.concatenate(groups).tolist()) == list(range(7))

    def noise(parts: list[Any]) -> float:
        return float(sum(len(part) * max(part) ** 2 for part in parts))

    ordered = np.sort(sizes)
    every_way = [
        np.split(ordered, cuts) for n in range(4) for cuts in itertools.combinations(range(1, 7), n)
    ]
    assert noise([sizes[g] for g in groups]) == pytest.approx(min(map(noise, every_way)))


def uneven(x: Any) -> Any:
    """An LSTM most of whose cell states stay small, and a few grow large."""
    h = layers.LSTM(24, return_sequences=True, name="uneven")(x)
    return layers.Dense(3)(layers.Add()([h, layers.Dense(24)(h)]))


def uneven_model() -> Any:
    model = sequences(uneven)
    layer = model.get_layer("uneven")
    kernel, recurrent, bias = layer.get_weights()
    few = [3, 11, 20]
    bias[24:48][few] = 3.0  # they forget slowly
    kernel[:, 48:72][:, few] *= 4
    others = [unit for unit in range(24) if unit not in few]
    bias[:24][others] = -2.5  # and these let little in
    layer.set_weights([kernel, recurrent, bias])
    return model


def test_groups_change_nothing_but_the_scales() -> None:
    candidates = candidates_of(uneven_model(), DATA)
    forms = candidates.forms
    form = forms.get("int8")
    assert isinstance(form.steps, StepGraph)
    groups = groups_of_units(forms.graph, form.steps.state_owners, form.calibration)
    grouped = forms.grouped(groups)
    assert len(grouped.steps.state_shapes) == 1 + len(groups["uneven"])
    assert sum(shape[0] for shape in grouped.steps.state_shapes) == 48
    (feed,) = forms.feeds("int8", 0, 300)
    a, b = (
        rollout(
            apply_recipe(
                find_recipe("float32"), f.float_model, states_of(f.steps), {}, (["x"], ["y"])
            ),
            feed,
        )
        for f in (form, grouped)
    )
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_groups_are_taken_where_they_help(monkeypatch: pytest.MonkeyPatch) -> None:
    model = uneven_model()
    exact = run_keras(model, DATA)
    candidates = candidates_of(model, DATA)
    made, y = make(candidates, "int8")
    assert len(made.artifact.manifest.states) > 2
    # Without, the error is larger by far: what the groups are judged by is no accident.
    monkeypatch.setattr(int8, "groups_of_units", lambda *_: {})
    made, plain = make(candidates, "int8")
    assert len(made.artifact.manifest.states) == 2
    assert relative_error(y, exact) < 0.9 * relative_error(plain, exact)


def test_small_layers_get_no_groups() -> None:
    model = sequences(lambda x: layers.LSTM(8, return_sequences=True)(x))
    made, _ = make(candidates_of(model, DATA), "int8")
    assert len(made.artifact.manifest.states) == 2


def test_a_range_shrinks_as_long_as_it_helps() -> None:
    ranges: Ranges = {"c": (-10.0, 5.0), "d": (-1.0, 1.0), "y": (0.0, 8.0)}
    tried: list[Ranges] = []

    def judged(found: Any) -> Loss:
        tried.append(found)
        # Best for c at 0.8; for d any change is worse.
        return Loss(abs(found["c"][1] / 5.0 - 0.8) + abs(found["d"][1] - 1.0) + 1.0, 2.0)

    best = search_clips(lambda r: r, judged, ranges, [["c"], ["d"]], lambda *_: None)  # type: ignore[arg-type, return-value]  # ranges stand for the graph
    assert best == {"c": (-8.0, 4.0), "d": (-1.0, 1.0), "y": (0.0, 8.0)}
    assert all(found["y"] == (0.0, 8.0) for found in tried)


def test_a_gain_must_be_worth_it_and_cost_no_outlier() -> None:
    before = Loss(1.0, 4.0)
    assert Loss(0.9, 4.5).improves(before, 0.05)
    assert not Loss(0.97, 4.0).improves(before, 0.05)
    assert not Loss(0.5, 5.1).improves(before, 0.05)
