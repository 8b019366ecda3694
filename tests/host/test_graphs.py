"""Canonical graphs: the fewest operations, by name and number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import keras
import pytest
from ai_edge_litert import schema_py_generated as schema
from stepping import candidates_of, sequences, signals

from edgelstm_quantize.flatbuffer import operator_name, read

layers = keras.layers
DATA = signals(100)


def lstm(x: Any, **options: Any) -> Any:
    return layers.LSTM(4, return_sequences=True, **options)(x)


def gru(x: Any, **options: Any) -> Any:
    return layers.GRU(4, return_sequences=True, **options)(x)


LSTM = "FULLY_CONNECTED 2, SPLIT 1, ADD 2, MUL 3, LOGISTIC 3, TANH 2"
# In int8 the candidate has a product of its own, and c' = c + (i g - (1 - f) c).
LSTM_IN_INT8 = "FULLY_CONNECTED 4, SPLIT 1, ADD 3, SUB 1, MUL 3, LOGISTIC 3, TANH 2"
GRU = "FULLY_CONNECTED 2, SPLIT 2, ADD 4, MUL 2, SUB 1, LOGISTIC 2, TANH 1"
DENSE = "FULLY_CONNECTED 1"
GRAPHS: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "lstm": (lstm, [LSTM]),
    "lstm without bias": (lambda x: lstm(x, use_bias=False), [LSTM]),
    "two lstm and dense": (lambda x: layers.Dense(3)(lstm(lstm(x))), [LSTM, LSTM, DENSE]),
    "gru": (gru, [GRU]),
    "gru without bias": (lambda x: gru(x, use_bias=False), [GRU]),
    "gru, reset before": (
        lambda x: gru(x, reset_after=False),
        ["FULLY_CONNECTED 3, SPLIT 2, ADD 4, MUL 2, SUB 1, LOGISTIC 2, TANH 1"],
    ),
    "simple rnn": (
        lambda x: layers.SimpleRNN(4, return_sequences=True)(x),
        ["FULLY_CONNECTED 2, ADD 1, TANH 1"],
    ),
    "last answer": (lambda x: layers.Dense(2)(layers.LSTM(4)(x)), [LSTM, DENSE]),
    "dropouts": (lambda x: layers.Dropout(0.5)(lstm(layers.SpatialDropout1D(0.5)(x))), [LSTM]),
    "batch normalization": (
        lambda x: layers.BatchNormalization()(lstm(x)),
        [LSTM, "MUL 1, ADD 1"],
    ),
    "causal convolution": (
        lambda x: layers.Conv1D(4, 3, padding="causal", activation="relu")(lstm(x)),
        # The last inputs: joined with the new one, and all but the oldest taken as the new state.
        [LSTM, "CONCATENATION 1, FULLY_CONNECTED 1, STRIDED_SLICE 1"],
    ),
}


def counts(text: str) -> Counter[str]:
    return Counter({part.split()[0]: int(part.split()[1]) for part in text.split(", ")})


@pytest.mark.parametrize("arithmetic", ["float32", "int8"])
@pytest.mark.parametrize("name", GRAPHS)
def test_a_step_has_no_needless_operations(name: str, arithmetic: Any) -> None:
    body, parts = GRAPHS[name]
    if arithmetic == "int8":
        parts = [LSTM_IN_INT8 if part == LSTM else part for part in parts]
    expected = sum((counts(part) for part in parts), Counter())
    tree = read(candidates_of(sequences(body), DATA).forms.get(arithmetic).float_model)
    (graph,) = tree.subgraphs
    found = Counter(operator_name(tree, op) for op in graph.operators)
    assert found == expected
    for operator in graph.operators:
        if operator_name(tree, operator) == "FULLY_CONNECTED":
            assert len(operator.inputs) == 3
            assert operator.inputs[2] >= 0
            bias = graph.tensors[operator.inputs[2]]
            assert list(bias.shape) == [graph.tensors[operator.inputs[1]].shape[0]]
            assert bias.type == schema.TensorType.FLOAT32


def test_there_are_no_variables_and_no_loops() -> None:
    model = sequences(lambda x: gru(lstm(x, stateful=False, unroll=False)))
    tree = read(candidates_of(model, DATA).forms.get("float32").float_model)
    assert len(tree.subgraphs) == 1
    assert not any(tensor.isVariable for tensor in tree.subgraphs[0].tensors)
    (signed,) = tree.signatureDefs
    assert signed.signatureKey == b"step"
    assert {t.name for t in signed.inputs} == {b"x", b"state_0", b"state_1", b"state_2"}
    assert {t.name for t in signed.outputs} == {
        b"y",
        *(b"next_state_0", b"next_state_1", b"next_state_2"),
    }
