"""From a device's wrapping counts, or mere arrivals, to readings on the host's time axis. No I/O.

Every timestamp is in Unix seconds of the host, and with it comes how far it may be off. Without a
wall clock on the device timestamps always grow: where the host finds that it dated readings too
late, or its own clock is set back, time goes slower, and the stated error says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgelstm.reading import Reading
from edgelstm_bridge.arrivals import ClockColumn, Dating, LineCount
from edgelstm_bridge.clock import ClockModel
from edgelstm_bridge.messages import Hello, Sample
from edgelstm_bridge.steady_clock import SteadyClock

_CLOCK_RANGE = 2**32
_CLOCK_MASK = _CLOCK_RANGE - 1
_COUNT_TOLERANCE = 0.1  # of the period that a device says it has
_LEAST_STEP = 1e-6  # seconds between two readings

MAX_CLOCK_STEP = _CLOCK_RANGE // 2
"""The device clock must move by less than this many ticks from one sample to the next."""


def clock_step(previous: int, current: int) -> int:
    """Return how far the device clock went on, in ticks.

    Negative when it went back, as a wall clock does when somebody sets it.
    """
    return (current - previous + MAX_CLOCK_STEP) % _CLOCK_RANGE - MAX_CLOCK_STEP


class Timeline:
    """Gives the samples of one device their timestamps and sequence numbers.

    A device with a wall clock of its own (an epoch in its hello) is taken at its word: its
    timestamps carry no error, and go back when its clock is set back. Any other clock is regressed
    against the host's by a `ClockModel`.

    The sequence number of a reading is the device's own. After a restart it goes on by as many as
    sample periods passed, so that it shows how many readings the restart cost, about.

    Args:
        hello: the device's first.
    """

    def __init__(self, hello: Hello) -> None:
        self._wall = SteadyClock()
        self._last_timestamp = -math.inf
        self._last_number = 0
        self._shift: int | None = 0  # from the device's number to ours; None: not known yet
        self._first: tuple[float, int] | None = None  # of this boot: timestamp and number
        self._period = 0.0
        self._take(hello)
        self._model = self._new_model()

    def restart(self, hello: Hello) -> None:
        """Take the hello of a new boot: its clock and its numbers begin anew."""
        if self._first is not None:
            self._shift = None
            timestamp, number = self._first
            if not self._period and self._last_number > number:
                self._period = (self._last_timestamp - timestamp) / (self._last_number - number)
        self._first = None
        self._take(hello)
        self._model = self._new_model()

    def hello(self, hello: Hello) -> None:
        """Take another hello of the same boot: the epoch and the period may have changed."""
        before = self._tick_us, self._counts and self._period
        self._take(hello)
        if (self._tick_us, self._counts and self._period) != before:
            self._model = self._new_model()
        self._model.sample_period = self._period or None

    def readings(
        self, samples: Sequence[Sample], arrived_at: float, wall_offset: float
    ) -> list[Reading]:
        """Return the readings of samples that came at once.

        Args:
            samples: in order; their sequence numbers grow.
            arrived_at: when the last of them was there, in monotonic seconds.
            wall_offset: what makes Unix seconds of it.
        """
        if not samples:
            return []
        if self._epoch_us:
            readings = self._by_own_clock(samples)
        else:
            if self._counts:
                samples = [Sample(n, n & _CLOCK_MASK, values) for n, _, values in samples]
            readings = self._by_host(samples, arrived_at, wall_offset)
        if self._first is None:
            self._first = (
                readings[0].timestamp,
                self._last_number - (samples[-1].sequence_number - samples[0].sequence_number),
            )
        return readings

    def pong(self, device_clock: int, sent_at: float, received_at: float) -> None:
        """Take the answer to a ping.

        Args:
            device_clock: as the device read it.
            sent_at: when the ping was sent, in monotonic seconds.
            received_at: when the answer was there.
        """
        if not self._epoch_us and not self._counts:
            ticks = self._model.unwrap(device_clock, received_at)
            self._model.observe_ping(ticks, sent_at, received_at)

    def _take(self, hello: Hello) -> None:
        self._tick_us = hello.clock_tick_us
        self._epoch_us = hello.clock_epoch_ms * 1000
        self._clock: int | None = None
        self._period = hello.sample_period_us / 1e6 or self._period
        # A clock too coarse to tell samples apart: their numbers are the better one.
        self._counts = 0 < hello.sample_period_us < 2 * hello.clock_tick_us

    def _new_model(self) -> ClockModel:
        if self._counts:
            return ClockModel(self._period, 0.0, _COUNT_TOLERANCE, self._period)
        return ClockModel(self._tick_us / 1e6, sample_period=self._period or None)

    def _by_host(
        self, samples: Sequence[Sample], arrived_at: float, wall_offset: float
    ) -> list[Reading]:
        model, wall = self._model, self._wall
        newest = samples[-1].device_clock
        ticks = model.unwrap(newest, arrived_at)
        model.observe(ticks, arrived_at)
        now = model.time_of(ticks) + wall.offset(wall_offset, arrived_at)
        stated = model.error + wall.error
        second = model.seconds_per_tick
        last = self._last_timestamp
        shift = self._shift
        if shift is None:
            behind = max(0, clock_step(samples[0].device_clock, newest))
            shift = self._join(samples[0].sequence_number, now - behind * second)
        readings: list[Reading] = []
        append = readings.append
        for number, clock, values in samples:
            behind = newest - clock
            if not 0 <= behind < MAX_CLOCK_STEP:
                # Over a wrap; and a clock that slipped back dates no sample after the next.
                behind = max(0, clock_step(clock, newest))
            timestamp = now - behind * second
            if timestamp <= last:
                last += _LEAST_STEP
                append(Reading(last, values, number + shift, stated + (last - timestamp)))
            else:
                append(Reading(timestamp, values, number + shift, stated))
                last = timestamp
        self._last_timestamp = last
        self._last_number = number + shift
        return readings

    def _by_own_clock(self, samples: Sequence[Sample]) -> list[Reading]:
        clock = self._clock
        last = (clock or 0) % _CLOCK_RANGE
        tick_us, epoch_us, shift = self._tick_us, self._epoch_us, self._shift
        readings: list[Reading] = []
        append = readings.append
        for number, device_clock, values in samples:
            if clock is None:
                clock = device_clock
            else:
                step = device_clock - last
                clock += step if 0 <= step < MAX_CLOCK_STEP else clock_step(last, device_clock)
            last = device_clock
            # Whole microseconds until the one division: no rounding adds up.
            timestamp = (epoch_us + clock * tick_us) / 1_000_000
            if shift is None:
                shift = self._join(number, timestamp)
            append(Reading(timestamp, values, number + shift))
        self._clock = clock
        self._last_timestamp = timestamp
        self._last_number = number + (shift or 0)
        return readings

    def _join(self, number: int, timestamp: float) -> int:
        """Return the shift that makes the first number of a new boot go on from the last one."""
        passed = timestamp - self._last_timestamp
        step = round(passed / self._period) if self._period else 1
        self._shift = self._last_number + max(1, step) - number
        return self._shift


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """What is known of a column that holds the device's clock.

    Attributes:
        unit_seconds: seconds per unit; None to find it out from the first second: seconds (also
            Unix time), milliseconds, microseconds or nanoseconds.
        wrap: where it starts again from 0, in units, as the 2^32 of Arduino's `millis()` and
            `micros()`; None when it does not.
    """

    unit_seconds: float | None = None
    wrap: float | None = None


class ArrivalTimeline:
    """Gives the lines of a text format their timestamps; they have no sequence numbers.

    With a time column that is the clock. Without one the lines themselves are counted: a device
    that sends one in every period is dated by its period, free of the jitter of bursts, and a
    line that comes later than that allows was preceded by a pause, which its timestamp shows. A
    device that sends whenever it likes is dated by the arrivals.

    The period is learnt in the first second. Until then timestamps are rough, and say so.

    Args:
        sample_period: seconds between two lines, where it is known.
        clock: what is known of the time column; None when there is none.
    """

    def __init__(
        self, *, sample_period: float | None = None, clock: TimeColumn | None = None
    ) -> None:
        self._wall = SteadyClock()
        self._last_timestamp = -math.inf
        self._count = LineCount(sample_period)
        self._column = ClockColumn(clock.unit_seconds, clock.wrap) if clock is not None else None

    @property
    def period(self) -> float | None:
        """Seconds between two lines, where they are dated by it; None otherwise."""
        return self._count.period

    def readings(
        self,
        rows: Sequence[tuple[float, ...]],
        clocks: Sequence[float] | None,
        arrived_at: float,
        wall_offset: float,
    ) -> list[Reading]:
        """Return the readings of lines that came at once.

        Args:
            rows: the values of each line, in order.
            clocks: the time column of each line; None when there is none.
            arrived_at: when the last of them was there, in monotonic seconds.
            wall_offset: what makes Unix seconds of it.
        """
        if not rows:
            return []
        dating: Dating | None = None
        if clocks is not None and self._column is not None:
            dating = self._column.date(clocks, arrived_at)
        if dating is None:
            dating = self._count.date(len(rows), arrived_at)
        offset = self._wall.offset(wall_offset, arrived_at)
        stated = dating.error + self._wall.error
        last = self._last_timestamp
        readings: list[Reading] = []
        append = readings.append
        for values, time in zip(rows, dating.times, strict=True):
            timestamp = time + offset
            if timestamp <= last:
                last += _LEAST_STEP
                append(Reading(last, values, None, stated + (last - timestamp)))
            else:
                append(Reading(timestamp, values, None, stated))
                last = timestamp
        self._last_timestamp = last
        return readings
