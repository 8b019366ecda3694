"""Fidelity: how far a quantised model is from the Keras model it was made from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgelstm.manifest import Fidelity


def compare(
    quantized: NDArray[np.float64],
    reference: NDArray[np.float64],
    outputs: Sequence[slice],
    score_change: float | None = None,
) -> Fidelity:
    """Compares two runs over the same readings.

    Args:
        quantized: outputs of the quantised model, stepped statefully, (steps, targets), in the
            units of the model's core (before an inverse `Normalization` at its end).
        reference: outputs of the Keras model, likewise.
        outputs: the columns of each output; the worst output counts.
        score_change: carried over into the result.
    """
    done = [_compare(quantized[:, part], reference[:, part], score_change) for part in outputs]
    return max(done, key=lambda fidelity: fidelity.relative_error)


def _compare(
    quantized: NDArray[np.float64], reference: NDArray[np.float64], score_change: float | None
) -> Fidelity:
    level = float(np.sqrt((reference**2).mean()))
    error = np.abs(quantized - reference) / (level or 1.0)  # of a silent output: absolute
    tenth = max(1, len(error) // 10)
    first, last = float(error[:tenth].mean()), float(error[-tenth:].mean())
    return Fidelity(
        steps=len(error),
        relative_error=float(error.mean()),
        max_error=float(error.max()),
        drift=last / first if first else 1.0,
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
