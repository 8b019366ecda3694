"""`edgelstm simulate` and `edgelstm run` as two processes with a pseudo-terminal between them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

TINY = Path(__file__).parent.parent / "data" / "tiny.tflite"
EDGELSTM = [sys.executable, "-m", "edgelstm"]
READINGS = 3000
FAULT = 2000


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """The sines that the tiny model was trained on; at row 2,000 one channel starts to rattle."""
    t = np.arange(READINGS)
    rng = np.random.default_rng(5)
    flow = 20 + 3 * (np.sin(t / 8) + rng.normal(0, 0.1, READINGS))
    level = -5 + (np.sin(t / 5 + 1) + rng.normal(0, 0.1, READINGS))
    flow[FAULT : FAULT + 60] += 4 * (-1.0) ** np.arange(60)
    lines = [f"{60 * i},{a:.6f},{b:.6f}" for i, (a, b) in enumerate(zip(flow, level, strict=True))]
    path = tmp_path / "pump.csv"
    path.write_text("\n".join(["time,flow,level", *lines]) + "\n")
    return path


@contextmanager
def device(csv: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A simulated device in a process of its own."""
    command = [*EDGELSTM, "simulate", str(csv), *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().split()[-1], process
        finally:
            process.terminate()


def run(port: str, *options: str, artifact: Path = TINY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EDGELSTM, "run", str(artifact), "--port", port, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_fault_is_announced_once_and_nothing_is_lost(csv: Path) -> None:
    log = csv.parent / "alerts.jsonl"
    with device(csv) as (port, process):
        result = run(port, "--alerts", str(log))
        sent, _ = process.communicate(timeout=20)
    assert result.returncode == 0, result.stderr
    assert sent == "Sent 3,000 readings.\n"
    assert "3,000 readings, 0 lost, 0 damaged frames; 1 alert." in result.stdout
    (opened,) = re.findall(r"^(.*)  ALERT 1 opened", result.stdout, re.M)
    second = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(60 * FAULT))
    latest = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(60 * (FAULT + 10)))
    assert second <= opened <= latest
    assert "alert 1 closed" in result.stdout
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["event"] for event in events] == ["opened", "closed"]
    assert events[0]["time"][:19].replace("T", " ") == opened
    assert result.stderr == ""


def test_damaged_and_lost_frames_are_counted_and_never_used(csv: Path) -> None:
    with device(csv, "--corrupt-every", "100") as (port, _):
        result = run(port)
    assert result.returncode == 0, result.stderr
    assert "2,970 readings, 30 lost, 30 damaged frames" in result.stdout
    with device(csv, "--drop-every", "100") as (port, _):
        result = run(port)
    assert "2,970 readings, 30 lost, 0 damaged frames" in result.stdout
    assert "after 29 short gaps" in result.stdout


def test_channels_are_found_by_name(csv: Path) -> None:
    with device(csv, "--columns", "level,flow") as (port, _):
        result = run(port)
    assert "1 alert." in result.stdout


def test_a_device_without_a_channel_is_refused(csv: Path) -> None:
    with device(csv, "--columns", "flow") as (port, _):
        result = run(port)
    assert result.returncode == 2
    assert "the model also needs level" in result.stderr
    assert "Traceback" not in result.stderr


def test_another_pace_is_warned_about(csv: Path) -> None:
    lines = csv.read_text().splitlines()
    csv.write_text("\n".join([lines[0], *lines[1::3]]) + "\n")
    with device(csv) as (port, _):
        result = run(port)
    assert "Warning: The device takes a reading every 180 s" in result.stderr


def test_a_budget_of_the_user_is_kept(csv: Path) -> None:
    with device(csv) as (port, _):
        result = run(port, "--false-alarms-per-day", "5")
    assert "5 false alarms a day" in result.stdout
    with device(csv) as (port, _):
        result = run(port, "--false-alarms-per-day", "100")
    assert result.returncode == 2
    assert "ask for fewer" in result.stderr


@contextmanager
def reading(csv: Path) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str], str]]:
    """`run` amid the readings of a device: its process, the device's, and the port."""
    with (
        device(csv, "--rate", "200") as (port, sender),
        subprocess.Popen(
            # A script's background has interrupts ignored, and so would this process; a shell's
            # foreground, which is meant here, has not.
            ["/usr/bin/env", "--default-signal=INT", *EDGELSTM, "run", str(TINY), "--port", port],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as reader,
    ):
        assert reader.stdout
        assert reader.stdout.readline().startswith("Watching flow, level")
        time.sleep(0.5)
        yield reader, sender, port


def test_a_pulled_cable_ends_it_with_a_sentence_and_the_summary(csv: Path) -> None:
    with reading(csv) as (reader, sender, port):
        sender.kill()
        output, errors = reader.communicate(timeout=20)
    assert reader.returncode == 2
    assert f"Lost {port}" in errors
    assert "Traceback" not in errors
    assert " readings, 0 lost" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_when_told_to_and_prints_the_summary(csv: Path, number: int) -> None:
    with reading(csv) as (reader, _, _):
        reader.send_signal(number)
        output, errors = reader.communicate(timeout=20)
    assert reader.returncode == 0
    assert errors == "Stopped.\n"
    assert "0 lost" in output


def test_an_artifact_that_computes_something_else_here_is_refused(
    csv: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    from edgelstm.artifact import Artifact, Golden

    good = Artifact.read(TINY)
    y = good.golden.y.copy()
    y[7] += 50
    bad = tmp_path / "bad.tflite"
    replace(good, golden=Golden(good.golden.x, y)).write(bad)
    result = run("/dev/null", artifact=bad)
    assert result.returncode == 2
    assert "first in run 7" in result.stderr
