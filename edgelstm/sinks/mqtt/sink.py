"""`MqttSink`: publishes notices, and keeps the retained topics as the service is."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Iterator

from edgelstm.alert import AlertEvent
from edgelstm.errors import RefusedNoticeError, SinkError
from edgelstm.health import Health
from edgelstm.notice import Notice
from edgelstm.sinks import Sink, SinkContext
from edgelstm.sinks.back_off import BackOff
from edgelstm.sinks.mqtt.config import GATEWAY, MqttConfig, broker_options
from edgelstm.sinks.mqtt.connection import Connection, Message, check_paho
from edgelstm.sinks.mqtt.home_assistant import BIRTH, Discovery
from edgelstm.sinks.mqtt.messages import (
    ONLINE_EXPIRY_S,
    Topics,
    availability,
    health_message,
    is_about,
    level,
    lost_readings,
    notice_message,
    open_message,
    state_message,
)
from edgelstm.sinks.mqtt.retained import Make, Retained

log = logging.getLogger(__name__)

_REFRESH_S = ONLINE_EXPIRY_S / 4
_LONGEST_WAIT_S = 30.0  # between two attempts to connect, while nothing is to be sent
_STEADY_S = 30.0  # a connection that lasts longer was a good one
_MANY = 5  # short connections in a row that are no accident
_LAST_WORDS_S = 5.0


class MqttSink(Sink):
    """Publishes every notice, and keeps the retained topics as the service is.

    `send` and `report` connect when there is no connection. From then on a thread of the sink's
    own keeps it, and tells the broker all that it retains after each loss, and when Home Assistant
    has started.

    Raises:
        MissingDependencyError: paho-mqtt is not installed.
    """

    Config = MqttConfig

    def __init__(self, config: MqttConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        check_paho()
        self.report_every = config.interval
        self._with_entities = config.home_assistant
        self._expire_after = config.expire_after or max(round(4 * config.interval), 60)
        base = config.topic.replace(GATEWAY, level(context.gateway))
        self._topics = Topics(base)
        self._broker = broker_options(config, context.directory, base)
        self._discovery = Discovery(
            config.discovery_prefix,
            context.gateway,
            context.version,
            self._topics,
            self._expire_after,
        )
        self._connection: Connection | None = None
        self._connecting = threading.Lock()
        self._attempts = 0
        self._why_not = ""
        self._closing = False
        self._keeper: threading.Thread | None = None
        self._bell = threading.Event()
        self._retained = Retained()
        self._problem = ""
        self._rival = ""
        self._short_ones = 0
        self._hung_up_on = ""
        self._health: Health | None = None
        self._alerts = threading.Lock()
        self._open: dict[str, Notice] = {}
        self._has_learnt = False

    def send(self, notice: Notice) -> None:
        """Publishes a notice; see `Sink.send`."""
        connection = self._connected()
        self._learn()
        self._publish(connection, notice)
        with self._alerts:
            if notice.event == AlertEvent.CLOSED.value:
                self._open.pop(notice.alert_id, None)
            else:
                self._open[notice.alert_id] = notice
        if notice.sensor and notice.sensor not in self._names():
            return  # it is watched no more: nothing is retained about it
        # The broker has the notice: what goes wrong from here on must not repeat it.
        with contextlib.suppress(SinkError):
            for make in self._of_alerts(notice.sensor):
                self._retained.tell(connection, make)

    def _publish(self, connection: Connection, notice: Notice) -> None:
        try:
            connection.publish(notice_message(self._topics, notice))
        except SinkError as error:
            if connection.is_our_fault and notice.id == self._hung_up_on:
                # It would do so for ever, and no other notice would come through.
                raise RefusedNoticeError(
                    f"The MQTT broker {self._broker.name} hangs up on this notice; look into its "
                    "log, perhaps the notice is too large for it."
                ) from error
            self._hung_up_on = notice.id if connection.is_our_fault else ""
            raise
        self._hung_up_on = ""

    def report(self, health: Health) -> None:
        """Publishes how the service is; see `Sink.report`."""
        self._connected()
        self._learn(again=True)
        self._health = health
        self._bell.set()
        problem, self._rival = self._rival or self._problem, ""
        if problem:
            raise SinkError(problem)

    def close(self) -> None:
        """Says what is still to be said, and goodbye."""
        self._closing = True
        self._bell.set()
        if self._keeper is not None:
            self._keeper.join(_LAST_WORDS_S)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(availability(self._topics, online=False))

    def _connected(self) -> Connection:
        """The connection, or a new one.

        Raises:
            SinkError: there is none.
        """
        attempts = self._attempts
        with self._connecting:
            connection = self._connection
            if connection is not None and connection.is_open:
                return connection
            if self._closing:
                raise SinkError("The sink for MQTT is closed.")
            if attempts != self._attempts:
                raise SinkError(self._why_not)  # the other thread has tried while we waited
            if connection is not None:
                self._mind_loss(connection)
            self._attempts += 1
            try:
                self._connection = self._connect()
            except SinkError as error:
                self._why_not = str(error)
                self._short_ones = 0  # the broker is away, or does not let us in
                raise
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, name="mqtt", daemon=True)
                self._keeper.start()
            self._bell.set()
            return self._connection

    def _mind_loss(self, connection: Connection) -> None:
        """Not every broker says that another client has taken one's place."""
        if time.monotonic() - connection.since > _STEADY_S:
            self._short_ones = 0
        self._short_ones += 1
        if connection.rival:
            self._rival = connection.rival
        elif self._short_ones >= _MANY:
            self._rival = (
                f"The MQTT broker {self._broker.name} hangs up again and again; look whether "
                f"another client has the client_id {self._broker.client_id!r}, too."
            )

    @property
    def _is_open(self) -> bool:
        return self._connection is not None and self._connection.is_open

    def _connect(self) -> Connection:
        farewell = availability(self._topics, online=False)
        connection = Connection(self._broker, farewell, self._came, self._bell.set)
        self._retained.forget()
        try:
            connection.publish(availability(self._topics, online=True))
            topics = list(self._topics.of_sensors)
            if self._with_entities:
                topics += [self._discovery.birth_topic, self._discovery.own_topics]
            connection.subscribe(topics)
        except BaseException:
            connection.abandon()
            raise
        if self._closing:  # the service did not wait for us
            connection.close(farewell)
            raise SinkError("The sink for MQTT is closed.")
        return connection

    def _keep(self) -> None:
        """Keeps the connection, and what is retained; in the sink's own thread."""
        back_off = BackOff(longest=_LONGEST_WAIT_S)
        ended: Connection | None = None
        while not self._closing:
            connection, now = self._connection, time.monotonic()
            if connection is not None and not connection.is_open and connection is not ended:
                ended = connection
                if now - connection.since > _STEADY_S:
                    back_off.worked()
                back_off.failed(now)
            wait = _REFRESH_S if self._is_open else max(back_off.due - now, 0.0)
            rang = self._bell.wait(wait)
            self._bell.clear()
            if not self._is_open and (self._closing or time.monotonic() < back_off.due):
                continue
            try:
                self._tell_all(self._connected(), renew=not rang)
            except SinkError as error:
                log.debug("%s", error)
                if self._connection is ended:  # there is no new one: the broker is away
                    back_off.failed(time.monotonic())
            except Exception as error:  # this thread must not die of it
                log.warning("The sink for MQTT stumbled (%s: %s).", type(error).__name__, error)

    def _tell_all(self, connection: Connection, *, renew: bool) -> None:
        if renew:
            connection.publish(availability(self._topics, online=True))
        self._learn()
        # Entities that are taken away lose what people set on them: only who knows well which
        # sensors there are may do that.
        sure = self._health is not None and bool(self._names())
        self._problem = self._retained.tell_all(connection, self._all(), tidy=sure)

    def _learn(self, *, again: bool = False) -> None:
        """Finds out which alerts are open: before the first message, and with every report.

        Those are told that were opened before a restart, and what is not sent here, such as a
        higher peak, or a closing that the configuration leaves out. Only between two notices it is
        sure that none that was sent is missing.
        """
        with self._alerts:
            if not self._has_learnt or (again and self.standing is not tuple):
                self._open = {notice.alert_id: notice for notice in self.standing()}
                self._has_learnt = True

    def _names(self) -> list[str]:
        return [info.name for info in self.context.sensors()]

    def _all(self) -> Iterator[Make]:
        """All that is retained but the availability."""
        if self._with_entities:
            for message in self._discovery.messages(self.context.sensors()):
                yield functools.partial(_same, message)
        names = self._names()
        for name in ("", *names):
            yield from self._of_alerts(name)
        health = self._health
        if health is None:
            return
        yield functools.partial(health_message, self._topics, health, self._expire_after)
        for sensor in health.sensors:
            if sensor.name in names:
                lost = lost_readings(health, sensor)
                yield functools.partial(
                    state_message, self._topics, sensor, health.time, lost, self._expire_after
                )

    def _of_alerts(self, sensor: str) -> Iterator[Make]:
        """What is retained about the alerts of a sensor, or of the service."""
        yield lambda: open_message(self._topics.alert(sensor), self._about(sensor, fault=False))
        if sensor:
            yield lambda: open_message(self._topics.fault(sensor), self._about(sensor, fault=True))

    def _about(self, sensor: str, *, fault: bool) -> list[Notice]:
        with self._alerts:
            notices = list(self._open.values())
        return [notice for notice in notices if is_about(notice, sensor, fault=fault)]

    def _came(self, topic: str, payload: bytes, retained: bool) -> None:
        """A message came; in the client's thread."""
        if topic == self._discovery.birth_topic:
            if payload == BIRTH and not retained:
                self._retained.forget()
                self._bell.set()
        elif retained and payload:
            # Ours, or what a sensor left that is watched no more: `tell_all` knows.
            self._retained.found(topic)
            self._bell.set()


def _same(message: Message) -> Message:
    return message
