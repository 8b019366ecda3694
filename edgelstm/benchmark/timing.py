"""Times several calls in turns, in short slices, so that a noisy machine hits all of them alike."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SLICE_S = 0.001
"""Aim for the length of a slice: shorter than most of what disturbs a machine."""

_FEWEST_ROUNDS = 10
_FEWEST_CALLS = 5  # in a slice
_UNTIMED_CALLS = 5  # at the start of each slice: whoever ran before has taken the caches


@dataclass(frozen=True)
class Candidate:
    """Something to time.

    Attributes:
        name: as the table has it.
        call: takes one of `readings`; without readings, nothing.
        readings: one after the other, again from the start when they end; None for a call
            without an argument.
        streams: how many steps one call makes.
    """

    name: str
    call: Callable[..., object]
    readings: Sequence[Any] | None = None
    streams: int = 1


@dataclass(frozen=True)
class Timing:
    """How long a call took.

    Attributes:
        name: of the candidate.
        streams: how many steps one call made.
        rounds: how many slices were timed as a whole, and as many call by call.
        calls: how many calls were timed one by one.
        mean_us: a call's mean time in a slice timed as a whole; the median of all slices.
        spread: of those means: from the 10 % to the 90 % quantile, relative to `mean_us`.
        median_us: median of calls timed one by one, without what reading the clock costs.
        p90_us: their 90 % quantile.
        p99_us: their 99 % quantile.
    """

    name: str
    streams: int
    rounds: int
    calls: int
    mean_us: float
    spread: float
    median_us: float
    p90_us: float
    p99_us: float

    @property
    def steps_per_second(self) -> float:
        """Steps of all streams in a second."""
        return self.streams * 1e6 / self.mean_us

    def ratio(self, to: Timing) -> float:
        """How many times as long as the other a step takes."""
        return (self.mean_us / self.streams) / (to.mean_us / to.streams)


def time_in_turns(
    candidates: Sequence[Candidate],
    seconds: float,
    *,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> list[Timing]:
    """Times all candidates, slice by slice in turns, until the time is up.

    In each round every candidate has two slices: one is timed as a whole, so that the clock costs
    nothing; in the other every call is timed, for the quantiles.

    Args:
        candidates: what to time.
        seconds: how long to go on; at least ten rounds are made.
        on_progress: called with the milliseconds done and their number.
        clock: nanoseconds that only grow.
    """
    turns = [_Turns(candidate, clock) for candidate in candidates]
    start, budget = clock(), int(seconds * 1e9)
    rounds = 0
    while rounds < _FEWEST_ROUNDS or clock() - start < budget:
        for turn in turns:
            turn.whole_slice()
        for turn in turns:
            turn.single_calls()
        rounds += 1
        on_progress(min(clock() - start, budget) // 1_000_000, budget // 1_000_000)
    cost = _cost_of_clock(clock)
    return [turn.timing(cost) for turn in turns]


class _Turns:
    """One candidate and what its slices have shown."""

    def __init__(self, candidate: Candidate, clock: Callable[[], int]) -> None:
        self._candidate = candidate
        self._clock = clock
        if candidate.readings is None:
            self._rows: Iterator[Any] = itertools.repeat(None)
        else:
            self._rows = itertools.cycle(candidate.readings)
        self._means: list[float] = []
        self._singles: list[NDArray[np.int64]] = []
        self._untimed(2 * _UNTIMED_CALLS)
        each = self._time(4 * _FEWEST_CALLS) / (4 * _FEWEST_CALLS)
        self._calls = max(_FEWEST_CALLS, int(SLICE_S * 1e9 / max(each, 1)))

    def whole_slice(self) -> None:
        """Times a slice as a whole."""
        self._untimed(_UNTIMED_CALLS)
        self._means.append(self._time(self._calls) / self._calls)

    def single_calls(self) -> None:
        """Times each call of a slice."""
        self._untimed(_UNTIMED_CALLS)
        call, clock, rows = self._candidate.call, self._clock, self._rows
        took = []
        if self._candidate.readings is None:
            for _ in itertools.islice(rows, self._calls):
                start = clock()
                call()
                took.append(clock() - start)
        else:
            for x in itertools.islice(rows, self._calls):
                start = clock()
                call(x)
                took.append(clock() - start)
        self._singles.append(np.array(took, np.int64))

    def timing(self, cost_of_clock: float) -> Timing:
        """What all slices say; `cost_of_clock` in nanoseconds."""
        singles = np.concatenate(self._singles) - cost_of_clock
        median, p90, p99 = (np.quantile(singles, (0.5, 0.9, 0.99)).clip(0) / 1000).tolist()
        low, mean, high = np.quantile(self._means, (0.1, 0.5, 0.9)).tolist()
        return Timing(
            name=self._candidate.name,
            streams=self._candidate.streams,
            rounds=len(self._means),
            calls=len(singles),
            mean_us=mean / 1000,
            spread=(high - low) / mean,
            median_us=median,
            p90_us=p90,
            p99_us=p99,
        )

    def _untimed(self, calls: int) -> None:
        self._time(calls)

    def _time(self, calls: int) -> int:
        """Nanoseconds that so many calls take; the loop costs the same with and without rows."""
        call, rows = self._candidate.call, itertools.islice(self._rows, calls)
        if self._candidate.readings is None:
            start = self._clock()
            for _ in rows:
                call()
        else:
            start = self._clock()
            for x in rows:
                call(x)
        return self._clock() - start


def _cost_of_clock(clock: Callable[[], int]) -> float:
    """Nanoseconds between two readings of the clock with nothing in between."""
    took = []
    for _ in range(1000):
        start = clock()
        took.append(clock() - start)
    return float(np.median(took))
