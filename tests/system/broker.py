"""A real mosquitto, as open or as closed as a test wants it, and a client that listens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

LOCALHOST = "127.0.0.1"
PATIENCE_S = 20.0
USER, PASSWORD = "edge", "hunter2"
WATCHER, WATCHED_WITH = "watcher", "looks on"
ACL = """
user edge
topic readwrite edgelstm/#
topic readwrite homeassistant/#

user watcher
topic readwrite #

user guest
topic read edgelstm/#
"""


def tool(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("needs an MQTT broker: sudo apt-get install mosquitto")
    return found


class Certificates:
    """An authority of our own, the broker's certificate and a client's.

    Args:
        folder: for the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = folder / "ca.pem"
        self._openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
            "-subj /CN=authority -keyout ca.key -out ca.pem"
        )
        self.certificate, self.key = self.issue("broker")

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate and its key."""
        (self.folder / "san").write_text(f"subjectAltName=IP:{LOCALHOST}\n")
        self._openssl(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
            f"-subj /CN={name} -keyout {name}.key -out {name}.csr"
        )
        self._openssl(
            f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
            f"-extfile san -out {name}.pem"
        )
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def _openssl(self, arguments: str) -> None:
        openssl = shutil.which("openssl")
        assert openssl is not None
        subprocess.run(
            [openssl, *arguments.split()], cwd=self.folder, check=True, capture_output=True
        )


class Broker:
    """A mosquitto of our own, on a free port that it keeps over restarts.

    Args:
        folder: for its files.
        settings: further lines of its configuration.
        certificates: with them it speaks TLS.
        closed: whether it wants a password, and has an ACL.
        persistent: whether it finds again what it had.
    """

    def __init__(
        self,
        folder: Path,
        *settings: str,
        certificates: Certificates | None = None,
        closed: bool = False,
        persistent: bool = False,
    ) -> None:
        self.port = free_port()
        self.certificates = certificates
        self.closed = closed
        self._config = folder / "mosquitto.conf"
        lines = [f"listener {self.port} {LOCALHOST}", "user root"]
        if persistent:
            lines += ["persistence true", f"persistence_location {folder}/"]
        if certificates is not None:
            lines += [f"certfile {certificates.certificate}", f"keyfile {certificates.key}"]
            lines += [f"cafile {certificates.authority}"]
        if closed:
            passwords, rights = folder / "passwords", folder / "rights"
            passwords.touch()
            for login in ((USER, PASSWORD), (WATCHER, WATCHED_WITH), ("guest", "guest")):
                command: list[str | Path] = [
                    tool("mosquitto_passwd"),
                    "-b",
                    passwords,
                    *login,
                ]
                subprocess.run(command, check=True, capture_output=True)
            rights.write_text(ACL)
            lines += ["allow_anonymous false", f"password_file {passwords}", f"acl_file {rights}"]
        else:
            lines.append("allow_anonymous true")
        self._config.write_text("\n".join((*lines, *settings, "")))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command: list[str | Path] = [tool("mosquitto"), "-c", self._config]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(lambda: _answers(self.port))

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stops it as a network that swallows everything would; `kill` still works."""
        self.signal(signal.SIGSTOP)

    def save(self) -> None:
        """Writes what it holds to the disk."""
        self.signal(signal.SIGUSR1)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Came(NamedTuple):
    """A message that came."""

    topic: str
    payload: bytes
    retained: bool
    time: float  # monotonic
    properties: dict[str, str]

    @property
    def data(self) -> Any:
        return json.loads(self.payload)


class Watcher:
    """Hears every message, also after the broker came back, and knows what is retained.

    Args:
        broker: to listen to.
        client_id: one that is given keeps its session, so that nothing is missed meanwhile.
    """

    def __init__(self, broker: Broker, client_id: str = "") -> None:
        self.messages: list[Came] = []
        self.last: dict[str, bytes] = {}
        """The last payload of each topic, but for the empty ones."""
        self.connected = threading.Event()
        client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
        if broker.closed:
            client.username_pw_set(WATCHER, WATCHED_WITH)
        if broker.certificates is not None:
            context = ssl.create_default_context(cafile=broker.certificates.authority)
            client.tls_set_context(context)
        client.reconnect_delay_set(0.05, 0.1)  # type: ignore[arg-type]
        client.on_connect = self._subscribe
        client.on_subscribe = lambda *_: self.connected.set()
        client.on_disconnect = lambda *_: self.connected.clear()
        client.on_message = self._take
        client.suppress_exceptions = True
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600 if client_id else 0
        client.connect(LOCALHOST, broker.port, 10, clean_start=not client_id, properties=properties)
        client.loop_start()
        self._client = client
        assert self.connected.wait(PATIENCE_S)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, 1, retain).wait_for_publish(PATIENCE_S)

    def of(self, topic: str) -> list[Came]:
        return [message for message in list(self.messages) if message.topic == topic]

    def payloads(self, topic: str) -> list[bytes]:
        return [message.payload for message in self.of(topic)]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _subscribe(self, client: Client, *_: object) -> None:
        client.subscribe("#", 1)

    def _take(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        now = time.monotonic()
        properties = dict(getattr(message.properties, "UserProperty", ()))
        came = Came(message.topic, bytes(message.payload), message.retain, now, properties)
        self.messages.append(came)
        self.last[came.topic] = came.payload
        if not came.payload:
            del self.last[came.topic]


def retained(broker: Broker) -> dict[str, bytes]:
    """What the broker keeps for those who come later, by topic."""
    with Watcher(broker) as watcher:
        mark = "mark/of/the/end"
        watcher.publish(mark, b"1")
        wait_until(lambda: mark in watcher.last)
        return {came.topic: came.payload for came in watcher.messages if came.retained}


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


def wait_until(condition: Callable[[], bool], patience: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
