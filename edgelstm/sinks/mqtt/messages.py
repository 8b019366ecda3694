"""What the sink `mqtt` publishes: its topics and payloads. docs/home-assistant.md has the table."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from edgelstm.alert import AlertKind, Severity
from edgelstm.health import Health, SensorHealth, Status
from edgelstm.notice import Notice
from edgelstm.sinks.mqtt.connection import Message

ONLINE, OFFLINE = b"online", b"offline"
ONLINE_EXPIRY_S = 120
"""A broker that was killed may come back with an old "online" from its disk: it forgets that after
so many seconds, unless it hears it again."""

_ALERT, _FAULT, _STATE = "alert", "fault", "state"
_ALERTS = "alerts"
_RESERVED = "+#/%"
_OF_THE_ALERT = (
    "alert_id",
    "kind",
    "severity",
    "number",
    "summary",
    "opened",
    "peak_score",
    "threshold_at_opening",
    "channels",
    "reason",
    "acknowledged",
)


@dataclass(frozen=True)
class Topics:
    """The topics below a base.

    Attributes:
        base: without a slash at the end.
    """

    base: str

    @property
    def availability(self) -> str:
        """Whether the service is connected, retained."""
        return f"{self.base}/availability"

    @property
    def health(self) -> str:
        """How the service is, retained."""
        return f"{self.base}/health"

    def notices(self, sensor: str) -> str:
        """Every notice of a sensor; "" for those of the service itself."""
        return f"{self.base}/{_ALERTS}/{level(sensor)}" if sensor else f"{self.base}/{_ALERTS}"

    def alert(self, sensor: str) -> str:
        """Whether an anomaly of a sensor is open, or a fault of the service, retained."""
        return f"{self.base}/{level(sensor)}/{_ALERT}" if sensor else f"{self.base}/{_ALERT}"

    def fault(self, sensor: str) -> str:
        """Whether a fault of a sensor is open, retained."""
        return f"{self.base}/{level(sensor)}/{_FAULT}"

    def state(self, sensor: str) -> str:
        """Score, threshold and counts of a sensor, retained."""
        return f"{self.base}/{level(sensor)}/{_STATE}"

    @property
    def of_sensors(self) -> tuple[str, ...]:
        """Filters for what is retained of any sensor."""
        return tuple(f"{self.base}/+/{name}" for name in (_ALERT, _FAULT, _STATE))


def level(name: str) -> str:
    """A name as one level of a topic: what MQTT reserves is percent-encoded.

    Two names never give the same level, and none gives the one of the notices.
    """
    if name == _ALERTS:
        return f"%{ord(name[0]):02X}{name[1:]}"
    return "".join(quote(c, safe="") if c in _RESERVED or c < " " else c for c in name)


def notice_message(topics: Topics, notice: Notice) -> Message:
    """A notice as a message; a receiver tells a repetition by its `id`."""
    return Message(
        topics.notices(notice.sensor),
        _json(notice.to_dict()),
        properties={
            "id": notice.id,
            "alert_id": notice.alert_id,
            "event": notice.event,
            "kind": notice.alert.kind.value,
            "severity": notice.alert.severity.value,
        },
        correlation=notice.id.encode(),
    )


def open_message(topic: str, notices: Collection[Notice]) -> Message:
    """Says whether alerts are open, and of the gravest of them what there is to say.

    Args:
        topic: where.
        notices: the last one of each alert that is open.
    """
    if not notices:
        return Message(topic, _json({"state": "OFF", "open": 0}), retain=True)
    notice = max(notices, key=lambda n: (n.alert.severity is Severity.CRITICAL, n.alert.opened))
    said = notice.to_dict()
    facts = {"state": "ON", "open": len(notices), **{name: said[name] for name in _OF_THE_ALERT}}
    return Message(topic, _json(facts), retain=True)


def is_about(notice: Notice, sensor: str, *, fault: bool) -> bool:
    """Whether a notice belongs to the alerts of a sensor, or to its faults."""
    return notice.sensor == sensor and fault is (notice.alert.kind is AlertKind.SENSOR_FAULT)


def availability(topics: Topics, *, online: bool, expires: bool = True) -> Message:
    """Whether the service is connected."""
    if not online:
        return Message(topics.availability, OFFLINE, retain=True)
    return Message(
        topics.availability, ONLINE, retain=True, expiry=ONLINE_EXPIRY_S if expires else None
    )


def state_message(
    topics: Topics, sensor: SensorHealth, time: float, lost: int, expire_after: int
) -> Message:
    """How a sensor is. Where nothing is watched there is no score, not the last one.

    Args:
        topics: where.
        sensor: how it is.
        time: when that was found out, seconds since the Unix epoch.
        lost: readings that did not come.
        expire_after: seconds after which this says nothing any more.
    """
    live = sensor.status is not Status.FAILING and not sensor.warming_up
    last = sensor.last_reading
    facts = {
        "time": _iso(time),
        "status": sensor.status.value,
        "score": _number(sensor.score) if live else None,
        "threshold": _number(sensor.threshold) if live else None,
        "warming_up": sensor.warming_up,
        "last_reading": None if last is None else _iso(last),
        "silent_for": round(sensor.silent_for, 1),
        "readings": sensor.counters.readings,
        "scored": sensor.counters.scored,
        "lost": lost,
        "alerts": sensor.alerts,
        "open_alerts": sensor.open_alerts,
        "sensor_faults": sensor.counters.sensor_faults,
        "artifact": sensor.artifact,
        "sha256": sensor.sha256,
        "backend": sensor.backend,
        "source": sensor.source,
        "problem": sensor.problem,
    }
    return Message(topics.state(sensor.name), _json(facts), retain=True, expiry=expire_after)


def health_message(topics: Topics, health: Health, expire_after: int) -> Message:
    """How the service is."""
    facts = {
        "status": health.status.value,
        "time": _iso(health.time),
        "problems": list(health.problems),
        "gateway": health.gateway,
        "version": health.version,
        "started": _iso(health.started),
        "reloads": health.reloads,
        "sensors": {sensor.name: sensor.status.value for sensor in health.sensors},
        "sources": {
            source.name: {
                "connected": source.connected,
                "readings": source.readings,
                "lost": source.lost,
                "damaged": source.damaged,
                "reconnects": source.reconnects,
            }
            for source in health.sources
        },
        "sinks": {
            sink.name: {"sent": sink.sent, "pending": sink.pending, "failures": sink.failures}
            for sink in health.sinks
        },
        "outbox": {"alerts": health.outbox.alerts, "bytes": health.outbox.bytes},
    }
    return Message(topics.health, _json(facts), retain=True, expiry=expire_after)


def lost_readings(health: Health, sensor: SensorHealth) -> int:
    """Readings of a sensor's source that did not arrive, or that this computer dropped."""
    return sum(s.lost + s.overflow for s in health.sources if s.name == sensor.source)


def _json(facts: dict[str, Any]) -> bytes:
    return json.dumps(_finite(facts), ensure_ascii=False, allow_nan=False).encode(errors="replace")


def _finite(value: Any) -> Any:
    """The same without infinities, which JSON does not know."""
    if isinstance(value, dict):
        return {name: _finite(held) for name, held in value.items()}
    if isinstance(value, list):
        return [_finite(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> float | None:
    """Six significant digits."""
    return None if value is None else float(f"{value:.6g}")


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat()
