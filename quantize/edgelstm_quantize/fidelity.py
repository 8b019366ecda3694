"""Fidelity: how far a quantised model is from the Keras model it was made from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgelstm.manifest import Fidelity


def compare(
    quantized: NDArray[np.float64],
    reference: NDArray[np.float64],
    spread: NDArray[np.float64],
    score_change: float | None = None,
) -> Fidelity:
    """Compares two runs over the same readings.

    Errors are in standard deviations of each output. So an offset (a temperature in kelvin) does
    not make them look small, nor a quiet stretch large.

    Args:
        quantized: outputs of the quantised model, stepped statefully, (steps, targets).
        reference: outputs of the Keras model, (steps, targets).
        spread: standard deviation of each output, (targets,), over more than these readings.
        score_change: carried over into the result.
    """
    error = np.abs((quantized - reference) / spread).mean(axis=1)
    window = max(1, len(error) // 10)
    running = np.convolve(error, np.full(window, 1 / window), mode="valid")
    return Fidelity(
        steps=len(error),
        relative_error=float(error.mean()),
        worst_drift=float(running.max()),
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
