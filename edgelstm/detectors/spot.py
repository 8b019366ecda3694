"""SPOT: a generalised Pareto tail, fitted to the latest peaks over a threshold.

Siffer, Fouque, Termier and Largouet, "Anomaly Detection in Streams with Extreme Value Theory"
(KDD 2017). A score above `t`, the 98 % quantile of the calibration, is a peak; the excesses `y` of
the peaks over `t` have a generalised Pareto distribution of shape `g` and scale `s`, and a share
`q` of all scores is above

    level = t + s / g ((q n / peaks)^-g - 1)

when there were `peaks` of them in `n` scores. A score above the level is an alarm and teaches
nothing; a peak below it is learnt.

It differs from the paper in this:

- The fit is by probability-weighted moments (Hosking and Wallis, "Parameter and Quantile Estimation
  for the Generalized Pareto Distribution", Technometrics 1987): of 15 peaks the likelihood often
  has no maximum. With so few the shape is drawn towards 0, an exponential tail, and it is kept
  between 0 and 1/2.
- That alarms teach nothing cuts the tail off: refitted again and again, the level sinks, and alarms
  of one in 500 come seven times too often. So what is above the level is added to the moments and
  to the count as the fitted tail has it, by a few steps of expectation and maximisation.
- Only the latest 500 peaks are kept, and `n` counts from the oldest of them.

`t` never moves, and what exceeds for ever is never learnt: it suits heavy tails and sensors that
do not drift.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edgelstm.detectors.quantiles import FLOOR, PEAK_SHARE, require_budget, scattered
from edgelstm.errors import StateError
from edgelstm.manifest import Detection
from edgelstm.threshold import Judgement

_MOST_PEAKS = 500
_STEEPEST = 0.5
# The shape of so many peaks counts half; of fewer, less.
_PRIOR_PEAKS = 20
_ROUNDS = 20
# Beyond, what is known of the tail is less than what is made up.
_MOST_UNSEEN = 0.5


@dataclass(frozen=True)
class SpotState:
    """What a `Spot` remembers.

    Attributes:
        excesses: of the latest peaks over `t`, in the order they came.
        spacings: for each, how many scores came from the peak before until it.
        since: scores since the last one.
        learnt: how many of the peaks are not from the calibration.
        limit: the excess above which peaks were not learnt when the tail was last fitted.
    """

    excesses: tuple[float, ...]
    spacings: tuple[int, ...]
    since: int
    learnt: int
    limit: float


class Spot:
    """A streaming peaks-over-threshold level.

    Args:
        detection: with the scores on the calibration recording.
        readings_per_false_alarm: the budget; above 50, where the modelled tail begins.

    Raises:
        ConfigurationError: the budget is too generous.
    """

    def __init__(self, detection: Detection, readings_per_false_alarm: float) -> None:
        self._budget = require_budget(readings_per_false_alarm, round(1 / PEAK_SHARE))
        self._start = detection.tail.start
        self._scale = detection.tail.scale
        peaks = [p - self._start for p in detection.score_peaks if p > self._start]
        kept = scattered(peaks)[-_MOST_PEAKS:]
        self.state = SpotState(tuple(kept), (round(1 / PEAK_SHARE),) * len(kept), 0, 0, 0.0)

    @property
    def state(self) -> SpotState:
        """What it remembers, as a value that can be set again."""
        return SpotState(
            tuple(self._excesses), tuple(self._spacings), self._since, self._learnt, self._limit
        )

    @state.setter
    def state(self, state: SpotState) -> None:
        if not (
            isinstance(state, SpotState)
            and len(state.excesses) == len(state.spacings) <= _MOST_PEAKS
            and all(0 < excess < math.inf for excess in state.excesses)
            and all(spacing >= 1 for spacing in state.spacings)
            and state.since >= 0
            and 0 <= state.learnt <= len(state.excesses)
            and 0 <= state.limit < math.inf
        ):
            raise StateError("This is no state of a SPOT threshold; start afresh.")
        self._excesses = deque(state.excesses)
        self._spacings = deque(state.spacings)
        self._since = state.since
        self._learnt, self._limit = state.learnt, state.limit
        self._ordered = sorted(state.excesses)
        self._readings = sum(state.spacings)
        self._judge()

    def update(self, score: float) -> Judgement:
        """Judges one score and learns from it, unless it exceeds."""
        if score > self._calm.threshold:
            return self._exceeded
        self._since += 1
        if score <= self._start:
            return self._calm
        judgement = self._calm
        self._learn(score - self._start)
        return judgement

    def _learn(self, excess: float) -> None:
        if len(self._excesses) == _MOST_PEAKS:
            del self._ordered[bisect_left(self._ordered, self._excesses.popleft())]
            self._readings -= self._spacings.popleft()
        insort(self._ordered, excess)
        self._excesses.append(excess)
        self._learnt = min(self._learnt + 1, len(self._excesses))
        self._spacings.append(self._since)
        self._readings += self._since
        self._since = 0
        self._limit = self._calm.threshold - self._start
        self._judge()

    def _judge(self) -> None:
        """Works out the level for the scores to come."""
        excesses = self._ordered
        often, scale, shape = PEAK_SHARE, self._scale, 0.0
        if excesses:
            scale, shape, unseen = fit_pareto(excesses, self._limit, self._learnt / len(excesses))
            peaks = len(excesses) / (1 - unseen)
            often = min(peaks / (self._readings + peaks * unseen), 1.0)
        exponent = max(0.0, math.log(often * self._budget))
        reach = math.expm1(shape * exponent) / shape if shape > 1e-6 else exponent
        level = self._start + scale * reach
        self._calm = Judgement(level, False, (self._start + level) / 2)
        self._exceeded = self._calm._replace(exceeded=True)


class ParetoTail(NamedTuple):
    """A fitted generalised Pareto distribution.

    Attributes:
        scale: of the excesses.
        shape: likewise.
        unseen: share of the peaks that were too high to be learnt.
    """

    scale: float
    shape: float
    unseen: float


def fit_pareto(excesses: Sequence[float], limit: float, learnt: float) -> ParetoTail:
    """Fits a generalised Pareto distribution; see the module.

    Args:
        excesses: ascending, at least one, positive.
        limit: the excess above which they were not learnt.
        learnt: share of them that this is true for; the others were all learnt.
    """
    count = len(excesses)
    mean = max(sum(excesses) / count, FLOOR)
    # The mean weighted by the share of excesses above each.
    weighted = sum((count - i - 0.65) * y for i, y in enumerate(excesses)) / count**2
    tail = _solve(mean, weighted, count, 0.0)
    for _ in range(_ROUNDS if learnt else 0):
        scale, shape, _ = tail
        rest = scale + shape * limit  # the scale of what is above the limit
        above = (rest / scale) ** (-1 / shape) if shape > 1e-6 else math.exp(-limit / scale)
        above = min(above, _MOST_UNSEEN) * learnt
        below = 1 - above
        tail = _solve(
            below * mean + above * (limit + rest / (1 - shape)),
            below * (above * mean + below * weighted)
            + above**2 * (limit / 2 + rest / (2 * (2 - shape))),
            count,
            above,
        )
    return tail


def _solve(mean: float, weighted: float, count: int, unseen: float) -> ParetoTail:
    shape = 2 - mean / (mean - 2 * weighted) if mean > 2 * weighted else 0.0
    shape = min(max(shape * count / (count + _PRIOR_PEAKS), 0.0), _STEEPEST)
    return ParetoTail(mean * (1 - shape), shape, unseen)
