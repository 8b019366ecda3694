"""The life of `edgelstm run x.toml` as a service: started, reloaded, stopped, killed, begun again.

Nothing here depends on how fast the machine is: readings are counted, never timed.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from service_rig import (
    EDGELSTM,
    Device,
    Service,
    assert_whole,
    make_artifact,
    skipped,
    until,
)

GENERAL = """
name = "gate"
state_directory = "state"
[metrics]
port = 0
"""
FILE = """
[sinks.file]
type = "jsonl"
path = "alerts.jsonl"
"""
OTHER_FILE = """
[sinks.other]
type = "jsonl"
path = "other.jsonl"
"""


def source(name: str, url: str) -> str:
    return f'[sources.{name}]\nport = "{url}"\n'


def sensor(name: str, *, of: str = "line", pair: str = "", more: str = "") -> str:
    channels = f'channels = {{ flow = "flow{pair}", level = "level{pair}" }}\n' if pair else ""
    return (
        f'[sensors.{name}]\nartifact = "pump.tflite"\nsource = "{of}"\n{channels}{more}'
        # What never adapts: no anomaly becomes normal, however long it is.
        f'[sensors.{name}.detection]\nfalse_alarms_per_day = 100\nthreshold = "static-quantile"\n'
        "release = 0.5\n"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With an artifact."""
    make_artifact(tmp_path / "pump.tflite")
    return tmp_path


@pytest.fixture
def device() -> Iterator[Device]:
    """With one flow and one level."""
    with Device() as device:
        yield device


def configure(folder: Path, *parts: str) -> None:
    (folder / "x.toml").write_text("".join([GENERAL, *parts]))


def simple(folder: Path, device: Device, *more: str) -> None:
    configure(folder, source("line", device.url), sensor("pump"), FILE, *more)


def edgelstm(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EDGELSTM, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


@contextmanager
def systemd(path: Path) -> Iterator[list[str]]:
    """What a service manager hears, a text for each message."""
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(path))
        ear.settimeout(0.1)
        done = threading.Event()

        def listen() -> None:
            while not done.is_set():
                try:
                    heard.append(ear.recv(4096).decode())
                except TimeoutError:
                    continue

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield heard
        finally:
            time.sleep(0.2)
            done.set()
            thread.join()


def test_a_service_manager_hears_of_it_and_a_device_may_come_later(folder: Path) -> None:
    with Device() as gone:
        port = gone.port
    simple(folder, gone)
    environ = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "900000"}
    with systemd(folder / "notify") as heard, Service(folder, environ=environ) as service:
        until(lambda: len(heard) >= 2, "two messages")
        assert heard[0].startswith("READY=1\nSTATUS=1 sensor, ")
        assert heard[1] == "WATCHDOG=1"
        until(lambda: "refuses connections" in service.output, "the warning")
        assert any("refuses connections" in text for text in service.health()["problems"])
        with Device(port=port):
            service.until_taken(100)
            assert service.health()["status"] == "ok"
            service.reload()
            more = len(heard)
            until(lambda: "WATCHDOG=1" in heard[more:], "a sign of life after the reload")
            service.stop()
    (reloading,) = [text for text in heard if text.startswith("RELOADING=1")]
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", reloading)
    kinds = [text.partition("=")[0] for text in heard]
    told = [kind for kind in kinds if kind not in ("WATCHDOG", "STATUS")]
    assert told == ["READY", "RELOADING", "READY", "STOPPING"]
    assert kinds[-1] == "STOPPING"


def test_stopped_amid_readings_it_takes_what_is_on_its_way_and_goes_on_later(
    folder: Path, device: Device
) -> None:
    simple(folder, device)
    with Service(folder).started() as service:
        service.until_taken(500)
        device.misbehave(10**9)
        until(lambda: service.events() == ["opened"], "the alert")
        device.pause()
        time.sleep(0.5)
        device.burst()
        output = service.stop()
        sent = device.sent
    assert f"{sent:,} readings, 0 lost, 0 damaged; 1 alert, one still open" in output
    device.misbehave(0)
    device.go_on()
    with Service(folder).started() as service:
        until(lambda: service.events() == ["opened", "closed"], "the end of the alert")
        device.pause()
        figures = service.until_taken(device.sent)
        assert figures["edgelstm_readings_total pump"] == device.sent
        assert sum(skipped(figures).values()) + figures["edgelstm_scored_total pump"] == device.sent
        assert figures["edgelstm_source_readings_total line"] == device.sent - sent
        assert figures["edgelstm_lost_total line"] == 0
        service.stop()
    notices = service.anomalies()
    assert len({notice["alert_id"] for notice in notices}) == 1
    assert len({notice["id"] for notice in notices}) == len(notices)


def test_killed_amid_an_alert_it_ends_the_same_alert_later_and_once(
    folder: Path, device: Device
) -> None:
    simple(folder, device)
    with Service(folder).started() as service:
        service.until_taken(500)
        device.misbehave(10**9)
        until(lambda: service.events() == ["opened"], "the alert")
        service.kill()
    for _ in range(2):  # it goes on, open, however often
        with Service(folder).started() as service:
            assert service.figures()["edgelstm_open_alerts pump"] == 1
            service.until_taken(service.readings() + 200)
            service.kill()
    device.misbehave(0)
    with Service(folder).started() as service:
        until(lambda: "closed" in service.events(), "the end of the alert")
        until(lambda: service.figures()["edgelstm_open_alerts pump"] == 0, "nothing that is open")
        assert service.figures()["edgelstm_lost_total line"] == 0
        service.stop()
    by_id = {notice["id"]: notice for notice in service.anomalies()}
    told = [notice for notice in by_id.values() if notice["event"] in ("opened", "closed")]
    assert [notice["event"] for notice in told] == ["opened", "closed"]
    assert {notice["alert_id"] for notice in by_id.values()} == {told[0]["alert_id"]}
    assert "still open" not in service.output


def test_reloads_amid_readings_lose_none(folder: Path, device: Device) -> None:
    simple(folder, device)
    with Service(folder).started() as service:
        before = service.until_taken(500)
        for _ in range(3):
            after = service.reload()
            assert after["edgelstm_scored_total pump"] > before["edgelstm_scored_total pump"]
        assert skipped(after) == {"warming_up": skipped(before)["warming_up"]}
        old = service.until_taken(device.sent)
        make_artifact(folder / "pump.tflite", "tiny_float")
        new = service.reload()
        model = "edgelstm_sensor_info"
        assert {k for k in new if k.startswith(model)} != {k for k in old if k.startswith(model)}
        assert new["edgelstm_readings_total pump"] >= old["edgelstm_readings_total pump"]
        device.misbehave()
        until(lambda: service.events() == ["opened", "closed"], "an alert of the new model")
        sent = device.pause()
        figures = service.until_taken(sent)
        assert figures["edgelstm_source_readings_total line"] == sent
        assert_whole(figures, sent)
        assert figures["edgelstm_alerts_total pump anomaly"] == 1
        assert figures["edgelstm_verdict_seconds_count pump"] == sent
        assert skipped(figures) == {"warming_up": 2 * skipped(before)["warming_up"]}
        assert figures["edgelstm_reloads_total"] == 4
        service.stop()


def test_an_alert_goes_on_across_a_reload(folder: Path, device: Device) -> None:
    simple(folder, device)
    with Service(folder).started() as service:
        service.until_taken(500)
        device.misbehave(10**9)
        until(lambda: service.events() == ["opened"], "the alert")
        service.reload()
        assert service.figures()["edgelstm_open_alerts pump"] == 1
        device.misbehave(0)
        until(lambda: service.events() == ["opened", "closed"], "its end")
        # Another model knows nothing of what the old one had found: that is closed, and said.
        device.misbehave(10**9)
        until(lambda: service.events()[2:] == ["opened"], "another alert")
        make_artifact(folder / "pump.tflite", "tiny_float")
        service.reload()
        until(lambda: service.events()[2:4] == ["opened", "closed"], "its end")
        service.stop()
    closed = [notice for notice in service.anomalies() if notice["event"] == "closed"][1]
    assert closed["summary"].endswith("(the model was replaced)")
    assert len({notice["id"] for notice in service.anomalies()}) == len(service.anomalies())


def test_a_configuration_with_a_mistake_changes_nothing(folder: Path, device: Device) -> None:
    simple(folder, device)
    with Service(folder).started() as service:
        service.until_taken(200)
        right = (folder / "x.toml").read_text()
        for wrong, why in [
            (right.replace("artifact", "artefact"), "did you mean 'artifact'?"),
            (right.replace("pump.tflite", "gone.tflite"), "gone.tflite"),
            (
                right.replace('source = "line"', 'source = "line"\nchannels = { flow = "nose" }'),
                "nose",
            ),
        ]:
            (folder / "x.toml").write_text(wrong)
            service.send(signal.SIGHUP)
            service.until_problem(why)
            assert service.health()["status"] == "degraded"
            service.until_taken(service.readings() + 100)
        assert service.output.count("Error: The configuration was not read anew: ") == 3
        (folder / "x.toml").write_text(right)
        service.reload()
        until(lambda: service.health()["status"] == "ok", "the end of the problem")
        sent = device.pause()
        assert_whole(service.until_taken(sent), sent)
        service.stop()


def test_a_reload_adds_and_removes_sinks_and_sensors(folder: Path) -> None:
    with Device(pairs=2) as device:
        line = source("line", device.url)
        pump, fan = sensor("pump"), sensor("fan", pair="2")
        configure(folder, line, pump, FILE)
        with Service(folder).started() as service:
            service.until_taken(300)
            configure(folder, line, pump, fan, FILE, OTHER_FILE)
            service.reload()
            service.until_taken(300, "fan")
            device.misbehave(channel=2)
            until(lambda: service.events() == ["opened", "closed"], "the alert")
            until(lambda: service.events("other.jsonl") == ["opened", "closed"], "it in the new")
            assert service.events(sensor="fan") == ["opened", "closed"]
            # What is open of a sensor that goes is closed.
            device.misbehave(10**9, channel=2)
            until(lambda: service.events()[2:] == ["opened"], "another alert")
            configure(folder, line, pump, OTHER_FILE)
            figures = service.reload()
            assert not [name for name in figures if name.endswith(" fan")]
            until(lambda: service.events("other.jsonl")[2:] == ["opened", "closed"], "its end")
            assert "fan is watched no more" in service.anomalies("other.jsonl")[-1]["summary"]
            device.misbehave(channel=0)
            until(lambda: service.events("other.jsonl", sensor="pump") == ["opened", "closed"], "")
            sent = device.pause()
            assert_whole(service.until_taken(sent), sent)
            service.stop()
        assert "pump" not in {notice["sensor"] for notice in service.anomalies()}


def test_sensors_on_one_source_run_in_one_model_and_are_apart(folder: Path) -> None:
    with Device(pairs=3) as device:
        sensors = [sensor("pump"), sensor("fan", pair="2"), sensor("belt", pair="3")]
        configure(folder, source("line", device.url), *sensors, FILE)
        with Service(folder).started() as service:
            service.until_taken(500)
            device.misbehave(channel=4)
            until(lambda: service.events() == ["opened", "closed"], "the alert")
            sent = device.pause()
            service.until_taken(sent)
            for name in ("pump", "fan", "belt"):
                assert_whole(service.figures(), sent, name)
            service.stop()
        assert {notice["sensor"] for notice in service.anomalies()} == {"belt"}


def test_sensors_on_two_sources_and_one_that_goes_and_comes_back(
    folder: Path, device: Device
) -> None:
    with Device() as second:
        sources = source("line", device.url) + source("hall", second.url)
        configure(folder, sources, sensor("pump"), sensor("fan", of="hall"), FILE)
        with Service(folder).started() as service:
            service.until_taken(200)
            service.until_taken(200, "fan")
            second.close()
            until(lambda: service.figures()["edgelstm_source_connected hall"] == 0, "the loss")
            service.until_taken(service.readings() + 200)
            with Device(port=second.port) as again:
                until(lambda: again.sent > 300, "the readings of the one that came back")
                again.misbehave()
                until(lambda: service.events() == ["opened", "closed"], "the alert")
                sent = device.pause()
                figures = service.until_taken(sent)
                assert_whole(figures, sent)
                assert figures["edgelstm_reconnects_total hall"] == 1
            service.stop()
        assert {notice["sensor"] for notice in service.anomalies()} == {"fan"}


def test_alerts_are_listed_shown_and_acknowledged_beside_it(folder: Path, device: Device) -> None:
    simple(folder, device)
    with Service(folder).started() as service:
        service.until_taken(500)
        device.misbehave(10**9)
        until(lambda: service.events() == ["opened"], "the alert")
        alert_id = service.anomalies()[0]["alert_id"]
        config = "--config", folder / "x.toml"
        listed = edgelstm("alerts", "list", "--json", *config)
        assert listed.returncode == 0, listed.stderr
        assert alert_id in listed.stdout
        acknowledged = edgelstm(
            "alerts", "ack", alert_id, "--by", "Ada", "--note", "a hose", *config
        )
        assert acknowledged.returncode == 0, acknowledged.stderr
        until(lambda: service.events() == ["opened", "acknowledged"], "the acknowledgement")
        device.misbehave(0)
        until(lambda: service.events()[2:] == ["closed"], "the end")
        shown = edgelstm("alerts", "show", alert_id, *config)
        assert "Ada" in shown.stdout
        assert "a hose" in shown.stdout
        service.stop()
    for notice in service.anomalies()[-1:]:
        assert notice["acknowledged"]["by"] == "Ada"
    listed = edgelstm("alerts", "list", "--json", *config)
    assert alert_id in listed.stdout  # and without the service as well


def test_what_cannot_be_is_refused_with_a_sentence(folder: Path, device: Device) -> None:
    def refused(*arguments: object) -> str:
        done = edgelstm("run", *arguments)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith("Error: ") or "\nError: " in done.stderr, done.stderr
        return done.stderr

    simple(folder, device)
    config = folder / "x.toml"
    with Service(folder).started() as service:
        service.until_taken(100)
        assert "state" in refused(config)  # two on one state directory
        taken = service.urls[0].rpartition(":")[2]
        for name in ("metrics", "dashboard"):
            other = folder / f"{name}.toml"
            text = config.read_text().replace("port = 0", f"port = {taken}")
            text = text.replace("[metrics]", f"[{name}]").replace('"state"', '"elsewhere"')
            other.write_text(text)
            assert taken in refused(other)
        sent = device.pause()
        assert_whole(service.until_taken(sent), sent)  # it has noticed nothing of all that
        service.stop()
    assert "--port" in refused(config, "--port", device.url)
    checked = edgelstm("run", config, "--check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == f"{config.name} will do: 1 sensor, 1 sink.\n"
    config.write_text(config.read_text().replace("pump.tflite", "gone.tflite"))
    assert "gone.tflite" in refused(config, "--check")
    assert "gone.tflite" in refused(config)
