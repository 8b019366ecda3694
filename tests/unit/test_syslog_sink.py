from __future__ import annotations

import re
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from edgelstm.alert import Alert, AlertKind, ChannelShare, Severity
from edgelstm.errors import ConfigurationError, SinkError
from edgelstm.notice import Acknowledgement, Notice
from edgelstm.sinks import SinkContext
from edgelstm.sinks.syslog import SyslogConfig, SyslogSink, level, rfc3164, rfc5424

ALERT = Alert(1, AlertKind.ANOMALY, 1000.0, 12.0, (ChannelShare("flow", 1.0),))
NOTICE = Notice("a-1/1", "a-1", "opened", 1000.25, "here", "pump", ALERT, "ALERT 1 opened", 12, 9)
CRITICAL = replace(NOTICE, alert=replace(ALERT, severity=Severity.CRITICAL))
SEEN = replace(NOTICE, event="acknowledged", acknowledged=Acknowledgement(1.0, 'a "b" ]\\'))

# RFC 5424, section 6: the grammar of a message with one element of structured data.
GRAMMAR = re.compile(
    r"<(?P<pri>\d{1,3})>1 (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) "
    r"(?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) (?P<pid>[!-~]{1,128}) (?P<id>[!-~]{1,32}) "
    r"\[(?P<sd>[^ =\]\"]{1,32})(?P<params>( [^ =\]\"]{1,32}=\"([^\"\\\]]|\\[\"\\\]])*\")*)\] "
    r"(?P<text>.*)"
)


def test_a_message_is_as_rfc_5424_has_it() -> None:
    match = GRAMMAR.fullmatch(rfc5424(NOTICE, 3, "here", 42).decode())
    assert match
    assert match["pri"] == "28"  # daemon, warning
    assert match["time"] == "1970-01-01T00:16:40.250Z"
    assert [match[name] for name in ("host", "app", "pid", "id")] == [
        *("here", "edgelstm", "42", "opened")
    ]
    assert match["sd"] == "edgelstm@32473"
    params = dict(re.findall(r' ([a-z_]+)="([^"]*)"', match["params"]))
    assert params["id"] == "a-1/1"
    assert params["sensor"] == "pump"
    assert params["channels"] == "flow"
    assert "closed" not in params
    assert match["text"] == "pump: ALERT 1 opened"


def test_odd_texts_stay_within_the_grammar() -> None:
    odd = replace(SEEN, sensor="p]u\nm\0p", gateway="K\xfchl haus", summary="a\nb")
    match = GRAMMAR.fullmatch(rfc5424(odd, 16, odd.gateway, 42).decode())
    assert match
    assert match["host"] == "K_hl_haus"
    assert r'acknowledged_by="a \"b\" \]\\"' in match["params"]
    assert r'sensor="p\]u m?p"' in match["params"]
    assert match["text"] == 'p]u m?p: acknowledged by a "b" ]\\'
    assert b"\0" not in rfc3164(odd, 16, 42, 0.0)  # it would end the message on a stream
    assert GRAMMAR.fullmatch(rfc5424(NOTICE, 3, "", 42).decode())


def test_many_channels_leave_a_datagram_whole() -> None:
    channels = tuple(ChannelShare(f"temperature_of_bearing_{k}", 0.0) for k in range(100))
    many = replace(NOTICE, alert=replace(NOTICE.alert, channels=channels))
    match = GRAMMAR.fullmatch(rfc5424(many, 3, "here", 42)[:2048].decode())
    assert match
    assert match["text"] == "pump: ALERT 1 opened"


def test_the_old_form_is_that_of_the_c_library() -> None:
    text = rfc3164(NOTICE, 16, 42, 1000.0).decode()
    assert re.fullmatch(
        r"<132>Jan  1 \d\d:\d\d:40 edgelstm\[42\]: pump: ALERT 1 opened \[opened a-1/1\]", text
    )


def test_levels_are_those_of_syslog() -> None:
    closed = replace(CRITICAL, event="closed")
    assert [level(each) for each in (NOTICE, CRITICAL, closed, SEEN)] == [4, 2, 5, 5]


def sink(address: str, **options: Any) -> SyslogSink:
    return SyslogSink(SyslogConfig(address, **options), SinkContext(gateway="here"))


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_the_socket_of_this_computer_may_be_of_either_kind(
    tmp_path: Path, kind: socket.SocketKind
) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, kind) as listener:
        listener.bind(path)
        listener.settimeout(5)
        if kind is socket.SOCK_STREAM:
            listener.listen()
        for options in ({}, {"format": "rfc5424"}):
            sink(path, **options).send(NOTICE)
            if kind is socket.SOCK_STREAM:
                connection, _ = listener.accept()
                with connection:
                    data = connection.makefile("rb").read()
                assert data.endswith(b"\0")
            else:
                data = listener.recv(10_000)
                assert not data.endswith(b"\0")
            text = data.rstrip(b"\0").decode()
            assert bool(GRAMMAR.fullmatch(text)) == bool(options)
            assert text.startswith("<28>")


def test_a_socket_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=f"Syslog at {tmp_path}/no cannot be reached \\(No such"):
        sink(f"{tmp_path}/no").send(NOTICE)


def test_udp_messages_are_whole_and_bounded() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(5)
        address = f"udp://127.0.0.1:{listener.getsockname()[1]}"
        sink(address, facility="local3").send(NOTICE)
        match = GRAMMAR.fullmatch(listener.recv(10_000).decode())
        assert match
        assert match["pri"] == str(19 * 8 + 4)
        sink(address).send(replace(NOTICE, summary="\xfc" * 5000))
        assert 2046 <= len(listener.recv(10_000).decode().encode()) <= 2048


@dataclass
class Collector:
    """A syslog server over TCP."""

    port: int = 0
    received: list[bytes] = field(default_factory=list)
    resets: int = 0
    keeps: int = 0
    kept: list[socket.socket] = field(default_factory=list)

    @property
    def messages(self) -> list[str]:
        """Taken apart by the counts of octets; RFC 6587, section 3.4.1."""
        found = []
        for data in self.received:
            rest = data
            while rest:
                count, _, rest = rest.partition(b" ")
                found.append(rest[: int(count)].decode())
                rest = rest[int(count) :]
        return found

    def attend(self, connection: socket.socket) -> None:
        if self.resets:
            self.resets -= 1
            connection.recv(10)
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()
            return
        if self.keeps:
            self.keeps -= 1
            self.kept.append(connection)
            self.received.append(connection.recv(65_536))
            return
        with connection:
            data = b""
            while more := connection.recv(65_536):
                data += more
            self.received.append(data)


@contextmanager
def collecting(context: ssl.SSLContext | None = None) -> Iterator[Collector]:
    collector = Collector()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        collector.port = listener.getsockname()[1]

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with suppress(OSError):
                    if context is not None:
                        connection = context.wrap_socket(connection, server_side=True)
                    collector.attend(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield collector
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    for connection in collector.kept:
        connection.close()


def test_tcp_messages_are_counted_in_octets() -> None:
    with collecting() as server:
        long = replace(NOTICE, summary="\xfc" * 5000)
        for each in (NOTICE, long):
            sink(f"tcp://127.0.0.1:{server.port}").send(each)
        assert all(map(GRAMMAR.fullmatch, server.messages))
        assert [text.count("\xfc") for text in server.messages] == [0, 5000]


def test_a_server_that_resets_the_connection_has_not_got_it() -> None:
    with collecting() as server:
        server.resets = 1
        with pytest.raises(SinkError, match="cannot be reached"):
            sink(f"tcp://127.0.0.1:{server.port}").send(replace(NOTICE, summary="x" * 100_000))
        sink(f"tcp://127.0.0.1:{server.port}").send(NOTICE)
        assert len(server.messages) == 1


def test_a_server_that_keeps_the_connection_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelstm.sinks.syslog._HEARD_S", 0.05)
    with collecting() as server:
        server.keeps = 1
        sink(f"tcp://127.0.0.1:{server.port}").send(NOTICE)
        assert len(server.messages) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that is its own authority, with its key."""
    folder = tmp_path_factory.mktemp("syslog")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-subj /CN=syslog -addext subjectAltName=IP:127.0.0.1 -keyout both.pem -out crt.pem"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True, timeout=60)
    with (folder / "both.pem").open("a") as both:
        both.write((folder / "crt.pem").read_text())
    return folder / "both.pem"


def test_tls_is_verified(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with collecting(context) as server:
        address = f"tls://127.0.0.1:{server.port}"
        sink(address, ca_file=certificate.with_name("crt.pem")).send(NOTICE)
        with pytest.raises(SinkError, match=r"has a certificate that is not trusted \(self-signed"):
            sink(address).send(NOTICE)
        with pytest.raises(SinkError, match=r"certificates in .*nowhere\.pem cannot be read"):
            sink(address, ca_file=Path("nowhere.pem")).send(NOTICE)
        assert len(server.messages) == 1
    with pytest.raises(SinkError, match="cannot be reached"):
        sink("tls://127.0.0.1:1", ca_file=certificate).send(NOTICE)


@pytest.mark.parametrize(
    "address", ["log", "udp:host", "http://host", "tcp://", "tcp://host:x", "tcp://host/path"]
)
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="must be the path of a socket such as /dev/log"):
        SyslogConfig(address)
    with pytest.raises(ConfigurationError, match="timeout"):
        SyslogConfig(timeout=-1.0)
