"""`Retained`: makes what a broker keeps for those who come later what it should be."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable

from edgelstm.errors import SinkError
from edgelstm.sinks.mqtt.connection import Connection, Message

_LETTING_GO_S = 2.0

Make = Callable[[], Message]
"""Makes a retained message as it is at the moment of the call."""


class Retained:
    """Knows what the broker has been told on this connection, and tells it what it has not.

    Each message is made and told under one lock, so that none is overtaken by an older one on the
    same topic.
    """

    def __init__(self) -> None:
        self._telling = threading.Lock()
        # This one is never held while a message is on its way: the client's thread takes it.
        self._facts = threading.Lock()
        self._told: dict[str, bytes] = {}
        self._found: set[str] = set()
        self._entities_gone = float("-inf")

    def forget(self) -> None:
        """Nothing has been told: the connection is new, or somebody has begun to listen."""
        with self._facts:
            self._told = {}

    def found(self, topic: str) -> None:
        """The broker retains something here."""
        with self._facts:
            self._found.add(topic)

    def tell(self, connection: Connection, make: Make) -> None:
        """Publishes a message, unless the broker has it.

        Raises:
            SinkError: it was not taken.
        """
        with self._telling:
            message = make()
            with self._facts:
                told = self._told
                if told.get(message.topic) == message.payload:
                    return
            connection.publish(message)
            with self._facts:
                # Where it was forgotten meanwhile, this is the old book, and it is told again.
                told[message.topic] = message.payload

    def tell_all(self, connection: Connection, makes: Iterable[Make], *, tidy: bool) -> str:
        """Publishes all that there is to retain.

        Args:
            connection: to publish with.
            makes: all of it.
            tidy: whether what is there beside it is taken away.

        Returns:
            What the broker does not let us say, as a sentence, or "".

        Raises:
            SinkError: the connection broke.
        """
        problem = ""
        wanted: set[str] = set()
        for make in makes:
            wanted.add(make().topic)
            problem = self._try(connection, make) or problem
        with self._facts:
            left = (self._found | self._told.keys()) - wanted if tidy else set()
        # Entities go first, and what they show some time later: Home Assistant, which takes a while
        # to let go of them, would complain of empty values.
        entities = {topic for topic in left if topic.endswith("/config")}
        if entities:
            self._entities_gone = time.monotonic()
        elif time.monotonic() - self._entities_gone < _LETTING_GO_S:
            left = set()
        for topic in sorted(entities or left):
            nothing = functools.partial(Message, topic, b"", retain=True)
            problem = self._try(connection, nothing) or problem
            with self._facts:
                self._told.pop(topic, None)
                self._found.discard(topic)
        return problem

    def _try(self, connection: Connection, make: Make) -> str:
        try:
            self.tell(connection, make)
        except SinkError as error:
            if not connection.is_open:
                raise
            return str(error)
        return ""
