from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.alert import Alert, AlertKind, ChannelShare, Severity
from edgelstm.errors import ConfigurationError, MissingDependencyError
from edgelstm.health import Health, SensorHealth, SourceHealth, Status
from edgelstm.latency import LatencyHistogram
from edgelstm.notice import Notice
from edgelstm.pipeline import PipelineCounters
from edgelstm.secret import Secret
from edgelstm.sinks import SinkContext
from edgelstm.sinks.mqtt import MqttConfig, MqttSink
from edgelstm.sinks.mqtt.config import broker_options
from edgelstm.sinks.mqtt.messages import (
    Topics,
    availability,
    health_message,
    level,
    lost_readings,
    notice_message,
    open_message,
    state_message,
)

TOPICS = Topics("edgelstm/pump-room")
T = 1_700_000_000.0


def notice(
    alert_id: str = "a",
    *,
    opened: float = T,
    kind: AlertKind = AlertKind.ANOMALY,
    severity: Severity = Severity.WARNING,
    sensor: str = "pump",
) -> Notice:
    alert = Alert(1, kind, opened, 9.0, (ChannelShare("heat", 1.0, 0.5, 2.5, 2.0),))
    alert = replace(alert, severity=severity)
    return Notice(
        f"{alert_id}/1", alert_id, "opened", opened, "pump-room", sensor, alert, "it is hot", 9.0
    )


def sensor_health(**changes: Any) -> SensorHealth:
    health = SensorHealth(
        name="pump",
        artifact="pump.tflite",
        sha256="ab" * 32,
        recipe="int8",
        backend="litert 2",
        source="board",
        status=Status.OK,
        counters=PipelineCounters(),
        alerts=3,
        open_alerts=1,
        last_reading=T,
        silent_for=0.26,
        score=1 / 3,
        threshold=12.5,
        warming_up=False,
        latency=LatencyHistogram(),
    )
    return replace(health, **changes)


def health(sensor: SensorHealth) -> Health:
    sources = (
        SourceHealth("board", "a board", True, lost=7, overflow=2),
        SourceHealth("other", "another", True, lost=100),
    )
    return Health("pump-room", "0.7", T, T + 1, (sensor,), sources, problem="it is odd")


def state(**changes: Any) -> Any:
    return json.loads(state_message(TOPICS, sensor_health(**changes), T + 1, 9, 120).payload)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"host": ""}, "is no name of a computer"),
        ({"host": "mqtt://broker"}, "without mqtt://"),
        ({"port": 0}, "port 0 .* does not exist"),
        ({"port": 65_536}, "does not exist"),
        ({"tls": False, "ca_file": Path("ca.pem")}, "leave tls = false out"),
        ({"key": Path("k.pem")}, "needs its certificate"),
        ({"password": Secret("x")}, "needs the user"),
        ({"protocol": 3}, "take 5, or 4"),
        ({"keepalive": 1}, "keepalive .* is 1 s"),
        ({"timeout": 0.0}, "timeout .* is 0 s"),
        ({"interval": 0.5}, "interval .* is 0.5 s"),
        ({"interval": math.nan}, "interval"),
        ({"expire_after": 30}, "before the next report"),
        ({"topic": "a/+/b"}, "cannot be published to"),
        ({"topic": "/a"}, "cannot be published to"),
        ({"topic": "a/"}, "cannot be published to"),
        ({"topic": "$SYS/a"}, "cannot be published to"),
        ({"topic": "a/{sensor}"}, r"only \{gateway\}"),
        ({"topic": "a/{"}, r"only \{gateway\}"),
        ({"topic": "a/{gateway.x}"}, r"only \{gateway\}"),
        ({"discovery_prefix": "#"}, "discovery_prefix"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        MqttConfig(**{"host": "broker", **options})
    assert str(caught.value).count(". ") == 0, "one sentence"


@pytest.mark.parametrize(
    ("options", "tls", "port"),
    [
        ({}, False, 1883),
        ({"port": 8883}, True, 8883),
        ({"port": 8883, "tls": False}, False, 8883),
        ({"ca_file": Path("ca.pem")}, True, 8883),
        ({"certificate": Path("c.pem"), "port": 1884}, True, 1884),
        ({"tls": True}, True, 8883),
    ],
)
def test_tls_goes_by_what_is_given(options: dict[str, Any], tls: bool, port: int) -> None:
    broker = broker_options(MqttConfig("broker", **options), Path("/etc/edgelstm"), "edgelstm/x")
    assert (broker.tls, broker.port) == (tls, port)
    assert broker.ca_file in (None, Path("/etc/edgelstm/ca.pem"))


def test_the_client_id_is_of_the_topic() -> None:
    config = MqttConfig("broker")
    assert broker_options(config, Path(), "edgelstm/pump-room").client_id == "edgelstm-pump-room"
    assert broker_options(replace(config, client_id="x"), Path(), "edgelstm/y").client_id == "x"


def test_making_a_sink_connects_to_nothing() -> None:
    sink = MqttSink(MqttConfig("192.0.2.1", interval=7.0), SinkContext("pump-room"))
    assert sink.report_every == 7.0
    sink.close()
    sink.close()


def test_a_password_is_not_shown() -> None:
    config = MqttConfig("broker", user="me", password=Secret("hunter2"))
    sink = MqttSink(config, SinkContext("pump-room"))
    assert "hunter2" not in repr(config) + repr(vars(sink))


def test_without_paho_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("paho")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "paho", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgelstm\[mqtt\]'"):
        MqttSink(MqttConfig("broker"), SinkContext("pump-room"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pump", "pump"),
        ("Süd 2", "Süd 2"),
        ("a/b", "a%2Fb"),
        ("a+", "a%2B"),
        ("#", "%23"),
        ("50%", "50%25"),
        ("alerts", "%61lerts"),
        ("x\0", "x%00"),
    ],
)
def test_a_name_is_one_level(name: str, expected: str) -> None:
    assert level(name) == expected


@given(st.lists(st.text("a/+#%lerts\0é2F", min_size=1, max_size=6), unique=True, max_size=6))
def test_no_two_sensors_share_a_topic(names: list[str]) -> None:
    topics = [TOPICS.alert(name) for name in names] + [TOPICS.fault(name) for name in names]
    topics += [TOPICS.state(name) for name in names] + [TOPICS.notices(name) for name in names]
    topics += [TOPICS.alert(""), TOPICS.notices(""), TOPICS.availability, TOPICS.health]
    assert len(set(topics)) == len(topics)
    assert not any(set("+#\0") & set(topic) for topic in topics)


def test_a_notice_says_which_it_is_outside_its_json_too() -> None:
    message = notice_message(TOPICS, notice())
    assert message.topic == "edgelstm/pump-room/alerts/pump"
    assert not message.retain
    assert message.expiry is None
    assert message.correlation == b"a/1"
    assert message.properties["id"] == "a/1"
    assert json.loads(message.payload) == notice().to_dict()


def test_a_service_fault_is_of_the_gateway() -> None:
    assert notice_message(TOPICS, notice(sensor="")).topic == "edgelstm/pump-room/alerts"


def test_no_open_alert_is_off() -> None:
    message = open_message("t", [])
    assert json.loads(message.payload) == {"state": "OFF", "open": 0}
    assert message.retain


def test_of_open_alerts_the_gravest_is_told_then_the_newest() -> None:
    old, new = notice("old"), notice("new", opened=T + 9)
    grave = notice("grave", opened=T - 9, severity=Severity.CRITICAL)
    told = json.loads(open_message("t", [new, old]).payload)
    assert (told["state"], told["open"], told["alert_id"]) == ("ON", 2, "new")
    assert told["channels"][0]["residual"] == 0.5
    assert json.loads(open_message("t", [grave, new, old]).payload)["alert_id"] == "grave"


def test_online_is_forgotten_by_a_broker_that_does_not_hear_it_again() -> None:
    online, offline = availability(TOPICS, online=True), availability(TOPICS, online=False)
    assert (online.payload, online.retain, online.expiry) == (b"online", True, 120)
    assert (offline.payload, offline.retain, offline.expiry) == (b"offline", True, None)


def test_a_state_has_the_figures() -> None:
    message = state_message(TOPICS, sensor_health(), T + 1, 9, 120)
    assert (message.topic, message.retain, message.expiry) == (
        "edgelstm/pump-room/pump/state",
        True,
        120,
    )
    told = json.loads(message.payload)
    assert told["score"] == 0.333333
    assert told["threshold"] == 12.5
    assert told["lost"] == 9
    assert told["last_reading"] == "2023-11-14T22:13:20+00:00"


@pytest.mark.parametrize(
    "changes",
    [
        {"status": Status.FAILING},
        {"warming_up": True},
        {"score": math.inf, "threshold": math.nan},
        {"score": None, "threshold": None},
    ],
)
def test_where_nothing_is_scored_there_is_no_old_score(changes: dict[str, Any]) -> None:
    told = state(**changes)
    assert told["score"] is None
    assert told["threshold"] is None


def test_a_state_is_never_the_one_before() -> None:
    one, two = (state_message(TOPICS, sensor_health(), time, 9, 120) for time in (T, T + 30))
    assert one.payload != two.payload, "it would not be told again, and expire"


def test_the_service_says_what_is_wrong() -> None:
    told = json.loads(health_message(TOPICS, health(sensor_health()), 120).payload)
    assert told["status"] == "degraded"
    assert told["problems"] == ["it is odd"]
    assert told["sensors"] == {"pump": "ok"}


def test_lost_readings_are_of_the_sensors_own_source() -> None:
    assert lost_readings(health(sensor_health()), sensor_health()) == 9
