from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest

from edgelstm.alert import (
    Alert,
    AlertChange,
    AlertEvent,
    AlertKind,
    ChannelShare,
    Severity,
)
from edgelstm.errors import OutboxError
from edgelstm.notice import (
    ACKNOWLEDGED,
    EVENTS,
    Acknowledgement,
    AlertBook,
    Notice,
    OpenEntry,
    new_alert_id,
)
from edgelstm.pipeline import Verdict
from edgelstm.reading import Reading

OPENED, UPDATED, CLOSED = AlertEvent.OPENED, AlertEvent.UPDATED, AlertEvent.CLOSED
SHARES = (ChannelShare("flow", 0.75, 1.5, 21.5, 20.0), ChannelShare("level", 0.25))
ANOMALY = Alert(
    3,
    AlertKind.ANOMALY,
    1_764_547_200.5,
    27.5,
    SHARES,
    severity=Severity.CRITICAL,
    threshold=12.5,
    peaked=1_764_547_260.123456,
)
FAULT = Alert(3, AlertKind.SENSOR_FAULT, 1000.0, channels=(ChannelShare("flow", 1.0),))


def notice(alert: Alert = ANOMALY, **changes: Any) -> Notice:
    given: dict[str, Any] = {
        "id": "a/1",
        "alert_id": "a",
        "event": "opened",
        "time": alert.opened,
        "gateway": "pump-room",
        "sensor": "pump",
        "alert": alert,
        "summary": "ALERT 3 opened",
        "score": 27.5,
        "threshold": 12.5,
    }
    return Notice(**(given | changes))


def stored(given: Notice) -> Notice:
    return Notice.from_dict(json.loads(json.dumps(given.to_dict(), allow_nan=False)))


# As plain data


@pytest.mark.parametrize(
    "given",
    [
        notice(),
        notice(FAULT, score=None, threshold=None),
        notice(event=ACKNOWLEDGED, acknowledged=Acknowledgement(2000.25, "Ada", "on my way")),
    ],
)
def test_what_is_stored_is_the_same(given: Notice) -> None:
    assert stored(given) == given


def test_closed_alert_keeps_its_duration() -> None:
    closed = Alert(1, AlertKind.ANOMALY, 1000.0, 5.0, closed=1600.5)
    assert stored(notice(closed)).alert.duration == 600.5


def test_plain_data_is_as_people_read_it() -> None:
    data = notice().to_dict()
    assert data["opened"] == data["time"] == "2025-12-01T00:00:00.500000+00:00"
    assert data["peaked"] == "2025-12-01T00:01:00.123456+00:00"
    assert (data["kind"], data["severity"], data["event"]) == ("anomaly", "critical", "opened")
    assert data["channels"][1] == {
        "name": "level",
        "share": 0.25,
        "residual": None,
        "observed": None,
        "predicted": None,
    }


@pytest.mark.parametrize("time", [1.7e15, -1e15, float("inf")])
def test_time_out_of_all_bounds_can_be_written(time: float) -> None:
    alert = Alert(1, AlertKind.ANOMALY, time, 5.0)
    assert stored(notice(alert)).summary == "ALERT 3 opened"


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"kind": "noise"},
        {"severity": None},
        {"opened": "yesterday"},
        {"time": 5},
        {"channels": [{"name": "flow"}]},
        {"channels": [{"name": "flow", "share": 1, "colour": "red"}]},
        {"channels": None},
        {"number": "first"},
        {"acknowledged": {"by": "Ada"}},
    ],
)
def test_what_is_no_notice_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(OutboxError, match="no notice of an alert"):
        Notice.from_dict(notice().to_dict() | changes)


def test_missing_field_is_refused() -> None:
    data = notice().to_dict()
    needed = set(data) - {"schema"}
    for name in needed:
        with pytest.raises(OutboxError, match=name):
            Notice.from_dict({key: value for key, value in data.items() if key != name})


@pytest.mark.parametrize("other", [[], None, "x"])
def test_what_is_no_dict_is_no_notice(other: Any) -> None:
    with pytest.raises(OutboxError, match="no notice of an alert"):
        Notice.from_dict(other)


# The book


def book(known: tuple[OpenEntry, ...] = ()) -> AlertBook:
    numbers = itertools.count(1)
    return AlertBook(
        "pump-room",
        "pump",
        lambda change, _: f"{change.alert.kind.value} {change.event.value}",
        lambda _: f"id{next(numbers)}",
        known,
    )


def told(own: AlertBook, *changes: tuple[AlertEvent, Alert]) -> list[tuple[str, str, str]]:
    verdict = Verdict(
        Reading(2000.0, (1.0,)),
        score=9.0,
        threshold=5.0,
        changes=tuple(AlertChange(*change) for change in changes),
    )
    return [(n.id, n.alert_id, n.event) for n in own.take(verdict)]


def test_notices_of_an_alert_have_its_id_and_count_on() -> None:
    own = book()
    assert told(own, (OPENED, ANOMALY)) == [("id1/1", "id1", "opened")]
    assert told(own, (UPDATED, ANOMALY)) == [("id1/2", "id1", "updated")]
    assert told(own, (UPDATED, ANOMALY)) == [("id1/3", "id1", "updated")]
    (entry,) = own.open
    assert entry == OpenEntry("id1", AlertKind.ANOMALY, 3, 3)
    assert told(own, (CLOSED, ANOMALY)) == [("id1/4", "id1", "closed")]
    assert not own.open


def test_anomaly_and_fault_of_the_same_number_are_two_alerts() -> None:
    own = book()
    assert told(own, (OPENED, FAULT), (OPENED, ANOMALY)) == [
        ("id1/1", "id1", "opened"),
        ("id2/1", "id2", "opened"),
    ]
    assert told(own, (CLOSED, ANOMALY)) == [("id2/2", "id2", "closed")]
    assert [entry.alert_id for entry in own.open] == ["id1"]


def test_number_that_is_opened_again_is_another_alert() -> None:
    own = book()
    told(own, (OPENED, ANOMALY))
    assert told(own, (OPENED, ANOMALY)) == [("id2/1", "id2", "opened")]


def test_book_goes_on_with_what_was_open() -> None:
    own = book((OpenEntry("old", AlertKind.ANOMALY, 3, 4),))
    assert told(own, (UPDATED, ANOMALY)) == [("old/5", "old", "updated")]
    assert told(own, (CLOSED, ANOMALY)) == [("old/6", "old", "closed")]


def test_alert_that_the_book_does_not_know_gets_an_id() -> None:
    own = book()
    assert told(own, (UPDATED, ANOMALY)) == [("id1/1", "id1", "updated")]
    assert told(own, (CLOSED, ANOMALY)) == [("id1/2", "id1", "closed")]
    assert told(own, (CLOSED, ANOMALY)) == [("id2/1", "id2", "closed")]
    assert own.open == ()


def test_notice_says_what_there_is_to_say() -> None:
    changes = (AlertChange(OPENED, ANOMALY), AlertChange(OPENED, FAULT))
    verdict = Verdict(Reading(2000.0, (1.0,)), score=9.0, threshold=5.0, changes=changes)
    anomaly, fault = book().take(verdict)
    assert anomaly == notice(
        id="id1/1", alert_id="id1", time=2000.0, summary="anomaly opened", score=9.0, threshold=5.0
    )
    assert (fault.score, fault.threshold) == (None, None)
    assert fault.alert == FAULT


def test_without_changes_there_is_no_notice() -> None:
    assert book().take(Verdict(Reading(0.0, (1.0,)))) == ()


def test_events_are_those_of_alerts_and_of_people() -> None:
    assert EVENTS == ("opened", "updated", "escalated", "closed", "acknowledged")


# Ids


def test_ids_are_unique_and_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    ids = []
    for i in range(100):
        monkeypatch.setattr(time, "time_ns", lambda i=i: now + i * 1_000_000)
        ids.append(new_alert_id())
    assert len(set(ids)) == 100
    assert ids == sorted(ids)
    assert {len(one) for one in ids} == {26}
    assert set("".join(ids)) <= set("0123456789abcdefghjkmnpqrstvwxyz")
