"""Tells whether a model can run one step at a time, and if not, because of which layer."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np

from edgelstm.errors import CannotStreamError, ModelError
from edgelstm_quantize.layer_graph import (
    Call,
    LayerGraph,
    all_operations,
    check_form,
    is_tensor,
    open_up,
    with_options,
)
from edgelstm_quantize.pointwise import pointwise, works_on_channels
from edgelstm_quantize.reasons import first_line

layers = keras.layers
CONVOLUTIONS = (layers.Conv1D, layers.DepthwiseConv1D, layers.SeparableConv1D)
# Layers with something to remember: each use would need states of its own.
_REMEMBERING = (layers.RNN, *CONVOLUTIONS)
_USABLE_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
_NEEDS_WINDOW = "it needs the whole window at once"


def as_stream(model: keras.Model) -> LayerGraph:
    """Lays a model open that can run one step at a time.

    A last recurrent layer that answers once for a whole sequence is made to answer every step.

    Raises:
        CannotStreamError: a layer needs more than one step at a time; the message names it.
        ModelError: it can be converted in no way as it is.
    """
    check_form(model)
    refuse_what_never_works(model)
    for operation in all_operations(model):
        if reason := _why_not(operation):
            raise CannotStreamError(_blame(operation, "cannot stream", reason))
    try:
        graph = open_up(model, None, _answer_every_step)
    except ModelError:
        raise
    except Exception as error:  # a layer raises what it likes
        raise CannotStreamError(
            f"The model {model.name!r} cannot stream: its layers do not take a sequence of any "
            f"length ({first_line(error)})."
        ) from error
    _check_use(graph)
    return graph


def refuse_what_never_works(model: keras.Model) -> None:
    """Refuses what no mode converts.

    Raises:
        ModelError: no layer has a past, a layer masks, or one computes in half precision.
    """
    operations = list(all_operations(model))
    if not any(map(_has_past, operations)):
        raise ModelError(
            f"The model {model.name!r} has no recurrent layer (LSTM, GRU, SimpleRNN, RNN) "
            "and no causal convolution; edgelstm converts models with a past."
        )
    for operation in operations:
        if reason := _why_never(operation):
            raise ModelError(_blame(operation, "cannot be converted", reason))


def _has_past(operation: Any) -> bool:
    """Whether an operation makes more of a sequence than of its steps one by one."""
    if isinstance(operation, layers.Conv1D):
        return bool(operation.padding == "causal" and operation.kernel_size[0] > 1)
    return isinstance(operation, (layers.RNN, layers.Bidirectional))


def _why_never(operation: Any) -> str | None:
    if not isinstance(operation, layers.InputLayer) and not _USABLE_NAME.fullmatch(operation.name):
        return "TensorFlow takes no such name; rename it in letters, digits, '_', '.' and '-'"
    if getattr(operation, "compute_dtype", "float32") not in ("float32", "int32", "int64"):
        return f"it computes in {operation.compute_dtype}; build the model with the float32 policy"
    if isinstance(operation, layers.Masking):
        return (
            "it skips padded steps, and a stream of readings has none; build the model without it"
        )
    if isinstance(operation, layers.Embedding) and operation.mask_zero:
        return "its mask_zero=True skips steps; build the model with mask_zero=False"
    if isinstance(operation, layers.Lambda):
        return "what it computes cannot be seen; use a layer of Keras, or write its cell as a class"
    return None


def _why_not(operation: Any) -> str | None:
    """Why an operation cannot run one step at a time; None when it can, as far as can be seen."""
    if isinstance(operation, layers.RNN):
        if operation.go_backwards:
            return "it reads the sequence backwards"
        if operation.return_state:
            return "it hands its last state on, which is known at the end of the window only"
    elif isinstance(operation, CONVOLUTIONS):
        if set(np.atleast_1d(operation.strides)) != {1}:
            return "it skips steps (strides), so it has no answer for every reading"
        if operation.padding == "same":
            return "it looks into the future; use padding='causal'"
    elif isinstance(operation, layers.ZeroPadding1D):
        if operation.padding[1]:
            return "it adds steps after the end"
    elif isinstance(operation, layers.TimeDistributed):
        inner = operation.layer
        parts = list(all_operations(inner)) if isinstance(inner, keras.Model) else [inner]
        if any(isinstance(part, layers.RNN) for part in parts):
            return "it has a recurrent layer within each step"
    elif isinstance(operation, layers.Embedding | layers.InputLayer):
        return None
    elif type(operation).__name__ == "GetItem":
        return None  # checked where it is used
    elif not pointwise(operation):
        known = type(operation).__module__.startswith("keras.")
        if known:
            return _NEEDS_WINDOW
        return (
            "whether it treats each step by itself cannot be seen; if it does, wrap it in "
            "keras.layers.TimeDistributed"
        )
    return None


def _answer_every_step(layer: Any) -> Any:
    if isinstance(layer, layers.RNN) and not layer.return_sequences:
        return with_options(layer, return_sequences=True)
    return layer


def _check_use(graph: LayerGraph) -> None:
    """Refuses what only shows in how layers are used."""
    used = [id(call.operation) for call in graph.calls]
    for call in graph.calls:
        operation = call.operation
        if reason := _why_not_here(call, graph):
            raise CannotStreamError(_blame(operation, "cannot stream", reason))
        count = used.count(id(operation))
        if isinstance(operation, _REMEMBERING) and count > 1:
            raise ModelError(
                f"The layer {operation.name!r} is used {count} times, and each use would need "
                "states of its own; give each use a layer of its own."
            )


def _why_not_here(call: Call, graph: LayerGraph) -> str | None:
    operation = call.operation
    tensors = [a for a in keras.tree.flatten(call.args) if is_tensor(a)]
    if isinstance(operation, layers.RNN):
        given = [a for a in keras.tree.flatten([call.args[1:], call.kwargs]) if is_tensor(a)]
        if given:
            return "it is given an initial state or a mask, and a stream starts at zero"
        if not zero_start(operation):
            return "its cell does not start from zero states"
    elif isinstance(operation, CONVOLUTIONS):
        if operation.padding == "valid":
            missing = (operation.kernel_size[0] - 1) * operation.dilation_rate[0]
            if _padding_before(graph, call.inputs[0]) != missing:
                return (
                    "it shortens the sequence; use padding='causal', or ZeroPadding1D"
                    f"(({missing}, 0)) in front"
                )
    elif isinstance(operation, layers.ZeroPadding1D):
        readers = graph.readers(call.output)
        if not readers or not all(_shortens(reader.operation) for reader in readers):
            return "it lengthens the sequence, and no convolution with padding='valid' follows"
    elif type(operation).__name__ == "GetItem":
        if channels_taken(call) is None:
            return "it takes single steps out of the sequence; channels are x[..., a:b]"
    elif isinstance(operation, layers.PReLU):
        if len(operation.alpha.shape) > 1 and operation.alpha.shape[0] > 1:
            return "each step has slopes of its own; use shared_axes=[1]"
    elif not isinstance(operation, layers.TimeDistributed) and any(
        not works_on_channels(operation, len(t.shape)) for t in tensors
    ):
        return "it works along the time axis; give it the channels (axis=-1)"
    return None


def _shortens(operation: Any) -> bool:
    return isinstance(operation, CONVOLUTIONS) and operation.padding == "valid"


def _padding_before(graph: LayerGraph, tensor: Any) -> int:
    for call in graph.calls:
        if call.output is tensor and isinstance(call.operation, layers.ZeroPadding1D):
            return int(call.operation.padding[0])
    return 0


def zero_start(layer: Any) -> bool:
    """Whether a recurrent layer's states are zero at the start."""
    states = keras.tree.flatten(layer.get_initial_state(batch_size=1))
    return all(not np.any(keras.ops.convert_to_numpy(state)) for state in states)


def channels_taken(call: Call) -> slice | None:
    """The channels that `x[:, :, a:b]` or `x[..., a:b]` takes; None when it takes anything else."""
    key = call.args[1] if len(call.args) > 1 else call.kwargs.get("key")
    if not isinstance(key, (tuple, list)) or not isinstance(key[-1], slice):
        return None
    whole = all(part in (slice(None), Ellipsis) for part in key[:-1])
    last = Ellipsis in key or len(key) == len(call.inputs[0].shape)
    return key[-1] if whole and last else None


def _blame(operation: Any, what: str, reason: str) -> str:
    return f"The layer {operation.name!r} ({type(operation).__name__}) {what}: {reason}."
