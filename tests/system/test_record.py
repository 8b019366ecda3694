"""`edgelstm record` as a process, against a virtual device behind a pseudo-terminal."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgelstm.cli import main
from edgelstm.parquet import read_recording
from edgelstm_bridge.faults import Faults
from edgelstm_bridge.messages import ChannelInfo, Hello, ValueType
from edgelstm_bridge.virtual_device import RunReport, VirtualDevice

# A script's background has interrupts ignored, and so would this process; a shell's foreground,
# which is meant here, has not.
RECORD = ["/usr/bin/env", "--default-signal=INT", sys.executable, "-m", "edgelstm", "record"]
CHANNELS = tuple(ChannelInfo(name) for name in ("ax", "ay", "az", "gx", "gy", "gz"))
RATE = 200.0


def values(number: int) -> list[float]:
    """Of a reading, exact in float32 and different from those of all others nearby."""
    return [number + k / 8 for k in range(len(CHANNELS))]


@contextmanager
def device(
    readings: int | None = None,
    *,
    rate: float | None = RATE,
    faults: Faults | None = None,
    announced: float = RATE,
) -> Iterator[tuple[VirtualDevice, list[RunReport]]]:
    """A virtual device that runs in a thread; endless without a number of readings."""
    hello = Hello(
        channels=CHANNELS,
        value_type=ValueType.FLOAT32,
        sample_period_us=round(1e6 / announced),
        clock_tick_us=1000,
        device_id="virtual",
    )
    numbers = range(readings) if readings is not None else count()
    rows = ((number / (rate or RATE), values(number)) for number in numbers)
    reports: list[RunReport] = []
    with VirtualDevice(hello, faults=faults) as virtual:
        thread = threading.Thread(target=lambda: reports.append(virtual.run(rows, rate=rate)))
        thread.start()
        try:
            yield virtual, reports
        finally:
            virtual.close()
            thread.join(timeout=30)
            assert not thread.is_alive()


def record(
    port: str, output: Path, *options: str, code: int = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*RECORD, "--port", port, "-o", str(output), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@contextmanager
def recording(port: str, output: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`record` amid the readings: some are on the disk already."""
    with subprocess.Popen(
        [*RECORD, "--port", port, "-o", str(output), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            part = output.with_name(f"{output.name}.part")
            wait_for(lambda: part.exists() and part.read_text().count("\n") > 10)
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def numbers_in(path: Path) -> list[int]:
    """Which of the device's readings are in a recording; each must be exact."""
    recorded = read_recording(path)
    assert recorded.channels == tuple(channel.name for channel in CHANNELS)
    numbers = [round(row[0]) for row in recorded.values.tolist()]
    assert recorded.values.tolist() == [values(number) for number in numbers]
    assert (np.diff(recorded.timestamps) >= 0).all()
    return numbers


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_everything_a_device_sends_is_in_the_file(tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"run.{suffix}"
    with device(600) as (virtual, reports):
        port = virtual.port
        done = record(port, output)
    assert numbers_in(output) == list(range(600))
    assert re.fullmatch(
        r"600 readings of 6 channels in \d+\.\d s \(\d+\.\d Hz\), 0 lost, 0 damaged frames; "
        rf"wrote {output} \([\d.]+ kB\)\.\n",
        done.stdout,
    )
    assert done.stderr == (f"Recording ax, ay, az, gx, gy, gz from {port} to {output}.\n")
    assert reports[0].finished
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


def test_the_summary_for_programs(tmp_path: Path) -> None:
    output, raw = tmp_path / "run.csv", tmp_path / "run.capture"
    with device(300) as (virtual, _):
        done = record(virtual.port, output, "--json", "--raw", str(raw))
    answer = json.loads(done.stdout)
    assert (answer["readings"], answer["rows"], answer["lost"], answer["damaged"]) == (
        300,
        300,
        0,
        0,
    )
    assert answer["sequence_complete"] is True
    assert answer["channels"] == [channel.name for channel in CHANNELS]
    assert (answer["file"], answer["raw"]) == (str(output), str(raw))
    assert (answer["restarts"], answer["reconnects"], answer["ended"]) == (0, 0, "ended")
    assert answer["announced_rate_hz"] == RATE
    assert answer["rate_hz"] > 0
    assert answer["size"] == output.stat().st_size


def test_a_raw_capture_gives_the_same_recording_again(tmp_path: Path) -> None:
    first, again, raw = tmp_path / "first.csv", tmp_path / "again.csv", tmp_path / "run.capture"
    with device(200, faults=Faults.parse("damage=50,seed=1")) as (virtual, _):
        record(virtual.port, first, "--raw", str(raw))
    done = record(f"replay:{raw}", again)
    assert numbers_in(again) == numbers_in(first)
    assert read_recording(again).timestamps == pytest.approx(read_recording(first).timestamps)
    assert "196 readings of 6 channels" in done.stdout
    assert "4 damaged frames" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_it_stops_cleanly_when_told_to(tmp_path: Path, suffix: str, number: signal.Signals) -> None:
    output = tmp_path / f"run.{suffix}"
    with device() as (virtual, _), recording(virtual.port, output) as process:
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert stderr.endswith("\nStopped.\n")
    numbers = numbers_in(output)
    assert numbers == list(range(len(numbers)))
    assert stdout.startswith(f"{len(numbers):,} readings of 6 channels")
    assert " 0 lost, 0 damaged frames" in stdout
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


def test_a_kill_leaves_what_was_on_the_disk_and_the_next_run_says_so(tmp_path: Path) -> None:
    output = tmp_path / "run.parquet"
    part = tmp_path / "run.parquet.part"
    with device() as (virtual, _):
        with recording(virtual.port, output) as process:
            process.kill()
            process.wait(timeout=30)
        text = part.read_text()
        assert text.endswith("\n")
        assert {len(row) for row in csv.reader(io.StringIO(text))} == {7}
        done = record(virtual.port, output, code=2)
        (line,) = done.stderr.splitlines()
        assert "run.parquet.part is what a recording that was cut off has left" in line
        assert part.read_text() == text
    assert not output.exists()
    part.rename(tmp_path / "run.csv")
    numbers = numbers_in(tmp_path / "run.csv")
    assert numbers == list(range(len(numbers)))


def test_it_ends_after_a_while(tmp_path: Path) -> None:
    with device() as (virtual, _):
        done = record(virtual.port, tmp_path / "run.csv", "--duration", "1s", "--json")
    answer = json.loads(done.stdout)
    assert answer["ended"] == "duration"
    assert answer["readings"] == len(numbers_in(tmp_path / "run.csv")) > 1
    assert answer["lost"] == 0


def test_it_ends_after_so_many_readings(tmp_path: Path) -> None:
    with device() as (virtual, _):
        done = record(virtual.port, tmp_path / "run.csv", "--readings", "123", "--json")
    assert json.loads(done.stdout)["ended"] == "readings"
    assert numbers_in(tmp_path / "run.csv") == list(range(123))


def test_channels_and_a_grid_are_chosen(tmp_path: Path) -> None:
    output = tmp_path / "run.csv"
    with device(400) as (virtual, _):
        done = record(virtual.port, output, "--channels", "gz,ax", "--resample", "50ms", "--json")
    recorded = read_recording(output)
    assert recorded.channels == ("gz", "ax")
    assert recorded.values[:, 0] - recorded.values[:, 1] == pytest.approx(5 / 8)
    assert set(np.round(np.diff(recorded.timestamps), 5).tolist()) == {0.05}
    answer = json.loads(done.stdout)
    assert (answer["readings"], answer["rows"]) == (400, len(recorded))


def test_losses_are_counted_and_written_as_events(tmp_path: Path) -> None:
    output, events = tmp_path / "run.csv", tmp_path / "events.jsonl"
    with device(400, faults=Faults.parse("lose=40,seed=1")) as (virtual, _):
        done = record(virtual.port, output, "--events", str(events))
    kept = numbers_in(output)
    missing = sorted(set(range(400)) - set(kept))
    assert len(missing) == 10
    assert "390 readings" in done.stdout
    assert ", 10 lost, 0 damaged frames;" in done.stdout
    assert "Also 9 gaps." in done.stdout  # the last one is after all readings
    assert done.stderr.count("1 reading is missing before ") == 9
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    gaps = [line for line in lines if line["event"] == "gap"]
    assert [(gap["missing"], gap["exact"]) for gap in gaps] == [(1, True)] * 9
    assert lines[0]["event"] == "connected"
    assert lines[-1]["event"] == "ended"


def test_an_unplugged_device_is_recorded_on(tmp_path: Path) -> None:
    output, link = tmp_path / "run.csv", tmp_path / "port"
    hello = Hello(CHANNELS, ValueType.FLOAT32, round(1e6 / RATE), 1000, device_id="virtual")
    rows = ((number / RATE, values(number)) for number in range(400))
    with VirtualDevice(hello, link=link, faults=Faults.parse("unplug=150:0.3")) as virtual:
        thread = threading.Thread(target=lambda: virtual.run(rows, rate=RATE))
        thread.start()
        try:
            done = record(str(link), output, "--json")
        finally:
            virtual.close()
            thread.join(timeout=30)
    answer = json.loads(done.stdout)
    assert answer["reconnects"] == 2
    assert answer["readings"] + answer["lost"] == 400
    assert "Connected again to" in done.stderr
    numbers = numbers_in(output)
    assert sorted(set(numbers)) == numbers
    assert numbers[-1] == 399


def test_a_link_lost_for_good_keeps_what_came(tmp_path: Path) -> None:
    output = tmp_path / "run.csv"
    with device() as (virtual, _), recording(virtual.port, output, "--no-reconnect") as process:
        virtual.close()
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 2
    (error,) = [line for line in stderr.splitlines() if line.startswith("Error: ")]
    assert f"What had come before is in {output}." in error
    assert "Traceback" not in stderr
    numbers = numbers_in(output)
    assert numbers == list(range(len(numbers)))
    assert stdout.startswith(f"{len(numbers):,} readings")


def test_a_device_at_another_pace_than_it_says(tmp_path: Path) -> None:
    with device(1600, announced=100.0) as (virtual, _):
        done = record(virtual.port, tmp_path / "run.csv")
    assert "Warning: The device says that it takes a reading every 0.01 s (100 Hz)" in done.stderr


def test_lines_of_text_are_recorded(tmp_path: Path) -> None:
    output = tmp_path / "run.csv"
    lines = "x,y\n" + "".join(f"{i},{i / 4}\n" for i in range(300))
    done = subprocess.run(
        [*RECORD, "--port", "stdin:", "-o", str(output)],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    header, *rows = csv.reader(io.StringIO(output.read_text()))
    assert header == ["timestamp", "x", "y"]
    assert [(float(x), float(y)) for _, x, y in rows] == [(i, i / 4) for i in range(300)]
    assert re.match(r"300 readings of 2 channels in .*, 0 gaps, 0 damaged lines; ", done.stdout)
    # They came all at once, and say no times of their own.
    assert "train and quantize will refuse the file" in done.stdout


# What cannot be


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("there.csv", [], r"there\.csv exists already; use --force"),
        ("run.txt", [], "ends neither in .csv nor in .parquet"),
        ("run.csv", ["--raw", "{}/there.csv"], "exists already"),
        ("run.csv", ["--duration", "10 parsecs"], "no duration such as 60s"),
        ("run.csv", ["--resample", "0Hz"], "no rate such as 50Hz"),
        ("run.csv", ["--channels", "ax,nothing"], "There is no channel 'nothing'; there are ax"),
    ],
)
def test_refusals_leave_no_file(tmp_path: Path, name: str, options: list[str], words: str) -> None:
    (tmp_path / "there.csv").write_text("mine")
    given = [option.format(tmp_path) for option in options]
    with device() as (virtual, _):
        done = CliRunner().invoke(
            main, ["record", "--port", virtual.port, "-o", str(tmp_path / name), *given]
        )
    assert done.exit_code == 2
    assert re.search(words, done.stderr)
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]
    assert (tmp_path / "there.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("option", "name"), [("--raw", "run.csv"), ("--events", "run.csv.part"), ("--raw", "./run.csv")]
)
def test_two_things_do_not_go_to_one_file(tmp_path: Path, option: str, name: str) -> None:
    output = tmp_path / "run.csv"
    done = record("stdin:", output, option, f"{tmp_path}/{name}", code=2)
    assert "cannot hold two things" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_capture_of_yesterday_outlives_a_port_that_is_not_there(tmp_path: Path) -> None:
    raw, output = tmp_path / "run.capture", tmp_path / "run.csv"
    for port, words in (("/dev/ttyNOTHERE", "no such port"), ("nothing:", "no source is called")):
        raw.write_text("of yesterday")
        done = record(port, output, "--raw", str(raw), "--force", code=2)
        assert words in done.stderr
        assert raw.read_text() == "of yesterday"


def test_a_capture_of_lines_gives_the_same_lines_again(tmp_path: Path) -> None:
    first, again, raw = tmp_path / "first.csv", tmp_path / "again.csv", tmp_path / "run.capture"
    subprocess.run(
        [*RECORD, "--port", "stdin:", "-o", str(first), "--raw", str(raw)],
        input="".join(f"{i},{i / 4}\n" for i in range(50)),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    record(f"replay:{raw}", again)
    assert again.read_text() == first.read_text()
    assert len(again.read_text().splitlines()) == 51


def test_a_device_that_takes_another_rate_on_request_is_not_warned_of(tmp_path: Path) -> None:
    with device(rate=100) as (virtual, _):
        done = record(virtual.port, tmp_path / "run.csv", "--rate", "25", "--duration", "7")
    assert "Warning" not in done.stderr


def test_a_duration_of_centuries(tmp_path: Path) -> None:
    with device(50) as (virtual, _):
        record(virtual.port, tmp_path / "run.csv", "--duration", "200000d")


def test_a_port_that_is_not_there_leaves_no_file(tmp_path: Path) -> None:
    files = ("run.csv", "run.capture", "run.jsonl")
    output, raw, events = (tmp_path / name for name in files)
    done = record("/dev/ttyNOTHERE", output, "--raw", str(raw), "--events", str(events), code=2)
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: Cannot open /dev/ttyNOTHERE: there is no such port")
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_sends_nothing_leaves_no_file(tmp_path: Path) -> None:
    with device(0) as (virtual, _):
        done = record(virtual.port, tmp_path / "run.csv", code=2)
    assert "No reading came from" in done.stderr
    assert list(tmp_path.iterdir()) == []


# On a terminal


def test_the_live_line_stays_within_the_terminal(tmp_path: Path) -> None:
    import fcntl
    import termios

    output = tmp_path / "run.csv"
    terminal, ours = os.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    shown = b""
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    try:
        with (
            device() as (virtual, _),
            subprocess.Popen(
                [*RECORD, "--port", virtual.port, "-o", str(output)],
                stdin=ours,
                stdout=ours,
                stderr=ours,
                env=environment,
            ) as process,
        ):
            deadline = time.monotonic() + 30
            while len(re.findall(rb"Hz", shown)) < 3:
                assert time.monotonic() < deadline, shown
                if select.select([terminal], [], [], 0.1)[0]:
                    shown += os.read(terminal, 4096)
            process.send_signal(signal.SIGINT)
            while process.poll() is None:
                assert time.monotonic() < deadline, shown
                if select.select([terminal], [], [], 0.1)[0]:
                    shown += os.read(terminal, 4096)
            while select.select([terminal], [], [], 0.1)[0]:
                shown += os.read(terminal, 4096)
    finally:
        os.close(terminal)
        os.close(ours)
    text = shown.decode()
    lines = [part.partition("\r")[0] for part in text.split("\r\x1b[K")[1:]]
    status = [line for line in lines if " readings  " in line]
    assert len(status) >= 3
    assert max(map(len, status)) < 60
    assert re.match(
        r"  00:00:\d\d  [\d,]+ readings  \d+\.\d Hz  0 lost  0 damaged  ax ", status[-1]
    )
    assert "Stopped." in text
    assert f"wrote {output}" in text.replace("\r\n", "")
    assert math.isfinite(numbers_in(output)[0])
