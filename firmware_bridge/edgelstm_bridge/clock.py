"""`ClockModel`: the host's time of what a device's clock says. No I/O, and no call of a clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

Point = tuple[float, float]

FLOOR_ALLOWANCE_S = 0.002
"""How long the fastest way from the device to the host is taken to last, without a ping."""

BURST_S = 0.016
"""How long a USB chip may gather bytes; where it keeps step with the samples nothing shows it."""

FIRST_ERROR_S = 0.1
"""The stated error of the very first time: how late a first arrival may be."""

_LEAP_S = 0.25  # no drift and no delay: a clock was set, or stood still
_LEAP_SEEN_S = 5.0
_BACKWARDS_S = 1.0
_CLOCK_RANGE = 2**32
_WINDOW_S = 1 / 16
_LONGEST_WINDOW_S = 2.0
_WINDOWS = 128
_RECENT = 32
_FORGET_S = 1800.0
_PINGS = 32
_FIT_SPAN_S = 1.0
_FIT_POINTS = 8
_LEAST_DRIFT_ERROR = 2e-6  # a crystal follows the temperature of the room
_CONTRADICTION_S = 1e-3
_LATE_STEP_S = 5e-4
_SLEW_S = 5.0


def lower_line(points: Sequence[Point]) -> tuple[float, float, float]:
    """Return the line below all points that lies closest to their middle.

    Args:
        points: (x, y) with growing x, at least two of them apart in x.

    Returns:
        The slope of the line, its y at x = 0, and how long its edge of the convex hull is in x.
    """
    hull: list[Point] = []
    for x, y in points:
        while len(hull) > 1:
            (x0, y0), (x1, y1) = hull[-2], hull[-1]
            if (y1 - y0) * (x - x0) < (y - y0) * (x1 - x0):
                break
            hull.pop()
        if hull and hull[-1][0] == x:
            if y >= hull[-1][1]:
                continue
            hull.pop()
        hull.append((x, y))
    middle = (hull[0][0] + hull[-1][0]) / 2
    end = next(i for i in range(1, len(hull)) if hull[i][0] >= middle)
    (x0, y0), (x1, y1) = hull[end - 1], hull[end]
    slope = (y1 - y0) / (x1 - x0)
    return slope, y0 - slope * x0, x1 - x0


class ClockModel:
    """Tells the host's time of a device's clock from what arrives, and when.

    What arrives is late by an unknown delay and never early, so that the true times are the lower
    envelope of the arrivals: the lowest of each window is kept, and the line below them comes from
    their convex hull, as in Zhang, Liu and Xia, "Clock synchronization algorithms for network
    measurements" (INFOCOM 2002). The slope is that of the last four minutes or so, or of 128
    arrivals where they are rarer; the height is that of their last quarter: so the model follows
    a drift that changes with the temperature. It keeps at most 128 windows, whatever the rate.

    The delay of the fastest arrival cannot be known from arrivals alone. `error` allows for
    `FLOOR_ALLOWANCE_S`, and for what a sample may have waited in a burst of `BURST_S`: not longer
    than for the next sample, and less the more the delays that are seen differ. Two-way pings
    bound the time from both sides instead.

    A clock that was set, stood still or began anew is taken as it is from then on: at once where
    it makes arrivals early, after five seconds where it makes them late.

    Where bursts are as long as the sample period, delays change as slowly as a clock that drifts,
    and the true time may lie outside the stated error, by half a burst: on 2 of 250 such devices
    made up at random it did, for a tenth of the first 15 seconds.

    All times are monotonic seconds of the host.

    Args:
        tick: nominal length of a tick in seconds.
        resolution: how far the clock may be behind itself in seconds; by default one tick,
            for it counts whole ones.
        tolerance: how far the tick may be off; by default what a ceramic resonator may.
        sample_period: seconds between two samples; None when it is not known.

    Attributes:
        error: seconds; the true time of the last observation lies within `time_of` -+ `error`.
        resolution: as above; may be changed when it turns out to be finer.
        sample_period: as above; may be changed.
        drift_ppm: how much faster the device's clock runs than its nominal tick, in parts per
            million; None before it is known.
    """

    def __init__(
        self,
        tick: float,
        resolution: float | None = None,
        tolerance: float = 5e-3,
        sample_period: float | None = None,
    ) -> None:
        self.error = FIRST_ERROR_S
        self.drift_ppm: float | None = None
        self.sample_period = sample_period
        self._tick = tick
        self.resolution = tick if resolution is None else resolution
        self._last: tuple[int, float] | None = None  # what unwrap gave last, and for when
        self._origin: tuple[float, float] | None = None
        # In what follows x is seconds of the device since the origin, and y what the host's
        # clock was ahead of it.
        self._slope = 0.0
        self._slope_error = self._tolerance = tolerance
        self._minima: list[tuple[float, float, int]] = []  # of closed windows: x, y, how many
        self._pings: deque[Point] = deque(maxlen=_PINGS)  # x, and the least that y can be
        self._newest = 0.0  # the greatest x
        self._still = False
        self._start(0.0, 0.0)

    @property
    def seconds_per_tick(self) -> float:
        """What a tick lasts by the host's clock."""
        return self._tick * (1 + self._slope)

    def unwrap(self, clock: int, arrived_at: float) -> int:
        """Return the ticks of a clock that wraps at 2^32; the host's time tells its turns."""
        ticks = clock
        if self._last is not None:
            last_ticks, last_arrival = self._last
            expected = last_ticks + round((arrived_at - last_arrival) / self._tick)
            # The nearest: half a range up and half a range down.
            ticks += (expected - clock + _CLOCK_RANGE // 2) // _CLOCK_RANGE * _CLOCK_RANGE
        self._last = ticks, arrived_at
        return ticks

    def observe(self, ticks: float, arrived_at: float) -> None:
        """Take one arrival: the last of those that came at once, which is the freshest.

        Args:
            ticks: of the device's clock, unwrapped, when what arrived was made.
            arrived_at: never before that.
        """
        if self._origin is None:
            self._origin = ticks, arrived_at
            self._start(0.0, 0.0)
            self._refit(0.0)
            return
        x, y = self._place(ticks, arrived_at)
        late = y - self._upper(x)
        if late < -_LEAP_S or x < self._newest - _BACKWARDS_S or self._stands_still(x, y):
            self._start(x, y)
            self._refit(x)
            return
        if late < 0:
            self._lower(x, y)
        self._usually_late += _LATE_STEP_S * (0.75 if late > self._usually_late else -0.25)
        if x >= self._newest:
            self._newest = x
            self._collect(x, y)
        self._state_error(x)

    def observe_ping(self, ticks: float, sent_at: float, received_at: float) -> None:
        """Take the answer to a ping: the device read its clock between these two times."""
        self.observe(ticks, received_at)
        x, y = self._place(ticks, sent_at)
        y -= self.resolution  # its clock had gone on for up to a tick that it did not count
        if y - self._upper(x) > self._margin + _CONTRADICTION_S:
            # What arrived before says that it cannot be as late: the clock has lost time since.
            self._start(*self._place(ticks, received_at))
        self._pings.append((x, y))
        self._refit(self._newest)

    def forget(self) -> None:
        """Begin anew with the next arrival: the clock did not go on meanwhile."""
        self._origin = None

    def time_of(self, ticks: float) -> float:
        """Return the time when the clock said this. Before anything was observed it is 0."""
        if self._origin is None:
            return 0.0
        x = (ticks - self._origin[0]) * self._tick
        return self._origin[1] + x + self._estimate(x)

    def _place(self, ticks: float, time: float) -> Point:
        origin_ticks, origin_time = self._origin or (ticks, time)
        x = (ticks - origin_ticks) * self._tick
        return x, time - origin_time - x

    def _start(self, x: float, y: float) -> None:
        """Forget all but the slope."""
        self._minima.clear()
        self._pings.clear()
        self._window = _WINDOW_S
        self._current = (x, y, 1)
        self._newest = x
        self._line = (x, y)
        self._below = 0.0  # the estimate lies below the line by this much
        self._left = 0.0  # of the last change of the estimate, at _left_at: it goes in bit by bit
        self._left_at = x
        self._base_error = FIRST_ERROR_S
        self._margin = 0.0  # how uncertain the height of the line is for its age
        self._moved = True  # the estimate may jump
        self._usually_late = 0.0  # three of four arrivals are less late

    def _upper(self, x: float) -> float:
        return self._line[1] + self._slope * (x - self._line[0])

    def _estimate(self, x: float) -> float:
        return self._target(x) + self._correction(x)

    def _target(self, x: float) -> float:
        return self._upper(x) - self._below

    def _correction(self, x: float) -> float:
        if not self._left:
            return 0.0
        return self._left * min(1.0, max(0.0, 1 - (x - self._left_at) / _SLEW_S))

    def _stands_still(self, x: float, y: float) -> bool:
        """Whether the clock does not go: a device without one sends what it likes."""
        if x > self._newest:
            self._still = False
        elif x == self._newest and y - self._current[1] > _BACKWARDS_S + 2 * self._tick:
            self._still = True
        return self._still

    def _lower(self, x: float, y: float) -> None:
        """Put the line through a point below it; the estimate keeps its height if it can."""
        estimate = min(self._estimate(x), y)
        self._line = (x, y)
        self._left = estimate - (y - self._below)
        self._left_at = x

    def _collect(self, x: float, y: float) -> None:
        lowest_x, lowest_y, seen = self._current
        if x // self._window == lowest_x // self._window:
            if y - lowest_y < self._slope * (x - lowest_x):
                self._current = (x, y, seen)
            return
        self._minima.append(self._current)
        self._current = (x, y, 1)
        if len(self._minima) >= _WINDOWS:
            self._merge()
        self._drop_leap(x)
        self._refit(x)

    def _merge(self) -> None:
        """Make the windows twice as long, up to a limit; then the oldest goes."""
        if self._window < _LONGEST_WINDOW_S:
            self._window *= 2
            merged = self._minima[:1]
            for x, y, seen in self._minima[1:]:
                last_x, last_y, last_seen = merged[-1]
                if x // self._window != last_x // self._window:
                    merged.append((x, y, seen))
                elif y - last_y < self._slope * (x - last_x):
                    merged[-1] = (x, y, seen + last_seen)
                else:
                    merged[-1] = (last_x, last_y, seen + last_seen)
            self._minima = merged
        if len(self._minima) >= _WINDOWS:
            del self._minima[0]

    def _drop_leap(self, newest: float) -> None:
        """Forget what was before the clock stood still: everything since is far too late."""
        late = 0
        for x, y, _ in reversed(self._minima):
            if y - self._upper(x) <= _LEAP_S:
                break
            late += 1
        if 3 <= late < len(self._minima) and newest - self._minima[-late][0] >= _LEAP_SEEN_S:
            kept, window = self._minima[-late:], self._window
            self._start(*self._current[:2])
            self._minima, self._window = kept, window

    def _refit(self, now: float) -> None:
        """Fit the line anew, and state its error at `now`."""
        before = self._estimate(now)
        while self._minima and self._minima[0][0] < now - _FORGET_S:
            del self._minima[0]
        points = [*self._minima, self._current]
        self._fit_slope(points)
        recent = points[-_RECENT:]
        slope, slope_error = self._slope, self._slope_error
        # The lowest, unless it is of so long ago that its height is uncertain.
        bound, x, y = min((y + (slope + slope_error) * (now - x), x, y) for x, y, _ in recent)
        self._line = (now, y + slope * (now - x))
        self._margin = slope_error * (now - x)
        above = [abs(y - self._upper(x)) for x, y, _ in recent]
        error = (
            self._hidden_delay()
            # The freshest tell first of a drift that changed.
            + max(median(above), median(above[-3:]))
            + FIRST_ERROR_S / sum(seen for _, _, seen in recent)
            + self._margin
        )
        self._below = 0.0
        if self._pings:
            least = max(y + (slope - slope_error) * (now - x) for x, y in self._pings)
            half = abs(bound - least) / 2
            if half < error:
                error = half
                self._below = self._line[1] - min(self._line[1], (bound + least) / 2)
        self._base_error = error + self.resolution
        self._left = 0.0 if self._moved else before - self._target(now)
        self._left_at = now
        self._moved = False
        self._state_error(now)

    def _fit_slope(self, minima: list[tuple[float, float, int]]) -> None:
        points = [(x, y) for x, y, _ in minima]
        if len(points) < _FIT_POINTS or points[-1][0] - points[0][0] < _FIT_SPAN_S:
            return
        slope, error = self._slope_of(points)
        if len(points) >= 2 * _FIT_POINTS:
            middle = len(points) // 2
            earlier, earlier_error = self._slope_of(points[:middle])
            later, later_error = self._slope_of(points[middle:])
            change = abs(later - earlier)
            if change > earlier_error + later_error:
                slope = later
            error += change
        if error < self._tolerance:
            self._slope = slope
            self._slope_error = max(error, _LEAST_DRIFT_ERROR)
            self.drift_ppm = (1 / (1 + slope) - 1) * 1e6

    def _slope_of(self, points: list[Point]) -> Point:
        """Return the slope of the line below the points, and how far it may be off."""
        slope, height, length = lower_line(points)
        above = median(y - height - slope * x for x, y in points)
        # The hidden delay may have changed meanwhile, and passes for a drift.
        return slope, (self._hidden_delay() + 2 * above) / length

    def _hidden_delay(self) -> float:
        """Return the delay that even the fastest arrivals may have had."""
        waited = min(BURST_S, self.sample_period or BURST_S)
        return FLOOR_ALLOWANCE_S + max(0.0, waited - self._usually_late / 0.75)

    def _state_error(self, x: float) -> None:
        self.error = self._base_error + abs(self._correction(x))
