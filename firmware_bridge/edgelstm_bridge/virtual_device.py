"""`VirtualDevice`: a device without hardware, on a pseudo-terminal, for tests and demos."""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
import time
import tty
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from edgelstm.errors import ConfigurationError, SourceError
from edgelstm_bridge.codec import CRC_SIZE, DELIMITER, cobs_encode, crc16, encode_frame
from edgelstm_bridge.decoder import FrameDecoder
from edgelstm_bridge.messages import End, Hello, Sample, Start, Stop
from edgelstm_bridge.timeline import MAX_CLOCK_STEP

Row = tuple[float, Sequence[float]]
"""A timestamp in seconds since the Unix epoch, and one value per channel."""

_BATCH = 256  # samples per write at full speed: one system call each would halve the speed
_READ_SIZE = 4096
_RECONNECT_POLL_S = 0.01
_CLOSE_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run of a virtual device went.

    Attributes:
        sent: samples sent, with those that were dropped or corrupted on purpose.
        finished: every row was sent, and the end after it; False when the reader left early.
    """

    sent: int
    finished: bool


class VirtualDevice:
    """A pseudo-terminal that behaves like a serial port with edgelstm firmware behind it.

    Args:
        hello: what the device says about itself. With `clock_epoch_ms` other than 0 it has a
            wall clock: each hello then carries the time of the next row as its epoch.
        link: a symbolic link to make to the port, so that its path is known beforehand.
        corrupt_every: flip a bit in every n-th sample; 0 for none.
        drop_every: do not send every n-th sample, though its sequence number is used up;
            0 for none.

    Attributes:
        port: path of the port to open.

    Raises:
        SourceError: `link` exists and is not a symbolic link, or cannot be made.
    """

    def __init__(
        self,
        hello: Hello,
        *,
        link: Path | None = None,
        corrupt_every: int = 0,
        drop_every: int = 0,
    ) -> None:
        self._hello = hello
        self._link = link
        self._corrupt_every = corrupt_every
        self._drop_every = drop_every
        self._closed = False
        # Held by a run: the descriptor must not be closed, and its number given to some other
        # file, while a run in another thread still reads and writes it.
        self._in_use = threading.Lock()
        self._master, slave = os.openpty()
        os.set_blocking(self._master, False)
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        # Once the port was open and is no more, poll reports a hang-up until a reader opens it.
        os.close(slave)
        if link is not None:
            try:
                _make_link(link, self.port)
            except BaseException:
                os.close(self._master)
                raise

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
        """Remove the link and the port, with all that was not read.

        Ends a run in another thread first. May be called more than once.
        """
        if self._closed:
            return
        self._closed = True
        # Another device may have taken the link over by now.
        link = self._link
        if link is not None and link.is_symlink() and link.readlink() == Path(self.port):
            link.unlink()
        with self._in_use:
            os.close(self._master)

    def run(
        self, rows: Iterable[Row], *, rate: float | None = None, linger: float = 10.0
    ) -> RunReport:
        """Wait for a reader to start the device, send it all rows, and end.

        Returns when the reader has closed the port, when this device is closed by another
        thread, or `linger` after the end was sent: the reader needs the time to take what
        waits in the port. When a reader leaves early, the rows on their way to it are lost;
        a run given the same iterator goes on with the rest.

        Args:
            rows: the samples to send, taken one by one.
            rate: samples per second; None for as fast as the reader takes them.
            linger: how long to wait after the end for the reader to leave, in seconds.

        Raises:
            ConfigurationError: the rate is not above 0, or two rows are further apart than the
                device clock can tell.
            ProtocolError: a row does not fit the channels or cannot be carried.
        """
        with self._in_use:
            return self._run(rows, rate, linger)

    def _run(self, rows: Iterable[Row], rate: float | None, linger: float) -> RunReport:
        firmware = _Firmware(self._hello, rows, self._corrupt_every, self._drop_every)
        pacer = _Pacer(rate)
        poller = select.poll()
        outbox = bytearray()
        finished = False
        leave_at = math.inf
        while not self._closed and time.monotonic() < leave_at:
            if not firmware.running:
                pacer.restart()
            elif not outbox:
                outbox += firmware.next_samples(pacer.take())
            if firmware.ended and not outbox and not finished:
                finished = True
                leave_at = time.monotonic() + linger
            poller.register(self._master, select.POLLIN | (select.POLLOUT if outbox else 0))
            wake_at = pacer.next_at if firmware.running and not outbox else leave_at
            events = _poll(poller, wake_at)
            if events & select.POLLHUP:
                if firmware.started:
                    break
                time.sleep(_RECONNECT_POLL_S)
                continue
            # The reader may hang up at any time after the poll; the next poll will tell.
            with contextlib.suppress(OSError):
                if events & select.POLLIN:
                    outbox += firmware.receive(os.read(self._master, _READ_SIZE))
                if events & select.POLLOUT:
                    del outbox[: os.write(self._master, outbox)]
        return RunReport(sent=firmware.sent, finished=finished)


class _Firmware:
    """The device's half of the protocol, without the port."""

    def __init__(
        self, hello: Hello, rows: Iterable[Row], corrupt_every: int, drop_every: int
    ) -> None:
        self.started = False
        self.running = False
        self.ended = False
        self.sent = 0
        self._sent_since_start = 0
        self._hello = hello
        self._rows = iter(rows)
        self._next_row = next(self._rows, None)
        self._corrupt_every = corrupt_every
        self._drop_every = drop_every
        self._commands = FrameDecoder()
        self._origin_us = 0  # the time at which the device clock was 0
        self._clock = 0

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the host and return the answers to the commands in them."""
        answers = bytearray()
        for command in self._commands.feed(data):
            if isinstance(command, Start):
                if not self.running:
                    self._sent_since_start = 0
                self.started = self.running = True
                answers += self._make_hello()
            elif isinstance(command, Stop):
                self.running = False
                answers += self._make_end()
        return bytes(answers)

    def next_samples(self, count: int) -> bytes:
        """Return the frames of the next `count` rows, and the end once there are no more."""
        frames = bytearray()
        for _ in range(count):
            if self._next_row is None:
                self.running = False
                self.ended = True
                frames += self._make_end()
                break
            frames += self._make_sample(self._next_row)
            self._next_row = next(self._rows, None)
        return bytes(frames)

    def _make_hello(self) -> bytes:
        """Return a hello, with the device clock starting at the next row."""
        hello = self._hello
        if self._next_row is not None:
            origin_ms = math.floor(self._next_row[0] * 1000)
            if hello.clock_epoch_ms:
                origin_ms = origin_ms or -1  # an epoch of 0 would say: no wall clock
                hello = replace(hello, clock_epoch_ms=origin_ms)
            self._origin_us = origin_ms * 1000
            self._clock = 0
        return encode_frame(hello.encode())

    def _make_sample(self, row: Row) -> bytes:
        timestamp, values = row
        clock = round((timestamp * 1_000_000 - self._origin_us) / self._hello.clock_tick_us)
        if abs(clock - self._clock) >= MAX_CLOCK_STEP:
            raise ConfigurationError(
                f"The row at {timestamp:g} s is too far from the one before it for clock ticks "
                f"of {self._hello.clock_tick_us} us; use longer ticks."
            )
        self._clock = clock
        payload = Sample(self.sent, clock, tuple(values)).encode(self._hello)
        self.sent += 1
        self._sent_since_start += 1
        if self._drop_every and self.sent % self._drop_every == 0:
            return b""
        if self._corrupt_every and self.sent % self._corrupt_every == 0:
            return _corrupt_frame(payload)
        return encode_frame(payload)

    def _make_end(self) -> bytes:
        return encode_frame(End(self._sent_since_start).encode())


class _Pacer:
    """Says how many samples are due."""

    def __init__(self, rate: float | None) -> None:
        if rate is not None and rate <= 0:
            raise ConfigurationError(f"A rate must be above 0 samples per second, not {rate:g}.")
        self._period = 0.0 if rate is None else 1 / rate
        self.restart()

    def restart(self) -> None:
        self.next_at = time.monotonic()

    def take(self) -> int:
        """Return how many samples to send now, and count them as sent."""
        if not self._period:
            return _BATCH
        late = time.monotonic() - self.next_at
        due = min(_BATCH, math.floor(late / self._period) + 1)
        if due > 0:
            self.next_at += due * self._period
        return due


def _poll(poller: select.poll, wake_at: float) -> int:
    """Return the events on the one descriptor of `poller`; 0 when it is `wake_at` first."""
    timeout = min(max(0.0, wake_at - time.monotonic()), _CLOSE_POLL_S)
    # Rounded up, so that it does not wake a little early and spin.
    events = poller.poll(math.ceil(timeout * 1000))
    return events[0][1] if events else 0


def _corrupt_frame(payload: bytes) -> bytes:
    """Return the frame of `payload` with one bit flipped under the CRC.

    It is flipped before COBS, so that exactly one frame is damaged: a flip on the line may
    also make or destroy a delimiter.
    """
    flipped = bytes([payload[0] ^ 0x80]) + payload[1:]
    return cobs_encode(flipped + crc16(payload).to_bytes(CRC_SIZE, "little")) + DELIMITER


def _make_link(link: Path, target: str) -> None:
    try:
        if link.is_symlink():
            link.unlink()
        link.symlink_to(target)
    except FileExistsError as error:
        raise SourceError(f"{link} exists and is not a symbolic link.") from error
    except OSError as error:
        raise SourceError(f"Cannot make the link {link}: {error}.") from error
