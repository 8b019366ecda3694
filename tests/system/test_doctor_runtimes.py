"""What the doctor says where the second runtime, or only TensorFlow, is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from edgelstm.diagnosis.runtimes import IMPORT, PROBES, RUNTIMES, examine, find

TESTS = Path(__file__).parent.parent
OLD_PYTHON = TESTS.parent / ".venv-tflite-runtime" / "bin" / "python"
DOCTOR = "from edgelstm.commands.doctor import doctor; doctor()"

with_tflite_runtime = pytest.mark.skipif(
    not OLD_PYTHON.exists(),
    reason="no environment with tflite-runtime; run: make .venv-tflite-runtime/.ready",
)

Found = dict[tuple[str, str], dict[str, Any]]


def doctor(python: str | Path, *arguments: str | Path, **environment: str) -> tuple[int, Found]:
    """The exit code and the findings by section and name."""
    done = subprocess.run(
        [str(python), "-c", DOCTOR, "--json", *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    findings = json.loads(done.stdout)["findings"]
    return done.returncode, {(f["section"], f["name"]): f for f in findings}


@with_tflite_runtime
def test_tflite_runtime_computes_per_channel_products_wrongly() -> None:
    _, found = doctor(OLD_PYTHON, TESTS / "data/tiny.tflite")
    finding = found["runtimes", "tflite-runtime"]
    assert finding["data"]["recipes"] == dict.fromkeys(
        ("int8", "int8-weight", "int16x8", "float32"), "right"
    ) | {"int8-float": "wrong"}
    assert finding["level"] == "note"
    assert "int8-float only as converted for it" in finding["what"]
    assert found["runtimes", "default"]["data"]["backend"] == "tflite-runtime"
    assert found["artifact", "tflite-runtime"]["level"] == "ok"


@with_tflite_runtime
def test_a_file_that_its_only_runtime_computes_wrongly_is_a_problem() -> None:
    code, found = doctor(OLD_PYTHON, TESTS / "data/tiny_float.tflite")
    assert code == 1
    assert found["artifact", "tflite-runtime"]["level"] == "problem"
    assert "--runtime tflite-runtime" in found["artifact", "tflite-runtime"]["what"]


@with_tflite_runtime
def test_numpy_2_is_found_before_tflite_runtime_is_tried() -> None:
    """With this environment's numpy 2 in front of the old one."""
    here = sysconfig.get_path("purelib")
    (old,) = OLD_PYTHON.parents[1].glob("lib/python*/site-packages")
    # TensorFlow and ai-edge-litert come along with numpy 2, so they do the work.
    _, found = doctor(OLD_PYTHON, PYTHONPATH=os.pathsep.join([here, str(old)]))
    finding = found["runtimes", "tflite-runtime"]
    assert finding["level"] == "note"
    assert "needs numpy 1, and numpy 2" in finding["what"]
    assert "pip install 'numpy<2'" in finding["mend"]
    assert found["runtimes", "default"]["data"]["backend"] == "litert"


def test_tensorflow_is_tried_where_nothing_else_works(tmp_path: Path) -> None:
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert/__init__.py").write_text("raise ImportError('not for this CPU')")
    _, found = doctor(sys.executable, "--timeout", "200", PYTHONPATH=str(tmp_path))
    assert "cannot be imported" in found["runtimes", "ai-edge-litert"]["what"]
    assert found["runtimes", "ai-edge-litert"]["level"] == "note"
    assert set(found["runtimes", "tensorflow"]["data"]["recipes"].values()) == {"right"}
    assert found["runtimes", "default"]["data"]["backend"] == "tensorflow"


def test_tensorflow_in_its_own_process() -> None:
    examined = examine(find(RUNTIMES[2]), PROBES, 200, lambda: None)
    assert {t.stage: t.result for t in examined.trials} == dict.fromkeys([IMPORT, *PROBES], "right")
