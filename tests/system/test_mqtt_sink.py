"""The sink against a real mosquitto with TLS, password and ACL."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from broker import (
    LOCALHOST,
    PASSWORD,
    USER,
    Broker,
    Certificates,
    Watcher,
    free_port,
    retained,
    wait_until,
)

from edgelstm.alert import Alert, AlertKind
from edgelstm.errors import RefusedNoticeError, SinkError
from edgelstm.feed import SensorInfo
from edgelstm.health import Health, SensorHealth, SourceHealth, Status
from edgelstm.latency import LatencyHistogram
from edgelstm.notice import Notice
from edgelstm.pipeline import PipelineCounters
from edgelstm.secret import Secret
from edgelstm.sinks import SinkContext
from edgelstm.sinks.mqtt import MqttConfig, MqttSink

BASE = "edgelstm/pump-room"
AVAILABILITY = f"{BASE}/availability"
SCORE = "homeassistant/sensor/edgelstm_pump-room/pump_score/config"

Make = Callable[..., MqttSink]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def broker(tmp_path: Path, certificates: Certificates) -> Iterator[Broker]:
    with Broker(tmp_path, certificates=certificates, closed=True) as broker:
        yield broker


@pytest.fixture
def watcher(broker: Broker) -> Iterator[Watcher]:
    with Watcher(broker) as watcher:
        yield watcher


@pytest.fixture
def sensors() -> list[SensorInfo]:
    return [info("pump")]


@pytest.fixture
def make(broker: Broker, sensors: list[SensorInfo]) -> Iterator[Make]:
    """Makes sinks for the broker, and closes them."""
    sinks: list[MqttSink] = []

    def make(**options: Any) -> MqttSink:
        given: dict[str, Any] = {"host": LOCALHOST, "port": broker.port, "timeout": 3.0}
        if broker.closed:
            given |= {"user": USER, "password": Secret(PASSWORD)}
        if broker.certificates is not None:
            given["ca_file"] = broker.certificates.authority
        context = SinkContext("pump-room", "0.7", lambda: tuple(sensors))
        sink = MqttSink(MqttConfig(**(given | options)), context)
        sinks.append(sink)
        return sink

    yield make
    for sink in sinks:
        sink.close()


def info(name: str) -> SensorInfo:
    return SensorInfo(name, f"{name}.tflite", "ab" * 32, (), (), 0.1)


def notice(
    number: int = 1,
    event: str = "opened",
    *,
    sensor: str = "pump",
    kind: AlertKind = AlertKind.ANOMALY,
    summary: str = "it is hot",
) -> Notice:
    alert = Alert(number, kind, 1e9 + number, 9.0)
    alert_id = f"{kind.value}-{sensor}-{number}"
    return Notice(
        f"{alert_id}/{event}", alert_id, event, 1e9, "pump-room", sensor, alert, summary, 9.0, 3.0
    )


def health(*names: str, **changes: Any) -> Health:
    sensors = tuple(
        dataclasses.replace(
            SensorHealth(
                name=name,
                artifact=f"{name}.tflite",
                sha256="ab" * 32,
                recipe="int8",
                backend="litert 2",
                source="board",
                status=Status.OK,
                counters=PipelineCounters(),
                alerts=0,
                open_alerts=0,
                last_reading=1e9,
                silent_for=0.1,
                score=2.5,
                threshold=12.5,
                warming_up=False,
                latency=LatencyHistogram(),
            ),
            **changes,
        )
        for name in names
    )
    sources = (SourceHealth("board", "a board", True, lost=7),)
    return Health("pump-room", "0.7", 1e9, time.time(), sensors, sources)


def state_of(watcher: Watcher, topic: str) -> Any:
    return json.loads(watcher.last.get(topic, b"{}")).get("state")


def wait_for_messages(watcher: Watcher, topic: str, number: int) -> None:
    wait_until(lambda: len(watcher.of(topic)) >= number)


def report_and_find(sink: MqttSink, broker: Broker, name: str) -> list[str]:
    sink.report(health("pump"))
    time.sleep(0.2)
    return [topic for topic in retained(broker) if name in topic]


def test_a_notice_is_with_the_broker_when_send_comes_back(make: Make, watcher: Watcher) -> None:
    sink = make()
    for number in range(1, 21):
        sink.send(notice(number))
    wait_until(lambda: len(watcher.of(f"{BASE}/alerts/pump")) == 20)
    came = watcher.of(f"{BASE}/alerts/pump")
    assert [message.data["number"] for message in came] == list(range(1, 21))
    assert came[0].data == notice(1).to_dict()
    assert came[0].properties["id"] == notice(1).id
    assert not any(message.retained for message in came)


def test_what_is_retained_is_as_it_is_now(make: Make, broker: Broker, watcher: Watcher) -> None:
    sink = make()
    sink.send(notice(1))
    sink.send(notice(1, kind=AlertKind.SENSOR_FAULT))
    wait_until(lambda: state_of(watcher, f"{BASE}/pump/fault") == "ON")
    kept = retained(broker)
    assert kept[AVAILABILITY] == b"online"
    assert json.loads(kept[f"{BASE}/pump/alert"])["summary"] == "it is hot"
    assert f"{BASE}/alerts/pump" not in kept
    sink.send(notice(1, "closed"))
    wait_until(lambda: state_of(watcher, f"{BASE}/pump/alert") == "OFF")
    sink.close()
    wait_until(lambda: watcher.last[AVAILABILITY] == b"offline")
    assert retained(broker)[AVAILABILITY] == b"offline"


def test_every_opening_and_closing_is_seen_in_what_is_retained(
    make: Make, watcher: Watcher
) -> None:
    sink = make()
    for number in range(1, 6):
        sink.send(notice(number))
        sink.send(notice(number, "closed"))
    topic = f"{BASE}/pump/alert"
    wait_until(lambda: len(watcher.of(topic)) >= 10)
    told = [message.data["state"] for message in watcher.of(topic)]
    assert "".join(told).count("ONOFF") == 5


def test_a_report_tells_how_it_is(make: Make, watcher: Watcher) -> None:
    sink = make()
    sink.report(health("pump"))
    wait_until(lambda: f"{BASE}/pump/state" in watcher.last)
    told = json.loads(watcher.last[f"{BASE}/pump/state"])
    assert (told["score"], told["lost"]) == (2.5, 7)
    assert json.loads(watcher.last[f"{BASE}/health"])["status"] == "ok"


def test_after_a_restart_of_the_broker_all_is_there_again(
    make: Make, broker: Broker, watcher: Watcher
) -> None:
    sink = make(home_assistant=True)
    sink.send(notice(1))
    sink.report(health("pump"))
    wait_until(lambda: f"{BASE}/pump/state" in watcher.last)
    before = retained(broker)
    assert len(before) > 12
    broker.kill()
    for said in (r"broke|nothing listens there", "nothing listens there"):
        with pytest.raises(SinkError, match=said):
            sink.send(notice(2))
    broker.start()
    # Nobody sends or reports: the sink comes back by itself.
    wait_until(lambda: retained(broker).keys() == before.keys())
    assert retained(broker) == before
    sent = len(watcher.of(f"{BASE}/alerts/pump"))
    sink.send(notice(2))
    wait_until(lambda: len(watcher.of(f"{BASE}/alerts/pump")) == sent + 1)
    assert watcher.of(f"{BASE}/alerts/pump")[-1].data["number"] == 2


def test_alerts_that_were_open_before_a_restart_are_told(make: Make, watcher: Watcher) -> None:
    sink = make()
    sink.standing = lambda: (notice(1), notice(2))
    sink.report(health("pump"))
    wait_until(lambda: state_of(watcher, f"{BASE}/pump/alert") == "ON")
    assert json.loads(watcher.last[f"{BASE}/pump/alert"])["open"] == 2
    sink.send(notice(2, "closed"))
    wait_until(lambda: json.loads(watcher.last[f"{BASE}/pump/alert"])["open"] == 1)


def test_what_was_not_sent_here_is_learnt_with_the_next_report(
    make: Make, watcher: Watcher
) -> None:
    sink = make()
    open_alerts = [notice(1)]
    sink.standing = lambda: tuple(open_alerts)
    sink.send(notice(1))
    wait_until(lambda: state_of(watcher, f"{BASE}/pump/alert") == "ON")
    # The configuration leaves closings out, or the peak: they do not come to the sink.
    open_alerts[0] = dataclasses.replace(notice(1), summary="it is hotter")
    sink.report(health("pump"))
    wait_until(lambda: b"hotter" in watcher.last[f"{BASE}/pump/alert"])
    open_alerts.clear()
    sink.report(health("pump"))
    wait_until(lambda: state_of(watcher, f"{BASE}/pump/alert") == "OFF")


def test_a_broker_that_answers_no_more_is_given_up(make: Make, broker: Broker) -> None:
    sink = make(timeout=0.5)
    sink.send(notice(1))
    broker.freeze()
    with pytest.raises(SinkError, match=r"did not take a message within 0\.5 s"):
        sink.send(notice(2))
    broker.signal(signal.SIGCONT)
    sink.send(notice(2))


def test_a_listener_that_is_no_broker_is_named(make: Make) -> None:
    with socket.create_server((LOCALHOST, 0)) as server:
        sink = make(port=server.getsockname()[1], tls=False, ca_file=None, timeout=0.3)
        with pytest.raises(SinkError, match="does not answer as an MQTT broker"):
            sink.send(notice())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"password": Secret("wrong")}, "refuses the login .*; correct user, password"),
        ({"user": "", "password": None}, "refuses the login"),
        ({"protocol": 4, "password": Secret("wrong")}, "refuses the login"),
        ({"ca_file": None, "tls": True}, "certificate is not trusted .* with ca_file"),
        ({"host": "localhost"}, "certificate is not trusted .*the host as the certificate"),
        ({"ca_file": Path("none.pem")}, r"none\.pem .* cannot be used \(No such file.*ca_file"),
        ({"ca_file": Path("/etc/passwd")}, "/etc/passwd .* cannot be used"),
        ({"certificate": Path("none.pem")}, r"none\.pem cannot be used with its key"),
        ({"ca_file": None, "tls": False}, "hangs up without an answer .* set tls = true"),
        ({"host": "no.such.host.invalid"}, "no such host is known"),
    ],
)
def test_a_login_that_cannot_be_says_why(make: Make, options: dict[str, Any], said: str) -> None:
    sink = make(**options)
    for _ in range(2):
        with pytest.raises(SinkError, match=said) as caught:
            sink.send(notice())
        assert not isinstance(caught.value, RefusedNoticeError)
        assert "wrong" not in str(caught.value)


def test_tls_is_not_spoken_to_a_broker_without(tmp_path: Path, make: Make) -> None:
    (tmp_path / "plain").mkdir()
    with Broker(tmp_path / "plain") as plain:
        with pytest.raises(SinkError, match="no TLS with it"):
            make(port=plain.port).send(notice())
        make(port=plain.port, tls=False, ca_file=None, user="", password=None).send(notice())


def test_a_client_shows_its_certificate(
    tmp_path: Path, certificates: Certificates, make: Make
) -> None:
    (tmp_path / "strict").mkdir()
    settings = ("require_certificate true", "use_identity_as_username true")
    certificate, key = certificates.issue("edge")
    with Broker(tmp_path / "strict", *settings, certificates=certificates) as strict:
        anonymous: dict[str, Any] = {"port": strict.port, "user": "", "password": None}
        make(**anonymous, certificate=certificate, key=key).send(notice())
        with pytest.raises(SinkError, match=r"certificate|hangs up"):
            make(**anonymous).send(notice())


def test_a_user_without_the_right_hears_which_one_it_lacks(make: Make) -> None:
    sink = make(user="guest", password=Secret("guest"))
    with pytest.raises(SinkError, match=rf"{AVAILABILITY} \(Not authorized\); give the user 'gue"):
        sink.send(notice())


def test_one_topic_that_is_forbidden_stops_no_alert(
    make: Make, watcher: Watcher, sensors: list[SensorInfo]
) -> None:
    sink = make(home_assistant=True, discovery_prefix="forbidden")
    sink.report(health("pump"))
    wait_until(lambda: f"{BASE}/pump/state" in watcher.last)
    with pytest.raises(SinkError, match=r"forbidden/.* the right to write there"):
        sink.report(health("pump"))
    sink.send(notice())
    wait_until(lambda: len(watcher.of(f"{BASE}/alerts/pump")) == 1)
    assert not [topic for topic in watcher.last if topic.startswith("forbidden/")]


@pytest.mark.parametrize("setting", ["max_packet_size 3000", "message_size_limit 2000"])
def test_what_is_too_large_is_refused_for_good(
    tmp_path: Path, make: Make, certificates: Certificates, setting: str
) -> None:
    (tmp_path / "small").mkdir()
    with Broker(tmp_path / "small", setting) as small:
        sink = make(port=small.port, tls=False, ca_file=None, user="", password=None)
        sink.send(notice())
        large = notice(2, summary="x" * 4000)
        with contextlib.suppress(SinkError):
            sink.send(large)  # paho takes the answer of some brokers for an error of theirs
        with pytest.raises(RefusedNoticeError, match=r"too large|because of its size"):
            sink.send(large)
        sink.send(notice(3))


def test_an_old_broker_is_spoken_to_in_mqtt_3(make: Make, watcher: Watcher) -> None:
    sink = make(protocol=4, home_assistant=True)
    sink.send(notice())
    sink.report(health("pump"))
    wait_until(lambda: f"{BASE}/pump/state" in watcher.last and SCORE in watcher.last)
    assert watcher.of(f"{BASE}/alerts/pump")[0].properties == {}
    sink.close()
    wait_until(lambda: watcher.last[AVAILABILITY] == b"offline")


def test_another_client_with_the_same_name_is_told_of(make: Make) -> None:
    one, two = make(), make()
    said = ""
    deadline = time.monotonic() + 20
    while "another client" not in said.lower() and time.monotonic() < deadline:
        for sink in (one, two):  # each takes the other's place
            try:
                sink.report(health("pump"))
            except SinkError as error:
                said = str(error)
        time.sleep(0.02)
    assert "'edgelstm-pump-room'" in said
    assert "client_id" in said


def test_home_assistant_hears_of_entities_when_it_has_started(make: Make, watcher: Watcher) -> None:
    sink = make(home_assistant=True)
    sink.report(health("pump"))
    wait_until(lambda: f"{BASE}/pump/state" in watcher.last)
    for seen in (1, 2):
        assert len(watcher.of(SCORE)) == seen
        assert len(watcher.of(f"{BASE}/pump/state")) == seen
        watcher.publish("homeassistant/status", b"offline")
        watcher.publish("homeassistant/status", b"online")
        wait_for_messages(watcher, f"{BASE}/pump/state", seen + 1)


def test_a_sensor_that_goes_takes_its_entities_with_it(
    make: Make, broker: Broker, watcher: Watcher, sensors: list[SensorInfo]
) -> None:
    sensors.append(info("fan"))
    sink = make(home_assistant=True)
    sink.report(health("pump", "fan"))
    wait_until(lambda: f"{BASE}/fan/state" in watcher.last)
    assert sum("/fan_" in topic for topic in retained(broker)) == 7
    sensors.pop()
    wait_until(lambda: not report_and_find(sink, broker, "fan"))
    assert f"{BASE}/pump/alert" in retained(broker)


def test_what_a_sensor_left_before_a_restart_goes_too(
    make: Make, broker: Broker, watcher: Watcher, sensors: list[SensorInfo]
) -> None:
    foreign = "homeassistant/sensor/another_gateway/x/config"
    watcher.publish(foreign, b"{}", retain=True)
    sensors.append(info("fan"))
    first = make(home_assistant=True)
    first.report(health("pump", "fan"))
    wait_until(lambda: f"{BASE}/fan/state" in watcher.last)
    first.close()
    sensors.pop()
    second = make(home_assistant=True)
    wait_until(lambda: not report_and_find(second, broker, "fan"))
    topics = [came.topic for came in watcher.messages if not came.payload]
    assert [topic.startswith("homeassistant/") for topic in topics] == [True] * 7 + [False] * 3
    assert foreign in retained(broker)


def test_who_does_not_know_the_sensors_takes_nothing_away(
    make: Make, broker: Broker, watcher: Watcher, sensors: list[SensorInfo]
) -> None:
    first = make(home_assistant=True)
    first.report(health("pump"))
    wait_until(lambda: f"{BASE}/pump/state" in watcher.last)
    first.close()
    sensors.clear()  # a service that is only starting
    second = make(home_assistant=True)
    second.send(notice(sensor=""))
    second.report(health())
    time.sleep(0.5)
    assert SCORE in retained(broker)


def test_a_sensor_that_is_watched_no_more_leaves_nothing_retained(
    make: Make, broker: Broker, watcher: Watcher
) -> None:
    sink = make()
    sink.send(notice(1, "closed", sensor="gone"))
    wait_until(lambda: f"{BASE}/alerts/gone" in watcher.last)
    assert not any("gone" in topic for topic in retained(broker))


PROCESS = """
import sys, time
from edgelstm.secret import Secret
from edgelstm.sinks import SinkContext
from edgelstm.sinks.mqtt import MqttConfig, MqttSink
from edgelstm.health import Health
from pathlib import Path
config = MqttConfig(sys.argv[1], int(sys.argv[2]), ca_file=Path(sys.argv[3]), user="edge",
                    password=Secret("hunter2"), keepalive=2)
sink = MqttSink(config, SinkContext("pump-room"))
while True:
    try:
        sink.report(Health("pump-room", "0.7", 0.0, time.time(), ()))
    except OSError as error:
        print(error, flush=True)
    time.sleep(0.2)
"""


@pytest.fixture
def start(broker: Broker) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts processes with a sink, and kills them."""
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        assert broker.certificates is not None
        authority = str(broker.certificates.authority)
        arguments = [sys.executable, "-c", PROCESS, LOCALHOST, str(broker.port), authority]
        processes.append(subprocess.Popen(arguments, stdout=subprocess.DEVNULL))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_a_process_that_is_killed_is_offline(
    start: Callable[[], subprocess.Popen[bytes]], broker: Broker, watcher: Watcher
) -> None:
    for _ in range(2):
        process = start()
        wait_until(lambda: watcher.last.get(AVAILABILITY) == b"online")
        process.kill()
        wait_until(lambda: watcher.last[AVAILABILITY] == b"offline")
        assert retained(broker)[AVAILABILITY] == b"offline"


def test_the_will_of_a_process_that_hung_does_not_put_the_next_one_offline(
    start: Callable[[], subprocess.Popen[bytes]], watcher: Watcher
) -> None:
    hung = start()
    wait_until(lambda: watcher.last.get(AVAILABILITY) == b"online")
    hung.send_signal(signal.SIGSTOP)
    time.sleep(0.2)
    start()
    wait_until(lambda: watcher.payloads(AVAILABILITY)[-2:] == [b"offline", b"online"])
    time.sleep(4)  # one and a half keep-alives, and more
    assert watcher.last[AVAILABILITY] == b"online"


def test_a_sink_that_is_closed_while_it_connects_stays_away(
    broker: Broker, make: Make, watcher: Watcher
) -> None:
    broker.freeze()
    sink = make(timeout=2.0)
    failed: list[Exception] = []

    def send() -> None:
        try:
            sink.send(notice())
        except SinkError as error:
            failed.append(error)

    sending = threading.Thread(target=send)
    sending.start()
    time.sleep(0.3)
    sink.close()
    broker.signal(signal.SIGCONT)
    sending.join()
    assert failed
    time.sleep(0.3)
    assert watcher.last.get(AVAILABILITY) in (None, b"offline")
    assert not [thread for thread in threading.enumerate() if thread.name == "mqtt"]


def test_a_port_where_nothing_listens_is_named(make: Make) -> None:
    with pytest.raises(SinkError, match="nothing listens there; start it, or correct"):
        make(port=free_port()).send(notice())
