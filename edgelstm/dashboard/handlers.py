"""What the page's server answers: the page, its assets, the stream, alerts. Needs Tornado."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tornado.iostream import IOStream
from tornado.web import HTTPError, RequestHandler, StaticFileHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from edgelstm.configuration.hosts import host_name, is_loopback
from edgelstm.dashboard.access import COOKIE_DAYS, Keeper, same_origin
from edgelstm.dashboard.hub import Hub
from edgelstm.dashboard.view import to_json
from edgelstm.errors import ConfigurationError
from edgelstm.feed import Feed
from edgelstm.notice import Acknowledgement

ASSETS = Path(__file__).parent / "assets"
COOKIE = "edgelstm_page"
XSRF_COOKIE = "edgelstm_xsrf"
MOST_CLIENTS = 20
MOST_UNSENT = 1_000_000
"""Bytes that wait for a client that does not read; then it is dropped."""
_KERNEL_BUFFER = 262_144  # bytes that the system holds for it beside that
_PATIENCE_S = 30.0  # for a client that is sent what was before
# Close codes of WebSocket.
_GOING_AWAY, _BAD_MESSAGE, _TRY_AGAIN_LATER = 1001, 1003, 1013

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Site:
    """What all handlers share.

    Attributes:
        feed: what is shown.
        hub: gives it to those who look on.
        keeper: of the door.
        public: whether others than this computer may come, with a token.
    """

    feed: Feed
    hub: Hub
    keeper: Keeper
    public: bool


class _Guarded(RequestHandler):
    """Refuses foreign hosts and whoever has no token; never logs a query, which may have it."""

    open_to_all = False

    def initialize(self, site: Site) -> None:
        self.site = site

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        # Another site's page can have its own name resolve to this computer (DNS rebinding), but
        # cannot send another name than its own.
        name = host_name(self.request.headers.get("Host", ""))
        if name is None or not (self.site.public or is_loopback(name)):
            raise HTTPError(403, reason="Unknown host")
        if self.request.method == "POST" and self.request.headers.get("Sec-Fetch-Site") in (
            "cross-site",
            "same-site",
        ):
            raise HTTPError(403)  # nobody else's page guesses, or locks people out
        if not (self.open_to_all or self.is_known()):
            raise HTTPError(401)

    def is_known(self) -> bool:
        """Whether whoever asks has a cookie or sends the token."""
        return self.site.keeper.accepts(self.get_cookie(COOKIE)) or self.sends_token()

    def sends_token(self) -> bool:
        """Whether whoever asks is a program with the token."""
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.knows(token.strip())

    def check_xsrf_cookie(self) -> None:
        """Only of browsers: another site's page cannot make one send this header."""
        if not (self.site.public and self.sends_token()):
            super().check_xsrf_cookie()

    def knows(self, token: str) -> bool:
        """Whether the token is right.

        Raises:
            HTTPError: too many wrong ones came from there.
        """
        address = self.request.remote_ip or ""
        if self.site.keeper.must_wait(address):
            raise HTTPError(429)
        return self.site.keeper.knows(token, address)

    def let_in(self) -> None:
        """Gives the cookie, and takes the token out of the address."""
        self.set_cookie(
            COOKIE,
            self.site.keeper.cookie(),
            expires_days=COOKIE_DAYS,
            httponly=True,
            samesite="Strict",
            path="/",
        )
        self.redirect("/", status=303)

    def write_error(self, status_code: int, **_: Any) -> None:
        sentence = _SENTENCES.get(status_code, self._reason)
        if "text/html" in self.request.headers.get("Accept", ""):  # somebody at a browser
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(sentence)
        else:
            self.set_header("Content-Type", "application/json")
            self.finish(to_json({"error": sentence}))

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        if isinstance(value, HTTPError):
            _log.debug("%s %s: %s", self.request.method, self.request.path, value.status_code)
        else:
            _log.error(
                "The page's %s %s failed.",
                self.request.method,
                self.request.path,
                exc_info=(typ, value, tb),  # type: ignore[arg-type]  # there is an exception
            )


_SENTENCES = {
    401: "This page needs the token of its configuration.",
    403: "This request did not come from the page itself.",
    404: "There is no such thing here.",
    429: "Too many wrong tokens came from there; wait a minute.",
}


class PageHandler(_Guarded):
    """The page, or the way in."""

    open_to_all = True

    async def get(self) -> None:
        """`?token=` gives the cookie, once."""
        token = self.get_query_argument("token", "")
        known = self.is_known()
        if token and (known or self.knows(token)):
            self.let_in()
            return
        self.xsrf_token  # noqa: B018  # makes Tornado give the cookie
        if not known:
            self.set_status(401)
        page = ASSETS / ("index.html" if known else "login.html")
        await self.finish(page.read_bytes())


class LoginHandler(_Guarded):
    """Takes the token from the form."""

    open_to_all = True

    def check_xsrf_cookie(self) -> None:
        """Not here: with the token one is let in from anywhere, and the form needs no script."""

    def post(self) -> None:
        """The way in."""
        if self.knows(self.get_body_argument("token", "")):
            self.let_in()
        else:
            self.redirect("/#wrong", status=303)


class AlertHandler(_Guarded):
    """The readings around an alert."""

    async def get(self, alert_id: str) -> None:
        """As JSON; null when none were kept."""
        evidence = await asyncio.to_thread(self.site.feed.evidence, alert_id)
        self.set_header("Content-Type", "application/json")
        await self.finish(to_json(None if evidence is None else evidence.to_dict()))


class AcknowledgementHandler(_Guarded):
    """Somebody has seen an alert."""

    async def post(self, alert_id: str) -> None:
        """`{"by": who, "note": what they say}`."""
        self.set_header("Content-Type", "application/json")
        try:
            given = json.loads(self.request.body)
            seen = Acknowledgement.given(0.0, given["by"], given.get("note", ""))
        except ConfigurationError as error:
            self.set_status(400)
            await self.finish(to_json({"error": str(error)}))
            return
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise HTTPError(400, reason="This is no acknowledgement") from None
        try:
            await asyncio.to_thread(self.site.feed.acknowledge, alert_id, seen.by, seen.note)
        except ConfigurationError as error:
            self.set_status(409)
            await self.finish(to_json({"error": str(error)}))
            return
        await self.site.hub.refresh()
        await self.finish("{}")


class StreamHandler(_Guarded, WebSocketHandler):
    """One page that looks on, a `Client` of the hub.

    It is told all by the hub; it only says what it wants to see:
    `{"subscribe": sensor, "epoch": ..., "since": ...}`, see `Hub.subscribe`.
    """

    def initialize(self, site: Site) -> None:
        """Nothing waits yet."""
        super().initialize(site)
        self._unsent = 0
        self._all_sent = asyncio.Event()
        self._all_sent.set()
        self._gone = False

    def check_origin(self, origin: str) -> bool:
        """Only the page itself looks on."""
        return same_origin(origin, self.request.headers.get("Host", ""))

    def open(self, *_: str, **__: str) -> None:
        """Takes the client on, unless there are too many."""
        if self.site.hub.clients >= MOST_CLIENTS:
            self._gone = True
            self.close(_TRY_AGAIN_LATER, "too many pages look on")
            return
        self.set_nodelay(True)
        stream = None if self.ws_connection is None else self.ws_connection.stream
        if isinstance(stream, IOStream):
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BUFFER)
        self.site.hub.add(self)

    def on_message(self, message: str | bytes) -> None:
        """It says what it wants to see."""
        try:
            wish = json.loads(message)
            sensor, epoch, since = wish["subscribe"], wish.get("epoch", ""), wish.get("since", 0)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            sensor = epoch = since = None
        if isinstance(sensor, str) and isinstance(epoch, str) and type(since) is int:
            self.site.hub.subscribe(self, sensor, epoch, since)
        else:
            self.close(_BAD_MESSAGE, "not understood")

    def on_close(self) -> None:
        """It has gone."""
        self._gone = True
        self._all_sent.set()
        self.site.hub.remove(self)

    def send(self, message: bytes | str) -> None:
        """See `Client`; a client for which too much waits is dropped."""
        if self._gone:
            return
        size = len(message)
        if self._unsent + size > MOST_UNSENT:
            _log.info("A page at %s does not read; it is dropped.", self.request.remote_ip)
            self.drop()
            return
        try:
            written = self.write_message(message, binary=isinstance(message, bytes))
        except WebSocketClosedError:
            return
        self._unsent += size
        self._all_sent.clear()
        written.add_done_callback(lambda done: self._written(done, size))

    async def sent(self) -> None:
        """See `Client`."""
        try:
            await asyncio.wait_for(self._all_sent.wait(), _PATIENCE_S)
        except TimeoutError:
            self.drop()
        if self._gone:
            raise ConnectionError("The client has gone.")

    def _written(self, done: asyncio.Future[None], size: int) -> None:
        self._unsent -= size
        if not done.cancelled():
            done.exception()  # a client that has gone is no news
        if self._unsent == 0:
            self._all_sent.set()

    def leave(self) -> None:
        """See `Client`."""
        self.close(_GOING_AWAY)

    def drop(self) -> None:
        """See `Client`; a closing handshake would wait behind what it does not read."""
        self._gone = True
        self._all_sent.set()
        self.site.hub.remove(self)
        if self.ws_connection is not None:
            self.ws_connection._abort()


class AssetHandler(_Guarded, StaticFileHandler):
    """What the page is made of; nothing in it is secret, and the way in needs some of it."""

    open_to_all = True

    def initialize(self, site: Site, path: str) -> None:  # type: ignore[override]
        """Takes the folder, too."""
        _Guarded.initialize(self, site)
        StaticFileHandler.initialize(self, path)


class NothingHandler(_Guarded):
    """All other addresses."""

    open_to_all = True

    def prepare(self) -> None:
        """Says that there is nothing."""
        super().prepare()
        raise HTTPError(404)
