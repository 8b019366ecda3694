"""`Dashboard`: the page's server, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from typing import TYPE_CHECKING

from edgelstm.configuration.settings import DashboardSettings
from edgelstm.dashboard.access import Keeper
from edgelstm.dashboard.hub import Hub
from edgelstm.errors import ConfigurationError, MissingDependencyError
from edgelstm.feed import Feed

if TYPE_CHECKING:
    from tornado.httpserver import HTTPServer

_LARGEST_BODY = 16_384
_LARGEST_MESSAGE = 4096
_PING_S = 20.0
_IDLE_S = 60.0
_CLOSING_S = 10.0


class Dashboard:
    """A page with the live signal, its prediction, the score, the alerts and the health.

    Args:
        settings: where it is, and the token of those who may look on.
        feed: what it shows.

    Raises:
        ConfigurationError: others than this computer could reach it, and there is no token.
        MissingDependencyError: Tornado is not installed.
    """

    def __init__(self, settings: DashboardSettings, feed: Feed) -> None:
        if settings.public and (settings.token is None or not settings.token.reveal()):
            raise ConfigurationError(
                f"The page on {settings.host} can be seen by others than this computer, so it "
                'needs a token: give [dashboard] one, or host = "127.0.0.1".'
            )
        try:
            import tornado.web  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                "The page needs tornado; run: pip install 'edgelstm[dashboard]'"
            ) from error
        self._settings, self._feed = settings, feed
        self._sockets: list[socket.socket] = []
        self._port = settings.port
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._running = threading.Event()
        self.hub: Hub | None = None
        """Who looks on; of the page's own thread. None before `start`."""

    @property
    def url(self) -> str:
        """Where a browser finds the page, without the token."""
        host = self._settings.host.strip("[]")
        if host in ("", "0.0.0.0", "::"):  # noqa: S104  # only compared
            host = socket.gethostname()
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}/"

    def start(self) -> None:
        """Takes the port at once, and serves the page from a thread of its own.

        Raises:
            ConfigurationError: the port is taken, or the host is none of this computer's.
        """
        settings = self._settings
        try:
            self._sockets = _listening(settings.host.strip("[]"), settings.port)
        except OSError as error:
            raise ConfigurationError(
                f"The page cannot be at {settings.host}:{settings.port}, because "
                f"{(error.strerror or str(error)).lower()}: give [dashboard] another port or "
                "host; port = 0 takes a free one."
            ) from error
        self._port = self._sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="dashboard", daemon=True)
        self._thread.start()
        self._running.wait()

    def close(self) -> None:
        """Says goodbye to those who look on, and ends the thread; may be called twice."""
        thread, loop, stop = self._thread, self._loop, self._stop
        if thread is None:
            return
        self._thread = None
        if loop is not None and stop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(stop.set)
        thread.join(_CLOSING_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._running.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.hub = hub = Hub(self._feed)
        server = self._server(hub)
        server.add_sockets(self._sockets)
        hub_runs = asyncio.create_task(hub.run())
        self._running.set()
        try:
            await self._stop.wait()
        finally:
            server.stop()
            hub_runs.cancel()
            await hub.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.close_all_connections(), 1.0)

    def _server(self, hub: Hub) -> HTTPServer:
        from tornado.httpserver import HTTPServer
        from tornado.web import Application

        from edgelstm.dashboard.handlers import (
            ASSETS,
            XSRF_COOKIE,
            AcknowledgementHandler,
            AlertHandler,
            AssetHandler,
            LoginHandler,
            NothingHandler,
            PageHandler,
            Site,
            StreamHandler,
        )

        settings = self._settings
        site = {"site": Site(self._feed, hub, Keeper(settings.token), settings.public)}
        alert = r"/api/alerts/([0-9A-Za-z._:-]{1,64})"
        application = Application(
            [
                (r"/", PageHandler, site),
                (r"/login", LoginHandler, site),
                (r"/stream", StreamHandler, site),
                (rf"{alert}/evidence", AlertHandler, site),
                (rf"{alert}/acknowledgement", AcknowledgementHandler, site),
                (r"/assets/([0-9A-Za-z._-]+)", AssetHandler, {**site, "path": str(ASSETS)}),
            ],
            default_handler_class=NothingHandler,
            default_handler_args=site,
            xsrf_cookies=True,
            xsrf_cookie_name=XSRF_COOKIE,
            xsrf_cookie_kwargs={"samesite": "Strict"},
            websocket_ping_interval=_PING_S,
            websocket_ping_timeout=_PING_S,
            websocket_max_message_size=_LARGEST_MESSAGE,
            # Tornado's own access log would have the token in it.
            log_function=lambda _: None,
        )
        return HTTPServer(
            application,
            idle_connection_timeout=_IDLE_S,
            body_timeout=_IDLE_S,
            max_body_size=_LARGEST_BODY,
            max_header_size=_LARGEST_BODY,
        )


def _listening(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen at all addresses of a host, such as ::1 and 127.0.0.1 of localhost.

    Tornado's own `bind_sockets` leaves sockets open when one of them fails.

    Raises:
        OSError: none can.
    """
    found: list[socket.socket] = []
    passive = socket.AI_PASSIVE
    addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=passive)
    problem: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(addresses):
        try:
            made = socket.socket(family, kind, protocol)
        except OSError as error:  # no IPv6 here
            problem = error
            continue
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # With port 0 all take the one that the first got.
            own = found[0].getsockname()[1] if found else port
            made.bind((address[0], own, *address[2:]))
            made.listen(128)
            made.setblocking(False)
        except OSError as error:
            made.close()
            problem = error
            if error.errno == errno.EADDRINUSE:
                break
            continue
        found.append(made)
    if problem is not None and (not found or problem.errno == errno.EADDRINUSE):
        for each in found:
            each.close()
        raise problem
    return found
