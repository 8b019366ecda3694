"""`edgelstm simulate` as a process of its own, and what comes out of its port."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import serial

from edgelstm_bridge.codec import encode_frame
from edgelstm_bridge.decoder import FrameDecoder
from edgelstm_bridge.messages import End, Hello, Sample, Start

READINGS = 300
DEADLINE_S = 30.0


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "pump.csv"
    lines = [f"{1000 + 0.01 * i:.2f},{i},{-i / 4}" for i in range(READINGS)]
    path.write_text("\n".join(["time,flow,level", *lines]) + "\n")
    return path


@contextmanager
def simulate(csv: Path, *options: str) -> Iterator[tuple[serial.Serial, subprocess.Popen[str]]]:
    """A simulated device in a process of its own, and its port."""
    command = [sys.executable, "-m", "edgelstm", "simulate", str(csv), "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            announcement = json.loads(process.stdout.readline())
            assert announcement["readings"] == READINGS
            with serial.Serial(announcement["port"], timeout=DEADLINE_S) as port:
                yield port, process
        finally:
            process.terminate()


def read_frames(port: serial.Serial) -> tuple[list[Sample], FrameDecoder]:
    decoder = FrameDecoder()
    samples: list[Sample] = []
    port.write(encode_frame(Start().encode()))
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        for message in decoder.feed(port.read(max(1, port.in_waiting))):
            if isinstance(message, End):
                return samples, decoder
            if isinstance(message, Sample):
                samples.append(message)
            elif isinstance(message, Hello):
                assert [channel.name for channel in message.channels] == ["flow", "level"]
    raise AssertionError("no end came")


def summary_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate(timeout=DEADLINE_S)
    summary: dict[str, Any] = json.loads(output)
    return summary


@pytest.mark.parametrize(
    "options", [(), ("--as-fast-as-possible",), ("--rate", "1000"), ("--rate", "recorded")]
)
def test_all_readings_come_at_any_pace(csv: Path, options: tuple[str, ...]) -> None:
    with simulate(csv, *options) as (port, process):
        samples, _ = read_frames(port)
        port.close()
        summary = summary_of(process)
    assert [sample.values for sample in samples] == [(i, -i / 4) for i in range(READINGS)]
    assert [sample.device_clock for sample in samples] == [10 * i for i in range(READINGS)]
    assert summary == {
        "sent": READINGS,
        "finished": True,
        "restarts": 0,
        "unplugs": 0,
        "lost": {},
    }


def test_what_was_lost_is_told(csv: Path) -> None:
    with simulate(csv, "--faults", "garble=1%,lose=10,seed=1") as (port, process):
        samples, decoder = read_frames(port)
        port.close()
        summary = summary_of(process)
    assert summary["sent"] == READINGS
    assert summary["lost"]["lose"] == 30
    assert summary["lost"]["noise"] > 10
    assert len(samples) == READINGS - sum(summary["lost"].values())
    assert decoder.counters.lost == sum(summary["lost"].values())


def test_the_link_follows_a_cable_that_comes_and_goes(csv: Path, tmp_path: Path) -> None:
    link = tmp_path / "sensor"
    options = ("--faults", "unplug=100:0.1", "--link", str(link))
    received: list[float] = []
    with simulate(csv, *options) as (port, process):
        decoder = FrameDecoder()
        deadline = time.monotonic() + DEADLINE_S
        port.write(encode_frame(Start().encode()))
        ended = False
        while not ended:
            assert time.monotonic() < deadline
            try:
                messages = decoder.feed(port.read(max(1, port.in_waiting)))
            except OSError:
                port.close()
                while not link.exists():
                    time.sleep(0.01)
                port.port = str(link)
                port.open()
                port.write(encode_frame(Start().encode()))
                continue
            received += [m.values[0] for m in messages if isinstance(m, Sample)]
            ended = any(isinstance(m, End) for m in messages)
        port.close()
        summary = summary_of(process)
    assert received == list(range(READINGS))
    assert summary["unplugs"] == 2
    assert summary["finished"]
    assert not link.is_symlink()


def test_lines_of_text(csv: Path) -> None:
    options = ("--format", "semicolon", "--boot-message", "Booting...", "--rate", "1000")
    with simulate(csv, *options) as (port, process):
        lines = [port.readline().decode() for _ in range(READINGS + 2)]
        port.close()
        assert summary_of(process)["finished"]
    assert lines[:4] == ["Booting...\r\n", "flow;level\r\n", "0.0;0.0\r\n", "1.0;-0.25\r\n"]
