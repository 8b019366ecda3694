"""The main job, end to end: what `edgelstm demo` promises."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgelstm.demo.evaluation import RECORDING, TRAINING_ROWS, read_failures


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    folder = tmp_path_factory.mktemp("demo")
    result = subprocess.run(
        [sys.executable, "-m", "edgelstm", "demo", "--json", "demo.json", "--plot", "demo.png"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return folder, json.loads((folder / "demo.json").read_text()), result.stdout


def test_every_reading_arrives(demo: tuple[Path, dict[str, Any], str]) -> None:
    _, summary, _ = demo
    rows = len(RECORDING.read_text().splitlines()) - 1
    assert summary["sent"] == summary["received"] == rows - TRAINING_ROWS == 21_945
    assert summary["lost"] == 0


def test_failures_are_announced_within_the_budget(demo: tuple[Path, dict[str, Any], str]) -> None:
    _, summary, _ = demo
    assert summary["windows"] == 4
    assert summary["windows_hit"] >= 3
    assert summary["false_alarms"] <= 4
    assert summary["alerts"] >= summary["windows_hit"] + summary["false_alarms"]


def test_alerts_are_printed_live_with_their_time_in_the_recording(
    demo: tuple[Path, dict[str, Any], str],
) -> None:
    _, summary, output = demo
    opened = re.findall(r"^(20\d\d-\d\d-\d\d \d\d:\d\d:\d\d)  ALERT \d+ opened", output, re.M)
    assert len(opened) == summary["alerts"]
    assert opened == sorted(opened)
    times = {line.split(",")[0] for line in RECORDING.read_text().splitlines()}
    assert set(opened) <= times
    assert output.index("ALERT 1 opened") < output.index("Summary")


def test_the_summary_says_where_files_are_and_what_is_next(
    demo: tuple[Path, dict[str, Any], str],
) -> None:
    folder, summary, output = demo
    assert (folder / summary["artifact"]).is_file()
    assert 0 < summary["step_us"]["p50"] <= summary["step_us"]["p99"]
    assert len(re.findall(r"^  edgelstm (train|quantize|run) ", output, re.M)) == 3
    assert len(re.findall(r"^  failure ", output, re.M)) == len(read_failures())


def test_the_artifact_is_all_int8_and_small(demo: tuple[Path, dict[str, Any], str]) -> None:
    folder, summary, _ = demo
    result = subprocess.run(
        [sys.executable, "-m", "edgelstm", "inspect", "--json", summary["artifact"]],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    manifest = json.loads(result.stdout)
    tensors = [port["tensor"] for port in manifest["inputs"] + manifest["outputs"]]
    tensors += [pair[end] for pair in manifest["states"] for end in ("input", "output")]
    assert {tensor["dtype"] for tensor in tensors} == {"int8"}
    assert "DEQUANTIZE" not in {operation["name"] for operation in manifest["operations"]}
    assert manifest["fidelity"]["relative_error"] < 0.05
    assert (folder / summary["artifact"]).stat().st_size < 30_000


def test_the_picture_is_a_png_with_something_on_it(
    demo: tuple[Path, dict[str, Any], str],
) -> None:
    from matplotlib import image

    pixels = image.imread(demo[0] / "demo.png")
    assert pixels.shape[0] > 500
    assert pixels.shape[1] > 1000
    assert pixels[..., :3].std() > 0.1


def test_it_can_be_run_again_over_its_own_files(demo: tuple[Path, dict[str, Any], str]) -> None:
    folder, first, _ = demo
    before = (folder / first["artifact"]).read_bytes()
    subprocess.run(
        [sys.executable, "-m", "edgelstm", "demo", "--json", "again.json"],
        cwd=folder,
        capture_output=True,
        env={**os.environ, "COLUMNS": "80"},
        check=True,
    )
    again = json.loads((folder / "again.json").read_text())
    # Same seed, same data: the same alerts, though the file has another time of creation.
    assert {k: v for k, v in again.items() if k != "step_us"} == {
        k: v for k, v in first.items() if k != "step_us"
    }
    assert (folder / first["artifact"]).read_bytes()[:4000] == before[:4000]
