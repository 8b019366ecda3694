"""`SerialSource`: the readings of a device on a serial port."""

from __future__ import annotations

import contextlib
import errno
import os
import termios
import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import serial
from serial.tools import list_ports

from edgelstm.errors import ProtocolError, SourceError
from edgelstm.reading import Reading
from edgelstm_bridge.codec import DELIMITER, encode_frame
from edgelstm_bridge.decoder import Counters, FrameDecoder
from edgelstm_bridge.messages import End, Hello, Message, Sample, Start, Stop
from edgelstm_bridge.timeline import Timeline

_NOT_A_TERMINAL = os.strerror(errno.ENOTTY)
_READ_TIMEOUT_S = 0.2
_WRITE_TIMEOUT_S = 1.0
# Many boards reset when their port is opened and miss the first start.
_START_INTERVAL_S = 1.0
# The delimiter in front ends whatever the device may have received half of.
_START = DELIMITER + encode_frame(Start().encode())
_STOP = DELIMITER + encode_frame(Stop().encode())


class SerialSource:
    """Opens a serial port, starts the device on it, and iterates over its readings.

    ```
    with SerialSource("/dev/ttyACM0") as source:
        for reading in source:
            print(reading.timestamp, reading.values)
    ```

    The iteration ends when the device says that it has ended. While the device is silent, the
    iteration waits. A port that goes away raises `SourceError`; it is not opened again.

    Args:
        port: a device path, or a URL that pyserial understands, such as `socket://host:port`.
        baud_rate: as the firmware has it; ignored by ports without one (USB CDC, ptys).
        hello_timeout: how long to wait for the device's hello, in seconds.

    Raises:
        SourceError: the port cannot be opened, goes away, or no device answers on it.
        ProtocolError: the device's hello is malformed or of an unknown protocol version.
    """

    def __init__(self, port: str, baud_rate: int = 115_200, *, hello_timeout: float = 5.0) -> None:
        self._port = port
        self._decoder = FrameDecoder()
        self._pending: deque[Reading] = deque()
        self._device_sent: int | None = None
        self._closed = False
        self._serial = _open(port, baud_rate)
        try:
            self._hello, messages = self._wait_for_hello(hello_timeout)
            self._timeline = Timeline(self._hello)
            self._accept(messages)
        except BaseException:
            self.close()
            raise

    @property
    def port(self) -> str:
        """The port, as it was given."""
        return self._port

    @property
    def hello(self) -> Hello:
        """What the device said about itself first."""
        return self._hello

    @property
    def counters(self) -> Counters:
        """What was received, damaged and lost so far."""
        return self._decoder.counters

    @property
    def lost(self) -> int:
        """How many samples were lost so far.

        Sequence numbers show it, but for the last samples: those are known once the device has
        said how many it sent.
        """
        counters = self._decoder.counters
        return max(counters.lost, (self._device_sent or 0) - counters.samples)

    @property
    def device_sent(self) -> int | None:
        """How many samples the device says it sent; None until it has ended."""
        return self._device_sent

    def __iter__(self) -> Iterator[Reading]:
        return self

    def __next__(self) -> Reading:
        while not self._pending:
            if self._device_sent is not None:
                raise StopIteration
            self._accept(self._receive())
        return self._pending.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ask the device to stop, as far as it still listens, and close the port.

        May be called more than once.
        """
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            self._serial.write(_STOP)
        with contextlib.suppress(OSError):
            self._serial.close()

    def _wait_for_hello(self, timeout: float) -> tuple[Hello, list[Message]]:
        """Return the first hello and the messages that came with it."""
        now = time.monotonic()
        deadline = now + timeout
        next_start = now
        while now < deadline:
            if now >= next_start:
                self._send_start()
                next_start = now + _START_INTERVAL_S
            messages = self._receive()
            for index, message in enumerate(messages):
                if isinstance(message, Hello):
                    return message, messages[index + 1 :]
            now = time.monotonic()
        raise SourceError(
            f"No hello from {self._port} within {timeout:g} s: is it the right port and baud "
            "rate, and does the device run edgelstm firmware?"
        )

    def _send_start(self) -> None:
        try:
            self._serial.write(_START)
        except OSError as error:
            raise self._lost(error) from error

    def _receive(self) -> list[Message]:
        """Wait for bytes for a short while and return the messages they end."""
        if self._closed:
            raise SourceError(f"{self._port} is closed.")
        try:
            data = self._serial.read(max(1, self._serial.in_waiting))
        except OSError as error:  # pyserial's own SerialException is an OSError as well
            raise self._lost(error) from error
        try:
            return self._decoder.feed(data)
        except ProtocolError as error:
            raise ProtocolError(f"{self._port}: {error}") from error

    def _accept(self, messages: list[Message]) -> None:
        """Turn samples into pending readings and follow what the device says of itself."""
        decoded_at = time.time()
        for message in messages:
            if isinstance(message, Sample):
                self._pending.append(self._timeline.reading(message, decoded_at))
            elif isinstance(message, Hello):
                self._check_same_channels(message)
                self._timeline.restart(message)
            elif isinstance(message, End):
                self._device_sent = message.samples

    def _check_same_channels(self, hello: Hello) -> None:
        announced = [(channel.name, channel.unit) for channel in self._hello.channels]
        if [(channel.name, channel.unit) for channel in hello.channels] != announced:
            raise SourceError(f"The device on {self._port} changed its channels while running.")

    def _lost(self, error: OSError) -> SourceError:
        return SourceError(f"Lost {self._port} ({error}): was the device unplugged?")


def _open(port: str, baud_rate: int) -> serial.Serial:
    try:
        return serial.serial_for_url(
            port,
            baudrate=baud_rate,
            timeout=_READ_TIMEOUT_S,
            write_timeout=_WRITE_TIMEOUT_S,
            exclusive=True,  # two readers would each get half of the bytes
        )
    except (OSError, ValueError, termios.error) as error:
        raise SourceError(_why_not_opened(port, error)) from error


def _why_not_opened(port: str, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        reason = "there is no such port"
    elif number in (errno.EACCES, errno.EPERM):
        reason = "permission denied; add your user to the group dialout and log in again"
    elif number in (errno.EBUSY, errno.EAGAIN):
        reason = "another program is using it"
    elif _NOT_A_TERMINAL in str(error):  # pyserial drops the number
        reason = "it is not a serial port"
    else:
        reason = str(error)
    present = ", ".join(sorted(info.device for info in list_ports.comports()))
    hint = f" (serial ports present: {present})" if present else ""
    return f"Cannot open {port}: {reason}{hint}."
