"""Alerts to syslog: this computer's, or a server's over UDP, TCP or TLS."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import ssl
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from edgelstm.alert import AlertEvent, Severity
from edgelstm.errors import ConfigurationError, SinkError
from edgelstm.notice import ACKNOWLEDGED, Notice
from edgelstm.sinks import Sink, SinkContext
from edgelstm.sinks.one_line import one_line
from edgelstm.sinks.templates import fields
from edgelstm.sinks.trust import trusting

Facility = Literal[
    "user", "daemon", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"
]
_FACILITIES = {"user": 1, "daemon": 3} | {f"local{k}": 16 + k for k in range(8)}
_PORTS = {"udp": 514, "tcp": 601, "tls": 6514}  # RFC 5426, 6587 and 5425

# 32473 is nobody's number: RFC 5612 keeps it for those who have none of their own.
_SD_ID = "edgelstm@32473"
_TOLD = (
    *("id", "alert_id", "event", "sensor", "kind", "severity", "number", "opened", "closed"),
    *("score", "threshold", "peak_score", "channels", "reason", "acknowledged_by"),
)
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
_DATAGRAM_BYTES = 2048  # what every receiver over UDP should take, RFC 5426
_VALUE_CHARACTERS = 300  # or many channels would fill a datagram, which then ends within its header
_HEARD_S = 2.0  # a server that has read all closes the connection


@dataclass(frozen=True)
class SyslogConfig:
    """Options of the sink "syslog".

    Raises:
        ConfigurationError: an option makes no sense.
    """

    address: str = field(
        default="/dev/log",
        metadata={"help": "A socket's path, or udp://host, tcp://host:601, tls://host:6514."},
    )
    format: Literal["auto", "rfc5424", "rfc3164"] = field(
        default="auto",
        metadata={"help": "auto: rfc3164 for a path, which journald reads; else rfc5424."},
    )
    facility: Facility = field(
        default="daemon", metadata={"help": "user, daemon or local0 to local7."}
    )
    timeout: float = field(
        default=10.0,
        metadata={"help": "Seconds for each step of a connection.", "above": 0, "most": 600},
    )
    ca_file: Path | None = field(
        default=None,
        metadata={
            "help": "Of tls: a PEM file of authorities, instead of the system's.",
            "example": "/etc/ssl/my-authority.pem",
        },
    )

    def __post_init__(self) -> None:
        _parse(self.address)
        if not 0 < self.timeout <= 600:
            raise ConfigurationError(
                f"'timeout' is {self.timeout:g} s; it must be above 0 and at most 600."
            )


class SyslogSink(Sink):
    """Sends each notice as a message of syslog.

    Syslog has no receipts: what a server's computer has taken counts as sent, and over UDP what
    has left this one.

    Args:
        config: its options.
        context: has the name of this computer.
    """

    Config = SyslogConfig

    def __init__(self, config: SyslogConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._scheme, self._host, self._port = _parse(config.address)
        local = self._scheme == "unix"
        self._old = config.format == "rfc3164" or (config.format == "auto" and local)
        ca_file = config.ca_file
        self._ca_file = None if ca_file is None else context.directory / ca_file.expanduser()

    def send(self, notice: Notice) -> None:
        """Sends a notice, over a connection of its own.

        Raises:
            SinkError: the receiver is not there.
        """
        gateway = self.context.gateway or socket.gethostname()
        facility = _FACILITIES[self.config.facility]
        message = (
            rfc3164(notice, facility, os.getpid(), time.time())
            if self._old
            else rfc5424(notice, facility, gateway, os.getpid())
        )
        try:
            if self._scheme == "unix":
                self._send_to_path(message)
            elif self._scheme == "udp":
                self._send_datagram(message)
            else:
                self._send_stream(message)
        except SinkError:
            raise
        except ssl.SSLCertVerificationError as error:
            raise SinkError(
                f"{self.config.address} has a certificate that is not trusted "
                f"({error.verify_message}); name its authority's certificate with ca_file, and the "
                "host as the certificate has it."
            ) from error
        except OSError as error:
            reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or error
            raise SinkError(
                f"Syslog at {self.config.address} cannot be reached ({reason})."
            ) from error

    def _send_to_path(self, message: bytes) -> None:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with socket.socket(socket.AF_UNIX, kind) as sock:
                sock.settimeout(self.config.timeout)
                try:
                    sock.connect(self._host)
                except OSError as error:
                    if kind is socket.SOCK_DGRAM and error.errno == errno.EPROTOTYPE:
                        continue  # this socket is of the other kind
                    raise
                # A stream has no ends of messages but a NUL.
                sock.sendall(message if kind is socket.SOCK_DGRAM else message + b"\0")
                return

    def _send_datagram(self, message: bytes) -> None:
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as sock:
            sock.sendto(_cut(message, _DATAGRAM_BYTES), address)

    def _send_stream(self, message: bytes) -> None:
        timeout = self.config.timeout
        with contextlib.ExitStack() as stack:
            sock = socket.create_connection((self._host, self._port), timeout)
            stack.callback(sock.close)
            if self._scheme == "tls":
                context = trusting(self._ca_file)
                sock = stack.enter_context(context.wrap_socket(sock, server_hostname=self._host))
            sock.sendall(b"%d %s" % (len(message), message))  # octet counting, RFC 6587
            _wait_until_heard(sock, min(_HEARD_S, timeout))


def rfc5424(notice: Notice, facility: int, gateway: str, pid: int) -> bytes:
    """A message of RFC 5424 with what is told as structured data."""
    texts = fields(notice)
    data = " ".join(f'{name}="{_value(texts[name])}"' for name in _TOLD if texts[name])
    time_text = datetime.fromtimestamp(notice.time, UTC).isoformat(timespec="milliseconds")
    head = (
        f"<{8 * facility + level(notice)}>1 {time_text.replace('+00:00', 'Z')} "
        f"{_word(gateway, 255)} edgelstm {pid} {_word(notice.event, 32)} [{_SD_ID} {data}] "
    )
    return (head + _line(notice)).encode()


def rfc3164(notice: Notice, facility: int, pid: int, now: float) -> bytes:
    """A message as the C library sends it to this computer's own socket.

    Args:
        notice: what to tell; its time and its id stand in the text, which has no other place.
        facility: number.
        pid: of this process.
        now: seconds since the Unix epoch.
    """
    local = time.localtime(now)
    month = _MONTHS[3 * local.tm_mon - 3 : 3 * local.tm_mon]
    stamp = f"{month} {local.tm_mday:2d} {time.strftime('%H:%M:%S', local)}"
    text = f"{_line(notice)} [{notice.event} {notice.id}]"
    return f"<{8 * facility + level(notice)}>{stamp} edgelstm[{pid}]: {text}".encode()


def level(notice: Notice) -> int:
    """The severity, as syslog counts it: 2 critical, 4 warning, 5 notice."""
    if notice.event in (AlertEvent.CLOSED.value, ACKNOWLEDGED):
        return 5
    return 2 if notice.alert.severity is Severity.CRITICAL else 4


def _line(notice: Notice) -> str:
    return one_line(f"{notice.sensor}: {notice.text}" if notice.sensor else notice.text)


def _word(text: str, most: int) -> str:
    """A field of the header: printable ASCII without blanks."""
    return re.sub(r"[^!-~]", "_", text)[:most] or "-"


def _value(text: str) -> str:
    """A value of structured data."""
    return re.sub(r'(["\\\]])', r"\\\1", one_line(text)[:_VALUE_CHARACTERS])


def _cut(message: bytes, most: int) -> bytes:
    """The beginning of a message, without half a character at its end."""
    return message[:most].decode("utf-8", "ignore").encode()


def _parse(address: str) -> tuple[str, str, int]:
    """Scheme, host or path, and port.

    Raises:
        ConfigurationError: it is no address.
    """
    if address.startswith("/"):
        return "unix", address, 0
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/"):
        raise ConfigurationError(
            f"'address' is {address!r}; it must be the path of a socket such as /dev/log, or "
            "udp://host:514, tcp://host:601 or tls://host:6514."
        )
    return parts.scheme, parts.hostname, port or _PORTS[parts.scheme]


def _wait_until_heard(sock: socket.socket, timeout: float) -> None:
    """Says that this is all, and waits for the server to close: then it has read it.

    One that keeps the connection open is believed; one that cut it before is an error.
    """
    sock.settimeout(timeout)
    if isinstance(sock, ssl.SSLSocket):
        # Many servers close without a word of TLS's own; a reset is an error as it is for TCP.
        with contextlib.suppress(TimeoutError, ssl.SSLError):
            sock.unwrap()
        return
    sock.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + timeout
    with contextlib.suppress(TimeoutError):
        while time.monotonic() < deadline and sock.recv(1024):
            pass
