"""The peephole cell against its equations, written out in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from stepping import roughen, run_keras, signals

from edgelstm_quantize import keras_files, quantize
from edgelstm_quantize.cells import PeepholeLSTMCell

layers = keras.layers
DATA = signals(200)
UNITS = 5


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def by_hand(x: NDArray[Any], layer: Any) -> NDArray[np.float64]:
    """h at each step, as Gers, Schraudolph and Schmidhuber have it."""
    cell = layer.cell
    kernel, recurrent, peephole, bias = (
        np.asarray(w, np.float64)
        for w in (cell.kernel, cell.recurrent_kernel, cell.peephole, cell.bias)
    )
    w_i, w_f, w_c, w_o = (kernel[:, k * UNITS : (k + 1) * UNITS] for k in range(4))
    u_i, u_f, u_c, u_o = (recurrent[:, k * UNITS : (k + 1) * UNITS] for k in range(4))
    b_i, b_f, b_c, b_o = (bias[k * UNITS : (k + 1) * UNITS] for k in range(4))
    p_i, p_f, p_o = peephole
    h, c = np.zeros(UNITS), np.zeros(UNITS)
    seen = []
    for row in x.astype(np.float64):
        i = sigmoid(row @ w_i + h @ u_i + p_i * c + b_i)
        f = sigmoid(row @ w_f + h @ u_f + p_f * c + b_f)
        c = f * c + i * np.tanh(row @ w_c + h @ u_c + b_c)
        o = sigmoid(row @ w_o + h @ u_o + p_o * c + b_o)  # the new c
        h = o * np.tanh(c)
        seen.append(h)
    return np.array(seen)


@pytest.fixture(scope="module")
def model() -> Any:
    keras.utils.set_random_seed(0)
    x = keras.Input((None, 3))
    y = layers.RNN(PeepholeLSTMCell(UNITS), return_sequences=True, name="peephole")(x)
    model = roughen(keras.Model(x, y))
    layer = model.get_layer("peephole")
    kernel, recurrent, peephole, bias = layer.get_weights()
    layer.set_weights([kernel, recurrent, peephole * 5, bias])  # so that they matter
    return model


def test_the_cell_computes_its_equations(model: Any) -> None:
    layer = model.get_layer("peephole")
    expected = by_hand(DATA, layer)
    assert np.abs(run_keras(model, DATA) - expected).max() < 1e-5
    # The peepholes have a say in it.
    kept = layer.get_weights()
    layer.set_weights([kept[0], kept[1], np.zeros_like(kept[2]), kept[3]])
    without = run_keras(model, DATA)
    layer.set_weights(kept)
    assert np.abs(without - expected).max() > 0.02


def test_the_forget_gate_starts_open() -> None:
    for open_first in (True, False):
        cell = PeepholeLSTMCell(2, unit_forget_bias=open_first)
        cell.build((None, 3))
        expected = [0, 0, 1, 1, 0, 0, 0, 0] if open_first else [0] * 8
        assert np.asarray(cell.bias).tolist() == expected
        assert not np.asarray(cell.peephole).any()


@pytest.mark.parametrize("name", ["cell.keras", "cell.h5"])
def test_a_file_with_the_cell_loads_and_converts(name: str, model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / name)
    loaded, record = keras_files.load(tmp_path / name)
    assert record is None
    cell = loaded.get_layer("peephole").cell
    assert isinstance(cell, PeepholeLSTMCell)
    assert (cell.units, cell.unit_forget_bias) == (UNITS, True)
    np.testing.assert_array_equal(run_keras(loaded, DATA), run_keras(model, DATA))
    if name.endswith(".keras"):
        fidelity = quantize(tmp_path / name, DATA, recipe="float32").manifest.fidelity
        assert fidelity.relative_error < 1e-6


def test_the_configuration_gives_the_cell_again() -> None:
    cell = PeepholeLSTMCell(7, unit_forget_bias=False, name="p")
    again = PeepholeLSTMCell.from_config(cell.get_config())
    assert (again.units, again.unit_forget_bias, again.name) == (7, False, "p")
    assert again.state_size == [7, 7]
