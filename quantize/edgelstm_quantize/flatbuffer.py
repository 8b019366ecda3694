"""TFLite flatbuffers as objects: put into one canonical form, and read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.flatbuffer import MARK


def read(model: bytes) -> Any:
    """The flatbuffer as an object tree; buffers that lie outside it are brought in."""
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.read_model_from_bytearray(bytearray(model))


def pack(tree: Any) -> bytes:
    """The object tree as a flatbuffer, all its buffers within."""
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(tree))


def operator_name(tree: Any, operator: Any) -> str:
    """The name of an operator, such as FULLY_CONNECTED."""
    from ai_edge_litert.tools import flatbuffer_utils

    return str(flatbuffer_utils.opcode_to_name(tree, operator.opcodeIndex))


def canonical(model: bytes) -> bytes:
    """Gives every FULLY_CONNECTED a bias: some kernels and compilers want one.

    Tensors are numbered as `_states_first` has them, and the model is marked as one of edgelstm's.
    """
    from ai_edge_litert import schema_py_generated as schema

    tree = read(model)
    for graph in tree.subgraphs:
        zeros: dict[int, int] = {}  # one bias of zeros per size
        for operator in graph.operators:
            if operator_name(tree, operator) != "FULLY_CONNECTED":
                continue
            inputs = list(operator.inputs)
            if len(inputs) > 2 and inputs[2] >= 0:
                continue
            units = int(graph.tensors[inputs[1]].shape[0])
            if units not in zeros:
                buffer = schema.BufferT()
                buffer.data = np.frombuffer(bytes(4 * units), np.uint8)
                tree.buffers.append(buffer)
                bias = schema.TensorT()
                bias.shape = np.array([units], np.int32)
                bias.type = schema.TensorType.FLOAT32
                bias.buffer = len(tree.buffers) - 1
                bias.name = f"no_bias_{units}".encode()
                graph.tensors.append(bias)
                zeros[units] = len(graph.tensors) - 1
            operator.inputs = np.array([*inputs[:2], zeros[units]], np.int32)
    _states_first(tree)
    tree.description = MARK.encode()
    return pack(tree)


def _states_first(tree: Any) -> None:
    """Numbers the states that go in first, and those that come out next, in the same order.

    Runtimes lay tensors of one size out in the order of their numbers. So the states lie side by
    side on both sides, and a session carries all of them over in one copy.
    """
    for signature in tree.signatureDefs or []:
        ins, outs = (
            {t.name: int(t.tensorIndex) for t in part}
            for part in (signature.inputs, signature.outputs)
        )
        pairs = [(i, outs[b"next_" + name]) for name, i in ins.items() if b"next_" + name in outs]
        graph = tree.subgraphs[signature.subgraphIndex]
        # Largest first: a runtime may sort by size, and keeps the order of equals.
        pairs.sort(key=lambda pair: -int(np.prod(graph.tensors[pair[0]].shape)))
        first = list(dict.fromkeys([i for i, _ in pairs] + [o for _, o in pairs]))
        rest = [i for i in range(len(graph.tensors)) if i not in first]
        _renumber(graph, signature, first + rest)


def _renumber(graph: Any, signature: Any, order: list[int]) -> None:
    new = {old: i for i, old in enumerate(order)} | {-1: -1}  # -1: an input that is left out

    def renumbered(indices: Any) -> NDArray[np.int32]:
        return np.array([new[int(i)] for i in indices], np.int32)

    graph.tensors = [graph.tensors[i] for i in order]
    graph.inputs, graph.outputs = renumbered(graph.inputs), renumbered(graph.outputs)
    for operator in graph.operators:
        operator.inputs = renumbered(operator.inputs)
        operator.outputs = renumbered(operator.outputs)
        if operator.intermediates is not None:
            operator.intermediates = renumbered(operator.intermediates)
    for tensor in (*signature.inputs, *signature.outputs):
        tensor.tensorIndex = new[tensor.tensorIndex]


def mend(model: bytes) -> bytes:
    """Puts right what ai-edge-quantizer leaves behind.

    From some size on it puts buffers behind the flatbuffer, where small runtimes do not look; and
    it leaves an output that nobody reads in float, so that a SPLIT has outputs of two types. Where
    an output is also read at another scale, it makes that other tensor the graph's output.
    """
    tree = read(model)
    for signature in tree.signatureDefs or []:
        named = [output.tensorIndex for output in signature.outputs]
        tree.subgraphs[signature.subgraphIndex].outputs = np.array(named, np.int32)
    for graph in tree.subgraphs:
        for operator in graph.operators:
            outputs = [graph.tensors[i] for i in operator.outputs]
            done = next((t for t in outputs if _quantized(t)), None)
            for tensor in outputs:
                if done is not None and not _quantized(tensor):
                    tensor.type, tensor.quantization = done.type, done.quantization
    return pack(tree)


def names_its_outputs(model: bytes) -> bool:
    """Whether the signature names the graph's own outputs."""
    from ai_edge_litert import schema_py_generated as schema

    packed = schema.Model.GetRootAs(model, 0)
    signature = packed.SignatureDefs(0)
    named = {signature.Outputs(i).TensorIndex() for i in range(signature.OutputsLength())}
    return named == set(packed.Subgraphs(0).OutputsAsNumpy().tolist())


def _quantized(tensor: Any) -> bool:
    quantization = tensor.quantization
    return quantization is not None and quantization.scale is not None


@dataclass(frozen=True)
class Constant:
    """A constant float tensor.

    Attributes:
        name: of the tensor.
        buffer: where its values are.
        uses: how many operators read it.
        values: its values.
    """

    name: str
    buffer: int
    uses: int
    values: NDArray[np.float32]


@dataclass(frozen=True)
class Product:
    """One FULLY_CONNECTED: `output = source @ kernel.T + bias`.

    Attributes:
        kernel: (rows, columns).
        bias: (rows,).
        source: name of the tensor that is multiplied, (n, columns).
        output: name of the tensor that it gives, (n, rows).
    """

    kernel: Constant
    bias: Constant
    source: str
    output: str


def products(model: bytes) -> tuple[list[Product], list[tuple[str, str]]]:
    """The products of a float model in canonical form, and which of them are added together.

    Returns:
        The products, and pairs of outputs that an ADD joins and nothing else reads.
    """
    tree = read(model)
    graph = tree.subgraphs[0]
    uses = Counter(int(i) for operator in graph.operators for i in operator.inputs)
    uses.update(int(i) for i in graph.outputs)

    def constant(index: int) -> Constant | None:
        tensor = graph.tensors[index]
        data = tree.buffers[tensor.buffer].data
        if data is None:
            return None
        values = np.frombuffer(bytes(data), np.float32).reshape(tensor.shape)
        return Constant(tensor.name.decode(), tensor.buffer, uses[index], values)

    found: list[Product] = []
    outputs: dict[int, str] = {}
    sums: list[tuple[str, str]] = []
    for operator in graph.operators:
        name = operator_name(tree, operator)
        if name == "FULLY_CONNECTED":
            kernel, bias = constant(operator.inputs[1]), constant(operator.inputs[2])
            source, output = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
            if kernel and bias:
                outputs[int(operator.outputs[0])] = output.name.decode()
                found.append(Product(kernel, bias, source.name.decode(), output.name.decode()))
        elif name == "ADD":
            first, second = (int(i) for i in operator.inputs)
            if {first, second} <= outputs.keys() and uses[first] == uses[second] == 1:
                sums.append((outputs[first], outputs[second]))
    return found, sums


def outputs_of(model: bytes, operation: str, scope: str) -> list[str]:
    """The names of what the operations of one kind give within a layer."""
    tree = read(model)
    graph = tree.subgraphs[0]
    names = [
        graph.tensors[operator.outputs[0]].name.decode()
        for operator in graph.operators
        if operator_name(tree, operator) == operation
    ]
    return [name for name in names if name.startswith(f"{scope}/")]


def with_constants(model: bytes, values: Mapping[int, NDArray[np.float32]]) -> bytes:
    """The model with other values in some buffers, of the same shapes."""
    tree = read(model)
    for buffer, array in values.items():
        tree.buffers[buffer].data = np.frombuffer(array.astype(np.float32).tobytes(), np.uint8)
    return pack(tree)
