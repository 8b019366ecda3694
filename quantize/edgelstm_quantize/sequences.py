"""Cuts readings into sequences that cross neither a gap nor the edge of a fold.

Rows are counted over all readings; a segment is a contiguous stretch [start, stop) of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Segments = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Batch:
    """Sequences for a network, float32.

    Attributes:
        x: what it sees, (sequences, steps, features).
        y: what it should give, (sequences, steps, outputs).
        weight: of each number of `y` in the loss, the same shape; 0 where it does not count.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    weight: NDArray[np.float32]


@dataclass(frozen=True)
class Span:
    """A sequence to run a network over whose last rows count.

    Attributes:
        start: its first row.
        counted: the first row that counts; those before let the states settle.
        stop: behind its last row.
    """

    start: int
    counted: int
    stop: int


def blocks(readings: int, folds: int) -> list[tuple[int, int]]:
    """Contiguous parts of nearly the same size."""
    edges = np.linspace(0, readings, folds + 1).astype(int).tolist()
    return list(itertools.pairwise(edges))


def outside(block: tuple[int, int], readings: int) -> NDArray[np.bool_]:
    """The rows that are not in the block, bool (readings,)."""
    seen = np.ones(readings, bool)
    seen[slice(*block)] = False
    return seen


def reaches(
    segments: Segments, seen: NDArray[np.bool_], past: int, ahead: int
) -> NDArray[np.bool_]:
    """For each row t whether all of t - past ... t + ahead are seen and of one segment.

    Args:
        segments: that the readings consist of.
        seen: bool (readings,).
        past: rows before t.
        ahead: rows behind t.
    """
    n = len(seen)
    rows = np.arange(n)
    first = np.zeros(n, np.intp)  # of the run of seen rows that goes on until the row
    for start, _ in segments:
        first[start] = start
    first[~seen] = rows[~seen] + 1
    first = np.maximum.accumulate(first)
    result = np.zeros(n, bool)
    inner = slice(past, max(past, n - ahead))
    result[inner] = first[past + ahead :] <= rows[inner] - past
    return result


def longest_run(segments: Segments, seen: NDArray[np.bool_]) -> int:
    """How many rows the longest run of seen rows within a segment has."""
    longest = 0
    for start, stop in segments:
        edges = np.flatnonzero(~np.concatenate([[False], seen[start:stop], [False]]))
        longest = max(longest, int(np.diff(edges).max()) - 1)
    return longest


def ahead_of(values: NDArray[np.float64], horizon: int, segments: Segments) -> NDArray[np.float64]:
    """Row t of the result is row t + horizon of the values; NaN where that is another segment."""
    later = np.full_like(values, np.nan, dtype=np.float64)
    for start, stop in segments:
        if stop - start > horizon:
            later[start : stop - horizon] = values[start + horizon : stop]
    return later


def behind(values: NDArray[np.float64], horizon: int, segments: Segments) -> NDArray[np.float64]:
    """Row t of the result is row t - horizon of the values; NaN where that is another segment."""
    earlier = np.full_like(values, np.nan, dtype=np.float64)
    for start, stop in segments:
        if stop - start > horizon:
            earlier[start + horizon : stop] = values[start : stop - horizon]
    return earlier


def spans(
    segments: Segments, rows: tuple[int, int], *, length: int, run_up: int, most: int
) -> list[Span]:
    """Covers rows with sequences that run side by side, each with a run-up within its segment.

    Args:
        segments: that the readings consist of.
        rows: [start, stop) to cover.
        length: rows of each that count.
        run_up: rows before them, as far as the segment has them.
        most: at most so many sequences, spread evenly.
    """
    found = []
    for start, stop in segments:
        low, high = max(start, rows[0]), min(stop, rows[1])
        found += [
            Span(max(start, a - run_up), a, min(a + length, high)) for a in range(low, high, length)
        ]
    few = np.linspace(0, len(found) - 1, min(len(found), most)).astype(int)
    return [found[i] for i in few]
