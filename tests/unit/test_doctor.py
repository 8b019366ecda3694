from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from edgelstm.artifact import Artifact
from edgelstm.commands.doctor import doctor, page
from edgelstm.diagnosis import runtimes
from edgelstm.diagnosis.finding import Finding
from edgelstm_quantize.flatbuffer import pack, read

KEYS = {"section", "name", "level", "what", "mend", "data"}
SECTIONS = ["python", "machine", "runtimes", "ports", "edge-tpu", "disk", "clock"]


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(doctor, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def broken_litert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a package before ai-edge-litert, and leaves only that to be found."""

    def make(code: str) -> None:
        folder = tmp_path / "site/ai_edge_litert"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path / "site")
        # TensorFlow would be tried in its place, which takes seconds.
        monkeypatch.setattr(runtimes, "RUNTIMES", runtimes.RUNTIMES[:1])

    return make


def test_json_has_stable_keys(tiny_path: Path) -> None:
    result = invoke("--json", tiny_path)
    answer = json.loads(result.stdout)
    assert answer.keys() == {"edgelstm", "ok", "findings"}
    assert all(finding.keys() == KEYS for finding in answer["findings"])
    sections = list(dict.fromkeys(finding["section"] for finding in answer["findings"]))
    assert sections == [*SECTIONS[:3], "artifact", *SECTIONS[3:]]
    found = {(f["section"], f["name"]): f for f in answer["findings"]}
    assert found["runtimes", "ai-edge-litert"]["data"]["recipes"]["int8"] == "right"
    assert found["runtimes", "default"]["data"]["backend"] == "litert"
    assert found["artifact", "ai-edge-litert"]["data"]["result"] == "right"
    problems = [f for f in answer["findings"] if f["level"] == "problem"]
    assert answer["ok"] == (not problems)
    assert result.exit_code == (1 if problems else 0)


def test_the_page_names_every_section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    result = invoke()
    lines = result.stdout.splitlines()
    assert [line for line in lines if line in SECTIONS] == SECTIONS
    assert "computes int8, int8-float, int8-weight, int16x8 and float32" in result.stdout
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.abort()", "crashed at its import (SIGABRT)"),
        ("import time; time.sleep(60)", "hung at its import (no answer within 0.5 s)"),
    ],
)
def test_a_broken_runtime_does_not_end_the_doctor(
    broken_litert: Callable[[str], None], tiny_path: Path, code: str, words: str
) -> None:
    broken_litert(code)
    result = invoke("--json", "--timeout", "0.5" if "sleep" in code else "30", tiny_path)
    assert result.exit_code == 1
    findings = json.loads(result.stdout)["findings"]
    (litert,) = [f for f in findings if f["name"] == "ai-edge-litert"]
    assert litert["level"] == "problem"
    assert words in litert["what"]
    assert "pip install --force-reinstall" in litert["mend"]
    (tried,) = [f for f in findings if f["section"] == "artifact" and f["level"] == "problem"]
    assert tried["what"] == "no runtime could try it."


def test_a_damaged_file_is_a_problem(tmp_path: Path, tiny_path: Path) -> None:
    damaged = bytearray(tiny_path.read_bytes())
    damaged[200] ^= 1
    (tmp_path / "p.tflite").write_bytes(damaged)
    result = invoke("--json", tmp_path / "p.tflite")
    assert result.exit_code == 1
    (found,) = [f for f in json.loads(result.stdout)["findings"] if f["section"] == "artifact"]
    assert found["level"] == "problem"
    assert "damaged" in found["what"]


def test_a_file_of_another_tool_is_tried_too(tmp_path: Path, tiny: Artifact) -> None:
    tree = read(tiny.flatbuffer)
    tree.description = b"another tool"
    (tmp_path / "p.tflite").write_bytes(pack(tree))
    findings = json.loads(invoke("--json", tmp_path / "p.tflite").stdout)["findings"]
    found = {f["name"]: f["what"] for f in findings if f["section"] == "artifact"}
    assert found["p.tflite"] == "p, int8, made by another tool"
    assert found["ai-edge-litert"] == "runs it, and it has no golden vectors"


def test_the_page_ends_with_what_to_mend() -> None:
    long = "a port that you may not read and write because it belongs to a group of its own, " * 2
    findings = [
        Finding("python", "python", "ok", "3.11"),
        Finding(
            "ports", "/dev/ttyUSB0", "problem", long, "sudo usermod -aG dialout $USER  # x" * 4
        ),
        Finding("ports", "a-very-long-name-of-a-file.tflite", "note", "odd."),
        Finding("clock", "synchronised", "note", "no.", "sudo timedatectl set-ntp true"),
    ]
    lines = [click.unstyle(line) for line in page(findings, 80)]
    assert "      " + "sudo usermod -aG dialout $USER  # x" * 4 in lines  # to be copied
    assert lines[-1] == "1 problem."
    assert lines.index("what to mend") > lines.index("what may matter") > 5
    assert max(len(line) for line in lines if "usermod" not in line) <= 80
    assert list(page(findings[:1], 80))[-1] == "No problem."


def test_columns_are_aligned() -> None:
    findings = [
        Finding("ports", "/dev/ttyUSB0", "problem", "first", "do"),
        Finding("clock", "time", "ok", "second"),
    ]
    rows = [click.unstyle(line) for line in page(findings, 80)]
    first = next(row for row in rows if row.startswith("  PROBLEM"))
    second = next(row for row in rows if row.startswith("  ok"))
    assert first.index("first") == second.index("second")


def test_it_loads_no_runtime_itself() -> None:
    code = (
        "import sys\nfrom edgelstm.commands.doctor import doctor\n"
        "try: doctor([])\nexcept SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "edgelstm" in loaded
    assert loaded.isdisjoint({"tensorflow", "keras", "ai_edge_litert", "tflite_runtime"})


def test_importing_it_loads_no_serial_port_and_no_runtime() -> None:
    code = "import sys, edgelstm.commands.doctor; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint({"serial", "ai_edge_litert", "tensorflow"})


def test_it_works_from_another_folder(tmp_path: Path) -> None:
    """A module of the user's in the working folder does not get in the way of the processes."""
    (tmp_path / "json.py").write_text("raise SystemExit('mine')")
    code = "from edgelstm.commands.doctor import doctor; doctor(['--json'])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    findings = json.loads(done.stdout)["findings"]
    (litert,) = [f for f in findings if f["name"] == "ai-edge-litert"]
    assert litert["data"]["works"] is True


def test_a_section_that_fails_does_not_end_the_doctor(tmp_path: Path) -> None:
    (tmp_path / "serial").mkdir()
    (tmp_path / "serial/__init__.py").write_text("raise RuntimeError('broken')")
    code = "from edgelstm.commands.doctor import doctor; doctor(['--json'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    findings = json.loads(done.stdout)["findings"]
    (found,) = [f for f in findings if f["section"] == "ports"]
    assert found["what"] == "it could not be looked at: RuntimeError: broken."
    assert [f for f in findings if f["section"] == "clock"]


def test_the_help_tells_the_exit_code() -> None:
    text = invoke("--help").stdout
    assert "Exit code: 0" in text
    assert "Example: edgelstm doctor pump.tflite" in text
