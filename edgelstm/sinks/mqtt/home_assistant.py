"""Home Assistant's MQTT discovery: which entities there are, as its configuration messages.

One message an entity (`PREFIX/COMPONENT/NODE/OBJECT/config`), not one a device: the latter needs
Home Assistant 2024.11, and the former is not going to leave. Entities are of devices, one for each
sensor and one for the gateway, which they are reached by. docs/home-assistant.md lists them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

from edgelstm.feed import SensorInfo
from edgelstm.health import Status
from edgelstm.sinks.mqtt.connection import Message
from edgelstm.sinks.mqtt.messages import OFFLINE, ONLINE, Topics

BIRTH = b"online"
"""What Home Assistant publishes on `PREFIX/status` when it has started."""

_MAKER = "edgelstm"


class Discovery:
    """Writes the messages that make entities.

    Args:
        prefix: of the discovery topics, as Home Assistant has it.
        gateway: name of this computer; it makes the entities' ids, which must stay the same.
        version: of edgelstm.
        topics: where the entities' values are.
        expire_after: seconds after which Home Assistant no longer believes a value.
    """

    def __init__(
        self, prefix: str, gateway: str, version: str, topics: Topics, expire_after: int
    ) -> None:
        self._prefix, self._gateway, self._version = prefix, gateway, version
        self._topics, self._expire_after = topics, expire_after
        self._node = f"{_MAKER}_{identifier(gateway)}"

    @property
    def birth_topic(self) -> str:
        """Where Home Assistant says that it has started."""
        return f"{self._prefix}/status"

    @property
    def own_topics(self) -> str:
        """A filter for the messages of this gateway."""
        return f"{self._prefix}/+/{self._node}/+/config"

    def messages(self, sensors: Iterable[SensorInfo]) -> list[Message]:
        """The messages of the gateway and its sensors: retained, so that a new one finds them."""
        return [*self._of_gateway(), *(m for info in sensors for m in self._of_sensor(info))]

    def _of_gateway(self) -> list[Message]:
        topics = self._topics
        device = {
            "identifiers": [self._node],
            "name": self._gateway,
            "manufacturer": _MAKER,
            "model": "gateway",
            "sw_version": self._version,
        }
        problem = {"device_class": "problem"}
        diagnostic = {"entity_category": "diagnostic"}
        return [
            self._entity(
                "binary_sensor",
                "connection",
                "Connection",
                device,
                topics.availability,
                {
                    **diagnostic,
                    "device_class": "connectivity",
                    "payload_on": ONLINE.decode(),
                    "payload_off": OFFLINE.decode(),
                },
                lasting=True,
            ),
            self._entity(
                "binary_sensor",
                "health",
                "Health",
                device,
                topics.health,
                {
                    **problem,
                    **diagnostic,
                    "value_template": "{{ 'OFF' if value_json.status == 'ok' else 'ON' }}",
                    **_attributes(topics.health, "problems"),
                    "expire_after": self._expire_after,
                },
            ),
            self._entity(
                "binary_sensor",
                "alert",
                "Service alert",
                device,
                topics.alert(""),
                {**problem, **_open_alert(topics.alert(""))},
            ),
        ]

    def _of_sensor(self, info: SensorInfo) -> list[Message]:
        topics, name = self._topics, info.name
        device = {
            "identifiers": [f"{self._node}.{identifier(name)}"],
            "name": name,
            "manufacturer": _MAKER,
            "model": info.artifact,
            "sw_version": info.sha256[:12],
            "via_device": self._node,
        }
        problem = {"device_class": "problem"}
        diagnostic = {"entity_category": "diagnostic"}
        figure = {"state_class": "measurement", "suggested_display_precision": 2}
        alert, fault, state = topics.alert(name), topics.fault(name), topics.state(name)
        entities: list[tuple[str, str, str, str, dict[str, Any]]] = [
            ("binary_sensor", "alert", "Alert", alert, {**problem, **_open_alert(alert)}),
            ("binary_sensor", "fault", "Sensor fault", fault, {**problem, **_open_alert(fault)}),
            ("sensor", "score", "Score", state, {**self._value("score"), **figure}),
            ("sensor", "threshold", "Threshold", state, {**self._value("threshold"), **figure}),
            (
                "sensor",
                "last_reading",
                "Last reading",
                state,
                {**self._value("last_reading"), "device_class": "timestamp"},
            ),
            (
                "sensor",
                "lost",
                "Readings lost",
                state,
                {**self._value("lost"), **diagnostic, "state_class": "total_increasing"},
            ),
            (
                "sensor",
                "status",
                "Status",
                state,
                {
                    **self._value("status"),
                    **diagnostic,
                    "device_class": "enum",
                    "options": [status.value for status in Status],
                    **_attributes(state, "problem", "backend", "source"),
                },
            ),
        ]
        return [
            self._entity(component, f"{identifier(name)}_{key}", title, device, topic, facts)
            for component, key, title, topic, facts in entities
        ]

    def _value(self, key: str) -> dict[str, Any]:
        return {
            "value_template": f"{{{{ value_json.{key} }}}}",
            "expire_after": self._expire_after,
        }

    def _entity(
        self,
        component: str,
        key: str,
        title: str,
        device: dict[str, Any],
        topic: str,
        facts: dict[str, Any],
        *,
        lasting: bool = False,
    ) -> Message:
        config: dict[str, Any] = {
            "name": title,
            # No name has a dot: else "a" with "b_c" would be "a_b" with "c".
            "unique_id": f"{self._node}.{key}",
            "state_topic": topic,
            "qos": 1,
            **facts,
            "device": device,
            "origin": {"name": _MAKER, "sw_version": self._version},
        }
        if not lasting:  # an entity that shows the connection itself is there without one
            config["availability_topic"] = self._topics.availability
            config["payload_available"] = ONLINE.decode()
            config["payload_not_available"] = OFFLINE.decode()
        payload = json.dumps(config, ensure_ascii=False).encode(errors="replace")
        return Message(
            f"{self._prefix}/{component}/{self._node}/{key}/config", payload, retain=True
        )


def identifier(name: str) -> str:
    """A name in the letters that ids may have; other names do not give the same."""
    kept = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if kept == name:
        return name
    return f"{kept}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _open_alert(topic: str) -> dict[str, Any]:
    return {"value_template": "{{ value_json.state }}", "json_attributes_topic": topic}


def _attributes(topic: str, *names: str) -> dict[str, Any]:
    """Only what seldom changes: Home Assistant keeps every change of an attribute."""
    picked = ", ".join(f"'{name}': value_json.{name}" for name in names)
    return {
        "json_attributes_topic": topic,
        "json_attributes_template": f"{{{{ {{{picked}}} | tojson }}}}",
    }
