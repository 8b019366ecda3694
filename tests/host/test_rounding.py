"""Weights rounded so that the products stay right."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from stepping import candidates_of, make, relative_error, run_keras, sequences, signals

from edgelstm_quantize import calibration, flatbuffer
from edgelstm_quantize.forms import Form
from edgelstm_quantize.rounding import _best_rounding, round_weights, sources

layers = keras.layers
DATA = signals()


def correlated(rows: int, columns: int) -> NDArray[np.float64]:
    """Samples whose features go up and down together."""
    rng = np.random.default_rng(0)
    few = rng.normal(size=(rows, 3)) @ rng.normal(size=(3, columns))
    samples: NDArray[np.float64] = few + 0.1 * rng.normal(size=(rows, columns)) + 0.5
    return samples


def rounded_and_nearest(*, free_bias: bool) -> tuple[Any, ...]:
    x = np.column_stack([correlated(500, 12), np.ones(500)])
    weights = np.random.default_rng(1).normal(size=(5, 12))
    largest = np.broadcast_to(np.abs(weights).max(axis=1, keepdims=True), weights.shape)
    moments = x.T @ x / len(x)
    rounded, shift = _best_rounding(weights, largest, moments, (1.0, 0.9), free_bias=free_bias)
    nearest = np.rint(weights / largest * 127) * largest / 127
    return x, weights, rounded, shift, nearest


@pytest.mark.parametrize("free_bias", [False, True])
def test_the_products_are_closer_than_with_the_nearest_weights(free_bias: bool) -> None:
    x, weights, rounded, shift, nearest = rounded_and_nearest(free_bias=free_bias)
    exact = x[:, :-1] @ weights.T
    error = np.abs(x[:, :-1] @ rounded.T + shift - exact).mean()
    assert error < 0.5 * np.abs(x[:, :-1] @ nearest.T - exact).mean()
    # Each weight alone is further off, which is the point.
    assert np.abs(rounded - weights).mean() > np.abs(nearest - weights).mean()
    assert bool(shift.any()) == free_bias


def test_weights_lie_on_the_grid_that_the_quantiser_takes_from_them() -> None:
    _, weights, rounded, _, _ = rounded_and_nearest(free_bias=True)
    codes = rounded / np.abs(rounded).max(axis=1, keepdims=True) * 127
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-9)
    # The range of a row shrinks by a tenth at most, and its largest weight keeps its sign.
    shrunk = np.abs(rounded).max(axis=1) / np.abs(weights).max(axis=1)
    assert ((shrunk > 0.8999) & (shrunk < 1.0001)).all()


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_model_keeps_its_form_and_gets_weights_of_255_values(per_channel: bool) -> None:
    candidates = candidates_of(
        sequences(lambda x: layers.Dense(3)(layers.LSTM(16, return_sequences=True)(x))), DATA
    )
    form = candidates.forms.get("float32")
    model = round_weights(form.float_model, form.calibration.activations, per_channel=per_channel)
    before, after = (flatbuffer.products(m)[0] for m in (form.float_model, model))
    assert [p.output for p in before] == [p.output for p in after]
    assert {p.source for p in before} == sources(model)
    for old, new in zip(before, after, strict=True):
        axis = 1 if per_channel else None
        peak = np.abs(new.kernel.values).max(axis=axis, keepdims=True)
        codes = new.kernel.values / peak * 127
        np.testing.assert_allclose(codes, np.rint(codes), atol=1e-3)
        assert not np.array_equal(old.kernel.values, new.kernel.values)


@pytest.mark.parametrize("recipe", ["int8-weight", "int16x8"])
def test_a_recurrent_model_loses_less_than_half(
    recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = sequences(lambda x: layers.Dense(3)(layers.LSTM(24, return_sequences=True)(x)))
    candidates = candidates_of(model, DATA)
    exact = run_keras(model, DATA)
    _, y = make(candidates, recipe)

    def as_it_is(form: Form, *, per_channel: bool) -> bytes:  # as the original
        return form.float_model

    monkeypatch.setattr(Form, "rounded", as_it_is)
    _, nearest = make(candidates, recipe)
    assert relative_error(y, exact) < 0.5 * relative_error(nearest, exact)


def test_one_kernel_of_many_steps_is_rounded_for_all_of_them() -> None:
    model = sequences(lambda x: layers.Dense(2)(layers.Bidirectional(layers.GRU(6))(x)))
    candidates = candidates_of(model, DATA, window=6)
    form = candidates.forms.get("float32")
    model_bytes = form.rounded(per_channel=True)
    shared = [p for p in flatbuffer.products(model_bytes)[0] if p.kernel.uses > 1]
    assert len({p.kernel.buffer for p in shared}) == 2  # there and back
    for product in shared:
        codes = product.kernel.values / np.abs(product.kernel.values).max(1, keepdims=True) * 127
        np.testing.assert_allclose(codes, np.rint(codes), atol=1e-3)


def test_samples_are_spread_evenly_however_much_fits_into_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = sequences(lambda x: layers.Dense(3)(layers.GRU(8, return_sequences=True)(x)))
    whole = candidates_of(model, DATA).forms.get("int8").calibration
    monkeypatch.setattr(calibration, "_FLOATS_IN_MEMORY", 3300)  # a few runs
    monkeypatch.setattr(calibration, "_ACTIVATIONS", 300)
    parts = candidates_of(model, DATA).forms.get("int8").calibration
    assert parts.ranges == whole.ranges
    kept, every = parts.activations["step_x:0"], whole.activations["step_x:0"]
    earlier = int(whole.steps * 0.8)  # the later part has fewer than 300 steps, and keeps them all
    expected = np.concatenate([every[:earlier][:: -(-earlier // 300)], every[earlier:]])
    np.testing.assert_array_equal(kept, expected)
