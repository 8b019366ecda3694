"""Notices and evidence for the tests of the outbox."""

from __future__ import annotations

import random

from edgelstm.alert import Alert, AlertKind, ChannelShare, Severity
from edgelstm.evidence import Evidence
from edgelstm.notice import Notice


def notice(
    alert_id: str,
    place: int,
    event: str = "opened",
    sensor: str = "pump",
    *,
    number: int = 1,
    time: float = 1_000.0,
    kind: AlertKind = AlertKind.ANOMALY,
) -> Notice:
    """The notice of an alert that opened at `time`, `place` seconds later."""
    closed = time + place if event == "closed" else None
    alert = Alert(
        number,
        kind,
        time,
        3.5,
        (ChannelShare("flow", 0.75, 1.5, 3.0, 1.5), ChannelShare("level", 0.25)),
        closed=closed,
        severity=Severity.WARNING,
        threshold=2.0,
        peaked=time,
    )
    summary = f"{event} {alert_id}"
    return Notice(
        f"{alert_id}/{place}",
        alert_id,
        event,
        time + place,
        "gate",
        sensor,
        alert,
        summary,
        3.5,
        2.0,
    )


def life(alert_id: str, sensor: str = "pump", **more: float) -> list[Notice]:
    """An alert that opens, grows and closes."""
    number = int(more.get("number", 1))
    events = ("opened", "updated", "closed")
    return [notice(alert_id, i, e, sensor, number=number) for i, e in enumerate(events, 1)]


def evidence(readings: int = 60, seed: int = 0) -> Evidence:
    """Of two channels, in numbers that do not compress well."""
    rng = random.Random(seed)  # noqa: S311  # no secret
    rows = tuple((rng.random(), rng.random()) for _ in range(readings))
    scores = tuple(rng.random() for _ in range(readings))
    times = tuple(1_000.0 + i for i in range(readings))
    limits = (2.0,) * readings
    return Evidence(("flow", "level"), ("flow", "level"), times, rows, rows, scores, limits)
