from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from datetime import datetime
from email.header import decode_header
from typing import Any

import pytest

from edgelstm.alert import Alert, AlertKind, ChannelShare, Severity
from edgelstm.notice import Acknowledgement, Notice
from edgelstm.sinks.templates import (
    FIELDS,
    CustomBody,
    as_alertmanager,
    as_json,
    as_ntfy,
    as_slack,
    fields,
)

CHANNELS = (ChannelShare("flow", 0.8, 15.1, 33.8, 18.7), ChannelShare("level", 0.2))
ALERT = Alert(3, AlertKind.ANOMALY, 1000.0, 12.0, CHANNELS, threshold=9.0, peaked=1060.0)
NOTICE = Notice(
    "a-1/1", "a-1", "opened", 1000.0, "plant", "pump", ALERT, "ALERT 3 opened   score 12 < 9 & up"
)
CRITICAL = replace(NOTICE, event="updated", alert=replace(ALERT, severity=Severity.CRITICAL))
CLOSED = replace(NOTICE, event="closed", alert=replace(ALERT, closed=2000.0))
SEEN = replace(NOTICE, event="acknowledged", acknowledged=Acknowledgement(1500.0, "ann", 'a "b"'))
FAULT = replace(
    NOTICE,
    alert=Alert(1, AlertKind.SENSOR_FAULT, 1000.0, None, (ChannelShare("flow", 1.0),), "flat"),
)
SERVICE = replace(
    NOTICE, sensor="", alert=Alert(1, AlertKind.SERVICE_FAULT, 1000.0, reason="disk full")
)
EVERY = [NOTICE, CRITICAL, CLOSED, SEEN, FAULT, SERVICE]


def test_json_is_the_notice() -> None:
    message = as_json(NOTICE)
    assert json.loads(message.body) == NOTICE.to_dict()
    assert (message.content_type, message.headers) == ("application/json", {})


def test_what_json_has_no_number_for_is_null() -> None:
    odd = replace(NOTICE, score=math.inf, threshold=-math.inf, summary="NaN stays")
    data = json.loads(as_json(odd).body, parse_constant=pytest.fail)
    assert data == odd.to_dict() | {"score": None, "threshold": None}


@pytest.mark.parametrize(
    ("notice", "priority", "tag", "text"),
    [
        (NOTICE, "high", "warning", NOTICE.summary),
        (CRITICAL, "urgent", "rotating_light", NOTICE.summary),
        (CLOSED, "default", "white_check_mark", NOTICE.summary),
        (SEEN, "default", "white_check_mark", 'acknowledged by ann: a "b"'),
    ],
)
def test_ntfy_has_title_priority_and_tag(
    notice: Notice, priority: str, tag: str, text: str
) -> None:
    message = as_ntfy(notice)
    assert message.body.decode() == text
    assert message.headers == {"Title": "pump on plant", "Priority": priority, "Tags": tag}
    assert message.content_type.startswith("text/plain")


def test_ntfy_titles_are_ascii_as_rfc_2047_has_it() -> None:
    title = as_ntfy(replace(NOTICE, gateway="K\xfchlhaus \u2744 " + "x" * 100)).headers["Title"]
    assert title.isascii()
    assert "\n" not in title
    ((data, charset),) = decode_header(title)
    assert isinstance(data, bytes)
    assert data.decode(charset or "") == "pump on K\xfchlhaus \u2744 " + "x" * 100


@pytest.mark.parametrize("notice", EVERY)
def test_slack_gets_blocks_within_its_limits(notice: Notice) -> None:
    long = replace(notice, gateway="g" * 200, summary=notice.summary + "x" * 5000)
    for each in (notice, long):
        data = json.loads(as_slack(each).body)
        assert set(data) == {"text", "blocks"}
        assert [block["type"] for block in data["blocks"]] == ["header", "section", "context"]
        header, section, _ = data["blocks"]
        assert 1 <= len(header["text"]["text"]) <= 150
        assert 1 <= len(section["text"]["text"]) <= 3000
        assert all(len(fact["text"]) <= 2000 for fact in section["fields"])


def test_slack_has_its_three_signs_escaped() -> None:
    data = json.loads(as_slack(NOTICE).body)
    assert data["text"] == "pump on plant: ALERT 3 opened   score 12 &lt; 9 &amp; up"


def entries(*notices: Notice) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = json.loads(as_alertmanager(notices).body)
    for entry in data:
        assert entry["startsAt"] <= entry["endsAt"]  # else it answers 400
        assert all(isinstance(text, str) and text for text in entry["labels"].values())
        assert all(isinstance(text, str) and text for text in entry["annotations"].values())
    return data


def ends(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["endsAt"]).timestamp()


def test_an_open_alert_lasts_five_minutes_in_an_alertmanager() -> None:
    (entry,) = entries(NOTICE)
    assert entry["labels"] == {
        "alertname": "EdgelstmAnomaly",
        "gateway": "plant",
        "sensor": "pump",
        "severity": "warning",
    }
    assert entry["startsAt"] == "1970-01-01T00:16:40.000Z"
    assert 290 < ends(entry) - time.time() <= 300
    assert entry["annotations"]["summary"] == NOTICE.summary
    assert entry["annotations"]["channels"] == "flow 0.80, level 0.20"


def test_a_closed_alert_ends_when_it_closed() -> None:
    (entry,) = entries(CLOSED)
    assert entry["labels"] == entries(NOTICE)[0]["labels"]  # else it would be another alert
    assert entry["endsAt"] == "1970-01-01T00:33:20.000Z"


def test_an_alert_that_becomes_critical_takes_the_place_of_the_milder_one() -> None:
    milder, critical = entries(CRITICAL)
    assert milder["labels"] == entries(NOTICE)[0]["labels"]
    assert ends(milder) <= time.time()
    assert critical["labels"] == milder["labels"] | {"severity": "critical"}
    assert ends(critical) > time.time()
    both = entries(replace(CRITICAL, event="closed", alert=replace(CRITICAL.alert, closed=2000.0)))
    assert [entry["endsAt"] for entry in both] == ["1970-01-01T00:33:20.000Z"] * 2


def test_clocks_that_differ_give_no_alert_that_ends_before_it_starts() -> None:
    ahead = time.time() + 86_400
    later = replace(ALERT, opened=ahead)
    (entry,) = entries(replace(NOTICE, alert=later))
    assert ends(entry) > time.time()
    set_back = replace(later, closed=1000.0)  # the clock was set while it was open
    (entry,) = entries(replace(CLOSED, alert=set_back))
    assert ends(entry) <= time.time()


def test_faults_are_apart_by_channel_and_reason() -> None:
    fault, service = entries(FAULT, SERVICE)
    assert fault["labels"]["alertname"] == "EdgelstmSensorFault"
    assert (fault["labels"]["channel"], fault["labels"]["reason"]) == ("flow", "flat")
    assert service["labels"]["alertname"] == "EdgelstmServiceFault"
    assert "sensor" not in service["labels"]


def test_an_acknowledgement_is_an_annotation() -> None:
    (entry,) = entries(SEEN)
    assert entry["labels"] == entries(NOTICE)[0]["labels"]
    assert entry["annotations"]["acknowledged_by"] == "ann"
    (closed,) = entries(replace(SEEN, alert=CLOSED.alert))  # seen when it was over
    assert closed["endsAt"] == "1970-01-01T00:33:20.000Z"


@pytest.mark.parametrize("notice", EVERY)
def test_all_fields_are_texts(notice: Notice) -> None:
    texts = fields(notice)
    assert tuple(texts) == FIELDS
    assert all(isinstance(text, str) for text in texts.values())
    assert texts["alert_id"] == "a-1"
    assert "None" not in texts.values()


def test_a_custom_body_is_escaped_as_its_type_wants() -> None:
    text = '{"note": "${acknowledged_note}", "by": "$acknowledged_by"}'
    message = CustomBody(text, "application/json; charset=utf-8")(SEEN)
    assert json.loads(message.body) == {"note": 'a "b"', "by": "ann"}
    form = CustomBody("note=${acknowledged_note}", "application/x-www-form-urlencoded")(SEEN)
    assert form.body == b"note=a+%22b%22"
    plain = CustomBody("${acknowledged_note} {x} $$", "text/plain")(SEEN)
    assert plain.body == b'a "b" {x} $'
