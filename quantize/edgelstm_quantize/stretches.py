"""Recordings cut at their gaps, and their missing values filled."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelstm.recording import Recording

LONG_GAP = 10
"""Periods without a reading, or readings without a value, that end a stretch: as on a device."""
SHORTEST = 32
"""Readings of a stretch; less is no use to a training."""


@dataclass(frozen=True)
class Stretch:
    """A contiguous part of a recording, without missing values.

    Attributes:
        recording: that it is of.
        offset: of its first reading in the recording.
        values: physical units, (readings, channels), all finite.
        known: of the same shape; False where a value was filled.
    """

    recording: Recording
    offset: int
    values: NDArray[np.float64]
    known: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def row(self) -> int:
        """The file's row of its first reading, counted from 0."""
        return self.recording.first_row + self.offset


def cut(recording: Recording) -> Iterator[Stretch]:
    """The contiguous parts of a recording, filled.

    It is cut where no reading came for more than `LONG_GAP` periods, and where more readings than
    that have no value in any channel; those are left out.

    Args:
        recording: in time order; every channel has a value somewhere.
    """
    values = recording.values
    known = ~np.isnan(values)
    filled = fill(values)
    jumps = np.flatnonzero(np.diff(recording.timestamps) > LONG_GAP * recording.sample_period) + 1
    empty = ~known.any(axis=1)
    # Runs of readings without a value, as [start, stop).
    turns = np.flatnonzero(np.diff(np.r_[False, empty, False])).reshape(-1, 2)
    holes = [(a, b) for a, b in turns.tolist() if b - a > LONG_GAP]
    edges = sorted({0, len(values), *jumps.tolist(), *itertools.chain.from_iterable(holes)})
    for a, b in itertools.pairwise(edges):
        if not any(start <= a < stop for start, stop in holes):
            yield Stretch(recording, a, filled[a:b], known[a:b])


def fill(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values with each NaN replaced by the last number before it, or else the next after it.

    Args:
        values: (readings, channels); every channel has a number somewhere.
    """
    known = ~np.isnan(values)
    rows = np.arange(len(values))[:, np.newaxis]
    last = np.maximum.accumulate(np.where(known, rows, -1), axis=0)
    first = known.argmax(axis=0)
    filled: NDArray[np.float64] = np.take_along_axis(values, np.where(last < 0, first, last), 0)
    return filled
