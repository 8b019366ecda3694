"""One contract for all backends, each in the environment it needs."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.artifact import Artifact

TESTS = Path(__file__).parent.parent
OLD_PYTHON = TESTS.parent / ".venv-tflite-runtime" / "bin" / "python"
ARTIFACTS = [
    "tiny.tflite",
    "tiny_float.tflite",
    "tiny_float32.tflite",
    "tiny_window.tflite",
    "tiny_ports.tflite",
    "tiny_tokens.tflite",
]

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


def run_contract(python: str, backend: str, artifact: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, str(TESTS / "system/contract.py"), backend, str(TESTS / "data" / artifact)],
        capture_output=True,
        text=True,
        check=False,
    )


def contract(python: str, backend: str, artifact: str) -> dict[str, Any]:
    result = run_contract(python, backend, artifact)
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.fixture(scope="module")
def reference() -> Callable[[str], NDArray[np.float64]]:
    """The outputs of litert, each artifact once."""
    return cache(lambda name: np.array(contract(sys.executable, "litert", name)["outputs"]))


@pytest.mark.parametrize("artifact", ARTIFACTS)
@pytest.mark.parametrize(("backend", "python"), BACKENDS)
def test_the_contract_holds_and_outputs_agree(
    backend: str, python: str, artifact: str, reference: Callable[[str], NDArray[np.float64]]
) -> None:
    manifest = Artifact.read(TESTS / "data" / artifact).manifest
    if (backend, artifact) == ("tflite-runtime", "tiny_float.tflite"):
        assert "computes it wrongly" in refusal(python, backend, artifact)
        return
    outputs = np.array(contract(python, backend, artifact)["outputs"])
    difference = np.abs(outputs - reference(artifact))
    if artifact == "tiny_float32.tflite":
        assert difference.max() < 1e-4  # in physical units, around 20
    else:
        # Kernels round differently, by a code a step, and the states carry that on.
        assert difference.mean() < 1
        assert (difference <= manifest.golden_tolerance).all()


def refusal(python: str, backend: str, artifact: str) -> str:
    """The sentence with which a backend refuses an artifact."""
    result = run_contract(python, backend, artifact)
    assert result.returncode != 0
    last: str = result.stderr.splitlines()[-1]
    assert last.startswith("edgelstm.errors.BackendError: "), result.stderr
    return last.removeprefix("edgelstm.errors.BackendError: ")


@pytest.mark.parametrize(("backend", "python"), BACKENDS[2:])
def test_a_runtime_that_computes_wrongly_is_refused(
    backend: str, python: str, tiny_float: Artifact
) -> None:
    assert list(tiny_float.manifest.runtimes) == ["ai-edge-litert"]
    assert refusal(python, backend, "tiny_float.tflite") == (
        "tflite-runtime loads this model (int8-float) but computes it wrongly; run it with "
        f"ai-edge-litert {tiny_float.manifest.runtimes['ai-edge-litert']}, or convert it with "
        "--runtime tflite-runtime."
    )


@pytest.mark.parametrize(("backend", "python"), BACKENDS[2:])
def test_a_runtime_that_is_refused_does_compute_wrongly(
    backend: str,
    python: str,
    tmp_path: Path,
    tiny_float: Artifact,
) -> None:
    manifest = tiny_float.manifest
    claim = dataclasses.replace(manifest, runtimes=manifest.runtimes | {backend: "2.14.0"})
    dataclasses.replace(tiny_float, manifest=claim).write(tmp_path / "claim.tflite")
    result = run_contract(python, backend, str(tmp_path / "claim.tflite"))
    assert "assert first_broken is None" in result.stderr  # the golden vectors know


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
