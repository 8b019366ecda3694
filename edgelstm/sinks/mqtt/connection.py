"""`Connection`: one connection to an MQTT broker, and what goes wrong with it in plain words."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgelstm.errors import MissingDependencyError, SinkError
from edgelstm.sinks.mqtt.config import BrokerOptions
from edgelstm.sinks.mqtt.reasons import (
    BECAUSE_OF_US,
    TAKEN_OVER,
    TOO_LARGE,
    lost,
    no_connection,
    not_let_in,
    refusal,
    why,
)

if TYPE_CHECKING:
    from paho.mqtt.client import (
        Client,
        ConnectFlags,
        DisconnectFlags,
        MQTTMessage,
        MQTTMessageInfo,
    )
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

_OVERHEAD = 512  # bytes that a packet has beside topic, payload and properties, at most
_GOODBYE_S = 2.0

OnMessage = Callable[[str, bytes, bool], None]
"""Takes a message that came: its topic, its payload, and whether the broker had retained it."""


@dataclass(frozen=True)
class Message:
    """What is published, at QoS 1.

    Attributes:
        topic: of it.
        payload: its bytes; none of them takes a retained message away.
        retain: whether the broker keeps it for those who come later.
        expiry: seconds after which the broker forgets it; None for never. MQTT 5 only.
        properties: for programs, by name. MQTT 5 only.
        correlation: tells a repetition. MQTT 5 only.
    """

    topic: str
    payload: bytes
    retain: bool = False
    expiry: int | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    correlation: bytes = b""


def check_paho() -> None:
    """Checks that the client library is there.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import paho.mqtt.enums  # noqa: F401 - version 1 has no such module
    except ImportError as error:
        raise MissingDependencyError(
            "Alerts by MQTT need paho-mqtt 2; run: pip install 'edgelstm[mqtt]'"
        ) from error


class Connection:
    """A connection that is open from the start; when it is lost, another one is to be made.

    Nothing is queued: a message is on its way until the broker has it, one at a time.

    Args:
        broker: to connect to.
        will: what the broker publishes when this client goes without a word.
        on_message: is called in the client's own thread, and must not block.
        on_lost: likewise, when the connection breaks.

    Raises:
        SinkError: there is no connection; the message has why.
    """

    def __init__(
        self,
        broker: BrokerOptions,
        will: Message,
        on_message: OnMessage,
        on_lost: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._on_message, self._on_lost = on_message, on_lost
        self._changed = threading.Condition()
        self._one_at_a_time = threading.Lock()
        self._answered = False
        self._refused: ReasonCode | None = None
        self._lost: str | None = None
        self._lost_reason = ""
        self.since = time.monotonic()
        """When it was made, by the monotonic clock."""
        self.rival = ""
        """A sentence, when another client with the same id took this one's place."""
        self.is_our_fault = False
        """Whether the broker hung up because of what it was sent."""
        self._reasons: dict[int, ReasonCode] = {}
        self._largest: int | None = None
        self._client = self._new_client(will)
        try:
            self._connect()
        except BaseException:
            self.abandon()
            raise

    @property
    def is_open(self) -> bool:
        """Whether it is not lost, as far as one knows."""
        return self._lost is None

    def subscribe(self, topics: list[str]) -> None:
        """Asks for the messages of some topics; a broker that does not allow it is left alone."""
        from paho.mqtt.client import MQTTv5
        from paho.mqtt.subscribeoptions import SubscribeOptions

        options = SubscribeOptions(qos=1, noLocal=True)
        if self._broker.protocol == MQTTv5:
            self._client.subscribe([(topic, options) for topic in topics])
        else:
            self._client.subscribe([(topic, 1) for topic in topics])

    def publish(self, message: Message) -> None:
        """Publishes a message, and comes back when the broker has it.

        Raises:
            RefusedNoticeError: the broker will never take this one.
            SinkError: it did not take it.
        """
        if self._largest is not None:
            size = len(message.topic.encode()) + len(message.payload) + _OVERHEAD
            if size > self._largest:
                raise refusal(self._broker, message.topic, TOO_LARGE, "Packet too large")
        with self._one_at_a_time:
            try:
                reason = self._wait_for_answer(self._publish(message))
            except SinkError:
                self.abandon()  # it may still be on its way: only a new connection is sure
                raise
        if reason.is_failure:
            raise refusal(self._broker, message.topic, reason.value, str(reason))

    def close(self, farewell: Message | None = None) -> None:
        """Publishes a last message and says goodbye; the broker then does not publish the will."""
        if self.is_open:
            if farewell is not None:
                with contextlib.suppress(SinkError):
                    self.publish(farewell)
            self._client.disconnect()
            with self._changed:
                self._changed.wait_for(lambda: self._lost is not None, _GOODBYE_S)
        self.abandon()

    def abandon(self) -> None:
        """Ends the connection without a word."""
        with self._changed:
            self._lost = self._lost or f"The connection to {self._broker.name} was given up."
            self._changed.notify_all()
        connection = self._client.socket()
        if isinstance(connection, socket.socket):
            # An SSLSocket's own shutdown would pull the rug from under the thread that reads.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        self._client.loop_stop()
        connection = self._client.socket()
        if connection is not None:
            connection.close()

    def _new_client(self, will: Message) -> Client:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        broker = self._broker
        # Connecting again is the sink's business, with a new client: this one would send what it
        # still holds.
        client = Client(
            CallbackAPIVersion.VERSION2,
            broker.client_id,
            protocol=MQTTProtocolVersion(broker.protocol),
            reconnect_on_failure=False,
        )
        client.connect_timeout = broker.timeout
        if broker.user or broker.password:
            password = broker.password and broker.password.reveal()
            client.username_pw_set(broker.user or None, password or None)
        if broker.tls:
            client.tls_set_context(self._tls())
        client.will_set(will.topic, will.payload, 1, retain=True)
        client.on_connect = self._connected
        client.on_publish = self._published
        client.on_message = self._came
        client.on_disconnect = self._disconnected
        return client

    def _tls(self) -> ssl.SSLContext:
        broker = self._broker
        context = _Context(ssl.PROTOCOL_TLS_CLIENT)
        context.timeout = broker.timeout
        try:
            if broker.ca_file is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(broker.ca_file)
        except OSError as error:
            raise SinkError(
                f"The file {broker.ca_file} with the certificate of the MQTT broker's authority "
                f"cannot be used ({why(error)}); correct ca_file."
            ) from error
        if broker.certificate is not None:
            try:
                # Without a passphrase of ours, OpenSSL would ask for one on the terminal.
                context.load_cert_chain(broker.certificate, broker.key, password=lambda: "-")
            except OSError as error:
                raise SinkError(
                    f"The client's certificate {broker.certificate} cannot be used with its key "
                    f"({why(error)}); correct certificate and key, and take a key without a "
                    "passphrase."
                ) from error
        return context

    def _connect(self) -> None:
        broker = self._broker
        try:
            self._client.connect(broker.host, broker.port, broker.keepalive)
        except (OSError, ValueError) as error:
            raise SinkError(no_connection(broker, error)) from error
        self._client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._answered or self._lost is not None, broker.timeout)
            gone = self._lost is not None
        if self._refused is not None:
            raise SinkError(not_let_in(broker, self._refused))
        if gone and not self._answered:
            other = "take tls = false" if broker.tls else "if it wants TLS, set tls = true"
            raise SinkError(
                f"The MQTT broker {broker.name} hangs up without an answer "
                f"({self._lost_reason}); {other}, or protocol = 4 for an old one."
            )
        if not self._answered:
            raise SinkError(
                f"{broker.name} does not answer as an MQTT broker does; correct host and port."
            )

    def _publish(self, message: Message) -> MQTTMessageInfo:
        from paho.mqtt.client import MQTTv5
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = None
        if self._broker.protocol == MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            if message.payload:
                properties.PayloadFormatIndicator = 1
                if message.payload[:1] == b"{":
                    properties.ContentType = "application/json"
            if message.expiry is not None:
                properties.MessageExpiryInterval = message.expiry
            if message.properties:
                properties.UserProperty = list(message.properties.items())
            if message.correlation:
                properties.CorrelationData = message.correlation
        with self._changed:
            self._reasons.clear()
        return self._client.publish(
            message.topic, message.payload, 1, message.retain, properties=properties
        )

    def _wait_for_answer(self, sent: MQTTMessageInfo) -> ReasonCode:
        with self._changed:
            self._changed.wait_for(
                lambda: sent.mid in self._reasons or self._lost is not None, self._broker.timeout
            )
            reason = self._reasons.get(sent.mid)
            why_lost = self._lost
        if reason is not None:
            return reason
        if why_lost is not None:
            raise SinkError(why_lost)
        raise SinkError(
            f"The MQTT broker {self._broker.name} did not take a message within "
            f"{self._broker.timeout:g} s; look whether it still runs."
        )

    # What follows is called in the client's thread.

    def _connected(
        self,
        _client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        with self._changed:
            if reason.is_failure:
                self._refused = reason
            self._answered = True
            self._largest = getattr(properties, "MaximumPacketSize", None)
            self._changed.notify_all()

    def _published(
        self,
        _client: Client,
        _userdata: object,
        number: int,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        with self._changed:
            self._reasons[number] = reason
            self._changed.notify_all()

    def _came(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self._on_message(message.topic, bytes(message.payload), message.retain)

    def _disconnected(
        self,
        _client: Client,
        _userdata: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        with self._changed:
            first = self._lost is None
            if first:
                self._lost, self._lost_reason = lost(self._broker, reason), str(reason)
                self.is_our_fault = reason.value in BECAUSE_OF_US
                if reason.value == TAKEN_OVER:
                    self.rival = self._lost
            self._changed.notify_all()
        if first:
            self._on_lost()


class _Context(ssl.SSLContext):
    """Shakes hands at once: paho would do it later, and leave the socket open when it fails."""

    timeout: float

    def wrap_socket(
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,  # noqa: ARG002 - paho asks for a later one
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        sock.settimeout(self.timeout)
        return super().wrap_socket(
            sock, server_side, True, suppress_ragged_eofs, server_hostname, session
        )
