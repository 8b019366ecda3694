"""`TextReceiver`: readings from a device that writes lines of text. No I/O."""

from __future__ import annotations

import math
from collections import deque

from edgelstm.reading import Reading
from edgelstm_bridge.events import Event, Gap, Log, Restarted
from edgelstm_bridge.formats import (
    Format,
    FormatError,
    Note,
    Row,
    TextDecoder,
    TooFewLinesError,
    detect,
)
from edgelstm_bridge.messages import ChannelInfo, LogLevel
from edgelstm_bridge.receiver import Receiver, SourceCounters
from edgelstm_bridge.timeline import ArrivalTimeline, TimeColumn

_LOOK_S = 1.0
_LOOK_SIZE = 65_536  # of a file that comes all at once
_MOST_SIZE = 1_048_576  # of one that never tells its format
_GAP_PERIODS = 1.5
_STEPS = 32
_FEWEST_STEPS = 16
_REGULAR = 0.9  # of the steps are no longer than that in a device that sends at an even pace
_ARDUINO_WRAP = 2**32  # of millis() and micros()


class TextReceiver(Receiver):
    """Reads lines of text, whose format is told from the first second of them.

    Args:
        fmt: as far as the user says it; None for a format that is told as a whole.
        whole_start: the first byte of a link is the first of a line: of a file or a message, not of
            an open line.
    """

    def __init__(self, fmt: Format | None = None, *, whole_start: bool = False) -> None:
        self._counters = SourceCounters()
        self._wanted = fmt
        self._whole_start = whole_start
        self._decoder: TextDecoder | None = None
        self._channels: tuple[ChannelInfo, ...] | None = None
        self._timeline = ArrivalTimeline()
        # What came before the format was told.
        self._early: list[tuple[bytes, float, float]] = []
        self._early_size = 0
        self._complaint = ""
        self._refusal: FormatError | None = None
        self._last: Reading | None = None
        self._steps = _UsualStep()
        self._has_rows = False
        if fmt is not None and fmt.complete:
            self._begin(fmt)

    @property
    def format(self) -> Format | None:
        """How lines are read; None until it is told."""
        return self._decoder.format if self._decoder else None

    @property
    def counters(self) -> SourceCounters:
        """See `Receiver.counters`."""
        return self._counters

    @property
    def channels(self) -> tuple[ChannelInfo, ...] | None:
        """See `Receiver.channels`."""
        return self._channels

    @property
    def sample_period(self) -> float | None:
        """See `Receiver.sample_period`; lines say none."""
        return None

    @property
    def has_bytes(self) -> bool:
        """Whether anything came."""
        return bool(self._early or self._complaint)

    def connected(self, now: float) -> None:
        """See `Receiver.connected`."""

    def disconnected(self) -> None:
        """See `Receiver.disconnected`."""
        self._early.clear()
        self._early_size = 0
        if self._decoder is not None:
            self._decoder.break_line(whole_start=self._whole_start)

    def receive(self, data: bytes, arrived_at: float, wall_offset: float) -> list[Event]:
        """See `Receiver.receive`.

        Raises:
            FormatError: the format changed on the way.
        """
        if self._decoder is not None:
            return self._decode(self._decoder, data, arrived_at, wall_offset)
        self._early.append((data, arrived_at, wall_offset))
        self._early_size += len(data)
        if arrived_at - self._early[0][1] < _LOOK_S and self._early_size < _LOOK_SIZE:
            return []
        return self._try_to_look()

    def idle(self, now: float) -> list[Event]:
        """See `Receiver.idle`."""
        is_due = self._decoder is None and self._early and now - self._early[0][1] >= _LOOK_S
        return self._try_to_look() if is_due else []

    def finish(self, arrived_at: float, wall_offset: float) -> list[Event]:
        """See `Receiver.finish`.

        Raises:
            FormatError: the format cannot be told.
        """
        events: list[Event] = []
        if self._decoder is None and self._early:
            try:
                events = self._look()
            except TooFewLinesError as error:
                raise self._refusal or error from None
        if self._decoder is not None:
            events += self._events(self._decoder.finish(), arrived_at, wall_offset)
            self._count(self._decoder)
        return events

    def missing(self) -> str:
        """See `Receiver.missing`."""
        if self._complaint:
            return self._complaint
        if self._early:
            return "too little came to tell its format; wait for more, with a longer --timeout"
        return "nothing came; is it the right port, and does the device send by itself?"

    def forget(self) -> None:
        """Throws away what came so far and was not understood."""
        self._early.clear()
        self._early_size = 0

    def _try_to_look(self) -> list[Event]:
        """Looks, and waits for more where that may help."""
        try:
            return self._look()
        except FormatError as error:
            self._complaint = str(error).removesuffix(".")
            if isinstance(error, TooFewLinesError) and self._early_size <= _MOST_SIZE:
                self._complaint += ", with a longer --timeout"
            else:
                self._refusal = error
                # What a board sends while it boots may be anything: what follows may tell.
                self.forget()
        return []

    def _look(self) -> list[Event]:
        """Tells the format, and reads what came until now."""
        data = b"".join(chunk for chunk, _, _ in self._early)
        decoder = self._begin(detect(data, self._wanted, whole_start=self._whole_start))
        early, self._early = self._early, []
        return [event for chunk in early for event in self._decode(decoder, *chunk)]

    def _begin(self, fmt: Format) -> TextDecoder:
        self._decoder = TextDecoder(fmt, whole_start=self._whole_start)
        self._channels = tuple(
            ChannelInfo(name, unit)
            for name, unit in zip(fmt.channels or (), fmt.channel_units, strict=True)
        )
        if fmt.time:
            wrap = None if fmt.time_is_text else _ARDUINO_WRAP
            self._timeline = ArrivalTimeline(clock=TimeColumn(fmt.clock_unit, wrap))
        return self._decoder

    def _decode(
        self, decoder: TextDecoder, data: bytes, arrived_at: float, wall_offset: float
    ) -> list[Event]:
        events = self._events(decoder.feed(data), arrived_at, wall_offset)
        self._count(decoder)
        return events

    def _events(
        self, items: list[Row | Note], arrived_at: float, wall_offset: float
    ) -> list[Event]:
        events: list[Event] = []
        rows: list[Row] = []
        for item in items:
            if type(item) is Row:
                rows.append(item)
                continue
            self._take(rows, arrived_at, wall_offset, events)
            rows = []
            if isinstance(item, Note):
                self._follow(item, events)
        self._take(rows, arrived_at, wall_offset, events)
        return events

    def _take(
        self, rows: list[Row], arrived_at: float, wall_offset: float, events: list[Event]
    ) -> None:
        """Appends the readings of rows, and the gaps between them."""
        if not rows:
            return
        self._has_rows = True
        # All rows of a format have a time, or none has.
        clocks = [row.clock for row in rows if row.clock is not None] or None
        values = [row.values for row in rows]
        readings = self._timeline.readings(values, clocks, arrived_at, wall_offset)
        self._counters.readings += len(readings)
        # Lines that are dated by their arrival show no gaps that are worth the name.
        period = self._timeline.period if clocks is None else self._steps.period
        longest = math.inf if period is None else _GAP_PERIODS * period
        before = self._last.timestamp if self._last else readings[0].timestamp
        for reading in readings:
            step = reading.timestamp - before
            if period is not None and step > longest:
                missing = max(1, round(step / period) - 1)
                self._counters.gaps += 1
                events.append(Gap(missing, False, reading.timestamp, step))
            if clocks is not None:
                self._steps.add(step)
            before = reading.timestamp
            events.append(reading)
        self._last = reading

    def _follow(self, note: Note, events: list[Event]) -> None:
        if not note.header:
            self._counters.notes += 1
            events.append(Log(LogLevel.INFO, note.text))
        elif self._has_rows:  # it says its header again: it has restarted
            self._counters.restarts += 1
            events.append(Restarted())

    def _count(self, decoder: TextDecoder) -> None:
        self._counters.damaged = decoder.counters.damaged


class _UsualStep:
    """Learns from the last steps of a device's clock what a usual one is.

    Attributes:
        period: seconds; None while too few are known, and of a device that sends when it likes.
    """

    def __init__(self) -> None:
        self.period: float | None = None
        self._steps: deque[float] = deque(maxlen=_STEPS)
        self._added = 0

    def add(self, step: float) -> None:
        """Takes the next step, in seconds."""
        self._steps.append(step)
        self._added += 1
        if self._added % _FEWEST_STEPS:
            return
        steps = sorted(self._steps)
        period = steps[len(steps) // 2]
        usual = steps[: int(_REGULAR * len(steps))]
        is_regular = period > 0 and usual[-1] <= _GAP_PERIODS * period <= 2.25 * steps[3]
        self.period = period if is_regular else None
