"""The linear part of a forecaster: ridge autoregression, as the kernel of a causal convolution.

With F_t the last `TAPS` rows of features at t, one after the other, and y_t the targets at
t + horizon, the kernel is (sum F F' + diag(penalty))^-1 sum F y', over the rows t that count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgelstm_quantize.sequences import Segments

TAPS = 5


def stack(
    features: NDArray[np.float64], segments: Segments, taps: int = TAPS
) -> NDArray[np.float64]:
    """The last rows of features at each row, oldest first, (readings, taps * features).

    Before the start of a segment there are zeros, as a causal convolution has them.
    """
    n, width = features.shape
    stacked = np.zeros((n, taps, width))
    for start, stop in segments:
        for back in range(min(taps, stop - start)):
            stacked[start + back : stop, taps - 1 - back] = features[start : stop - back]
    return stacked.reshape(n, taps * width)


def penalty(power: NDArray[np.float64], channels: int, taps: int = TAPS) -> NDArray[np.float64]:
    """What holds each weight back, 0.5 taps channels times the feature's power, (taps * features,).

    Args:
        power: mean square of each feature, (features,): 1 for a normalised number, and for a
            category its share of the readings, so that a rare one is not held back more.
        channels: that the features are of.
        taps: rows of features.
    """
    return np.tile(0.5 * taps * channels * power, taps)


def solve(
    stacked: NDArray[np.float64],
    targets: NDArray[np.float64],
    counts: NDArray[np.bool_],
    held_back: NDArray[np.float64],
    taps: int = TAPS,
) -> NDArray[np.float64]:
    """The kernel, (taps, features, targets).

    Args:
        stacked: from `stack`, (readings, taps * features).
        targets: for each row what is to be forecast there, (readings, targets); anything where it
            does not count.
        counts: which of them are part of the equations, bool (readings, targets).
        held_back: from `penalty`.
        taps: rows of features at each row.
    """
    width = stacked.shape[1]
    kernel = np.empty((width, targets.shape[1]))
    # Targets that miss the same rows, which mostly is all of them, share their equations.
    patterns, pattern_of = np.unique(counts, axis=1, return_inverse=True)
    for i, rows in enumerate(patterns.T):
        columns = np.flatnonzero(pattern_of.reshape(-1) == i)
        a, b = stacked[rows], targets[np.ix_(rows, columns)]
        kernel[:, columns] = np.linalg.solve(a.T @ a + np.diag(held_back), a.T @ b)
    return kernel.reshape(taps, width // taps, targets.shape[1])


def apply(stacked: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the kernel forecasts at each row, (readings, targets)."""
    y: NDArray[np.float64] = stacked @ kernel.reshape(-1, kernel.shape[-1])
    return y


def apply_to_sequences(x: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same over sequences of their own, (sequences, steps, features), each from zeros."""
    taps, _, width = kernel.shape
    y = np.zeros((*x.shape[:2], width))
    for back in range(min(taps, x.shape[1])):
        y[:, back:] += x[:, : x.shape[1] - back] @ kernel[taps - 1 - back]
    return y


def principal_axes(rows: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The directions in which rows, (rows, width), vary most around zero, (width, count).

    `rows @ axes @ axes.T` is the best linear reconstruction from `count` numbers.
    """
    _, axes = np.linalg.eigh(rows.T @ rows)  # ascending
    return axes[:, ::-1][:, :count]
