"""Alerts against labelled events: what was found, how late, and what was a false alarm.

What counts is when an alert opens. A labelled event is found when an alert opens in it. An alert
that was open already when the event began tells nobody anything new; it counts as finding it only
when it opened within a stated lead before, and else the event counts apart, as `already_open`.
Precision is the share of alerts that opened in an event (or, finding one, in the lead before it);
several alerts in one event are all right, but only the first finds it. No event is ever taken as
wholly found for one row of it, as point adjustment does (see `points`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelstm.evaluation.labels import Event, Labels

DAY_S = 86_400.0


@dataclass(frozen=True)
class Alerts:
    """Alerts as stretches of rows, in order, none overlapping.

    Attributes:
        starts: int (alerts,): the first row in which each is open.
        stops: int (alerts,): the row at which each had closed.
        opened: bool (alerts,): whether it opened in its first row; else it did so before the first
            of all rows, or in one that is left out.
    """

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    opened: NDArray[np.bool_]

    @classmethod
    def from_rows(cls, alarm: ArrayLike, onsets: ArrayLike | None = None) -> Alerts:
        """Alerts from what is known of each row.

        Args:
            alarm: bool (rows,): whether an alert is open.
            onsets: bool (rows,): whether one opened in this row; by default where `alarm` begins.
        """
        is_open = np.asarray(alarm, bool)
        begins = is_open & ~np.concatenate([[False], is_open[:-1]])
        opens = begins if onsets is None else is_open & np.asarray(onsets, bool)
        starts = np.flatnonzero(begins | opens)
        ends = np.flatnonzero(is_open & ~np.concatenate([is_open[1:], [False]])) + 1
        stops = ends[np.searchsorted(ends, starts, "right")]
        # An alert that closes where the next opens ends there.
        stops[:-1] = np.minimum(stops[:-1], starts[1:])
        return cls(starts, stops, opens[starts])

    def rows(self, count: int) -> NDArray[np.bool_]:
        """Whether an alert is open, bool (rows,)."""
        steps = np.zeros(count + 1, np.int64)
        np.add.at(steps, self.starts, 1)
        np.add.at(steps, self.stops, -1)
        return np.cumsum(steps[:-1]) > 0


class Finding(NamedTuple):
    """What became of one event.

    Attributes:
        event: the event.
        row: the row at which the alert opened that found it; None where none did.
        already_open: no alert found it, but one was open already when it began.
    """

    event: Event
    row: int | None
    already_open: bool


@dataclass(frozen=True)
class EventTally:
    """Counts that can be added up over recordings.

    Attributes:
        events: labelled events.
        found: of them, those that an alert found.
        already_open: of the others, those that began while an alert was open.
        alerts: alerts that opened.
        false_alarms: of them, those that opened in no event.
        normal_days: time without an event: normal rows times the sample period, in days.
        delays_s: of each event found: seconds from its first row to the alert; negative in the
            lead.
        delays_readings: the same in rows.
    """

    events: int = 0
    found: int = 0
    already_open: int = 0
    alerts: int = 0
    false_alarms: int = 0
    normal_days: float = 0.0
    delays_s: tuple[float, ...] = ()
    delays_readings: tuple[int, ...] = ()

    def __add__(self, other: EventTally) -> EventTally:
        return EventTally(
            self.events + other.events,
            self.found + other.found,
            self.already_open + other.already_open,
            self.alerts + other.alerts,
            self.false_alarms + other.false_alarms,
            self.normal_days + other.normal_days,
            self.delays_s + other.delays_s,
            self.delays_readings + other.delays_readings,
        )

    @property
    def precision(self) -> float | None:
        """Alerts that opened in an event over all alerts; None without an alert."""
        return 1 - self.false_alarms / self.alerts if self.alerts else None

    @property
    def recall(self) -> float | None:
        """Events found over all events; None without an event."""
        return self.found / self.events if self.events else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; 0 without an alert, None without an event."""
        if self.recall is None:
            return None
        precision = self.precision or 0.0
        both = precision + self.recall
        return 2 * precision * self.recall / both if both else 0.0

    @property
    def false_alarms_per_day(self) -> float | None:
        """False alarms per day of normal time; None where there is no normal time."""
        return self.false_alarms / self.normal_days if self.normal_days else None


def find(
    alerts: Alerts, events: Sequence[Event], times: NDArray[np.float64], lead: float = 0.0
) -> tuple[Finding, ...]:
    """Says of each event which alert found it.

    Args:
        alerts: of the same rows as the events.
        events: in time order.
        times: of the rows, seconds, (rows,).
        lead: seconds before an event in which an alert that is still open when it begins may have
            opened, to count as finding it.
    """
    starts, stops, opened = (a.tolist() for a in (alerts.starts, alerts.stops, alerts.opened))
    found = []
    for event in events:
        next_alert = bisect_left(starts, event.start)
        before = next_alert - 1
        is_open = before >= 0 and stops[before] > event.start
        row: int | None = None
        if is_open and opened[before]:
            early = float(times[event.start] - times[starts[before]])
            row = starts[before] if early <= lead else None
        while row is None and next_alert < len(starts) and starts[next_alert] < event.stop:
            row = starts[next_alert] if opened[next_alert] else None
            is_open = is_open or row is None
            next_alert += 1
        found.append(Finding(event, row, is_open and row is None))
    return tuple(found)


def false_rows(alerts: Alerts, labels: Labels, findings: Sequence[Finding]) -> NDArray[np.int64]:
    """The rows at which false alarms opened, (false alarms,)."""
    opened = alerts.starts[alerts.opened]
    false = opened[~labels.anomalous[opened]]
    early = [f.row for f in findings if f.row is not None and f.row < f.event.start]
    return false[~np.isin(false, early)] if early else false


def count_events(
    alerts: Alerts,
    labels: Labels,
    times: NDArray[np.float64],
    sample_period: float,
    lead: float = 0.0,
) -> EventTally:
    """Counts events and alerts of one recording.

    Args:
        alerts: of its rows.
        labels: of its rows, all known (`Labels.known_only`).
        times: of its rows, seconds, (rows,).
        sample_period: seconds.
        lead: see `find`.
    """
    findings = find(alerts, labels.events, times, lead)
    hits = [(f.event, f.row) for f in findings if f.row is not None]
    return EventTally(
        events=len(findings),
        found=len(hits),
        already_open=sum(f.already_open for f in findings),
        alerts=int(alerts.opened.sum()),
        false_alarms=len(false_rows(alerts, labels, findings)),
        normal_days=float((~labels.anomalous).sum()) * sample_period / DAY_S,
        delays_s=tuple(float(times[row] - times[event.start]) for event, row in hits),
        delays_readings=tuple(row - event.start for event, row in hits),
    )
