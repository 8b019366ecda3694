"""`RateMonitor`: whether readings come at the rate that a model was made for. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from edgelstm.errors import ConfigurationError
from edgelstm.reading import Reading

_LEAST_READINGS = 20
_MOST_READINGS = 5000
_BLOCK_S = 2.0
_SAME_TIME_S = 1e-4
_PARTS = 5
_NEAR = 0.3  # of the usual step: as regular as a device without a wall clock gets
_FEW = 0.1
_GAP = 5.0  # mean steps


@dataclass(frozen=True, slots=True)
class RateMismatch:
    """A device whose rate is not the model's.

    Attributes:
        measured: seconds between two readings.
        expected: by the model.
    """

    measured: float
    expected: float

    def __str__(self) -> str:
        """One sentence: what is wrong, and what to do."""
        return (
            f"The device sends a reading every {format_period(self.measured)}, but the model was "
            f"made for one every {format_period(self.expected)}: set the device's rate with "
            "--set-rate, resample its readings with --resample, or convert the model for that rate."
        )


class RateMonitor:
    """Measures the period of readings and compares it with the one that is expected.

    It judges blocks of at least two seconds and 20 readings, longer ones where the times of the
    readings are uncertain. With sequence numbers the period is (t1 - t0) / (n1 - n0), the median
    over five parts of a block; readings that were lost are counted by their numbers, and one gap,
    restart or set clock touches no more than one part. Without sequence numbers it is the mean
    step, without those that are gaps. It takes two blocks that agree to find a mismatch: what a
    link had gathered before it was opened comes all at once.

    Args:
        expected_period: seconds between two readings.
        tolerance: how far the measured period may be off, as a share of the expected one.

    Raises:
        ConfigurationError: the period or the tolerance is not above 0.
    """

    def __init__(self, expected_period: float, tolerance: float = 0.1) -> None:
        if not expected_period > 0 or not tolerance > 0:
            raise ConfigurationError(
                f"A sample period ({expected_period:g} s) and its tolerance ({tolerance:g}) must "
                "be above 0."
            )
        self._expected = expected_period
        self._tolerance = tolerance
        self._measured: float | None = None
        self._mismatch: RateMismatch | None = None
        self._suspect: float | None = None  # the wrong period of the block before
        self._times: list[float] = []
        self._numbers: list[int | None] = []
        self._first = self._last = 0.0
        self._first_error = 0.0

    @property
    def measured_period(self) -> float | None:
        """Seconds between two readings, measured last; None before it is known."""
        return self._measured

    @property
    def mismatch(self) -> RateMismatch | None:
        """What is wrong at the moment, as far as is known."""
        return self._mismatch

    def compare(self, period: float) -> RateMismatch | None:
        """Return how a period in seconds that somebody states is wrong; None when it is not."""
        if abs(period / self._expected - 1) <= self._tolerance:
            return None
        return RateMismatch(period, self._expected)

    def update(self, reading: Reading) -> RateMismatch | None:
        """Take the next reading and return a mismatch once, when it is found.

        It is said again only after the rate was right meanwhile, or has become another wrong one.
        """
        timestamp, _, number, error = reading
        times = self._times
        # A block begins anew when a wall clock was set back, and after readings of one time:
        # what came before the bridge knew any better.
        if (
            not times
            or timestamp < self._last
            or (len(times) == 1 and timestamp - self._first < _SAME_TIME_S)
        ):
            times.clear()
            self._numbers.clear()
            self._first = timestamp
            self._first_error = error or 0.0
        self._last = timestamp
        times.append(timestamp)
        self._numbers.append(number)
        count = len(times)
        if count <= _LEAST_READINGS:
            return None
        passed = timestamp - self._first
        if passed < _BLOCK_S and count <= _MOST_READINGS:
            return None
        # What the two ends may be off by must not look like another rate.
        if passed < 2 * (self._first_error + (error or 0.0)) / self._tolerance:
            self._make_room()
            return None
        return self._judge()

    def _make_room(self) -> None:
        """Leave out what the uncertain times of a fast device do not need."""
        if len(self._times) > 2 * _MOST_READINGS:
            del self._times[:_MOST_READINGS], self._numbers[:_MOST_READINGS]
            self._first = self._times[0]

    def _judge(self) -> RateMismatch | None:
        times, numbers = self._times, self._numbers
        counted = [number for number in numbers if number is not None]
        whole = len(counted) == len(times)
        parts = _by_number(times, counted) if whole else [_by_step(times)]
        times.clear()
        numbers.clear()
        measured = median(parts) if parts else 0.0
        alike = sum(abs(part - measured) <= self._tolerance * measured for part in parts)
        # A rate that changes on the way is measured in the next block.
        if not measured or 2 * alike <= len(parts):
            return None
        self._measured = measured
        mismatch = self.compare(measured)
        if mismatch is None:
            self._mismatch = self._suspect = None
            return None
        suspect, self._suspect = self._suspect, measured
        if suspect is None or abs(measured / suspect - 1) > self._tolerance:
            return None
        known = self._mismatch
        self._mismatch = mismatch
        if known is not None and abs(measured / known.measured - 1) <= self._tolerance:
            return None
        return self._mismatch


def _by_number(times: list[float], numbers: list[int]) -> list[float]:
    """The period by sequence numbers in each part of a block: what happens once is in one."""
    ends = [i * (len(times) - 1) // _PARTS for i in range(_PARTS + 1)]
    return [
        (times[end] - times[start]) / (numbers[end] - numbers[start])
        for start, end in pairwise(ends)
        if numbers[end] > numbers[start]
    ]


def _by_step(times: list[float]) -> float:
    """The period of readings without numbers: their mean step, without gaps."""
    steps = [later - earlier for earlier, later in pairwise(times)]
    usual = median(steps)
    near = [step for step in steps if abs(step - usual) <= _NEAR * usual]
    shorter = sum(step < (1 - _NEAR) * usual for step in steps)
    if usual > 0 and 2 * len(near) >= len(steps) and shorter <= _FEW * len(steps):
        return sum(near) / len(near)
    # Bursts: only their mean means anything.
    while True:
        mean = sum(steps) / len(steps)
        fewer = [step for step in steps if step <= _GAP * mean]
        if len(fewer) == len(steps):
            return mean
        steps = fewer


def format_period(period: float) -> str:
    """A period in seconds, as people say it: in both units."""
    return f"{period:.4g} s ({1 / period:.4g} Hz)"
