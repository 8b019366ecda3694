"""States lie side by side in memory, and are carried in as few copies as may be."""

from __future__ import annotations

from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from stepping import roughen, run_keras, signals

from edgelstm.artifact import Artifact
from edgelstm.backends import Wiring, open_graph
from edgelstm.session import Session
from edgelstm_quantize import flatbuffer, quantize

layers = keras.layers
DATA = signals()


@cache
def stacked(units: int) -> Any:
    keras.utils.set_random_seed(0)
    x = keras.Input((None, 3))
    h = layers.LSTM(units, return_sequences=True)(x)
    h = layers.LSTM(units, return_sequences=True)(h)
    return roughen(keras.Model(x, layers.Dense(3)(h), name="stacked"))


@cache
def uneven() -> Any:
    """Its states are of three sizes, none of which ends where the next tensor may begin."""
    keras.utils.set_random_seed(0)
    x = keras.Input((None, 3))
    h = layers.LSTM(24, return_sequences=True)(x)
    h = layers.GRU(40, return_sequences=True)(h)
    h = layers.LSTM(8, return_sequences=True)(h)
    return roughen(keras.Model(x, layers.Dense(3)(h), name="uneven"))


@cache
def branches() -> Any:
    """Its states are read at another scale as well, for which a recipe makes new tensors."""
    keras.utils.set_random_seed(0)
    x = keras.Input((None, 3))
    a = layers.LSTM(16, return_sequences=True)(x)
    b = layers.GRU(16, return_sequences=True)(x)
    h = layers.Concatenate()([a, b, layers.Maximum()([a, b])])
    return roughen(keras.Model(x, layers.Dense(3)(h), name="branches"))


MODELS = pytest.mark.parametrize(
    "make", [lambda: stacked(32), uneven, branches], ids=["stacked", "uneven", "branches"]
)


@cache
def converted(model: Any, recipe: str) -> Artifact:
    return quantize(model, DATA, recipe=recipe, allow_low_fidelity=True)


def copies(artifact: Artifact) -> int:
    """How many copies carry the states of a step over."""
    graph = open_graph(artifact.flatbuffer, Wiring.of(artifact.manifest), "litert")
    assert graph.memory is not None
    count = len(graph.memory.carries)
    graph.close()
    return count


def numbers(artifact: Artifact) -> tuple[list[int], list[int], int]:
    """The tensors' numbers of the states going in and coming out, and how many tensors there are.

    In the manifest's order.
    """
    tree = flatbuffer.read(artifact.flatbuffer)
    (signature,) = tree.signatureDefs
    ins = {t.name.decode(): int(t.tensorIndex) for t in signature.inputs}
    outs = {t.name.decode(): int(t.tensorIndex) for t in signature.outputs}
    pairs = artifact.manifest.states
    graph = tree.subgraphs[signature.subgraphIndex]
    # The signature and the graph still speak of the same tensors.
    assert sorted(ins.values()) == sorted(map(int, graph.inputs))
    assert sorted(outs.values()) == sorted(map(int, graph.outputs))
    return (
        [ins[pair.input.name] for pair in pairs],
        [outs[pair.output.name] for pair in pairs],
        len(graph.tensors),
    )


@pytest.mark.parametrize("recipe", ["int8-float", "int8-weight", "float32"])
@pytest.mark.parametrize("units", [32, 128])
def test_floats_of_one_size_are_carried_in_one_copy(units: int, recipe: str) -> None:
    artifact = converted(stacked(units), recipe)
    assert len(artifact.manifest.states) == 4
    assert copies(artifact) == 1


def test_integers_of_one_size_that_fill_lines_are_carried_in_one_copy() -> None:
    artifact = converted(stacked(128), "int8")
    assert len(artifact.manifest.states) == 4
    assert copies(artifact) == 1


@pytest.mark.parametrize("recipe", ["int8-float", "int8", "int8-weight", "float32", "int16x8"])
@MODELS
def test_states_have_the_lowest_numbers_in_the_same_order_on_both_sides(
    make: Any, recipe: str
) -> None:
    artifact = converted(make(), recipe)
    ins, outs, tensors = numbers(artifact)
    count = len(ins)
    assert sorted(ins) == list(range(count))
    assert [out - count for out in outs] == ins
    assert tensors > 2 * count
    sizes = [int(np.prod(pair.input.shape)) for pair in artifact.manifest.states]
    assert [sizes[ins.index(i)] for i in range(count)] == sorted(sizes, reverse=True)
    assert copies(artifact) <= count


@pytest.mark.parametrize("recipe", ["int8-float", "int8", "int8-weight", "float32", "int16x8"])
@MODELS
def test_the_order_of_the_tensors_does_not_change_a_number(
    make: Any, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered = converted(make(), recipe)
    with monkeypatch.context() as patched:
        patched.setattr(flatbuffer, "_states_first", lambda _tree: None)
        unordered = quantize(make(), DATA, recipe=recipe, allow_low_fidelity=True)
    assert numbers(unordered)[:2] != numbers(ordered)[:2]
    assert len(unordered.flatbuffer) == pytest.approx(len(ordered.flatbuffer), abs=256)
    with Session(ordered) as one, Session(unordered) as other:
        assert np.array_equal(one.replay(DATA[:500]), other.replay(DATA[:500]))
        assert one.verify() is None


# A state that comes out by the tensor through which another goes in


class Delay(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A cell with a memory of three readings, each passed on to the next as it is."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.state_size = [units] * 3
        self.output_size = units
        self.units = units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, x: Any, states: Any, **_: Any) -> Any:
        first, second, third = states
        z = keras.ops.matmul(x, self.kernel)
        return z + 0.5 * third, [z, first, second]


@pytest.mark.parametrize("recipe", ["float32", "int8-float", "int8-weight"])
def test_a_delay_line_is_carried_from_its_end(recipe: str) -> None:
    keras.utils.set_random_seed(0)
    x = keras.Input((None, 3))
    h = layers.RNN(Delay(4), return_sequences=True)(x)
    model = roughen(keras.Model(x, layers.Dense(3)(h), name="delay"))
    artifact = quantize(model, DATA, recipe=recipe)
    ins, outs, _ = numbers(artifact)
    assert set(ins) & set(outs)  # what makes it hard
    expected: NDArray[np.float32] = run_keras(model, DATA[:200])
    with Session(artifact) as session:
        y = np.array([session.step(x) for x in DATA[:200]])
    error = np.abs(y - expected).mean() / np.sqrt((expected**2).mean())
    assert error < (1e-5 if recipe == "float32" else 0.02)
