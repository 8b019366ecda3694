"""What a webhook sends: a notice in the words of its receiver."""

from __future__ import annotations

import difflib
import json
import string
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.header import Header
from typing import Any, Literal
from urllib.parse import quote_plus

from edgelstm.alert import AlertEvent, AlertKind, Severity
from edgelstm.errors import ConfigurationError
from edgelstm.notice import ACKNOWLEDGED, Notice

Template = Literal["json", "ntfy", "slack", "alertmanager", "custom"]

JSON = "application/json"
HOLDS_S = 300.0
"""How long an Alertmanager keeps an alert that is not told again."""

_CLOSED = AlertEvent.CLOSED.value
_NAMES = {
    AlertKind.ANOMALY: "EdgelstmAnomaly",
    AlertKind.SENSOR_FAULT: "EdgelstmSensorFault",
    AlertKind.SERVICE_FAULT: "EdgelstmServiceFault",
}


@dataclass(frozen=True)
class Message:
    """The body of a request.

    Attributes:
        body: the bytes.
        content_type: of them.
        headers: more of them.
    """

    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def as_json(notice: Notice) -> Message:
    """The notice as it is, `Notice.to_dict()`."""
    return Message(dump(notice.to_dict()))


def as_ntfy(notice: Notice) -> Message:
    """A message for ntfy (docs.ntfy.sh/publish): the text is the body, the rest is in headers."""
    closed, critical = notice.event == _CLOSED, notice.alert.severity is Severity.CRITICAL
    if closed or notice.event == ACKNOWLEDGED:
        priority, tag = "default", "white_check_mark"
    else:
        priority, tag = ("urgent", "rotating_light") if critical else ("high", "warning")
    headers = {"Title": _header(_title(notice)), "Priority": priority, "Tags": tag}
    return Message(notice.text.encode(), "text/plain; charset=utf-8", headers)


def as_slack(notice: Notice) -> Message:
    """A message for an incoming webhook of Slack (docs.slack.dev/messaging)."""
    title = _title(notice)
    facts = [
        f"*{name}*\n{_escape(text)}"
        for name, text in (
            ("Event", f"{notice.event}, {notice.alert.severity.value}"),
            ("Opened (UTC)", _iso(notice.alert.opened)),
        )
    ]
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": title[:150]}},
        {
            "type": "section",
            "text": {"type": "mrkdwn", "text": _escape(notice.text)[:3000]},
            "fields": [{"type": "mrkdwn", "text": fact} for fact in facts],
        },
        {
            "type": "context",
            "elements": [{"type": "plain_text", "text": f"{notice.gateway} {notice.alert_id}"}],
        },
    ]
    text = _escape(f"{title}: {notice.text}")
    return Message(dump({"text": text, "blocks": blocks}))


def as_alertmanager(notices: Iterable[Notice]) -> Message:
    """A list for `POST /api/v2/alerts` (prometheus.io/docs/alerting/clients).

    An Alertmanager takes an alert for over when it is not told again, and two with the same
    labels for one. So an open alert ends in five minutes and is to be told again before; and
    because a severity is a label, one that has risen is another alert, and the old one ends.

    Args:
        notices: the last one of each alert.
    """
    now = time.time()
    return Message(dump([entry for notice in notices for entry in _entries(notice, now)]))


def _entries(notice: Notice, now: float) -> list[dict[str, Any]]:
    alert = notice.alert
    # A device's clock may be ahead of this one; what ends before it starts is refused.
    start = min(alert.opened, now)
    over = notice.event == _CLOSED or alert.closed is not None
    end = max(min(alert.closed or notice.time, now), start) if over else now + HOLDS_S
    labels = {
        "alertname": _NAMES[alert.kind],
        "gateway": notice.gateway,
        "sensor": notice.sensor,
        "severity": alert.severity.value,
    }
    if alert.kind is not AlertKind.ANOMALY:  # several may be open at a time
        labels["reason"] = alert.reason
        labels["channel"] = ",".join(channel.name for channel in alert.channels)
    annotations = {
        "summary": notice.summary,
        "alert_id": notice.alert_id,
        "channels": ", ".join(f"{c.name} {c.share:.2f}" for c in alert.channels),
    }
    if notice.acknowledged is not None:
        annotations["acknowledged_by"] = notice.acknowledged.by
        annotations["acknowledged_note"] = notice.acknowledged.note
    entry = {
        "labels": {name: text for name, text in labels.items() if text},
        "annotations": {name: text for name, text in annotations.items() if text},
        "startsAt": _iso(start),
        "endsAt": _iso(end),
    }
    if alert.severity is not Severity.CRITICAL:
        return [entry]
    milder = entry["labels"] | {"severity": Severity.WARNING.value}  # type: ignore[operator]
    return [entry | {"labels": milder, "endsAt": _iso(min(end, now))}, entry]


FIELDS = (
    *("id", "alert_id", "event", "time", "gateway", "sensor", "kind", "severity", "number"),
    *("summary", "opened", "closed", "score", "threshold", "peak_score", "peaked", "channels"),
    *("reason", "acknowledged_by", "acknowledged_note"),
)
"""What a custom body may name, as `${sensor}`."""


def fields(notice: Notice) -> dict[str, str]:
    """The notice as texts, by the names of `FIELDS`; what there is not is an empty text."""
    data = notice.to_dict()
    data["channels"] = ", ".join(channel.name for channel in notice.alert.channels)
    seen = notice.acknowledged
    data["acknowledged_by"] = None if seen is None else seen.by
    data["acknowledged_note"] = None if seen is None else seen.note
    texts = {name: data[name] for name in FIELDS}
    return {name: "" if value is None else str(value) for name, value in texts.items()}


class CustomBody:
    """A body of the user's own: a text in which `${sensor}` stands for the sensor, and so on.

    In JSON a text is escaped so that it may stand between quotation marks, in a form
    (`application/x-www-form-urlencoded`) as forms have it; elsewhere it is put in as it is.

    Args:
        text: with names of `FIELDS`; `$$` is a dollar sign.
        content_type: of the body.

    Raises:
        ConfigurationError: a name is unknown, or a dollar sign stands alone.
    """

    def __init__(self, text: str, content_type: str) -> None:
        self._template = string.Template(text)
        if not self._template.is_valid():
            raise ConfigurationError(
                "A $ in 'body' stands alone; write $$ for a dollar sign, and ${sensor} and the "
                "like for what is told."
            )
        for name in self._template.get_identifiers():
            if name not in FIELDS:
                near = difflib.get_close_matches(name, FIELDS, 1)
                hint = (
                    f"did you mean ${{{near[0]}}}?" if near else f"there are {', '.join(FIELDS)}."
                )
                raise ConfigurationError(f"body names ${{{name}}}, which a notice lacks; {hint}")
        kind = content_type.partition(";")[0].strip().lower()
        self._is_json = kind == JSON or kind.endswith("+json")
        self._is_form = kind == "application/x-www-form-urlencoded"
        self._content_type = content_type

    def __call__(self, notice: Notice) -> Message:
        """The message about a notice."""
        texts = fields(notice)
        if self._is_json:
            texts = {name: json.dumps(text)[1:-1] for name, text in texts.items()}
        elif self._is_form:
            texts = {name: quote_plus(text) for name, text in texts.items()}
        return Message(self._template.substitute(texts).encode(), self._content_type)


def _title(notice: Notice) -> str:
    sensor = notice.sensor or "edgelstm"
    return f"{sensor} on {notice.gateway}" if notice.gateway else sensor


def _header(text: str) -> str:
    """A text that may stand in a header: ASCII as it is, other as RFC 2047 has it."""
    text = " ".join(text.split())
    return text if text.isascii() else Header(text, "utf-8", maxlinelen=10_000).encode()


def _escape(text: str) -> str:
    """As Slack wants its three special signs."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _iso(timestamp: float) -> str:
    text = datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def dump(data: Any) -> bytes:
    """JSON in UTF-8; what no receiver could read is null (NaN) or a ? (half a surrogate pair)."""
    text = json.dumps(data, ensure_ascii=False)
    if "NaN" in text or "Infinity" in text:
        text = json.dumps(json.loads(text, parse_constant=lambda _: None), ensure_ascii=False)
    return text.encode(errors="replace")
