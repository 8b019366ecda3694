"""Applies a recipe: a float step graph becomes a quantised one, under the guards this needs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.errors import ConversionError
from edgelstm.manifest import StatePair, TensorSpec
from edgelstm_quantize.calibration import Ranges
from edgelstm_quantize.recipes import Recipe
from edgelstm_quantize.step_graph import INPUT, OUTPUT, StateTensor
from edgelstm_quantize.tflite import open_reference, operations, quiet, signature

# ai-edge-quantizer draws progress bars otherwise.
os.environ.setdefault("TQDM_DISABLE", "1")


@dataclass(frozen=True)
class QuantizedGraph:
    """A TFLite model and the tensors of its signature."""

    flatbuffer: bytes
    input: TensorSpec
    output: TensorSpec
    states: tuple[StatePair, ...]
    operations: tuple[str, ...]


def apply_recipe(
    recipe: Recipe, float_model: bytes, states: Sequence[StateTensor], ranges: Ranges
) -> QuantizedGraph:
    """Quantises a float step graph.

    Args:
        recipe: one of `RECIPES`.
        float_model: the TFLite model.
        states: the states of the step graph.
        ranges: of every activation, from `record_ranges`; for a recipe that needs them.

    Raises:
        ConversionError: a guard found the quantised graph to be wrong.
    """
    if not recipe.needs_ranges:
        return _describe(float_model, states)
    graph = _describe(_quantize_int8(float_model, ranges), states)
    loose = [pair for pair in graph.states if not _same_quantization(pair)]
    if loose:
        # An operation with a fixed output scale (TANH: 1/128) does not take the range it is
        # given; the state's input must follow it then.
        forced = ranges | {
            _tensor_name(float_model, pair.input.name): _range_of(pair.output) for pair in loose
        }
        graph = _describe(_quantize_int8(float_model, forced), states)
    for pair in graph.states:
        if not _same_quantization(pair):
            raise ConversionError(
                f"The state {pair.input.name} has another scale going in than coming out; "
                "the quantised model would drift."
            )
    _refuse_float_tensors(graph.flatbuffer)
    return graph


def _quantize_int8(float_model: bytes, ranges: Ranges) -> bytes:
    from ai_edge_quantizer import quantizer, recipe

    ranks = {d["name"]: len(d["shape"]) for d in open_reference(float_model).get_tensor_details()}
    calibration = {
        name: {
            "min": np.full((1,) * ranks[name], low, np.float32),
            "max": np.full((1,) * ranks[name], high, np.float32),
        }
        for name, (low, high) in ranges.items()
    }
    worker = quantizer.Quantizer(bytearray(float_model), recipe.static_wi8_ai8())
    with quiet():
        try:
            result = worker.quantize(calibration, enable_progress_report=False)
        except (ValueError, RuntimeError) as error:
            raise ConversionError(f"ai-edge-quantizer refused the model: {error}") from error
    return bytes(result.quantized_model)


def _describe(model: bytes, states: Sequence[StateTensor]) -> QuantizedGraph:
    interpreter = open_reference(model)
    tensors = signature(interpreter)
    ins, outs = tensors.inputs, tensors.outputs
    # ai-edge-quantizer may rewire the graph's outputs and leave the signature on the old ones.
    if {d["index"] for d in outs.values()} != {
        d["index"] for d in interpreter.get_output_details()
    }:
        raise ConversionError("The quantised model's signature does not name its own outputs.")
    return QuantizedGraph(
        model,
        _spec(INPUT, ins[INPUT]),
        _spec(OUTPUT, outs[OUTPUT]),
        tuple(
            StatePair(_spec(s.name, ins[s.name]), _spec(s.output_name, outs[s.output_name]))
            for s in states
        ),
        tuple(sorted({op["op_name"] for op in operations(interpreter)} - {"DELEGATE"})),
    )


def _spec(name: str, detail: dict[str, Any]) -> TensorSpec:
    scale, zero_point = detail["quantization"]
    shape = tuple(int(n) for n in detail["shape"])
    return TensorSpec(name, np.dtype(detail["dtype"]).name, shape, float(scale), int(zero_point))


def _same_quantization(pair: StatePair) -> bool:
    a, b = pair.input, pair.output
    return (a.scale, a.zero_point, a.dtype) == (b.scale, b.zero_point, b.dtype)


def _range_of(spec: TensorSpec) -> tuple[float, float]:
    limits = np.iinfo(spec.dtype)
    return (
        (limits.min - spec.zero_point) * spec.scale,
        (limits.max - spec.zero_point) * spec.scale,
    )


def _tensor_name(model: bytes, name_in_signature: str) -> str:
    detail = signature(open_reference(model)).inputs[name_in_signature]
    return str(detail["name"])


def _refuse_float_tensors(model: bytes) -> None:
    interpreter = open_reference(model)
    floating = {d["index"] for d in interpreter.get_tensor_details() if d["dtype"] == np.float32}
    for op in operations(interpreter):
        # What stays in float stands behind a DEQUANTIZE, which is not the one to blame.
        if op["op_name"] != "DEQUANTIZE" and floating & {int(i) for i in op["outputs"]}:
            raise ConversionError(
                f"The operation {op['op_name']} stays in float, so the model is not all int8; "
                "replace the layer that needs it, or use --recipe float32."
            )
