"""Alerts to a web address: ntfy, Slack, an Alertmanager, or whatever takes a POST."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from edgelstm.errors import ConfigurationError, RefusedNoticeError, SinkError
from edgelstm.health import Health
from edgelstm.notice import Notice
from edgelstm.secret import Secret
from edgelstm.sinks import BusySinkError, Sink, SinkContext
from edgelstm.sinks.http_post import Address, Answer, post
from edgelstm.sinks.templates import (
    HOLDS_S,
    CustomBody,
    Message,
    Template,
    as_alertmanager,
    as_json,
    as_ntfy,
    as_slack,
)

_TEMPLATES = {"json": as_json, "ntfy": as_ntfy, "slack": as_slack}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a header's name, RFC 9110
_OURS = {"content-length", "transfer-encoding", "connection"}
_SHOWN = 200  # characters of an answer

# What a server says of the notice; it would say so again. All else that is no success may be
# mended without it: an address, a password, a server.
_REFUSALS = {400, 406, 409, 411, 412, 413, 414, 415, 422, 431}


@dataclass(frozen=True)
class WebhookConfig:
    """Options of the sink "webhook".

    Raises:
        ConfigurationError: an option makes no sense. The message shows none that may be secret.
    """

    url: str | Secret = field(
        metadata={
            "help": "https://host/path; a secret when who knows it may post (Slack).",
            "example": "https://ntfy.sh/my-topic",
        }
    )
    template: Template = field(
        default="json", metadata={"help": "json, ntfy, slack, alertmanager or custom."}
    )
    body: str = field(
        default="", metadata={"help": 'Of "custom": a text with ${sensor}, ${summary} and so on.'}
    )
    content_type: str = field(
        default="application/json", metadata={"help": 'Of "custom": what the body is.'}
    )
    headers: Mapping[str, str | Secret] = field(
        default_factory=dict,
        metadata={"help": "More headers, such as Authorization.", "example": {"X-Place": "hall 3"}},
    )
    secret: Secret | None = field(
        default=None, metadata={"help": "Signs each request (HMAC-SHA256)."}
    )
    timeout: float = field(
        default=10.0, metadata={"help": "Seconds for a whole request.", "above": 0, "most": 600}
    )
    ca_file: Path | None = field(
        default=None,
        metadata={
            "help": "A PEM file of authorities, instead of the system's.",
            "example": "/etc/ssl/my-authority.pem",
        },
    )

    def __post_init__(self) -> None:
        Address.parse(_shown(self.url))
        for name, value in self.headers.items():
            if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
                raise ConfigurationError(f"'headers' has {name!r}, which cannot be set.")
            text = _shown(value)
            if not text.isprintable() or not _is_latin(text):
                raise ConfigurationError(
                    f"'headers' has a {name} with a sign that cannot stand in a header, such as "
                    "the end of a line."
                )
        if not 0 < self.timeout <= 600:
            raise ConfigurationError(
                f"'timeout' is {self.timeout:g} s; it must be above 0 and at most 600."
            )
        if self.template == "custom":
            if not self.body:
                raise ConfigurationError("The template custom needs a 'body'.")
            if not _is_latin(self.content_type) or not self.content_type.isprintable():
                raise ConfigurationError("'content_type' has a sign that cannot stand in a header.")
            CustomBody(self.body, self.content_type)
        elif self.body:
            raise ConfigurationError(
                f"'body' is of the template custom only; this one is {self.template}."
            )


class WebhookSink(Sink):
    """Posts each notice, in one of several forms.

    Args:
        config: its options.
        context: has the release, which servers are told.
    """

    Config = WebhookConfig

    def __init__(self, config: WebhookConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._address = Address.parse(_shown(config.url))
        ca_file = config.ca_file
        self._ca_file = None if ca_file is None else context.directory / ca_file.expanduser()
        self._custom = None
        if config.template == "custom":
            self._custom = CustomBody(config.body, config.content_type)
        if config.template == "alertmanager":
            self.report_every = HOLDS_S / 5

    def send(self, notice: Notice) -> None:
        """Posts a notice.

        Raises:
            RefusedNoticeError: the server says that it cannot use this one.
            SinkError: it cannot be reached, or does not take it now.
        """
        template = self.config.template
        if self._custom is not None:
            message = self._custom(notice)
        elif template == "alertmanager":
            message = as_alertmanager([notice])
        else:
            message = _TEMPLATES[template](notice)
        self._post(message, {"X-Edgelstm-Id": notice.id, "Idempotency-Key": f'"{notice.id}"'})

    def report(self, health: Health) -> None:  # noqa: ARG002  # it tells of alerts, not of health
        """Tells an Alertmanager again which alerts are open, or it would take them for over.

        Raises:
            SinkError: it cannot be reached, or does not take them.
        """
        if standing := self.standing():
            self._post(as_alertmanager(standing), {})

    def _post(self, message: Message, headers: dict[str, str]) -> None:
        config = self.config
        version = self.context.version
        sent = {
            "Content-Type": message.content_type,
            "User-Agent": f"edgelstm/{version}" if version else "edgelstm",
            **headers,
            **message.headers,
        }
        if config.secret is not None:
            sent["X-Edgelstm-Signature"] = sign(config.secret, message.body, int(time.time()))
        given = {name.lower() for name in config.headers}
        sent = {name: text for name, text in sent.items() if name.lower() not in given}
        sent |= {name: _shown(value) for name, value in config.headers.items()}
        answer = post(
            self._address, message.body, sent, timeout=config.timeout, ca_file=self._ca_file
        )
        if not 200 <= answer.status < 300:
            raise _failure(self._address, answer)


def sign(secret: Secret, body: bytes, timestamp: int) -> str:
    """The signature of a request: `t=1700000000,v1=...`.

    Args:
        secret: that both sides know.
        body: of the request.
        timestamp: of the request, seconds since the Unix epoch; it is signed as well, so that a
            receiver can refuse what is old.
    """
    signed = str(timestamp).encode() + b"." + body
    digest = hmac.new(secret.reveal().encode(), signed, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def _failure(address: Address, answer: Answer) -> SinkError:
    """The error that an answer is."""
    said = f": {answer.text[:_SHOWN]}" if answer.text else ""
    if answer.status in _REFUSALS:
        return RefusedNoticeError(f"{address} refuses it with status {answer.status}{said}.")
    if 300 <= answer.status < 400:
        elsewhere = answer.location or "another path"
        return SinkError(
            f"{address} answers with a redirect to {elsewhere}, which is not followed; put the "
            "right address into url."
        )
    text = f"{address} answers with status {answer.status}{said}."
    wait = _seconds(answer.retry_after)
    return SinkError(text) if wait is None else BusySinkError(text, wait)


def _seconds(retry_after: str) -> float | None:
    """What `Retry-After` says: seconds, or a date; None when it says neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max((date - datetime.now(UTC)).total_seconds(), 0.0)


def _shown(value: str | Secret) -> str:
    return value.reveal() if isinstance(value, Secret) else value


def _is_latin(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True
