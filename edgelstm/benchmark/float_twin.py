"""The float twin: the same graph with its int8 weights written out in float32."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import ConfigurationError, MissingDependencyError

_FILE_IDENTIFIER = b"TFL3"


def float_twin(flatbuffer: bytes) -> bytes:
    """The graph of a model whose activations are float, its weights as float32.

    Every constant that stands for real numbers is replaced by these numbers, and what turned it
    back into them while running is left out. The twin is for speed: its weights are still rounded
    as those of the model are.

    Args:
        flatbuffer: a TFLite model.

    Raises:
        MissingDependencyError: ai-edge-litert, which has the schema, is not installed.
        ConfigurationError: activations are integers, or nothing is quantised.
    """
    try:
        flatbuffers: Any = importlib.import_module("flatbuffers")  # it comes with ai-edge-litert
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise MissingDependencyError(
            "--against float needs ai-edge-litert, which knows the file format; "
            "run: pip install ai-edge-litert"
        ) from error
    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    for buffer in model.buffers:
        if buffer.offset and buffer.size:  # kept behind the tables, which are written anew here
            start = int(buffer.offset)
            data = flatbuffer[start : start + int(buffer.size)]
            buffer.data, buffer.offset, buffer.size = np.frombuffer(data, np.uint8), 0, 0
    if not sum(_dequantise(model, graph, schema) for graph in model.subgraphs):
        raise ConfigurationError(
            "This artifact is in float already; --against float is for int8-float and int8-weight."
        )
    builder = flatbuffers.Builder(len(flatbuffer))
    builder.Finish(model.Pack(builder), _FILE_IDENTIFIER)
    return bytes(builder.Output())


def _dequantise(model: Any, graph: Any, schema: Any) -> int:
    """Turns the constants of a graph into float32; returns how many there were."""
    types = schema.TensorType
    replaced = []
    for tensor in graph.tensors:
        if not _quantised(tensor):
            continue
        data = model.buffers[tensor.buffer].data
        if data is None:
            raise ConfigurationError(
                "No float twin can be made of an artifact whose activations are integers: convert "
                "the model with --recipe float32 as well, and set both side by side with "
                "'edgelstm compare'."
            )
        dtype = {types.INT8: np.int8, types.INT16: np.int16, types.INT32: np.int32}[tensor.type]
        raw = np.frombuffer(np.asarray(data, np.uint8).tobytes(), dtype).reshape(tensor.shape)
        buffer = schema.BufferT()  # a new one: two tensors may share the old one
        buffer.data = np.frombuffer(_real(raw, tensor.quantization).tobytes(), np.uint8)
        model.buffers.append(buffer)
        replaced.append(tensor.buffer)
        tensor.buffer = len(model.buffers) - 1
        tensor.type, tensor.quantization = types.FLOAT32, None
    used = {tensor.buffer for g in model.subgraphs for tensor in g.tensors}
    for index in replaced:
        if index not in used:
            model.buffers[index].data = None
    _leave_out_dequantize(model, graph, schema)
    return len(replaced)


def _quantised(tensor: Any) -> bool:
    quantization = tensor.quantization
    return quantization is not None and quantization.scale is not None


def _real(raw: NDArray[Any], quantization: Any) -> NDArray[np.float32]:
    """The numbers that raw values stand for, of the same shape."""
    shape = [1] * raw.ndim
    if len(quantization.scale) > 1:  # one for each channel
        shape[quantization.quantizedDimension] = -1
    scale = np.reshape(quantization.scale, shape)
    zero_point = np.reshape(quantization.zeroPoint, shape)
    real: NDArray[np.float32] = ((raw.astype(np.float64) - zero_point) * scale).astype(np.float32)
    return real


def _leave_out_dequantize(model: Any, graph: Any, schema: Any) -> None:
    """Takes out each DEQUANTIZE of what is float now; its readers read what it read."""
    builtin = schema.BuiltinOperator.DEQUANTIZE
    source: dict[int, int] = {}
    kept = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        of = graph.tensors[operator.inputs[0]] if len(operator.inputs) else None
        if code == builtin and of is not None and of.type == schema.TensorType.FLOAT32:
            source[int(operator.outputs[0])] = int(operator.inputs[0])
        else:
            kept.append(operator)
    for operator in kept:
        operator.inputs = np.array([source.get(int(i), int(i)) for i in operator.inputs], np.int32)
    graph.operators = kept
