"""`Pipeline`: reading -> step -> residual -> score -> threshold -> alert, one reading at a time.

A forecast is compared with the reading that it is for, a reconstruction with the window that it was
made of: a score at t never sees t + 1. A window artifact gives something only when it runs, so only
then, or at the reading that its forecast is for, there is a score. The pipeline also owns the rules
for what a residual is worth:

- while the states still tell of how they began (warm-up) there is no score;
- a value that is missing (not finite) has no part in the residual, and for as long as another
  channel lives the model goes on with the channel's last one (see `edgelstm.stand_ins`); a reading
  without a single value is no reading;
- a reading whose forecast fell into a short gap has no score, nor has a window over one, and no
  exceedance from before a gap counts towards an alert after it;
- after a long gap the states are of the past: the session starts afresh and warms up. An alert
  that is open stays open meanwhile: no data is no all-clear;
- a time that goes back, where the device does not count its readings, is a clock that was set: such
  readings are left out. If more than a few come in a row, the new time is believed, and that is
  a long gap.

Faults of the sensor are looked for beside all this, in every reading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgelstm.alert import Alert, AlertChange, AlertEvent, AlertPolicy, AlertRule, ChannelShare
from edgelstm.detectors import make_scorer, make_threshold
from edgelstm.errors import ArtifactError, StateError
from edgelstm.manifest import Detection, Manifest
from edgelstm.pipeline_state import PipelineState, pack, unpack
from edgelstm.reading import Reading
from edgelstm.residuals import Comparison, make_residuals
from edgelstm.sensor_faults import SensorFaults
from edgelstm.stand_ins import Completed, StandIns
from edgelstm.stepped import Stepped as Stepped
from edgelstm.threshold import readings_per_false_alarm
from edgelstm.verdict import Achieved as Achieved
from edgelstm.verdict import PipelineCounters as PipelineCounters
from edgelstm.verdict import Verdict as Verdict

LONG_GAP = 10
"""Missing readings after which the states are no longer trusted."""
_DAY_S = 86_400.0


class _Place(NamedTuple):
    """Where a reading is in time."""

    timestamp: float
    sequence_number: int | None


@dataclass(frozen=True)
class _Progress:
    """What the pipeline itself remembers beside its parts; see there."""

    last: _Place | None
    behind: int
    warming_up: bool
    counters: PipelineCounters


class Pipeline:
    """Watches one sensor with one artifact.

    Args:
        session: of an artifact with a detection.
        false_alarms_per_day: the budget; by default the artifact's own.
        policy: when alerts open and close; by default as `AlertPolicy` has it.
        threshold: its kind, see `edgelstm.detectors`; by default the artifact's own.
        any_rate: whether readings may come at another rate than the model was made for: then their
            times tell of no gap, only a device's own count does, and no rate is a fault.

    Raises:
        ArtifactError: the artifact has no detection.
        ConfigurationError: the budget makes no sense, or there is no such threshold.
    """

    def __init__(
        self,
        session: Stepped,
        *,
        false_alarms_per_day: float | None = None,
        policy: AlertPolicy | None = None,
        threshold: str | None = None,
        any_rate: bool = False,
    ) -> None:
        manifest = session.artifact.manifest
        self._detection = detection = need_detection(manifest)
        self.session = session
        self.counters = PipelineCounters()
        self._period = manifest.sample_period
        # What counts is how often there is a score: once in a hop.
        self._seconds_per_score = manifest.sample_period * manifest.hop
        self.budget = (
            detection.false_alarms_per_day if false_alarms_per_day is None else false_alarms_per_day
        )
        """False alarms per day that the threshold grants."""
        self._stand_ins = StandIns(manifest)
        self._residuals = make_residuals(manifest)
        self._scorer = make_scorer(detection)
        self._threshold = make_threshold(
            detection, readings_per_false_alarm(self.budget, self._seconds_per_score), threshold
        )
        self._rule = AlertRule(policy or AlertPolicy())
        names = [channel.name for channel in manifest.channels]
        self._faults = SensorFaults(
            names, detection.limits, manifest.sample_period, any_rate=any_rate
        )
        self._columns = [names.index(name) for name in self._residuals.names]
        # Whether a run gives no forecast for most of the readings.
        self._runs_seldom = manifest.hop > 1
        self._forecasts = manifest.task != "reconstruction"
        self._any_rate = any_rate
        self._last: Reading | None = None
        self._comparison: Comparison | None = None
        self._behind = 0
        self.warming_up = True
        """Whether there was no score since the start, or since the states were reset."""

    @property
    def open_alert(self) -> Alert | None:
        """The anomaly that is going on now, if any."""
        return self._rule.open

    @property
    def open_alerts(self) -> tuple[Alert, ...]:
        """All that is open now: the anomaly, if any, and the faults of the sensor."""
        anomaly = self._rule.open
        return self._faults.open if anomaly is None else (anomaly, *self._faults.open)

    @property
    def alerts(self) -> int:
        """How many anomalies were announced so far."""
        return self._rule.opened

    @property
    def compared(self) -> tuple[str, ...]:
        """The channels that have residuals; of a reconstruction each has one per reading."""
        return self._residuals.names

    def achieved(self) -> Achieved:
        """How many alerts there were, to be set beside the budget."""
        return Achieved(self._rule.opened, self.days(self.counters.scored))

    def days(self, scored: int) -> float:
        """The time that so many scored readings stand for, in days."""
        return scored * self._seconds_per_score / _DAY_S

    def update(self, reading: Reading) -> Verdict:
        """Takes one reading and says what it made of it.

        Raises:
            ReadingError: the reading has another number of values than the model's channels, or
                one that is not finite while the session's policy is to raise.
            BackendError: the runtime failed.
        """
        try:
            begun = self.begin(reading)
            if isinstance(begun, Verdict):
                return begun
            output = self.session.step(begun.inputs)
        except Exception:
            self.counters.failed += 1
            raise
        return self.finish(reading, begun, output)

    def begin(self, reading: Reading) -> Completed | Verdict:
        """The half of `update` before the step, for whoever steps many pipelines at once.

        Returns:
            What is to be stepped; a verdict where there is nothing.

        Raises:
            ReadingError: as for `update`.
        """
        counters = self.counters
        counters.readings += 1
        missing = self._missing(reading)
        if missing < 0:
            self._behind += 1
            if self._behind <= LONG_GAP:
                counters.backwards += 1
                return Verdict(reading)
            missing = LONG_GAP + 1
        values = reading.values
        # Nearly always one sum tells; it may be too large, too.
        whole = math.isfinite(sum(values)) or all(map(math.isfinite, values))
        if not whole and not any(map(math.isfinite, values)):
            counters.unusable += 1
            return Verdict(reading, changes=self._fault_changes(reading))
        if missing:
            self._mind_the_gap(missing)
        if whole or self.session.invalid == "hold":
            completed = self._stand_ins.complete(values, whole=whole)
        else:
            self.session.step(values)  # skips it, or raises
            completed = None
        if completed is None:
            counters.unusable += 1
            return Verdict(reading, changes=self._fault_changes(reading))
        return completed

    def finish(
        self, reading: Reading, completed: Completed, output: NDArray[np.float64] | None
    ) -> Verdict:
        """The half of `update` after the step.

        Args:
            reading: that `begin` took.
            completed: what it gave.
            output: what the step of its `inputs` gave, see `Session.step`.
        """
        self._last = reading
        self._behind = 0
        changes = self._faults.update(reading)
        if changes:
            self._count_faults(changes)
        self._comparison = compared = self._residuals.update(
            completed.observed, output, completed.inputs
        )
        if compared is None:
            self._count_unscored(output)
            return Verdict(reading, changes=changes)
        predicted, residual, warm = compared
        score = self._scorer.update(residual) if warm else None
        if score is None:
            self._count_unscored(output, residual)
            return Verdict(reading, predicted, residual, changes=changes)
        self.counters.scored += 1
        self.warming_up = False
        judgement = self._threshold.update(score)
        change = self._rule.update(reading.timestamp, score, judgement, self._channel_shares)
        if change is not None:
            changes = (*changes, change)
        return Verdict(
            reading, predicted, residual, score, judgement.threshold, judgement.exceeded, changes
        )

    def _count_unscored(
        self,
        output: NDArray[np.float64] | None,
        residual: NDArray[np.float64] | None = None,
    ) -> None:
        """Counts why a reading that was stepped has no score."""
        counters = self.counters
        if self.warming_up:
            counters.warming_up += 1
        elif residual is not None:
            counters.uncompared += 1
        elif self._runs_seldom and (self._forecasts or output is None):
            counters.not_due += 1
        else:
            counters.after_gap += 1

    def silent(self, timestamp: float) -> tuple[AlertChange, ...]:
        """Is told that no reading has come until now.

        Args:
            timestamp: as the next reading would have it, seconds since the Unix epoch.

        Returns:
            The faults of the sensor that opened.
        """
        changes = self._faults.silent(timestamp)
        self._count_faults(changes)
        return changes

    def renumber(self) -> None:
        """Is told that the source counts its readings anew, such as after a restart.

        The next reading is then placed by its time.
        """
        if self._last is not None:
            self._last = self._last._replace(sequence_number=None)
        self._faults.renumber()

    def resume(self) -> None:
        """Is told that its state is that of an earlier run, and the source counts anew.

        That nobody listened in between is no fault of the sensor.
        """
        self.renumber()
        self._faults.resume()

    @property
    def state(self) -> PipelineState:
        """All that is remembered after the last reading: a value, which can be set again later.

        Setting it goes on where it was got, bit for bit. The state of another artifact, calibration
        or kind of threshold raises `StateError` and changes nothing; the budget and the policy may
        be others.
        """
        last = self._last
        return pack(
            self.session.state,
            self._detection,
            {
                "stand_ins": self._stand_ins.state,
                "residuals": self._residuals.state,
                "scorer": self._scorer.state,
                "threshold": self._threshold.state,
                "rule": self._rule.state,
                "faults": self._faults.state,
                "progress": _Progress(
                    last and _Place(last.timestamp, last.sequence_number),
                    self._behind,
                    self.warming_up,
                    replace(self.counters),
                ),
            },
        )

    @state.setter
    def state(self, state: PipelineState) -> None:
        parts: list[Any] = [
            self._stand_ins,
            self._residuals,
            self._scorer,
            self._threshold,
            self._rule,
            self._faults,
        ]
        names = ["stand_ins", "residuals", "scorer", "threshold", "rule", "faults"]
        before = [part.state for part in parts]
        kinds = dict(zip(names, map(type, before), strict=True))
        new = unpack(state, self._detection, kinds | {"progress": _Progress})
        session_before = self.session.state
        try:
            self.session.state = state.session
            for name, part in zip(names, parts, strict=True):
                part.state = new[name]
        except StateError:
            self.session.state = session_before
            for part, old in zip(parts, before, strict=True):
                part.state = old
            raise
        progress: _Progress = new["progress"]
        last, self._behind = progress.last, progress.behind
        self._last = last and Reading(last.timestamp, (), last.sequence_number)
        self.warming_up, self.counters = progress.warming_up, progress.counters

    def _missing(self, reading: Reading) -> int:
        """How many readings are missing before this one; negative: it is of the past."""
        last = self._last
        if last is None:
            return 0
        number = last.sequence_number
        if number is not None and reading.sequence_number is not None:
            # A device that counts knows best: wall clocks step (daylight saving, NTP).
            return reading.sequence_number - number - 1
        if self._any_rate:
            return 0
        passed = reading.timestamp - last.timestamp
        if not passed >= 0:
            return -1
        return max(0, round(passed / self._period) - 1)

    def _mind_the_gap(self, missing: int) -> None:
        self._rule.gap()
        if missing > LONG_GAP:
            self.counters.restarts += 1
            self.session.reset()
            self._residuals.reset()
            self._scorer.reset()
            self.warming_up = True
        else:
            self.counters.gaps += 1
            self._residuals.gap(missing)

    def _fault_changes(self, reading: Reading) -> tuple[AlertChange, ...]:
        changes = self._faults.update(reading)
        self._count_faults(changes)
        return changes

    def _count_faults(self, changes: tuple[AlertChange, ...]) -> None:
        self.counters.sensor_faults += sum(c.event is AlertEvent.OPENED for c in changes)

    def _channel_shares(self) -> tuple[ChannelShare, ...]:
        """What each compared channel has to do with the score of the last reading."""
        residuals, last, comparison = self._residuals, self._last, self._comparison
        assert last is not None  # noqa: S101  # a score is of both
        assert comparison is not None  # noqa: S101
        count = len(residuals.names)
        shares = np.bincount(residuals.shares_of, self._scorer.shares(), count)
        observed = [last.values[k] for k in self._columns]
        # Of a window these are its last reading.
        predicted, residual = comparison.predicted[-count:], comparison.residual[-count:]
        figures = (
            [_known(x) for x in part] for part in (residual.tolist(), observed, predicted.tolist())
        )
        return tuple(map(ChannelShare, residuals.names, shares.tolist(), *figures))


def _known(number: float) -> float | None:
    return number if math.isfinite(number) else None


def need_detection(manifest: Manifest) -> Detection:
    """The detection of an artifact.

    Raises:
        ArtifactError: it has none; the message says what to do.
    """
    if manifest.task == "none":
        raise ArtifactError(
            f"The model {manifest.name!r} neither forecasts nor reconstructs its channels, so "
            "there is no residual to watch: train a forecaster with 'edgelstm train', or say with "
            "'edgelstm quantize --horizon' or --task what the outputs are."
        )
    if manifest.detection is None:
        raise ArtifactError(
            f"The model {manifest.name!r} was not calibrated for detection: run 'edgelstm "
            "calibrate', or quantize it again with a recording of normal operation."
        )
    return manifest.detection
