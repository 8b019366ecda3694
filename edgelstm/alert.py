"""`AlertRule`: turns exceeded thresholds into alerts that open once and close once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from edgelstm.errors import ConfigurationError, StateError
from edgelstm.threshold import Judgement


class AlertKind(Enum):
    """What an alert tells of."""

    ANOMALY = "anomaly"
    SENSOR_FAULT = "sensor_fault"
    SERVICE_FAULT = "service_fault"  # of the service itself, such as a full disk


class Severity(Enum):
    """How much an alert matters."""

    WARNING = "warning"
    CRITICAL = "critical"


class AlertEvent(Enum):
    """What happens to an alert."""

    OPENED = "opened"
    UPDATED = "updated"  # its peak is clearly higher
    ESCALATED = "escalated"  # it became critical
    CLOSED = "closed"


class ChannelShare(NamedTuple):
    """How much a channel has to do with an alert.

    Attributes:
        name: of the channel.
        share: of 1.
        residual: observed - predicted at the peak, physical units; None where there is none.
        observed: the value at the peak, physical units; None likewise.
        predicted: what the model made of it, physical units; None likewise.
    """

    name: str
    share: float
    residual: float | None = None
    observed: float | None = None
    predicted: float | None = None


Channels = tuple[ChannelShare, ...]

_MOST_SCORES = 100_000
"""That an alert can look back over: a bit each, which move at every reading."""
_WORTH_TELLING = 1.5
"""So many times the peak that was told last must a new one be to be told, too."""


@dataclass(frozen=True)
class Alert:
    """Something that is, or was, wrong.

    Attributes:
        number: counts the alerts of its kind in a run from 1.
        kind: what it tells of.
        opened: timestamp of the reading that opened it, seconds since the Unix epoch.
        peak_score: the highest score so far; None for a sensor fault.
        channels: of an anomaly each channel's share of the score at its peak, largest first; of a
            sensor fault those that it is about.
        reason: of a sensor fault "flat", "out of range", "wrong rate" or "missing"; else "".
        closed: timestamp of the reading that closed it; None while it is open.
        severity: how much it matters; it may rise while the alert is open, and never falls.
        threshold: the level that the score exceeded when it opened; None for a sensor fault.
        peaked: timestamp of the reading with the peak score; None for a sensor fault.
    """

    number: int
    kind: AlertKind
    opened: float
    peak_score: float | None = None
    channels: Channels = ()
    reason: str = ""
    closed: float | None = None
    severity: Severity = Severity.WARNING
    threshold: float | None = None
    peaked: float | None = None

    @property
    def duration(self) -> float | None:
        """Seconds from the opening to the closing; None while it is open."""
        return None if self.closed is None else self.closed - self.opened


class AlertChange(NamedTuple):
    """An alert that opened or closed, or that got clearly worse."""

    event: AlertEvent
    alert: Alert


@dataclass(frozen=True)
class AlertPolicy:
    """When an alert opens and closes.

    Attributes:
        k: it opens when so many of the last `n` scores exceed the threshold.
        n: see `k`.
        minimum_duration: seconds that this must have gone on before it opens, counted from the
            first exceeding score that no calm one followed, without the gaps.
        quiet: calm scores in a row after which it closes. The default is half the span of the
            score, so that two peaks of one event are one alert (docs/decisions/0017).
        cool_down: seconds after a closing in which none opens; one that is due then opens when
            they are over, if the threshold is still exceeded.
        release: the share of the threshold up to which a score is calm; None for the level that
            the threshold itself gives.
        critical: an alert is critical from a score of so many times the threshold on: the one at
            that reading, or the one at which it opened, if that is lower.

    Raises:
        ConfigurationError: a figure makes no sense.
    """

    k: int = 1
    n: int = 1
    minimum_duration: float = 0.0
    quiet: int = 10
    cool_down: float = 0.0
    release: float | None = None
    critical: float = 2.0

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.n:
            raise ConfigurationError(
                f"An alert cannot open when {self.k} of the last {self.n} scores exceed; the first "
                "figure must be at least 1 and at most the second."
            )
        if self.n > _MOST_SCORES:
            raise ConfigurationError(
                f"An alert cannot look back over {self.n:,} scores; take {_MOST_SCORES:,} or fewer."
            )
        for name, seconds in (
            ("minimum duration", self.minimum_duration),
            ("cool-down", self.cool_down),
        ):
            if not 0 <= seconds < math.inf:
                raise ConfigurationError(
                    f"The {name} of an alert is {seconds:g} s; it must be 0 or more."
                )
        if self.quiet < 1:
            raise ConfigurationError(
                f"An alert cannot close after {self.quiet} calm readings; it needs at least 1."
            )
        if self.release is not None and not 0 < self.release <= 1:
            raise ConfigurationError(
                f"The release is {self.release:g} of the threshold; it must be above 0 and at "
                "most 1."
            )
        if not 1 <= self.critical < math.inf:
            raise ConfigurationError(
                f"Alerts cannot be critical from {self.critical:g} times the threshold on; it "
                "must be at least 1."
            )


@dataclass(frozen=True)
class RuleState:
    """What an `AlertRule` remembers.

    Attributes:
        opened: how many alerts were opened.
        open: the one that is open, if any.
        told: the peak of it that the last change told of.
        history: which of the last `n` scores exceeded, a bit for each, the last one lowest.
        fresh: scores since the start or a gap, at most `n`.
        calm: calm scores in a row.
        since: timestamp of the first exceeding score that no calm one followed, if any.
        last: timestamp of the last score.
        in_gap: whether a gap followed it.
        closed: timestamp of the last closing.
    """

    opened: int = 0
    open: Alert | None = None
    told: float = 0.0
    history: int = 0
    fresh: int = 0
    calm: int = 0
    since: float | None = None
    last: float | None = None
    in_gap: bool = False
    closed: float | None = None


class AlertRule:
    """Opens an alert when the threshold is exceeded, and closes it after calm readings.

    A reading that opens an alert exceeds the threshold itself. Meanwhile it is updated when its
    peak is 1.5 times the one that was told last, and escalated when it becomes critical.

    Args:
        policy: when it opens and closes.
    """

    def __init__(self, policy: AlertPolicy = AlertPolicy()) -> None:
        self.policy = policy
        self._mask = (1 << policy.n) - 1
        self.opened = 0
        """How many alerts were opened so far."""
        self.open: Alert | None = None
        """The alert that is open now, if any."""
        self._told = 0.0
        self._history = 0
        self._fresh = 0
        self._calm = 0
        self._since: float | None = None
        self._last: float | None = None
        self._in_gap = False
        self._closed: float | None = None

    @property
    def state(self) -> RuleState:
        """What it remembers, as a value that can be set again, also with another policy."""
        return RuleState(
            self.opened,
            self.open,
            self._told,
            self._history,
            self._fresh,
            self._calm,
            self._since,
            self._last,
            self._in_gap,
            self._closed,
        )

    @state.setter
    def state(self, state: RuleState) -> None:
        if not (isinstance(state, RuleState) and _possible(state)):
            raise StateError("This is no state of an alert rule; start afresh.")
        self.opened = state.opened
        self.open, self._told = state.open, state.told
        self._history = state.history
        self._fresh = min(state.fresh, self.policy.n)
        self._calm = state.calm
        self._since, self._last = state.since, state.last
        self._in_gap, self._closed = state.in_gap, state.closed

    def update(
        self,
        timestamp: float,
        score: float,
        judgement: Judgement,
        channels: Channels | Callable[[], Channels] = (),
    ) -> AlertChange | None:
        """Takes the judgement on the score of one reading.

        Args:
            timestamp: of the reading, seconds since the Unix epoch.
            score: of it.
            judgement: of the threshold on that score.
            channels: each one's share of the score, or what gives them: it is only asked when an
                alert opens or has a new peak.

        Returns:
            What happened to an alert, if anything.
        """
        policy = self.policy
        exceeded = judgement.exceeded
        release = (
            judgement.release if policy.release is None else policy.release * judgement.threshold
        )
        calm = not exceeded and score <= release
        self._history = (self._history << 1 | (1 if exceeded else 0)) & self._mask
        if self._fresh < policy.n:
            self._fresh += 1
        self._mind_the_time(timestamp)
        if calm:
            self._since = None
        elif exceeded and self._since is None:
            self._since = timestamp
        if self.open is not None:
            return self._go_on(self.open, timestamp, score, judgement, calm, channels)
        if not (exceeded and self._is_due(timestamp)):
            return None
        self.opened += 1
        self._calm, self._told = 0, score
        self.open = Alert(
            self.opened,
            AlertKind.ANOMALY,
            timestamp,
            score,
            _sorted(channels),
            severity=self._severity(score, judgement.threshold),
            threshold=judgement.threshold,
            peaked=timestamp,
        )
        return AlertChange(AlertEvent.OPENED, self.open)

    def gap(self) -> None:
        """Readings are missing before the next one: nothing opens before `n` scores after them.

        An open alert stays open, and time without scores does not count as exceeding.
        """
        self._fresh = 0
        self._in_gap = True

    def _mind_the_time(self, timestamp: float) -> None:
        """Takes time without scores, and steps of the clock, out of the duration."""
        last, self._last = self._last, timestamp
        if last is not None and (self._in_gap or timestamp < last) and self._since is not None:
            self._since += timestamp - last
        self._in_gap = False

    def _is_due(self, timestamp: float) -> bool:
        policy, since = self.policy, self._since
        if self._fresh < policy.n or self._history.bit_count() < policy.k:
            return False
        if since is not None and timestamp - since < policy.minimum_duration:
            return False
        # A clock that was set back must not lengthen the cool-down.
        return self._closed is None or not 0 <= timestamp - self._closed < policy.cool_down

    def _go_on(
        self,
        alert: Alert,
        timestamp: float,
        score: float,
        judgement: Judgement,
        calm: bool,
        channels: Channels | Callable[[], Channels],
    ) -> AlertChange | None:
        worse: AlertEvent | None = None
        if alert.peak_score is None or score > alert.peak_score:
            severity = alert.severity
            if severity is Severity.WARNING:
                # While the alert goes on it may itself lift the threshold, out of the reach of a
                # score that climbs slowly.
                lowest = min(judgement.threshold, alert.threshold or math.inf)
                severity = self._severity(score, lowest)
            if severity is not alert.severity:
                worse = AlertEvent.ESCALATED
            elif score >= _WORTH_TELLING * self._told:
                worse = AlertEvent.UPDATED
            alert = self.open = replace(
                alert,
                peak_score=score,
                channels=_sorted(channels),
                severity=severity,
                peaked=timestamp,
            )
        self._calm = self._calm + 1 if calm else 0
        if self._calm >= self.policy.quiet:
            self.open, self._calm, self._closed = None, 0, timestamp
            return AlertChange(AlertEvent.CLOSED, replace(alert, closed=timestamp))
        if worse is None:
            return None
        self._told = score
        return AlertChange(worse, alert)

    def _severity(self, score: float, threshold: float) -> Severity:
        critical = score >= self.policy.critical * threshold
        return Severity.CRITICAL if critical else Severity.WARNING


def _sorted(channels: Channels | Callable[[], Channels]) -> Channels:
    given = channels() if callable(channels) else channels
    return tuple(sorted(given, key=lambda channel: -channel.share))


def _possible(state: RuleState) -> bool:
    alert = state.open
    times = [state.since, state.last, state.closed]
    levels: list[float | None] = [state.told]
    if alert is not None:
        times += [alert.opened, alert.peaked]
        levels += [alert.peak_score, alert.threshold]
        if (alert.kind, alert.number, alert.closed) != (AlertKind.ANOMALY, state.opened, None):
            return False
    return (
        state.opened >= (alert is not None)
        and min(state.history, state.fresh, state.calm) >= 0
        and all(time is None or math.isfinite(time) for time in times)
        and all(level is not None and 0 <= level < math.inf for level in levels)
    )
