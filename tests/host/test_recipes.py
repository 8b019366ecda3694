"""What each recipe makes of a model: types, sizes, scaling and how close it stays."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from stepping import candidates_of, make, relative_error, run_keras, sequences, signals

from edgelstm.errors import ConfigurationError
from edgelstm.manifest import Manifest
from edgelstm.session import Session
from edgelstm_quantize.candidates import Candidate
from edgelstm_quantize.flatbuffer import operator_name, read
from edgelstm_quantize.recipes import RECIPES, find_recipe

layers = keras.layers
MEAN, STD = np.array([20.0, -5.0, 1000.0]), np.array([2.0, 1.0, 50.0])
DATA = signals() * STD + MEAN
LIMITS = {"float32": 2e-5, "int8-weight": 0.01, "int8-float": 0.02, "int16x8": 0.01, "int8": 0.05}


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[Candidate, Any]]:
    """Every recipe of one model with its scaling at both ends and a clip."""

    def body(x: Any) -> Any:
        scaling = {"axis": -1, "mean": MEAN.tolist(), "variance": (STD**2).tolist()}
        z = keras.ops.clip(layers.Normalization(**scaling)(x), -4.0, 4.0)
        y = layers.Dense(3)(layers.LSTM(32, return_sequences=True)(z))
        return layers.Normalization(**scaling, invert=True)(y)

    model = sequences(body)
    candidates = candidates_of(model, DATA)
    done = {recipe: make(candidates, recipe) for recipe in RECIPES}
    exact = (run_keras(model, DATA.astype(np.float32)) - MEAN) / STD
    return {
        recipe: (candidate, relative_error((y - MEAN) / STD, exact))
        for recipe, (candidate, y) in done.items()
    }


def manifest(made: Any, recipe: str) -> Manifest:
    found: Manifest = made[recipe][0].artifact.manifest
    return found


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_stays_close_and_the_manifest_says_how_close(recipe: str, made: Any) -> None:
    candidate, error = made[recipe]
    assert error < LIMITS[recipe]
    # The manifest's figure is that of the held-out fifth.
    assert candidate.fidelity.relative_error == pytest.approx(error, rel=0.5)
    assert candidate.fidelity.steps == 260
    with Session(candidate.artifact) as session:
        assert session.verify() is None


@pytest.mark.parametrize("recipe", RECIPES)
def test_types_of_the_interface_and_the_states(recipe: str, made: Any) -> None:
    found = manifest(made, recipe)
    expected = {"int8": "int8", "int16x8": "int16"}.get(recipe, "float32")
    tensors = [port.tensor for port in (*found.inputs, *found.outputs)]
    tensors += [pair.input for pair in found.states] + [pair.output for pair in found.states]
    assert {tensor.dtype for tensor in tensors} == {expected}
    assert all((tensor.scale > 0) == (expected != "float32") for tensor in tensors)


@pytest.mark.parametrize("recipe", RECIPES)
def test_scaling_is_in_a_graph_of_floats_and_before_one_of_integers(recipe: str, made: Any) -> None:
    found = manifest(made, recipe)
    where = "session" if RECIPES[recipe].integer else "graph"
    assert {port.scaling for port in (*found.inputs, *found.outputs)} == {where}
    assert [c.mean for c in found.channels] == pytest.approx(MEAN)
    assert [c.std for c in found.channels] == pytest.approx(STD)
    assert [t.std for t in found.targets] == pytest.approx(STD)
    assert found.inputs[0].clip == 4.0  # whoever scales keeps it


def test_no_scaling_is_done_twice_beyond_the_clip(made: Any) -> None:
    """A reading far out is clipped at the same place by every recipe."""
    far = MEAN + 9 * STD
    answers = []
    for candidate, _ in made.values():
        with Session(candidate.artifact) as session:
            given = session.step(far)
            session.reset()
            bound = session.step(MEAN + 4 * STD)
        assert given is not None
        assert bound is not None
        np.testing.assert_allclose(given, bound)
        answers.append((given - MEAN) / STD)
    np.testing.assert_allclose(answers, np.repeat(answers[-1:], 5, axis=0), atol=0.05)


@pytest.mark.parametrize("recipe", ["int8-float", "int8-weight", "int8", "int16x8"])
def test_weights_are_int8_and_every_product_has_a_bias(recipe: str, made: Any) -> None:
    tree = read(made[recipe][0].artifact.flatbuffer)
    (graph,) = tree.subgraphs
    makers = {int(op.outputs[0]): op for op in graph.operators}
    products = [op for op in graph.operators if operator_name(tree, op) == "FULLY_CONNECTED"]
    assert len(products) == (5 if recipe == "int8" else 3)
    for product in products:
        kernel = int(product.inputs[1])
        if kernel in makers:  # weights that are only stored in int8 stand behind a DEQUANTIZE
            assert operator_name(tree, makers[kernel]) == "DEQUANTIZE"
            kernel = int(makers[kernel].inputs[0])
        assert graph.tensors[kernel].type == schema.TensorType.INT8
        assert len(product.inputs) == 3
        assert product.inputs[2] >= 0


def test_all_of_int8_is_integers(made: Any) -> None:
    tree = read(made["int8"][0].artifact.flatbuffer)
    types = {tensor.type for tensor in tree.subgraphs[0].tensors}
    assert types <= {schema.TensorType.INT8, schema.TensorType.INT32}


def test_quantising_makes_it_smaller(made: Any) -> None:
    sizes = {recipe: manifest(made, recipe).flatbuffer_bytes for recipe in RECIPES}
    assert max(sizes, key=lambda recipe: sizes[recipe]) == "float32"
    errors = {recipe: error for recipe, (_, error) in made.items()}
    assert errors["float32"] < errors["int8-weight"] < errors["int8"]
    assert errors["int16x8"] < errors["int8"]


def test_runtimes_are_named(made: Any) -> None:
    for recipe in ("float32", "int8-weight", "int8", "int16x8"):
        assert set(manifest(made, recipe).runtimes) == {"ai-edge-litert", "tflite-runtime"}
    assert set(manifest(made, "int8-float").runtimes) == {"ai-edge-litert"}


def test_an_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(ConfigurationError) as error:
        find_recipe("int4")
    assert all(recipe in str(error.value) for recipe in [*RECIPES, "auto"])
