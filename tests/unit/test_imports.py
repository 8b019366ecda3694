from __future__ import annotations

import re
import subprocess
import sys

import pytest

HEAVY = (
    "tensorflow",
    "keras",
    "ai_edge_litert",
    "tflite_runtime",
    "ai_edge_quantizer",
    "serial",
    "pyarrow",
    "cryptography",
)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.mark.parametrize(
    "module", ["edgelstm", "edgelstm.cli", "edgelstm.session", "edgelstm.pipeline"]
)
def test_import_loads_no_heavy_package(module: str) -> None:
    done = python("-c", f"import sys, {module}; print(*sys.modules)")
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "edgelstm" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_import_times_of_the_command_line_name_no_tensorflow() -> None:
    done = python("-X", "importtime", "-c", "import edgelstm.cli")
    assert "edgelstm.cli" in done.stderr
    assert not re.search(r"\| +(tensorflow|keras)\b", done.stderr)
