"""Reads messages from a port with nothing but the decoder."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from edgelstm_bridge.codec import encode_frame
from edgelstm_bridge.decoder import FrameDecoder, Restart
from edgelstm_bridge.hello import Hello
from edgelstm_bridge.messages import Command, Message, Report, Sample, Start, Statistics

DEADLINE_S = 60.0
_READ_SIZE = 4096
_RETRY_S = 0.5

Received = Message | Restart
Kind = TypeVar("Kind")


class PortReader:
    """Keeps all that has come, in order."""

    def __init__(self, port: str) -> None:
        self.decoder = FrameDecoder()
        self.messages: list[Received] = []
        self.received = bytearray()
        self._port = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._port)

    def send(self, *commands: Command) -> None:
        self.send_bytes(b"".join(encode_frame(command.encode()) for command in commands))

    def send_bytes(self, data: bytes) -> None:
        assert os.write(self._port, data) == len(data)

    def read(self, timeout: float = 0.1) -> None:
        """Take what is there, after waiting for it at most so many seconds."""
        if select.select([self._port], [], [], timeout)[0]:
            data = os.read(self._port, _READ_SIZE)
            self.received += data
            self.messages += self.decoder.feed(data)

    def read_until(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not what():
            assert time.monotonic() < deadline, self.messages[-3:]
            self.read()

    def read_samples(self, count: int) -> None:
        """Read until so many samples more have come."""
        goal = self.decoder.counters.samples + count
        self.read_until(lambda: self.decoder.counters.samples >= goal)

    def wait_for_device(self) -> None:
        """Return once it listens: what is sent to a device that still boots is lost."""
        self.ask(Report(), Statistics)

    def start(self) -> Hello:
        self.wait_for_device()
        return self.ask(Start(), Hello)

    def ask(self, command: Command, kind: type[Kind]) -> Kind:
        """Send a command until a message of `kind` has come after it, and return that one."""
        begin = len(self.messages)
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            self.send(command)
            retry = time.monotonic() + _RETRY_S
            while time.monotonic() < retry:
                self.read()
                for message in self.messages[begin:]:
                    if isinstance(message, kind):
                        return message
        raise AssertionError(self.messages[-3:])

    @property
    def samples(self) -> list[Sample]:
        return [message for message in self.messages if isinstance(message, Sample)]
