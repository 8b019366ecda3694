"""Quantiles of the scores on the calibration recording, and of exponential tails beyond them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import ConfigurationError
from edgelstm.manifest import Detection
from edgelstm.threshold import TAIL_QUANTILE

PEAK_SHARE = 1 - TAIL_QUANTILE
"""The share of the scores that `Detection.score_peaks` are."""

FLOOR = 1e-3
"""The least level and the least mean excess: a constant sensor has scores of zero."""

T = TypeVar("T")


def quantiles(detection: Detection, exceeding: NDArray[np.float64]) -> NDArray[np.float64]:
    """The calibration scores that given shares of them exceed.

    Args:
        detection: with the scores.
        exceeding: shares, each above 0 and at most 1.

    Returns:
        For each share the score, by linear interpolation; the highest one where the share is less
        than one score.
    """
    peaks = np.array(detection.score_peaks)
    below = (np.arange(len(peaks)) + 0.5) / max(len(peaks), 1)
    known = np.concatenate(
        [np.arange(len(detection.score_body)) / 100, TAIL_QUANTILE + PEAK_SHARE * below]
    )
    found: NDArray[np.float64] = np.interp(
        1 - exceeding, known, [*detection.score_body, *detection.score_peaks]
    )
    return found


def mean_excess(values: Sequence[float], over: float) -> float:
    """Mean excess of the values that are above a level; 0 when none is."""
    above = [value - over for value in values if value > over]
    return sum(above) / len(above) if above else 0.0


def beyond(level: float, scale: float, at: float, share: float) -> float:
    """Where a share of the scores is above, by an exponential tail.

    Args:
        level: that the share `at` exceeds.
        scale: mean excess over it.
        at: see `level`.
        share: at most `at`.
    """
    return level + scale * math.log(at / share)


def scattered(values: Sequence[T]) -> list[T]:
    """The values, always in the same order, but one that has nothing to do with their own."""
    # Steps of the golden ratio are spread evenly wherever they are cut off.
    order = sorted(range(len(values)), key=lambda i: i * 0.6180339887498949 % 1)
    return [values[i] for i in order]


def require_budget(readings_per_false_alarm: float, least: float) -> float:
    """The budget as it is.

    Raises:
        ConfigurationError: it is not above `least`.
    """
    if not least < readings_per_false_alarm < math.inf:
        raise ConfigurationError(
            f"A false alarm every {readings_per_false_alarm:.3g} readings is more than this "
            f"threshold can grant (one in {least:g}); ask for fewer false alarms per day."
        )
    return readings_per_false_alarm
