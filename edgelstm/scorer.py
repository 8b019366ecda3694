"""`Scorer`: residuals in, one anomaly score out. Higher is more anomalous; 0 is the least."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelstm.errors import ConfigurationError

# One wild value (a spike of thousands of sigmas) must not hold the score up for hours.
_LARGEST_RESIDUAL = 1000.0


class Scorer:
    """Exponentially weighted mean of the squared, standardised residual.

    `energy = mean over targets of (residual / scale)^2`, `score = EWMA(energy)` with
    `alpha = 2 / (span + 1)`.

    Args:
        scale: per target, in physical units: the residual that counts as one; positive.
        span: readings over which the score averages.

    Raises:
        ConfigurationError: a scale is not positive, or the span is below 1.
    """

    def __init__(self, scale: Sequence[float], span: int = 20) -> None:
        self._scale = np.asarray(scale, np.float64)
        if not (np.isfinite(self._scale).all() and (self._scale > 0).all()):
            raise ConfigurationError(f"A residual scale is not positive: {list(scale)}.")
        if span < 1:
            raise ConfigurationError(f"The span of the score is {span}; it must be at least 1.")
        self._alpha = 2 / (span + 1)
        self.state = 0.0
        """The score after the last update: all that the scorer remembers."""

    def update(self, residual: ArrayLike) -> float:
        """Takes the residual (observed - predicted) of one reading, shape (targets,).

        Returns:
            The score after it, >= 0.
        """
        scaled = self.standardise(residual)
        energy = float(scaled @ scaled) / len(scaled)
        self.state += self._alpha * (energy - self.state)
        return self.state

    def standardise(self, residual: ArrayLike) -> NDArray[np.float64]:
        """The residual in units of its scale, bounded, shape (targets,)."""
        scaled: NDArray[np.float64] = np.asarray(residual, np.float64) / self._scale
        # numpy's clip costs more than both on arrays this small
        return np.minimum(np.maximum(scaled, -_LARGEST_RESIDUAL), _LARGEST_RESIDUAL)

    def reset(self) -> None:
        """Forgets all readings."""
        self.state = 0.0
