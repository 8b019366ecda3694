"""NAB's score, standard profile, for alerts.

Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms - the Numenta Anomaly
Benchmark", ICMLA 2015. An alert in a labelled window earns up to 1, the more the earlier it opens;
of several only the first counts. A window without one costs 1. An alert outside costs up to 0.11,
less just after a window. With y the place in the window from -1 (start) to 0 (end), and beyond it
the distance from its end in windows' lengths, the weight is 2 / (1 + exp(5 y)) - 1. The sum is
scaled so that a detector without alerts gets 0 and one that alerts at every window's first row
gets 100.

What differs from NAB's own runs: alerts are given, each counts where it opens only, and no
threshold is sought afterwards that makes the score best, as NAB does over the whole corpus. So
these figures compare with one another, and are no entry in NAB's table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgelstm.evaluation.events import Alerts
from edgelstm.evaluation.labels import Event

_FALSE_WEIGHT = 0.11
_FAR = 3.0  # windows' lengths after which a false alarm costs all of its weight


def nab_points(alerts: Alerts, events: Sequence[Event]) -> float:
    """The unscaled score of one series: at most 1 for each window, -1 for each without an alert.

    Args:
        alerts: of its rows after the probationary ones.
        events: its windows in these rows, in order, none overlapping.
    """
    starts = alerts.starts[alerts.opened].tolist()
    points = 0.0
    for event in events:
        first = next((row for row in starts if event.start <= row < event.stop), None)
        points += -1.0 if first is None else _earliness(first, event)
    for row in starts:
        if not any(event.start <= row < event.stop for event in events):
            points -= _FALSE_WEIGHT * _blame(row, events)
    return points


def nab_score(series: Sequence[tuple[Alerts, Sequence[Event]]]) -> float | None:
    """The score over several series, at most 100; None where no series has a window."""
    windows = sum(len(events) for _, events in series)
    if not windows:
        return None
    points = sum(nab_points(alerts, events) for alerts, events in series)
    return 100 * (points + windows) / (2 * windows)


def _earliness(row: int, event: Event) -> float:
    """1 at the first row of a window, little at its last."""
    return _weight((row - event.stop) / (event.stop - event.start)) / _weight(-1.0)


def _blame(row: int, events: Sequence[Event]) -> float:
    """1 for an alert before all windows or far from the last one, less just after it."""
    before = [event for event in events if event.stop <= row]
    if not before:
        return 1.0
    last = before[-1]
    length = max(last.stop - last.start - 1, 1)
    past = (row - (last.stop - 1)) / length
    return 1.0 if past >= _FAR else -_weight(past)


def _weight(place: float) -> float:
    return 2 / (1 + math.exp(5 * place)) - 1
