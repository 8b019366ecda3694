"""A thousand alerts while the broker and the service are killed again and again."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from broker import LOCALHOST, PASSWORD, Broker, Certificates, Watcher, wait_until

TINY = Path(__file__).parent.parent / "data" / "tiny.tflite"
ALERTS = 1000
PROCESS_KILLS = 20
BROKER_KILLS = 10
SENSORS = 4  # of each of the two devices
EPISODE = 40  # readings
RATE = 150.0  # a second
BASE = "edgelstm/plant"
AVAILABILITY = f"{BASE}/availability"
SETTLED_S = 1.2  # from connecting on: the format is told, and the model has warmed up
MARGIN_S = 0.6  # before a kill: what is on its way, or only just there
AT_ONCE_S = 3.0  # what that means on a machine with other work
BACK_S = 10.0  # in which the service is connected, after its start or the broker's

CONFIGURATION = """
name = "plant"
state_directory = "state"
save_every = 1
[sinks.broker]
type = "mqtt"
host = "127.0.0.1"
port = {port}
ca_file = "{authority}"
user = "edge"
password = {{ env = "STORM_PASSWORD" }}
interval = 1
home_assistant = true
events = ["opened", "updated", "escalated", "closed"]
"""
SOURCE = """
[sources.{device}]
port = "socket://127.0.0.1:{port}"
"""
SENSOR = """
[sensors.{device}{number}]
artifact = "{artifact}"
source = "{device}"
rate = "any"
channels = {{ flow = "flow{number}", level = "level{number}" }}
[sensors.{device}{number}.detection]
threshold = "static-quantile"
release = 1.0
quiet = 3
"""


class Spike(NamedTuple):
    """What must alert."""

    time: float  # monotonic
    value: float


class Device:
    """Sends what the model knows and, once in an episode, a spike on each sensor.

    Whether anybody listens does not matter to it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.spikes: dict[str, list[Spike]] = defaultdict(list)
        self.connected: list[tuple[float, float]] = []
        self.calm = threading.Event()
        self._server = socket.create_server((LOCALHOST, 0))
        self._server.setblocking(False)
        self.port = self._server.getsockname()[1]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        self._server.close()

    def _run(self) -> None:
        client: socket.socket | None = None
        since = 0.0
        due = time.monotonic()
        t = 0
        while not self._end.is_set():
            due += 1 / RATE
            time.sleep(max(due - time.monotonic(), 0))
            if client is None:
                with suppress(BlockingIOError):
                    client, _ = self._server.accept()
                    client.settimeout(1)
                    since = time.monotonic()
            line = self._line(t)
            t += 1
            if client is not None:
                try:
                    client.sendall(line)
                except OSError:
                    client.close()
                    client = None
                    self.connected.append((since, time.monotonic()))
        if client is not None:
            self.connected.append((since, time.monotonic()))
            client.close()

    def _line(self, t: int) -> bytes:
        values = {}
        for number in range(SENSORS):
            flow = 20 + 3 * np.sin(t / 8)
            at = t + EPISODE * number // SENSORS  # not all at once
            if at % EPISODE == 0 and not self.calm.is_set():
                # Its digits say which one it is.
                flow = round(flow + 5, 1) + 1e-4 * (at // EPISODE)
                spike = Spike(time.monotonic(), flow)
                self.spikes[f"{self.name}{number}"].append(spike)
            values[f"flow{number}"] = flow
            values[f"level{number}"] = -5 + np.sin(t / 5 + 1)
        return json.dumps(values).encode() + b"\n"


class Service:
    """`edgelstm run`, in a process that is killed."""

    def __init__(self, configuration: Path) -> None:
        self._command: list[str | Path] = [sys.executable, "-m", "edgelstm", "run", configuration]
        self._environment = os.environ | {"STORM_PASSWORD": PASSWORD}
        self._log = configuration.with_suffix(".log").open("wb")
        self.lives: list[tuple[float, float]] = []
        self._since = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._since = time.monotonic()
        self._process = subprocess.Popen(
            self._command, stdout=self._log, stderr=self._log, env=self._environment
        )

    def kill(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, "it ended by itself"
        self.lives.append((self._since, time.monotonic()))
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        assert self._process is not None
        self.lives.append((self._since, time.monotonic()))
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Storm:
    """Everything that takes part."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        # Nothing waits in the broker but for a watcher that is away.
        limits = ("max_inflight_messages 0", "max_queued_messages 0")
        self.broker = Broker(
            folder, *limits, certificates=certificates, closed=True, persistent=True
        )
        self.broker.start()
        self.watcher = Watcher(self.broker, "watcher")
        self.broker.save()
        self.devices = [Device("left"), Device("right")]
        configuration = folder / "storm.toml"
        text = CONFIGURATION.format(port=self.broker.port, authority=certificates.authority)
        for device in self.devices:
            text += SOURCE.format(device=device.name, port=device.port)
            for number in range(SENSORS):
                text += SENSOR.format(device=device.name, number=number, artifact=TINY)
        configuration.write_text(text)
        self.service = Service(configuration)
        self.outbox = folder / "state" / "outbox.sqlite3"
        self.outages: list[tuple[float, float]] = []

    def close(self) -> None:
        self.service.close()
        for device in self.devices:
            device.close()
        self.watcher.close()
        self.broker.kill()

    def restart_broker(self, chance: random.Random) -> None:
        began = time.monotonic()
        # What it has acknowledged it has written to the watcher, which reads it: a message that
        # dies with the broker after that is not the sink's to send again.
        self.broker.freeze()
        time.sleep(0.3)
        self.watcher.connected.clear()
        self.broker.kill()
        time.sleep(chance.uniform(0.0, 0.7))
        self.broker.start()
        assert self.watcher.connected.wait(20)
        self.outages.append((began, time.monotonic()))

    def notices(self) -> list[dict[str, Any]]:
        """All that the outbox holds, in order."""
        if not self.outbox.exists():
            return []
        with closing(sqlite3.connect(f"file:{self.outbox}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT body FROM notices ORDER BY sequence").fetchall()
        return [json.loads(body) for (body,) in rows]

    def came(self) -> list[dict[str, Any]]:
        """All notices that the watcher got, with repetitions."""
        messages = list(self.watcher.messages)
        return [came.data for came in messages if came.topic.startswith(f"{BASE}/alerts")]


@contextmanager
def storm_in(folder: Path) -> Iterator[Storm]:
    (folder / "certificates").mkdir()
    storm = Storm(folder, Certificates(folder / "certificates"))
    try:
        yield storm
    finally:
        storm.close()


def opened(notices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [notice for notice in notices if notice["event"] == "opened"]


def rage(storm: Storm, chance: random.Random) -> None:
    """Kills until there were enough kills and enough alerts."""
    over = threading.Event()
    restarts = threading.Thread(target=_restart_brokers, args=(storm, chance.random(), over))
    storm.service.start()
    restarts.start()
    try:
        for _ in range(PROCESS_KILLS):
            time.sleep(chance.uniform(0.3, 4.5))
            storm.service.kill()
            storm.service.start()
        restarts.join()
        wait_until(lambda: len(opened(storm.notices())) >= ALERTS, 60)
    finally:
        over.set()
        restarts.join()


def _restart_brokers(storm: Storm, seed: float, over: threading.Event) -> None:
    chance = random.Random(seed)  # noqa: S311
    for _ in range(BROKER_KILLS):
        if over.wait(chance.uniform(1.0, 5.0)):
            return
        storm.restart_broker(chance)


@pytest.mark.slow
def test_every_alert_arrives_while_the_broker_and_the_service_are_killed(tmp_path: Path) -> None:
    seed = int(os.environ.get("STORM_SEED", "1"))
    with storm_in(tmp_path) as storm:
        rage(storm, random.Random(seed))  # noqa: S311
        for device in storm.devices:
            device.calm.set()
        time.sleep(1)
        wait_until(lambda: {n["id"] for n in storm.notices()} <= {n["id"] for n in storm.came()})
        wait_until(lambda: storm.watcher.last.get(AVAILABILITY) == b"online")
        code = storm.service.stop()
        wait_until(lambda: storm.watcher.last[AVAILABILITY] == b"offline")
        notices, came = storm.notices(), storm.came()
        assert code == 0
        assert len(storm.service.lives) == PROCESS_KILLS + 1
        assert len(storm.outages) == BROKER_KILLS
        check_arrivals(notices, came)
        check_episodes(storm, notices)
        check_availability(storm)
        assert "Traceback" not in (tmp_path / "storm.log").read_text()


def check_arrivals(notices: list[dict[str, Any]], came: list[dict[str, Any]]) -> None:
    """Every one, each the same whenever it came, and of each sensor in order."""
    assert len(opened(notices)) >= ALERTS
    ids = [notice["id"] for notice in notices]
    assert len(set(ids)) == len(ids)
    alerts = [notice["alert_id"] for notice in opened(notices)]
    assert len(set(alerts)) == len(alerts)
    written = {notice["id"]: notice for notice in notices}
    for notice in came:
        assert notice == written[notice["id"]]
    first = list(dict.fromkeys(notice["id"] for notice in came))
    assert set(first) == set(ids)
    for sensor in {notice["sensor"] for notice in notices}:
        expected = [id_ for id_ in ids if written[id_]["sensor"] == sensor]
        assert [id_ for id_ in first if written[id_]["sensor"] == sensor] == expected
    # A life of an alert begins, goes on and ends; only the last one of a sensor may be open.
    events = defaultdict(list)
    for notice in notices:
        events[notice["alert_id"]].append(notice["event"])
    for told in events.values():
        assert told[0] == "opened"
        assert set(told[1:-1]) <= {"updated", "escalated"}
        assert told.count("closed") <= 1


def check_episodes(storm: Storm, notices: list[dict[str, Any]]) -> None:
    """Each spike that no kill was near has its one alert."""
    told = defaultdict(list)
    for notice in opened(notices):
        if notice["kind"] == "anomaly":
            observed = {channel["name"]: channel["observed"] for channel in notice["channels"]}
            told[notice["sensor"]].append(observed["flow"])
    clear = 0
    for device in storm.devices:
        for sensor, spikes in device.spikes.items():
            for spike in spikes:
                found = sum(abs(value - spike.value) < 4e-5 for value in told[sensor])
                assert found <= 1, (sensor, spike)
                if any(
                    since + SETTLED_S <= spike.time <= until - MARGIN_S
                    for since, until in device.connected
                ):
                    clear += 1
                    assert found == 1, (sensor, spike)
    assert clear > ALERTS / 10, "this says little"


def around(storm: Storm, at: float) -> str:
    """What happened within some seconds of a moment, in order."""
    told = [(since, "started") for since, _ in storm.service.lives]
    told += [(until, "killed") for _, until in storm.service.lives]
    told += [(down, "broker down") for down, _ in storm.outages]
    told += [(up, "broker up") for _, up in storm.outages]
    told += [
        (came.time, f"{came.payload.decode()}{' (retained)' if came.retained else ''}")
        for came in storm.watcher.of(AVAILABILITY)
    ]
    near = sorted(event for event in told if abs(event[0] - at) < 6)
    return ", ".join(f"{when - at:+.2f} s {what}" for when, what in near)


def check_availability(storm: Storm) -> None:
    """Online while the service is connected, and never when it is not there."""
    lives = storm.service.lives
    heard = [(m.time, m.payload) for m in storm.watcher.of(AVAILABILITY) if not m.retained]

    def is_disturbed(begin: float, end: float) -> bool:
        return any(down < end and begin < up for down, up in storm.outages)

    for at, payload in heard:
        if payload == b"online":
            assert any(since <= at <= until + AT_ONCE_S for since, until in lives), around(
                storm, at
            )
        else:
            ended = any(until <= at <= until + AT_ONCE_S for _, until in lives)
            assert ended or is_disturbed(at - AT_ONCE_S, at), around(storm, at)
    told = 0
    for _, until in lives:
        last, payload = max((m for m in heard if m[0] < until), default=(0.0, b"offline"))
        if payload == b"online" and not is_disturbed(last, until + AT_ONCE_S):
            told += 1
            after = [payload for at, payload in heard if until <= at <= until + AT_ONCE_S]
            assert after[:1] == [b"offline"], around(storm, until)
    assert told, "this says nothing"
    for begin in [since for since, _ in lives] + [up for _, up in storm.outages]:
        end = begin + BACK_S
        if any(since <= begin and end <= until for since, until in lives):
            assert is_disturbed(begin, end) or any(
                payload == b"online" and begin <= at <= end for at, payload in heard
            ), around(storm, begin)
