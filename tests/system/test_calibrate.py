"""`edgelstm calibrate` as a process: without TensorFlow, and on a device that is simulated."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgelstm.calibration_file import CalibrationFile, calibration_path

TINY = Path(__file__).parent.parent / "data" / "tiny.tflite"
EDGELSTM = [sys.executable, "-m", "edgelstm"]
# A script's background has interrupts ignored, and so would what it starts.
FOREGROUND = ["/usr/bin/env", "--default-signal=INT"]
READINGS = 1000


@pytest.fixture
def pump(tmp_path: Path) -> Path:
    """The sines that the tiny model was trained on, and the model beside them."""
    t = np.arange(READINGS)
    rng = np.random.default_rng(5)
    flow = 20 + 3 * (np.sin(t / 8) + rng.normal(0, 0.1, READINGS))
    level = -5 + (np.sin(t / 5 + 1) + rng.normal(0, 0.1, READINGS))
    lines = [f"{60 * i},{a:.6f},{b:.6f}" for i, (a, b) in enumerate(zip(flow, level, strict=True))]
    (tmp_path / "mine.csv").write_text("\n".join(["time,flow,level", *lines]) + "\n")
    return Path(shutil.copy(TINY, tmp_path / "pump.tflite"))


@contextmanager
def device(csv: Path, *options: str) -> Iterator[str]:
    """The port of a simulated device in a process of its own."""
    command = [*EDGELSTM, "simulate", str(csv), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def calibrate(pump: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EDGELSTM, "calibrate", str(pump), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_no_tensorflow_is_loaded(pump: Path) -> None:
    """In a process in which importing it fails."""
    code = (
        "import sys\n"
        "sys.modules.update(tensorflow=None, keras=None, ai_edge_quantizer=None)\n"
        "from edgelstm.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    arguments = ["calibrate", str(pump), str(pump.with_name("mine.csv"))]
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert calibration_path(pump).exists()


def test_a_device_gives_what_its_recording_gives(pump: Path) -> None:
    csv = pump.with_name("mine.csv")
    assert calibrate(pump, str(csv)).returncode == 0
    from_file = CalibrationFile.read(calibration_path(pump)).detection
    with device(csv) as port:
        done = calibrate(pump, "--port", port, "--duration", "10m", "--force")
    assert done.returncode == 0, done.stderr
    assert "Listening to flow, level on " in done.stderr
    live = CalibrationFile.read(calibration_path(pump))
    assert live.source == port
    assert live.detection.readings == from_file.readings == READINGS - 20
    assert live.detection.residual_scale == pytest.approx(from_file.residual_scale, rel=1e-3)
    assert dataclasses.astuple(live.detection.tail) == pytest.approx(
        dataclasses.astuple(from_file.tail), rel=1e-2
    )


def test_run_takes_it_and_says_so(pump: Path) -> None:
    csv = pump.with_name("mine.csv")
    assert calibrate(pump, str(csv), "--false-alarms-per-day", "0.5").returncode == 0
    with device(csv) as port:
        done = subprocess.run(
            [*EDGELSTM, "run", str(pump), "--port", port],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    assert "pump.calibration.json" in done.stderr
    assert "one false alarm in 2 days" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_with_what_is_there(pump: Path, number: signal.Signals) -> None:
    with device(pump.with_name("mine.csv"), "--rate", "400", "--rows", "0:900") as port:
        command = [*FOREGROUND, *EDGELSTM, "calibrate", str(pump), "--port", port]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr
            while not (line := process.stderr.readline()).startswith("Listening"):
                assert line, "it ended before it listened"
            time.sleep(1.2)
            os.kill(process.pid, number)
            output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "Wrote " in output
    assert 150 <= CalibrationFile.read(calibration_path(pump)).detection.readings < 880


def test_the_duration_ends_it(pump: Path) -> None:
    with device(pump.with_name("mine.csv"), "--rate", "300") as port:
        started = time.monotonic()
        done = calibrate(pump, "--port", port, "--duration", "1.5s")
        assert time.monotonic() - started < 30
    assert done.returncode == 0, done.stderr
    assert 150 <= CalibrationFile.read(calibration_path(pump)).detection.readings < 900


def test_a_device_of_another_kind_is_refused(pump: Path) -> None:
    with device(pump.with_name("mine.csv"), "--columns", "flow") as port:
        done = calibrate(pump, "--port", port)
    assert done.returncode == 2
    assert "the model also needs level" in done.stderr
    assert "Traceback" not in done.stderr
    lines = pump.with_name("mine.csv").read_text().splitlines()
    slow = pump.with_name("slow.csv")
    slow.write_text("\n".join([lines[0], *lines[1::3]]) + "\n")
    with device(slow) as port:
        done = calibrate(pump, "--port", port)
    assert done.returncode == 2
    assert "made for one every 60 s" in done.stderr
    assert not calibration_path(pump).exists()
