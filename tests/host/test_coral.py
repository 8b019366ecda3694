"""The Edge TPU's rules and its compiler, by a stand-in: no real compiler or device has been seen.

The logs that the stand-in prints are of the form that users of the real compiler published.
"""

from __future__ import annotations

import _thread
import dataclasses
import hashlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped]  # it ships no types
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.artifact import Artifact
from edgelstm.errors import ConversionError
from edgelstm.recording import Recording
from edgelstm.session import Session
from edgelstm_quantize import coral

DATA = Path(__file__).parent.parent / "data"
BUILTIN, TYPE = schema.BuiltinOperator, schema.TensorType
START = (
    "Edge TPU Compiler version 16.0.384591198\nStarted a compilation timeout timer of 180 seconds."
)
LIMITED = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
TABLE = f"""
Operator                       Count      Status

ADD                            3          Mapped to Edge TPU
LOGISTIC                       3          Mapped to Edge TPU
SPLIT                          1          {LIMITED}
FULLY_CONNECTED                2          Mapped to Edge TPU
FULLY_CONNECTED                1          More than one subgraph is not supported
"""
REPORT = f"""{START}

Model compiled successfully in 52 ms.

Input model: model.tflite
Input size: 6.84KiB
Output model: out/model_edgetpu.tflite
Output size: 40.12KiB
On-chip memory used for caching model parameters: 1.25KiB
On-chip memory remaining for caching model parameters: 7.93MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 10
Operation log: out/model_edgetpu.log
{{table}}
Compilation child process completed within timeout period.
Compilation succeeded!
"""
FAILURE = f"""{START}
ERROR: Attempting to use a delegate that only supports static-sized tensors.
Compilation child process completed within timeout period.
Compilation failed!
"""
UNPARSED = """Edge TPU Compiler version 16.0.384591198
ERROR: Didn't find op for builtin opcode 'QUANTIZE' version '3'.

ERROR: Registration failed.

Invalid model: model.tflite
Model could not be parsed
"""
WRITE = 'cp answer "$3/model_edgetpu.tflite"'
StandIn = Callable[..., Path]


@pytest.fixture
def tiny() -> Artifact:
    return Artifact.read(DATA / "tiny.tflite")


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Puts an edgetpu_compiler on the PATH: it prints `log`, then runs `body` in sh."""

    def make(answer: bytes, body: str = WRITE, log: str = REPORT.format(table=TABLE)) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "answer").write_bytes(answer)
        (folder / "log").write_text(log)
        (folder / "edgetpu_compiler").write_text(
            "#!/bin/sh\n"
            '[ "$1 $2" = "-s -o" ] && [ -d "$3" ] && [ -s "$4" ] && [ $# = 4 ] || exit 64\n'
            f'model="$PWD/$4"; out="$PWD/$3"; set -- -s -o "$out" "$model"; cd {folder}\n'
            f"cat log\n{body}\n"
        )
        (folder / "edgetpu_compiler").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        found = coral.find_compiler()
        assert found == folder / "edgetpu_compiler"
        return found

    return make


def edited(flatbuffer: bytes, edit: Callable[[Any], None]) -> bytes:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    edit(model)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def tensor_of(model: Any, name: bytes) -> Any:
    """The tensor that the signature calls so."""
    (signature,) = model.signatureDefs
    maps = [*signature.inputs, *signature.outputs]
    (index,) = (t.tensorIndex for t in maps if t.name == name)
    return model.subgraphs[0].tensors[index]


def replays_exactly(flatbuffer: bytes, artifact: Artifact) -> bool:
    manifest = dataclasses.replace(
        artifact.manifest,
        sha256=hashlib.sha256(flatbuffer).hexdigest(),
        flatbuffer_bytes=len(flatbuffer),
    )
    with Session(
        dataclasses.replace(artifact, manifest=manifest, flatbuffer=flatbuffer)
    ) as session:
        return np.array_equal(session.replay(artifact.golden.x), artifact.golden.y)


def with_outside_buffers(flatbuffer: bytes) -> bytes:
    """The model with its constants behind it, as ai-edge-quantizer writes large ones."""
    constants: list[tuple[int, bytes]] = []

    def take_out(model: Any) -> None:
        for i, buffer in enumerate(model.buffers):
            if buffer.data is not None:
                constants.append((i, bytes(buffer.data)))
                buffer.data, buffer.offset, buffer.size = None, 1 << 32, len(constants[-1][1])

    length = len(edited(flatbuffer, take_out))
    places, tail = {}, b""
    for i, data in constants:
        tail += b"\0" * (-(length + len(tail)) % 16)
        places[i] = length + len(tail)
        tail += data

    def place(model: Any) -> None:
        constants.clear()
        take_out(model)
        for i, offset in places.items():
            model.buffers[i].offset = offset

    return edited(flatbuffer, place) + tail


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def wait_until_dead(pid_file: Path) -> None:
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + 5
    while alive(pid):
        assert time.monotonic() < deadline, "the compiler's child outlived it"
        time.sleep(0.01)


# What the Edge TPU documents


def test_documented_operations_are_tflite_operations() -> None:
    assert vars(BUILTIN).keys() >= coral.DOCUMENTED_OPERATIONS
    assert len(coral.DOCUMENTED_OPERATIONS) == 40  # rows of the documented table


def test_an_int8_step_graph_is_within_what_is_documented(tiny: Artifact) -> None:
    assert coral.check_operations(tiny.flatbuffer) == []
    assert coral.check_operations(with_outside_buffers(tiny.flatbuffer)) == []


def test_a_float_step_graph_is_not() -> None:
    float_model = Artifact.read(DATA / "tiny_float32.tflite").flatbuffer
    (finding,) = coral.check_operations(float_model)
    assert re.search(r"float32 tensors \(\d\d, the first '", finding)


def _leaky(model: Any) -> None:
    for code in model.operatorCodes:
        if code.builtinCode == BUILTIN.TANH:
            code.builtinCode = code.deprecatedBuiltinCode = BUILTIN.LEAKY_RELU


def _custom(model: Any) -> None:
    code = model.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = BUILTIN.CUSTOM
    code.customCode = b"MyOp"


def _old_file(model: Any) -> None:
    _leaky(model)
    for code in model.operatorCodes:
        code.builtinCode = 0


def _open_batch(model: Any) -> None:
    tensor = tensor_of(model, b"x")
    tensor.shapeSignature = np.array([-1, *tensor.shape[1:]], np.int32)


def _int16_states(model: Any) -> None:
    tensor_of(model, b"state_0").type = TYPE.INT16


def _computed_int32(model: Any) -> None:
    tensor_of(model, b"y").type = TYPE.INT32


def _int64_shape(model: Any) -> None:
    constants = (t for t in model.subgraphs[0].tensors if t.type == TYPE.INT32)
    next(constants).type = TYPE.INT64


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (_leaky, r"operation LEAKY_RELU \(\d in the graph\) is not among those documented"),
        (_old_file, r"operation LEAKY_RELU \(\d in the graph\) is not among those documented"),
        (_custom, r"operation MyOp \(\d in the graph\) is not among those documented"),
        (_open_batch, r"sizes open \(in 1 tensors, the first '\S+'\)"),
        (_int16_states, r"int16 tensors \(1, the first '\S+'\)"),
        (_computed_int32, r"int32 tensors \(1, the first '\S+'\)"),
        (_int64_shape, r"int64 tensors \(1, the first '\S+'\)"),
    ],
)
def test_what_is_not_documented_is_named(
    tiny: Artifact, edit: Callable[[Any], None], finding: str
) -> None:
    (sentence,) = coral.check_operations(edited(tiny.flatbuffer, edit))
    assert re.search(finding, sentence)
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_weights_with_a_scale_per_channel_are_named(tiny: Artifact) -> None:
    def per_tensor(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            if (
                tensor.quantization is not None
                and len(np.atleast_1d(tensor.quantization.scale)) > 1
            ):
                tensor.quantization.scale = tensor.quantization.scale[:1]

    (finding,) = coral.check_weights(tiny.flatbuffer)
    assert re.search(r"scale per channel \([1-9] in the graph\)", finding)
    assert coral.check_weights(edited(tiny.flatbuffer, per_tensor)) == []
    assert coral.check_weights(Artifact.read(DATA / "tiny_float32.tflite").flatbuffer) == []


def test_what_is_no_model_is_refused(tiny: Artifact) -> None:
    for data in (b"", b"hello", tiny.flatbuffer[:300], b"\0" * 64):
        for check in (coral.check_operations, coral.check_weights):
            with pytest.raises(ConversionError, match="not a TFLite model, or a damaged one"):
                check(data)


def test_all_this_needs_no_tensorflow() -> None:
    code = (
        "import sys; from edgelstm.artifact import Artifact; from edgelstm_quantize import coral\n"
        "assert 'ai_edge_litert' not in sys.modules\n"
        f"coral.check_operations(Artifact.read({str(DATA / 'tiny.tflite')!r}).flatbuffer)\n"
        "assert not {'tensorflow', 'keras', 'ai_edge_quantizer'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# The compiler


def test_without_a_compiler_there_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert coral.find_compiler() is None
    assert "https://coral.ai/docs/edgetpu/compiler/" in coral.WHERE_TO_GET_THE_COMPILER
    assert "x86-64" in coral.WHERE_TO_GET_THE_COMPILER


def test_a_compilation_tells_the_share_of_mapped_operations(
    tiny: Artifact, stand_in: StandIn
) -> None:
    compilation = coral.compile_model(tiny.flatbuffer, stand_in(tiny.flatbuffer))
    assert (compilation.mapped, compilation.operations, compilation.share) == (8, 10, 0.8)
    assert compilation.unmapped == (
        f"SPLIT (1): {LIMITED}",
        "FULLY_CONNECTED (1): More than one subgraph is not supported",
    )
    assert compilation.version == "16.0.384591198"
    assert compilation.log == REPORT.format(table=TABLE)
    assert compilation.flatbuffer == tiny.flatbuffer  # its signature was intact


def test_the_table_may_be_in_the_log_file_only(tiny: Artifact, stand_in: StandIn) -> None:
    written = f'{WRITE}; printf "%s" "{TABLE}" > "$3/model_edgetpu.log"'
    compiler = stand_in(tiny.flatbuffer, written, REPORT.format(table=""))
    assert coral.compile_model(tiny.flatbuffer, compiler).share == 0.8


def test_a_version_that_is_not_told_is_no_error(tiny: Artifact, stand_in: StandIn) -> None:
    compilation = coral.compile_model(tiny.flatbuffer, stand_in(tiny.flatbuffer, log=TABLE))
    assert compilation.version == ""
    assert compilation.operations == 10


@pytest.mark.parametrize(
    ("body", "log", "message"),
    [
        ("exit 1", FAILURE, r"failed \(exit code 1\), .* 'ERROR: Attempting to use a delegate"),
        ("exit 1", UNPARSED, r"failed \(exit code 1\), .*Didn't find op for builtin .*QUANTIZE"),
        ("exit 1", START + "\nCompilation failed!\n", r"last line being 'Compilation failed!'"),
        ("exit 3", "", r"failed \(exit code 3\), its last line being ''"),
        ("kill -SEGV $$", START, r"crashed \(SIGSEGV\), its last line being 'Started a comp"),
        (f"{WRITE}; kill -KILL $$", REPORT, r"crashed \(SIGKILL\)"),
        ("true", FAILURE, "reported no error but wrote no model, .* 'ERROR: Attempting to use"),
        (WRITE, START + "\nSegmentation \x00\xff fault", "log of edgetpu_compiler cannot be read"),
        (WRITE, REPORT.format(table=TABLE.partition("SPLIT")[0]), "cannot be read"),
        (WRITE, REPORT.format(table="\nOperator   Count   Status\n"), "cannot be read"),
    ],
)
def test_what_goes_wrong_becomes_a_sentence(
    tiny: Artifact, stand_in: StandIn, body: str, log: str, message: str
) -> None:
    with pytest.raises(ConversionError, match=message) as error:
        coral.compile_model(tiny.flatbuffer, stand_in(tiny.flatbuffer, body, log))
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("; the int8 model itself is complete and runs on a CPU.")


def test_a_compiler_that_hangs_is_killed_with_its_children(
    tiny: Artifact, stand_in: StandIn, tmp_path: Path
) -> None:
    hang = "trap '' TERM; sleep 300 & echo $! > child; wait"
    started = time.monotonic()
    with pytest.raises(ConversionError, match=r"did not finish within 0\.5 s and was stopped"):
        coral.compile_model(tiny.flatbuffer, stand_in(tiny.flatbuffer, hang, START), timeout=0.5)
    assert time.monotonic() - started < 5
    wait_until_dead(tmp_path / "bin" / "child")


def test_a_compiler_that_crashes_leaves_no_child_behind(
    tiny: Artifact, stand_in: StandIn, tmp_path: Path
) -> None:
    crash = "sleep 300 & echo $! > child; kill -SEGV $$"
    with pytest.raises(ConversionError, match="SIGSEGV"):
        coral.compile_model(tiny.flatbuffer, stand_in(tiny.flatbuffer, crash, START))
    wait_until_dead(tmp_path / "bin" / "child")


def test_an_interrupt_ends_the_compiler_as_well(
    tiny: Artifact, stand_in: StandIn, tmp_path: Path
) -> None:
    compiler = stand_in(tiny.flatbuffer, "echo $$ > child; exec sleep 300", START)
    timer = threading.Timer(0.5, _thread.interrupt_main)
    # What runs in the background of a script has interrupts ignored from the start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            coral.compile_model(tiny.flatbuffer, compiler)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    wait_until_dead(tmp_path / "bin" / "child")


def test_what_cannot_be_run_becomes_a_sentence(tiny: Artifact, tmp_path: Path) -> None:
    program = tmp_path / "edgetpu_compiler"
    program.write_bytes(b"\x7fELF of another processor")
    for mode, reason in ((0o644, "Permission denied"), (0o755, "Exec format error")):
        program.chmod(mode)
        with pytest.raises(ConversionError, match=rf"cannot be run \({reason}\)"):
            coral.compile_model(tiny.flatbuffer, program)


def test_nothing_is_left_in_the_temporary_folder(
    tiny: Artifact, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    coral.compile_model(tiny.flatbuffer, stand_in(tiny.flatbuffer))
    assert list((tmp_path / "tmp").iterdir()) == []


# The signature


def _drop_signature(model: Any) -> None:
    model.signatureDefs = None


def _drop_signature_and_reorder(model: Any) -> None:
    model.signatureDefs = None
    graph = model.subgraphs[0]
    graph.inputs, graph.outputs = graph.inputs[::-1], graph.outputs[::-1]
    # Move the first input to the end of the tensors: every other index changes.
    count = len(graph.tensors)
    graph.tensors = graph.tensors[1:] + graph.tensors[:1]
    moved = {-1: -1} | {i: (i - 1) % count for i in range(count)}
    graph.inputs = [moved[int(i)] for i in graph.inputs]
    graph.outputs = [moved[int(i)] for i in graph.outputs]
    for operator in graph.operators:
        operator.inputs = [moved[int(i)] for i in operator.inputs]
        operator.outputs = [moved[int(i)] for i in operator.outputs]


@pytest.mark.parametrize("edit", [_drop_signature, _drop_signature_and_reorder])
def test_a_signature_that_was_dropped_is_put_back(
    tiny: Artifact, stand_in: StandIn, edit: Callable[[Any], None]
) -> None:
    compiler = stand_in(edited(tiny.flatbuffer, edit))
    compiled = coral.compile_model(tiny.flatbuffer, compiler).flatbuffer
    assert replays_exactly(compiled, tiny)


def _rename_output(model: Any) -> None:
    graph = model.subgraphs[0]
    graph.tensors[graph.outputs[0]].name = b"renamed"


def _rescale_state(model: Any) -> None:
    tensor_of(model, b"state_0").quantization.scale = np.array([0.5], np.float32)


def _retype_input(model: Any) -> None:
    tensor_of(model, b"x").type = TYPE.UINT8


def _reshape_input(model: Any) -> None:
    tensor = tensor_of(model, b"x")
    tensor.shape = np.array([*tensor.shape, 1], np.int32)


def _lose_state(model: Any) -> None:
    model.subgraphs[0].outputs = model.subgraphs[0].outputs[1:]


@pytest.mark.parametrize(
    "edit", [_rename_output, _rescale_state, _retype_input, _reshape_input, _lose_state]
)
@pytest.mark.parametrize("dropped", [True, False])
def test_a_changed_interface_is_an_error(
    tiny: Artifact, stand_in: StandIn, edit: Callable[[Any], None], dropped: bool
) -> None:
    def both(model: Any) -> None:
        edit(model)
        if dropped:
            _drop_signature(model)

    compiler = stand_in(edited(tiny.flatbuffer, both))
    with pytest.raises(ConversionError, match="changed the model's inputs or outputs"):
        coral.compile_model(tiny.flatbuffer, compiler)


def _swap_states(model: Any) -> None:
    a, b, *_ = model.signatureDefs[0].inputs
    a.name, b.name = b.name, a.name


def _rename_signature(model: Any) -> None:
    model.signatureDefs[0].signatureKey = b"serving_default"


@pytest.mark.parametrize("edit", [_swap_states, _rename_signature])
def test_a_changed_signature_is_an_error(
    tiny: Artifact, stand_in: StandIn, edit: Callable[[Any], None]
) -> None:
    compiler = stand_in(edited(tiny.flatbuffer, edit))
    with pytest.raises(ConversionError, match="changed the model's signature"):
        coral.compile_model(tiny.flatbuffer, compiler)


@pytest.mark.parametrize("answer", [b"", b"hello", "half"])
def test_a_damaged_output_is_an_error(
    tiny: Artifact, stand_in: StandIn, answer: bytes | str
) -> None:
    data = tiny.flatbuffer[:3000] if answer == "half" else answer
    with pytest.raises(ConversionError, match="What edgetpu_compiler wrote is not a TFLite model"):
        coral.compile_model(tiny.flatbuffer, stand_in(data))


def test_constants_behind_the_flatbuffer_are_put_inside_for_the_compiler(
    tiny: Artifact, stand_in: StandIn
) -> None:
    outside = with_outside_buffers(tiny.flatbuffer)
    assert replays_exactly(outside, tiny)
    compiler = stand_in(b"", 'cp "$4" "$3/model_edgetpu.tflite"')
    compiled = coral.compile_model(outside, compiler).flatbuffer
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(compiled, 0))
    assert all(buffer.offset == buffer.size == 0 for buffer in model.buffers)
    assert replays_exactly(compiled, tiny)


# With real conversions


def converted(recording: Recording, layer: str, units: int) -> Artifact:
    from keras import Input, Model, layers, utils

    from edgelstm_quantize import quantize

    utils.set_random_seed(0)
    x = Input((None, 3))
    z = layers.Normalization(mean=[20.0, -5, 1000], variance=[4.0, 1, 2500])(x)
    z = layers.Conv1D(4, 3, padding="causal", activation="relu")(z)
    y = layers.Dense(3)(getattr(layers, layer)(units, return_sequences=True)(z))
    return quantize(Model(x, y), recording.rows(0, 400), recipe="int8", allow_low_fidelity=True)


@pytest.mark.parametrize("layer", ["LSTM", "GRU", "SimpleRNN"])
def test_int8_step_graphs_are_within_what_is_documented(layer: str, waves: Recording) -> None:
    assert coral.check_operations(converted(waves, layer, 8).flatbuffer) == []


def test_a_large_model_reaches_the_compiler_with_its_weights(
    waves: Recording, stand_in: StandIn
) -> None:
    artifact = converted(waves, "LSTM", 256)
    compiler = stand_in(b"", 'cp "$4" "$3/model_edgetpu.tflite"')
    compiled = coral.compile_model(artifact.flatbuffer, compiler).flatbuffer
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(compiled, 0))
    # None lies behind the flatbuffer, where a compiler of 2021 would not look.
    assert all(buffer.offset == 0 for buffer in model.buffers)
    assert replays_exactly(compiled, artifact)
