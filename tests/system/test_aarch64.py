"""The device side on the processor of a 64-bit Raspberry Pi, emulated by qemu.

The figures of an emulated processor are those of a real one; its speed says nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.artifact import Artifact

TESTS = Path(__file__).parent.parent
PROJECT = TESTS.parent
ROOT = PROJECT / "build" / "aarch64"
SOURCES = [PROJECT / folder for folder in (".", "quantize", "firmware_bridge", "devices")]
QEMU = shutil.which("qemu-aarch64-static")
TINY = {path.stem: path for path in sorted((TESTS / "data").glob("tiny*.tflite"))}
# Where the wheels of each backend are.
SITES = {"litert": "site", "tflite-runtime": "site-tflite-runtime"}

Completed = subprocess.CompletedProcess[str]
Run = Callable[..., Completed]
Results = dict[str, Completed]

pytestmark = pytest.mark.skipif(
    QEMU is None or not (ROOT / ".ready").exists(),
    reason="run: apt-get install qemu-user-static && make build/aarch64/.ready",
)


def emulated(*arguments: str | Path, backend: str = "litert") -> Completed:
    """Runs Python for aarch64, where one backend is installed."""
    (python,) = (ROOT / "root/usr/bin").glob("python3.[0-9]*")
    # The default CPU model of qemu 7 computes some int8 kernels wrongly.
    command = [str(QEMU), "-cpu", "cortex-a72", "-L", str(ROOT / "root"), str(python)]
    return subprocess.run(
        [*command, *map(str, arguments)],
        env={
            "PYTHONHOME": str(ROOT / "root/usr"),
            "PYTHONPATH": ":".join(map(str, [ROOT / SITES[backend], *SOURCES])),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": os.environ["PATH"],
        },
        capture_output=True,
        text=True,
        check=False,
    )


def emulated_old(*arguments: str | Path) -> Completed:
    """Runs Python for aarch64, where tflite-runtime is installed."""
    return emulated(*arguments, backend="tflite-runtime")


def native(*arguments: str | Path) -> Completed:
    """Runs the Python of this environment."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# Runs a script with each file, in a forked child: under emulation most of the time goes into
# imports, and what crashes with one file must not hide the others.
FORK = """
import importlib, json, os, runpy, sys
script, backend, out, *files = sys.argv[1:]
packages = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
importlib.import_module(packages[backend] + ".interpreter")
import edgelstm.session
codes = []
for i, file in enumerate(files):
    if not os.fork():
        break
    codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
else:
    print(json.dumps(codes))
    sys.exit()
for number, name in ((1, "out"), (2, "err")):
    os.dup2(os.open(f"{out}/{i}.{name}", os.O_WRONLY | os.O_CREAT), number)
sys.argv = [script, backend, file]
runpy.run_path(script, run_name="__main__")
"""


def run_each(run: Run, backend: str, script: Path, files: dict[str, Path], out: Path) -> Results:
    """How `script BACKEND FILE` ended for each file, {name: completed process}."""
    out.mkdir(parents=True)
    whole = run("-c", FORK, script, backend, out, *files.values())
    assert whole.returncode == 0, whole.stderr
    return {
        name: subprocess.CompletedProcess(
            [str(script), backend, str(file)],
            code,
            (out / f"{i}.out").read_text(),
            (out / f"{i}.err").read_text(),
        )
        for i, ((name, file), code) in enumerate(
            zip(files.items(), json.loads(whole.stdout), strict=True)
        )
    }


# A model without any bias and what the command makes of it, by the recipe that it chooses itself
# and by the others that tflite-runtime computes.
CONVERT = """
import subprocess, sys
from pathlib import Path
data, out = map(Path, sys.argv[1:])
sys.path.insert(0, str(data))
import keras
from make_tiny import SCALING, sines
from edgelstm_quantize import quantize
keras.utils.set_random_seed(1)
x = keras.Input((None, 2))
h = keras.layers.Normalization(**SCALING)(x)
h = keras.layers.LSTM(16, use_bias=False, return_sequences=True)(h)
y = keras.layers.Dense(2, use_bias=False)(h)
model = keras.Model(x, keras.layers.Normalization(**SCALING, invert=True)(y))
model.save(out / "model.keras")
rows = [",".join(map(str, row)) for row in sines(900).values]
(out / "recording.csv").write_text("\\n".join(["flow,level", *rows]) + "\\n")
command = f"quantize {out}/model.keras --calibration {out}/recording.csv --sample-period 60"
command += f" --runtime tflite-runtime -o {out}/default.tflite"
subprocess.run([sys.executable, "-m", "edgelstm", *command.split()], check=True)
for recipe in ("int8", "int8-float", "int16x8"):
    artifact = quantize(model, sines(900), recipe=recipe, runtime="tflite-runtime")
    artifact.write(out / f"{recipe}.tflite")
"""
CONVERTED = ["default", "int8", "int8-float", "int16x8"]
INTEGER = {"int8", "int16x8"}


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What `edgelstm quantize --runtime tflite-runtime` makes."""
    out = tmp_path_factory.mktemp("converted")
    result = native("-c", CONVERT, TESTS / "data", out)
    assert result.returncode == 0, result.stderr
    return {name: out / f"{name}.tflite" for name in CONVERTED}


@pytest.fixture(scope="module")
def contracts(
    tmp_path_factory: pytest.TempPathFactory, converted: dict[str, Path]
) -> dict[str, Results]:
    """The contract with each artifact: in ai-edge-litert here, and in both runtimes there."""
    script, files = TESTS / "system/contract.py", TINY | converted
    out = tmp_path_factory.mktemp("contracts")
    with ThreadPoolExecutor() as pool:
        runs = {
            "here": pool.submit(run_each, native, "litert", script, files, out / "here"),
            "litert": pool.submit(run_each, emulated, "litert", script, files, out / "there"),
            "old": pool.submit(
                run_each, emulated_old, "tflite-runtime", script, files, out / "old"
            ),
        }
    return {name: run.result() for name, run in runs.items()}


def outputs(result: Completed) -> NDArray[np.float64]:
    assert result.returncode == 0, result.stderr
    return np.array(json.loads(result.stdout)["outputs"], np.float64)


def test_it_is_an_aarch64() -> None:
    assert emulated("-c", "import os; print(os.uname().machine)").stdout == "aarch64\n"


@pytest.mark.parametrize("name", [*TINY, *CONVERTED])
def test_ai_edge_litert_computes_what_it_does_here(
    name: str, contracts: dict[str, Results]
) -> None:
    here, there = outputs(contracts["here"][name]), outputs(contracts["litert"][name])
    if Artifact.read(contracts["here"][name].args[-1]).manifest.recipe in INTEGER:
        np.testing.assert_array_equal(there, here)
    else:
        np.testing.assert_allclose(there, here, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in [*TINY, *CONVERTED] if name != "tiny_float"])
def test_tflite_runtime_computes_what_ai_edge_litert_does(
    name: str, contracts: dict[str, Results]
) -> None:
    result = contracts["old"][name]
    manifest = Artifact.read(result.args[-1]).manifest
    assert manifest.runtimes["tflite-runtime"] == "2.14.0"
    there, reference = outputs(result), outputs(contracts["here"][name])
    if manifest.recipe in ("float32", "int8-weight"):
        np.testing.assert_allclose(there, reference, rtol=1e-5)
    else:
        assert (np.abs(there - reference) <= manifest.golden_tolerance).all()


def test_tflite_runtime_refuses_what_it_would_compute_wrongly(
    contracts: dict[str, Results], tiny_float: Artifact
) -> None:
    assert contracts["old"]["tiny_float"].stderr.splitlines()[-1] == (
        "edgelstm.errors.BackendError: tflite-runtime loads this model (int8-float) but computes "
        "it wrongly; run it with ai-edge-litert "
        f"{tiny_float.manifest.runtimes['ai-edge-litert']}, or convert it with "
        "--runtime tflite-runtime."
    )


def test_the_default_for_tflite_runtime_is_int8_weight(converted: dict[str, Path]) -> None:
    assert Artifact.read(converted["default"]).manifest.recipe == "int8-weight"


ONCE = """
import resource, sys
from tflite_runtime.interpreter import Interpreter, OpResolverType
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
kernels = getattr(OpResolverType, sys.argv[2])
interpreter = Interpreter(sys.argv[1], experimental_op_resolver_type=kernels, num_threads=1)
interpreter.allocate_tensors()
interpreter.invoke()
"""


@pytest.mark.parametrize(("kernels", "code"), [("AUTO", -signal.SIGSEGV), ("BUILTIN_REF", 0)])
def test_an_int8_product_without_bias_crashes_tflite_runtime(
    kernels: str, code: int, tmp_path: Path
) -> None:
    """The fault of its kernels for ARM because of which edgelstm gives every product a bias."""
    from edgelstm_quantize.flatbuffer import operator_name, pack, read

    tree = read(Artifact.read(TINY["tiny"]).flatbuffer)
    for operator in tree.subgraphs[0].operators:
        if operator_name(tree, operator) == "FULLY_CONNECTED":
            operator.inputs = operator.inputs[:2]
    file = tmp_path / "without.tflite"
    file.write_bytes(pack(tree))
    result = emulated_old("-c", ONCE, file, kernels)
    assert result.returncode == code, result.stderr


@pytest.mark.parametrize("there", [emulated, emulated_old])
def test_the_same_readings_raise_the_same_alerts(there: Run, tmp_path: Path) -> None:
    t = np.arange(1000)
    rng = np.random.default_rng(5)
    flow = 20 + 3 * (np.sin(t / 8) + rng.normal(0, 0.1, 1000))
    flow[700:740] += 4 * (-1.0) ** np.arange(40)
    level = -5 + np.sin(t / 5 + 1) + rng.normal(0, 0.1, 1000)
    rows = [f"{60 * i},{a:.5f},{b:.5f}" for i, (a, b) in enumerate(zip(flow, level, strict=True))]
    csv = tmp_path / "pump.csv"
    csv.write_text("\n".join(["time,flow,level", *rows]) + "\n")

    def alerts(port: Path, run: Run) -> list[str]:
        simulate: list[str | Path] = [
            sys.executable,
            "-m",
            "edgelstm",
            "simulate",
            csv,
            "--link",
            port,
        ]
        with subprocess.Popen(simulate, stdout=subprocess.PIPE, text=True) as device:
            assert device.stdout
            device.stdout.readline()
            tiny = TESTS / "data/tiny.tflite"
            result = run("-m", "edgelstm", "run", tiny, "--port", port)
            device.terminate()
        assert result.returncode == 0, result.stderr
        assert "1,000 readings, 0 lost" in result.stdout
        return [line for line in result.stdout.splitlines() if line.startswith("19")]

    raised = alerts(tmp_path / "there", there)
    expected = alerts(tmp_path / "here", native)
    assert len(raised) == 2
    # The old runtime rounds by a unit now and then, which the last digit of a score may show.
    figures = re.compile(r"(?<=score )[\d.]+")
    assert [figures.sub("", line) for line in raised] == [figures.sub("", e) for e in expected]
    for line, other in zip(raised, expected, strict=True):
        scores = [float(figures.findall(text)[0]) for text in (line, other)]
        assert scores[0] == pytest.approx(scores[1], rel=0.01)
