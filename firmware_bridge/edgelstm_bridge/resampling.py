"""`Resampler`: readings at any times in, readings on a regular grid of times out. No I/O."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Literal, get_args

from edgelstm.errors import ConfigurationError
from edgelstm.reading import Reading

Method = Literal["auto", "linear", "mean", "hold"]

_SETTLING = 5  # readings before the input's period is known
_REMEMBERED = 15  # steps
_GAP_PERIODS = 3
_FASTER = 0.9  # an input period below this many output periods is averaged
_ON_GRID_S = 1e-6  # Unix time as a float is good to 0.2 us


class Resampler:
    """Puts readings on the multiples of a sample period since the Unix epoch.

    The sequence number of an output is the number of its time on that grid, so that gaps show. It
    is causal: an output comes out at the first reading that tells all about it.

    - "linear": on the line between the readings before and after.
    - "mean": of all readings nearer to this time of the grid than to any other; where there is
      none, linear.
    - "hold": the last reading at or before it.
    - "auto": mean where the input is faster than the output, linear otherwise.

    Nothing is invented in a gap: between two readings further apart than `max_gap` there is no
    output. A time that goes back (a wall clock was set) is such a gap, too, and the numbers go
    back with it. Otherwise they only grow.

    A value that is not finite is no value: a mean leaves it out, and all other outputs that need
    it are NaN in its channel, as is a mean of nothing else.

    An output's `time_error` is the largest of those that it was made of.

    Args:
        sample_period: of the output, in seconds.
        method: see above.
        max_gap: in seconds; by default three periods of the input. Its period is the median of
            the last steps, so the first five readings come out together.

    Raises:
        ConfigurationError: a period or gap is not above 0, or the method is unknown.
    """

    def __init__(
        self, sample_period: float, method: Method = "auto", max_gap: float | None = None
    ) -> None:
        if not 0 < sample_period < math.inf:
            raise ConfigurationError(
                f"A sample period to resample to must be above 0 s, not {sample_period:g}."
            )
        if max_gap is not None and not max_gap > 0:
            raise ConfigurationError(f"The longest gap must be above 0 s, not {max_gap:g}.")
        if method not in get_args(Method):
            raise ConfigurationError(
                f"The resampling method {method!r} is unknown; use one of "
                f"{', '.join(get_args(Method))}."
            )
        self._period = sample_period
        self._method = method
        self._max_gap = max_gap
        self._steps: deque[float] = deque(maxlen=_REMEMBERED)
        self._input_period: float | None = None
        self._since_measured = 0
        self._newest: float | None = None
        # None as soon as the input's period is known.
        self._waiting: list[Reading] | None = [] if method == "auto" or max_gap is None else None
        self._last: Reading | None = None
        self._averaging = method == "mean"
        self._bin: list[Reading] = []
        self._bin_index = 0
        self._last_index = -math.inf

    def push(self, reading: Reading) -> list[Reading]:
        """Take the next reading and return the outputs that it completes, often none."""
        self._measure(reading.timestamp)
        if self._waiting is None:
            return self._process(reading)
        self._waiting.append(reading)
        return self.flush(end=False) if len(self._waiting) >= _SETTLING else []

    def flush(self, *, end: bool = True) -> list[Reading]:
        """Return what waits, at the end of the input.

        Args:
            end: give out the last mean, too, though more readings of it may come.
        """
        waiting, self._waiting = self._waiting or [], None
        if waiting:
            self._set_period()
        outputs = [output for reading in waiting for output in self._process(reading)]
        return outputs + self._new(self._close_bin()) if end else outputs

    def _measure(self, timestamp: float) -> None:
        if self._newest is not None and timestamp > self._newest:
            self._steps.append(timestamp - self._newest)
        self._newest = timestamp
        self._since_measured += 1
        if self._waiting is None and self._since_measured >= _REMEMBERED:
            self._set_period()

    def _set_period(self) -> None:
        self._since_measured = 0
        if self._steps:
            self._input_period = median(self._steps)

    def _process(self, reading: Reading) -> list[Reading]:
        last = self._last
        gap = last is None or not 0 <= reading.timestamp - last.timestamp <= self._longest_gap()
        outputs = self._new(self._close_bin() if gap else [])
        if last is not None and reading.timestamp < last.timestamp:
            self._last_index = -math.inf
        if gap and self._method == "auto":
            self._choose()
        if self._averaging:
            outputs += self._new(self._mean(last if not gap else None, reading))
        else:
            outputs += self._new(self._between(last if not gap else None, reading))
        self._last = reading
        if self._method == "auto" and not gap and self._since_measured == 0:
            outputs += self._new(self._choose())
        return outputs

    def _new(self, outputs: list[Reading]) -> list[Reading]:
        """Leave out times that were given out before, by another method or before a short gap."""
        new = [output for output in outputs if (output.sequence_number or 0) > self._last_index]
        if new:
            self._last_index = new[-1].sequence_number or 0
        return new

    def _longest_gap(self) -> float:
        if self._max_gap is not None:
            return self._max_gap
        return math.inf if self._input_period is None else _GAP_PERIODS * self._input_period

    def _choose(self) -> list[Reading]:
        """Choose the method that fits the input; what was begun by the other comes out."""
        faster = self._input_period is not None and self._input_period < _FASTER * self._period
        if faster == self._averaging:
            return []
        self._averaging = faster
        return self._close_bin()

    def _mean(self, last: Reading | None, reading: Reading) -> list[Reading]:
        index = self._nearest(reading)
        if self._bin and index == self._bin_index:
            self._bin.append(reading)
            return []
        outputs = self._close_bin()
        if last is not None:
            empty = range(self._nearest(last) + 1, index)
            outputs += [self._on_line(last, reading, i) for i in empty]
        self._bin = [reading]
        self._bin_index = index
        return outputs

    def _nearest(self, reading: Reading) -> int:
        return math.floor(reading.timestamp / self._period + 0.5)

    def _close_bin(self) -> list[Reading]:
        if not self._bin:
            return []
        columns = zip(*(reading.values for reading in self._bin), strict=True)
        values = tuple(_mean_of_finite(column) for column in columns)
        output = self._output(self._bin_index, values, self._bin)
        self._bin = []
        return [output]

    def _between(self, last: Reading | None, reading: Reading) -> list[Reading]:
        """The outputs after the last reading and up to this one."""
        end = self._index_at(reading.timestamp)
        exact = abs(reading.timestamp - end * self._period) <= _ON_GRID_S
        outputs: list[Reading] = []
        if last is not None:
            first = self._index_at(last.timestamp) + 1
            outputs += [self._on_line(last, reading, i) for i in range(first, end + (not exact))]
            exact = exact and first <= end
        if exact:
            outputs.append(self._output(end, tuple(map(_finite, reading.values)), [reading]))
        return outputs

    def _index_at(self, timestamp: float) -> int:
        """The number of the last time of the grid at or before this."""
        return math.floor((timestamp + _ON_GRID_S) / self._period)

    def _on_line(self, last: Reading, reading: Reading, index: int) -> Reading:
        if self._method == "hold":
            return self._output(index, tuple(map(_finite, last.values)), [last])
        step = reading.timestamp - last.timestamp
        share = (index * self._period - last.timestamp) / step if step else 1.0
        share = min(1.0, max(0.0, share))
        values = tuple(
            a * (1 - share) + b * share if math.isfinite(a) and math.isfinite(b) else math.nan
            for a, b in zip(last.values, reading.values, strict=True)
        )
        return self._output(index, values, [last, reading])

    def _output(self, index: int, values: tuple[float, ...], sources: Sequence[Reading]) -> Reading:
        errors = [reading.time_error for reading in sources if reading.time_error is not None]
        return Reading(index * self._period, values, index, max(errors, default=None))


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def _mean_of_finite(column: Sequence[float]) -> float:
    finite = [value for value in column if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
