"""The device side on the processor of a 64-bit Raspberry Pi, emulated by qemu.

The figures of an emulated processor are those of a real one; its speed says nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parent.parent
PROJECT = TESTS.parent
ROOT = PROJECT / "build" / "aarch64"
SOURCES = [PROJECT / folder for folder in (".", "quantize", "firmware_bridge", "devices")]
QEMU = shutil.which("qemu-aarch64-static")

Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(
    QEMU is None or not (ROOT / ".ready").exists(),
    reason="run: apt-get install qemu-user-static && make build/aarch64/.ready",
)


def emulated(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs Python for aarch64."""
    (python,) = (ROOT / "root/usr/bin").glob("python3.[0-9]*")
    # The default CPU model of qemu 7 computes some int8 kernels wrongly.
    command = [str(QEMU), "-cpu", "cortex-a72", "-L", str(ROOT / "root"), str(python)]
    return subprocess.run(
        [*command, *map(str, arguments)],
        env={
            "PYTHONHOME": str(ROOT / "root/usr"),
            "PYTHONPATH": ":".join(map(str, [ROOT / "site", *SOURCES])),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": os.environ["PATH"],
        },
        capture_output=True,
        text=True,
        check=False,
    )


def native(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the Python of this environment."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_an_aarch64() -> None:
    assert emulated("-c", "import os; print(os.uname().machine)").stdout == "aarch64\n"


@pytest.mark.parametrize("artifact", ["tiny.tflite", "tiny_float32.tflite"])
def test_the_contract_holds_and_int8_is_bit_identical(artifact: str) -> None:
    arguments = (TESTS / "system/contract.py", "litert", TESTS / "data" / artifact)
    here, there = native(*arguments), emulated(*arguments)
    assert there.returncode == 0, there.stderr
    a, b = (np.array(json.loads(result.stdout)["outputs"]) for result in (here, there))
    if artifact == "tiny.tflite":
        np.testing.assert_array_equal(a, b)
    else:
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_same_readings_raise_the_same_alerts(tmp_path: Path) -> None:
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

    there = alerts(tmp_path / "emulated", emulated)
    assert there == alerts(tmp_path / "native", native)
    assert len(there) == 2
