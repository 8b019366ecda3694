"""Alarm against labels row by row, as SKAB's own scorer counts (its `binary` metric).

A row is in alarm while an alert is open. FAR = FP / (FP + TN), MAR = FN / (FN + TP), both in %,
F1 = TP / (TP + (FP + FN) / 2), with the counts summed over all recordings first
(github.com/waico/tsad). J = 100 - FAR - MAR, in points, is Youden's index: 0 for a detector that
knows nothing, however often it alarms, where F1 gets the higher the more is labelled.

Point adjustment (Xu et al., WWW 2018) takes every row of an event as found for one row in it. Kim
et al. (AAAI 2022) show that random alarms then beat most published methods; so it is never part of
a figure here unless it is asked for by name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgelstm.evaluation.events import Alerts
from edgelstm.evaluation.labels import Labels


@dataclass(frozen=True)
class PointTally:
    """Rows, to be added up over recordings.

    Attributes:
        hits: anomalous rows in alarm.
        misses: anomalous rows without.
        false: normal rows in alarm.
        quiet: normal rows without.
        adjusted_hits: anomalous rows of events that have a row in alarm.
    """

    hits: int = 0
    misses: int = 0
    false: int = 0
    quiet: int = 0
    adjusted_hits: int = 0

    def __add__(self, other: PointTally) -> PointTally:
        return PointTally(
            self.hits + other.hits,
            self.misses + other.misses,
            self.false + other.false,
            self.quiet + other.quiet,
            self.adjusted_hits + other.adjusted_hits,
        )

    @property
    def false_alarm_rate(self) -> float | None:
        """FAR: normal rows in alarm, in %; None without a normal row."""
        normal = self.false + self.quiet
        return 100 * self.false / normal if normal else None

    @property
    def missed_alarm_rate(self) -> float | None:
        """MAR: anomalous rows without alarm, in %; None without an anomalous row."""
        anomalous = self.hits + self.misses
        return 100 * self.misses / anomalous if anomalous else None

    @property
    def f1(self) -> float | None:
        """F1 of the rows; None without an anomalous row."""
        return _f1(self.hits, self.misses, self.false)

    @property
    def j(self) -> float | None:
        """100 - FAR - MAR, in points from -100 to 100; None where one of them is."""
        far, mar = self.false_alarm_rate, self.missed_alarm_rate
        return None if far is None or mar is None else 100 - far - mar

    @property
    def adjusted_f1(self) -> float | None:
        """The point-adjusted F1, which flatters; None without an anomalous row."""
        return _f1(self.adjusted_hits, self.hits + self.misses - self.adjusted_hits, self.false)


def count_points(alerts: Alerts, labels: Labels) -> PointTally:
    """Counts the rows of one recording; all its labels are known (`Labels.known_only`)."""
    before = np.concatenate([[0], np.cumsum(labels.anomalous)])
    hits = int((before[alerts.stops] - before[alerts.starts]).sum())
    in_alarm = int((alerts.stops - alerts.starts).sum())
    anomalous = int(before[-1])
    false = in_alarm - hits
    return PointTally(
        hits,
        anomalous - hits,
        false,
        len(labels) - anomalous - false,
        _adjusted(alerts, labels, before),
    )


def _adjusted(alerts: Alerts, labels: Labels, before: np.ndarray) -> int:
    """Anomalous rows of the events that have a row in alarm, overlapping ones counted once."""
    total = end = 0
    for event in labels.events:
        first = int(np.searchsorted(alerts.stops, event.start, "right"))
        if first < len(alerts.starts) and alerts.starts[first] < event.stop:
            start = max(event.start, end)
            if event.stop > start:
                total += int(before[event.stop] - before[start])
                end = event.stop
    return total


def _f1(hits: int, misses: int, false: int) -> float | None:
    return hits / (hits + (misses + false) / 2) if hits + misses else None
