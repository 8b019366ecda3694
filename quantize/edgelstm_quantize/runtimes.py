"""Which runtimes compute a TFLite file correctly, told from the file itself.

That a runtime loads a file says little: some releases load operations that they compute wrongly
(docs/decisions/0009). So nothing here follows from version numbers. Every entry of the tables was
measured: each operation in each kind of arithmetic ran 200 steps on x86-64 in tflite-runtime 2.14.0
(the only release that pip still has for Python 3.11) and in every ai-edge-litert from 1.0.0 to
2.3.0, save 1.1.0, which fails as soon as it is given a number of threads. Correct is what is
within 1 % of ai-edge-litert 2.3.0, or within a few codes for integers, and near the float graph.
"""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from edgelstm.errors import ConfigurationError, ConversionError

LITERT = "ai-edge-litert"
TFLITE = "tflite-runtime"

_REFERENCE = "2.3.0"  # the ai-edge-litert that all others were compared with
_OLDEST = {LITERT: "1.0.0", TFLITE: "2.14.0"}  # the lowest releases that were tried


@dataclass(frozen=True)
class Operation:
    """All uses of one operation in a file.

    Attributes:
        name: the builtin's, as `FULLY_CONNECTED`, or what a custom operation calls itself.
        version: what the file says of it; old runtimes refuse versions that they do not know.
        count: how often it is used.
        types: the dtypes of the tensors that it reads and writes, sorted.
    """

    name: str
    version: int
    count: int
    types: tuple[str, ...]


def operations(flatbuffer: bytes) -> tuple[Operation, ...]:
    """The operations of a file, sorted by name and version.

    Raises:
        ConversionError: it is no TFLite file.
    """
    uses = defaultdict(list)
    for use in _uses(flatbuffer):
        uses[use.name, use.version].append(use)
    return tuple(
        Operation(name, version, len(same), tuple(sorted({t for use in same for t in use.types})))
        for (name, version), same in sorted(uses.items())
    )


def lowest_runtimes(flatbuffer: bytes) -> dict[str, str | None]:
    """The lowest release of each runtime that is known to compute the file correctly.

    Known is what was measured (see the module). Lowest is the lowest release from which on every
    release that was tried is right; earlier ones may be right by chance, and ai-edge-litert 1.0.0
    and tflite-runtime 2.14.0 are the lowest that were tried. An operation that was not measured
    counts as right in ai-edge-litert 2.3.0, with which the converter measures fidelity, and as
    not known in tflite-runtime.

    Returns:
        A release or None (no release that was tried) for "ai-edge-litert" and "tflite-runtime".

    Raises:
        ConversionError: it is no TFLite file.
    """
    uses = list(_uses(flatbuffer))
    lowest: dict[str, str | None] = {}
    for runtime in _OLDEST:
        releases = [finding.lowest for use in uses for finding in _findings(use, runtime)]
        known = [release for release in releases if release is not None]
        complete = len(known) == len(releases)
        lowest[runtime] = max([_OLDEST[runtime], *known], key=_order) if complete else None
    return lowest


def require(flatbuffer: bytes, runtime: str) -> None:
    """Refuses a file that a runtime would refuse or compute wrongly.

    Args:
        flatbuffer: the file.
        runtime: "ai-edge-litert" or "tflite-runtime", meaning the newest release that was tried,
            or a certain release as in "ai-edge-litert==2.1.6".

    Raises:
        ConversionError: the runtime is not known to compute the file correctly, or it is no TFLite
            file.
        ConfigurationError: there is no such runtime.
    """
    name, pinned, release = runtime.partition("==")
    if name not in _OLDEST or (pinned and not re.fullmatch(r"\d+(\.\d+)*", release)):
        raise ConfigurationError(
            f"No runtime is called {runtime!r}; it is {' or '.join(_OLDEST)}, or one of its "
            f"releases as in {LITERT}=={_REFERENCE}."
        )
    if pinned and _order(release) < _order(_OLDEST[name]):
        raise ConversionError(
            f"{name} {release} is older than {_OLDEST[name]}, the first release that was tried; "
            "install a newer one."
        )
    for use in _uses(flatbuffer):
        for finding in _findings(use, name):
            lowest = finding.lowest
            if lowest is None or (pinned and _order(release) < _order(lowest)):
                ways = [f"{name} {lowest} or later"] if lowest else []
                if finding.weight_only_helps:
                    ways.append("--recipe int8-weight")
                elif not lowest and name == TFLITE and not use.custom:
                    ways.append(f"{LITERT} {_REFERENCE}")
                way = f"use {' or '.join(ways)}" if ways else "replace the layer that needs it"
                raise ConversionError(f"{f'{name} {release}'.strip()} {finding.fault}; {way}.")


# How operations compute. Weight-only files are float, behind a DEQUANTIZE of the weights.
_Kind = Literal["float", "channel", "tensor", "int8", "int16", "index"]


@dataclass(frozen=True)
class _Use:
    """One operation as its kernel meets it.

    Attributes:
        name: as in `Operation`.
        version: as in `Operation`.
        custom: whether it is no builtin.
        activations: types of the tensors that are computed: inputs without constants, outputs.
        constants: types of its constant inputs.
        constant_first: whether the first input is a constant.
        per_channel: whether an int8 constant has several scales.
        bias: whether it has three inputs or more.
        rank: of the first output.
        unread: whether nobody reads one of its outputs.
    """

    name: str
    version: int
    custom: bool
    activations: frozenset[str]
    constants: frozenset[str]
    constant_first: bool
    per_channel: bool
    bias: bool
    rank: int
    unread: bool

    @property
    def types(self) -> frozenset[str]:
        return self.activations | self.constants

    @property
    def kind(self) -> _Kind | None:
        """How it computes; None when that was never measured (float16, int4, int64...)."""
        if self.activations - {"float32", "int8", "int16", "int32", "bool"}:
            return None
        if self.constants - {"float32", "int8", "int16", "int32", "int64", "bool"}:
            return None
        if "int16" in self.activations:
            return "int16"
        if "int8" in self.activations:
            return "int8"
        if "float32" not in self.activations:
            return "index"
        if "int8" in self.constants:
            return "channel" if self.per_channel else "tensor"
        return "float"

    @property
    def mixed(self) -> bool:
        """Whether float and integer values meet where no conversion is meant."""
        return (
            "float32" in self.activations
            and bool(self.activations & {"int8", "int16"})
            and self.name not in {"QUANTIZE", "DEQUANTIZE", "CAST"}
        )


_WORDS: dict[_Kind | None, str] = {
    "float": "float values",
    "channel": "float values and per-channel int8 weights",
    "tensor": "float values and per-tensor int8 weights",
    "int8": "int8 values",
    "int16": "int16 values",
    "index": "int32 or truth values",
    None: "values of its types",
}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What was measured, beyond which nothing is claimed. "channel" and "tensor": int8 weights under
# float values. The exceptions are below.
_MEASURED: dict[_Kind, frozenset[str]] = {
    "float": _names(
        "ABS ADD ADD_N ARG_MAX AVERAGE_POOL_2D BATCH_MATMUL BROADCAST_TO CAST CEIL CONCATENATION "
        "CONV_2D COS CUMSUM DEPTHWISE_CONV_2D DIV ELU EXP FLOOR FLOOR_DIV FLOOR_MOD "
        "FULLY_CONNECTED GATHER GELU GREATER HARD_SWISH L2_NORMALIZATION LEAKY_RELU LESS LOG "
        "LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG ONE_HOT PACK "
        "PAD PADV2 POW REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RESHAPE REVERSE_V2 ROUND RSQRT "
        "SELECT SIGN SIN SLICE SOFTMAX SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE "
        "SUB SUM TANH TILE TOPK_V2 TRANSPOSE TRANSPOSE_CONV UNPACK"
    ),
    "channel": _names(
        "BATCH_MATMUL CONV_2D DEPTHWISE_CONV_2D DEQUANTIZE FULLY_CONNECTED TRANSPOSE_CONV"
    ),
    "tensor": _names(
        "BATCH_MATMUL CONV_2D DEPTHWISE_CONV_2D DEQUANTIZE FULLY_CONNECTED TRANSPOSE_CONV"
    ),
    "int8": _names(
        "ADD AVERAGE_POOL_2D BATCH_MATMUL BROADCAST_TO CONCATENATION CONV_2D DEPTHWISE_CONV_2D "
        "DEQUANTIZE DIV FULLY_CONNECTED GATHER GELU HARD_SWISH LOGISTIC MAXIMUM MAX_POOL_2D MEAN "
        "MIRROR_PAD MUL PACK PAD PADV2 QUANTIZE REDUCE_MIN RELU RESHAPE RSQRT SELECT SLICE "
        "SOFTMAX SPLIT SQRT SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TRANSPOSE "
        "TRANSPOSE_CONV UNPACK"
    ),
    "int16": _names(
        "ADD AVERAGE_POOL_2D BATCH_MATMUL BROADCAST_TO CONCATENATION CONV_2D DEPTHWISE_CONV_2D "
        "DEQUANTIZE DIV FULLY_CONNECTED GATHER GELU LOGISTIC MAXIMUM MAX_POOL_2D MEAN MIRROR_PAD "
        "MUL PACK PAD PADV2 QUANTIZE REDUCE_MIN RELU RESHAPE RSQRT SELECT SLICE SOFTMAX SPLIT "
        "SQRT STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV UNPACK"
    ),
    "index": _names("ADD LESS LOGICAL_AND SELECT"),
}
# The highest version that was measured, where it is not 1; those between are older.
_VERSIONS = {"BROADCAST_TO": 2, "CONV_2D": 6, "FLOOR_DIV": 2, "FULLY_CONNECTED": 12}


@dataclass(frozen=True)
class _Finding:
    """What keeps a use from running in every release of a runtime.

    Attributes:
        fault: what the releases below the lowest do, as "refuses DIV with int8 values".
        lowest: the lowest release that is right, or None.
        weight_only_helps: whether the recipe `int8-weight` avoids it.
    """

    fault: str
    lowest: str | None
    weight_only_helps: bool


@dataclass(frozen=True)
class _Limit:
    """A measured exception: uses that not every release computes correctly.

    Attributes:
        applies: whether a use is one of them.
        what: completes "the operation with ...".
        litert: the lowest right release of ai-edge-litert, or None.
        tflite: the same of tflite-runtime.
        wrong: the runtimes that load it and compute it wrongly; the others refuse it.
    """

    applies: Callable[[_Use], bool]
    what: str
    litert: str | None
    tflite: str | None
    wrong: tuple[str, ...] = ()


def _is(name: str, *kinds: _Kind) -> Callable[[_Use], bool]:
    return lambda use: use.name == name and use.kind in kinds


_LIMITS = (
    _Limit(
        lambda use: use.name == "FULLY_CONNECTED" and use.version >= 12,
        "version 12",
        litert="1.0.0",
        tflite=None,
    ),
    _Limit(
        lambda use: _is("FULLY_CONNECTED", "channel")(use) and use.version < 12,
        _WORDS["channel"],
        litert="1.0.0",
        tflite=None,
        wrong=(TFLITE,),
    ),
    # Those runtimes take the second dimension of the output for the number of units.
    _Limit(
        lambda use: (
            _is("FULLY_CONNECTED", "int16")(use) and use.per_channel and use.bias and use.rank > 2
        ),
        "int16 values of more than two dimensions, per-channel weights and a bias",
        litert="1.1.1",
        tflite=None,
        wrong=(LITERT, TFLITE),
    ),
    _Limit(
        lambda use: (
            _is("BATCH_MATMUL", "channel", "tensor", "int16")(use)
            and use.constant_first
            and "int8" in use.constants
        ),
        "its weights in front",
        litert=None,
        tflite=None,
    ),
    _Limit(
        lambda use: _is("BATCH_MATMUL", "int8")(use) and use.per_channel,
        "int8 values and per-channel weights",
        litert=None,
        tflite=None,
        wrong=(LITERT, TFLITE),
    ),
    _Limit(
        lambda use: _is("BATCH_MATMUL", "int16")(use) and use.per_channel,
        "int16 values and per-channel weights",
        litert=None,
        tflite=None,
        wrong=(LITERT,),
    ),
    _Limit(
        lambda use: _is("BATCH_MATMUL", "int16")(use) and "int8" in use.constants,
        "int16 values and int8 weights",
        litert="2.1.4",
        tflite=None,
    ),
    # Right from 1.0.0 to 1.4.0 as well, but not from 2.0.2 to 2.1.2.
    _Limit(
        _is("BATCH_MATMUL", "int8"),
        _WORDS["int8"],
        litert="2.1.3",
        tflite="2.14.0",
        wrong=(LITERT,),
    ),
    _Limit(
        _is("BATCH_MATMUL", "channel"),
        _WORDS["channel"],
        litert="1.3.0",
        tflite=None,
        wrong=(TFLITE,),
    ),
    _Limit(
        _is("DEPTHWISE_CONV_2D", "tensor"),
        _WORDS["tensor"],
        litert=None,
        tflite=None,
        wrong=(LITERT, TFLITE),
    ),
    _Limit(
        _is("TRANSPOSE_CONV", "channel", "tensor"),
        "float values and int8 weights",
        litert="1.0.0",
        tflite=None,
    ),
    _Limit(_is("DIV", "int8"), _WORDS["int8"], litert="1.4.0", tflite=None),
    _Limit(_is("DIV", "int16"), _WORDS["int16"], litert="2.0.2", tflite=None),
    _Limit(_is("GELU", "int16"), _WORDS["int16"], litert="1.3.0", tflite=None),
    _Limit(_is("RSQRT", "int16"), _WORDS["int16"], litert="1.0.0", tflite=None),
    _Limit(_is("SQRT", "int8", "int16"), "integer values", litert="2.0.2", tflite=None),
    _Limit(_is("SUM", "int16"), _WORDS["int16"], litert="1.3.0", tflite=None),
    # An output that nobody reads has no range, so it was left in float. XNNPACK refuses that.
    _Limit(
        lambda use: _is("SPLIT", "int8")(use) and use.mixed,
        "int8 values and an unread output left in float",
        litert=None,
        tflite="2.14.0",
    ),
    _Limit(
        lambda use: use.name == "SPLIT" and not use.mixed and use.unread,
        "an unread output",
        litert="1.1.1",
        tflite="2.14.0",
    ),
    _Limit(
        lambda use: use.mixed and use.name != "SPLIT",
        "float and integer values at once",
        litert=None,
        tflite=None,
    ),
)


def _findings(use: _Use, runtime: str) -> Iterator[_Finding]:
    """What keeps a use from running in every release; nothing when it was right in all."""
    kind = use.kind
    version_known = use.version <= _VERSIONS.get(use.name, 1)
    if kind == "tensor" and use.name == "CONV_2D":
        version_known = use.version == 1  # 6 is a grouped convolution
    # Weight-only files were right wherever the operation itself is.
    helps = kind != "float" and use.name in _MEASURED["float"] and version_known
    if use.custom:
        yield _Finding(f"has no custom operation {use.name}", None, weight_only_helps=False)
    elif kind is None or use.name not in _MEASURED[kind] or not version_known:
        lowest = _REFERENCE if runtime == LITERT else None
        fault = f"was not tried with {use.name} version {use.version} on {_WORDS[kind]}"
        yield _Finding(fault, lowest, helps)
    for limit in _LIMITS:
        if limit.applies(use):
            lowest = limit.litert if runtime == LITERT else limit.tflite
            fault = "miscomputes" if runtime in limit.wrong else "refuses"
            yield _Finding(f"{fault} {use.name} with {limit.what}", lowest, helps)


def _order(release: str) -> tuple[int, ...]:
    """A release number as something that can be compared: 2.1 is 2.1.0."""
    parts = tuple(int(part) for part in release.split("."))
    return parts + (0,) * (3 - len(parts))


def _uses(flatbuffer: bytes) -> Iterator[_Use]:
    """Every operation of every subgraph, in order."""
    # ai-edge-quantizer depends on ai-edge-litert, which has TFLite's own schema.
    from ai_edge_litert import schema_py_generated as schema

    if flatbuffer[4:8] != b"TFL3":
        raise ConversionError("These bytes are no TFLite file; they do not start like one.")
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    except (struct.error, IndexError, TypeError, ValueError, OverflowError) as error:
        raise ConversionError(
            "The TFLite file is damaged and cannot be parsed; convert the model again."
        ) from error
    builtins = _members(schema.BuiltinOperator)
    types = _members(schema.TensorType)
    for graph in model.subgraphs:
        yield from _graph_uses(graph, model.operatorCodes, builtins, types)


def _graph_uses(
    graph: Any, codes: Any, builtins: dict[int, str], types: dict[int, str]
) -> Iterator[_Use]:
    """Every operation of one subgraph, in order."""
    computed = {int(i) for op in graph.operators for i in op.outputs} | set(graph.inputs)
    read = {int(i) for op in graph.operators for i in op.inputs} | set(graph.outputs)
    for op in graph.operators:
        code = codes[op.opcodeIndex]
        # Builtins above 127 do not fit into the deprecated field, and old files have only that.
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        custom = code.customCode is not None
        inputs = [int(i) for i in op.inputs if i >= 0]  # -1: an optional one that is not there
        outputs = [int(i) for i in op.outputs]
        constants = [graph.tensors[i] for i in inputs if i not in computed]
        activations = [i for i in inputs if i in computed] + outputs
        yield _Use(
            name=code.customCode.decode()
            if custom
            else builtins.get(builtin, f"BUILTIN_{builtin}"),
            version=int(code.version),
            custom=custom,
            activations=frozenset(_type(graph.tensors[i], types) for i in activations),
            constants=frozenset(_type(tensor, types) for tensor in constants),
            constant_first=bool(inputs) and inputs[0] not in computed,
            per_channel=any(_scales(t) > 1 for t in constants if _type(t, types) == "int8"),
            bias=len(inputs) > 2,
            rank=len(graph.tensors[outputs[0]].shape) if outputs else 0,
            unread=any(i not in read for i in outputs),
        )


def _members(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if not name.startswith("_")}


def _type(tensor: Any, types: dict[int, str]) -> str:
    return types.get(tensor.type, f"type_{tensor.type}").lower()


def _scales(tensor: Any) -> int:
    quantization = tensor.quantization
    return 0 if quantization is None or quantization.scale is None else len(quantization.scale)
