"""`Threshold`: says whether a score is too high, for a stated budget of false alarms.

`AdaptiveTail` is the default; `edgelstm.detectors` has others behind the same interface. What it
knows of the scores is their tail above the 98 % quantile, the `start`. Measured on a calibration
recording, it then follows slowly what the sensor does: the scores of a short recording are too low
for the months that come.

A budget of one false alarm in `n` readings is about alarms, not about readings: a smoothed score
stays high for a while. So what counts is how often the score leaves for an excursion above the
start (`rate`), and how high the peaks of `k` excursions were (`excess`, their mean over the start,
as a share of it). If such peaks are exponential and `k` of them are known, the chance that the next
one is higher than `x` is `(1 + x / (k excess))^-k`: the predictive distribution of an exponential
with unknown scale, a Lomax distribution. It is exceeded once in `n rate` excursions at

    theta = start (1 + excess k ((n rate)^(1 / k) - 1)).

Long stretches of high scores are a single excursion. So that they, too, count for what they are,
theta is at least half of what the mean excess of single scores (`scale`) over the start gives,

    start + 0.5 scale ln(n / 50).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from edgelstm.errors import ConfigurationError, StateError
from edgelstm.manifest import Tail as Tail

DEFAULT_FALSE_ALARMS_PER_DAY = 1 / 7
TAIL_QUANTILE = 0.98
REACH = 10
"""So many times its own readings a calibration can speak for."""
_RARE = 1 / (1 - TAIL_QUANTILE)
_FLOOR = 1e-3  # of start and scale: a constant sensor has a score of zero
_LEAST_SCALE = 0.05  # of the start
_LEAST_EXCESS = 0.02
_SINGLE_SCORES = 0.5  # see above
_HIGHEST_PEAK = 12  # times the mean excess; a failure must not hide the next one for days
_QUIET = 10  # scores in a row below the start that end an excursion, as of an alert

_RATE = 2 / 8001  # of adaptation: an exponential window of 8,000 readings
_RATE_WHILE_EXCEEDED = 0.2  # times the rate; freezing instead could lock an alarm in for ever
_NEW_NORMAL = 300  # readings in a row that exceed: from here on they are learnt at the full rate
_MOST_EXCURSIONS = 10  # that the mean excess reaches back
_MOST_READINGS = 4000  # that the rate of excursions reaches back

# What is taken for granted before the first excursion, and how many readings it is worth.
_PRIOR_EXCESS = 0.5  # times the distance of the start from the median
_PRIOR_EXCURSIONS = 2
_PRIOR_READINGS = 150  # with one excursion in them

_PEAK_HALF_LIFE = 200  # readings
_PEAK_DECAY = 2 ** (-1 / _PEAK_HALF_LIFE)
_PEAK_SHARE = 0.5  # of a recent peak that a score must exceed to count as news


class Judgement(NamedTuple):
    """What a threshold said of one score.

    Attributes:
        threshold: the level that this score had to exceed.
        exceeded: whether it did.
        release: the level, at most the threshold, up to which a score is calm again.
    """

    threshold: float
    exceeded: bool
    release: float


class Threshold(Protocol):
    """Says whether a score is too high. It learns from a score only after it was judged."""

    state: Any
    """All that it remembers, as a value that can be set again."""

    def update(self, score: float) -> Judgement:
        """Judges one score and learns from it."""


@dataclass(frozen=True)
class ThresholdState:
    """All that an adaptive tail remembers.

    Attributes:
        tail: as it is now.
        peak: of the recent scores, decaying.
        excursion: peak of the excursion that is going on, its excess as a share of the start; None
            when there is none.
        calm: scores in a row since the last one above the start.
        exceeding: scores in a row that exceeded.
    """

    tail: Tail
    peak: float = 0.0
    excursion: float | None = None
    calm: int = 0
    exceeding: int = 0


class AdaptiveTail:
    """An adaptive threshold that keeps a budget of false alarms; see the top of this module.

    A score counts as exceeding when it is above the level that the tail gives for the budget and
    above half of the recent peak, so that an event which fades is not announced again. The
    threshold learns from a score only after it was judged, and a fifth as fast while exceeded;
    what has exceeded for 300 readings is taken for a new normal and learnt at the full rate.
    A score is calm again below the middle between the start of the tail and the threshold.

    Args:
        tail: of the scores on the calibration recording.
        readings_per_false_alarm: the budget; above 50, where the modelled tail begins.

    Raises:
        ConfigurationError: the budget is too generous.
    """

    def __init__(self, tail: Tail, readings_per_false_alarm: float) -> None:
        if not readings_per_false_alarm > _RARE:
            raise ConfigurationError(
                f"A false alarm every {readings_per_false_alarm:.3g} readings is more than this "
                "threshold can grant (one in 50); ask for fewer false alarms per day."
            )
        self._budget = readings_per_false_alarm
        self._single = _SINGLE_SCORES * math.log(readings_per_false_alarm / _RARE)
        self.state = ThresholdState(tail)

    @property
    def state(self) -> ThresholdState:
        """All that it remembers."""
        return ThresholdState(
            self._tail.value(), self._peak, self._tail.peak, self._tail.calm, self._exceeding
        )

    @state.setter
    def state(self, state: ThresholdState) -> None:
        if not (
            isinstance(state, ThresholdState)
            and 0 <= state.peak < math.inf
            and (state.excursion is None or 0 <= state.excursion < math.inf)
            and min(state.calm, state.exceeding) >= 0
        ):
            raise StateError("This is no state of an adaptive threshold; start afresh.")
        self._tail = _Tail(state.tail, state.excursion, state.calm)
        self._peak = state.peak
        self._exceeding = state.exceeding

    def update(self, score: float) -> Judgement:
        """Judges one score and learns from it."""
        # Comparisons instead of max and min, here and below: this runs at every reading.
        tail = self._tail
        level = tail.level(self._budget)
        single = tail.start + tail.scale * self._single
        if single > level:
            level = single
        recent = self._peak * _PEAK_DECAY
        needed = _PEAK_SHARE * recent
        if level > needed:
            needed = level
        exceeded = score > needed
        release = (tail.start + needed) / 2 if needed > tail.start else needed

        self._peak = min(recent if recent > score else score, 10 * level)
        self._exceeding = self._exceeding + 1 if exceeded else 0
        tail.count(score, exceeded)
        tail.follow(score, slowed=exceeded and self._exceeding < _NEW_NORMAL)
        return Judgement(needed, exceeded, release)


class _Tail:
    """A tail that learns. Plain attributes, because it learns at every reading."""

    def __init__(self, tail: Tail, peak: float | None = None, calm: int = 0) -> None:
        self.start, self.scale = tail.start, tail.scale
        self.excess, self.excursions = tail.excess, tail.excursions
        self.rate, self.readings = tail.rate, tail.readings
        self.peak, self.calm = peak, calm

    def value(self) -> Tail:
        return Tail(self.start, self.scale, self.excess, self.excursions, self.rate, self.readings)

    def level(self, budget: float) -> float:
        """What the peaks of excursions exceed once in so many readings."""
        count, k = budget * self.rate, self.excursions
        if count > 1:
            excess = self.excess * k * (math.pow(count, 1 / k) - 1)
        else:  # more often than there are excursions: somewhat below the start
            excess = self.excess * max(math.log(count), -1.0)
        return self.start * (1 + excess)

    def count(self, score: float, exceeded: bool) -> None:
        """Takes note of excursions: how often they come, and how high they go."""
        begins = 0
        if score > self.start:
            if self.peak is None:
                self.peak, begins = 0.0, 1
            self.calm = 0
            above = min((score - self.start) / self.start, _HIGHEST_PEAK * self.excess)
            if above > self.peak:
                self.peak = above
        elif self.peak is not None:
            self.calm += 1
            if self.calm >= _QUIET:
                self.excursions = min(self.excursions + 1, _MOST_EXCURSIONS)
                self.excess += (self.peak - self.excess) / self.excursions
                self.excess = max(self.excess, _LEAST_EXCESS)
                self.peak = None
        if not exceeded:
            self.rate += (begins - self.rate) / self.readings
        self.readings = min(self.readings + 1, _MOST_READINGS + _PRIOR_READINGS)

    def follow(self, score: float, *, slowed: bool) -> None:
        """Moves start and scale: 98 % of the scores pull them down, 2 % push them up."""
        growth, decay, towards = _SLOW if slowed else _FULL
        start, scale = self.start, self.scale
        if score > start:
            excess = min(score - start, 8 * scale)
            start *= growth
            scale *= growth
            scale += towards * (excess - scale)
        else:
            start *= decay
            scale *= decay
        if start < _FLOOR:
            start = _FLOOR
        least = _LEAST_SCALE * start
        if least < _FLOOR:
            least = _FLOOR
        self.start = start
        self.scale = scale if scale > least else least


def _steps(rate: float) -> tuple[float, float, float]:
    """At a rate of adaptation: growth and decay of the tail, and how far its scale goes along."""
    share = 1 - TAIL_QUANTILE
    return math.exp(10 * TAIL_QUANTILE * rate), math.exp(-10 * share * rate), 0.2 * rate / share


_FULL, _SLOW = _steps(_RATE), _steps(_RATE * _RATE_WHILE_EXCEEDED)


def fit_tail(scores: ArrayLike) -> Tail:
    """Measures the tail of the scores of a calibration recording, shape (readings,), in order."""
    values = np.asarray(scores, np.float64)
    start = float(np.quantile(values, TAIL_QUANTILE))
    above = values[values > start]
    mean_excess = float(above.mean()) - start if len(above) else 0.0
    # A short recording can have a tail by chance too thin; these floors keep it believable.
    spread = start - float(np.median(values))
    scale = max(mean_excess, 0.3 * spread, _LEAST_SCALE * start, _FLOOR)
    start = max(start, _FLOOR)
    excess = max(_PRIOR_EXCESS * spread / start, _LEAST_EXCESS)
    prior = Tail(start, scale, excess, _PRIOR_EXCURSIONS, 1 / _PRIOR_READINGS, _PRIOR_READINGS)
    tail = _Tail(prior)
    for score in values.tolist():
        tail.count(score, exceeded=False)
    return tail.value()


def default_budget(calibration_readings: int, sample_period: float) -> float:
    """False alarms per day when the user states none: one a week, or what the calibration allows.

    A recording can tell little of what happens far more rarely than it is long. So the default is
    not rarer than one in ten times its readings.

    Args:
        calibration_readings: that the tail was measured on.
        sample_period: seconds from one score to the next.
    """
    return max(
        DEFAULT_FALSE_ALARMS_PER_DAY, 86_400 / sample_period / (REACH * calibration_readings)
    )


def readings_per_false_alarm(false_alarms_per_day: float, sample_period: float) -> float:
    """Turns the user's budget into readings, given the sample period in seconds.

    Raises:
        ConfigurationError: a figure is not positive, or the budget all but zero.
    """
    if not (false_alarms_per_day > 0 and sample_period > 0):
        raise ConfigurationError(
            "False alarms per day and the sample period must be positive; they are "
            f"{false_alarms_per_day:g} and {sample_period:g} s."
        )
    readings = 86_400 / sample_period / false_alarms_per_day
    if readings == math.inf:
        raise ConfigurationError(
            f"A budget of {false_alarms_per_day:g} false alarms per day is none at all; grant more."
        )
    return readings
