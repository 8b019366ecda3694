"""`LatencyHistogram`: quantiles of a duration over any number of samples, in constant memory."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate

_PER_OCTAVE = 64  # buckets per doubling: a quantile is right within 1.1 %
_OCTAVES = 40  # from 1 ns to 18 minutes
_FIRST, _LAST = 13, 27  # of the octaves that `cumulative` tells: 8.2 us and 134 ms


@dataclass
class LatencyHistogram:
    """Counts durations in logarithmic buckets."""

    count: int = 0
    total: int = 0
    """Of all durations, nanoseconds."""
    _buckets: list[int] = field(default_factory=lambda: [0] * (_PER_OCTAVE * _OCTAVES))

    def add(self, nanoseconds: int) -> None:
        """Counts one duration."""
        nanoseconds = max(nanoseconds, 1)
        bucket = int(math.log2(nanoseconds) * _PER_OCTAVE)
        self._buckets[min(bucket, len(self._buckets) - 1)] += 1
        self.total += nanoseconds
        self.count += 1

    def copy(self) -> LatencyHistogram:
        """As it is now; another thread may add meanwhile."""
        return LatencyHistogram(self.count, self.total, self._buckets.copy())

    def quantile_us(self, q: float) -> float | None:
        """The quantile in microseconds; None before the first duration."""
        counts = list(accumulate(self._buckets))
        if not counts[-1]:
            return None
        # One at least, else the quantile 0 would be of an empty bucket.
        bucket = bisect_left(counts, max(q * counts[-1], 1))
        return float(2 ** ((bucket + 0.5) / _PER_OCTAVE)) / 1000

    def cumulative(self) -> tuple[tuple[float, int], ...]:
        """How many durations were at most so long, exactly: pairs of seconds and a count.

        The bounds are one nanosecond short of a power of two, from 8.191 us to 134.217727 ms,
        because there the buckets end; the last is infinite. Another thread may add meanwhile: the
        counts are of one moment.
        """
        counts = list(accumulate(self._buckets.copy()))
        bounds = [
            ((2**octave - 1) / 1e9, counts[octave * _PER_OCTAVE - 1])
            for octave in range(_FIRST, _LAST + 1)
        ]
        return (*bounds, (math.inf, counts[-1]))
