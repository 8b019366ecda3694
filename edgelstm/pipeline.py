"""`Pipeline`: reading -> step -> residual -> score -> threshold -> alert, one reading at a time.

The forecast made at one reading is compared with the next: a score at t never sees t + 1. A window
artifact forecasts only when it runs, so only the reading after a run gets a score. The pipeline
also owns the rules for what a forecast is worth after an interruption:

- a reading that misses a value (not finite) is not stepped and leaves a gap;
- after a short gap the forecast was for another time: that reading gets no score;
- after a long gap the states are of the past: the session starts afresh and warms up. An alert
  that is open stays open meanwhile: no data is no all-clear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelstm.alert import Alert, AlertEvent, AlertRule
from edgelstm.errors import ArtifactError
from edgelstm.reading import Reading
from edgelstm.scorer import Scorer
from edgelstm.session import Session
from edgelstm.threshold import Tail, Threshold, readings_per_false_alarm

LONG_GAP = 10
"""Missing readings after which the states are no longer trusted."""


@dataclass(frozen=True)
class Verdict:
    """What the pipeline made of one reading.

    Attributes:
        reading: the reading.
        predicted: the forecast for it, shape (targets,), physical units; None without one.
        score: of this reading; None without a forecast.
        threshold: the level the score had to exceed; None without a score.
        exceeded: whether it did; never during warm-up.
        event: what happened to an alert at this reading, if anything.
        alert: the alert that `event` concerns.
    """

    reading: Reading
    predicted: NDArray[np.float64] | None = None
    score: float | None = None
    threshold: float | None = None
    exceeded: bool = False
    event: AlertEvent | None = None
    alert: Alert | None = None


@dataclass
class PipelineCounters:
    """Counts since the start."""

    readings: int = 0
    scored: int = 0
    unusable: int = 0
    gaps: int = 0
    restarts: int = 0


class Pipeline:
    """Watches one sensor with one artifact.

    Args:
        session: of an artifact with a detection.
        false_alarms_per_day: the budget; by default the artifact's own.

    Raises:
        ArtifactError: the artifact has no detection or is no one-step forecast.
        ConfigurationError: the budget makes no sense.
    """

    def __init__(self, session: Session, *, false_alarms_per_day: float | None = None) -> None:
        manifest = session.artifact.manifest
        detection = manifest.detection
        if detection is None or manifest.horizon != 1:
            raise ArtifactError(
                f"The model {manifest.name!r} does not forecast the next reading of its channels, "
                "so there is no residual to watch."
            )
        self.session = session
        self.counters = PipelineCounters()
        names = [channel.name for channel in manifest.channels]
        self._targets = [names.index(target.name) for target in manifest.targets]
        self._period = manifest.sample_period
        self._warm_up = manifest.warm_up
        self.budget = (
            detection.false_alarms_per_day if false_alarms_per_day is None else false_alarms_per_day
        )
        """False alarms per day that the threshold grants."""
        self._scorer = Scorer(detection.residual_scale, detection.span)
        self._threshold = Threshold(
            Tail(detection.tail_start, detection.tail_scale),
            # What counts is how often there is a score: once in a hop.
            readings_per_false_alarm(self.budget, manifest.sample_period * manifest.hop),
        )
        self._rule = AlertRule(detection.span)
        self._forecast: NDArray[np.float64] | None = None
        self._last: Reading | None = None
        self._runs = 0
        self._warming_up = True

    @property
    def open_alert(self) -> Alert | None:
        """The alert that is open now, if any."""
        return self._rule.open

    @property
    def alerts(self) -> int:
        """How many alerts were opened so far."""
        return self._rule.opened

    def update(self, reading: Reading) -> Verdict:
        """Takes one reading and says what it made of it.

        Raises:
            ConfigurationError: the reading has another number of values than the model's channels.
        """
        self.counters.readings += 1
        if not all(map(math.isfinite, reading.values)):
            self.counters.unusable += 1
            return Verdict(reading)

        self._mind_the_gap(reading)
        predicted = self._forecast
        self._forecast = self.session.step(reading.values)
        self._last = reading
        self._runs += self._forecast is not None
        if predicted is None:
            return Verdict(reading)

        warming_up = self._runs <= self._warm_up
        if self._warming_up and not warming_up:
            # The residuals until now told of states that began at zero, not of the machine.
            self._scorer.reset()
        self._warming_up = warming_up
        observed = np.array([reading.values[i] for i in self._targets])
        score = self._scorer.update(observed - predicted)
        self.counters.scored += 1
        if warming_up:
            return Verdict(reading, predicted, score)
        judgement = self._threshold.update(score)
        event, alert = self._rule.update(reading.timestamp, score, judgement.exceeded) or (
            None,
            None,
        )
        return Verdict(
            reading, predicted, score, judgement.threshold, judgement.exceeded, event, alert
        )

    def _mind_the_gap(self, reading: Reading) -> None:
        missing = self._missing(reading)
        if missing > LONG_GAP:
            self.counters.restarts += 1
            self.session.reset()
            self._scorer.reset()
            self._forecast = None
            self._runs = 0
        elif missing:
            self.counters.gaps += 1
            self._forecast = None

    def _missing(self, reading: Reading) -> int:
        """How many readings are missing before this one."""
        last = self._last
        if last is None:
            return 0
        if reading.sequence_number is not None and last.sequence_number is not None:
            # A device that counts knows best: wall clocks step (daylight saving, NTP).
            return max(0, reading.sequence_number - last.sequence_number - 1)
        return max(0, round((reading.timestamp - last.timestamp) / self._period) - 1)
