"""`Scorer`: residuals in, one anomaly score out. Higher is more anomalous; 0 is the least."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelstm.errors import ConfigurationError, StateError

# One wild value (a spike of thousands of sigmas) must not hold the score up for hours.
_LARGEST_RESIDUAL = 1000.0
_LARGEST_ENERGY = _LARGEST_RESIDUAL**2
# From here on numpy is faster than plain floats.
_MANY_TARGETS = 32


class Scorer(Protocol):
    """Turns residuals into scores, one reading at a time; a score never sees a later residual."""

    @property
    def state(self) -> Any:
        """All that it remembers: a frozen value, equal to its like, that can be set again.

        Setting raises a StateError when the value is no state of such a scorer.
        """

    @state.setter
    def state(self, state: Any) -> None: ...

    def update(self, residual: ArrayLike) -> float | None:
        """Takes the residual (observed - predicted) of one reading, (targets,), physical units.

        NaN components are left out of the score.

        Returns:
            The score after it, >= 0 and finite; None while the scorer cannot tell yet. When all
            components are NaN also None, and nothing changes.
        """

    def shares(self) -> NDArray[np.float64]:
        """Each target's share of the present score, (targets,), >= 0, with the sum 1."""

    def reset(self) -> None:
        """Forgets all readings."""


@dataclass(frozen=True)
class EwmaState:
    """What an `EwmaScorer` remembers: what each target contributes to the score; they add up."""

    contributions: tuple[float, ...]


class EwmaScorer:
    """Exponentially weighted mean of the squared, standardised residual.

    `energy = mean over known targets of (residual / scale)^2`, `score = EWMA(energy)` with
    `alpha = 2 / (span + 1)`, from zero. It has no warm-up of its own.

    Args:
        scale: per target, in physical units: the residual that counts as one; positive.
        span: readings over which the score averages.

    Raises:
        ConfigurationError: a scale is not positive, or the span is below 1.
    """

    def __init__(self, scale: Sequence[float], span: int = 20) -> None:
        self._scale = [float(s) for s in scale]
        if not self._scale or not all(0 < s < math.inf for s in self._scale):
            raise ConfigurationError(f"A residual scale is not positive: {list(scale)}.")
        if span < 1:
            raise ConfigurationError(f"The span of the score is {span}; it must be at least 1.")
        self._alpha = 2 / (span + 1)
        self._keep = 1 - self._alpha
        self._scales = np.array(self._scale)
        self._bounds = np.minimum(self._scales, sys.float_info.max / _LARGEST_RESIDUAL)
        self._bounds *= _LARGEST_RESIDUAL
        self._many = len(self._scale) >= _MANY_TARGETS
        self._contributions: list[float] | NDArray[np.float64]
        self.reset()

    @property
    def state(self) -> EwmaState:
        """What it remembers, as a value that can be set again."""
        return EwmaState(tuple(map(float, self._contributions)))

    @state.setter
    def state(self, state: EwmaState) -> None:
        if not (
            isinstance(state, EwmaState)
            and len(state.contributions) == len(self._scale)
            and all(0 <= c < math.inf for c in state.contributions)
        ):
            raise StateError(
                f"This is no state of a scorer of {len(self._scale)} targets; start afresh."
            )
        held = list(state.contributions)
        self._contributions = np.array(held) if self._many else held

    def update(self, residual: ArrayLike) -> float | None:
        """Takes the residual (observed - predicted) of one reading, (targets,), physical units.

        Returns:
            The score after it, >= 0; None when all components are NaN.
        """
        if self._many:
            return self._update_many(np.asarray(residual, np.float64))
        values = residual if isinstance(residual, np.ndarray) else np.asarray(residual, np.float64)
        found = values.tolist()
        keep, alpha = self._keep, self._alpha / len(found)
        held: list[float] = [
            keep * c + alpha * ((scaled := r / scale) * scaled)
            for c, r, scale in zip(self._contributions, found, self._scale, strict=True)
        ]
        score = sum(held)
        if not score <= alpha * _LARGEST_ENERGY:  # one may be NaN or too large
            return self._update_bounded(found)
        self._contributions = held
        return score

    def _update_bounded(self, residual: list[float]) -> float | None:
        """The long way: bounds the energies, and leaves out what is NaN."""
        energies = []
        for r, scale in zip(residual, self._scale, strict=True):
            scaled = r / scale
            energies.append(min(scaled * scaled, _LARGEST_ENERGY))
        known = len(energies) - sum(map(math.isnan, energies))
        if not known:
            return None
        keep, alpha = self._keep, self._alpha / known
        held: list[float] = [
            keep * c + alpha * (0.0 if math.isnan(e) else e)
            for c, e in zip(self._contributions, energies, strict=True)
        ]
        self._contributions = held
        return sum(held)

    def _update_many(self, residual: NDArray[np.float64]) -> float | None:
        # numpy's clip costs more than both
        scaled = np.maximum(np.minimum(residual, self._bounds), -self._bounds)
        scaled /= self._scales
        scaled *= scaled
        known = len(scaled)
        unknown = np.isnan(scaled)
        if unknown.any():
            known -= int(unknown.sum())
            if not known:
                return None
            scaled[unknown] = 0.0
        held: NDArray[np.float64] = np.multiply(self._contributions, self._keep)
        held += scaled * (self._alpha / known)
        self._contributions = held
        return float(held.sum())

    def shares(self) -> NDArray[np.float64]:
        """Each target's share of the present score, (targets,); equal ones when it is 0."""
        held = np.array(self._contributions)
        total = held.sum()
        return held / total if total > 0 else np.full(len(held), 1 / len(held))

    def reset(self) -> None:
        """Forgets all readings."""
        zeros = [0.0] * len(self._scale)
        self._contributions = np.array(zeros) if self._many else zeros
