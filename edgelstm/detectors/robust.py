"""A scorer whose scale follows the sensor: residuals by their own recent median and MAD.

    z = 0.6745 (r - median) / MAD,    MAD = median |r - median|

is the modified z-score of Iglewicz and Hoaglin, "How to Detect and Handle Outliers" (ASQC Quality
Press 1993); 0.6745 makes the MAD of normal residuals their standard deviation. Median and MAD are
those of the last 500 residuals before the one that is scored. Residuals of an anomaly are among
them, and that is what the two are for: as long as those are less than half, they cannot carry the
median away, nor the MAD. After 250 readings an anomaly begins to pass for normal.

The score is the exponential mean of the energy, as in `EwmaScorer`.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelstm.errors import StateError
from edgelstm.scorer import EwmaScorer, EwmaState

_WINDOW = 500
# Residuals after which median and MAD are worth something: the MAD is right within 15 %.
_ENOUGH = 60
_TO_STD = 0.6745
# Of the calibration's scale: a sensor that is quiet for a while does not alarm on a breath.
_LEAST_MAD = 0.1 * _TO_STD
# In units of the scale; what is beyond tells no more, and its differences stay finite.
_LARGEST = 1e6


@dataclass(frozen=True)
class RobustState:
    """What a `RobustScorer` remembers.

    Attributes:
        windows: per target the latest residuals in units of the scale, oldest first.
        energy: of the exponential mean.
    """

    windows: tuple[tuple[float, ...], ...]
    energy: EwmaState


class RobustScorer:
    """Exponential mean of the energy of modified z-scores.

    It costs about 3 us for each target, and its state is 500 residuals for each.

    Args:
        scale: per target, in physical units; a tenth of it is the least that counts as one.
        span: readings over which the score averages.

    Raises:
        ConfigurationError: a scale is not positive, or the span is below 1.
    """

    def __init__(self, scale: Sequence[float], span: int = 20) -> None:
        self._energy = EwmaScorer([1.0] * len(scale), span)
        EwmaScorer(scale, span)  # refuses what is no scale
        self._scale = [float(s) for s in scale]
        self._windows: list[_Window] = []
        self.reset()

    @property
    def state(self) -> RobustState:
        """What it remembers, as a value that can be set again."""
        windows = tuple(tuple(window.arrived) for window in self._windows)
        return RobustState(windows, self._energy.state)

    @state.setter
    def state(self, state: RobustState) -> None:
        if not (
            isinstance(state, RobustState)
            and len(state.windows) == len(self._scale)
            and all(len(window) <= _WINDOW for window in state.windows)
            and all(-_LARGEST <= r <= _LARGEST for window in state.windows for r in window)
        ):
            raise StateError(
                f"This is no state of a robust scorer of {len(self._scale)} targets; start afresh."
            )
        self._energy.state = state.energy
        self._windows = [_Window(window) for window in state.windows]

    def update(self, residual: ArrayLike) -> float | None:
        """Takes the residual (observed - predicted) of one reading, (targets,), physical units.

        Returns:
            The score after it, >= 0; None until a target has had 60 residuals that are known, and
            when none of those is known now.
        """
        values = np.asarray(residual, np.float64).tolist()
        scaled = []
        for value, scale, window in zip(values, self._scale, self._windows, strict=True):
            unit = value / scale
            if math.isnan(unit):
                scaled.append(math.nan)
                continue
            if not -_LARGEST <= unit <= _LARGEST:
                unit = math.copysign(_LARGEST, unit)
            scaled.append(window.standardise(unit))
            window.add(unit)
        return self._energy.update(scaled)

    def shares(self) -> NDArray[np.float64]:
        """Each target's share of the present score, (targets,); equal ones when it is 0."""
        return self._energy.shares()

    def reset(self) -> None:
        """Forgets all readings."""
        self._energy.reset()
        self._windows = [_Window() for _ in self._scale]


class _Window:
    """The latest residuals of one target, in units of its scale, with their median and MAD."""

    __slots__ = ("_low", "_ordered", "arrived")

    def __init__(self, arrived: Sequence[float] = ()) -> None:
        self.arrived = deque(arrived)
        self._ordered = sorted(arrived)
        self._low = 0

    def add(self, value: float) -> None:
        if len(self.arrived) == _WINDOW:
            del self._ordered[bisect_left(self._ordered, self.arrived.popleft())]
        self.arrived.append(value)
        insort(self._ordered, value)

    def standardise(self, value: float) -> float:
        """Its modified z-score among those before it; NaN while they are too few."""
        ordered = self._ordered
        count = len(ordered)
        if count < _ENOUGH:
            return math.nan
        middle = ordered[count // 2]
        # The half that is nearest to the median is a stretch of the list; its farther end is the
        # MAD. Where it begins moves little from one reading to the next, so it is searched there.
        half = count // 2 + 1
        low = min(self._low, count - half)
        while low and middle - ordered[low - 1] <= ordered[low + half - 1] - middle:
            low -= 1
        while low < count - half and middle - ordered[low] > ordered[low + half] - middle:
            low += 1
        self._low = low
        mad = max(middle - ordered[low], ordered[low + half - 1] - middle)
        return _TO_STD * (value - middle) / max(mad, _LEAST_MAD)
