"""`Notice`: one message about an alert, as every sink gets it; `AlertBook` writes them.

A receiver drops repeats by `Notice.id`: a notice is sent at least once, and the same one again has
the same id.
"""

from __future__ import annotations

import os
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from edgelstm.alert import Alert, AlertChange, AlertEvent, AlertKind, ChannelShare, Severity
from edgelstm.errors import ConfigurationError, OutboxError
from edgelstm.verdict import Verdict

SCHEMA = 1
"""Of a notice as plain data."""

ACKNOWLEDGED = "acknowledged"
"""The event that people bring about; the others are those of `AlertEvent`."""

EVENTS = (*(event.value for event in AlertEvent), ACKNOWLEDGED)

_LONGEST_NAME, _LONGEST_NOTE = 100, 1000


@dataclass(frozen=True)
class Acknowledgement:
    """Somebody has seen an alert.

    Attributes:
        time: when, seconds since the Unix epoch.
        by: who.
        note: what they say of it.
    """

    time: float
    by: str
    note: str = ""

    @classmethod
    def given(cls, time: float, by: str, note: str = "") -> Acknowledgement:
        """One as somebody gives it, each text as one line.

        What no receiver could take, such as a NUL or half a surrogate pair, is left out.

        Raises:
            ConfigurationError: there is no name, or one of them is too long.
        """
        by, note = _line(by), _line(note)
        if not 0 < len(by) <= _LONGEST_NAME or len(note) > _LONGEST_NOTE:
            raise ConfigurationError(
                f"Give a name of up to {_LONGEST_NAME} characters, and a note of up to "
                f"{_LONGEST_NOTE:,}."
            )
        return cls(time, by, note)


@dataclass(frozen=True)
class Notice:
    """One message about an alert.

    Attributes:
        id: unique; the alert's id, a slash, and which of its messages it is.
        alert_id: of the alert; unique, and sorts by the time at which it was opened.
        event: "opened", "updated", "escalated", "closed" or "acknowledged".
        time: of the reading at which it came, or of the acknowledgement, seconds since the Unix
            epoch.
        gateway: name of the computer.
        sensor: name of the sensor; "" for a fault of the service itself.
        alert: as it is then.
        summary: one line for people, without time and gateway.
        score: of the reading; None without one.
        threshold: of the reading; None without one.
        acknowledged: who has seen the alert, if anybody.
    """

    id: str
    alert_id: str
    event: str
    time: float
    gateway: str
    sensor: str
    alert: Alert
    summary: str
    score: float | None = None
    threshold: float | None = None
    acknowledged: Acknowledgement | None = None

    @property
    def text(self) -> str:
        """What happened, in one line: the summary, or who has seen the alert and what they say."""
        seen = self.acknowledged
        if self.event != ACKNOWLEDGED or seen is None:
            return self.summary
        return f"acknowledged by {seen.by}" + (f": {seen.note}" if seen.note else "")

    def to_dict(self) -> dict[str, Any]:
        """The notice as plain data for JSON; times are ISO 8601, UTC. `docs/alerts.md` has it."""
        alert, seen = self.alert, self.acknowledged
        return {
            "schema": SCHEMA,
            "id": self.id,
            "alert_id": self.alert_id,
            "event": self.event,
            "time": _iso(self.time),
            "gateway": self.gateway,
            "sensor": self.sensor,
            "kind": alert.kind.value,
            "severity": alert.severity.value,
            "number": alert.number,
            "summary": self.summary,
            "opened": _iso(alert.opened),
            "closed": None if alert.closed is None else _iso(alert.closed),
            "score": self.score,
            "threshold": self.threshold,
            "threshold_at_opening": alert.threshold,
            "peak_score": alert.peak_score,
            "peaked": None if alert.peaked is None else _iso(alert.peaked),
            "channels": [
                {
                    "name": channel.name,
                    "share": round(channel.share, 4),
                    "residual": channel.residual,
                    "observed": channel.observed,
                    "predicted": channel.predicted,
                }
                for channel in alert.channels
            ],
            "reason": alert.reason,
            "acknowledged": None
            if seen is None
            else {"time": _iso(seen.time), "by": seen.by, "note": seen.note},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Notice:
        """What `to_dict` gave.

        Raises:
            OutboxError: it is something else.
        """
        try:
            if data["schema"] != SCHEMA:
                raise ValueError(f"schema {data['schema']}")
            seen = data["acknowledged"]
            alert = Alert(
                int(data["number"]),
                AlertKind(data["kind"]),
                _seconds(data["opened"]),
                data["peak_score"],
                tuple(ChannelShare(**channel) for channel in data["channels"]),
                data["reason"],
                None if data["closed"] is None else _seconds(data["closed"]),
                Severity(data["severity"]),
                data["threshold_at_opening"],
                None if data["peaked"] is None else _seconds(data["peaked"]),
            )
            return cls(
                data["id"],
                data["alert_id"],
                data["event"],
                _seconds(data["time"]),
                data["gateway"],
                data["sensor"],
                alert,
                data["summary"],
                data["score"],
                data["threshold"],
                None
                if seen is None
                else Acknowledgement(_seconds(seen["time"]), seen["by"], seen["note"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise OutboxError(
                f"This is no notice of an alert, or one of another edgelstm: {error}."
            ) from error


@dataclass(frozen=True)
class OpenEntry:
    """An alert that is open, as an `AlertBook` knows it.

    Attributes:
        alert_id: of the alert.
        kind: of the alert.
        number: of the alert.
        notices: how many there were of it so far.
    """

    alert_id: str
    kind: AlertKind
    number: int
    notices: int


Summary = Callable[[AlertChange, Verdict], str]
"""Says a change in one line for people; see `edgelstm.sinks.log`."""


class AlertBook:
    """Turns the changes of a sensor's alerts into notices.

    Args:
        gateway: name of the computer.
        sensor: name of the sensor.
        summary: says a change in one line.
        new_id: gives the id of an alert that opened at a timestamp.
        known: the alerts that are open already.
    """

    def __init__(
        self,
        gateway: str,
        sensor: str,
        summary: Summary,
        new_id: Callable[[float], str] | None = None,
        known: tuple[OpenEntry, ...] = (),
    ) -> None:
        self._gateway, self._sensor = gateway, sensor
        self._summary = summary
        self._new_id = new_id or new_alert_id
        self._open = {(entry.kind, entry.number): entry for entry in known}

    @property
    def open(self) -> tuple[OpenEntry, ...]:
        """The alerts that are open."""
        return tuple(self._open.values())

    def take(self, verdict: Verdict) -> tuple[Notice, ...]:
        """The notices of the changes at one reading."""
        return tuple(self._write(change, verdict) for change in verdict.changes)

    def _write(self, change: AlertChange, verdict: Verdict) -> Notice:
        alert = change.alert
        key = alert.kind, alert.number
        entry = self._open.get(key)
        if entry is None or change.event is AlertEvent.OPENED:
            entry = OpenEntry(self._new_id(alert.opened), alert.kind, alert.number, 0)
        entry = replace(entry, notices=entry.notices + 1)
        if change.event is AlertEvent.CLOSED:
            self._open.pop(key, None)
        else:
            self._open[key] = entry
        judged = alert.kind is AlertKind.ANOMALY
        return Notice(
            f"{entry.alert_id}/{entry.notices}",
            entry.alert_id,
            change.event.value,
            verdict.reading.timestamp,
            self._gateway,
            self._sensor,
            alert,
            self._summary(change, verdict),
            verdict.score if judged else None,
            verdict.threshold if judged else None,
        )


_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32


def new_alert_id(_opened: float = 0.0) -> str:
    """A unique id, 26 characters, which sorts by the time at which it was made.

    It is a ULID in lower case (github.com/ulid/spec): 48 bits of milliseconds and 80 of chance.
    """
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


# What a datetime can hold: an alert is told even if the clock is out of all bounds.
_EARLIEST, _LATEST = (
    limit.replace(tzinfo=UTC, microsecond=0).timestamp() for limit in (datetime.min, datetime.max)
)


def _line(text: str) -> str:
    text = " ".join(text.split())
    return "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cs")).strip()


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(min(max(timestamp, _EARLIEST), _LATEST), UTC).isoformat()


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
