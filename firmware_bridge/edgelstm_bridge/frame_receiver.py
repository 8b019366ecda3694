"""`FrameReceiver`: readings from a device with the frame protocol. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from edgelstm.errors import ConfigurationError, SourceError
from edgelstm.reading import Reading
from edgelstm_bridge.codec import DELIMITER, encode_frame
from edgelstm_bridge.decoder import FrameDecoder, Restart
from edgelstm_bridge.events import Ended, Event, Gap, Log, Restarted
from edgelstm_bridge.messages import (
    ChannelInfo,
    End,
    Hello,
    Message,
    Ping,
    Pong,
    Rate,
    Report,
    Sample,
    Start,
    Statistics,
    Stop,
)
from edgelstm_bridge.messages import (
    Log as LogMessage,
)
from edgelstm_bridge.receiver import Receiver, SourceCounters
from edgelstm_bridge.timeline import Timeline

_START_INTERVAL_S = 1.0  # many boards reset when their port is opened, and miss the first start
_SILENCE_S = 2.0
_SILENT_PERIODS = 5
_PINGS_AT_ONCE = 5  # the shortest round trip of some is close to the line's own
_FIRST_PING_INTERVAL_S = 0.05
_PING_INTERVAL_S = 10.0
_LONGEST_PERIOD_US = 2**32 - 1


@dataclass(slots=True)
class _Pings:
    """When pings are sent, often at first, and which are waited for."""

    at_once: int = _PINGS_AT_ONCE
    interval: float = _FIRST_PING_INTERVAL_S
    next_at: float = 0.0
    token: int = 0
    waiting: dict[int, float] = field(default_factory=dict)

    def due(self, now: float) -> bytes:
        if now < self.next_at:
            return b""
        self.next_at = now + self.interval
        self.token = (self.token + 1) & 0xFFFFFFFF
        commands = encode_frame(Ping(self.token).encode())
        if self.interval == _PING_INTERVAL_S:
            commands += encode_frame(Report().encode())
        if self.at_once:
            self.at_once -= 1
        else:  # ever more seldom: the drift is soon known
            self.interval = min(_PING_INTERVAL_S, 2 * self.interval)
        return commands

    def sent(self, token: int, now: float) -> None:
        self.waiting[token] = now
        while len(self.waiting) > 2 * _PINGS_AT_ONCE:  # a device that does not answer
            del self.waiting[next(iter(self.waiting))]


class _Stage(Enum):
    """How far a device has come since the link was opened."""

    UNKNOWN = auto()
    RESTARTED = auto()
    GREETED = auto()
    RUNNING = auto()
    ENDED = auto()


class FrameReceiver(Receiver):
    """Speaks the frame protocol with a device.

    Args:
        sample_period: what to ask the device for, in seconds; None for its own.

    Raises:
        ConfigurationError: the protocol cannot ask for this period.
    """

    def __init__(self, sample_period: float | None = None) -> None:
        if sample_period is not None and not 1 <= sample_period * 1e6 <= _LONGEST_PERIOD_US:
            raise ConfigurationError(
                f"No device can be asked for a reading every {sample_period:g} s: it takes 1 us to "
                "71 minutes."
            )
        self._counters = SourceCounters()
        self._statistics: Statistics | None = None
        self._decoder = FrameDecoder()
        self._commands = FrameDecoder()  # reads what was sent
        self._timeline: Timeline | None = None
        self._channels: tuple[ChannelInfo, ...] | None = None
        self._wanted = sample_period
        self._asked = False
        self._stage = _Stage.UNKNOWN
        self._next_start = 0.0
        self._last_bytes = 0.0
        self._last: Reading | None = None
        self._is_exact = True  # whether numbers tell what is missing before the next reading
        self._pings = _Pings()

    @property
    def counters(self) -> SourceCounters:
        """See `Receiver.counters`."""
        return self._counters

    @property
    def statistics(self) -> Statistics | None:
        """See `Receiver.statistics`."""
        return self._statistics

    @property
    def has_frames(self) -> bool:
        """Whether a whole frame has come."""
        return self._decoder.counters.good > 0

    @property
    def hello(self) -> Hello | None:
        """What the device said about itself last."""
        return self._decoder.hello

    @property
    def channels(self) -> tuple[ChannelInfo, ...] | None:
        """See `Receiver.channels`."""
        return self._channels

    @property
    def sample_period(self) -> float | None:
        """See `Receiver.sample_period`."""
        hello = self._decoder.hello
        return hello.sample_period_us / 1e6 if hello and hello.sample_period_us else None

    @property
    def device(self) -> str:
        """See `Receiver.device`."""
        hello = self._decoder.hello
        if hello is None:
            return ""
        return " ".join(text for text in (hello.device_id, hello.firmware_version) if text)

    @property
    def ended(self) -> bool:
        """See `Receiver.ended`."""
        return self._stage is _Stage.ENDED

    def connected(self, now: float) -> None:
        """See `Receiver.connected`."""
        self._stage = _Stage.UNKNOWN
        self._next_start = self._last_bytes = now
        self._pings = _Pings(token=self._pings.token)

    def disconnected(self) -> None:
        """See `Receiver.disconnected`."""
        self._decoder.break_line()

    def receive(self, data: bytes, arrived_at: float, wall_offset: float) -> list[Event]:
        """See `Receiver.receive`."""
        events: list[Event] = []
        samples: list[Sample] = []
        self._last_bytes = arrived_at
        for message in self._decoder.feed(data):
            if type(message) is Sample:
                samples.append(message)
                continue
            self._take(samples, arrived_at, wall_offset, events)
            samples = []
            self._follow(message, arrived_at, events)
        self._take(samples, arrived_at, wall_offset, events)
        self._count()
        return events

    def due(self, now: float) -> bytes:
        """See `Receiver.due`."""
        if self._stage is _Stage.ENDED:
            return b""
        silence = max(_SILENCE_S, _SILENT_PERIODS * (self.sample_period or 0.0))
        running = self._stage is _Stage.RUNNING
        # A device that restarted unheard is silent, and waits for a start.
        if not running or now - self._last_bytes > silence:
            if now < self._next_start:
                return b""
            self._next_start = now + (silence if running else _START_INTERVAL_S)
            # The delimiter ends whatever the device may have received half of.
            return DELIMITER + encode_frame(Start().encode())
        return self._ask_for_rate() or self._pings.due(now)

    def sent(self, data: bytes, now: float) -> None:
        """See `Receiver.sent`."""
        for message in self._commands.feed(data):
            if isinstance(message, Ping):
                self._pings.sent(message.token, now)

    def stop(self) -> bytes:
        """See `Receiver.stop`."""
        return DELIMITER + encode_frame(Stop().encode())

    def missing(self) -> str:
        """See `Receiver.missing`."""
        counters = self._decoder.counters
        if self._decoder.complaint:
            return f"its frames are malformed ({self._decoder.complaint}); mend the firmware"
        if counters.good:
            return "frames come, but no hello; does the device hear the start?"
        if counters.damaged:
            return "bytes come, but no whole frame; is the baud rate right?"
        return "no hello; is it the right port, and does the device run edgelstm firmware?"

    def _take(
        self, samples: list[Sample], arrived_at: float, wall_offset: float, events: list[Event]
    ) -> None:
        """Appends the readings of samples, and the gaps between them."""
        if not samples or self._timeline is None:
            return
        readings = self._timeline.readings(samples, arrived_at, wall_offset)
        last, newest = self._last, readings[-1]
        self._last = newest
        first = last.sequence_number if last else None
        if first is not None and newest.sequence_number != first + len(readings):
            _with_gaps(last, readings, self._is_exact, events, self._counters)
        else:
            events.extend(readings)
        self._is_exact = True
        self._stage = _Stage.RUNNING
        self._counters.readings += len(readings)

    def _follow(self, message: Message | Restart, arrived_at: float, events: list[Event]) -> None:
        if isinstance(message, Restart):
            self._stage = _Stage.RESTARTED
            events.append(Restarted())
        elif isinstance(message, Hello):
            self._greet(message)
        elif isinstance(message, Pong):
            sent_at = self._pings.waiting.pop(message.token, None)
            if sent_at is not None and self._timeline is not None:
                self._timeline.pong(message.device_clock, sent_at, arrived_at)
        elif isinstance(message, LogMessage):
            self._counters.notes += 1
            events.append(Log(message.level, message.text))
        elif isinstance(message, Statistics):
            self._statistics = message
            events.append(message)
        elif isinstance(message, End):
            self._stage = _Stage.ENDED
            events.append(Ended())

    def _greet(self, hello: Hello) -> None:
        if self._channels is None:
            self._channels = hello.channels
            self._timeline = Timeline(hello)
        elif [(c.name, c.unit) for c in hello.channels] != [
            (c.name, c.unit) for c in self._channels
        ]:
            raise SourceError(
                "The device changed its channels while running; start again to go on with those."
            )
        elif self._timeline is not None:
            if self._stage is _Stage.RESTARTED:
                self._timeline.restart(hello)
                self._is_exact = False
            else:
                self._timeline.hello(hello)
        if self._stage is _Stage.GREETED:
            self._stage = _Stage.RUNNING
        elif self._stage is not _Stage.RUNNING:
            # It may have sent this because it has just booted, and wait for a start.
            self._stage = _Stage.GREETED
            self._next_start = 0.0
            self._asked = False
            self._pings = _Pings(token=self._pings.token)

    def _ask_for_rate(self) -> bytes:
        if self._wanted is None or self._asked:
            return b""
        self._asked = True
        return encode_frame(Rate(round(self._wanted * 1e6)).encode())

    def _count(self) -> None:
        seen, counters = self._decoder.counters, self._counters
        counters.lost = seen.lost
        counters.damaged = seen.damaged
        counters.reordered = seen.reordered
        counters.restarts = seen.restarts


def _with_gaps(
    last: Reading | None,
    readings: Sequence[Reading],
    exact: bool,
    events: list[Event],
    counters: SourceCounters,
) -> None:
    """Appends readings, and before each the gap in the sequence numbers, if there is one."""
    for reading in readings:
        if last is not None:
            missing = (reading.sequence_number or 0) - (last.sequence_number or 0) - 1
            if missing > 0:
                counters.gaps += 1
                step = reading.timestamp - last.timestamp
                events.append(Gap(missing, exact, reading.timestamp, step))
                exact = True
        events.append(reading)
        last = reading
