"""What a TFLite flatbuffer says about itself, read from bytes that nobody vouches for.

A flatbuffer is tables that point to one another: an interpreter that is given a damaged one follows
its offsets out of the file, and the process ends. Here every offset, length and index is checked
before it is followed, so that any bytes give a `Model` or an `ArtifactError`. Neither a TFLite
runtime nor the package flatbuffers is needed: armv7 has only the first, and the second reads
without checking.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm.errors import ArtifactError
from edgelstm.manifest import Operation

IDENTIFIER = b"TFL3"  # at byte 4
MARK = "edgelstm step graph"
"""The description of every model that edgelstm converts."""
EDGE_TPU = "edgetpu-custom-op"
"""The custom operation that stands for what runs on an Edge TPU."""

# How often the whole file may be read. A model without weights takes 1.2 times; a file in which a
# thousand tables share one long list would otherwise take hours.
_READS = 4
_CUSTOM = 32  # the operator code of operations that have a name of their own
# Options that hold lists or texts, by the number of their type: reshape, squeeze, bucketize and
# the handle of a variable. An interpreter follows these offsets.
_LISTS_IN_OPTIONS = {17: (0,), 30: (0,), 115: (0,), 111: (0, 1)}

# TFLite's TensorType: the name, and the bits of one value (0: it depends).
_TYPES = (
    *(("float32", 32), ("float16", 16), ("int32", 32), ("uint8", 8), ("int64", 64)),
    *(("string", 0), ("bool", 8), ("int16", 16), ("complex64", 64), ("int8", 8), ("float64", 64)),
    *(("complex128", 128), ("uint64", 64), ("resource", 0), ("variant", 0), ("uint32", 32)),
    *(("uint16", 16), ("int4", 4), ("bfloat16", 16), ("int2", 2), ("uint4", 4)),
    *(("float8_e4m3fn", 8), ("float8_e5m2", 8)),
)
_BITS = dict(_TYPES)
# TFLite's BuiltinOperator, in the order of its numbers.
_NAMES = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6
RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL
CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND
SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST
PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN
TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW
ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK
REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR
LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS
WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS
HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE
READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM
MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX
UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT
STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM
STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM
STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS
STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG
STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT
STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE
STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD
STABLEHLO_IOTA STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE
STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW
STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
"""
_OPERATORS = _NAMES.split()


@dataclass(frozen=True)
class Tensor:
    """A tensor.

    Attributes:
        name: of the tensor.
        dtype: numpy's name for its type where numpy has it, else TFLite's in small letters.
        shape: as stored; a free axis is 1 here.
        shape_signature: the same with -1 for a free axis.
        scales: `real = (raw - zero_point) * scale`, one for each index of `axis`, or one for all;
            none for a tensor that is not quantised.
        zero_points: as many as there are scales.
        axis: that the scales belong to, where there are several.
        constant_bytes: size of its values in the file; 0 for a tensor that is computed.
        variable: whether it keeps its value from one run to the next.
        storage: "dense"; "sparse" or "external" (in another file) for values that are not checked.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int
    constant_bytes: int
    variable: bool
    storage: str

    @property
    def nbytes(self) -> int:
        """The size of its values in bytes; 0 where its type leaves it open."""
        return _size(self.shape, _BITS.get(self.dtype, 0))

    @property
    def per_channel(self) -> bool:
        """Whether it has several scales."""
        return len(self.scales) > 1

    @property
    def constant(self) -> bool:
        """Whether the file holds its values (one without any values holds them, too)."""
        return self.constant_bytes > 0 or 0 in self.shape


@dataclass(frozen=True)
class Operator:
    """One operation of a graph.

    Attributes:
        name: TFLite's name for it, such as FULLY_CONNECTED, or its own if it is a custom one.
        version: of the operation.
        custom: whether the runtime must be taught it.
        inputs: indices of tensors, -1 for one that is left out.
        outputs: indices of tensors.
    """

    name: str
    version: int
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Subgraph:
    """One graph of a model; the first is the one that an interpreter runs.

    Attributes:
        tensors: all of its tensors.
        inputs: indices of tensors.
        outputs: indices of tensors.
        operators: in the order in which they run.
    """

    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True)
class Signature:
    """Names for the inputs and outputs of a subgraph.

    Attributes:
        name: such as "serving_default".
        subgraph: index of the subgraph.
        inputs: name -> index of the tensor.
        outputs: name -> index of the tensor.
    """

    name: str
    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclass(frozen=True)
class Model:
    """What a TFLite file holds.

    Attributes:
        version: of TFLite's schema; 3 for all files since 2017.
        description: by the tool that made it.
        minimum_runtime: the TFLite release that the converter says is needed, or "".
        subgraphs: one or more.
        signatures: of the subgraphs; older tools and compilers leave none.
        metadata: the names of further data in the file.
        weights_bytes: size of all constants.
    """

    version: int
    description: str
    minimum_runtime: str
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...]
    metadata: tuple[str, ...]
    weights_bytes: int

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operations of all subgraphs with their counts, sorted by name."""
        found = Counter((o.name, o.version) for graph in self.subgraphs for o in graph.operators)
        return tuple(Operation(*key, count) for key, count in sorted(found.items()))

    @property
    def custom_operations(self) -> tuple[str, ...]:
        """The names of its custom operations, sorted."""
        return tuple(sorted({o.name for g in self.subgraphs for o in g.operators if o.custom}))


def read_flatbuffer(data: bytes) -> Model:
    """Reads and checks a TFLite model; what follows the flatbuffer in `data` is left alone.

    All offsets, lengths and indices are checked, and that every constant has the size that its
    shape and type ask for. Weights are not looked at: one that changed is still a weight.

    Raises:
        ArtifactError: it is no TFLite model, or a damaged one.
    """
    if data[4:8] != IDENTIFIER:
        raise ArtifactError("This is no TFLite model: the mark TFL3 is missing at its start.")
    try:
        file = _File(data)
        return _model(file, _Table(file, file.offset(0)))
    except _Damage as damage:
        raise ArtifactError(
            f"The TFLite model is damaged ({damage}): copy it again from where it was made."
        ) from None


class _Damage(Exception):  # noqa: N818  # it never leaves this module
    """What is wrong with the file."""


def _require(fits: bool, wrong: str) -> None:
    if not fits:
        raise _Damage(wrong)


class _File:
    """Reads little-endian values, within the file only, and not for ever.

    Attributes:
        size: of the file, in bytes.
    """

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = data
        self._left = _READS * len(data)

    def values(self, kind: str, at: int, count: int = 1) -> tuple[int, ...]:
        """Reads `count` integers of one of struct's kinds."""
        return struct.unpack_from(f"<{count}{kind}", self._data, self._claim(kind, at, count))

    def reals(self, at: int, count: int) -> tuple[float, ...]:
        """Reads `count` numbers of type float32."""
        return struct.unpack_from(f"<{count}f", self._data, self._claim("f", at, count))

    def text(self, at: int, count: int) -> str:
        """Reads a text of `count` bytes."""
        self._claim("B", at, count)
        return self._data[at : at + count].decode(errors="replace")

    def offset(self, at: int) -> int:
        """Follows an offset; what it points to starts with four bytes of its own."""
        target = at + self.values("I", at)[0]
        _require(target % 4 == 0, "an offset is not aligned")
        _require(target + 4 <= self.size, "an offset leads out of the file")
        return target

    def _claim(self, kind: str, at: int, count: int) -> int:
        size = count * struct.calcsize(f"<{kind}")
        _require(0 <= at <= self.size - size, "an offset leads out of the file")
        self._left -= size
        _require(self._left >= 0, "its parts overlap")
        return at


class _Table:
    """A table: fields by number, each of which may be left out.

    Args:
        file: that it lies in.
        at: where.
    """

    def __init__(self, file: _File, at: int) -> None:
        self.file = file
        self._at = at
        fields = at - file.values("i", at)[0]
        length, size = file.values("H", fields, 2)
        _require(length >= 4 and length % 2 == 0, "a table has no list of fields")
        _require(size >= 4 and at + size <= file.size, "a table leads out of the file")
        self._fields = file.values("H", fields + 4, length // 2 - 2)
        _require(all(f == 0 or 4 <= f < size for f in self._fields), "a field leads out of a table")
        self._size = size

    def integer(self, field: int, kind: str = "i", default: int = 0) -> int:
        """A number of one of struct's kinds."""
        at = self._find(field, struct.calcsize(f"<{kind}"))
        return default if at is None else self.file.values(kind, at)[0]

    def integers(self, field: int, kind: str = "i") -> tuple[int, ...]:
        """A list of numbers; empty when it is left out."""
        at, count = self.span(field)
        return self.file.values(kind, at, count)

    def reals(self, field: int) -> tuple[float, ...]:
        """A list of float32 numbers; empty when it is left out."""
        return self.file.reals(*self.span(field))

    def text(self, field: int) -> str:
        """A text; empty when it is left out."""
        return self.file.text(*self.span(field))

    def table(self, field: int) -> _Table | None:
        """A table, or None."""
        at = self._find(field, 4)
        return None if at is None else _Table(self.file, self.file.offset(at))

    def tables(self, field: int) -> list[_Table]:
        """A list of tables; empty when it is left out."""
        at, count = self.span(field, 4)
        return [_Table(self.file, self.file.offset(at + 4 * i)) for i in range(count)]

    def span(self, field: int, size: int = 1) -> tuple[int, int]:
        """Where the elements of a list start and how many there are, each of `size` bytes."""
        at = self._find(field, 4)
        if at is None:
            return 0, 0
        start = self.file.offset(at)
        (count,) = self.file.values("I", start)
        _require(start + 4 + count * size <= self.file.size, "a list leads out of the file")
        return start + 4, count

    def _find(self, field: int, size: int) -> int | None:
        offset = self._fields[field] if field < len(self._fields) else 0
        if offset == 0:
            return None
        _require(offset + size <= self._size, "a field leads out of its table")
        return self._at + offset


# The numbers of the fields are those of TFLite's schema.fbs, which only ever adds fields.


def _model(file: _File, model: _Table) -> Model:
    buffers = [_constant_span(file, buffer) for buffer in model.tables(4)]
    codes = [_operator_code(code) for code in model.tables(1)]
    graphs = model.tables(2)
    _require(bool(graphs), "it has no graph")
    used: set[int] = set()
    subgraphs = tuple(_subgraph(file, graph, codes, buffers, used) for graph in graphs)
    metadata = {entry.text(0): entry.integer(1, "I") for entry in model.tables(6)}
    _require(all(i < len(buffers) for i in metadata.values()), "a buffer is missing")
    at, size = (
        buffers[metadata["min_runtime_version"]] if "min_runtime_version" in metadata else (0, 0)
    )
    return Model(
        version=model.integer(0, "I"),
        description=model.text(3),
        minimum_runtime=file.text(at, min(size, 32)).rstrip("\0"),
        subgraphs=subgraphs,
        signatures=_signatures(model.tables(7), subgraphs),
        metadata=tuple(metadata),
        weights_bytes=sum(buffers[i][1] for i in used),
    )


def _constant_span(file: _File, buffer: _Table) -> tuple[int, int]:
    """Where the bytes of a buffer start, and how many there are."""
    offset, size = buffer.integer(1, "Q"), buffer.integer(2, "Q")
    if offset > 1:  # behind the flatbuffer proper: it may be larger than 2 GB there
        _require(offset + size <= file.size, "a buffer leads out of the file")
        return offset, size
    return buffer.span(0)


def _operator_code(code: _Table) -> tuple[str, int, bool]:
    """Name, version, and whether it is a custom operation."""
    # The first is an int8, from the time when there were fewer than 128.
    number = max(code.integer(0, "b"), code.integer(3))
    custom = number == _CUSTOM
    if custom:
        name = code.text(1)
    else:
        name = _OPERATORS[number] if 0 <= number < len(_OPERATORS) else f"OPERATOR_{number}"
    return name, code.integer(2, default=1), custom


def _subgraph(
    file: _File,
    graph: _Table,
    codes: Sequence[tuple[str, int, bool]],
    buffers: Sequence[tuple[int, int]],
    used: set[int],
) -> Subgraph:
    """Reads a subgraph, and adds the buffers of its constants to `used`."""
    tensors = tuple(_tensor(tensor, buffers, used) for tensor in graph.tables(0))
    inputs, outputs = graph.integers(1), graph.integers(2)
    _require_indices(inputs + outputs, len(tensors), lowest=0)
    operators = tuple(_operator(file, o, codes, len(tensors)) for o in graph.tables(3))
    graph.text(4)
    return Subgraph(tensors, inputs, outputs, operators)


def _tensor(tensor: _Table, buffers: Sequence[tuple[int, int]], used: set[int]) -> Tensor:
    shape = tensor.integers(0)
    free = tensor.integers(7) or shape
    _require(min(shape, default=0) >= 0 and len(free) == len(shape), "a shape is none")
    kind = tensor.integer(1, "b")
    _require(kind >= 0, "a tensor has no type")
    dtype, bits = _TYPES[kind] if kind < len(_TYPES) else (f"type_{kind}", 0)
    buffer = tensor.integer(2, "I")
    _require(buffer < len(buffers), "a buffer is missing")
    size = buffers[buffer][1]
    storage = "sparse" if tensor.table(6) else "external" if tensor.integer(10, "I") else "dense"
    if size:
        used.add(buffer)
        wanted = _size(shape, bits)
        _require(not bits or storage != "dense" or size == wanted, "a constant has a wrong size")
    scales, zero_points, axis = _quantization(tensor.table(4), shape)
    return Tensor(
        name=tensor.text(3),
        dtype=dtype,
        shape=shape,
        shape_signature=free,
        scales=scales,
        zero_points=zero_points,
        axis=axis,
        constant_bytes=size,
        variable=bool(tensor.integer(5, "B")),
        storage=storage,
    )


def _size(shape: tuple[int, ...], bits: int) -> int:
    return (math.prod(shape) * bits + 7) // 8


def _quantization(
    table: _Table | None, shape: tuple[int, ...]
) -> tuple[tuple[float, ...], tuple[int, ...], int]:
    """Scales, zero points and axis; nothing where either is left out, as an interpreter has it."""
    if table is None:
        return (), (), 0
    table.span(0, 4), table.span(1, 4)
    scales, zero_points, axis = table.reals(2), table.integers(3, "q"), table.integer(6)
    if not (scales and zero_points):
        return (), (), 0
    _require(len(scales) == len(zero_points), "a tensor has not as many scales as zero points")
    if len(scales) > 1:
        _require(
            0 <= axis < len(shape) and shape[axis] == len(scales),
            "a tensor has not as many scales as channels",
        )
    return scales, zero_points, axis


def _operator(
    file: _File, operator: _Table, codes: Sequence[tuple[str, int, bool]], tensors: int
) -> Operator:
    code = operator.integer(0, "I")
    _require(code < len(codes), "an operation has no code")
    inputs, outputs = operator.integers(1), operator.integers(2)
    _require_indices(inputs + operator.integers(8), tensors, lowest=-1)
    _require_indices(outputs, tensors, lowest=0)
    options = operator.table(4)
    if options:
        for field in _LISTS_IN_OPTIONS.get(operator.integer(3, "B"), ()):
            options.span(field, 4)
    operator.table(12)
    operator.span(5)
    operator.span(7)
    large = operator.integer(9, "Q") + operator.integer(10, "Q")
    _require(large <= file.size, "options lead out of the file")
    name, version, custom = codes[code]
    return Operator(name, version, custom, inputs, outputs)


def _signatures(tables: Sequence[_Table], subgraphs: Sequence[Subgraph]) -> tuple[Signature, ...]:
    found: dict[str, Signature] = {}
    for table in tables:
        name, subgraph = table.text(2), table.integer(4, "I")
        _require(subgraph < len(subgraphs), "a signature has no graph")
        tensors = len(subgraphs[subgraph].tensors)
        inputs, outputs = (_names(table.tables(field), tensors) for field in (0, 1))
        _require(name not in found, "two signatures have one name")
        found[name] = Signature(name, subgraph, inputs, outputs)
    return tuple(found.values())


def _names(entries: Sequence[_Table], tensors: int) -> dict[str, int]:
    named = {entry.text(0): entry.integer(1, "I") for entry in entries}
    _require(len(named) == len(entries), "two tensors of a signature have one name")
    _require_indices(tuple(named.values()), tensors, lowest=0)
    return named


def _require_indices(indices: Sequence[int], count: int, lowest: int) -> None:
    _require(all(lowest <= i < count for i in indices), "a tensor is missing")
