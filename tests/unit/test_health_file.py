"""What a service keeps written down of itself, and that nothing is held up by it."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgelstm.backends.graph import DelegateCounters
from edgelstm.configuration import RunSettings, SensorSettings, SourceSettings
from edgelstm.errors import SourceError
from edgelstm.health import Health, SensorHealth, SinkHealth, SourceHealth, Status
from edgelstm.health_data import describe
from edgelstm.latency import LatencyHistogram
from edgelstm.pipeline import PipelineCounters
from edgelstm.reading import Reading
from edgelstm.service import Service
from edgelstm.service.health_file import HealthFile, health_file_of
from edgelstm.systemd import Notifier
from edgelstm_bridge.source import FakeSource

TINY = Path(__file__).parents[1] / "data" / "tiny.tflite"


def make_health() -> Health:
    latency = LatencyHistogram()
    for microseconds in (*range(1, 100), 5000):
        latency.add(1000 * microseconds)
    sensor = SensorHealth(
        name="pump",
        artifact="pump.tflite",
        sha256="ab" * 32,
        recipe="int8-float",
        backend="ai-edge-litert 2.3",
        source="board",
        status=Status.DEGRADED,
        counters=PipelineCounters(readings=70, scored=60, warming_up=10, restarts=3),
        alerts=4,
        open_alerts=1,
        last_reading=99.25,
        silent_for=0.5,
        score=math.inf,
        threshold=2.5,
        warming_up=False,
        latency=latency,
        delegate=DelegateCounters(delegate_steps=5),
        problem="temperature is flat",
    )
    return Health(
        "gate-3",
        "1.2.3",
        started=40.0,
        time=100.0,
        sensors=(sensor,),
        sources=(SourceHealth("board", "Uno", True, readings=70, lost=2),),
        sinks=(SinkHealth("phone", "webhook", sent=3, pending=1, last_sent=90.0),),
        reloads=6,
    )


def test_a_health_as_plain_data() -> None:
    told = describe(make_health())
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    sensor = told["sensors"]["pump"]
    assert sensor["step_microseconds"]["median"] == pytest.approx(50, rel=0.012)
    assert sensor["step_microseconds"]["p99"] == pytest.approx(99, rel=0.012)
    assert (sensor["readings"], sensor["scored"], sensor["resets"]) == (70, 60, 3)
    assert sensor["skipped"]["warming_up"] == 10
    assert (sensor["score"], sensor["threshold"]) == (None, 2.5)
    assert sensor["sha256"] == "ab" * 32
    assert sensor["delegate"]["delegate_steps"] == 5
    assert told["problems"] == ["pump: temperature is flat"]
    assert (told["status"], told["uptime_seconds"], told["reloads"]) == ("degraded", 60, 6)
    assert told["sources"]["board"]["lost"] == 2
    assert told["sinks"]["phone"]["pending"] == 1
    assert "name" not in told["sinks"]["phone"]
    assert told["outbox"]["path"] is None


def test_a_sensor_without_a_reading_has_no_figures() -> None:
    health = make_health()
    [sensor] = health.sensors
    new = replace(sensor, latency=LatencyHistogram(), last_reading=None, score=None, delegate=None)
    told = describe(replace(health, sensors=(new,)))["sensors"]["pump"]
    assert told["step_microseconds"] == {"median": None, "p99": None}
    assert (told["last_reading"], told["score"], told["delegate"]) == (None, None, None)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"RUNTIME_DIRECTORY": ""}, None),
        ({"RUNTIME_DIRECTORY": "/run/edgelstm/pump"}, Path("/run/edgelstm/pump/health.json")),
        ({"RUNTIME_DIRECTORY": "/run/one:/run/two"}, Path("/run/one/health.json")),
    ],
)
def test_where_it_is(environ: dict[str, str], expected: Path | None) -> None:
    assert health_file_of(environ) == expected


@pytest.fixture
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelstm.service.health_file._EVERY_S", 0.005)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def read(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(path.read_text())
    return told


@pytest.mark.usefixtures("_hurry")
def test_it_is_whole_at_any_moment_and_goes_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "health.json"
    count = iter(range(1_000_000))
    before = os.umask(0o077)
    try:
        file = HealthFile(path, lambda: replace(make_health(), reloads=next(count)))
        file.start()
        assert read(path)["pid"] == os.getpid()  # at once
        seen: set[int] = set()
        while len(seen) < 5:
            seen.add(read(path)["reloads"])
        assert path.stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)
        file.close()
    file.close()
    assert list(tmp_path.iterdir()) == []
    assert not any(thread.name == "health file" for thread in threading.enumerate())


@pytest.mark.usefixtures("_hurry")
def test_a_folder_that_does_not_take_it_is_said_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "later"
    tries = iter(range(1_000_000))
    tried = [0]

    def health() -> Health:
        tried[0] = next(tries)
        return make_health()

    file = HealthFile(folder / "health.json", health)
    with caplog.at_level(logging.WARNING, "edgelstm"):
        file.start()
        until(lambda: tried[0] >= 3)
        folder.mkdir()
        until(lambda: (folder / "health.json").exists())
        file.close()
    [record] = caplog.records
    assert "cannot be written: No such file or directory." in record.getMessage()


@pytest.mark.usefixtures("_hurry")
def test_a_health_that_cannot_be_told_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "health.json"
    broken = [True]
    tries = [0]

    def health() -> Health:
        tries[0] += 1
        if broken[0]:
            raise RuntimeError("a bug")
        return make_health()

    file = HealthFile(path, health)
    with contextlib.closing(file), caplog.at_level(logging.WARNING, "edgelstm"):
        file.start()
        assert not path.exists()
        broken[0] = False
        until(path.exists)
        broken[0] = True
        until(lambda: len(caplog.records) > 1)
        before = tries[0]
        until(lambda: tries[0] > before + 2)
    # Once for each time that it begins.
    assert [record.getMessage() for record in caplog.records] == [
        "The health of the service could not be written down: RuntimeError('a bug')."
    ] * 2


def test_closing_waits_only_so_long_for_a_health(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgelstm.service.health_file._EVERY_S", 0.001)
    monkeypatch.setattr("edgelstm.service.health_file._PATIENCE_S", 0.02)
    hangs, goes_on = threading.Event(), threading.Event()
    calls = iter(range(1_000_000))

    def health() -> Health:
        if next(calls):
            hangs.set()
            goes_on.wait(10)
        return make_health()

    file = HealthFile(tmp_path / "health.json", health)
    file.start()
    assert hangs.wait(10)
    file.close()
    goes_on.set()
    until(lambda: not any(thread.name == "health file" for thread in threading.enumerate()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_hurry")
def test_a_service_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there before the service is ready, follows the readings, and goes with the service."""
    path = tmp_path / "health.json"
    told: list[dict[str, Any]] = []
    ready = []

    class Systemd(Notifier):
        def ready(self, status: str = "") -> None:  # noqa: ARG002  # as in the base class
            ready.append(path.exists())

    def events() -> Iterator[Reading]:
        yield from (Reading(60.0 * i, (20.0, -5.0), i) for i in range(7))
        until(lambda: path.exists() and read(path)["sensors"]["pump"]["readings"] == 7)
        told.append(read(path))

    def opened(*_: object, **__: object) -> FakeSource:
        return FakeSource(("flow", "level"), events())

    monkeypatch.setattr("edgelstm.service.service.open_source", opened)
    monkeypatch.setattr("edgelstm.service.service._TICK_S", 0.01)
    monkeypatch.setattr("edgelstm.outbox.writer._TICK", 0.01)
    settings = RunSettings(
        name="here",
        sources={"board": SourceSettings("fake")},
        sensors={"pump": SensorSettings(TINY)},
    )
    Service(settings, health_file=path, notifier=Systemd({})).run()
    [said] = told
    assert ready == [True]
    assert said["pid"] == os.getpid()
    assert said["sources"]["board"]["readings"] == 7
    assert said["sensors"]["pump"]["step_microseconds"]["median"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_does_not_start_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: object, **__: object) -> FakeSource:
        raise SourceError("It is not there.")

    monkeypatch.setattr("edgelstm.service.service.open_source", opened)
    settings = RunSettings(
        name="here",
        sources={"board": SourceSettings("fake")},
        sensors={"pump": SensorSettings(TINY)},
    )
    with pytest.raises(SourceError):
        Service(settings, health_file=tmp_path / "health.json", patient=False).run()
    assert list(tmp_path.iterdir()) == []
