"""`AlertRule`: turns exceeded thresholds into alerts that open once and close once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


class AlertEvent(Enum):
    """What happens to an alert."""

    OPENED = "opened"
    CLOSED = "closed"


@dataclass(frozen=True)
class Alert:
    """An anomaly that is, or was, going on.

    Attributes:
        number: counts the alerts of a run from 1.
        opened: timestamp of the reading that opened it, seconds since the Unix epoch.
        closed: timestamp of the reading that closed it; None while it is open.
        peak_score: the highest score so far.
    """

    number: int
    opened: float
    peak_score: float
    closed: float | None = None


class AlertRule:
    """Opens an alert when the threshold is exceeded, and closes it after quiet readings.

    Args:
        quiet: readings in a row without exceeding after which an alert closes. The default is
            the span of the score, so that two peaks of one event are one alert.
    """

    def __init__(self, quiet: int = 20) -> None:
        self._quiet = quiet
        self._quiet_so_far = 0
        self.opened = 0
        """How many alerts were opened so far."""
        self.open: Alert | None = None
        """The alert that is open now, if any."""

    def update(
        self, timestamp: float, score: float, exceeded: bool
    ) -> tuple[AlertEvent, Alert] | None:
        """Takes the verdict on one reading.

        Returns:
            The event and the alert it concerns, or None when nothing changes.
        """
        if self.open is None:
            if not exceeded:
                return None
            self.opened += 1
            self._quiet_so_far = 0
            self.open = Alert(self.opened, timestamp, score)
            return AlertEvent.OPENED, self.open
        self.open = replace(self.open, peak_score=max(self.open.peak_score, score))
        self._quiet_so_far = 0 if exceeded else self._quiet_so_far + 1
        if self._quiet_so_far < self._quiet:
            return None
        closed, self.open = replace(self.open, closed=timestamp), None
        return AlertEvent.CLOSED, closed
