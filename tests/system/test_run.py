"""`edgelstm simulate` and `edgelstm run` as two processes with a pseudo-terminal between them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

TINY = Path(__file__).parent.parent / "data" / "tiny.tflite"
EDGELSTM = [sys.executable, "-m", "edgelstm"]
# A script's background has interrupts ignored, and so would what it starts.
FOREGROUND = ["/usr/bin/env", "--default-signal=INT"]
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


# So strict a budget that noise is never announced: it is not the threshold that is tried here.
STRICT = ("--false-alarms-per-day", "0.0001")


def run(port: str, *options: str, artifact: Path = TINY) -> subprocess.CompletedProcess[str]:
    budget = () if any("false-alarms" in option for option in options) else STRICT
    return subprocess.run(
        [*EDGELSTM, "run", str(artifact), "--port", port, *budget, *options],
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
    assert "3,000 readings, 0 lost, 0 damaged; 1 alert." in result.stdout
    (opened,) = re.findall(r"^(.*)  ALERT 1 opened", result.stdout, re.M)
    second = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(60 * FAULT))
    latest = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(60 * (FAULT + 10)))
    assert second <= opened <= latest
    assert re.search(
        r"ALERT 1 opened   score [\d.]+ > [\d.]+, critical  flow \d\d %", result.stdout
    )
    assert "alert 1 closed" in result.stdout
    assert re.search(
        r"1 alert in 2 d 1 h of scored readings \(0.48 a day\), .*; the budget is one false alarm "
        r"in 1e\+04 days",
        result.stdout,
    )
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["event"] for event in events if event["event"] != "updated"] == [
        "opened",
        "closed",
    ]
    assert events[0]["time"][:19].replace("T", " ") == opened
    assert {event["kind"] for event in events} == {"anomaly"}
    assert events[0]["channels"][0]["name"] == "flow"
    assert result.stderr == ""


def test_damaged_and_lost_frames_are_counted_and_never_used(csv: Path) -> None:
    with device(csv, "--faults", "damage=100") as (port, _):
        result = run(port)
    assert result.returncode == 0, result.stderr
    assert "2,970 readings, 30 lost, 30 damaged" in result.stdout
    with device(csv, "--faults", "lose=100") as (port, _):
        result = run(port)
    assert "2,970 readings, 30 lost, 0 damaged" in result.stdout
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


@pytest.fixture
def slow(csv: Path) -> Path:
    """A recording of every third reading."""
    lines = csv.read_text().splitlines()
    csv.write_text("\n".join([lines[0], *lines[1::3]]) + "\n")
    return csv


def test_another_rate_is_refused(slow: Path) -> None:
    with device(slow) as (port, _):
        result = run(port)
    assert result.returncode == 2
    assert "Error: The device sends a reading every 180 s" in result.stderr
    assert "made for one every 60 s" in result.stderr
    assert "--resample" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""  # it is the device that says so, before the first reading


def test_another_rate_may_be_tolerated(slow: Path) -> None:
    with device(slow) as (port, _):
        result = run(port, "--any-rate")
    assert result.returncode == 0
    assert "Warning: The device sends a reading every 180 s" in result.stderr
    assert "1,000 readings, 0 lost" in result.stdout


def test_another_rate_is_resampled_on_request(slow: Path) -> None:
    with device(slow) as (port, _):
        result = run(port, "--resample")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "2,998 readings, 0 lost" in result.stdout


def test_a_rate_that_a_device_does_not_tell_is_measured(slow: Path, tmp_path: Path) -> None:
    rows = slow.read_text().splitlines()[1:]
    table = tmp_path / "text.csv"
    table.write_text("\n".join(["flow,level", *(row.split(",", 1)[1] for row in rows)]) + "\n")
    with device(table, "--format", "csv", "--rate", "100") as (port, _):
        result = run(port)
    assert result.returncode == 2
    assert re.search(r"a reading every 0\.01\d* s \(.* Hz\), but the model", result.stderr)


def test_text_of_other_firmware_is_watched_as_well(csv: Path) -> None:
    """The same readings as text; the model's rate is not the text's, which shall not matter."""
    with device(csv, "--format", "label", "--boot-message", "pump v2 boots") as (port, _):
        result = run(port, "--any-rate", "--no-reconnect")
    assert "Watching flow, level" in result.stdout, result.stderr
    assert "3,000 readings, 0 lost, 0 damaged; 1 alert" in result.stdout


def test_a_recording_is_watched_without_a_port(csv: Path) -> None:
    result = run(f"replay:{csv}")
    assert result.returncode == 0, result.stderr
    assert "3,000 readings, 0 lost, 0 damaged; 1 alert." in result.stdout


def test_a_raw_capture_replays_what_happened(csv: Path, tmp_path: Path) -> None:
    raw = tmp_path / "field.raw"
    with device(csv, "--faults", "damage=100,seed=3") as (port, _):
        live = run(port, "--raw", str(raw), "--alerts", str(tmp_path / "live.jsonl"))
    replayed = run(f"replay:{raw}", "--alerts", str(tmp_path / "replayed.jsonl"))
    assert replayed.returncode == live.returncode == 0
    assert live.stdout.splitlines()[1:-1] == replayed.stdout.splitlines()[1:-1]
    first, second = (
        [json.loads(line) | {"id": "", "alert_id": ""} for line in path.read_text().splitlines()]
        for path in (tmp_path / "live.jsonl", tmp_path / "replayed.jsonl")
    )
    assert first == second != []


def test_a_pipe_is_read(csv: Path) -> None:
    with csv.open("rb") as lines:
        result = subprocess.run(
            [*EDGELSTM, "run", str(TINY), "--port", "stdin:", "--any-rate", *STRICT],
            stdin=lines,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert "3,000 readings, 0 lost, 0 damaged; 1 alert." in result.stdout, result.stderr


def test_a_budget_of_the_user_is_kept(csv: Path) -> None:
    with device(csv) as (port, _):
        result = run(port, "--false-alarms-per-day", "5")
    assert "5 false alarms a day" in result.stdout
    with device(csv) as (port, _):
        result = run(port, "--false-alarms-per-day", "100")
    assert result.returncode == 2
    assert "ask for fewer" in result.stderr


def test_two_budgets_are_refused() -> None:
    options = ["--false-alarms-per-day", "1", "--false-alarms-per-month", "1"]
    result = run("/dev/null", *options)
    assert result.returncode == 2
    assert result.stderr.startswith("Error: --false-alarms-per-day and")


def test_a_stuck_sensor_is_a_fault_and_no_anomaly(csv: Path) -> None:
    rows = csv.read_text().splitlines()
    cells = [row.split(",") for row in rows[1:1000]]
    for row in cells[400:500]:
        row[2] = "-5.5"
    csv.write_text("\n".join([rows[0], *map(",".join, cells)]) + "\n")
    log = csv.parent / "alerts.jsonl"
    result = run(f"replay:{csv}", "--alerts", str(log))
    opened, closed = re.findall(r".* FAULT 1 .*", result.stdout, re.I)
    assert opened.endswith("SENSOR FAULT 1 opened  level: flat for 60 readings")
    assert "sensor fault 1 closed  level: no longer flat" in closed
    assert "; 1 sensor fault." in result.stdout
    faults = [e for e in map(json.loads, log.read_text().splitlines()) if e["reason"]]
    assert [(f["event"], f["kind"], f["reason"]) for f in faults] == [
        (event, "sensor_fault", "flat") for event in ("opened", "closed")
    ]
    assert [channel["name"] for fault in faults for channel in fault["channels"]] == ["level"] * 2


@pytest.fixture
def fast(csv: Path, tmp_path: Path) -> Path:
    """The tiny model, and the recording, as of a hundred readings a second."""
    header, *rows = csv.read_text().splitlines()
    rows = [f"{i / 100},{row.split(',', 1)[1]}" for i, row in enumerate(rows)]
    csv.write_text("\n".join([header, *rows]) + "\n")
    from dataclasses import replace

    from edgelstm.artifact import Artifact

    tiny = Artifact.read(TINY)
    path = tmp_path / "fast.tflite"
    replace(tiny, manifest=replace(tiny.manifest, sample_period=0.01)).write(path)
    return path


@pytest.mark.parametrize(("what", "rows"), [("hang", 950), ("unplug", 250)])
def test_a_silent_sensor_is_a_fault_while_it_is_silent(
    csv: Path, fast: Path, what: str, rows: int
) -> None:
    link = csv.parent / "sensor"
    command = [*EDGELSTM, "run", str(fast), "--port", str(link), *STRICT]
    simulate = ["--link", str(link), "--rows", f"0:{rows}", "--rate", "100"]
    with (
        device(csv, *simulate, "--faults", f"{what}=150:7"),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader,
    ):
        assert reader.stdout
        lines = [reader.stdout.readline()]
        lines.append(reader.stdout.readline())
        told = time.monotonic()
        lines += reader.stdout
    # It was told of while nothing came, not when something came again.
    assert time.monotonic() - told > 1
    assert lines[1].rstrip().endswith("SENSOR FAULT 1 opened  flow, level: missing, critical")
    assert "sensor fault 1 closed  flow, level: no longer missing" in lines[2]
    assert any("; 1 sensor fault." in line for line in lines)


def test_a_clock_that_was_set_back_is_said_once(csv: Path) -> None:
    rows = csv.read_text().splitlines()
    table = csv.parent / "back.csv"
    back = [
        f"{60 * (i - 120)},{row.split(',', 1)[1]}" for i, row in enumerate(rows[1001:1300], 1000)
    ]
    table.write_text("\n".join([*rows[:1001], *back]) + "\n")
    result = run(f"replay:{table}")
    assert result.stderr.count("The time went back to") == 1
    assert "10 readings were left out because their time went back." in result.stdout
    assert "after 1 long ones the states were reset" in result.stdout


def test_a_calibration_beside_the_artifact_is_taken_and_said(csv: Path) -> None:
    from dataclasses import replace

    from edgelstm.artifact import Artifact
    from edgelstm.calibration_file import CalibrationFile, calibration_path

    artifact = csv.parent / "pump.tflite"
    artifact.write_bytes(TINY.read_bytes())
    tiny = Artifact.read(TINY)
    assert tiny.manifest.detection is not None
    detection = replace(tiny.manifest.detection, residual_scale=(1000.0, 1000.0))
    CalibrationFile.of(tiny, detection, "test").write(calibration_path(artifact))
    result = run(f"replay:{csv}", artifact=artifact)
    assert f"Using the calibration in {calibration_path(artifact)}." in result.stderr
    assert "; 0 alerts." in result.stdout
    result = run(f"replay:{csv}", "--no-calibration", artifact=artifact)
    assert result.stderr == ""
    assert "; 1 alert." in result.stdout


@contextmanager
def reading(
    csv: Path, *options: str, simulate: Sequence[str] = ()
) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str], str]]:
    """`run` amid the readings of a device: its process, the device's, and the port."""
    with (
        device(csv, "--rate", "200", *simulate) as (port, sender),
        subprocess.Popen(
            [*FOREGROUND, *EDGELSTM, "run", str(TINY), "--port", port, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as reader,
    ):
        assert reader.stdout
        assert reader.stdout.readline().startswith("Watching flow, level")
        time.sleep(0.5)
        yield reader, sender, port


def test_a_pulled_cable_ends_it_with_a_sentence_and_the_summary_if_wanted(csv: Path) -> None:
    with reading(csv, "--no-reconnect") as (reader, sender, port):
        sender.kill()
        output, errors = reader.communicate(timeout=20)
    assert reader.returncode == 2
    assert f"Lost {port}" in errors
    assert "Traceback" not in errors
    assert " readings, 0 lost" in output


def test_a_pulled_cable_is_waited_for(csv: Path, tmp_path: Path) -> None:
    link = tmp_path / "sensor"
    faults = ["--link", str(link), "--rows", "0:1000", "--faults", "unplug=300:0.5"]
    with reading(csv, simulate=faults) as (reader, _, port):
        output, errors = reader.communicate(timeout=60)
    assert port == str(link)
    assert reader.returncode == 0
    assert errors.count(f"Lost {link}") == 3
    assert errors.count(f"Connected again to {link}") == 3
    assert "1,000 readings, 0 lost, 0 damaged" in output
    assert "3 reconnections." in output


def test_a_device_that_restarts_is_told(csv: Path) -> None:
    faults = ["--rows", "0:1000", "--faults", "restart=400"]
    with reading(csv, simulate=faults) as (reader, _, _):
        output, errors = reader.communicate(timeout=60)
    assert reader.returncode == 0
    assert errors.count("The device has restarted.") == 2
    assert "2 device restarts." in output


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
