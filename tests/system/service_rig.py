"""What the tests of the service share: the process, a device that counts, and looks from outside.

Nothing here is a test; see `test_service.py` and `test_service_disturbed.py`.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from edgelstm.artifact import Artifact
from edgelstm_bridge.codec import encode_frame
from edgelstm_bridge.decoder import FrameDecoder
from edgelstm_bridge.messages import ChannelInfo, End, Hello, Ping, Pong, Start, Stop
from edgelstm_bridge.sample_encoder import SampleEncoder

DATA = Path(__file__).parent.parent / "data"
EDGELSTM = [sys.executable, "-m", "edgelstm"]
PERIOD = 0.001
"""Seconds between two readings: of the device, and what the artifact was made for."""

ANOMALY = 40
"""How many readings in a row surely make an alert."""

_TICK_US = 1000


def make_artifact(path: Path, model: str = "tiny") -> None:
    """One of the tiny models, as of a machine that is read every `PERIOD`."""
    artifact = Artifact.read(DATA / f"{model}.tflite")
    fast = replace(artifact, manifest=replace(artifact.manifest, sample_period=PERIOD))
    beside = path.with_suffix(".new")
    fast.write(beside)
    beside.replace(path)


def until(condition: Callable[[], bool], what: str, timeout: float = 20.0) -> None:
    """Waits for something, or fails."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not within {timeout:g} s: {what}"
        time.sleep(0.02)


class Device:
    """A board with the frame protocol behind a TCP port. It takes samples while it is heard.

    Args:
        pairs: of channels: "flow" and "level", then "flow2" and "level2", and so on.
        port: to listen on; 0 for a free one.
        rate: of its samples beside that of `PERIOD`.
    """

    def __init__(self, pairs: int = 1, port: int = 0, rate: float = 1.0) -> None:
        names = [f"{name}{n or ''}" for n in [0, *range(2, pairs + 1)] for name in NAMES]
        self._pairs = pairs
        self._hello = Hello(
            tuple(ChannelInfo(name) for name in names),
            sample_period_us=round(1e6 * PERIOD / rate),
            clock_tick_us=_TICK_US,
            boot_id=os.getpid() << 8 | threading.active_count(),
            device_id="board",
        )
        self._encoder = SampleEncoder(self._hello)
        self._period = PERIOD / rate
        self._booted = time.monotonic()
        self._server = socket.create_server(("127.0.0.1", port))
        self.port: int = self._server.getsockname()[1]
        self._wanted = threading.Event()
        self._wanted.set()
        self._bad: tuple[int, int, int] = (0, 0, 0)  # from, up to, channel
        self._lock = threading.Lock()
        self._closing = False
        self.sent = 0
        """Samples that it wrote into a connection."""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where it is, as a source's `port`."""
        return f"socket://127.0.0.1:{self.port}"

    def misbehave(self, readings: int = ANOMALY, channel: int = 0) -> None:
        """Lets a channel rattle for the next so many readings."""
        with self._lock:
            self._bad = self.sent, self.sent + readings, channel

    def pause(self) -> int:
        """Takes no samples; how many were sent up to now."""
        self._wanted.clear()
        with self._lock:
            self._paused = time.monotonic()
            return self.sent

    def go_on(self) -> None:
        """Takes samples again."""
        self._wanted.set()

    def burst(self) -> int:
        """Sends what it took since it was paused, all at once; how many were sent up to then."""
        with self._lock:
            now = time.monotonic()
            samples = int((now - self._paused) / self._period)
            self._send([now - n * self._period for n in reversed(range(samples))])
            return self.sent

    def wait_for(self, samples: int) -> None:
        """Waits until so many more were sent."""
        wanted = self.sent + samples
        until(lambda: self.sent >= wanted, f"{wanted} samples; there are {self.sent}")

    def close(self) -> None:
        """Ends it."""
        self._closing = True
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while not self._closing:
            try:
                self._connection, _ = self._server.accept()
            except OSError:
                return
            with closing(self._connection), suppress(OSError):
                self._talk()

    def _talk(self) -> None:
        commands, running = FrameDecoder(), False
        due = time.monotonic()
        while not self._closing:
            if select.select([self._connection], [], [], 0.004)[0]:
                if not (data := self._connection.recv(4096)):
                    return
                for message in commands.feed(data):
                    if isinstance(message, Start):
                        running, due = True, time.monotonic()
                        self._say(replace(self._hello, sample_count=self.sent))
                    elif isinstance(message, Stop):
                        running = False
                        self._say(End(self.sent))
                    elif isinstance(message, Ping):
                        self._say(Pong(message.token, self._clock(time.monotonic())))
            now = time.monotonic()
            with self._lock:
                if not (running and self._wanted.is_set()):
                    due = now
                elif now >= due:
                    samples = math.ceil((now - due) / self._period)
                    self._send([due + n * self._period for n in range(samples)])
                    due += samples * self._period

    def _say(self, message: Hello | End | Pong) -> None:
        with self._lock:
            self._connection.sendall(encode_frame(message.encode()))

    def _send(self, times: Sequence[float]) -> None:
        """Sends samples of these times."""
        frames = []
        first, last, channel = self._bad
        for number, at in enumerate(times, self.sent):
            row = self._row(number)
            if first <= number < last:
                row[channel] += 6 * (-1) ** number
            frames.append(self._encoder.encode(number, self._clock(at), row))
        self._connection.sendall(b"".join(frames))
        self.sent += len(frames)

    def _row(self, n: int) -> list[float]:
        """What the tiny models were trained on, with a noise that is none."""
        flow = 20 + 3 * math.sin(n / 8) + 0.3 * math.sin(1.7 * n * n % 97)
        level = -5 + math.sin(n / 5 + 1) + 0.1 * math.sin(2.3 * n * n % 89)
        return [flow, level] * self._pairs

    def _clock(self, at: float) -> int:
        return round((at - self._booted) * 1e6 / _TICK_US)


NAMES = ("flow", "level")


class Service:
    """`edgelstm run` with a configuration, as a process of its own.

    Args:
        folder: of the configuration; what it writes goes there, too.
        environ: beside this process's own.
        before: what runs the command.
    """

    def __init__(
        self, folder: Path, *, environ: Mapping[str, str] | None = None, before: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self._output = folder / "output.txt"
        self._begins = self._output.stat().st_size if self._output.exists() else 0
        with self._output.open("ab") as output:
            self.process = subprocess.Popen(
                [*before, *EDGELSTM, "run", str(folder / "x.toml")],
                stdout=output,
                stderr=output,
                env={**os.environ, **(environ or {})},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)

    @property
    def output(self) -> str:
        """What it printed so far."""
        with self._output.open("rb") as output:
            output.seek(self._begins)
            return output.read().decode()

    @property
    def urls(self) -> list[str]:
        """Of what it serves, in the order of the metrics and the dashboard."""
        return re.findall(r"Serving (http://\S+)", self.output)

    def started(self) -> Self:
        """Waits until it serves its metrics."""
        until(lambda: bool(self.urls) or self.process.poll() is not None, "the start")
        assert self.process.poll() is None, self.output
        return self

    def figures(self) -> dict[str, float]:
        """The metrics by name and values of labels, such as "edgelstm_readings_total pump"."""
        text = self._get("/metrics").decode()
        return {
            " ".join([sample.name, *_with_the_sensor_first(sample.labels)]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def health(self) -> dict[str, Any]:
        """What `/healthz` says."""
        told: dict[str, Any] = json.loads(self._get("/healthz"))
        return told

    def readings(self, sensor: str = "pump") -> int:
        """How many readings a sensor has taken."""
        return int(self.figures().get(f"edgelstm_readings_total {sensor}", 0))

    def until_taken(self, samples: int, sensor: str = "pump") -> dict[str, float]:
        """Waits until a sensor has taken so many readings; the figures then."""
        until(lambda: self.readings(sensor) >= samples, f"{samples} readings of {sensor}")
        return self.figures()

    def _get(self, path: str) -> bytes:
        """What a page says, whatever its status."""
        host = urlsplit(self.urls[0]).netloc
        with closing(HTTPConnection(host, timeout=10)) as connection:
            connection.request("GET", path)
            return connection.getresponse().read()

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def until_problem(self, what: str) -> None:
        """Waits until it says what is wrong."""
        until(lambda: what in " ".join(self.health()["problems"]), what)

    def reload(self) -> dict[str, float]:
        """Lets it read its configuration anew; the figures after that."""
        before = self.figures()["edgelstm_reloads_total"]
        self.send(signal.SIGHUP)
        until(lambda: self.figures()["edgelstm_reloads_total"] > before, "the reload")
        return self.figures()

    def stop(self) -> str:
        """Ends it as systemd does; what it printed."""
        self.send(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.output
        assert "Traceback" not in self.output, self.output
        return self.output

    def kill(self) -> None:
        """Ends it as a power cut does."""
        self.process.kill()
        self.process.wait(10)

    def notices(self, name: str = "alerts.jsonl") -> list[dict[str, Any]]:
        """What a sink wrote to a file."""
        path = self.folder / name
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def anomalies(self, name: str = "alerts.jsonl") -> list[dict[str, Any]]:
        """Those about anomalies; a machine that is too busy may also miss its sensors."""
        return [notice for notice in self.notices(name) if notice["kind"] == "anomaly"]

    def events(self, name: str = "alerts.jsonl", *, sensor: str | None = None) -> list[str]:
        """The events of those; not that an alert became worse."""
        return [
            notice["event"]
            for notice in self.anomalies(name)
            if notice["event"] not in ("updated", "escalated")
            and sensor in (None, notice["sensor"])
        ]


def _with_the_sensor_first(labels: Mapping[str, str]) -> list[str]:
    return [value for _, value in sorted(labels.items(), key=lambda pair: pair[0] != "sensor")]


def skipped(figures: Mapping[str, float], sensor: str = "pump") -> dict[str, int]:
    """The readings of a sensor without a score, by reason."""
    prefix = f"edgelstm_readings_skipped_total {sensor} "
    return {
        name.removeprefix(prefix): int(count)
        for name, count in figures.items()
        if name.startswith(prefix) and count
    }


def assert_whole(figures: Mapping[str, float], sent: int, sensor: str = "pump") -> None:
    """Every sample is accounted for: none was lost, and each has a score or a reason."""
    assert figures[f"edgelstm_readings_total {sensor}"] == sent
    scored = figures[f"edgelstm_scored_total {sensor}"]
    assert sent == scored + sum(skipped(figures, sensor).values())
    for name, count in figures.items():
        if re.match(r"edgelstm_(lost|damaged|overflow|reordered|gaps)_total", name):
            assert count == 0, name
