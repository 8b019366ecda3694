from __future__ import annotations

import hashlib
import hmac
import json
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edgelstm.alert import Alert, AlertKind
from edgelstm.errors import ConfigurationError, RefusedNoticeError, SinkError
from edgelstm.health import Health
from edgelstm.notice import Notice
from edgelstm.outbox import Outbox
from edgelstm.secret import Secret
from edgelstm.sinks import BusySinkError, SinkContext, SinkOptions
from edgelstm.sinks.back_off import BackOff
from edgelstm.sinks.courier import Courier
from edgelstm.sinks.http_post import Address
from edgelstm.sinks.webhook import WebhookConfig, WebhookSink, sign

ALERT = Alert(1, AlertKind.ANOMALY, 1000.0, 12.0)
NOTICE = Notice("a-1/1", "a-1", "opened", 1000.0, "here", "pump", ALERT, "ALERT 1 opened", 12, 9)
HERE = SinkContext()
HIDDEN = "geheim-7f3a"


@dataclass
class Request:
    """What a server got."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Reply = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """A web server that answers as it is told, and with 200 in the end."""

    port: int = 0
    replies: list[Reply] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook?key={HIDDEN}"

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length", 0))
        body = handler.rfile.read(length)
        self.requests.append(Request(handler.path, dict(handler.headers.items()), body))
        (self.replies.pop(0) if self.replies else status(200))(handler)


def status(code: int, text: str = "", **headers: str) -> Reply:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(text.encode())))
        handler.end_headers()
        handler.wfile.write(text.encode())

    return reply


def resets(handler: BaseHTTPRequestHandler) -> None:
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.rfile.close()
    handler.wfile.close()
    handler.connection.close()


def drips(data: bytes) -> Reply:
    """Sends a byte now and then, for ever."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(data)
        with suppress(OSError):
            for _ in range(1000):
                handler.wfile.write(b"x")
                time.sleep(0.02)

    return reply


def hangs(handler: BaseHTTPRequestHandler) -> None:
    with suppress(OSError):
        handler.connection.recv(1)  # comes back when the client has had enough


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    state = Server(scheme="http" if context is None else "https")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.handle(self)

        do_CONNECT = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

        def shutdown_request(self, request: Any) -> None:
            with suppress(OSError):
                super().shutdown_request(request)

    server = Quiet(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def sink(url: str | Secret, context: SinkContext = HERE, **options: Any) -> WebhookSink:
    return WebhookSink(WebhookConfig(url, **options), context)


def failed(url: str | Secret, **options: Any) -> str:
    with pytest.raises(SinkError) as caught:
        sink(url, **options).send(NOTICE)
    assert not isinstance(caught.value, RefusedNoticeError)
    assert HIDDEN not in str(caught.value)
    return str(caught.value)


def test_a_notice_is_posted_with_its_id(server: Server) -> None:
    sink(server.url, SinkContext(version="1.2")).send(NOTICE)
    (request,) = server.requests
    assert request.path == f"/hook?key={HIDDEN}"
    assert request.json == NOTICE.to_dict()
    headers = request.headers
    assert headers["Host"] == f"127.0.0.1:{server.port}"
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"] == "edgelstm/1.2"
    assert headers["X-Edgelstm-Id"] == "a-1/1"
    assert headers["Idempotency-Key"] == '"a-1/1"'
    assert "X-Edgelstm-Signature" not in headers


def test_a_signature_can_be_verified(server: Server) -> None:
    sink(Secret(server.url), secret=Secret(HIDDEN)).send(NOTICE)
    (request,) = server.requests
    parts = dict(part.split("=") for part in request.headers["X-Edgelstm-Signature"].split(","))
    signed = parts["t"].encode() + b"." + request.body
    assert parts["v1"] == hmac.new(HIDDEN.encode(), signed, hashlib.sha256).hexdigest()
    assert abs(time.time() - int(parts["t"])) < 60
    # Computed with: printf '1700000000.{}' | openssl dgst -sha256 -hmac key
    assert sign(Secret("key"), b"{}", 1_700_000_000) == (
        "t=1700000000,v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae"
    )


def test_headers_of_the_user_come_last(server: Server) -> None:
    headers = {"Authorization": Secret(f"Bearer {HIDDEN}"), "priority": "min", "X-Place": "K\xe4"}
    sink(server.url, template="ntfy", headers=headers).send(NOTICE)
    got = server.requests[0].headers
    assert got["Authorization"] == f"Bearer {HIDDEN}"
    assert [value for name, value in got.items() if name.lower() == "priority"] == ["min"]
    assert got["X-Place"] == "K\xe4"


@pytest.mark.parametrize("code", [200, 201, 202, 204])
def test_a_success_is_a_success(server: Server, code: int) -> None:
    server.replies = [status(code)]
    sink(server.url).send(NOTICE)


@pytest.mark.parametrize("code", [400, 413, 422])
def test_what_a_server_cannot_use_is_refused(server: Server, code: int) -> None:
    server.replies = [status(code, "invalid\n payload " + "x" * 5000)]
    with pytest.raises(RefusedNoticeError) as caught:
        sink(server.url).send(NOTICE)
    text = f"http://127.0.0.1:{server.port} refuses it with status {code}: invalid payload x"
    assert str(caught.value).startswith(text)
    assert len(str(caught.value)) < 280


@pytest.mark.parametrize("code", [401, 403, 404, 408, 410, 425, 429, 500, 503, 507])
def test_what_may_be_mended_is_tried_again(server: Server, code: int) -> None:
    server.replies = [status(code, "no")]
    assert failed(server.url) == f"http://127.0.0.1:{server.port} answers with status {code}: no."


def test_a_server_may_say_when_to_come_back(server: Server) -> None:
    server.replies = [
        status(429, Retry_After="7"),
        status(503, Retry_After=formatdate(time.time() + 100, usegmt=True)),
        status(503, Retry_After="Fri, 31 Dec 1999 23:59:59 GMT"),
    ]
    waits = []
    for _ in range(3):
        with pytest.raises(BusySinkError) as caught:
            sink(server.url).send(NOTICE)
        waits.append(caught.value.retry_after)
    assert waits[0] == 7
    assert 50 < waits[1] <= 100
    assert waits[2] == 0
    server.replies = [
        status(503, Retry_After="soon"),
        status(503, Retry_After=f"Fri, 31 Dec 1999 23:59:59 -{'9' * 30}"),
    ]
    for _ in range(2):
        assert "503" in failed(server.url)


def test_a_redirect_is_not_followed(server: Server) -> None:
    with serving() as other:
        server.replies = [status(307, Location=other.url), status(302, Location="/elsewhere")]
        assert failed(server.url, headers={"Authorization": Secret(HIDDEN)}) == (
            f"http://127.0.0.1:{server.port} answers with a redirect to "
            f"http://127.0.0.1:{other.port}, which is not followed; put the right address into url."
        )
        assert "a redirect to another path" in failed(server.url)
        server.replies = [status(302, Location="http://[x"), status(302, Location="//me:x@y/z")]
        assert "a redirect to another path" in failed(server.url)
        assert "a redirect to y, which" in failed(server.url)
        assert other.requests == []


def test_what_a_server_says_does_not_drive_the_terminal(server: Server) -> None:
    server.replies = [status(500, "a\x1b[2Jb\n c")]
    assert failed(server.url).endswith("answers with status 500: a?[2Jb c.")


def test_500_and_then_200_arrives_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelstm.sinks.courier._POLL_S", 0.02)
    server.replies = [status(500), status(500), resets]
    outbox = Outbox(None)
    outbox.register(["hook"])
    courier = Courier(
        "hook",
        SinkOptions("webhook"),
        lambda: sink(server.url),
        outbox,
        back_off=lambda: BackOff(0.01, 0.01),
    )
    courier.start()
    outbox.submit([NOTICE, replace(NOTICE, id="a-1/2", event="closed")])
    end = time.monotonic() + 10
    while courier.health().sent < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert courier.close(5)
    outbox.close()
    assert [request.json["id"] for request in server.requests] == ["a-1/1"] * 4 + ["a-1/2"]
    assert courier.health().failures == 3


def test_a_server_that_is_not_there_is_told() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert failed(f"http://127.0.0.1:{port}/{HIDDEN}") == (
            f"http://127.0.0.1:{port} cannot be reached (Connection refused)."
        )
    assert "http://nowhere.invalid:80 cannot be reached" in failed("http://nowhere.invalid/x")


def test_a_connection_that_is_reset_is_told(server: Server) -> None:
    server.replies = [resets]
    assert "cannot be reached (" in failed(server.url)


@pytest.mark.parametrize(
    "reply",
    [
        hangs,
        drips(b""),
        drips(b"HTTP/1.1 200 OK\r\nX-Long: "),
        drips(b"HTTP/1.1 500 No\r\nContent-Length: 1000000\r\n\r\n"),
    ],
    ids=["nothing", "status", "header", "body"],
)
def test_a_slow_server_is_left_in_time(server: Server, reply: Reply) -> None:
    server.replies = [reply]
    began = time.monotonic()
    message = failed(server.url, timeout=0.1)
    assert time.monotonic() - began < 5  # the replies take 20 s and more
    assert "has not answered within 0.1 s" in message or "status 500: xx" in message


def test_no_proper_http_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        message = failed(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        assert message.endswith(" does not answer as HTTP has it (BadStatusLine).")
        thread.join()


@dataclass
class Authority:
    ca: Path
    server: ssl.SSLContext


def make_authority(folder: Path, host: str = "IP:127.0.0.1") -> Authority:
    """A certificate authority and a server's certificate that it signed."""

    def openssl(*arguments: str) -> None:
        command = ["openssl", *arguments]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    # Usages as strict verifiers want them (Python 3.13).
    usage = ("-addext", "keyUsage=critical,keyCertSign", "-days", "2")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=A", *usage)
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    (folder / "ext").write_text(f"subjectAltName={host}\nauthorityKeyIdentifier=keyid\n")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1")
    openssl(
        *("x509", "-req", "-in", "server.csr", "-out", "server.pem", "-extfile", "ext"), *signing
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return Authority(folder / "ca.pem", context)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


def test_https_trusts_the_authority_that_is_named(authority: Authority) -> None:
    with serving(authority.server) as server:
        here = SinkContext(directory=authority.ca.parent)
        sink(server.url, here, ca_file=Path("ca.pem")).send(NOTICE)
        assert server.requests[0].json["id"] == "a-1/1"
        message = failed(server.url)
        assert message.startswith(f"https://127.0.0.1:{server.port} has a certificate that is not")
        assert "name its authority's certificate with ca_file" in message
        assert len(server.requests) == 1


def test_https_wants_the_name_in_the_certificate(tmp_path: Path) -> None:
    other = make_authority(tmp_path, "DNS:elsewhere.example")
    with serving(other.server) as server:
        assert "certificate that is not trusted (IP address mism" in failed(
            server.url, ca_file=other.ca
        )
        assert server.requests == []
    assert "cannot be read" in failed("https://127.0.0.1/", ca_file=tmp_path / "no.pem")
    (tmp_path / "empty.pem").write_text("")
    assert "cannot be read" in failed("https://127.0.0.1/", ca_file=tmp_path / "empty.pem")


def test_https_that_hangs_in_the_handshake_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()
        port = listener.getsockname()[1]
        assert "has not answered within 0.1 s" in failed(f"https://127.0.0.1:{port}/", timeout=0.1)
        assert time.monotonic() - began < 5


def test_a_proxy_of_the_environment_is_used(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:pass%20word@127.0.0.1:{server.port}")
    sink("http://somewhere.example/x?y").send(NOTICE)
    request = server.requests[0]
    assert request.path == "http://somewhere.example:80/x?y"
    assert request.headers["Host"] == "somewhere.example:80"
    assert request.headers["Proxy-Authorization"] == "Basic bWU6cGFzcyB3b3Jk"
    monkeypatch.setenv("https_proxy", f"127.0.0.1:{server.port}")
    server.replies = [status(403)]
    assert "Tunnel connection failed: 403" in failed("https://somewhere.example/")
    assert server.requests[1].path == "somewhere.example:443"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    sink(server.url).send(NOTICE)
    assert server.requests[2].path.startswith("/hook")
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    assert "mend http_proxy" in failed("http://somewhere.example/x")


def test_an_alertmanager_is_told_again_what_is_open(server: Server) -> None:
    made = sink(server.url, template="alertmanager")
    health = Health("here", "1", 0.0, 0.0, ())
    assert made.report_every == 60
    made.report(health)
    assert server.requests == []
    made.standing = lambda: (NOTICE, replace(NOTICE, id="b-1/1", sensor="fan"))
    made.report(health)
    assert [entry["labels"]["sensor"] for entry in server.requests[0].json] == ["pump", "fan"]
    made.send(NOTICE)
    assert len(server.requests[1].json) == 1
    assert sink(server.url).report_every is None


def test_a_custom_body_is_sent(server: Server) -> None:
    body = '{"text": "${sensor}: ${summary}", "cost": "$$1"}'
    sink(server.url, template="custom", body=body, content_type="application/x+json").send(NOTICE)
    (request,) = server.requests
    assert request.json == {"text": "pump: ALERT 1 opened", "cost": "$1"}
    assert request.headers["Content-Type"] == "application/x+json"


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        (f"ftp://x/{HIDDEN}", {}, "not of the form"),
        (f"http:///{HIDDEN}", {}, "not of the form"),
        (f"http://x:port/{HIDDEN}", {}, "not of the form"),
        (f"http://x:{HIDDEN}", {}, "not of the form"),
        (f"http://[{HIDDEN}]/", {}, "not of the form"),
        (f"http://x/{HIDDEN} x", {}, "must be written as %20"),
        (f"http://x/{HIDDEN}\xe4", {}, "must be written as %20"),
        (f"http://me:{HIDDEN}@x/", {}, "as the header Authorization"),
        ("http://x/", {"headers": {"a b": "x"}}, "'a b'"),
        ("http://x/", {"headers": {"Content-Length": "1"}}, "cannot be set"),
        ("http://x/", {"headers": {"A": Secret(f"{HIDDEN}\r\nB: c")}}, "cannot stand in a header"),
        ("http://x/", {"headers": {"A": "\u20ac"}}, "cannot stand in a header"),
        ("http://x/", {"timeout": 0.0}, "timeout"),
        ("http://x/", {"timeout": float("nan")}, "timeout"),
        ("http://x/", {"template": "custom"}, "needs a 'body'"),
        ("http://x/", {"body": "x"}, "custom only"),
        ("http://x/", {"template": "custom", "body": "${sensr}"}, r"did you mean \$\{sensor\}"),
        ("http://x/", {"template": "custom", "body": "5 $"}, "stands alone"),
        ("http://x/", {"template": "custom", "body": "x", "content_type": "a\nb"}, "content_type"),
    ],
)
def test_what_makes_no_sense_is_refused_without_showing_it(
    url: str, options: dict[str, Any], message: str
) -> None:
    for given in (url, Secret(url)):
        with pytest.raises(ConfigurationError, match=message) as caught:
            WebhookConfig(given, **options)
        assert HIDDEN not in str(caught.value)
        assert HIDDEN not in repr(caught.value.__cause__)


def test_an_address_is_taken_apart() -> None:
    assert Address.parse("https://host/a?b") == Address(True, "host", 443, "/a?b")
    assert Address.parse("http://[::1]:8080") == Address(False, "::1", 8080, "/")
    assert str(Address.parse("http://[::1]:8080/secret")) == "http://[::1]:8080"
