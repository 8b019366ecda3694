"""`LatencyHistogram`: quantiles of a duration over any number of samples, in constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_PER_OCTAVE = 64  # buckets per doubling: a quantile is right within 1.1 %
_OCTAVES = 40  # from 1 ns to 18 minutes


@dataclass
class LatencyHistogram:
    """Counts durations in logarithmic buckets."""

    count: int = 0
    _buckets: list[int] = field(default_factory=lambda: [0] * (_PER_OCTAVE * _OCTAVES))

    def add(self, nanoseconds: int) -> None:
        """Counts one duration."""
        bucket = int(math.log2(max(nanoseconds, 1)) * _PER_OCTAVE)
        self._buckets[min(bucket, len(self._buckets) - 1)] += 1
        self.count += 1

    def quantile_us(self, q: float) -> float | None:
        """The quantile in microseconds; None before the first duration."""
        seen, wanted = 0, q * self.count
        for bucket, number in enumerate(self._buckets):
            seen += number
            if number and seen >= wanted:
                return float(2 ** ((bucket + 0.5) / _PER_OCTAVE)) / 1000
        return None
