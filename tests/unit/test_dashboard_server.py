from __future__ import annotations

import json
import logging
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClientConnection, websocket_connect

from edgelstm.configuration.settings import DashboardSettings
from edgelstm.dashboard import Dashboard, FakeFeed, handlers
from edgelstm.dashboard import hub as hub_module
from edgelstm.dashboard.columns import unpack
from edgelstm.errors import ConfigurationError, MissingDependencyError
from edgelstm.secret import Secret

ASSETS = Path(handlers.ASSETS)
TOKEN = "a token of the tests"  # noqa: S105


class Answer:
    def __init__(self, status: int, headers: dict[str, str], cookies: list[str], body: bytes):
        self.status, self.headers, self.cookies, self.body = status, headers, cookies, body

    @property
    def cookie(self) -> str:
        """What a browser sends back."""
        return "; ".join(cookie.partition(";")[0] for cookie in self.cookies)


class Visitor:
    """Asks a dashboard."""

    def __init__(self, dashboard: Dashboard) -> None:
        self.port = int(dashboard.url.rstrip("/").rpartition(":")[2])

    def ask(self, path: str, method: str = "GET", body: str = "", **headers: str) -> Answer:
        link = HTTPConnection("127.0.0.1", self.port, timeout=10)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            link.request(method, path, body or None, named)
            answer = link.getresponse()
            cookies = answer.headers.get_all("Set-Cookie", [])
            return Answer(answer.status, dict(answer.headers), cookies, answer.read())
        finally:
            link.close()


@pytest.fixture(scope="module")
def feed() -> FakeFeed:
    return FakeFeed(channels=1, rate=20, history=60)


@pytest.fixture(scope="module")
def local(feed: FakeFeed) -> Iterator[Visitor]:
    dashboard = Dashboard(DashboardSettings(port=0), feed)
    dashboard.start()
    yield Visitor(dashboard)
    dashboard.close()


@pytest.fixture
def public(feed: FakeFeed) -> Iterator[Visitor]:
    dashboard = Dashboard(DashboardSettings("0.0.0.0", 0, Secret(TOKEN)), feed)  # noqa: S104
    dashboard.start()
    yield Visitor(dashboard)
    dashboard.close()


def stream(
    visitor: Visitor, look: Callable[[WebSocketClientConnection], Any], **headers: str
) -> Any:
    async def connect() -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"ws://127.0.0.1:{visitor.port}/stream"
        connection = await websocket_connect(HTTPRequest(url, headers=named))
        try:
            return await look(connection)
        finally:
            connection.close()

    loop = IOLoop(make_current=False)
    try:
        return loop.run_sync(connect, timeout=10)
    finally:
        loop.close(all_fds=True)


async def told(connection: WebSocketClientConnection, kind: str) -> Any:
    """The first message of a kind."""
    while True:
        message = await connection.read_message()
        assert message is not None
        if isinstance(message, str) and json.loads(message)["type"] == kind:
            return json.loads(message)[kind]


async def told_health(connection: WebSocketClientConnection) -> Any:
    return await told(connection, "health")


def test_the_page_is_served_with_headers_that_keep_others_out(local: Visitor) -> None:
    answer = local.ask("/")
    assert answer.status == 200
    assert b"app.js" in answer.body
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "Server" not in answer.headers


@pytest.mark.parametrize("path", sorted(path.name for path in ASSETS.iterdir()))
def test_assets_are_served_and_ask_for_nothing_elsewhere(local: Visitor, path: str) -> None:
    answer = local.ask(f"/assets/{path}")
    assert answer.status == 200
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if path.startswith(("uPlot.iife", "LICENSE")):
        return  # its only address is the one of its home, in a comment
    text = answer.body.decode().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import|url\(|(?<!:)//\w+\.\w+/", text)


@pytest.mark.parametrize("path", ["index.html", "login.html"])
def test_no_script_or_style_is_in_the_page_itself(path: str) -> None:
    text = (ASSETS / path).read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", text)


@pytest.mark.parametrize("path", ["/nothing", "/assets/../__init__.py", "/assets/%2e%2e/fake.py"])
def test_there_is_nothing_else(local: Visitor, path: str) -> None:
    answer = local.ask(path)
    assert answer.status in (403, 404)
    assert "error" in json.loads(answer.body)


def test_uplot_is_unchanged_and_has_its_licence() -> None:
    assert "(v1.6.32)" in (ASSETS / "uPlot.iife.min.js").read_text()[:100]
    assert "Leon Sorokin" in (ASSETS / "LICENSE-uPlot.txt").read_text()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "10.0.0.1"])
def test_on_this_computer_other_names_are_refused(local: Visitor, host: str) -> None:
    for path in ("/", "/assets/page.css", "/api/alerts/x/evidence"):
        assert local.ask(path, Host=host).status == 403
    with pytest.raises(HTTPClientError, match="403"):
        stream(local, told_health, Host=host)


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8765", "LocalHost"])
def test_on_this_computer_its_own_names_are_served(local: Visitor, host: str) -> None:
    assert local.ask("/", Host=host).status == 200


def test_a_page_of_another_site_gets_no_stream(local: Visitor) -> None:
    own = f"http://127.0.0.1:{local.port}"
    assert stream(local, told_health, Origin=own)["gateway"] == "pump-room"
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        with pytest.raises(HTTPClientError, match="403"):
            stream(local, told_health, Origin=origin)


def test_the_stream_gives_the_past(local: Visitor, feed: FakeFeed) -> None:
    async def look(connection: WebSocketClientConnection) -> int:
        await told(connection, "sensors")
        await connection.write_message(json.dumps({"subscribe": "pump"}))
        rows = 0
        while True:
            message = await connection.read_message()
            if isinstance(message, bytes):
                header, columns = unpack(message)
                assert header["from"] == rows
                assert columns.values.shape[0] == 4
                rows += columns.rows
                if header["to"] == feed.ring("pump").count:
                    return rows

    assert stream(local, look) == feed.ring("pump").count


@pytest.mark.parametrize(
    "message",
    ["", "[]", "[" * 4000, '{"subscribe": 1}', '{"subscribe": "pump", "since": "0"}', b"\x00"],
)
def test_who_talks_nonsense_is_sent_away(local: Visitor, message: str | bytes) -> None:
    async def look(connection: WebSocketClientConnection) -> int | None:
        await connection.write_message(message, binary=isinstance(message, bytes))
        while await connection.read_message() is not None:
            pass
        return connection.close_code

    assert stream(local, look) == 1003


def test_too_many_pages_are_told_so(local: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "MOST_CLIENTS", 0)

    async def look(connection: WebSocketClientConnection) -> int | None:
        assert await connection.read_message() is None
        return connection.close_code

    assert stream(local, look) == 1013


def test_evidence_of_an_alert(local: Visitor, feed: FakeFeed) -> None:
    notice = feed.alerts()[0]
    answer = local.ask(f"/api/alerts/{notice.alert_id}/evidence")
    assert json.loads(answer.body)["channels"] == ["vibration_x"]
    assert json.loads(local.ask("/api/alerts/unknown/evidence").body) is None


def acknowledge(visitor: Visitor, alert_id: str, body: str, **headers: str) -> Answer:
    return visitor.ask(f"/api/alerts/{alert_id}/acknowledgement", "POST", body, **headers)


def test_acknowledging_needs_the_xsrf_token_of_the_page(local: Visitor) -> None:
    feed_body = json.dumps({"by": "Ada"})
    assert acknowledge(local, "x", feed_body).status == 403
    cookie = local.ask("/").cookie
    assert acknowledge(local, "x", feed_body, Cookie=cookie).status == 403
    assert acknowledge(local, "x", feed_body, Cookie=cookie, X_XSRFToken="2|a|b|1").status == 403
    token = cookie.partition("edgelstm_xsrf=")[2]
    own = {"Cookie": cookie, "X_XSRFToken": token}
    refused = acknowledge(local, "x", feed_body, **own)
    assert refused.status == 409
    assert "There is no alert x" in json.loads(refused.body)["error"]
    assert acknowledge(local, "x", feed_body, Sec_Fetch_Site="cross-site", **own).status == 403
    for wrong in ("", "[]", "[" * 9000, '{"by": 1}', '{"by": " "}', json.dumps({"by": "a" * 101})):
        assert acknowledge(local, "x", wrong, **own).status == 400


def test_acknowledging(local: Visitor) -> None:
    own = FakeFeed(channels=1, rate=20, history=60)
    dashboard = Dashboard(DashboardSettings(port=0), own)
    dashboard.start()
    try:
        visitor = Visitor(dashboard)
        notice = own.alerts()[0]
        cookie = visitor.ask("/").cookie
        answer = acknowledge(
            visitor,
            notice.alert_id,
            json.dumps({"by": " Ada ", "note": "seen"}),
            Cookie=cookie,
            X_XSRFToken=cookie.partition("edgelstm_xsrf=")[2],
        )
        assert answer.status == 200
        seen = own.alerts()[0].acknowledged
        assert seen is not None
        assert (seen.by, seen.note) == ("Ada", "seen")
    finally:
        dashboard.close()


def test_a_program_with_the_token_acknowledges(public: Visitor, local: Visitor) -> None:
    body = json.dumps({"by": "Ada"})
    token = {"Authorization": f"Bearer {TOKEN}"}
    assert acknowledge(public, "x", body, **token).status == 409  # there is no such alert
    assert acknowledge(public, "x", body).status in (401, 403)
    assert acknowledge(local, "x", body, **token).status == 403  # here a token says nothing


def test_others_need_the_token(public: Visitor) -> None:
    page = public.ask("/", Host="tablet-sees-this")
    assert page.status == 401
    assert b"app.js" not in page.body
    assert public.ask("/api/alerts/x/evidence").status == 401
    with pytest.raises(HTTPClientError, match="401"):
        stream(public, told_health)
    with pytest.raises(HTTPClientError, match="401"):
        stream(public, told_health, Cookie="edgelstm_page=9999999999.abc")


def test_the_token_gives_a_cookie_once(public: Visitor) -> None:
    answer = public.ask(f"/?token={TOKEN.replace(' ', '+')}")
    assert answer.status == 303
    assert answer.headers["Location"] == "/"
    (cookie,) = answer.cookies
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert TOKEN.replace(" ", "+") not in cookie
    assert public.ask("/", Cookie=answer.cookie).status == 200
    assert stream(public, told_health, Cookie=answer.cookie)["gateway"] == "pump-room"


def test_the_form_takes_the_token_too(public: Visitor) -> None:
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    wrong = public.ask("/login", "POST", "token=wrong", **form)
    assert (wrong.status, wrong.cookies) == (303, [])
    right = public.ask("/login", "POST", f"token={TOKEN.replace(' ', '+')}", **form)
    assert public.ask("/", Cookie=right.cookie).status == 200


def test_a_program_sends_the_token_in_a_header(public: Visitor) -> None:
    answer = public.ask("/api/alerts/x/evidence", Authorization=f"Bearer {TOKEN}")
    assert answer.status == 200
    assert public.ask("/api/alerts/x/evidence", Authorization="Bearer no").status == 401


def test_who_guesses_five_times_waits_also_with_the_right_token(public: Visitor) -> None:
    cookie = public.ask(f"/?token={TOKEN.replace(' ', '+')}").cookie
    statuses = [public.ask(f"/?token=wrong{number}").status for number in range(6)]
    assert statuses == [401] * 5 + [429]
    assert public.ask(f"/?token={TOKEN.replace(' ', '+')}").status == 429
    assert public.ask("/", Cookie=cookie).status == 200  # who is in stays in


def test_the_token_is_never_logged(public: Visitor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    public.ask("/?token=wrong-one")
    public.ask("/nothing?token=wrong-one")
    public.ask("/stream?token=wrong-one")
    acknowledge(public, "x", "{}", Cookie="edgelstm_xsrf=1", X_XSRFToken="no")
    public.ask("/api/alerts/x/acknowledgement?token=wrong-one", "POST", "{}")
    public.ask(f"/?token={TOKEN.replace(' ', '+')}")
    assert "wrong-one" not in caplog.text
    assert TOKEN not in caplog.text
    assert TOKEN.replace(" ", "+") not in caplog.text


@pytest.mark.parametrize("token", [None, Secret("")])
def test_others_may_not_come_without_a_token(feed: FakeFeed, token: Secret | None) -> None:
    with pytest.raises(ConfigurationError, match="needs a token"):
        Dashboard(DashboardSettings("0.0.0.0", 0, token), feed)  # noqa: S104


def test_a_port_that_is_taken_is_told_at_once(feed: FakeFeed) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match="address already in use") as told:
            Dashboard(DashboardSettings(port=port), feed).start()
    assert f"127.0.0.1:{port}" in str(told.value)


def test_without_tornado_the_way_out_is_told(
    feed: FakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tornado.web", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgelstm\[dashboard\]'"):
        Dashboard(DashboardSettings(port=0), feed)


def test_it_ends_with_its_thread_and_its_port_and_says_goodbye(feed: FakeFeed) -> None:
    before = threading.active_count()
    dashboard = Dashboard(DashboardSettings(port=0), feed)
    dashboard.close()  # before it began
    dashboard.start()
    visitor = Visitor(dashboard)
    ending = threading.Timer(0.3, dashboard.close)

    async def look(connection: WebSocketClientConnection) -> int | None:
        await told(connection, "health")
        ending.start()
        while await connection.read_message() is not None:
            pass
        return connection.close_code

    assert stream(visitor, look) == 1001
    ending.join()
    dashboard.close()
    with pytest.raises(ConnectionRefusedError):
        visitor.ask("/")
    assert threading.active_count() <= before


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("history", [0.01, 4.0], ids=["of what is new", "of what was before"])
def test_who_never_reads_is_dropped(monkeypatch: pytest.MonkeyPatch, history: float) -> None:
    monkeypatch.setattr(handlers, "MOST_UNSENT", 30_000)
    monkeypatch.setattr(handlers, "_KERNEL_BUFFER", 4096)
    monkeypatch.setattr(hub_module, "MOST_ROWS_A_SECOND", 10_000)
    if history > 1:
        monkeypatch.setattr(handlers, "MOST_UNSENT", 10**9)
        monkeypatch.setattr(handlers, "_PATIENCE_S", 0.2)
    now = 1.8e9
    feed = FakeFeed(channels=8, rate=1000, history=history, clock=lambda: now)
    dashboard = Dashboard(DashboardSettings(port=0), feed)
    dashboard.start()
    try:
        visitor = Visitor(dashboard)
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            lazy.connect(("127.0.0.1", visitor.port))
            lazy.sendall(
                b"GET /stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            wish = b'{"subscribe": "pump"}'
            lazy.sendall(bytes([0x81, 0x80 | len(wish), 0, 0, 0, 0]) + wish)
            hub = dashboard.hub
            assert hub is not None
            wait_until(lambda: hub.clients == 1)
            if history < 1:
                wait_until(lambda: any(one.clients for one in hub._streams.values()))
                feed.advance(now + 4)
            wait_until(lambda: hub.clients == 0)
            assert stream(visitor, told_health)["gateway"] == "pump-room"
    finally:
        dashboard.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "[::1]"])
def test_this_computer_has_several_names(feed: FakeFeed, host: str) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    dashboard = Dashboard(DashboardSettings(host, 0), feed)
    try:
        dashboard.start()
    except ConfigurationError:
        if ":" in host:
            pytest.skip("this machine has no IPv6")
        raise
    try:
        address = "::1" if ":" in host else "127.0.0.1"
        port = int(dashboard.url.rstrip("/").rpartition(":")[2])
        with socket.create_connection((address, port), 5):
            pass
        assert dashboard.url == f"http://{'[::1]' if ':' in host else host}:{port}/"
    finally:
        dashboard.close()
