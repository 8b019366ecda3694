"""Coral Edge TPU: what it documents to support, and its compiler, run as a subprocess.

What is said here of the Edge TPU is from its documentation
(https://coral.ai/docs/edgetpu/models-intro/ and .../compiler/) and from logs that users of the
compiler published; no real compiler or device has been seen. Importable without TensorFlow.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelstm.errors import ConversionError
from edgelstm_quantize.flatbuffer import pack, read

COMPILER = "edgetpu_compiler"
WHERE_TO_GET_THE_COMPILER = (
    "The Edge TPU Compiler is not on the PATH; it runs on x86-64 Debian or Ubuntu only: add "
    "Coral's apt repository as https://coral.ai/docs/edgetpu/compiler/ says, then run: "
    "sudo apt-get install edgetpu-compiler"
)

# The documented table, in TFLite's names. LSTM means the unidirectional one.
_DOCUMENTED = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED
    L2_NORMALIZATION LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE
    REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
    RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH
    TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM
"""
DOCUMENTED_OPERATIONS = frozenset(_DOCUMENTED.split())

_MAPPED = "Mapped to Edge TPU"
_HEADER = re.compile(r"^Operator\s+Count\s+Status\s*$", re.MULTILINE)
_ROW = re.compile(r"^(\S+)[ \t]+(\d+)[ \t]+(\S.*?)\s*$", re.MULTILINE)
_VERSION = re.compile(r"^Edge TPU Compiler version (\S+)", re.MULTILINE)
_TOTAL = re.compile(r"^Total number of operations: (\d+)", re.MULTILINE)
# Lines that the compiler ends with whatever the reason was.
_SAYS_NOTHING = re.compile(
    r"Edge TPU Compiler version|Started a compilation timeout timer|Compilation child process|"
    r"Compilation (failed|succeeded)! *$|Invalid model:|Model could not be parsed|"
    r"ERROR: Registration failed"
)
_GOOD_ON_CPU = "the int8 model itself is complete and runs on a CPU"
# All that reading a damaged flatbuffer raises.
_DAMAGE = (
    struct.error,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
)


@dataclass(frozen=True)
class Compilation:
    """What the Edge TPU Compiler made of a model.

    Attributes:
        flatbuffer: the compiled model. It runs with the Edge TPU delegate only, never on a bare
            CPU, so the model that it was made from must be kept.
        mapped: number of operations that run on the Edge TPU.
        operations: number of all operations.
        unmapped: a line for each kind of operation left to the CPU, with the compiler's reason.
        version: of the compiler; "" when it does not say.
        log: what the compiler printed.
    """

    flatbuffer: bytes
    mapped: int
    operations: int
    unmapped: tuple[str, ...]
    version: str
    log: str

    @property
    def share(self) -> float:
        """The share of operations that run on the Edge TPU, 0 to 1."""
        return self.mapped / self.operations


def check_operations(flatbuffer: bytes) -> list[str]:
    """What of a graph the Edge TPU does not document to support.

    Checked are the kinds of operations, that tensors are int8 or uint8 (constants may be int32:
    biases, shapes) and that their shapes are fixed. The limits of single operations are left to
    the compiler, which names them in its log.

    Args:
        flatbuffer: a TFLite model.

    Returns:
        One sentence per finding; empty when there is none.

    Raises:
        ConversionError: it is not a TFLite model, or damaged.
    """
    kinds: Counter[str] = Counter()
    types: dict[str, list[str]] = {}
    open_shapes = []
    with _reading("The model"):
        model = _parse(flatbuffer)
        for graph in model.subgraphs:
            kinds.update(_kind(model.operatorCodes[op.opcodeIndex]) for op in graph.operators)
            for tensor in graph.tensors:
                name, dtype = tensor.name.decode(errors="replace"), _dtype(tensor)
                if dtype not in ("int8", "uint8") and not (
                    dtype == "int32" and _constant(model, tensor)
                ):
                    types.setdefault(dtype, []).append(name)
                if any(n < 0 for n in (*_ints(tensor.shape), *_ints(tensor.shapeSignature))):
                    open_shapes.append(name)
    findings = [
        f"The operation {kind} ({count} in the graph) is not among those documented "
        "for the Edge TPU."
        for kind, count in sorted(kinds.items())
        if kind not in DOCUMENTED_OPERATIONS
    ]
    findings += [
        f"The graph has {dtype} tensors ({len(names)}, the first {names[0]!r}); "
        "the Edge TPU takes only int8 and uint8."
        for dtype, names in sorted(types.items())
    ]
    if open_shapes:
        findings.append(
            f"The graph leaves sizes open (in {len(open_shapes)} tensors, the first "
            f"{open_shapes[0]!r}); the Edge TPU takes only fixed shapes."
        )
    return findings


def check_weights(flatbuffer: bytes) -> list[str]:
    """What the compiler may silently get wrong: weights of dense layers with a scale per channel.

    No document forbids them. But TFLite's converter writes them since 2024 only, runtimes that do
    not know them compute with a wrong scale, and the last compiler is of 2021.

    Args:
        flatbuffer: a TFLite model.

    Returns:
        One sentence, or none.

    Raises:
        ConversionError: it is not a TFLite model, or damaged.
    """
    count = 0
    with _reading("The model"):
        model = _parse(flatbuffer)
        for graph in model.subgraphs:
            for op in graph.operators:
                if _kind(model.operatorCodes[op.opcodeIndex]) == "FULLY_CONNECTED":
                    quantization = graph.tensors[op.inputs[1]].quantization
                    count += quantization is not None and len(_items(quantization.scale)) > 1
    if not count:
        return []
    return [
        f"The weights of FULLY_CONNECTED have a scale per channel ({count} in the graph), which "
        "the Edge TPU Compiler may not know; quantise them per tensor."
    ]


def find_compiler() -> Path | None:
    """The Edge TPU Compiler on the PATH, or None: `WHERE_TO_GET_THE_COMPILER` then says more."""
    found = shutil.which(COMPILER)
    return Path(found) if found else None


def compile_model(flatbuffer: bytes, compiler: Path, *, timeout: float = 180.0) -> Compilation:
    """Compiles a model for the Edge TPU, in a temporary folder.

    The compiled model has the signature of the original: if the compiler drops the signatures
    (known of TFLite metadata; of signatures it is not documented), they are put back, provided
    that the compiled graph still has the same inputs and outputs by name, type, shape, scale and
    zero point. Otherwise the session could not tell the states apart, and this is an error.

    To be called where an interrupt arrives: a caller that is killed outright leaves the compiler
    running.

    Args:
        flatbuffer: an int8 TFLite model, see `check_operations`.
        compiler: the executable, from `find_compiler`.
        timeout: seconds after which the compiler and all that it started are killed.

    Raises:
        ConversionError: the compiler cannot be started, fails, crashes, takes too long, writes no
            model or one with another interface, or its log cannot be read.
    """
    with _reading("The model"):
        original = _parse(flatbuffer)
        # With every constant inside: the compiler, of 2021, would not look behind the flatbuffer.
        to_compile = pack(read(flatbuffer))
    with tempfile.TemporaryDirectory(prefix="edgelstm-") as name:
        folder = Path(name)
        (folder / "out").mkdir()
        (folder / "model.tflite").write_bytes(to_compile)
        # Relative paths, so that the log does not name the folder.
        command = [str(compiler.absolute()), "-s", "-o", "out", "model.tflite"]
        log = _run(command, folder, timeout)
        try:
            compiled = (folder / "out" / "model_edgetpu.tflite").read_bytes()
        except OSError as error:
            raise ConversionError(
                f"{COMPILER} reported no error but wrote no model, its last line being "
                f"{_last_line(log)!r}; {_GOOD_ON_CPU}."
            ) from error
        if not _HEADER.search(log):
            with contextlib.suppress(OSError):
                log += (folder / "out" / "model_edgetpu.log").read_text(errors="replace")
    mapped, operations, unmapped = _read_log(log)
    version = _VERSION.search(log)
    with _reading(f"What {COMPILER} wrote"):
        signed = _with_signatures(compiled, original)
    return Compilation(
        signed, mapped, operations, unmapped, version.group(1) if version else "", log
    )


def _run(command: list[str], folder: Path, timeout: float) -> str:
    """Runs the compiler to its end and returns what it printed."""
    output = folder / "output.txt"
    # Into a file: a child that outlives the compiler would hold a pipe open. In a session of its
    # own: so that its children can be killed with it (it works in one).
    with output.open("wb") as file:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ConversionError(
                f"{command[0]} cannot be run ({error.strerror}); {_GOOD_ON_CPU}."
            ) from error
    code = None
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(timeout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    log = output.read_text(errors="replace")
    if code == 0:
        return log
    if code is None:
        what = f"did not finish within {timeout:g} s and was stopped"
    elif code < 0:
        what = f"crashed ({signal.Signals(-code).name})"
    else:
        what = f"failed (exit code {code})"
    raise ConversionError(
        f"{COMPILER} {what}, its last line being {_last_line(log)!r}; {_GOOD_ON_CPU}."
    )


def _last_line(log: str) -> str:
    """The last line that says something, else the last one."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if not _SAYS_NOTHING.match(line)]
    return (telling or lines or [""])[-1][:300]


def _read_log(log: str) -> tuple[int, int, tuple[str, ...]]:
    """Number of mapped operations, of all operations, and a line for each unmapped kind."""
    header = _HEADER.search(log)
    rows = _ROW.findall(log, header.end()) if header else []
    mapped = sum(int(count) for _, count, status in rows if status == _MAPPED)
    operations = sum(int(count) for _, count, _ in rows)
    total = _TOTAL.search(log)
    if operations == 0 or (total and int(total.group(1)) != operations):
        raise ConversionError(
            f"The log of {COMPILER} cannot be read, its last line being {_last_line(log)!r}, so "
            f"what runs on the Edge TPU is not known; {_GOOD_ON_CPU}."
        )
    unmapped = tuple(f"{op} ({n}): {status}" for op, n, status in rows if status != _MAPPED)
    return mapped, operations, unmapped


def _with_signatures(compiled: bytes, original: Any) -> bytes:
    """A compiled model with the signatures of the original: as it is, or put back."""
    model = _parse(compiled)
    ours, theirs = original.subgraphs[0], model.subgraphs[0]
    places: dict[int, int] = {}
    for before, after in ((ours.inputs, theirs.inputs), (ours.outputs, theirs.outputs)):
        old = {_interface(ours.tensors[i]): int(i) for i in before}
        new = {_interface(theirs.tensors[i]): int(i) for i in after}
        if old.keys() != new.keys() or len(new) != len(after):
            raise ConversionError(
                f"{COMPILER} changed the model's inputs or outputs, so its states could not be "
                f"told apart; {_GOOD_ON_CPU}."
            )
        places |= {index: new[tensor] for tensor, index in old.items()}
    for signature in original.signatureDefs or []:
        for tensor in (*signature.inputs, *signature.outputs):
            tensor.tensorIndex = places[tensor.tensorIndex]
    if not model.signatureDefs:
        model.signatureDefs = original.signatureDefs
        return pack(model) if model.signatureDefs else compiled
    if _signatures(model) != _signatures(original):
        raise ConversionError(
            f"{COMPILER} changed the model's signature, so its states could not be told apart; "
            f"{_GOOD_ON_CPU}."
        )
    return compiled


def _signatures(model: Any) -> dict[bytes, Any]:
    return {
        s.signatureKey: (
            {t.name: t.tensorIndex for t in s.inputs},
            {t.name: t.tensorIndex for t in s.outputs},
        )
        for s in model.signatureDefs or []
    }


def _interface(tensor: Any) -> tuple[Any, ...]:
    """What the caller of a graph must know of a tensor."""
    quantization: tuple[Any, ...] = ()
    if (q := tensor.quantization) is not None:
        quantization = (tuple(map(float, _items(q.scale))), _ints(q.zeroPoint))
    return tensor.name, tensor.type, _ints(tensor.shape), quantization


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turns what a damaged file raises into a sentence."""
    try:
        yield
    except _DAMAGE as error:
        raise ConversionError(f"{what} is not a TFLite model, or a damaged one.") from error


def _parse(flatbuffer: bytes) -> Any:
    """A TFLite model as the object API of the generated schema gives it."""
    # ai-edge-quantizer depends on ai-edge-litert, so on the host it is always there.
    from ai_edge_litert import schema_py_generated as schema

    if not schema.Model.ModelBufferHasIdentifier(flatbuffer, 0):
        raise ValueError("no TFLite identifier")
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))


def _kind(code: Any) -> str:
    """The name of an operation; of a custom one, its own."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    # Old files have only the older field, which ends at 127.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number == BuiltinOperator.CUSTOM and code.customCode:
        return str(code.customCode.decode(errors="replace"))
    return _name_of(BuiltinOperator, number)


def _dtype(tensor: Any) -> str:
    from ai_edge_litert.schema_py_generated import TensorType

    return _name_of(TensorType, tensor.type).lower()


def _name_of(enumeration: type, number: int) -> str:
    names = {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}
    return names.get(number, str(number))


def _constant(model: Any, tensor: Any) -> bool:
    buffer = model.buffers[tensor.buffer]
    return buffer.offset > 1 or len(_items(buffer.data)) > 0


def _ints(vector: Any) -> tuple[int, ...]:
    return tuple(map(int, _items(vector)))


def _items(vector: Any) -> Any:
    """A vector of the object API, which is None (or 0) when the file leaves it out."""
    return vector if hasattr(vector, "__len__") else ()
