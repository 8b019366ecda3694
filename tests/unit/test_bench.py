from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

import edgelstm
from edgelstm.artifact import Artifact, Golden
from edgelstm.benchmark import footprint as footprint_module
from edgelstm.benchmark.float_twin import _real, float_twin
from edgelstm.benchmark.footprint import Footprint, measure_footprint
from edgelstm.benchmark.lstm_stack import LstmStack, lstm_stack
from edgelstm.benchmark.machine import cores, cpu_name
from edgelstm.benchmark.onnx_peer import onnx_steps
from edgelstm.benchmark.runtime import bare_interpreter, inner_invoke, version_of
from edgelstm.benchmark.timing import Candidate, Timing, time_in_turns
from edgelstm.cli import main
from edgelstm.commands.bench import Report, _page, bench
from edgelstm.errors import BackendError, ConfigurationError, MissingDependencyError
from edgelstm.manifest import Manifest, Operation
from edgelstm.session import Session

READING_THE_CLOCK = 50


class Clock:
    """Nanoseconds that pass when something takes them; reading it takes some as well."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += READING_THE_CLOCK
        return self.now

    def taking(self, nanoseconds: Callable[[Any], int]) -> Callable[..., None]:
        def call(x: Any = None) -> None:
            self.now += nanoseconds(x)

        return call


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(bench, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


# Timing


def test_quantiles_are_of_single_calls_without_the_cost_of_the_clock() -> None:
    clock = Clock()
    took = [1000] * 85 + [3000] * 10 + [9000] * 5
    candidate = Candidate("a", clock.taking(lambda x: x), took)
    (timing,) = time_in_turns([candidate], 1.0, clock=clock)
    assert timing.median_us == pytest.approx(1.0, rel=1e-6)
    assert timing.p90_us == pytest.approx(3.0, rel=1e-6)
    assert timing.p99_us == pytest.approx(9.0, rel=1e-6)
    assert timing.mean_us == pytest.approx(np.mean(took) / 1000, rel=0.05)
    assert timing.calls > 10_000


def test_the_mean_is_the_median_of_slices_and_ignores_a_disturbed_one() -> None:
    clock = Clock()
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        clock.now += 10_000_000 if calls % 7000 == 0 else 2000

    (timing,) = time_in_turns([Candidate("a", call)], 0.5, clock=clock)
    assert timing.mean_us == pytest.approx(2.0, rel=0.01)
    assert timing.spread < 0.01
    assert timing.steps_per_second == pytest.approx(5e5, rel=0.01)


def test_spread_tells_noise() -> None:
    clock = Clock()
    call = clock.taking(lambda _: 1000 if clock.now // 50_000_000 % 2 else 2000)
    (timing,) = time_in_turns([Candidate("a", call)], 1.0, clock=clock)
    assert timing.spread > 0.4


def test_candidates_take_turns_so_that_all_meet_the_same_noise() -> None:
    clock = Clock()

    def busy(factor: int) -> Callable[[Any], int]:
        return lambda _: factor * (1000 if clock.now // 20_000_000 % 2 else 5000)

    a = Candidate("a", clock.taking(busy(1)))
    b = Candidate("b", clock.taking(busy(3)))
    first, second = time_in_turns([a, b], 2.0, clock=clock)
    assert first.rounds == second.rounds
    assert second.ratio(first) == pytest.approx(3, rel=0.1)


def test_time_is_kept_and_reported() -> None:
    clock = Clock()
    reports: list[tuple[int, int]] = []
    call = clock.taking(lambda _: 1000)
    time_in_turns(
        [Candidate("a", call), Candidate("b", call)],
        0.2,
        on_progress=lambda done, total: reports.append((done, total)),
        clock=clock,
    )
    assert reports == sorted(reports)
    assert reports[-1] == (200, 200)
    assert 0.2e9 < clock.now < 0.25e9


def test_at_least_ten_rounds_of_a_slow_call() -> None:
    clock = Clock()
    call = clock.taking(lambda _: 50_000_000)
    (timing,) = time_in_turns([Candidate("a", call)], 0.001, clock=clock)
    assert timing.rounds == 10
    assert timing.median_us == pytest.approx(50_000, rel=1e-3)


def test_readings_come_one_after_the_other_again_and_again() -> None:
    clock = Clock()
    seen: list[int] = []

    def call(x: int) -> None:
        seen.append(x)
        clock.now += 100_000

    time_in_turns([Candidate("a", call, range(7))], 0.001, clock=clock)
    assert seen == [i % 7 for i in range(len(seen))]


def timing(name: str, mean: float, streams: int = 1) -> Timing:
    return Timing(name, streams, 300, 9000, mean, 0.04, mean, 1.5 * mean, 4 * mean)


def test_a_step_of_many_streams_is_a_part_of_a_call() -> None:
    many = timing("many", 32.0, streams=64)
    assert many.ratio(timing("one", 2.0)) == pytest.approx(0.25)
    assert many.steps_per_second == pytest.approx(2e6)


# What is measured


def test_bare_interpreter_computes_what_the_session_does(tiny_float: Artifact) -> None:
    interpreter = bare_interpreter(tiny_float.flatbuffer, "litert")
    x = tiny_float.golden.x[:1]
    runner = interpreter.get_signature_runner("step").get_input_details()
    name = tiny_float.manifest.inputs[0].tensor.name
    interpreter.set_tensor(runner[name]["index"], x)
    inner_invoke(interpreter)()
    found = [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
    with Session(tiny_float) as session:
        expected = session.step(x[0])
    assert expected is not None
    assert any(y.shape == (1, 2) and np.allclose(y[0], expected, rtol=1e-5) for y in found)


def test_versions_of_backends() -> None:
    assert version_of("litert")[0].isdigit()


@pytest.mark.parametrize("recipe", ["tiny", "tiny_float"])
def test_lstm_layers_of_an_artifact(recipe: str, request: pytest.FixtureRequest) -> None:
    manifest: Manifest = request.getfixturevalue(recipe).manifest
    stack = lstm_stack(manifest)
    assert stack == LstmStack(2, (8,) if recipe == "tiny" else (32,), 2)
    assert str(stack) == f"LSTM({stack.units[0]}) + Dense(2)"


def with_states(manifest: Manifest, sizes: tuple[int, ...], layers: int, **counts: int) -> Manifest:
    pair = manifest.states[0]
    operations = {"SPLIT": layers, "LOGISTIC": 3 * layers, "TANH": 2 * layers} | counts
    return dataclasses.replace(
        manifest,
        states=tuple(
            dataclasses.replace(pair, input=dataclasses.replace(pair.input, shape=(1, n)))
            for n in sizes
        ),
        operations=tuple(Operation(name, 1, n) for name, n in sorted(operations.items())),
    )


def test_cell_states_in_several_parts_belong_to_one_layer(tiny: Artifact) -> None:
    sizes = (32, 8, 11, 12, 1, 16, 16)
    assert lstm_stack(with_states(tiny.manifest, sizes, 2, TANH=10)).units == (32, 16)


@pytest.mark.parametrize("artifact", ["tiny_window", "tiny_ports", "tiny_tokens"])
def test_what_is_no_lstm_stack_is_refused(artifact: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(ConfigurationError, match=f"'{artifact}' is not a stack of LSTM"):
        lstm_stack(request.getfixturevalue(artifact).manifest)


@pytest.mark.parametrize(
    ("sizes", "layers", "counts"),
    [
        ((8,), 1, {}),  # one state: a GRU or SimpleRNN
        ((8, 8, 8), 1, {}),
        ((8, 9), 1, {}),  # a cell state that is too large
        ((8, 8), 2, {}),  # a SPLIT too many
        ((8, 8), 1, {"LOGISTIC": 2}),
        ((8, 8), 1, {"TANH": 1}),
        ((8, 8), 1, {"BATCH_MATMUL": 1}),  # something that the peer would not have
        ((), 0, {}),
    ],
)
def test_states_and_operations_have_to_be_those_of_lstm_layers(
    tiny: Artifact, sizes: tuple[int, ...], layers: int, counts: dict[str, int]
) -> None:
    with pytest.raises(ConfigurationError):
        lstm_stack(with_states(tiny.manifest, sizes, layers, **counts))


def test_one_input_of_numbers_only(tiny: Artifact) -> None:
    (port,) = tiny.manifest.inputs
    tokens = dataclasses.replace(port.channels[0], tokens=5)
    port_of_tokens = dataclasses.replace(port, channels=(tokens,))
    for inputs in ((port, port), (port_of_tokens,)):
        with pytest.raises(ConfigurationError):
            lstm_stack(dataclasses.replace(tiny.manifest, inputs=inputs, detection=None))


# The float twin


def outputs(artifact: Artifact, readings: NDArray[np.float64]) -> NDArray[np.float64]:
    with Session(artifact) as session:
        return np.array([session.step(x) for x in readings])


def test_float_twin_computes_the_same_in_float(
    tiny_float: Artifact, sines: NDArray[np.float64]
) -> None:
    twin = dataclasses.replace(tiny_float, flatbuffer=float_twin(tiny_float.flatbuffer))
    a, b = outputs(tiny_float, sines), outputs(twin, sines)
    change = np.abs(a - b).mean(axis=0) / a.std(axis=0)
    assert (change < 0.01).all()
    assert (change > 1e-6).all()  # int8 products round, those of the twin do not


def test_float_twin_has_nothing_quantised_left(tiny_float: Artifact) -> None:
    twin = bare_interpreter(float_twin(tiny_float.flatbuffer), "litert")
    types = {np.dtype(d["dtype"]).name for d in twin.get_tensor_details()}
    assert "float32" in types
    assert not types & {"int8", "int16"}
    assert all(o["op_name"] != "DEQUANTIZE" for o in twin._get_ops_details())


def test_weights_of_the_float_twin_are_those_of_the_artifact(tiny_float: Artifact) -> None:
    before = bare_interpreter(tiny_float.flatbuffer, "litert")
    after = bare_interpreter(float_twin(tiny_float.flatbuffer), "litert")
    weights = {d["name"]: d for d in after.get_tensor_details() if d["name"]}
    checked = 0
    for d in before.get_tensor_details():
        if d["dtype"] is not np.int8:
            continue
        p = d["quantization_parameters"]
        shape = [1] * len(d["shape"])
        if len(p["scales"]) > 1:
            shape[p["quantized_dimension"]] = -1
        raw = before.get_tensor(d["index"]).astype(np.float64)
        real = (raw - p["zero_points"].reshape(shape)) * p["scales"].reshape(shape)
        found = after.get_tensor(weights[d["name"]]["index"])
        np.testing.assert_allclose(found, real, rtol=1e-6)
        checked += 1
    assert checked == 3


def test_raw_values_become_the_numbers_they_stand_for() -> None:
    raw = np.array([[-128, 0, 3], [1, 2, 127]], np.int8)
    cases = (([0.5], [3], 0), ([0.5, 2.0], [3, -1], 0), ([1.0, 2.0, 3.0], [0, 0, 0], 1))
    for scale, zero_point, axis in cases:
        quantization = SimpleNamespace(scale=scale, zeroPoint=zero_point, quantizedDimension=axis)
        expected = [
            [
                (float(raw[i, j]) - zero_point[k]) * scale[k]
                for j in range(3)
                for k in [0 if len(scale) == 1 else (i, j)[axis]]
            ]
            for i in range(2)
        ]
        np.testing.assert_array_equal(_real(raw, quantization), expected)


def test_float_twin_holds_its_weights_once(tiny_float: Artifact) -> None:
    # 32 units on 2 channels, 4 gates, float32; the int8 weights would be a quarter more.
    weights = 4 * (4 * 32 * (2 + 32 + 1) + 33 * 2)
    overhead = len(tiny_float.flatbuffer) - weights // 4
    assert len(float_twin(tiny_float.flatbuffer)) < weights + overhead


def test_no_float_twin_of_integer_activations(tiny: Artifact) -> None:
    with pytest.raises(ConfigurationError, match=r"float32 as well.*'edgelstm compare'"):
        float_twin(tiny.flatbuffer)


def test_no_float_twin_of_a_float_artifact(tiny_float32: Artifact) -> None:
    with pytest.raises(ConfigurationError, match="in float already"):
        float_twin(tiny_float32.flatbuffer)


# Start-up and memory


@pytest.mark.slow
def test_footprint_of_real_processes(tiny: Artifact, tiny_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    found = measure_footprint(
        tiny_path,
        tiny.flatbuffer,
        "litert",
        processes=1,
        on_progress=lambda done, total: reports.append((done, total)),
    )
    assert reports == [(i, 6) for i in range(6)]
    assert 0.01 < found.bare_s < 60
    assert 0.01 < found.session_s < 60
    # An interpreter takes some memory; so does edgelstm, and not very much.
    assert found.runtime_bytes > 10e6
    assert found.bare_bytes - found.runtime_bytes > 1e6
    assert found.session_bytes > found.bare_bytes
    assert found.session_bytes - found.bare_bytes < 50e6


def test_medians_of_all_processes_but_the_first_of_each_kind(
    tiny: Artifact, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, bytes]] = []

    def probe(kind: str, path: Path, _backend: str) -> tuple[float, int]:
        started.append((kind, path.read_bytes()))
        turn = (len(started) - 1) // 3  # the first takes its files from the disk
        scale = {"runtime": 1, "bare": 10, "session": 100}[kind]
        return (99.0 if turn == 0 else turn * scale), turn * scale

    monkeypatch.setattr(footprint_module, "_probe", probe)
    found = measure_footprint(tiny_path, b"model", "litert", processes=3)
    assert found == Footprint(3, 200, 20, 200, 20, 2)
    artifact = tiny_path.read_bytes()
    turn = [("runtime", b"model"), ("bare", b"model"), ("session", artifact)]
    assert started == turn * 4


def test_a_failing_process_is_told(tiny: Artifact, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(tiny.flatbuffer[:-100])
    with pytest.raises(BackendError, match=r"damaged\.tflite failed \(.*--no-footprint"):
        measure_footprint(damaged, tiny.flatbuffer, "litert", processes=1)


def test_a_hanging_process_is_ended(
    tiny: Artifact, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footprint_module, "_PATIENCE_S", 0.001)
    with pytest.raises(BackendError, match=r"did not end within 0\.001 s"):
        measure_footprint(tiny_path, tiny.flatbuffer, "litert", processes=1)


# The machine


def file(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_board_is_called_by_its_name(tmp_path: Path) -> None:
    file(tmp_path, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    file(tmp_path, "proc/cpuinfo", "processor\t: 0\nBogoMIPS\t: 108.00\n")
    assert cpu_name(tmp_path) == "Raspberry Pi 4 Model B Rev 1.4"


def test_a_processor_is_called_by_its_name(tmp_path: Path) -> None:
    file(tmp_path, "proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n")
    assert cpu_name(tmp_path) == "Some CPU @ 2 GHz"


def test_a_machine_without_proc_has_a_name(tmp_path: Path) -> None:
    assert cpu_name(tmp_path)
    assert cores() >= 1


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300"])
def test_a_time_that_never_ends_is_refused(tiny_path: Path, seconds: str) -> None:
    result = CliRunner().invoke(main, ["bench", str(tiny_path), "--seconds", seconds])
    assert result.exit_code == 2
    assert "--seconds is" in result.output


# Peers


@pytest.mark.parametrize("name", ["onnxruntime", "onnx"])
def test_a_missing_onnx_runtime_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgelstm\[peers\]'"):
        onnx_steps(LstmStack(2, (8,), 2), "int8")


def test_a_missing_tf_keras_is_told(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(
        MissingDependencyError, match=r"tf_keras.*pip install 'edgelstm\[quantize,peers\]'"
    ):
        run(tiny_path, "--against", "fused", "--seconds", "0.01", "--no-footprint")


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_both_ways_of_onnx_runtime_keep_the_states(precision: str) -> None:
    steps = onnx_steps(LstmStack(3, (8, 16), 2), precision)
    readings = np.random.default_rng(0).normal(0, 1, (20, 3))
    a, b = (np.array([step(x) for x in readings]) for step in steps.values())
    assert a.shape == (20, 2)
    np.testing.assert_allclose(a, b, atol=1e-6)
    again = np.array([steps["run"](readings[0]) for _ in range(3)])
    assert np.abs(np.diff(again, axis=0)).max() > 1e-4  # the state goes on


def test_int8_of_onnx_runtime_is_near_its_float() -> None:
    stack = LstmStack(3, (32, 32), 3)
    readings = np.random.default_rng(0).normal(0, 1, (50, 3))
    a, b = (
        np.array([onnx_steps(stack, precision)["run"](x) for x in readings[:1]])
        for precision in ("float32", "int8")
    )
    assert 0 < np.abs(a - b).max() < 0.05


def test_against_onnx_runtime(tiny_path: Path) -> None:
    page = run(tiny_path, "--against", "onnxruntime", "--seconds", "0.05", "--no-footprint")
    assert "LSTM(8) + Dense(2), random weights" in page
    assert "\nONNX Runtime float32 " in page
    assert "\nONNX Runtime int8 " in page


@pytest.mark.slow
def test_against_the_fused_operation(tiny_path: Path) -> None:
    page = run(tiny_path, "--against", "fused", "--seconds", "0.05", "--no-footprint")
    assert "\nfused int8 " in page


# The command


def test_the_command_imports_nothing_heavy() -> None:
    code = "import sys, edgelstm.commands.bench; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "edgelstm" in loaded
    heavy = {"tensorflow", "keras", "tf_keras", "ai_edge_litert", "tflite_runtime", "onnxruntime"}
    assert not loaded & heavy


def rows(page: str) -> dict[str, list[str]]:
    """The rows of the table by their names, which end at two blanks."""
    table = page.split("\n\n")[1].splitlines()
    cells = [[cell for cell in line.split("  ") if cell] for line in table]
    return {name: [cell.strip() for cell in figures] for name, *figures in cells}


@pytest.mark.slow
def test_the_page(tiny_path: Path) -> None:
    page = run(tiny_path, "--seconds", "0.1", "--streams", "3")
    header, *_ = page.split("\n\n")
    assert header.splitlines()[0] == "file      tiny.tflite: int8, 2 states"
    assert f"ai-edge-litert {version_of('litert')}, one thread" in header
    assert f"numpy {np.__version__}, edgelstm {edgelstm.__version__}" in header
    table = rows(page)
    assert list(table)[1:] == ["session.step", "raw Invoke", "Streams(3).step", "per stream"]
    assert table["raw Invoke"][-1] == "1.00"
    assert "\nMemory    " in page
    assert "\nStart-up  " in page


def test_the_figures_of_the_page() -> None:
    report = Report(
        file="pump.tflite",
        recipe="int8-float",
        mode="stream",
        window=None,
        hop=1,
        states=4,
        backend="litert",
        runtime="ai-edge-litert 2.3.0",
        cpu="Raspberry Pi 4 Model B Rev 1.4",
        architecture="aarch64",
        cores=4,
        versions={"python": "3.11.2", "numpy": "2.4.6", "edgelstm": "0.1.0"},
        peers=("a peer: this and that",),
        timings=(timing("session.step", 3), timing("raw Invoke", 2), timing("Streams(64)", 32, 64)),
        footprint=Footprint(3, 0.31, 0.21, 47_500_000, 39_000_000, 36_000_000),
    )
    assert _page(report) == [
        "file      pump.tflite: int8-float, 4 states",
        "runtime   ai-edge-litert 2.3.0, one thread",
        "machine   Raspberry Pi 4 Model B Rev 1.4, aarch64, 4 cores",
        "versions  python 3.11.2, numpy 2.4.6, edgelstm 0.1.0",
        "peer      a peer: this and that",
        "",
        "               median      p90       p99    steps/s  to raw Invoke",
        "session.step   3.0 us   4.5 us   12.0 us    333,333           1.50",
        "raw Invoke     2.0 us   3.0 us    8.0 us    500,000           1.00",
        "Streams(64)   32.0 us  48.0 us  128.0 us  2,000,000           0.25",
        "  per stream  0.50 us  0.75 us   2.00 us",
        "",
        "Memory    11.5 MB over numpy and the runtime's 36 MB "
        "(the bare runtime with this model: 3.0 MB)",
        "Start-up  310 ms from import to the first step (the bare runtime: 210 ms)",
        "          each the median of 3 fresh processes",
        "Timed in 300 rounds, slices of 1 ms in turns; the middle 80 % of a row's slices lie "
        "within 4% of its median at most.",
    ]


def test_json_has_the_same_figures(tiny_path: Path) -> None:
    data = json.loads(run(tiny_path, "--seconds", "0.05", "--no-footprint", "--json"))
    assert data["file"] == "tiny.tflite"
    assert data["backend"] == "litert"
    assert data["footprint"] is None
    step, invoke = data["timings"]
    assert (step["name"], invoke["name"]) == ("session.step", "raw Invoke")
    assert step["ratio_to_invoke"] == pytest.approx(step["mean_us"] / invoke["mean_us"])
    assert step["steps_per_second"] == pytest.approx(1e6 / step["mean_us"])
    assert 0 < step["median_us"] <= step["p90_us"] <= step["p99_us"]
    assert step["ratio_to_invoke"] > 1  # nothing is faster than the runtime alone


@pytest.mark.slow
def test_json_with_start_up_and_memory(tiny_path: Path) -> None:
    data = json.loads(run(tiny_path, "--seconds", "0.01", "--json"))
    assert data["footprint"]["processes"] == 3
    assert data["footprint"]["session_bytes"] > data["footprint"]["runtime_bytes"]


def test_against_float(tiny_path: Path) -> None:
    artifact = tiny_path.with_name("tiny_float.tflite")
    page = run(artifact, "--against", "float", "--seconds", "0.05", "--no-footprint")
    peer = re.search(r"\npeer      float: the same graph with float32 weights, (.+) bytes\n", page)
    assert peer
    assert int(peer[1].replace(",", "")) > Artifact.read(artifact).manifest.flatbuffer_bytes
    assert {"float session.step", "float raw Invoke"} < rows(page).keys()


def test_a_window_says_that_it_rests(tiny_path: Path) -> None:
    artifact = tiny_path.with_name("tiny_window.tflite")
    page = run(artifact, "--seconds", "0.05", "--no-footprint")
    assert "window of 8, run every 3 readings; session.step over all readings" in page


@pytest.mark.slow
def test_without_golden_vectors_the_means_are_stepped(tiny: Artifact, tmp_path: Path) -> None:
    golden = Golden(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.int8))
    path = tmp_path / "plain.tflite"
    dataclasses.replace(tiny, golden=golden).write(path)
    assert "session.step" in rows(run(path, "--seconds", "0.05"))


def test_help_has_an_example() -> None:
    page = run("--help")
    assert "Example: edgelstm bench pump.tflite" in page


def test_a_host_that_is_empty_is_not_this_machine(tiny_path: Path) -> None:
    result = CliRunner().invoke(main, ["bench", str(tiny_path), "--on", ""])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "The HOST is empty" in result.stderr
