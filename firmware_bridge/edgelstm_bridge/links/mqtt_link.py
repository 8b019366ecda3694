"""The messages of an MQTT topic as a link."""

from __future__ import annotations

import contextlib
import json
import os
import select
import ssl
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from edgelstm.errors import ConfigurationError, MissingDependencyError, SourceError
from edgelstm_bridge.links.link import Chunk, Link, LinkLost, arrived, is_closed
from edgelstm_bridge.links.socket_link import CONNECT_TIMEOUT_S, why_not_connected
from edgelstm_bridge.urls import SourceUrl

if TYPE_CHECKING:
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

_KEEP_ALIVE_S = 15


def chunk_of_message(payload: bytes) -> bytes:
    """Returns the bytes that a message stands for: a whole line, or frames as they are.

    JSON over several lines becomes one line; JSON lines stay what they are.
    """
    if not payload or b"\0" in payload:
        return payload
    text = payload.rstrip(b"\r\n")
    if b"\n" in text and text.lstrip()[:1] in (b"{", b"["):
        with contextlib.suppress(ValueError):
            json.loads(text)
            text = b" ".join(text.splitlines())
    return text + b"\n"


class MqttLink(Link):
    """Every message of a topic is a chunk; nothing is published.

    Messages that the broker had retained are left out: nobody knows how old they are.

    Raises:
        MissingDependencyError: paho-mqtt is not installed.
        ConfigurationError: the certificates of `ca` cannot be used.
        SourceError: the broker does not answer, or refuses the login or the topic.
    """

    def __init__(self, url: SourceUrl) -> None:
        self.description = f"{url.scheme}://{url.address}/{url.path}"
        self._url = url
        self._chunks: deque[Chunk] = deque()
        self._refusal: str | None = None
        self._lost_reason: str | None = None
        self._is_subscribed = False
        self._closing = False
        self._ending = threading.Lock()
        self._using = threading.Lock()
        self._client = _new_client(url)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_disconnect = self._on_disconnect
        self._awake, self._wake = os.pipe()
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def read(self, timeout: float) -> Chunk | None:
        """Waits for a message; see `Link.read`."""
        with self._using:
            deadline = time.monotonic() + timeout
            while not self._closing:
                if self._chunks:
                    return self._chunks.popleft()
                if self._lost_reason is not None:
                    raise LinkLost(f"Lost {self.description} ({self._lost_reason}).")
                left = deadline - time.monotonic()
                if left < 0:
                    return None
                self._turn(left)
            raise is_closed(self.description)

    def close(self) -> None:
        """Says goodbye to the broker and closes the connection."""
        with self._ending:
            if self._closing:
                return
            self._closing = True
        os.write(self._wake, b"\0")
        with self._using:
            os.close(self._wake)
            os.close(self._awake)
            self._client.disconnect()
            self._client.loop_misc()
            connection = self._client.socket()
            if connection is not None:  # the broker did not take the goodbye at once
                connection.close()

    def _connect(self) -> None:
        host, port = self._url.host, self._url.port or 0
        try:
            self._client.connect(host, port, _KEEP_ALIVE_S)
        except ssl.SSLError as error:
            raise SourceError(
                f"Cannot connect to {self._url.address}: no TLS with this broker "
                f"({error.reason or error}); name its authority's certificate with ?ca=FILE."
            ) from error
        except OSError as error:
            raise SourceError(why_not_connected(self._url, error)) from error
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while not self._is_subscribed:
            reason = self._refusal or self._lost_reason
            if reason is not None:
                raise SourceError(f"Cannot read {self.description}: {reason}.")
            left = deadline - time.monotonic()
            if left < 0:
                raise SourceError(f"{self._url.address} does not answer as an MQTT broker does.")
            self._turn(left)

    def _turn(self, timeout: float) -> None:
        """Waits for the broker and lets the client do what there is to do."""
        connection = self._client.socket()
        if connection is None:
            self._lost_reason = self._lost_reason or "the connection broke"
            return
        poller = select.poll()
        sends = select.POLLOUT if self._client.want_write() else 0
        poller.register(connection.fileno(), select.POLLIN | sends)
        poller.register(self._awake, select.POLLIN)
        # What TLS has decoded already, no poll shows.
        waits = isinstance(connection, ssl.SSLSocket) and connection.pending() > 0
        for descriptor, events in poller.poll(0 if waits else min(timeout, 1.0) * 1000):
            if descriptor == self._awake:
                return
            if events & select.POLLOUT:
                self._client.loop_write()
            if events & ~select.POLLOUT:
                waits = True
        if waits:
            self._client.loop_read()
        self._client.loop_misc()

    def _on_connect(
        self,
        client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._refusal = f"the broker refuses the login ({reason})"
        else:
            client.subscribe(self._url.path, self._url.qos)

    def _on_subscribe(
        self,
        _client: Client,
        _userdata: object,
        _number: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._refusal = "the broker refuses this topic; ask for the right to read it"
        else:
            self._is_subscribed = True

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        data = chunk_of_message(bytes(message.payload))
        if data and not message.retain:
            self._chunks.append(arrived(data))

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._lost_reason = str(reason)


def _new_client(url: SourceUrl) -> Client:
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError as error:
        raise MissingDependencyError(
            "Reading from MQTT needs paho-mqtt 2; run: pip install 'edgelstm[mqtt]'"
        ) from error
    # Opening again is the source's business, with its own delays.
    client = Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
    client.connect_timeout = CONNECT_TIMEOUT_S
    if url.username is not None:
        client.username_pw_set(url.username, url.password)
    if url.scheme == "mqtts":
        authority = url.options.get("ca")
        try:
            client.tls_set(authority)
        except OSError as error:
            raise ConfigurationError(
                f"The certificate file {authority} cannot be used: {error.strerror or error}."
            ) from error
    return client


def open_mqtt(url: SourceUrl) -> Link:
    """Subscribes to the topic of `url`; see `MqttLink`."""
    return MqttLink(url)
