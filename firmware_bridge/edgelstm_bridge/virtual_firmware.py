"""What runs inside a virtual device: the device's half of the protocol. No I/O."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from edgelstm.errors import ConfigurationError, ProtocolError
from edgelstm_bridge.codec import (
    CRC_SIZE,
    DELIMITER,
    cobs_encode,
    crc16,
    decode_frame,
    encode_frame,
)
from edgelstm_bridge.decoder import FrameDecoder
from edgelstm_bridge.messages import (
    End,
    Hello,
    Ping,
    Pong,
    Rate,
    Report,
    Start,
    Statistics,
    Stop,
)
from edgelstm_bridge.pacing import Pacer, Row, RowQueue
from edgelstm_bridge.sample_encoder import SampleEncoder

MAX_CLOCK_STEP = 2**31
"""The device clock must move by less than this many ticks from one sample to the next."""


class Firmware(ABC):
    """What a virtual device needs to know to talk, whatever it speaks.

    Attributes:
        running: it takes samples.
        heard: somebody on the other side takes them, so that they may be sent.
        ended: it had no more rows, and has said so.
        filler: a byte that means nothing between two frames.
    """

    filler: bytes

    def __init__(self) -> None:
        self.running = False
        self.heard = False
        self.ended = False

    @abstractmethod
    def boot(self) -> list[bytes]:
        """Begins anew; returns what it sends unasked."""

    @abstractmethod
    def opened(self) -> None:
        """A reader has opened the port a while ago."""

    @abstractmethod
    def receive(self, data: bytes) -> list[bytes]:
        """Takes bytes from the host; returns the answers to the commands in them."""

    @abstractmethod
    def make(self, rows: Sequence[Row]) -> list[bytes]:
        """Returns a frame for each of the next rows."""

    @abstractmethod
    def damage(self, frame: bytes) -> bytes:
        """Returns the frame so damaged that it, and only it, cannot be used."""

    @abstractmethod
    def skip(self, count: int, *, overrun: bool) -> None:
        """The next rows were not taken for want of time (overrun), or not sent."""

    @abstractmethod
    def rewind(self, count: int) -> None:
        """The rows that were made last never left, and will be made again."""

    @abstractmethod
    def end(self) -> list[bytes]:
        """There are no more rows; returns what it says then."""


class FrameFirmware(Firmware):
    """Firmware that speaks the protocol of `PROTOCOL.md`.

    A device with a wall clock keeps the rows' own times. The clock of one without counts from
    boot: at a pace it also counts what passes while the rows stand still.

    Args:
        hello: what the device says about itself; the fields that change are filled in.
        queue: the rows to send; only looked at here.
        pacer: of the rows.
        random: where the boot_ids come from.
    """

    filler = DELIMITER

    def __init__(self, hello: Hello, queue: RowQueue, pacer: Pacer, random: Random) -> None:
        super().__init__()
        self._hello = hello
        self._queue = queue
        self._pacer = pacer
        self._random = random
        self._tick_us = hello.clock_tick_us
        self._encoder = SampleEncoder(hello)
        self._has_wall_clock = hello.clock_epoch_ms != 0
        self._epoch_ms = hello.clock_epoch_ms

    def boot(self) -> list[bytes]:
        """Begins anew, with another boot_id; returns the hello of a device that has booted."""
        self.running = False
        self._hello = replace(self._hello, boot_id=self._random.randrange(1, 2**32))
        self._pacer.reset()
        self._pacer.resume(time.monotonic())
        self._number = 0  # of the next sample
        self._dropped = 0
        self._overruns = 0
        self._misunderstood = 0
        self._commands = FrameDecoder()
        self._clock = 0  # of the last sample, in ticks
        self._last_us = 0.0
        self._delay_us = 0.0  # how much later than their own times the rows are
        # What a rate command made of the period: from this sample on, at this time.
        self._period_us: int | None = None
        self._period_from = 0
        self._period_from_us = 0.0
        following = self._queue.peek()
        self._origin_us = 0  # the time at which the device clock was 0
        if following is not None:
            self._origin_us = math.floor(following[0] * 1000) * 1000
            self._last_us = following[0] * 1e6
        # It may break off in the middle of a frame: the delimiter ends that.
        return [DELIMITER, self._make_hello()]

    def opened(self) -> None:
        """Changes nothing: this device waits for a start."""

    def receive(self, data: bytes) -> list[bytes]:
        """Takes bytes from the host; returns the answers to the commands in them."""
        *ends, rest = data.split(DELIMITER)
        answers = []
        for piece in [*(end + DELIMITER for end in ends), rest]:
            try:
                messages = self._commands.feed(piece)
            except ProtocolError:  # a hello from the host, and a malformed one
                self._misunderstood += 1
                continue
            for message in messages:
                answers += self._answer(message)
        return answers

    def _answer(self, message: object) -> list[bytes]:
        match message:
            case Start():
                if not self.running:
                    self._resume()
                self.running = self.heard = True
                return [self._make_hello()]
            case Stop():
                self.running = False
                return [self._make_statistics(), self._make_end()]
            case Ping(token):
                clock = self._clock_at(self._now_us())
                return [encode_frame(Pong(token, clock).encode())]
            case Rate(period_us) if period_us:
                self._set_period(period_us)
                return [self._make_hello()]
            case Report():
                return [self._make_statistics()]
        self._misunderstood += 1
        return []

    def make(self, rows: Sequence[Row]) -> list[bytes]:
        """Returns the sample frames of the next rows.

        Raises:
            ConfigurationError: two rows are further apart than the device clock can tell.
            ProtocolError: a row does not fit the channels, or cannot be carried.
        """
        frames = []
        for row in rows:
            self._last_us = self._time_us(row)
            clock = self._clock_at(self._last_us)
            if not -MAX_CLOCK_STEP < clock - self._clock < MAX_CLOCK_STEP:
                raise ConfigurationError(
                    f"The row at {row[0]:g} s is too far from the one before it for clock ticks "
                    f"of {self._tick_us} us; use longer ticks."
                )
            self._clock = clock
            frames.append(self._encoder.encode(self._number, clock, row[1]))
            self._number += 1
        return frames

    def damage(self, frame: bytes) -> bytes:
        """Returns the frame with one bit flipped under the CRC.

        It is flipped before COBS, so that exactly one frame is damaged: a flip on the line may
        also make or destroy a delimiter.
        """
        payload = decode_frame(frame.removesuffix(DELIMITER))
        flipped = bytes([payload[0] ^ 0x80]) + payload[1:]
        return cobs_encode(flipped + crc16(payload).to_bytes(CRC_SIZE, "little")) + DELIMITER

    def skip(self, count: int, *, overrun: bool) -> None:
        """Numbers are used up without their samples."""
        self._number += count
        if overrun:
            self._overruns += count
        else:
            self._dropped += count

    def rewind(self, count: int) -> None:
        """Takes the numbers of the samples that were made last back."""
        self._number -= count

    def end(self) -> list[bytes]:
        """Stops; returns the end."""
        self.running = False
        self.ended = True
        return [self._make_end()]

    def _resume(self) -> None:
        delay = self._pacer.resume(time.monotonic())
        if self._pacer.is_paced and not self._has_wall_clock:
            self._delay_us += delay * 1e6
            self._period_from_us += delay * 1e6

    def _set_period(self, period_us: int) -> None:
        following = self._queue.peek()
        if following is None or not self._pacer.is_paced:
            return
        self._period_from_us = self._time_us(following)
        self._period_from = self._number
        self._period_us = period_us
        self._pacer.set_period(period_us / 1e6)

    def _time_us(self, row: Row) -> float:
        """Returns the device's time of the next sample, in microseconds."""
        if self._period_us is not None:
            return self._period_from_us + (self._number - self._period_from) * self._period_us
        return row[0] * 1e6 + self._delay_us

    def _now_us(self) -> float:
        """Returns the device's time now: between its last sample and its next."""
        following = self._queue.peek()
        if following is None:
            return self._last_us
        next_us = self._time_us(following)
        if not self._pacer.is_paced:
            return next_us
        ahead = self._pacer.next_at - time.monotonic()
        if ahead > 0 and self._pacer.gap:
            return next_us - ahead / self._pacer.gap * (next_us - self._last_us)
        return next_us if self._has_wall_clock else next_us - ahead * 1e6

    def _clock_at(self, time_us: float) -> int:
        return round((time_us - self._origin_us) / self._tick_us)

    def _make_hello(self) -> bytes:
        """Returns a hello; on a wall clock device the clock counts from the next row."""
        following = self._queue.peek()
        if self._has_wall_clock and following is not None:
            # An epoch of 0 would say: no wall clock.
            self._epoch_ms = math.floor(self._time_us(following) / 1000) or -1
            self._origin_us = self._epoch_ms * 1000
            self._clock = 0
        hello = replace(
            self._hello,
            sample_period_us=self._period_us or self._hello.sample_period_us,
            clock_epoch_ms=self._epoch_ms,
            sample_count=self._number,
        )
        return encode_frame(hello.encode())

    def _make_end(self) -> bytes:
        return encode_frame(End(self._number).encode())

    def _make_statistics(self) -> bytes:
        commands = self._commands.counters
        bad = commands.damaged + commands.unknown + commands.samples_before_hello
        statistics = Statistics(
            self._number, self._dropped, self._overruns, bad + self._misunderstood
        )
        return encode_frame(statistics.encode())
