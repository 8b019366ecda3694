"""A level that never moves: from the scores on the calibration recording alone.

As long as 20 calibration scores lie above the level that the budget needs, it is their empirical
quantile. Beyond, the tail is continued exponentially from that twentieth highest score; its mean
excess is the larger one of the top 20 and of all peaks, because a tail that is heavier than
exponential has a mean excess that grows.

It keeps the budget as long as the scores stay what they were, and says at once what a recording of
normal readings would have done. It cannot follow a sensor that ages, and what a short calibration
did not show, it does not know: of scores distributed as |t| with 3 degrees of freedom one alarm in
50,000 became 8 after 5,000 calibration scores and 25 after 750.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgelstm.detectors.quantiles import (
    FLOOR,
    PEAK_SHARE,
    beyond,
    mean_excess,
    quantiles,
    require_budget,
)
from edgelstm.errors import StateError
from edgelstm.manifest import Detection
from edgelstm.threshold import Judgement

# Calibration scores above a level that make it believable.
_ENOUGH = 20


@dataclass(frozen=True)
class StaticState:
    """A static threshold remembers nothing."""


class StaticQuantile:
    """A fixed threshold.

    Args:
        detection: with the scores on the calibration recording.
        readings_per_false_alarm: the budget, above 1.

    Raises:
        ConfigurationError: the budget is too generous.
    """

    def __init__(self, detection: Detection, readings_per_false_alarm: float) -> None:
        budget = require_budget(readings_per_false_alarm, 1)
        self.level = _level(detection, 1 / budget)
        """The level that a score must exceed."""
        start = min(self.level, detection.tail.start)
        self._calm = Judgement(self.level, False, (start + self.level) / 2)
        self._exceeded = self._calm._replace(exceeded=True)

    @property
    def state(self) -> StaticState:
        """What it remembers: nothing."""
        return StaticState()

    @state.setter
    def state(self, state: StaticState) -> None:
        if not isinstance(state, StaticState):
            raise StateError("This is no state of a static threshold; start afresh.")

    def update(self, score: float) -> Judgement:
        """Judges one score."""
        return self._exceeded if score > self.level else self._calm


def _level(detection: Detection, share: float) -> float:
    shown = min(PEAK_SHARE, _ENOUGH / max(detection.readings, 1))
    level = float(quantiles(detection, np.array([max(share, shown)]))[0])
    if share >= shown:
        return max(level, FLOOR)
    scale = max(detection.tail.scale, mean_excess(detection.score_peaks, level))
    return max(beyond(level, scale, shown, share), FLOOR)
