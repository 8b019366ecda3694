"""What is known to go wrong between Keras and int8, each with the case that showed it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from stepping import candidates_of, make, relative_error, run_keras, sequences, signals

from edgelstm.backends import Wiring
from edgelstm.backends.litert import LiteRtGraph
from edgelstm.errors import BackendError, ConversionError
from edgelstm.manifest import TensorSpec
from edgelstm.session import Session
from edgelstm_quantize import quantize, runtimes
from edgelstm_quantize.calibration import Ranges, calibrate
from edgelstm_quantize.quantization import QuantizedGraph, apply_recipe
from edgelstm_quantize.recipes import RECIPES
from edgelstm_quantize.tflite import open_reference, signature
from edgelstm_quantize.tracing import states_of

layers = keras.layers
DATA = signals()


def lstm(x: Any, units: int = 8, **options: Any) -> Any:
    return layers.LSTM(units, return_sequences=True, **options)(x)


def parse(flatbuffer: bytes) -> Any:
    """The file as its bytes say, unlike `flatbuffer.read`, which brings outside buffers in."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))


# The fused operation


def small_cell() -> Any:
    """A model whose cell state stays below a half: the fused op's int16 tanh has no such scale."""
    model = sequences(lambda x: layers.Dense(2)(lstm(x)), name="small")
    layer = model.layers[1]
    kernel, recurrent, bias = layer.get_weights()
    bias[:16] -= 1.5  # input and forget gates
    layer.set_weights([kernel * 0.5, recurrent * 0.5, bias])
    return model


def test_a_small_cell_state_is_computed_right_and_without_the_fused_operation() -> None:
    model = small_cell()
    assert np.abs(_cell_states(model.layers[1], DATA)).max() < 0.5
    made, y = make(candidates_of(model, DATA), "int8")
    assert relative_error(y, run_keras(model, DATA)) < 0.05
    names = {op.name for op in made.artifact.manifest.operations}
    assert "FULLY_CONNECTED" in names
    assert not [name for name in names if "LSTM" in name or "RNN" in name]


def _cell_states(layer: Any, x: NDArray[Any]) -> NDArray[np.float64]:
    kernel, recurrent, bias = layer.get_weights()
    h, c = np.zeros(layer.units), np.zeros(layer.units)
    seen = []
    for row in x:
        i, f, g, o = np.split(row @ kernel + h @ recurrent + bias, 4)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        seen.append(c)
    return np.array(seen)


# The stock converter

_STOCK = """
import sys
import numpy as np
import tensorflow as tf

model = tf.keras.models.load_model(sys.argv[1])
data = np.load(sys.argv[2])
converter = tf.lite.TFLiteConverter.from_keras_model(model)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([data[None, i : i + 20]] for i in range(0, 400, 20))
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
with open(sys.argv[3], "wb") as file:
    file.write(converter.convert())
"""


def test_where_the_stock_converter_dies_there_is_a_model(tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    x = keras.Input(batch_shape=(1, 20, 3))
    model = keras.Model(x, layers.Dense(2)(lstm(x)))
    model.save(tmp_path / "m.keras")
    np.save(tmp_path / "data.npy", DATA)
    arguments = [str(tmp_path / name) for name in ("m.keras", "data.npy", "m.tflite")]
    stock = subprocess.run(
        [sys.executable, "-c", _STOCK, *arguments], capture_output=True, timeout=200, check=False
    )
    assert stock.returncode != 0  # here it is -11: the calibrator's segmentation fault
    assert not (tmp_path / "m.tflite").exists() or not (tmp_path / "m.tflite").stat().st_size
    artifact = quantize(tmp_path / "m.keras", DATA, recipe="int8")
    assert artifact.manifest.fidelity.relative_error < 0.05


# Calibration


def step_raw(graph: QuantizedGraph, values: NDArray[Any]) -> NDArray[np.float64]:
    """Steps a quantised graph of one input and one output, its raw states carried on."""
    interpreter = open_reference(graph.flatbuffer)
    tensors = signature(interpreter)
    ins = {name: d["index"] for name, d in tensors.inputs.items()}
    outs = {name: d["index"] for name, d in tensors.outputs.items()}
    for pair in graph.states:
        interpreter.set_tensor(ins[pair.input.name], _raw(np.zeros(pair.input.shape), pair.input))
    (x,), (y,) = graph.inputs, graph.outputs
    rows = []
    for value in values:
        interpreter.set_tensor(ins[x.name], _raw(value[None], x))
        interpreter.invoke()
        raw = interpreter.get_tensor(outs[y.name])[0].astype(np.float64)
        rows.append((raw - y.zero_point) * y.scale)
        for pair in graph.states:
            state = interpreter.get_tensor(outs[pair.output.name])
            interpreter.set_tensor(ins[pair.input.name], state)
    return np.array(rows)


def _raw(real: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    limits = np.iinfo(spec.dtype)
    codes = np.rint(real / spec.scale + spec.zero_point)
    return np.clip(codes, limits.min, limits.max).astype(spec.dtype)


def test_shuffled_calibration_from_zero_states_ruins_a_model_and_ours_does_not() -> None:
    model = sequences(lambda x: layers.Dense(2)(lstm(x)))
    weights = model.layers[1].get_weights()
    weights[2][8:16] += 3.0  # the forget gates: c is what it has gathered over many steps
    model.layers[1].set_weights(weights)
    reference = run_keras(model, DATA)
    form = candidates_of(model, DATA).forms.get("int8")
    states = states_of(form.steps)

    def quantized(ranges: Ranges) -> QuantizedGraph:
        return apply_recipe(RECIPES["int8"], form.float_model, states, ranges, (["x"], ["y"]))

    rows = np.random.default_rng(0).permutation(DATA[:1000])
    shuffled = calibrate(form.float_model, states, [{"x": row[None]} for row in rows])
    ours = relative_error(step_raw(quantized(form.calibration.ranges), DATA), reference)
    theirs = relative_error(step_raw(quantized(shuffled.ranges), DATA), reference)
    assert ours < 0.06
    assert theirs > 5 * ours


# Runtimes


def test_per_channel_dynamic_weights_are_kept_from_the_old_runtime() -> None:
    model = sequences(lambda x: layers.Dense(2)(lstm(x, 16)))
    new = quantize(model, DATA, recipe="int8-float")
    assert "ai-edge-litert" in new.manifest.runtimes
    assert "tflite-runtime" not in new.manifest.runtimes
    with pytest.raises(ConversionError, match="miscomputes FULLY_CONNECTED"):
        runtimes.require(new.flatbuffer, "tflite-runtime")
    with pytest.raises(BackendError, match="computes it wrongly"):
        _session_of_the_old_runtime(new)
    old = quantize(model, DATA, recipe="int8-float", runtime="tflite-runtime")
    assert "tflite-runtime" in old.manifest.runtimes
    assert {_scales(old.flatbuffer), _scales(new.flatbuffer)} == {1, 64}
    assert quantize(model, DATA, runtime="tflite-runtime").manifest.recipe == "int8-weight"


def _session_of_the_old_runtime(artifact: Any) -> None:
    """As the old runtime would be asked, by a graph in ai-edge-litert that calls itself so."""

    class Old(LiteRtGraph):
        backend = "tflite-runtime"
        release = "2.14.0"

    Session(artifact, graph=Old(artifact.flatbuffer, Wiring.of(artifact.manifest), 1))


def _scales(flatbuffer: bytes) -> int:
    """The most scales that a tensor of weights has."""
    tensors = parse(flatbuffer).subgraphs[0].tensors
    found = [t.quantization.scale for t in tensors if t.quantization is not None]
    return max(len(scale) for scale in found if scale is not None)


# What ai-edge-quantizer does


def _two_branches(x: Any) -> Any:
    """States that are read at another scale, too: by CONCATENATION, MAXIMUM."""
    a, b = lstm(x), layers.GRU(8, return_sequences=True)(x)
    return layers.Concatenate()([a, b, layers.Maximum()([a, b]), layers.LeakyReLU()(a)])


@pytest.mark.parametrize("recipe", ["int8", "int16x8"])
def test_states_that_are_read_at_another_scale_as_well_stay_themselves(recipe: str) -> None:
    model = sequences(lambda x: layers.Dense(2)(_two_branches(x)))
    made, y = make(candidates_of(model, DATA), recipe)
    assert relative_error(y, run_keras(model, DATA)) < 0.05
    file = parse(made.artifact.flatbuffer)
    (signed,) = file.signatureDefs
    assert {t.tensorIndex for t in signed.outputs} == set(file.subgraphs[0].outputs.tolist())
    assert {t.tensorIndex for t in signed.inputs} == set(file.subgraphs[0].inputs.tolist())
    for pair in made.artifact.manifest.states:
        assert pair.input.dtype == pair.output.dtype == RECIPES[recipe].dtype
        assert pair.input.scale == pair.output.scale > 0
        assert pair.input.zero_point == pair.output.zero_point


def test_a_state_with_a_fixed_scale_going_out_has_it_going_in() -> None:
    """The output of TANH is at 1/128 always, whatever range it is given."""
    model = sequences(lambda x: layers.Dense(2)(layers.SimpleRNN(6, return_sequences=True)(x)))
    made, y = make(candidates_of(model, DATA), "int8")
    (pair,) = made.artifact.manifest.states
    assert (pair.input.scale, pair.input.zero_point) == (1 / 128, 0)
    assert (pair.output.scale, pair.output.zero_point) == (1 / 128, 0)
    assert relative_error(y, run_keras(model, DATA)) < 0.05


def test_a_large_bias_beside_tiny_weights_does_not_saturate_in_int16() -> None:
    model = sequences(lambda x: layers.Dense(2)(lstm(x)))
    cell, dense = model.layers[1], model.layers[2]
    kernel, bias = dense.get_weights()
    kernel[:, 0] *= 1e-6
    dense.set_weights([kernel, np.array([1.0, bias[1]])])
    kernel, recurrent, bias = cell.get_weights()
    kernel[:, 3] *= 1e-6
    bias[3] = 1.0
    cell.set_weights([kernel, recurrent, bias])
    _, y = make(candidates_of(model, DATA), "int16x8")
    reference = run_keras(model, DATA)
    assert np.abs(y[:, 0] - 1).max() < 1e-3
    assert relative_error(y, reference) < 0.01


def test_a_wide_model_has_all_its_constants_within_the_flatbuffer() -> None:
    data = DATA[:300]
    keras.utils.set_random_seed(3)
    x = keras.Input((None, 3))
    model = keras.Model(x, layers.Dense(2)(lstm(x, 256)))
    made, y = make(candidates_of(model, data), "int8-float")
    assert relative_error(y, run_keras(model, data)) < 0.02
    buffers = parse(made.artifact.flatbuffer).buffers
    assert [b for b in buffers if b.offset or b.size] == []
    assert max(len(b.data) for b in buffers if b.data is not None) == 4 * 256 * 256


# Reproducible files


def _unnamed() -> Any:
    """A model in which Keras has named everything, differently each time."""
    keras.utils.set_random_seed(3)
    x = keras.Input((None, 3))
    y = layers.LSTM(4, return_sequences=True)(layers.Dense(4)(x))
    return keras.Model(x, layers.Dense(3)(layers.GRU(4, return_sequences=True)(y) * 2.0))


@pytest.mark.parametrize("recipe", ["float32", "int8-float", "int8-weight", "int8", "int16x8"])
def test_the_same_model_and_data_give_the_same_bytes(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    for name in ("a", "b"):
        quantize(_unnamed(), DATA[:300], recipe=recipe, name="pump").write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_artifact_replays_itself() -> None:
    with Session(quantize(_unnamed(), DATA[:300], recipe="int8")) as session:
        assert session.verify() is None
