"""The sinks of a running service, and their receivers, which fail in every way they can."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

TINY = Path(__file__).parent.parent / "data" / "tiny.tflite"
READINGS = 3000
FAULTS = (1000, 1500, 2000, 2500)
HIDDEN = "geheim-7f3a"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The sines that the tiny model was trained on, with four faults."""
    t = np.arange(READINGS)
    rng = np.random.default_rng(5)
    flow = 20 + 3 * (np.sin(t / 8) + rng.normal(0, 0.1, READINGS))
    level = -5 + (np.sin(t / 5 + 1) + rng.normal(0, 0.1, READINGS))
    for fault in FAULTS:
        flow[fault : fault + 60] += 4 * (-1.0) ** np.arange(60)
    lines = [f"{60 * i},{a:.6f},{b:.6f}" for i, (a, b) in enumerate(zip(flow, level, strict=True))]
    (tmp_path / "pump.csv").write_text("\n".join(["time,flow,level", *lines]) + "\n")
    return tmp_path


@dataclass
class Hook:
    """A web server; the first answers are failures."""

    port: int
    failures: int = 0
    ids: list[str] = field(default_factory=list)


@contextmanager
def hook(port: int = 0, failures: int = 0) -> Iterator[Hook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if state.failures:
                state.failures -= 1
                self.send_error(500)
                return
            state.ids.append(data["id"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    state = Hook(server.server_address[1], failures)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run(folder: Path, sinks: str) -> subprocess.CompletedProcess[str]:
    settings = f"""
state_directory = "state"
[sources.file]
port = "replay:{folder}/pump.csv"
[sensors.pump]
artifact = "{TINY}"
[sensors.pump.detection]
false_alarms_per_day = 0.0001
[sinks.record]
type = "jsonl"
path = "alerts.jsonl"
{sinks}
"""
    (folder / "pump.toml").write_text(settings)
    return subprocess.run(
        [sys.executable, "-m", "edgelstm", "run", str(folder / "pump.toml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "TOKEN": HIDDEN},
    )


def ids(folder: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (folder / "alerts.jsonl").read_text().splitlines()]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_what_one_receiver_does_is_nothing_to_the_others(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, hook(failures=1) as failing:
        began = time.monotonic()
        result = run(
            folder,
            f"""
[sinks.hangs]
type = "webhook"
url = "http://127.0.0.1:{silent.getsockname()[1]}/{HIDDEN}"
timeout = 600
[sinks.fails]
type = "webhook"
url = "http://127.0.0.1:{failing.port}/"
headers = {{ Authorization = {{ env = "TOKEN" }} }}
[sinks.refuses]
type = "command"
argv = ["/bin/sh", "-c", "echo never; exit 65"]
[sinks.prints]
type = "command"
argv = ["/bin/sh", "-c", "echo $EDGELSTM_ID >> printed"]
""",
        )
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - began < 50  # one of them would hang for 600 s
    assert "Traceback" not in result.stderr
    assert HIDDEN not in result.stdout + result.stderr
    assert "3,000 readings" in result.stdout
    told = ids(folder)
    assert len(told) >= 2 * len(FAULTS)
    assert (folder / "printed").read_text().split() == told
    assert failing.ids == told
    assert "Sink fails: http://127.0.0.1" in result.stderr
    assert "answers with status 500" in result.stderr
    assert f"Sink refuses refuses notice {told[0]}: /bin/sh refuses it with" in result.stderr


def test_what_a_receiver_missed_comes_after_the_next_start(folder: Path) -> None:
    port = free_port()
    sink = f'[sinks.later]\ntype = "webhook"\nurl = "http://127.0.0.1:{port}/"\n'
    result = run(folder, sink)
    assert result.returncode == 0, result.stderr
    missed = ids(folder)
    assert len(missed) >= 2 * len(FAULTS)
    with hook(port) as there:
        result = run(folder, sink)
    assert result.returncode == 0, result.stderr
    assert there.ids[: len(missed)] == missed
    assert there.ids == ids(folder)
