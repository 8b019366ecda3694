"""Figures of the scores alone, without a threshold: AUC-PR, AUC-ROC and VUS-PR.

VUS-PR (Paparrizos et al., "Volume Under the Surface: A New Accuracy Evaluation Measure for
Time-Series Anomaly Detection", PVLDB 15(11), 2022) is the mean over buffer lengths l = 0, 1, ..., L
of the area under a precision-recall curve whose labels are softened around every event:

- a row at a distance d of 1 to l // 2 before an event's first row or after its last has the label
  sqrt(1 - d / l), an anomalous row has 1; where two meet they add up, to 1 at most;
- for each threshold, with the rows whose score is at least that: TP is the sum of their labels,
  precision = TP / their number, and recall = min(1, TP / P) times the share of events (with their
  buffers; buffers that meet make one event) of which a row is among them, with P the mean of the
  sum of the labels and the number of anomalous rows.

Every score is a threshold here, and the area is a sum of steps (average precision), so the figure
is exact; the authors' programs try 250 thresholds. A score that is 1 in the events and 0 elsewhere
gets 1 with L = 0 only: a larger L asks for a rise around them. A score that knows nothing gets
about the share of rows that are anomalous, buffers included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelstm.evaluation.labels import Event

Floats = NDArray[np.float64]

DEFAULT_BUFFER = 100
"""Readings; less where the median event is shorter."""


class Areas(NamedTuple):
    """The figures of one series of scores, each from 0 to 1.

    Attributes:
        vus_pr: see above.
        auc_pr: average precision, row by row.
        auc_roc: the share of pairs of an anomalous and a normal row in which the anomalous one has
            the higher score; ties count half.
    """

    vus_pr: float
    auc_pr: float
    auc_roc: float


class _Ranked(NamedTuple):
    """Rows from the highest score to the lowest.

    Attributes:
        order: rows, int (rows,).
        rank: of each row in that order, int (rows,).
        ends: the last place of each run of equal scores, int (scores,): the thresholds.
    """

    order: NDArray[np.int64]
    rank: NDArray[np.int64]
    ends: NDArray[np.int64]


def areas(scores: ArrayLike, anomalous: ArrayLike, buffer: int) -> Areas | None:
    """All three figures.

    Args:
        scores: (rows,), finite; higher is more anomalous.
        anomalous: bool (rows,).
        buffer: the largest buffer length L, in readings.

    Returns:
        None where all rows are normal, or all anomalous.
    """
    truth = np.asarray(anomalous, bool)
    if truth.all() or not truth.any():
        return None
    ranked = _rank(np.asarray(scores, np.float64))
    return Areas(_vus_pr(ranked, truth, buffer), _pr(ranked, truth), _roc(ranked, truth))


def vus_pr(scores: ArrayLike, anomalous: ArrayLike, buffer: int) -> float:
    """VUS-PR of scores, (rows,), against bool (rows,), some but not all of them true."""
    return _vus_pr(_rank(np.asarray(scores, np.float64)), np.asarray(anomalous, bool), buffer)


def default_buffer(events: Sequence[Event]) -> int:
    """The largest buffer length: 100 readings, or the median event where that is shorter."""
    lengths = [event.stop - event.start for event in events]
    return min(DEFAULT_BUFFER, int(np.median(lengths))) if lengths else DEFAULT_BUFFER


def without_gaps(scores: ArrayLike) -> Floats:
    """Scores in which a row without one (NaN) has the last before it, as a device knows it then.

    The rows before the first score get the least there is.
    """
    values = np.asarray(scores, np.float64)
    there = ~np.isnan(values)
    if not there.any():
        return np.zeros(len(values))
    last = np.maximum.accumulate(np.where(there, np.arange(len(values)), -1))
    filled: Floats = np.where(last >= 0, values[last], values[there].min())
    return filled


def _rank(scores: Floats) -> _Ranked:
    order = np.argsort(-scores, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf) != 0)
    return _Ranked(order, rank, ends)


def _vus_pr(ranked: _Ranked, truth: NDArray[np.bool_], buffer: int) -> float:
    return float(np.mean([_range_pr(ranked, truth, length) for length in range(buffer + 1)]))


def _range_pr(ranked: _Ranked, truth: NDArray[np.bool_], length: int) -> float:
    """The area under the precision-recall curve for one buffer length."""
    order, rank, ends = ranked
    labels = _soften(truth, length)
    positives = (labels.sum() + truth.sum()) / 2
    hits = np.cumsum(labels[order])[ends]
    # An event is met from the threshold on that its first row reaches.
    edges = np.flatnonzero(np.diff(labels > 0, prepend=False, append=False))
    first = [int(rank[a:b].min()) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    met = np.bincount(np.searchsorted(ends, first), minlength=len(ends)).cumsum() / len(first)
    recall = np.minimum(hits / positives, 1) * met
    # Not as a dot product: threads of BLAS make that several times slower on a busy machine.
    return float((np.diff(recall, prepend=0) * (hits / (ends + 1))).sum())


def _soften(truth: NDArray[np.bool_], length: int) -> Floats:
    """The labels with their buffers, (rows,)."""
    labels = truth.astype(np.float64)
    reach = length // 2
    if reach == 0:
        return labels
    edges = np.flatnonzero(np.diff(truth, prepend=False, append=False))
    slope = np.sqrt(1 - np.arange(1, reach + 1) / length)
    for start in edges[::2]:
        near = min(reach, int(start))
        labels[start - near : start] += slope[:near][::-1]
    for stop in edges[1::2]:
        near = min(reach, len(truth) - int(stop))
        labels[stop : stop + near] += slope[:near]
    return np.minimum(labels, 1.0)


def _pr(ranked: _Ranked, truth: NDArray[np.bool_]) -> float:
    hits = np.cumsum(truth[ranked.order])[ranked.ends]
    return float((np.diff(hits, prepend=0) * (hits / (ranked.ends + 1))).sum() / hits[-1])


def _roc(ranked: _Ranked, truth: NDArray[np.bool_]) -> float:
    hits = np.cumsum(truth[ranked.order])[ranked.ends]
    false = ranked.ends + 1 - hits
    heights = hits + np.concatenate([[0], hits[:-1]])
    return float((np.diff(false, prepend=0) * heights).sum() / 2 / hits[-1] / false[-1])
