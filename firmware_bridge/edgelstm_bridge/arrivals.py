"""When lines of text were made: by their time column, by counting them, or by their arrival.

For `ArrivalTimeline`. No I/O. All times are monotonic seconds of the host.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from edgelstm_bridge.clock import FIRST_ERROR_S, ClockModel, Point, lower_line

_LEARN_S = 1.0
_LEARN_ARRIVALS = 16
_SLACK = 0.3  # of a period: a step of more than 1.5 periods would look like a gap
_BLOCK = 64  # arrivals in which a device shows whether it is regular
_TOLERANCE = 0.02  # of a period that was learnt in a second
_LATENCY_S = 0.02  # of an arrival: the 16 ms of an FTDI chip, and some
_PAUSE_S = 0.1  # a host that was busy for so long is no pause of the device
_LAG_S = 0.008
_LAG_ARRIVALS = 8
_LAG_SEEN_S = 0.5
_LATEST_FORGOTTEN_S = 30.0
_MOST_BREAKS = 4  # in a block: more is no period with pauses
_UNITS = (1.0, 1e-3, 1e-6, 1e-9)
_UNIT_TOLERANCE = 1.5


class Dating(NamedTuple):
    """When some lines were made, and how far that may be off."""

    times: list[float]
    error: float


def regular_period(points: Sequence[Point]) -> float | None:
    """Return the period of lines, from the arrivals of some; None when they have none.

    Args:
        points: how many lines had come, and when the last of them arrived.
    """
    period, height, _ = lower_line(points)
    late = median(arrived - height - period * count for count, arrived in points)
    return period if period > 0 and late <= max(_LATENCY_S, period / 4) else None


class LineCount:
    """Dates lines by counting them, one in every period, as long as they come so.

    Args:
        period: seconds, where it is known.
    """

    def __init__(self, period: float | None = None) -> None:
        self._count = 0
        self._arrivals: deque[Point] = deque(maxlen=_BLOCK)
        self._learning = True
        self._first: Point | None = None
        self._dated = math.inf  # when the last line was made, as far as was known
        self._last_arrival: float | None = None
        self._model: ClockModel | None = None
        self._period = 0.0
        self._breaks: deque[int] = deque(maxlen=_MOST_BREAKS)  # when the period was broken
        if period:
            self._follow(period)

    @property
    def period(self) -> float | None:
        """Seconds between two lines; None while it is not known, and when they have none."""
        return None if self._model is None else self._period

    def date(self, lines: int, arrived_at: float) -> Dating:
        """Date lines that came at once, at least one."""
        self._count += lines
        self._arrivals.append((self._count, arrived_at))
        if self._model is None:
            dating = self._learn(lines, arrived_at)
        else:
            dating = self._by_period(self._model, lines, arrived_at)
        self._last_arrival = arrived_at
        return dating

    def _follow(self, period: float) -> ClockModel:
        """Go by this period from now on."""
        self._period = period
        self._model = model = ClockModel(period, 0.0, _TOLERANCE, period)
        self._latest = 0.0  # how late arrivals were, of late
        self._lagging: list[Point] = []  # arrivals in a row that were late: when, and by how much
        for count, arrived_at in self._arrivals:
            model.observe(count, arrived_at)
        self._learning = False
        return model

    def _learn(self, lines: int, arrived_at: float) -> Dating:
        """Date by arrival, or by what the period seems to be, and see whether there is one."""
        count = self._count
        if self._first is None:
            self._first = count, arrived_at
        first_count, first_arrival = self._first
        waited = arrived_at - (self._last_arrival or arrived_at)
        enough = len(self._arrivals) >= (_LEARN_ARRIVALS if self._learning else _BLOCK)
        if enough and arrived_at - first_arrival >= _LEARN_S:
            period = regular_period(self._arrivals)
            if period is not None:
                return self._counted(self._follow(period), lines)
            self._learning = False
            self._first = None
            self._arrivals.clear()
        if not self._learning or count == first_count:
            self._dated = arrived_at
            latency = _LATENCY_S if not self._learning else FIRST_ERROR_S
            return Dating([arrived_at] * lines, latency + (waited if lines > 1 else 0.0))
        passed = arrived_at - first_arrival
        # The first may have been in time and the others late: rather too short than a false gap.
        period = passed / (count - first_count + (passed < FIRST_ERROR_S))
        # No arrival is early, so the least of them bounds all.
        now = min(arrived + (count - n) * period for n, arrived in self._arrivals)
        pause = now - self._dated >= lines * period + FIRST_ERROR_S
        return self._spread(lines, now, period, FIRST_ERROR_S + period, may_jump=pause)

    def _by_period(self, model: ClockModel, lines: int, arrived_at: float) -> Dating:
        late = arrived_at - model.time_of(self._count) if self._last_arrival is not None else 0.0
        broken = self._is_broken(model, late, arrived_at)
        if broken:
            self._breaks.append(self._count)
            if self._breaks_within(_MOST_BREAKS, _BLOCK):
                return self._give_up(lines, arrived_at)
        period = None
        # Again and again by a little, without a pause: the period is another.
        if broken and late < _PAUSE_S and self._breaks_within(2, 2 * _BLOCK):
            period = regular_period(self._arrivals)
        if period is not None:
            model = self._follow(period)
        else:
            model.observe(self._count, arrived_at)
        return self._counted(model, lines, may_jump=broken)

    def _counted(self, model: ClockModel, lines: int, *, may_jump: bool = False) -> Dating:
        now = model.time_of(self._count)
        return self._spread(lines, now, model.seconds_per_tick, model.error, may_jump=may_jump)

    def _spread(
        self, lines: int, now: float, period: float, error: float, *, may_jump: bool
    ) -> Dating:
        """Date the last line `now` and the others a period apart.

        Unless it may jump, time moves on no faster than could not be mistaken for a gap.
        """
        most = self._dated + (lines + _SLACK) * period
        if now > most and not may_jump:
            error += now - most
            now = most
        self._dated = now
        return Dating([now - i * period for i in range(lines - 1, -1, -1)], error)

    def _breaks_within(self, breaks: int, lines: int) -> bool:
        return len(self._breaks) >= breaks and self._count - self._breaks[-breaks] < lines

    def _is_broken(self, model: ClockModel, late: float, arrived_at: float) -> bool:
        """Tell whether lines were left out, or came too early; after that the count is anew."""
        forgotten = (arrived_at - (self._last_arrival or arrived_at)) / _LATEST_FORGOTTEN_S
        self._latest *= max(0.0, 1 - forgotten)
        lag = max(0.6 * self._period, _LAG_S)
        if late > self._latest + self._period / 2 + _PAUSE_S:
            self._lagging.clear()
            model.forget()
            return True
        if late <= lag:
            self._latest = max(self._latest, late, *(once for _, once in self._lagging))
            self._lagging.clear()
            return late < -lag
        self._lagging.append((arrived_at, late))
        if len(self._lagging) < _LAG_ARRIVALS or arrived_at - self._lagging[0][0] < _LAG_SEEN_S:
            return False
        # Lines were left out that were too few to tell at once.
        least = min(late for _, late in self._lagging)
        self._lagging.clear()
        model.forget()
        model.observe(self._count, arrived_at - (late - least))
        return True

    def _give_up(self, lines: int, arrived_at: float) -> Dating:
        """Date by arrival until a whole block is regular."""
        self._model = None
        self._first = None
        self._arrivals.clear()
        self._breaks.clear()
        waited = arrived_at - (self._last_arrival or arrived_at)
        return Dating([arrived_at] * lines, _LATENCY_S + (waited if lines > 1 else 0.0))


class ClockColumn:
    """Dates lines by a column that holds the device's clock.

    Args:
        unit: seconds per unit; None to find it out.
        wrap: where the clock starts again from 0, in units; None when it does not.
    """

    def __init__(self, unit: float | None, wrap: float | None) -> None:
        self._wrap = wrap
        self._unit = 0.0
        self._model: ClockModel | None = None
        self._last: tuple[float, float] | None = None  # unwrapped clock, and its arrival
        self._first: Point | None = None
        if unit:
            self._follow(unit)

    def date(self, clocks: Sequence[float], arrived_at: float) -> Dating | None:
        """Date lines that came at once, at least one; None while their unit is not known."""
        newest = clocks[-1]
        if not math.isfinite(newest):
            newest = next(filter(math.isfinite, reversed(clocks)), math.nan)
            if math.isnan(newest):
                return None
        if self._model is None:
            self._find_unit(newest, arrived_at)
        model = self._model
        if model is None:
            return None
        if newest % 1:  # its digits tell, not its unit
            model.resolution = self._unit / 1000
        last = self._last
        clock = self._unwrap(newest, arrived_at)
        if last is not None and clock > last[0]:
            model.sample_period = (clock - last[0]) / len(clocks) * self._unit
        model.observe(clock, arrived_at)
        now = model.time_of(clock)
        unit, wrap = model.seconds_per_tick, self._wrap
        times = []
        for value in clocks:
            behind = newest - value
            if behind < 0 and wrap:
                behind %= wrap
            # Before a restart, or no number: of the time when it came.
            usable = behind >= 0 and not (wrap and behind > wrap / 2)
            times.append(now - behind * unit if usable else now)
        return Dating(times, model.error)

    def _find_unit(self, clock: float, arrived_at: float) -> None:
        if self._first is None:
            self._first = clock, arrived_at
            return
        passed = arrived_at - self._first[1]
        if passed < _LEARN_S:
            return
        pace = (clock - self._first[0]) / passed
        for unit in _UNITS:
            if 1 / _UNIT_TOLERANCE < pace * unit < _UNIT_TOLERANCE:
                self._follow(unit)
        self._first = None

    def _follow(self, unit: float) -> None:
        self._unit = unit
        self._model = ClockModel(unit)

    def _unwrap(self, clock: float, arrived_at: float) -> float:
        if self._wrap and self._last is not None:
            last, last_arrival = self._last
            expected = last + (arrived_at - last_arrival) / self._unit
            clock += self._wrap * round((expected - clock) / self._wrap)
        self._last = clock, arrived_at
        return clock
