"""The web server of the figures, over real connections: what clients may do to it."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from edgelstm.configuration.settings import MetricsSettings
from edgelstm.errors import ConfigurationError
from edgelstm.health import Health, SensorHealth, Status
from edgelstm.latency import LatencyHistogram
from edgelstm.metrics import MetricsServer, server
from edgelstm.pipeline import PipelineCounters

SENSOR = SensorHealth(
    "pump",
    "pump.tflite",
    "ab" * 32,
    "int8",
    "ai-edge-litert",
    "board",
    Status.OK,
    PipelineCounters(readings=7),
    alerts=0,
    open_alerts=0,
    last_reading=None,
    silent_for=0.0,
    score=None,
    threshold=None,
    warming_up=True,
    latency=LatencyHistogram(),
)
_SOON_S = 5.0  # well before the server would lose patience
HEALTH = Health("gate", "1.0", 0.0, 1.0, (SENSOR,))


@contextmanager
def serving(
    health: Callable[[], Health] = lambda: HEALTH, host: str = "127.0.0.1"
) -> Iterator[MetricsServer]:
    metrics = MetricsServer(MetricsSettings(host=host, port=0), health)
    metrics.start()
    try:
        yield metrics
    finally:
        metrics.close()


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    at = urlsplit(url)
    with closing(HTTPConnection(at.hostname or "", at.port, timeout=30)) as connection:
        connection.request(method, f"{at.path}?{at.query}", headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read().decode()


def connect(metrics: MetricsServer) -> socket.socket:
    port = int(metrics.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def is_hung_up(client: socket.socket) -> bool:
    """Waits for the end of the connection."""
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def test_figures_for_prometheus() -> None:
    with serving() as metrics:
        status, headers, text = get(f"{metrics.url}/metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert 'edgelstm_readings_total{sensor="pump"} 7.0' in text
        assert "process_resident_memory_bytes" in text
        assert "Server" not in headers
        modern = get(f"{metrics.url}/metrics?x=1", Accept="application/openmetrics-text")
        assert modern[1]["Content-Type"].startswith("application/openmetrics-text")
        assert modern[2].endswith("# EOF\n")


def test_health() -> None:
    now = [HEALTH]
    with serving(lambda: now[0]) as metrics:
        for sensor, expected in (
            (SENSOR, 200),
            (replace(SENSOR, status=Status.DEGRADED, problem="is flat"), 200),
            (replace(SENSOR, status=Status.FAILING, problem="is silent"), 503),
        ):
            now[0] = replace(HEALTH, sensors=(sensor,))
            status, headers, text = get(f"{metrics.url}/healthz")
            assert status == expected
            assert headers["Content-Type"] == "application/json"
            told = json.loads(text)
            assert told["status"] == sensor.status.value
            assert told["sensors"]["pump"]["problem"] == sensor.problem


def test_other_requests() -> None:
    with serving() as metrics:
        assert get(metrics.url + "/")[0] == 404
        assert get(metrics.url + "/metrics/")[0] == 404
        with connect(metrics) as client:
            client.sendall(b"HEAD /healthz HTTP/1.0\r\n\r\n")
            head = client.makefile("rb").read()
        assert head.startswith(b"HTTP/1.0 200 ")
        assert head.endswith(b"\r\n\r\n")
        assert b"Content-Length: " in head
        status, headers, text = get(metrics.url + "/metrics", "POST")
        assert status == 501
        assert "Server" not in headers
        assert "<" not in text
        for nonsense in (
            b"\r\n\r\n",
            b"\x16\x03\x01 no http \x00\r\n\r\n",
            b"GET " + b"x" * 70_000,
        ):
            with connect(metrics) as client:
                client.sendall(nonsense)
                client.shutdown(socket.SHUT_WR)
                assert is_hung_up(client)
        assert get(metrics.url + "/healthz")[0] == 200


@pytest.mark.parametrize("name", ["evil.example", "evil.example:9465", "[::1", "127.0.0.1.evil"])
def test_a_page_of_another_site_gets_no_figures(name: str) -> None:
    with serving() as metrics:
        for path in ("/metrics", "/healthz"):
            assert get(f"{metrics.url}{path}", Host=name)[0] == 403
        assert get(f"{metrics.url}/healthz", Host="localhost:1")[0] == 200


def test_a_health_that_cannot_be_told(caplog: pytest.LogCaptureFixture) -> None:
    asked = 0

    def health() -> Health:
        nonlocal asked
        asked += 1
        if asked <= 2:
            raise RuntimeError("the sensor list is being changed")
        return HEALTH

    with serving(health) as metrics:
        for path in ("/metrics", "/healthz"):
            assert get(metrics.url + path)[0] == 500
        assert get(metrics.url + "/metrics")[0] == 200
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 2
    assert all("being changed" in str(record.exc_info) for record in errors)


def test_slow_clients_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than there are places: silent ones, slow ones, and one that never reads."""
    monkeypatch.setattr(server, "_PATIENCE_S", 600.0)
    before = threading.active_count()
    with serving() as metrics, ExitStack() as stack:
        clients = [stack.enter_context(connect(metrics)) for _ in range(50)]
        for client in clients[20:]:
            client.sendall(b"GET /metr")
        clients[0].settimeout(_SOON_S)
        assert is_hung_up(clients[0])
        for _ in range(20):
            assert get(metrics.url + "/metrics")[0] == 200
        assert threading.active_count() - before <= server._MOST_CONNECTIONS + 5


def test_a_health_that_does_not_come_piles_up_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MOST_CONNECTIONS", 2)
    monkeypatch.setattr(server, "_MOST_THREADS", 4)
    comes = threading.Event()

    def health() -> Health:
        assert comes.wait(30)
        return HEALTH

    before = threading.active_count()
    with serving(health) as metrics, ExitStack() as stack:
        for _ in range(10):
            link = stack.enter_context(closing(connect(metrics)))
            link.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert link.recv(10) == b""  # it was turned away
        assert threading.active_count() <= before + 5
        comes.set()
        deadline = time.monotonic() + _SOON_S
        while threading.active_count() > before + 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert get(f"{metrics.url}/healthz")[0] == 200


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then does not count as progress."""
    monkeypatch.setattr(server, "_PATIENCE_S", 0.5)
    with serving() as metrics, connect(metrics) as slow:
        stop = time.monotonic() + 30
        try:
            while time.monotonic() < stop:
                slow.sendall(b"G")
                time.sleep(0.05)
        except ConnectionError:
            pass
        else:
            pytest.fail("it was never hung up on")
        assert get(metrics.url + "/metrics")[0] == 200


def test_a_client_that_never_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE_S", 0.5)
    many = tuple(replace(SENSOR, name=f"pump {number:04} {'x' * 200}") for number in range(400))
    before = threading.active_count()
    with serving(lambda: replace(HEALTH, sensors=many)) as metrics:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", int(metrics.url.rpartition(":")[2])))
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            stop = time.monotonic() + 30
            while threading.active_count() > before + 1 and time.monotonic() < stop:
                time.sleep(0.05)
            assert threading.active_count() <= before + 1
        assert get(metrics.url + "/healthz")[0] == 200


def test_closing() -> None:
    metrics = MetricsServer(MetricsSettings(port=0), lambda: HEALTH)
    metrics.close()
    with pytest.raises(RuntimeError):
        _ = metrics.url
    metrics.start()
    url = metrics.url
    with connect(metrics) as waiting:
        assert get(url + "/healthz")[0] == 200
        metrics.close()
        metrics.close()
        waiting.settimeout(_SOON_S)
        assert is_hung_up(waiting)
    with pytest.raises(ConnectionError):
        get(url + "/healthz")


def test_a_port_that_is_taken() -> None:
    with serving() as metrics:
        port = int(metrics.url.rpartition(":")[2])
        other = MetricsServer(MetricsSettings(port=port), lambda: HEALTH)
        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port} \(Address already in"):
            other.start()
        other.close()


@pytest.mark.parametrize("host", ["192.0.2.7", "no such host"])
def test_an_address_that_is_not_here(host: str) -> None:
    metrics = MetricsServer(MetricsSettings(host=host, port=0), lambda: HEALTH)
    with pytest.raises(ConfigurationError, match="give 'metrics' another host or port"):
        metrics.start()


@pytest.mark.parametrize("host", ["::1", "::", "localhost", "0.0.0.0"])  # noqa: S104 - a test
def test_other_hosts(host: str) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with serving(host=host) as metrics:
        assert get(metrics.url + "/healthz")[0] == 200
        if host == "::":
            assert get(metrics.url.replace("[::]", "127.0.0.1") + "/healthz")[0] == 200


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_no_name_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, a start may not wait for one."""

    def ask(*_: Any) -> str:
        raise AssertionError("a name was looked up")

    monkeypatch.setattr(socket, "getfqdn", ask)
    monkeypatch.setattr(socket, "gethostbyaddr", ask)
    with serving() as metrics:
        assert get(metrics.url + "/healthz")[0] == 200
