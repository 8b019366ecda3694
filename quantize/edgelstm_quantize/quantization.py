"""Applies a recipe: a float graph becomes a quantised one, under the guards this needs."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import ConversionError
from edgelstm.manifest import StatePair, TensorSpec
from edgelstm_quantize import flatbuffer
from edgelstm_quantize.calibration import Ranges
from edgelstm_quantize.reasons import first_line
from edgelstm_quantize.recipes import Recipe
from edgelstm_quantize.tflite import open_reference, operations, quiet, signature
from edgelstm_quantize.tracing import StateTensor

_INT16_HEADROOM = 1.5  # costs half a bit of sixteen, and spares clipping beyond the recording
# Weights from which on a product is faster with its input rounded to int8. The inputs of a model
# and its outputs mostly pass through smaller ones, and there the rounding shows.
_WORTH_INTEGERS = 1024
_BIAS_LIMIT = 2**29  # of an int32 bias, so that sums stay clear of its end


@dataclass(frozen=True)
class QuantizedGraph:
    """A TFLite model and the tensors of its signature."""

    flatbuffer: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StatePair, ...]


def apply_recipe(
    recipe: Recipe,
    float_model: bytes,
    states: Sequence[StateTensor],
    ranges: Ranges,
    ends: tuple[Sequence[str], Sequence[str]],
    *,
    per_channel: bool = True,
    draft: bool = False,
) -> QuantizedGraph:
    """Quantises a float graph.

    Args:
        recipe: one of `RECIPES`.
        float_model: the TFLite model.
        states: the states of the graph.
        ranges: of every activation, from `calibrate`; for a recipe of integers.
        ends: names of the inputs and of the outputs, in order.
        per_channel: whether weights may have a scale per row; tflite-runtime computes such rows
            wrongly in `int8-float`.
        draft: whether it is only to be tried here: quicker, and not for every runtime.

    Raises:
        ConversionError: a guard found the quantised graph to be wrong.
    """
    if recipe.name == "float32":
        return _describe(float_model, states, ends)
    if not recipe.integer:
        return _describe(_quantize_weights(recipe, float_model, per_channel), states, ends)
    if recipe.dtype == "int16":
        ranges = {
            name: (low * _INT16_HEADROOM, high * _INT16_HEADROOM)
            for name, (low, high) in ranges.items()
        }

    def quantize(with_ranges: Ranges) -> QuantizedGraph:
        model = _quantize_all(
            recipe, float_model, with_ranges, per_channel=per_channel, draft=draft
        )
        return _describe(model, states, ends)

    graph = quantize(ranges)
    loose = [pair for pair in graph.states if not _same_quantization(pair)]
    if loose:
        # An operation with a fixed output scale (TANH: 1/128) does not take the range it is
        # given; the state's input must follow it then.
        names = signature(open_reference(float_model)).inputs
        forced = ranges | {names[p.input.name]["name"]: _range_of(p.output) for p in loose}
        graph = quantize(forced)
    for pair in graph.states:
        if not _same_quantization(pair):
            raise ConversionError(
                f"The state {pair.input.name} has another scale going in than coming out; "
                "the quantised model would drift."
            )
    _refuse_float_tensors(recipe, graph.flatbuffer)
    return graph


def _quantize_weights(recipe: Recipe, float_model: bytes, per_channel: bool) -> bytes:
    from ai_edge_quantizer import qtyping, quantizer, recipe_manager

    operations = qtyping.TFLOperationName
    options = {"num_bits": 8, "granularity": _granularity(per_channel)}
    manager = recipe_manager.RecipeManager()
    manager.add_weight_only_config(regex=".*", operation_name=operations.ALL_SUPPORTED, **options)
    if recipe.name == "int8-float":
        for product in flatbuffer.products(float_model)[0]:
            if product.kernel.values.size >= _WORTH_INTEGERS:
                # A scope is the name of what an operation gives. The latest match counts.
                manager.add_dynamic_config(
                    regex=f"^{re.escape(product.output)};$",
                    operation_name=operations.FULLY_CONNECTED,
                    **options,
                )
    worker = quantizer.Quantizer(bytearray(float_model), manager.get_quantization_recipe())
    return flatbuffer.mend(_run(worker, None))


def _quantize_all(
    recipe: Recipe, float_model: bytes, ranges: Ranges, *, per_channel: bool, draft: bool
) -> bytes:
    from ai_edge_quantizer import qtyping, quantizer, recipe_manager

    details = open_reference(float_model).get_tensor_details()
    ranks = {d["name"]: len(d["shape"]) for d in details}
    calibration: dict[str, dict[str, NDArray[np.float32]]] = {
        name: {
            "min": np.full((1,) * ranks[name], low, np.float32),
            "max": np.full((1,) * ranks[name], high, np.float32),
        }
        for name, (low, high) in ranges.items()
    }
    if recipe.dtype == "int16":
        for name, limits in _weight_floors(float_model, ranges).items():
            calibration[name] = {"min": -limits, "max": limits}
    manager = recipe_manager.RecipeManager()
    manager.add_static_config(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        activation_num_bits=np.iinfo(recipe.dtype).bits,
        weight_num_bits=8,
        weight_granularity=_granularity(per_channel),
    )
    worker = quantizer.Quantizer(bytearray(float_model), manager.get_quantization_recipe())
    model = _run(worker, calibration)
    if draft and flatbuffer.names_its_outputs(model):
        return model
    return flatbuffer.mend(model)


def _granularity(per_channel: bool) -> Any:
    from ai_edge_quantizer import qtyping

    kinds = qtyping.QuantGranularity
    return kinds.CHANNELWISE if per_channel else kinds.TENSORWISE


def _run(worker: Any, calibration: Any) -> bytes:
    # It draws progress bars on standard error, whatever it is told.
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        try:
            result = worker.quantize(calibration, enable_progress_report=False)
        except (ValueError, RuntimeError) as error:
            raise ConversionError(
                f"ai-edge-quantizer refused the model: {first_line(error)}."
            ) from error
    return bytes(result.quantized_model)


def _weight_floors(float_model: bytes, ranges: Ranges) -> dict[str, NDArray[np.float32]]:
    """Weight ranges, (rows, 1), for products whose int32 bias would saturate otherwise.

    A bias has the scale of the input times that of its row of weights. With int16 inputs that of
    a row of tiny weights is so small that the bias does not fit.
    """
    floors = {}
    for product in flatbuffer.products(float_model)[0]:
        input_scale = max(map(abs, ranges.get(product.source, (0.0, 0.0)))) / 32767
        if input_scale == 0:
            continue
        own = np.abs(product.kernel.values).max(axis=1)
        floor = 127 * np.abs(product.bias.values) / (input_scale * _BIAS_LIMIT)
        if (floor > own).any():
            floors[product.kernel.name] = np.maximum(own, floor)[:, None].astype(np.float32)
    return floors


def _describe(
    model: bytes, states: Sequence[StateTensor], ends: tuple[Sequence[str], Sequence[str]]
) -> QuantizedGraph:
    interpreter = open_reference(model)
    tensors = signature(interpreter)
    ins, outs = tensors.inputs, tensors.outputs
    # ai-edge-quantizer may rewire the graph's outputs and leave the signature on the old ones.
    if {d["index"] for d in outs.values()} != {
        d["index"] for d in interpreter.get_output_details()
    }:
        raise ConversionError("The quantised model's signature does not name its own outputs.")
    inputs, outputs = ends
    return QuantizedGraph(
        model,
        tuple(_spec(name, ins[name]) for name in inputs),
        tuple(_spec(name, outs[name]) for name in outputs),
        tuple(
            StatePair(_spec(s.name, ins[s.name]), _spec(s.output_name, outs[s.output_name]))
            for s in states
        ),
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
    high = (limits.max - spec.zero_point) * spec.scale
    # int16 is symmetric: its lowest code is not used.
    low = -high if spec.dtype == "int16" else (limits.min - spec.zero_point) * spec.scale
    return low, high


def _refuse_float_tensors(recipe: Recipe, model: bytes) -> None:
    interpreter = open_reference(model)
    floating = {
        d["index"]: d["name"] for d in interpreter.get_tensor_details() if d["dtype"] == np.float32
    }
    for op in operations(interpreter):
        # What stays in float stands behind a DEQUANTIZE, which is not the one to blame.
        blamed = floating.keys() & {int(i) for i in op["outputs"]}
        if op["op_name"] != "DEQUANTIZE" and blamed:
            # Tensors are called after the scope of their layer, but for the graph's own outputs.
            scope, inner, _ = floating[min(blamed)].partition("/")
            layer = f" (of {scope!r})" if inner else ""
            raise ConversionError(
                f"The operation {op['op_name']}{layer} stays in float, so the model is not "
                f"all {recipe.dtype}; replace the layer that needs it, or use --recipe int8-float."
            )
