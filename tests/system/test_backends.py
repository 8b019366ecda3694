"""One contract for all backends, each in the environment it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.artifact import Artifact

TESTS = Path(__file__).parent.parent
OLD_PYTHON = TESTS.parent / ".venv-tflite-runtime" / "bin" / "python"
ARTIFACTS = ["tiny.tflite", "tiny_float32.tflite"]

BACKENDS = [
    pytest.param("litert", sys.executable, id="litert"),
    pytest.param("tensorflow", sys.executable, id="tensorflow"),
    pytest.param(
        "tflite-runtime",
        str(OLD_PYTHON),
        id="tflite-runtime",
        marks=pytest.mark.skipif(
            not OLD_PYTHON.exists(),
            reason="no environment with tflite-runtime; run: make .venv-tflite-runtime/.ready",
        ),
    ),
]


def contract(python: str, backend: str, artifact: str) -> dict[str, Any]:
    result = subprocess.run(
        [python, str(TESTS / "system/contract.py"), backend, str(TESTS / "data" / artifact)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.mark.parametrize("artifact", ARTIFACTS)
@pytest.mark.parametrize(("backend", "python"), BACKENDS)
def test_the_contract_holds_and_outputs_agree(backend: str, python: str, artifact: str) -> None:
    reference = np.array(contract(sys.executable, "litert", artifact)["outputs"])
    outputs = np.array(contract(python, backend, artifact)["outputs"])
    difference = np.abs(outputs - reference)
    if artifact == "tiny_float32.tflite":
        assert difference.max() < 1e-5
    else:
        # Kernels round differently, by a code a step, and the states carry that on.
        tolerance = Artifact.read(TESTS / "data" / artifact).manifest.golden_tolerance
        assert difference.mean() < 1
        assert difference.max() <= tolerance


@pytest.mark.parametrize(("backend", "python"), [BACKENDS[0], BACKENDS[2]])
def test_the_device_side_loads_no_tensorflow(backend: str, python: str) -> None:
    modules = contract(python, backend, "tiny.tflite")["modules"]
    assert not {"tensorflow", "keras"} & set(modules)


def _run_old(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(OLD_PYTHON), "-m", "edgelstm", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(
    not OLD_PYTHON.exists(),
    reason="no environment with tflite-runtime; run: make .venv-tflite-runtime/.ready",
)
def test_where_a_package_is_missing_the_pip_command_is_given(tmp_path: Path) -> None:
    csv = tmp_path / "x.csv"
    csv.write_text("a\n" + "1\n2\n" * 400)
    result = _run_old("train", str(csv), "-o", str(tmp_path / "m.keras"))
    assert result.returncode == 2
    assert "pip install 'edgelstm[quantize]'" in result.stderr
    tiny = str(TESTS / "data/tiny.tflite")
    result = _run_old("run", tiny, "--port", "/dev/null", "--backend", "litert")
    assert result.returncode == 2
    assert "pip install ai-edge-litert" in result.stderr
