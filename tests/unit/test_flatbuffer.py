from __future__ import annotations

import io
import random
import struct
import time
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm import flatbuffer
from edgelstm.artifact import Artifact
from edgelstm.errors import ArtifactError
from edgelstm.flatbuffer import MARK, Model, read_flatbuffer
from edgelstm_quantize.flatbuffer import operator_name, pack, read

NAMES = ("tiny", "tiny_float", "tiny_float32", "tiny_window", "tiny_ports", "tiny_tokens")


def changed(artifact: Artifact, change: Callable[[Any], object]) -> bytes:
    """The artifact's model with something else in it."""
    tree = read(artifact.flatbuffer)
    change(tree)
    return pack(tree)


def refusal(data: bytes) -> str:
    with pytest.raises(ArtifactError) as caught:
        read_flatbuffer(data)
    return str(caught.value)


def numbers(enumeration: Any) -> dict[int, str]:
    return {v: k for k, v in vars(enumeration).items() if not k.startswith("_")}


# What it reads, beside TFLite's own reader, which checks nothing


@pytest.mark.parametrize("name", NAMES)
def test_reads_what_tflite_reads(name: str, request: pytest.FixtureRequest) -> None:
    data = request.getfixturevalue(name).flatbuffer
    model, tree = read_flatbuffer(data), read(data)
    types = numbers(schema.TensorType)
    assert model.version == tree.version == 3
    assert model.description == tree.description.decode() == MARK
    assert model.metadata == tuple(m.name.decode() for m in tree.metadata)
    (graph,), (expected,) = model.subgraphs, tree.subgraphs
    assert graph.inputs == tuple(expected.inputs)
    assert graph.outputs == tuple(expected.outputs)
    assert len(graph.tensors) == len(expected.tensors)
    for tensor, other in zip(graph.tensors, expected.tensors, strict=True):
        assert tensor.name == other.name.decode()
        assert tensor.dtype == types[other.type].lower()
        assert tensor.shape == tuple(() if other.shape is None else other.shape)
        quantization = other.quantization
        quantized = quantization is not None and quantization.scale is not None
        assert tensor.scales == tuple(quantization.scale if quantized else ())
        assert tensor.zero_points == tuple(quantization.zeroPoint if quantized else ())
        values = tree.buffers[other.buffer].data
        assert tensor.constant_bytes == (0 if values is None else len(values))
        assert tensor.storage == "dense"
        assert not tensor.variable
    found = [(o.name, o.inputs, o.outputs, o.version, o.custom) for o in graph.operators]
    assert found == [
        (
            operator_name(tree, o),
            tuple(o.inputs),
            tuple(o.outputs),
            tree.operatorCodes[o.opcodeIndex].version,
            False,
        )
        for o in expected.operators
    ]
    (signature,), (named,) = model.signatures, tree.signatureDefs
    assert (signature.name, signature.subgraph) == ("step", 0)
    assert signature.inputs == {t.name.decode(): t.tensorIndex for t in named.inputs}
    assert signature.outputs == {t.name.decode(): t.tensorIndex for t in named.outputs}


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_the_manifest(name: str, request: pytest.FixtureRequest) -> None:
    artifact = request.getfixturevalue(name)
    model = read_flatbuffer(artifact.flatbuffer)
    assert model.operations == artifact.manifest.operations
    assert model.minimum_runtime == "1.14.0"


def test_names_of_operators_and_types_are_those_of_tflite() -> None:
    assert dict(enumerate(flatbuffer._OPERATORS)) == numbers(schema.BuiltinOperator)
    types = {number: name.lower() for number, name in numbers(schema.TensorType).items()}
    assert dict(enumerate(name for name, _ in flatbuffer._TYPES)) == types
    for name, bits in flatbuffer._TYPES:
        if bits >= 8 and name in np.sctypeDict:
            assert np.dtype(name).itemsize * 8 == bits
    options = numbers(schema.BuiltinOptions)
    assert {options[n] for n in flatbuffer._LISTS_IN_OPTIONS} == {
        "ReshapeOptions",
        "SqueezeOptions",
        "BucketizeOptions",
        "VarHandleOptions",
    }


def test_weights_count_once(tiny_float32: Artifact) -> None:
    tree = read(tiny_float32.flatbuffer)
    used = {t.buffer for t in tree.subgraphs[0].tensors}
    sizes = [0 if tree.buffers[i].data is None else len(tree.buffers[i].data) for i in used]
    model = read_flatbuffer(tiny_float32.flatbuffer)
    # LSTM(8) on 2 channels and Dense(2): kernels and biases, and a few numbers of 4 bytes.
    weights = 4 * (2 * 32 + 8 * 32 + 32 + 8 * 2 + 2)
    assert weights <= model.weights_bytes == sum(sizes) < weights + 200

    def share(tree: Any) -> None:
        tensors = tree.subgraphs[0].tensors
        tensors.append(next(t for t in tensors if tree.buffers[t.buffer].data is not None))

    assert read_flatbuffer(changed(tiny_float32, share)).weights_bytes == model.weights_bytes


def test_what_the_tiny_models_do_not_have(tiny_float32: Artifact) -> None:
    def change(tree: Any) -> None:
        graph = tree.subgraphs[0]
        weights = next(t for t in graph.tensors if t.shape is not None and list(t.shape) == [32, 2])
        weights.quantization = schema.QuantizationParametersT()
        weights.quantization.scale = np.full(32, 0.5, np.float32)
        weights.quantization.zeroPoint = np.arange(32)
        graph.tensors[0].shapeSignature = np.array([-1, 8], np.int32)
        graph.tensors[1].isVariable = True
        graph.tensors[2].type = schema.TensorType.INT4
        tree.operatorCodes[0].builtinCode = tree.operatorCodes[0].deprecatedBuiltinCode = 32
        tree.operatorCodes[0].customCode = "edgetpu-custom-op"
        tree.operatorCodes[1].builtinCode = 5000
        tree.subgraphs.append(graph)
        tree.signatureDefs[0].subgraphIndex = 1
        tree.description = None

    model = read_flatbuffer(changed(tiny_float32, change))
    first, second, third, *rest = model.subgraphs[0].tensors
    (weights,) = [t for t in rest if t.per_channel]
    assert (weights.scales, weights.zero_points, weights.axis) == (
        (0.5,) * 32,
        tuple(range(32)),
        0,
    )
    assert (first.shape, first.shape_signature) == ((1, 8), (-1, 8))
    assert second.variable
    assert (third.dtype, third.nbytes) == ("int4", 4)
    assert model.custom_operations == ("edgetpu-custom-op",)
    assert "OPERATOR_5000" in {o.name for o in model.operations}
    assert model.subgraphs[0] == model.subgraphs[1]
    assert model.signatures[0].subgraph == 1
    assert model.description == ""
    counts = Counter(o.name for graph in model.subgraphs for o in graph.operators)
    assert {o.name: o.count for o in model.operations} == dict(counts)


def test_without_signatures(tiny: Artifact) -> None:
    def change(tree: Any) -> None:
        tree.signatureDefs = None
        tree.metadata = None

    model = read_flatbuffer(changed(tiny, change))
    assert (model.signatures, model.metadata, model.minimum_runtime) == ((), (), "")


def test_buffers_behind_the_flatbuffer(tiny: Artifact) -> None:
    """As tools write models of more than 2 GB."""

    def change(tree: Any) -> None:
        graph = tree.subgraphs[0]
        at = next(t for t in graph.tensors if tree.buffers[t.buffer].data is not None)
        buffer = tree.buffers[at.buffer]
        size = len(buffer.data)
        buffer.data, buffer.offset, buffer.size = None, 8000, size

    data = changed(tiny, change)
    assert len(data) < 8000
    assert "a buffer leads out of the file" in refusal(data)
    whole = read_flatbuffer(data + bytes(3000))
    assert whole.weights_bytes == read_flatbuffer(tiny.flatbuffer).weights_bytes


def test_what_follows_the_flatbuffer_is_left_alone(tiny: Artifact) -> None:
    buffer = io.BytesIO(tiny.flatbuffer)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("labels.txt", "calm\nstorm\n")
    assert read_flatbuffer(buffer.getvalue()) == read_flatbuffer(tiny.flatbuffer)


# Damage


def test_no_tflite_model() -> None:
    for data in (b"", b"TFL3", b"time,flow\n0,1\n", bytes(5000)):
        assert refusal(data) == ("This is no TFLite model: the mark TFL3 is missing at its start.")


def test_every_truncation_is_refused_or_harmless(tiny: Artifact) -> None:
    data = tiny.flatbuffer
    model = read_flatbuffer(data)
    harmless = 0
    for length in range(len(data)):
        try:
            assert read_flatbuffer(data[:length]) == model
        except ArtifactError:
            continue
        harmless += 1
        assert length > len(data) - 4  # padding
    assert harmless < 4


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bits_are_refused_or_give_another_model(
    name: str, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(name).flatbuffer
    rng = random.Random(0)  # noqa: S311  # no secret
    outcomes: Counter[bool] = Counter()
    for _ in range(800):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 5, 30))):
            bit = rng.randrange(8 * len(damaged))
            damaged[bit // 8] ^= 1 << bit % 8
        try:
            outcomes[isinstance(read_flatbuffer(bytes(damaged)), Model)] += 1
        except ArtifactError as error:
            outcomes[False] += 1
            assert str(error).endswith("where it was made.") or "TFL3" in str(error)  # noqa: PT017
    assert outcomes[True] > 50
    assert outcomes[False] > 50


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 400))
def test_any_bytes_behind_the_mark(data: bytes, root: int) -> None:
    try:
        read_flatbuffer(root.to_bytes(4, "little") + b"TFL3" + data)
    except ArtifactError:
        return


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_words_written_over_a_model(tiny: Artifact, data: st.DataObject) -> None:
    damaged = bytearray(tiny.flatbuffer)
    for _ in range(data.draw(st.integers(1, 4))):
        at = 4 * data.draw(st.integers(2, len(damaged) // 4 - 1))
        word = data.draw(st.one_of(st.integers(0, 2**32 - 1), st.integers(0, len(damaged))))
        damaged[at : at + 4] = word.to_bytes(4, "little")
    try:
        read_flatbuffer(bytes(damaged))
    except ArtifactError:
        return


@pytest.mark.slow
def test_tables_that_share_a_long_list_are_refused_soon() -> None:
    """160 kB that would stand for 400 million tensors."""
    count = 20_000
    builder = schema.flatbuffers.Builder(0)

    def list_of(table: int, start: Callable[[Any, int], object]) -> int:
        start(builder, count)
        for _ in range(count):
            builder.PrependUOffsetTRelative(table)
        return int(builder.EndVector())

    schema.TensorStart(builder)
    tensors = list_of(schema.TensorEnd(builder), schema.SubGraphStartTensorsVector)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    graphs = list_of(schema.SubGraphEnd(builder), schema.ModelStartSubgraphsVector)
    schema.BufferStart(builder)
    buffer = schema.BufferEnd(builder)
    schema.ModelStartBuffersVector(builder, 1)
    builder.PrependUOffsetTRelative(buffer)
    buffers = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    data = bytes(builder.Output())
    assert len(data) < 10 * count
    start = time.monotonic()
    tracemalloc.start()
    assert "its parts overlap" in refusal(data)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.monotonic() - start < 20
    assert most < 200 * len(data)


def set_to(path: str, value: object) -> Callable[[Any], None]:
    def change(tree: Any) -> None:
        *way, last = path.split(".")
        at = tree
        for part in way:
            at = at[int(part)] if part.isdigit() else getattr(at, part)
        setattr(at, last, value)

    return change


def array(*values: int) -> Any:
    return np.array(values, np.int32)


DAMAGE: list[tuple[str, object, str]] = [
    ("subgraphs", [], "it has no graph"),
    ("subgraphs.0.inputs", array(0, 1, 99), "a tensor is missing"),
    ("subgraphs.0.inputs", array(0, 1, -1), "a tensor is missing"),
    ("subgraphs.0.outputs", array(99), "a tensor is missing"),
    ("subgraphs.0.operators.0.inputs", array(0, 99), "a tensor is missing"),
    ("subgraphs.0.operators.0.inputs", array(0, -2), "a tensor is missing"),
    ("subgraphs.0.operators.0.outputs", array(-1), "a tensor is missing"),
    ("subgraphs.0.operators.0.intermediates", array(99), "a tensor is missing"),
    ("subgraphs.0.operators.0.opcodeIndex", 99, "an operation has no code"),
    ("subgraphs.0.operators.0.largeCustomOptionsSize", 2**40, "options lead out of the file"),
    ("subgraphs.0.tensors.0.buffer", 9999, "a buffer is missing"),
    ("subgraphs.0.tensors.0.type", -3, "a tensor has no type"),
    ("subgraphs.0.tensors.0.shape", array(1, -8), "a shape is none"),
    ("subgraphs.0.tensors.0.shapeSignature", array(1), "a shape is none"),
    ("subgraphs.0.tensors.0.quantization.zeroPoint", array(0, 0), "as many scales as zero points"),
    ("metadata.0.buffer", 9999, "a buffer is missing"),
    ("signatureDefs.0.subgraphIndex", 1, "a signature has no graph"),
    ("signatureDefs.0.inputs.0.tensorIndex", 99, "a tensor is missing"),
    ("signatureDefs.0.outputs.0.tensorIndex", 99, "a tensor is missing"),
    ("signatureDefs.0.inputs.0.name", "x", "two tensors of a signature have one name"),
]


@pytest.mark.parametrize(("path", "value", "reason"), DAMAGE, ids=[f"{d[0]}" for d in DAMAGE])
def test_says_what_is_damaged(tiny: Artifact, path: str, value: object, reason: str) -> None:
    message = refusal(changed(tiny, set_to(path, value)))
    assert message.startswith("The TFLite model is damaged (")
    assert reason in message
    assert message.endswith("): copy it again from where it was made.")


def test_a_constant_of_a_wrong_size(tiny: Artifact) -> None:
    def change(tree: Any) -> None:
        tensors = tree.subgraphs[0].tensors
        constant = next(t for t in tensors if tree.buffers[t.buffer].data is not None)
        constant.shape = array(3, 7)

    assert "a constant has a wrong size" in refusal(changed(tiny, change))


def test_scales_that_do_not_fit_the_channels(tiny: Artifact) -> None:
    def change(tree: Any) -> None:
        quantization = tree.subgraphs[0].tensors[0].quantization
        quantization.scale, quantization.zeroPoint = np.ones(3, np.float32), array(0, 0, 0)

    assert "as many scales as channels" in refusal(changed(tiny, change))


def test_two_signatures_of_one_name(tiny: Artifact) -> None:
    def change(tree: Any) -> None:
        tree.signatureDefs.append(tree.signatureDefs[0])

    assert "two signatures have one name" in refusal(changed(tiny, change))


def root_table(
    fields: dict[int, int], *, root: int = 28, size: int = 16, more: bytes = b""
) -> bytes:
    """A file of one table, at byte 28, whose fields lie at these offsets; `more` is in it."""
    offsets = [fields.get(i, 0) for i in range(8)]
    head = root.to_bytes(4, "little") + b"TFL3" + struct.pack("<10H", 20, size, *offsets)
    return head + struct.pack("<i", 20) + more.ljust(12, b"\0") + bytes(4)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (root_table({}), "it has no graph"),
        (root_table({}, root=30), "an offset is not aligned"),
        (root_table({}, root=400), "an offset leads out of the file"),
        (root_table({}, size=21), "a table leads out of the file"),
        (root_table({0: 16}), "a field leads out of a table"),
        (root_table({0: 2}), "a field leads out of a table"),
        (root_table({4: 13}), "a field leads out of its table"),
        (root_table({4: 4}, more=struct.pack("<II", 4, 99)), "a list leads out of the file"),
    ],
)
def test_table_that_leads_elsewhere(data: bytes, reason: str) -> None:
    assert f"({reason})" in refusal(data)


def test_options_with_a_list_that_leads_out_of_the_file(tiny: Artifact) -> None:
    """An interpreter follows it."""

    def change(tree: Any) -> None:
        operator = tree.subgraphs[0].operators[0]
        operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
        operator.builtinOptions = schema.ReshapeOptionsT()
        operator.builtinOptions.newShape = array(1234567, 7654321)

    data = bytearray(changed(tiny, change))
    assert read_flatbuffer(bytes(data)).subgraphs
    at = data.index(struct.pack("<3i", 2, 1234567, 7654321))
    data[at : at + 4] = struct.pack("<i", len(data))
    assert "a list leads out of the file" in refusal(bytes(data))


def test_old_files_have_their_operations_in_another_field(tiny: Artifact) -> None:
    def change(tree: Any) -> None:
        for code in tree.operatorCodes:
            code.builtinCode = 0

    model = read_flatbuffer(changed(tiny, change))
    assert model.operations == tiny.manifest.operations


def test_scale_without_zero_point_is_none(tiny: Artifact) -> None:
    first = set_to("subgraphs.0.tensors.0.quantization.zeroPoint", None)
    tensor = read_flatbuffer(changed(tiny, first)).subgraphs[0].tensors[0]
    assert (tensor.scales, tensor.zero_points) == ((), ())
