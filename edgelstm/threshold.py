"""`Threshold`: says whether a score is too high, for a stated budget of false alarms.

The tail of the score above its 98 % quantile `q` is taken as exponential with mean excess `b`,
so a score is exceeded once in `n` readings at `theta = q + b (ln n - ln 50)`. Both are measured
on a calibration recording and then follow slowly what the sensor does: scores of a short
recording are too low for the months that come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from edgelstm.errors import ConfigurationError

DEFAULT_FALSE_ALARMS_PER_DAY = 1 / 7
TAIL_QUANTILE = 0.98
_TAIL_LOG = math.log(1 / (1 - TAIL_QUANTILE))
_FLOOR = 1e-3  # of q and b: a constant sensor has a score of zero
_RATE = 2 / 4001  # of adaptation: an exponential window of 4,000 readings
_RATE_WHILE_EXCEEDED = 0.1  # times the rate; freezing instead could lock an alarm in for ever
_PEAK_HALF_LIFE = 200  # readings
_PEAK_SHARE = 0.4  # of a recent peak that a score must exceed to count as news


@dataclass(frozen=True)
class Tail:
    """The upper tail of the scores: `start` is its 98 % quantile, `scale` the mean excess over it.

    Raises:
        ConfigurationError: a figure is not positive.
    """

    start: float
    scale: float

    def __post_init__(self) -> None:
        if not (self.start > 0 and self.scale > 0):
            raise ConfigurationError(f"The tail of the scores is not positive: {self}.")


def fit_tail(scores: ArrayLike) -> Tail:
    """Measures the tail of the scores of a calibration recording, shape (readings,)."""
    values = np.asarray(scores, np.float64)
    start = float(np.quantile(values, TAIL_QUANTILE))
    above = values[values > start]
    excess = float(above.mean()) - start if len(above) else 0.0
    # A short recording can have a tail by chance too thin; these floors keep it believable.
    spread = 0.3 * (start - float(np.median(values)))
    return Tail(max(start, _FLOOR), max(excess, spread, 0.05 * start, _FLOOR))


@dataclass(frozen=True)
class ThresholdState:
    """All that a threshold remembers: the tail as it is now, and the decaying peak of the score."""

    tail: Tail
    peak: float = 0.0


@dataclass(frozen=True)
class Judgement:
    """What the threshold said of one score.

    Attributes:
        threshold: the level that this score had to exceed.
        exceeded: whether it did.
    """

    threshold: float
    exceeded: bool


class Threshold:
    """An adaptive threshold that keeps a budget of false alarms.

    A score counts as exceeding when it is above the level that the tail gives for the budget and
    above a share of the recent peak, so that an event which fades is not announced again. The
    threshold learns from a score only after it was judged, and a tenth as fast while exceeded.

    On independent scores with an exponential tail, budgets of one false alarm in 10,000 readings
    are met, one in 1,000 is overshot about twofold, and more generous ones up to fivefold: while
    exceeded, it learns too slowly from the scores that matter there.

    Args:
        tail: of the scores on the calibration recording.
        readings_per_false_alarm: the budget; above 50, where the modelled tail begins.

    Raises:
        ConfigurationError: the budget is too generous.
    """

    def __init__(self, tail: Tail, readings_per_false_alarm: float) -> None:
        if not readings_per_false_alarm > 1 / (1 - TAIL_QUANTILE):
            raise ConfigurationError(
                f"A false alarm every {readings_per_false_alarm:.3g} readings is more than this "
                "threshold can grant (one in 50); ask for fewer false alarms per day."
            )
        self._log_budget = math.log(readings_per_false_alarm)
        self.state = ThresholdState(tail)

    def update(self, score: float) -> Judgement:
        """Judges one score and learns from it."""
        tail, peak = self.state.tail, self.state.peak * 2 ** (-1 / _PEAK_HALF_LIFE)
        level = tail.start + tail.scale * (self._log_budget - _TAIL_LOG)
        needed = max(level, _PEAK_SHARE * peak)
        exceeded = score > needed
        self.state = ThresholdState(
            _follow(tail, score, _RATE * (_RATE_WHILE_EXCEEDED if exceeded else 1)),
            min(max(peak, score), 10 * level),
        )
        return Judgement(needed, exceeded)


def _follow(tail: Tail, score: float, rate: float) -> Tail:
    """The tail after one more score: 98 % of the scores pull it down, 2 % push it up."""
    start, scale = tail.start, tail.scale
    if score > start:
        growth = math.exp(10 * TAIL_QUANTILE * rate)
        excess = min(score - start, 8 * scale)
        start, scale = start * growth, scale * growth
        scale += rate / (1 - TAIL_QUANTILE) * 0.2 * (excess - scale)
    else:
        decay = math.exp(-10 * (1 - TAIL_QUANTILE) * rate)
        start, scale = start * decay, scale * decay
    return Tail(max(start, _FLOOR), max(scale, 0.05 * start, _FLOOR))


def readings_per_false_alarm(false_alarms_per_day: float, sample_period: float) -> float:
    """Turns the user's budget into readings, given the sample period in seconds.

    Raises:
        ConfigurationError: a figure is not positive.
    """
    if not (false_alarms_per_day > 0 and sample_period > 0):
        raise ConfigurationError(
            "False alarms per day and the sample period must be positive; they are "
            f"{false_alarms_per_day:g} and {sample_period:g} s."
        )
    return 86_400 / sample_period / false_alarms_per_day
