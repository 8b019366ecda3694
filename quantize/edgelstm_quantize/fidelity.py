"""Fidelity: how far a quantised model is from the Keras model it was made from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgelstm.manifest import Fidelity


def compare(
    quantized: NDArray[np.float64],
    reference: NDArray[np.float64],
    score_change: float | None = None,
) -> Fidelity:
    """Compares two runs over the same readings.

    Args:
        quantized: normalised outputs of the quantised model, stepped statefully,
            (steps, targets).
        reference: normalised outputs of the Keras model, (steps, targets).
        score_change: carried over into the result.
    """
    error = np.abs(quantized - reference).mean(axis=1)
    # A constant output has nothing to be relative to; one unit is then one standard deviation.
    rms = float(np.sqrt(np.mean(reference**2))) or 1.0
    window = max(1, len(error) // 10)
    running = np.convolve(error, np.full(window, 1 / window), mode="valid")
    return Fidelity(
        steps=len(error),
        relative_error=float(error.mean()) / rms,
        worst_drift=float(running.max()) / rms,
        correlation=_lowest_correlation(quantized, reference),
        score_change=score_change,
    )


def relative_change(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Mean |a - b| over the mean of b: how much scores `a` differ from scores `b`."""
    return float(np.abs(a - b).mean() / max(float(b.mean()), 1e-12))


def _lowest_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    if (a.std(axis=0) == 0).any() or (b.std(axis=0) == 0).any():
        return None
    return min(float(np.corrcoef(x, y)[0, 1]) for x, y in zip(a.T, b.T, strict=True))
