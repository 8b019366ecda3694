from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.feed import SensorInfo
from edgelstm.sinks.mqtt.home_assistant import Discovery, identifier
from edgelstm.sinks.mqtt.messages import Topics

# https://www.home-assistant.io/integrations/mqtt/, "Using availability topics",
# .../binary_sensor.mqtt/ and .../sensor.mqtt/, "Configuration variables" (2025).
EVERY_ENTITY = {
    "availability",
    "availability_mode",
    "availability_template",
    "availability_topic",
    "device",
    "device_class",
    "enabled_by_default",
    "encoding",
    "entity_category",
    "entity_picture",
    "expire_after",
    "force_update",
    "icon",
    "json_attributes_template",
    "json_attributes_topic",
    "name",
    "origin",
    "payload_available",
    "payload_not_available",
    "qos",
    "state_topic",
    "unique_id",
    "value_template",
}
ALLOWED = {
    "binary_sensor": EVERY_ENTITY | {"off_delay", "payload_off", "payload_on"},
    "sensor": EVERY_ENTITY
    | {
        "last_reset_value_template",
        "options",
        "state_class",
        "suggested_display_precision",
        "unit_of_measurement",
    },
}
DEVICE = {
    "configuration_url",
    "connections",
    "hw_version",
    "identifiers",
    "manufacturer",
    "model",
    "model_id",
    "name",
    "serial_number",
    "suggested_area",
    "sw_version",
    "via_device",
}
ORIGIN = {"name", "support_url", "sw_version"}
# .../integrations/binary_sensor/ and .../integrations/sensor/, "Device class"; developers'
# documentation of the sensor entity, "Available state classes".
CLASSES: dict[str, set[str | None]] = {
    "binary_sensor": {"connectivity", "problem"},
    "sensor": {"enum", "timestamp", None},
}
STATE_CLASSES: set[str | None] = {"measurement", "total", "total_increasing", None}
# .../integrations/mqtt/, "Discovery topic": the ids may only have these letters.
CONFIG_TOPIC = re.compile(r"homeassistant/(sensor|binary_sensor)/([\w-]+)/([\w-]+)/config", re.A)


def info(name: str) -> SensorInfo:
    return SensorInfo(name, "pump.tflite", "ab" * 32, (), (), 0.1)


def discovery(gateway: str = "pump-room") -> Discovery:
    return Discovery("homeassistant", gateway, "0.7", Topics(f"edgelstm/{gateway}"), 120)


def entities(*names: str, gateway: str = "pump-room") -> dict[str, Any]:
    messages = discovery(gateway).messages([info(name) for name in names])
    assert all(message.retain and message.expiry is None for message in messages)
    found = {message.topic: json.loads(message.payload) for message in messages}
    assert len(found) == len(messages), "two entities have one topic"
    return found


def entity(topic: str) -> Any:
    return entities("pump")[f"homeassistant/{topic}/config"]


@pytest.mark.parametrize("name", ["pump", "Süd/2", "a b", "alerts", "+", "温度"])
def test_every_field_is_one_that_home_assistant_knows(name: str) -> None:
    for topic, config in entities(name, "fan").items():
        match = CONFIG_TOPIC.fullmatch(topic)
        assert match, topic
        component = match[1]
        assert config.keys() <= ALLOWED[component], topic
        assert {"name", "unique_id", "state_topic", "device", "origin"} <= config.keys()
        assert config["device"].keys() <= DEVICE
        assert config["origin"].keys() <= ORIGIN
        assert config.get("device_class") in CLASSES[component]
        assert config.get("state_class") in STATE_CLASSES
        assert config.get("entity_category") in (None, "diagnostic")
        assert ("options" in config) is (config.get("device_class") == "enum")
        assert not {"+", "#"} & set(config["state_topic"])


def test_a_sensor_is_a_device_behind_the_gateway() -> None:
    found = entities("pump", "fan").values()
    devices = {config["device"]["name"]: config["device"] for config in found}
    assert devices.keys() == {"pump-room", "pump", "fan"}
    (gateway,) = devices["pump-room"]["identifiers"]
    assert devices["pump"]["via_device"] == devices["fan"]["via_device"] == gateway
    assert "via_device" not in devices["pump-room"]
    assert devices["pump"]["model"] == "pump.tflite"


def test_what_there_is_of_a_sensor() -> None:
    names = {
        config["name"]: (topic.split("/")[1], config.get("device_class"))
        for topic, config in entities("pump").items()
        if config["device"]["name"] == "pump"
    }
    assert names == {
        "Alert": ("binary_sensor", "problem"),
        "Sensor fault": ("binary_sensor", "problem"),
        "Score": ("sensor", None),
        "Threshold": ("sensor", None),
        "Last reading": ("sensor", "timestamp"),
        "Readings lost": ("sensor", None),
        "Status": ("sensor", "enum"),
    }


def test_measured_values_expire_and_states_do_not() -> None:
    for topic, config in entities("pump").items():
        measured = config["state_topic"].endswith(("/state", "/health"))
        assert config.get("expire_after") == (120 if measured else None), topic


def test_all_but_the_connection_itself_are_unavailable_without_one() -> None:
    for config in entities("pump").values():
        if config["name"] == "Connection":
            assert "availability_topic" not in config
            assert config["state_topic"] == "edgelstm/pump-room/availability"
            assert (config["payload_on"], config["payload_off"]) == ("online", "offline")
        else:
            assert config["availability_topic"] == "edgelstm/pump-room/availability"
            assert config["payload_available"] == "online"
            assert config["payload_not_available"] == "offline"


def test_the_alert_has_its_facts_as_attributes() -> None:
    config = entity("binary_sensor/edgelstm_pump-room/pump_alert")
    assert config["state_topic"] == config["json_attributes_topic"]
    assert config["state_topic"] == "edgelstm/pump-room/pump/alert"
    assert config["value_template"] == "{{ value_json.state }}"


def test_ids_stay_and_none_is_there_twice() -> None:
    first = entities("pump", "fan")
    again = entities("fan", "pump")
    ids = {topic: config["unique_id"] for topic, config in first.items()}
    assert ids == {topic: config["unique_id"] for topic, config in again.items()}
    assert len(set(ids.values())) == len(ids)
    assert ids["homeassistant/sensor/edgelstm_pump-room/pump_score/config"] == (
        "edgelstm_pump-room.pump_score"
    )
    others = {config["unique_id"] for config in entities("pump", gateway="other").values()}
    assert not others & set(ids.values())


def test_names_that_look_alike_together_are_kept_apart() -> None:
    one, other = entities("hall_pump", gateway="gate"), entities("pump", gateway="gate_hall")
    for of in (lambda c: [c["unique_id"]], lambda c: c["device"]["identifiers"]):
        assert not {i for c in one.values() for i in of(c)} & {
            i for c in other.values() for i in of(c)
        }
    assert entities("hall", gateway="gate").keys().isdisjoint(entities(gateway="gate_hall"))


@given(st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=4, unique=True))
def test_sensors_of_any_names_have_topics_of_their_own(names: list[str]) -> None:
    found = entities(*names)
    assert len(found) == 3 + 7 * len(names)
    assert len({config["unique_id"] for config in found.values()}) == len(found)
    assert all(CONFIG_TOPIC.fullmatch(topic) for topic in found)


def test_ids_keep_what_they_may() -> None:
    assert identifier("pump-room_2") == "pump-room_2"
    assert identifier("Süd").startswith("S_d-")
    assert identifier("Süd") != identifier("Söd")


def test_filters_are_of_this_gateway_alone() -> None:
    assert discovery().birth_topic == "homeassistant/status"
    assert discovery().own_topics == "homeassistant/+/edgelstm_pump-room/+/config"
