"""Adaptive conformal inference: a quantile of the latest scores, corrected by its own errors.

Gibbs and Candes, "Adaptive Conformal Inference Under Distribution Shift" (NeurIPS 2021). A score
is compared with the quantile `1 - alpha_t` of the 2,000 scores before it, and after each

    alpha_{t+1} = alpha_t + gamma (alpha - err_t)

where `alpha` is the budget, one in so many readings, and `err_t` is 1 when an alarm began at this
reading. After `T` readings there were `alpha T + (alpha_1 - alpha_{T+1}) / gamma` alarms, whatever
the scores were like: with `gamma = alpha / 8` at most eight more than the budget states, and fewer
than that where `alpha_t` has risen.

What that is worth for an alarm that may come once in weeks: the correction takes about as many
readings as the budget has, and an anomaly is an error to it like any other, so that the level
is higher after one. 2,000 scores also show nothing that comes once in 10,000: beyond their
twentieth highest the tail is continued exponentially. And so that no run of errors makes it
blind, and no long quiet makes it jumpy, `alpha_t` stays between a sixteenth of `alpha` and
sixteen times as much, at most 1/50; at these bounds the promise above ends: of scores distributed
as |t| with 3 degrees of freedom one in 50,000 became seven.

Scores that exceed the level are learnt one in ten, and as twice the level at most.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass

import numpy as np

from edgelstm.detectors.quantiles import (
    FLOOR,
    PEAK_SHARE,
    beyond,
    quantiles,
    require_budget,
    scattered,
)
from edgelstm.errors import StateError
from edgelstm.manifest import Detection
from edgelstm.threshold import Judgement

_WINDOW = 2000
_ENOUGH = 20
_GAMMA = 1 / 8  # of alpha
_LEAST, _MOST = 1 / 16, 16.0  # of alpha
_LEARN_ONE_IN = 10
_HIGHEST = 1e300


@dataclass(frozen=True)
class ConformalState:
    """What an `AdaptiveConformal` remembers.

    Attributes:
        scores: the window, oldest first.
        ratio: `alpha_t / alpha`.
        exceeding: for how many scores in a row the level has been exceeded.
    """

    scores: tuple[float, ...]
    ratio: float
    exceeding: int


class AdaptiveConformal:
    """A conformal level with an adaptive share of errors.

    Args:
        detection: with the scores on the calibration recording.
        readings_per_false_alarm: the budget; above 50.

    Raises:
        ConfigurationError: the budget is too generous.
    """

    def __init__(self, detection: Detection, readings_per_false_alarm: float) -> None:
        self._alpha = 1 / require_budget(readings_per_false_alarm, round(1 / PEAK_SHARE))
        shares = (np.arange(_WINDOW) + 0.5) / _WINDOW
        scores = scattered(quantiles(detection, shares).tolist())
        self.state = ConformalState(tuple(scores), 1.0, 0)

    @property
    def state(self) -> ConformalState:
        """What it remembers, as a value that can be set again."""
        return ConformalState(tuple(self._scores), self._ratio, self._exceeding)

    @state.setter
    def state(self, state: ConformalState) -> None:
        if not (
            isinstance(state, ConformalState)
            and len(state.scores) == _WINDOW
            and all(0 <= score < math.inf for score in state.scores)
            and _LEAST <= state.ratio <= _MOST
            and state.exceeding >= 0
        ):
            raise StateError("This is no state of a conformal threshold; start afresh.")
        self._scores = deque(state.scores)
        self._ordered = sorted(state.scores)
        self._ratio = state.ratio
        self._exceeding = state.exceeding

    def update(self, score: float) -> Judgement:
        """Judges one score and learns from it, one in ten while it exceeds."""
        level, start = self._level()
        exceeded = score > level
        error = exceeded and not self._exceeding
        self._exceeding = self._exceeding + 1 if exceeded else 0
        ratio = self._ratio + _GAMMA * (self._alpha - error)
        self._ratio = min(max(ratio, _LEAST), _MOST)
        if self._exceeding % _LEARN_ONE_IN == 0:
            self._learn(min(score, 2 * level))
        return Judgement(level, exceeded, (min(start, level) + level) / 2)

    def _learn(self, score: float) -> None:
        del self._ordered[bisect_left(self._ordered, self._scores.popleft())]
        insort(self._ordered, score)
        self._scores.append(score)

    def _level(self) -> tuple[float, float]:
        """The level for the next score, and where the highest 2 % begin."""
        ordered, peaks = self._ordered, round(_WINDOW * PEAK_SHARE)
        share = min(self._ratio * self._alpha, PEAK_SHARE)
        start = ordered[-peaks - 1]
        shown = _ENOUGH / _WINDOW
        if share >= shown:
            # Conformal: the rank among the window and the new score.
            rank = math.ceil((1 - share) * (_WINDOW + 1))
            return max(ordered[min(rank, _WINDOW) - 1], FLOOR), start
        base = ordered[-_ENOUGH - 1]
        scale = max(
            sum(ordered[-_ENOUGH:]) / _ENOUGH - base,
            sum(ordered[-peaks:]) / peaks - start,
            FLOOR,
        )
        return min(beyond(base, scale, shown, share), _HIGHEST), start
