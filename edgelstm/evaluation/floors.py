"""Floors: what a detector that knows nothing gets on the same rows.

- `clock`: one alert, from a fifth of the rows on to the end; it is as good as the labels are late.
- `always_on`: one alert over all rows.
- `random_alerts`: as many alerts as the detector had, each as long, at random places.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgelstm.evaluation.events import Alerts

CLOCK_SHARE = 0.2
RANDOM_DRAWS = 1000


def clock(rows: int) -> Alerts:
    """An alert that opens after a fifth of the rows and never closes."""
    return _one(round(CLOCK_SHARE * rows), rows)


def always_on(rows: int) -> Alerts:
    """An alert that opens at the first row and never closes."""
    return _one(0, rows)


def random_alerts(
    alerts: Alerts, rows: int, draws: int = RANDOM_DRAWS, seed: int = 0
) -> Iterator[Alerts]:
    """The same alerts in another order at other places, again and again.

    The rows are taken as a ring, so that every row is as likely in alarm as any other; on a line a
    long alert nearly always covers the middle, where the events are. An alert that goes over the
    end goes on at the beginning, where it counts as open before the first row.

    Args:
        alerts: the detector's; one that was open before the first row is like the others.
        rows: of the recording.
        draws: how often.
        seed: same seed, same places.
    """
    lengths = alerts.stops - alerts.starts
    count = len(lengths)
    rng = np.random.default_rng(seed)
    # One row at least lies between two alerts, where there is room for that.
    free = rows - int(lengths.sum())
    between = 1 if free >= count else 0
    for _ in range(draws):
        order = rng.permutation(lengths)
        places = np.sort(rng.integers(0, free - between * count + 1, count))
        starts = places + between * np.arange(count) + np.cumsum(order) - order
        yield _on_ring(starts + rng.integers(rows), order, rows)


def _on_ring(starts: NDArray[np.int64], lengths: NDArray[np.int64], rows: int) -> Alerts:
    """Alerts in order around a ring of rows as alerts on a line."""
    turns = int((starts >= rows).sum())
    starts = np.roll(starts % rows, turns)
    stops = starts + np.roll(lengths, turns)
    opened = np.ones(len(starts), bool)
    if len(stops) and stops[-1] > rows:
        starts = np.concatenate([[0], starts])
        stops = np.concatenate([[stops[-1] - rows], stops[:-1], [rows]])
        opened = np.concatenate([[False], opened])
    return Alerts(starts, stops, opened)


def _one(start: int, stop: int) -> Alerts:
    return Alerts(np.array([start]), np.array([stop]), np.array([True]))
