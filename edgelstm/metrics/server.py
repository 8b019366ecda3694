"""`MetricsServer`: a small web server for those who ask how the service is."""

from __future__ import annotations

import json
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from edgelstm.configuration.hosts import host_name, is_loopback
from edgelstm.configuration.settings import MetricsSettings
from edgelstm.errors import ConfigurationError, MissingDependencyError
from edgelstm.health import Health, Status
from edgelstm.health_data import describe

_LOG = logging.getLogger(__name__)
_MOST_CONNECTIONS = 16
_MOST_THREADS = 64  # those included that wait for a health that does not come
_PATIENCE_S = 10.0  # for one connection, from its first byte to its last
_LOOK_S = 0.5  # between two looks for those that take longer

Body = tuple[HTTPStatus, str, bytes]
"""Status, content type, content."""


class MetricsServer:
    """Serves `/metrics` for Prometheus and `/healthz` for whoever restarts or balances services.

    Each connection has a thread of its own, ten seconds, and one answer. There are sixteen at most:
    the oldest has to go when another comes, so that slow clients keep nobody else out. While the
    health itself does not come, nobody is answered, and threads do not pile up.

    Args:
        settings: where it listens.
        health: how the service is now; it is called for each request, in the request's thread.

    Raises:
        MissingDependencyError: prometheus-client is not installed.
    """

    def __init__(self, settings: MetricsSettings, health: Callable[[], Health]) -> None:
        self._settings = settings
        self._answers = {"/metrics": _metrics(health), "/healthz": _healthz(health)}
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listens from now on.

        Raises:
            ConfigurationError: the address is not of this computer, or the port is taken.
        """
        host, port = self._settings.host, self._settings.port
        try:
            self._server = _Server(host, port, self._answers)
        except OSError as error:
            raise ConfigurationError(
                f"Figures cannot be served at {_authority(host, port)} ({error.strerror}); give "
                "'metrics' another host or port."
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_LOOK_S,), name="metrics", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens, such as `http://127.0.0.1:9465`; with the port that it really has.

        Raises:
            RuntimeError: it was not started.
        """
        if self._server is None:
            raise RuntimeError("The server was not started.")
        return f"http://{_authority(self._settings.host, self._server.server_address[1])}"

    def close(self) -> None:
        """Stops, with whatever is under way; may be called twice."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.drop_older_than(0.0)
        self._server = self._thread = None


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _metrics(health: Callable[[], Health]) -> Callable[[str], Body]:
    """Answers with the figures in the format that the client accepts."""
    try:
        from prometheus_client import CollectorRegistry, ProcessCollector
        from prometheus_client.exposition import choose_encoder
    except ImportError as error:
        raise MissingDependencyError(
            "Figures for Prometheus need prometheus-client; run: pip install 'edgelstm[metrics]'"
        ) from error
    from edgelstm.metrics.collector import HealthCollector

    registry = CollectorRegistry()
    registry.register(HealthCollector(health))
    ProcessCollector(registry=registry)

    def answer(accept: str) -> Body:
        encode, content_type = choose_encoder(accept)
        return HTTPStatus.OK, content_type, encode(registry)

    return answer


def _healthz(health: Callable[[], Health]) -> Callable[[str], Body]:
    """Answers 503 when nothing is watched, and in any case says why."""

    def answer(_accept: str) -> Body:
        now = health()
        failing = now.status is Status.FAILING
        status = HTTPStatus.SERVICE_UNAVAILABLE if failing else HTTPStatus.OK
        text = json.dumps(describe(now), indent=2)
        return status, "application/json", text.encode() + b"\n"

    return answer


class _Server(socketserver.ThreadingMixIn, HTTPServer):
    """Accepts connections, and ends those that take too long."""

    daemon_threads = True
    request_queue_size = _MOST_CONNECTIONS

    def __init__(self, host: str, port: int, answers: dict[str, Callable[[str], Body]]) -> None:
        self.answers = answers
        self.is_local = is_loopback(host)
        self._open: dict[socket.socket, float] = {}  # and when they came, the oldest first
        self._lock = threading.Lock()
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        self.address_family = found[0][0]
        super().__init__(found[0][4][:2], _Handler)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        """Binds, and asks no name server for a name: that may take a minute."""
        if self.address_family == socket.AF_INET6:
            # As other programs have it: :: is every network, the older ones included.
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begins with one connection."""
        with self._lock:
            takes = len(self._open) < _MOST_THREADS
            if takes:
                self._open[request] = time.monotonic()
                for old in list(self._open)[:-_MOST_CONNECTIONS]:
                    _hang_up(old)
        if takes:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Ends one connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Is called twice a second."""
        self.drop_older_than(_PATIENCE_S)

    def drop_older_than(self, seconds: float) -> None:
        """Hangs up on those that came so long ago; their threads then end by themselves."""
        latest = time.monotonic() - seconds
        with self._lock:
            for request, came in self._open.items():
                if came > latest:
                    break
                _hang_up(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A client that went away, or was made to, is nothing to speak of."""
        _LOG.debug("The connection of %s broke.", client_address, exc_info=True)


def _hang_up(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it went by itself


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: _Server
    timeout = _PATIENCE_S
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain"

    def do_GET(self) -> None:
        """Answers with what was asked for."""
        # Another site's page can have its own name resolve to this computer (DNS rebinding), but
        # cannot send another name than its own.
        name = host_name(self.headers.get("Host", "localhost"))
        if self.server.is_local and (name is None or not is_loopback(name)):
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"Unknown host.\n")
            return
        answer = self.server.answers.get(self.path.partition("?")[0])
        if answer is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"There are /metrics and /healthz.\n")
            return
        try:
            status, content_type, body = answer(self.headers.get("Accept", ""))
        except Exception:  # whatever it is, the next one who asks gets an answer again
            _LOG.exception("The health of the service could not be told.")
            body = b"The health could not be told; the log has why.\n"
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", body)
            return
        self._send(status, content_type, body)

    do_HEAD = do_GET  # noqa: N815 - the names are those of the base class

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_response(self, code: int, message: str | None = None) -> None:
        """Begins an answer; without a word on what answers."""
        self.log_request(code)
        self.send_response_only(code, message)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as in the base class
        """A scrape every few seconds is no news."""
        _LOG.debug(format, *args)
