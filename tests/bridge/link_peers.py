"""The other sides of links: ptys, servers, pipes and brokers, all of them real."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
import tty
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import serial
from paho.mqtt.publish import single
from serial.rfc2217 import PortManager

from edgelstm_bridge.capture import CaptureWriter, Kind, Record, capturing
from edgelstm_bridge.links import Link, LinkEnded, LinkLost, make_opener
from edgelstm_bridge.urls import parse_url

PATIENCE_S = 30.0
LOCALHOST = "127.0.0.1"


class Peer(ABC):
    """What a link is connected to."""

    url: str

    @abstractmethod
    def send(self, data: bytes) -> None: ...

    def received(self, size: int) -> bytes:
        """Waits for `size` bytes that the link wrote."""
        raise NotImplementedError

    def hang_up(self) -> None:
        raise NotImplementedError

    def close(self) -> None:  # noqa: B027 - not all have anything to close
        """Called at the end; may be called after `hang_up`."""

    def open(self) -> Link:
        return make_opener(parse_url(self.url))()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_for(descriptor: int, size: int) -> bytes:
    """Waits for so many bytes."""
    data = b""
    deadline = time.monotonic() + PATIENCE_S
    while len(data) < size:
        assert select.select([descriptor], [], [], deadline - time.monotonic())[0], data
        data += os.read(descriptor, size - len(data))
    return data


def write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def read_all(link: Link, size: int) -> bytes:
    """Reads so many bytes."""
    data = b""
    deadline = time.monotonic() + PATIENCE_S
    while len(data) < size:
        assert time.monotonic() < deadline, f"{len(data)} of {size} bytes came"
        chunk = link.read(1.0)
        if chunk is not None:
            assert chunk.data
            data += chunk.data
    return data


def read_to_end(link: Link) -> tuple[bytes, LinkLost | LinkEnded]:
    """Reads until the link is lost or ends, and returns how it did."""
    data = b""
    deadline = time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < deadline:
            chunk = link.read(1.0)
            data += chunk.data if chunk else b""
    except (LinkLost, LinkEnded) as end:
        return data, end
    raise AssertionError("the link did not end")


class PtyPeer(Peer):
    """A device on a pty."""

    def __init__(self) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        self.url = f"serial://{self.path}"
        os.close(slave)
        self._is_open = True

    def send(self, data: bytes) -> None:
        write_all(self.master, data)

    def received(self, size: int) -> bytes:
        return read_for(self.master, size)

    def hang_up(self) -> None:
        if self._is_open:
            self._is_open = False
            os.close(self.master)

    def close(self) -> None:
        self.hang_up()


class TcpPeer(Peer):
    """A TCP server for one connection at a time."""

    scheme = "socket"

    def __init__(self) -> None:
        self._server = socket.create_server((LOCALHOST, 0))
        self._connection: socket.socket | None = None
        self.url = f"{self.scheme}://{LOCALHOST}:{self._server.getsockname()[1]}"

    def send(self, data: bytes) -> None:
        self.connection().sendall(data)

    def received(self, size: int) -> bytes:
        return read_for(self.connection().fileno(), size)

    def hang_up(self) -> None:
        self.connection().close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._server.close()

    def connection(self) -> socket.socket:
        if self._connection is None:
            self._server.settimeout(PATIENCE_S)
            self._connection, _ = self._server.accept()
        return self._connection


class Rfc2217Peer(Peer):
    """A serial port (a pty) behind pyserial's own RFC 2217 server."""

    def __init__(self) -> None:
        self._device = PtyPeer()
        self.port = serial.Serial(self._device.path, 9600, timeout=0)
        self._server = socket.create_server((LOCALHOST, 0))
        self.url = f"rfc2217://{LOCALHOST}:{self._server.getsockname()[1]}?baud=115200"
        self._stop, self._stopper = os.pipe()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def send(self, data: bytes) -> None:
        self._device.send(data)

    def received(self, size: int) -> bytes:
        return self._device.received(size)

    def hang_up(self) -> None:
        if self._thread.is_alive():
            os.write(self._stopper, b"\0")
            self._thread.join()

    def close(self) -> None:
        self.hang_up()
        os.close(self._stop)
        os.close(self._stopper)
        self._server.close()
        self.port.close()
        self._device.close()

    def _serve(self) -> None:
        if self._stop in _readable(self._server.fileno(), self._stop):
            return
        connection, _ = self._server.accept()
        with connection, suppress(ConnectionError):  # the link was closed
            manager = _PortManager(self.port, _Writer(connection))  # type: ignore[arg-type]
            while True:
                ready = _readable(connection.fileno(), self.port.fileno(), self._stop)
                if self._stop in ready:
                    return
                if connection.fileno() in ready:
                    received = connection.recv(4096)
                    if not received:
                        return
                    self.port.write(b"".join(manager.filter(received)))
                if self.port.fileno() in ready:
                    connection.sendall(b"".join(manager.escape(self.port.read(4096))))


def _readable(*descriptors: int) -> list[int]:
    return select.select(descriptors, [], [])[0]


class _Writer:
    def __init__(self, connection: socket.socket) -> None:
        self.write = connection.sendall


class _PortManager(PortManager):
    def check_modem_lines(self, force_notification: bool = False) -> None:
        """A pty has none."""


class PipePeer(Peer):
    """The writing end of this process's standard input."""

    url = "stdin:"

    def __init__(self) -> None:
        self._saved = os.dup(0)
        reading, self._writing = os.pipe()
        os.dup2(reading, 0)
        os.close(reading)
        self._is_open = True

    def send(self, data: bytes) -> None:
        # A pipe holds 64 KB, and the reader may be this thread.
        assert len(data) <= 65_536
        write_all(self._writing, data)

    def hang_up(self) -> None:
        if self._is_open:
            self._is_open = False
            os.close(self._writing)

    def close(self) -> None:
        self.hang_up()
        os.dup2(self._saved, 0)
        os.close(self._saved)


class ReplayPeer(Peer):
    """A capture, played at the speed at which it was taken: it has to be written before."""

    def __init__(self, path: Path, *messages: bytes) -> None:
        self.url = f"replay:{path}?speed=1"
        begin = 1000.0
        with CaptureWriter(path, "serial:///dev/ttyACM0") as writer:
            writer.write(Record(Kind.CONNECTED, begin, 5.0, b"/dev/ttyACM0"))
            for message in messages:
                writer.write(Record(Kind.RECEIVED, begin + 0.5, 5.0, message))
            writer.write(Record(Kind.DISCONNECTED, begin + 1000, 5.0, b"Lost /dev/ttyACM0"))

    def send(self, data: bytes) -> None:
        """What it says was fixed before."""


class CapturedPeer(PtyPeer):
    """A device on a pty whose link is captured."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._writer = CaptureWriter(path, self.url)

    def open(self) -> Link:
        return capturing(super().open, self._writer)()

    def close(self) -> None:
        super().close()
        self._writer.close()


class Broker:
    """A mosquitto of our own, on a free port.

    Args:
        folder: for its files.
        settings: further lines of its configuration.
    """

    def __init__(self, folder: Path, *settings: str) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        lines = (f"listener {self.port} {LOCALHOST}", "persistence false", "user root", *settings)
        self._config.write_text("\n".join((*lines, "")))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [_mosquitto(), "-c", self._config],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: _answers(self.port))

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stops it as a network that swallows everything would; `kill` still works."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        single(topic, payload, qos=1, retain=retain, hostname=LOCALHOST, port=self.port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _mosquitto() -> str:
    found = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("needs an MQTT broker: sudo apt-get install mosquitto")
    return found


class MqttPeer(Peer):
    """A topic of a broker."""

    def __init__(self, broker: Broker, topic: str = "pump/1") -> None:
        self._broker = broker
        self._topic = topic
        self.url = f"mqtt://{LOCALHOST}:{broker.port}/{topic}?qos=1"

    def send(self, data: bytes) -> None:
        self._broker.publish(self._topic, data)


def free_port() -> int:
    with socket.create_server((LOCALHOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection((LOCALHOST, port), 1).close()
    except OSError:
        return False
    return True


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def linked(peer: Peer) -> Iterator[Link]:
    """A link to a peer, closed at the end."""
    with peer, peer.open() as link:
        yield link
