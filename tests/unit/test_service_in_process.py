"""The service: sources, sensors and the outbox together, in one process."""

from __future__ import annotations

import contextlib
import logging
import queue
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.configuration import (
    DetectionSettings,
    RunSettings,
    SensorSettings,
    SinkSettings,
    SourceSettings,
)
from edgelstm.errors import ArtifactError, BackendError, ConfigurationError, SourceError
from edgelstm.feed import SensorInfo
from edgelstm.health import Status
from edgelstm.notice import Notice
from edgelstm.reading import Reading
from edgelstm.service import ExtraSink, Hooks, Service, handover
from edgelstm.service.lane import Lane
from edgelstm.service.service import configured_sink
from edgelstm.sinks import Sink, SinkContext, SinkOptions
from edgelstm.sinks.jsonl import JsonlSink
from edgelstm.systemd import Notifier
from edgelstm_bridge.events import Disconnected, Event
from edgelstm_bridge.source import FakeSource

TINY = Path(__file__).parents[1] / "data" / "tiny.tflite"
PERIOD = 60.0
STRICT = DetectionSettings(false_alarms_per_day=1e-4)
NAMES = ("flow", "level")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelstm.service.service._TICK_S", 0.02)
    monkeypatch.setattr("edgelstm.sinks.courier._POLL_S", 0.02)
    monkeypatch.setattr("edgelstm.outbox.writer._TICK", 0.02)


class Device:
    """A source whose events a test puts in while it runs."""

    def __init__(self, names: tuple[str, ...] = NAMES) -> None:
        self.names = names
        self.opened = 0
        self.fails = ""
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._sent = 0

    def open(self, *_: object, **__: object) -> FakeSource:
        self.opened += 1
        if self.fails:
            raise SourceError(self.fails)
        return _Stoppable(self.names, iter(self._events.get, None), self._events)

    def send(self, values: NDArray[np.float64], start: int = 0) -> None:
        for i, row in enumerate(values.tolist(), start):
            self._events.put(Reading(i * PERIOD, tuple(row), i))
            self._sent += 1

    def put(self, event: Event) -> None:
        self._events.put(event)

    def end(self) -> None:
        self._events.put(None)


class _Stoppable(FakeSource):
    def __init__(
        self,
        names: tuple[str, ...],
        events: Iterator[Event],
        queued: queue.SimpleQueue[Event | None],
    ) -> None:
        super().__init__(names, events)
        self._queued = queued

    def stop(self) -> None:
        self._queued.put(None)

    def close(self) -> None:
        super().close()
        self._queued.put(None)


class Collector(Sink):
    """A sink that keeps what it gets."""

    Config = type(None)

    def __init__(self, kept: list[Notice]) -> None:
        super().__init__(None, SinkContext())
        self.kept = kept

    def send(self, notice: Notice) -> None:
        self.kept.append(notice)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device()
    monkeypatch.setattr("edgelstm.service.service.open_source", device.open)
    return device


@pytest.fixture
def waves(sines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sines, of which one channel rattles from 300 to 340."""
    waves = np.array(sines)
    waves[300:340, 0] += 12 * (-1.0) ** np.arange(40)
    return waves


def settings(**changes: object) -> RunSettings:
    before = RunSettings(
        name="here",
        sources={"board": SourceSettings("fake")},
        sensors={"pump": SensorSettings(TINY, detection=STRICT)},
    )
    return replace(before, **changes)  # type: ignore[arg-type]  # a test says what it changes


def collecting(kept: list[Notice]) -> ExtraSink:
    return ExtraSink("kept", SinkOptions("log"), lambda _context: Collector(kept))


def watch(chosen: RunSettings, kept: list[Notice] | None = None, **options: object) -> Service:
    sinks = () if kept is None else (collecting(kept),)
    return Service(chosen, extra_sinks=sinks, **options)  # type: ignore[arg-type]  # as above


@contextmanager
def running(service: Service) -> Iterator[Service]:
    """A service whose loop runs in a thread."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            service.run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield service
    finally:
        service.stop()
        thread.join(20)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def taken(service: Service, sensor: str = "pump") -> int:
    sensors = {each.name: each for each in service.health().sensors}
    return sensors[sensor].counters.readings if sensor in sensors else -1


def test_it_watches_until_the_source_has_ended(device: Device, waves: NDArray[np.float64]) -> None:
    kept: list[Notice] = []
    device.send(waves)
    device.end()
    service = watch(settings(), kept)
    service.run()
    events = [notice.event for notice in kept]
    assert events[0] == "opened"
    assert events[-1] == "closed"
    assert set(events[1:-1]) <= {"updated"}
    assert len({notice.alert_id for notice in kept}) == 1
    opened = kept[0]
    assert (opened.gateway, opened.sensor) == ("here", "pump")
    assert 300 <= opened.time / PERIOD < 310
    assert opened.alert.channels[0].name == "flow"


def test_health_adds_up(device: Device, waves: NDArray[np.float64]) -> None:
    waves[100] = np.nan
    device.send(waves)
    with running(watch(settings())) as service:
        until(lambda: taken(service) == len(waves))
        health = service.health()
    (sensor,) = health.sensors
    counters = sensor.counters
    assert counters.readings == counters.scored + sum(counters.skipped.values()) == len(waves)
    assert sensor.latency.count == len(waves)
    assert sensor.score is not None
    assert sensor.threshold is not None
    assert sensor.last_reading == (len(waves) - 1) * PERIOD
    assert (health.status, health.problems) == (Status.OK, ())
    (source,) = health.sources
    assert (source.connected, source.readings) == (True, len(waves))


def test_the_readings_around_an_alert_are_kept(device: Device, waves: NDArray[np.float64]) -> None:
    kept: list[Notice] = []
    device.send(waves)
    with running(watch(settings(), kept)) as service:
        until(lambda: any(notice.event == "closed" for notice in kept))
        until(lambda: taken(service) == len(waves))
        service.outbox.flush(5)
        evidence = service.evidence(kept[0].alert_id)
    assert evidence is not None
    assert evidence.channels == evidence.compared == NAMES
    assert len(evidence.times) == 120
    middle = evidence.times.index(kept[0].time)
    assert middle in (59, 60)
    assert evidence.values[middle] == pytest.approx(waves[int(kept[0].time / PERIOD)], rel=1e-5)


def test_an_open_alert_goes_on_after_a_new_start(
    device: Device, waves: NDArray[np.float64], tmp_path: Path
) -> None:
    """Bit for bit what one run would have given, but for the readings' numbers."""
    chosen = settings(state_directory=tmp_path)
    kept: list[Notice] = []
    device.send(waves[:320])
    with running(watch(chosen, kept)) as service:
        until(lambda: taken(service) == 320)
    assert kept[-1].event != "closed"
    device = Device()
    device.send(waves[320:], start=320)
    device.end()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgelstm.service.service.open_source", device.open)
        watch(chosen, kept).run()
    assert kept[-1].event == "closed"
    assert len({notice.alert_id for notice in kept}) == 1
    assert len({notice.id for notice in kept}) == len(kept)


def test_a_state_of_another_model_is_left_and_its_alert_closed(
    device: Device,
    waves: NDArray[np.float64],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept: list[Notice] = []
    device.send(waves[:320])
    with running(watch(settings(state_directory=tmp_path), kept)) as service:
        until(lambda: taken(service) == 320)
    other = {"pump": SensorSettings(TINY.with_name("tiny_again.tflite"), detection=STRICT)}
    with (
        caplog.at_level(logging.WARNING),
        running(watch(settings(state_directory=tmp_path, sensors=other), kept)),
    ):
        until(lambda: kept[-1].event == "closed")
    assert "afresh" in kept[-1].summary
    assert kept[-1].alert_id == kept[0].alert_id
    assert "pump: This state belongs to another" in caplog.text


def test_alerts_of_a_sensor_that_is_gone_are_closed(
    device: Device, waves: NDArray[np.float64], tmp_path: Path
) -> None:
    kept: list[Notice] = []
    device.send(waves[:320])
    with running(watch(settings(state_directory=tmp_path), kept)) as service:
        until(lambda: taken(service) == 320)
    renamed = {"other": SensorSettings(TINY, detection=STRICT)}
    with running(watch(settings(state_directory=tmp_path, sensors=renamed), kept)):
        until(lambda: kept[-1].event == "closed")
    assert kept[-1].sensor == "pump"


def test_a_source_that_is_not_there_is_waited_for(
    device: Device, waves: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgelstm.service.lane._FIRST_DELAY_S", 0.02)
    device.fails = "There is no board."
    device.send(waves)
    with running(watch(settings())) as service:
        until(lambda: device.opened > 2)
        (source,) = service.health().sources
        assert (source.connected, source.problem) == (False, "There is no board.")
        assert service.health().status is Status.DEGRADED
        device.fails = ""
        until(lambda: taken(service) == len(waves))
        assert service.health().problems == ()


def test_a_source_that_fails_and_cannot_even_be_closed_is_opened_again(
    waves: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one whose bytes are to be written to a full disk."""
    monkeypatch.setattr("edgelstm.service.lane._FIRST_DELAY_S", 0.01)
    opened: list[FakeSource] = []

    class Full(FakeSource):
        def events(self) -> Iterator[Event]:
            yield from super().events()
            raise SourceError("The disk is full.")

        def close(self) -> None:
            super().close()
            raise SourceError("The disk is full.")

    def open_source(*_: object, **__: object) -> FakeSource:
        opened.append(Full(NAMES, [Reading(len(opened) * PERIOD, (20.0, -5.0))]))
        return opened[-1]

    monkeypatch.setattr("edgelstm.service.service.open_source", open_source)
    with running(watch(settings())) as service:
        until(lambda: taken(service) > 1)


def test_a_source_that_is_not_there_ends_an_impatient_one(device: Device) -> None:
    device.fails = "There is no board."
    with pytest.raises(SourceError, match="no board"):
        watch(settings(), patient=False).run()


def test_silence_is_told_while_it_lasts(
    device: Device, waves: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Notice] = []
    device.send(waves[:100])
    device.put(Disconnected("The cable was pulled."))
    service = watch(settings(), kept)
    now = time.monotonic
    with running(service):
        until(lambda: taken(service) == 100)
        monkeypatch.setattr("edgelstm.service.lane.time.monotonic", lambda: now() + 700)
        until(lambda: kept)
        assert kept[0].alert.reason == "missing"
        assert service.health().status is Status.FAILING
        monkeypatch.undo()
        device.send(waves[:1], start=110)
        until(lambda: kept[-1].event == "closed")


def test_what_passed_while_it_did_not_run_is_no_silence(
    device: Device,
    waves: NDArray[np.float64],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or each reboot would open a critical alert before the device is there."""
    chosen = settings(state_directory=tmp_path)
    device.send(waves[:100])  # of 1970
    with running(watch(chosen)) as service:
        until(lambda: taken(service) == 100)
    kept, ticks, now = list[Notice](), list[None](), time.monotonic
    device.fails = "There is no board."
    hooks = Hooks(tick=lambda: ticks.append(None))
    with running(watch(chosen, kept, hooks=hooks)) as service:
        until(lambda: len(ticks) > 2)
        service.outbox.flush(5)
        assert service.alerts() == []
        monkeypatch.setattr("edgelstm.service.lane.time.monotonic", lambda: now() + 700)
        until(lambda: kept)
        assert kept[0].alert.reason == "missing"
        assert kept[0].time == pytest.approx(time.time() + 700, abs=60)
        monkeypatch.undo()


def test_a_source_that_has_ended_is_told_of_while_others_go_on(
    waves: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = {"first": Device(), "second": Device()}
    monkeypatch.setattr(
        "edgelstm.service.service.open_source", lambda url, **_: devices[url].open()
    )
    chosen = settings(
        sources={name: SourceSettings(name) for name in devices},
        sensors={name: SensorSettings(TINY, source=name) for name in devices},
    )
    now = time.monotonic
    with running(watch(chosen)) as service:
        for device in devices.values():
            device.send(waves[:50])
        devices["first"].end()
        until(lambda: service.health().sources[0].problem)
        assert service.health().status is Status.DEGRADED
        monkeypatch.setattr("edgelstm.service.lane.time.monotonic", lambda: now() + 700)
        until(lambda: service.health().sensors[0].status is Status.FAILING)
        assert service.health().sensors[1].status is Status.OK
        monkeypatch.setattr("edgelstm.service.lane.time.monotonic", now)


@pytest.mark.parametrize("number", [1, 7])
def test_there_is_as_much_evidence_as_was_asked_for(
    device: Device, waves: NDArray[np.float64], number: int
) -> None:
    kept: list[Notice] = []
    device.send(waves[:350])
    sensor = SensorSettings(TINY, evidence=number, detection=STRICT)
    with running(watch(settings(sensors={"pump": sensor}), kept)) as service:
        until(lambda: taken(service) == 350 and kept)
        service.outbox.flush(5)
        evidence = service.evidence(kept[0].alert_id)
    assert evidence is not None
    assert len(evidence.times) == number


def test_a_runtime_that_fails_ends_it(
    device: Device, waves: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = watch(settings())

    def fail(*_: object) -> None:
        raise BackendError("The runtime failed.")

    monkeypatch.setattr("edgelstm.pipeline.Pipeline.update", fail)
    device.send(waves)
    with pytest.raises(BackendError):
        service.run()


def test_two_sensors_share_a_source_and_their_channels_have_names(
    device: Device, waves: NDArray[np.float64]
) -> None:
    device.names = ("flow", "level", "flow2", "level2")
    both = np.hstack([waves, np.roll(waves, 50, axis=0)])
    device.send(both)
    device.end()
    kept: list[Notice] = []
    sensors = {
        "first": SensorSettings(TINY, detection=STRICT),
        "second": SensorSettings(
            TINY, channels={"flow": "flow2", "level": "level2"}, detection=STRICT
        ),
    }
    watch(settings(sensors=sensors), kept).run()
    opened = {notice.sensor: notice.time / PERIOD for notice in kept if notice.event == "opened"}
    assert opened["second"] == pytest.approx(opened["first"] + 50, abs=3)


@pytest.mark.parametrize(
    ("names", "channels", "message"),
    [
        (("flow",), {}, "also needs level"),
        (NAMES, {"flow": "inflow"}, "also needs inflow"),
        (NAMES, {"pressure": "p"}, "the model has the channels flow, level"),
    ],
)
def test_channels_that_the_device_lacks_are_named(
    device: Device, names: tuple[str, ...], channels: Mapping[str, str], message: str
) -> None:
    device.names = names
    sensors = {"pump": SensorSettings(TINY, channels=channels)}
    with pytest.raises(ConfigurationError, match=message):
        watch(settings(sensors=sensors), patient=False).run()


def test_a_missing_artifact_is_said_before_anything_is_opened(
    device: Device, tmp_path: Path
) -> None:
    sensors = {"pump": SensorSettings(tmp_path / "none.tflite")}
    with pytest.raises(ArtifactError, match=r"none\.tflite"):
        watch(settings(sensors=sensors))
    assert device.opened == 0


# Reading the configuration anew


def configuration(folder: Path, more: str = "", artifact: str = "pump.tflite") -> Path:
    path = folder / "pump.toml"
    path.write_text(
        f"""name = "here"
state_directory = "state"
[sources.board]
port = "fake"
[sensors.pump]
artifact = "{artifact}"
[sensors.pump.detection]
false_alarms_per_day = 0.0001
{more}
"""
    )
    return path


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    shutil.copy(TINY, tmp_path / "pump.tflite")
    return configuration(tmp_path)


def reloaded(service: Service, times: int) -> None:
    service.reload()
    until(lambda: service.health().reloads == times or service.health().problem)


def test_reading_it_anew_loses_no_reading(
    device: Device, waves: NDArray[np.float64], toml: Path
) -> None:
    from edgelstm.configuration import read_settings

    kept: list[Notice] = []
    with running(watch(read_settings(toml), kept)) as service:
        device.send(waves[:310])
        until(lambda: taken(service) == 310)
        configuration(
            toml.parent,
            '[sinks.file]\ntype = "jsonl"\npath = "alerts.jsonl"\n',
        )
        reloaded(service, 1)
        assert service.health().problem == ""
        device.send(waves[310:], start=310)
        until(lambda: taken(service) == len(waves))
        counters = service.health().sensors[0].counters
        assert device.opened == 1
        assert counters.gaps == counters.restarts == 0
        until(lambda: kept[-1].event == "closed")
        until(lambda: '"closed"' in (toml.parent / "alerts.jsonl").read_text())
    assert len({notice.alert_id for notice in kept}) == 1


def test_another_artifact_is_taken_while_readings_come(
    device: Device, waves: NDArray[np.float64], toml: Path
) -> None:
    from edgelstm.configuration import read_settings

    kept: list[Notice] = []
    with running(watch(read_settings(toml), kept)) as service:
        device.send(waves[:320])
        until(lambda: taken(service) == 320)
        until(lambda: kept)
        before = service.sensors()[0].sha256
        shutil.copy(TINY.with_name("tiny_again.tflite"), toml.parent / "pump.tflite")
        reloaded(service, 1)
        assert service.sensors()[0].sha256 != before
        until(lambda: kept[-1].event == "closed")
        assert "replaced" in kept[-1].summary
        device.send(waves[320:], start=320)
        until(lambda: taken(service) == len(waves))  # what counts since the start goes on
        assert device.opened == 1


@pytest.mark.parametrize(
    ("artifact", "more", "message"),
    [
        ("pump.tflite", "[sensors.pump.detektion]\n", "detection"),
        ("other.tflite", "", "other.tflite"),
        ("pump.tflite", '[sensors.pump.channels]\nflow = "inflow"\n', "inflow"),
    ],
)
def test_what_cannot_be_read_anew_changes_nothing(
    device: Device, waves: NDArray[np.float64], toml: Path, artifact: str, more: str, message: str
) -> None:
    from edgelstm.configuration import read_settings

    with running(watch(read_settings(toml))) as service:
        device.send(waves[:100])
        until(lambda: taken(service) == 100)
        configuration(toml.parent, more, artifact)
        reloaded(service, 1)
        assert message in service.health().problem
        assert service.health().status is Status.DEGRADED
        device.send(waves[100:], start=100)
        until(lambda: taken(service) == len(waves))
        configuration(toml.parent)
        service.reload()
        until(lambda: service.health().problem == "")


def test_sensors_come_and_go(device: Device, waves: NDArray[np.float64], toml: Path) -> None:
    from edgelstm.configuration import read_settings

    with running(watch(read_settings(toml))) as service:
        device.send(waves[:50])
        until(lambda: taken(service) == 50)
        configuration(toml.parent, '[sensors.second]\nartifact = "pump.tflite"\n')
        reloaded(service, 1)
        device.send(waves[50:100], start=50)
        until(lambda: taken(service) == 100)
        assert taken(service, "second") == 50
        configuration(toml.parent)
        reloaded(service, 2)
        assert [sensor.name for sensor in service.sensors()] == ["pump"]
        device.send(waves[100:150], start=100)
        until(lambda: taken(service) == 150)


def test_what_the_file_became_while_it_was_read_is_read_as_well(
    device: Device, toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgelstm.configuration import read_settings

    begun, goes_on = threading.Event(), threading.Event()

    def slowly(path: Path) -> RunSettings:
        chosen = read_settings(path)
        begun.set()
        assert goes_on.wait(10)
        return chosen

    with running(watch(read_settings(toml))) as service:
        monkeypatch.setattr("edgelstm.service.service.read_settings", slowly)
        service.reload()
        assert begun.wait(10)
        configuration(toml.parent, '[sensors.second]\nartifact = "pump.tflite"\n')
        service.reload()
        until(lambda: service._reload_again)
        goes_on.set()
        until(lambda: service.health().reloads == 2)
        assert [sensor.name for sensor in service.sensors()] == ["pump", "second"]


def test_a_source_that_opens_amid_a_reload_serves_the_new_sensors(
    device: Device, waves: NDArray[np.float64], toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgelstm.configuration import read_settings

    may_open = threading.Event()

    def open_late(*_: object, **__: object) -> FakeSource:
        assert may_open.wait(10)
        return device.open()

    def kept_lanes(lanes: Mapping[str, Lane], *rest: object) -> dict[str, Lane]:
        kept = handover.kept_lanes(lanes, *rest)  # type: ignore[arg-type]  # as it is called
        may_open.set()
        until(lambda: all(lane.source for lane in lanes.values()))
        return kept

    monkeypatch.setattr("edgelstm.service.service.open_source", open_late)
    monkeypatch.setattr("edgelstm.service.service.kept_lanes", kept_lanes)
    with running(watch(read_settings(toml))) as service:
        reloaded(service, 1)
        device.send(waves[:50])
        until(lambda: taken(service) == 50)


def test_a_source_that_opens_when_it_was_given_up_is_closed(
    device: Device, toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would keep the port from the one in its place."""
    from edgelstm.configuration import read_settings

    may_open, opened = threading.Event(), list[FakeSource]()

    def open_late(url: str, **_: object) -> FakeSource:
        if url == "other":
            return device.open()
        assert may_open.wait(10)
        opened.append(FakeSource(NAMES, []))
        return opened[0]

    monkeypatch.setattr("edgelstm.service.service.open_source", open_late)
    monkeypatch.setattr("edgelstm.service.lane._DRAIN_S", 0.01)
    with running(watch(read_settings(toml))) as service:
        toml.write_text(toml.read_text().replace('"fake"', '"other"'))
        reloaded(service, 1)
        may_open.set()
        until(lambda: opened and opened[0]._closed)
        assert device.opened == 1


def test_rates_that_no_device_can_have_are_refused_before_anything_changes(
    device: Device, waves: NDArray[np.float64], toml: Path, tiny: Artifact
) -> None:
    from edgelstm.configuration import read_settings

    fast = replace(tiny, manifest=replace(tiny.manifest, sample_period=1.0))
    fast.write(toml.parent / "fast.tflite")
    hall = "".join(
        f'[sensors.{name}]\nartifact = "{name}.tflite"\nsource = "hall"\nrate = "set"\n'
        for name in ("fast", "pump2")
    )
    shutil.copy(TINY, toml.parent / "pump2.tflite")
    with running(watch(read_settings(toml))) as service:
        text = toml.read_text().replace("artifact", 'source = "board"\nartifact')
        toml.write_text(f'{text}[sources.hall]\nport = "hall"\n{hall}')
        reloaded(service, 1)
        assert "rate" in service.health().problem
        device.send(waves[:50])
        until(lambda: taken(service) == 50)


def test_a_source_that_was_opened_anew_may_count_anew(
    device: Device, waves: NDArray[np.float64], toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgelstm.configuration import read_settings

    with running(watch(read_settings(toml))) as service:
        device.send(waves[:100])
        until(lambda: taken(service) == 100)
        again = Device()
        monkeypatch.setattr("edgelstm.service.service.open_source", again.open)
        toml.write_text(toml.read_text().replace('"fake"', '"fake"\ntimeout = 11'))
        reloaded(service, 1)
        for i, row in enumerate(waves[100:150].tolist()):
            again.put(Reading((100 + i) * PERIOD, tuple(row), i))
        until(lambda: taken(service) == 150)
        counters = service.health().sensors[0].counters
    assert counters.backwards == counters.gaps == counters.restarts == 0


def test_the_name_stays_until_the_next_start(
    device: Device, waves: NDArray[np.float64], toml: Path
) -> None:
    from edgelstm.configuration import read_settings

    kept: list[Notice] = []
    with running(watch(read_settings(toml), kept)) as service:
        configuration(toml.parent, '[sensors.second]\nartifact = "pump.tflite"\n')
        toml.write_text(toml.read_text().replace('"here"', '"there"'))
        reloaded(service, 1)
        device.send(waves)
        until(lambda: {notice.sensor for notice in kept} == {"pump", "second"})
    assert {notice.gateway for notice in kept} == {"here"}


def test_more_evidence_is_kept_from_a_reload_on(
    device: Device, waves: NDArray[np.float64], toml: Path
) -> None:
    from edgelstm.configuration import read_settings

    with running(watch(read_settings(toml))) as service:
        device.send(waves[:310])
        until(lambda: taken(service) == 310)
        toml.write_text(toml.read_text().replace("artifact", "evidence = 1000\nartifact"))
        reloaded(service, 1)
        ring = service.ring("pump")
        assert (ring.capacity, len(ring.since(0)[1])) == (1000, 310)


def test_a_sensor_moves_to_another_source_with_what_it_remembers(
    waves: NDArray[np.float64], toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgelstm.configuration import read_settings

    boards = {"one": Device(), "two": Device()}
    monkeypatch.setattr("edgelstm.service.service.open_source", lambda url, **_: boards[url].open())

    def write(pump: str, fan: str) -> None:
        toml.write_text(
            'name = "here"\nstate_directory = "state"\n'
            + "".join(f'[sources.{name}]\nport = "{name}"\n' for name in boards)
            + f'[sensors.pump]\nartifact = "pump.tflite"\nsource = "{pump}"\n'
            + f'[sensors.fan]\nartifact = "pump.tflite"\nsource = "{fan}"\n'
        )

    write("one", "two")
    with running(watch(read_settings(toml))) as service:
        boards["one"].send(waves[:100])
        boards["two"].send(waves[:50])
        until(lambda: (taken(service, "pump"), taken(service, "fan")) == (100, 50))
        write("two", "one")
        reloaded(service, 1)
        assert service.health().problem == ""
        boards["two"].send(waves[100:150], start=100)
        boards["one"].send(waves[50:90], start=50)
        until(lambda: (taken(service, "pump"), taken(service, "fan")) == (150, 90))
        sensors = {sensor.name: sensor for sensor in service.health().sensors}
        assert (sensors["pump"].source, sensors["fan"].source) == ("two", "one")
        assert sensors["pump"].counters.restarts == sensors["fan"].counters.restarts == 0
        assert boards["one"].opened == boards["two"].opened == 1


# The service manager


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(10)
        yield listening


def notifier(tmp_path: Path, watchdog_s: float | None = None) -> Notifier:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    if watchdog_s is not None:
        environ["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
    return Notifier(environ)


def drain(manager: socket.socket) -> str:
    """All that was said and not yet heard."""
    texts = []
    manager.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            texts.append(manager.recv(4096).decode())
    return "".join(texts)


def heard(manager: socket.socket) -> str:
    return manager.recv(4096).decode()


def test_the_manager_hears_of_its_life(
    device: Device, tmp_path: Path, manager: socket.socket, waves: NDArray[np.float64]
) -> None:
    with running(watch(settings(), notifier=notifier(tmp_path))):
        assert "READY=1" in heard(manager)
    texts = [heard(manager)]
    while "STOPPING=1" not in texts[-1]:
        texts.append(heard(manager))


def test_the_watchdog_barks_when_a_step_does_not_come_back(
    device: Device,
    tmp_path: Path,
    manager: socket.socket,
    waves: NDArray[np.float64],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hangs, goes_on = threading.Event(), threading.Event()
    service = watch(settings(), notifier=notifier(tmp_path, 0.06))
    (sensor,) = service._crew.sensors.values()
    update = sensor.pipeline.update

    def hang(reading: Reading) -> object:
        hangs.set()
        assert goes_on.wait(10)
        return update(reading)

    with running(service):
        until(lambda: "WATCHDOG=1" in heard(manager))  # it lives, though nothing comes
        monkeypatch.setattr(sensor.pipeline, "update", hang)
        device.send(waves[:1])
        assert hangs.wait(10)
        time.sleep(0.1)
        drain(manager)
        time.sleep(0.2)
        assert drain(manager) == ""
        manager.settimeout(10)
        goes_on.set()
        until(lambda: "WATCHDOG=1" in heard(manager))


def test_what_is_on_its_way_is_taken_before_it_ends(
    device: Device, waves: NDArray[np.float64], tmp_path: Path
) -> None:
    service = watch(settings(state_directory=tmp_path))
    with running(service):
        device.send(waves)
    service = watch(settings(state_directory=tmp_path))
    assert taken_from_state(service) == len(waves)
    service.close()


def taken_from_state(service: Service) -> int:
    (sensor,) = service._crew.sensors.values()
    return sensor.pipeline.counters.readings


def test_a_sink_of_the_configuration_gets_alerts(
    device: Device, waves: NDArray[np.float64], tmp_path: Path
) -> None:
    path = tmp_path / "alerts.jsonl"
    sink = SinkSettings("file", SinkOptions("jsonl"), JsonlSink.Config(path=path))
    device.send(waves)
    device.end()
    watch(settings(sinks={"file": sink})).run()
    assert path.read_text().count('"opened"') >= 1


def test_several_rates_for_one_device_are_refused(
    device: Device, tmp_path: Path, tiny: Artifact
) -> None:
    fast = tmp_path / "fast.tflite"
    replace(tiny, manifest=replace(tiny.manifest, sample_period=1.0)).write(fast)
    sensors = {
        "slow": SensorSettings(TINY, rate="set"),
        "fast": SensorSettings(fast, rate="set"),
    }
    with pytest.raises(ConfigurationError, match="slow, fast"):
        watch(settings(sensors=sensors)).run()


def test_a_sink_knows_of_no_sensor_whose_alerts_it_does_not_take(tmp_path: Path) -> None:
    infos = tuple(SensorInfo(name, "tiny.tflite", "", (), (), 1.0) for name in ("pump", "fan"))
    config = JsonlSink.Config(path=tmp_path / "alerts.jsonl")
    for named, known in ((("fan",), infos[1:]), ((), infos)):
        settings = SinkSettings("file", SinkOptions("jsonl", sensors=named), config)
        sink = configured_sink(settings, SinkContext(sensors=lambda: infos))()
        assert sink.context.sensors() == known
