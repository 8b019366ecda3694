"""The whole way from a sketch: simavr, a pty, `edgelstm record`, `train`, `quantize` and `run`."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from board import INPUTS, board, firmware, needs_simulator

from edgelstm.parquet import read_recording
from edgelstm_bridge.decoder import FrameDecoder
from edgelstm_bridge.messages import End, Sample
from edgelstm_bridge.sources import open_source

pytestmark = [needs_simulator, pytest.mark.timeout(600)]

EDGELSTM = [sys.executable, "-m", "edgelstm"]
# A script's background has interrupts ignored, and so would what it starts.
FOREGROUND = ["/usr/bin/env", "--default-signal=INT"]
SECONDS = 60
RATE = 100
PPM = 2000


@dataclass
class Recorded:
    """What one recording left.

    Attributes:
        csv: the recording.
        raw: the raw capture.
        summary: as `record --json` printed it.
        truth: what the board sent: the values of each sample, by number.
        due: how many samples were due in all, as the board's last end says.
    """

    csv: Path
    raw: Path
    summary: dict[str, Any]
    truth: dict[int, tuple[float, ...]]
    due: int


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recorded]:
    """A minute of a good line and a minute of a bad one, recorded at the same time."""
    folder = tmp_path_factory.mktemp("recorded")
    lines = {"good": 0, "bad": PPM}
    with ExitStack() as stack:
        recorders = {}
        for name, ppm in lines.items():
            running = stack.enter_context(
                board(
                    firmware("AnalogInputs"),
                    drop_ppm=ppm,
                    garble_ppm=ppm,
                    truth=folder / f"{name}.truth",
                )
            )
            recorders[name] = stack.enter_context(record(running.port, folder / name))
        outputs = {name: process.communicate(timeout=300) for name, process in recorders.items()}
        for name, process in recorders.items():
            assert process.returncode == 0, outputs[name][1]
    found = {}
    for name, (output, _) in outputs.items():
        truth, due = read_truth(folder / f"{name}.truth")
        csv = folder / f"{name}.csv"
        found[name] = Recorded(csv, folder / f"{name}.raw", json.loads(output), truth, due)
    return found


def record(port: str, stem: Path) -> subprocess.Popen[str]:
    files = ["-o", f"{stem}.csv", "--raw", f"{stem}.raw"]
    return subprocess.Popen(
        [*EDGELSTM, "record", "--port", port, *files, "--duration", f"{SECONDS}s", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_truth(path: Path) -> tuple[dict[int, tuple[float, ...]], int]:
    decoder = FrameDecoder()
    messages = decoder.feed(path.read_bytes())
    assert decoder.counters.damaged == decoder.counters.lost == 0
    samples = {m.sequence_number: m.values for m in messages if isinstance(m, Sample)}
    ends = [message.sample_count for message in messages if isinstance(message, End)]
    return samples, ends[-1]


def replayed(capture: Path) -> dict[int, tuple[float, ...]]:
    with open_source(f"replay:{capture}") as source:
        return {reading.sequence_number or 0: reading.values for reading in source}


def test_a_minute_of_a_good_line_is_complete(recorded: dict[str, Recorded]) -> None:
    good = recorded["good"]
    summary = good.summary
    assert (summary["damaged"], summary["lost"], summary["gaps"]) == (0, 0, 0)
    assert summary["sequence_complete"]
    assert (summary["dropped_by_device"], summary["missed_by_device"]) == (0, 0)
    assert summary["readings"] == summary["rows"] == good.due
    assert good.due >= SECONDS * RATE * 0.97  # the simulation may fall behind the wall's clock
    recording = read_recording(good.csv)
    assert recording.channels == tuple(f"a{i}" for i in range(INPUTS))
    assert recording.values.tolist() == [list(good.truth[n]) for n in range(good.due)]
    assert abs(recording.sample_period * RATE - 1) < 0.01
    assert np.all(np.diff(recording.timestamps) > 0)


def test_on_a_bad_line_every_surviving_frame_is_exact_and_every_lost_one_counted(
    recorded: dict[str, Recorded],
) -> None:
    bad = recorded["bad"]
    summary = bad.summary
    survived = replayed(bad.raw)
    assert 0.8 * bad.due < len(survived) < 0.97 * bad.due, "the line was not bad enough"
    assert survived == {number: bad.truth[number] for number in survived}
    assert read_recording(bad.csv).values.tolist() == [list(v) for v in survived.values()]
    assert summary["readings"] == len(survived)
    assert summary["damaged"] > 100
    # The end itself may be what was damaged: what was lost after the last reading nobody knows.
    known = {max(survived) + 1, bad.due}
    assert summary["readings"] + summary["lost"] in known


@pytest.fixture(scope="module")
def artifact(recorded: dict[str, Recorded]) -> Path:
    """An int8 model of the good minute."""
    csv = recorded["good"].csv
    model, artifact = csv.with_suffix(".keras"), csv.with_suffix(".tflite")
    edgelstm("train", csv, "-o", model, "--rows", "0:3000")
    edgelstm(
        "quantize", model, "--calibration", csv, "--rows", "0:3000", "--recipe", "int8",
        "-o", artifact,
    )  # fmt: skip
    return artifact


def edgelstm(*arguments: str | Path) -> str:
    done = subprocess.run(
        [*EDGELSTM, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_firmware_streams_into_a_model_and_an_anomaly_is_announced(artifact: Path) -> None:
    anomaly_at = 12.0
    with (
        board(firmware("AnalogInputs"), anomaly_at=anomaly_at) as running,
        subprocess.Popen(
            [*FOREGROUND, *EDGELSTM, "run", str(artifact), "--port", running.port],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as watching,
    ):
        try:
            lines = list(until_alert(watching))
        finally:
            watching.send_signal(signal.SIGINT)
            rest, errors = watching.communicate(timeout=60)
    assert lines[0].startswith("Watching a0, a1, a2, a3, a4, a5 on /dev/pts/")
    assert "(int8, " in lines[0]
    assert "ALERT 1 opened" in lines[-1]
    found = re.search(r"([\d,]+) readings, 0 lost, 0 damaged", rest)
    assert found, rest + errors
    assert int(found[1].replace(",", "")) > 0.8 * anomaly_at * RATE, "before the anomaly"


def until_alert(watching: subprocess.Popen[str]) -> Iterator[str]:
    assert watching.stdout
    deadline = time.monotonic() + 120
    for line in watching.stdout:
        yield line
        assert time.monotonic() < deadline
        if "ALERT" in line:
            return
