"""`Labels`: which readings of a recording are known to be anomalous, and which are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelstm.errors import RecordingError
from edgelstm.recording import format_time

_FIRST_DATE = 1e8  # smaller times (before 1973) count from the start of the recording


class Event(NamedTuple):
    """A labelled event: rows in a row that are anomalous, or those in a window of time.

    Attributes:
        start: its first row.
        stop: the row after its last.
        time: when it happened, seconds since the Unix epoch, where the labels say that apart from
            the window.
    """

    start: int
    stop: int
    time: float | None = None


class Window(NamedTuple):
    """A labelled stretch of time, both ends included; seconds since the Unix epoch.

    Attributes:
        start: its start.
        end: its end.
        time: when the event itself happened, if known.
    """

    start: float
    end: float
    time: float | None = None


@dataclass(frozen=True)
class Labels:
    """What is known of each row, and the events.

    Attributes:
        anomalous: bool (rows,); false where nothing is known.
        known: bool (rows,); a row of which nothing is known is left out of every figure.
        events: in time order; those from windows may overlap.
    """

    anomalous: NDArray[np.bool_]
    known: NDArray[np.bool_]
    events: tuple[Event, ...]

    def __len__(self) -> int:
        return len(self.anomalous)

    def from_row(self, row: int) -> Labels:
        """The labels from a row on; an event that began before it goes on from there."""
        kept = tuple(
            event._replace(start=max(event.start - row, 0), stop=event.stop - row)
            for event in self.events
            if event.stop > row
        )
        return Labels(self.anomalous[row:], self.known[row:], kept)

    def known_only(self) -> Labels:
        """The rows that have a label, as though the others did not exist.

        An event that a stretch without labels cuts in two is one event again.
        """
        before = np.concatenate([[0], np.cumsum(self.known)])
        moved = (
            event._replace(start=int(before[event.start]), stop=int(before[event.stop]))
            for event in self.events
        )
        anomalous = self.anomalous[self.known]
        return Labels(
            anomalous,
            np.ones(len(anomalous), bool),
            tuple(event for event in moved if event.stop > event.start),
        )


def from_column(values: ArrayLike, where: str) -> Labels:
    """Labels from a column of 0 (normal) and 1 (anomalous), (rows,); NaN: nothing is known.

    An event is a run of ones; rows of which nothing is known do not end it.

    Args:
        values: the column.
        where: what a message calls it.

    Raises:
        RecordingError: it holds another value, or no label at all.
    """
    column = np.asarray(values, np.float64)
    known = ~np.isnan(column)
    wrong = known & (column != 0) & (column != 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise RecordingError(
            f"{where} holds {column[row]:g} in row {row} (counted from 0), but labels are 0 "
            "(normal) and 1 (anomalous); is it a column of labels?"
        )
    if not known.any():
        raise RecordingError(f"{where} has no label in any row; choose another column.")
    anomalous = known & (column == 1)
    rows = np.flatnonzero(known)
    steps = np.diff(anomalous[rows].astype(np.int8), prepend=0, append=0)
    starts = rows[np.flatnonzero(steps == 1)]
    lasts = rows[np.flatnonzero(steps == -1) - 1]
    events = tuple(
        Event(int(start), int(last) + 1) for start, last in zip(starts, lasts, strict=True)
    )
    return Labels(anomalous, known, events)


def from_windows(times: NDArray[np.float64], windows: Sequence[Window], where: str) -> Labels:
    """Labels from windows of time: rows in one are anomalous, all others normal.

    Args:
        times: of the rows, (rows,), seconds.
        windows: both ends included; none means that all is normal. A window in a gap of the
            recording, where no row is, is left out.
        where: what a message calls the recording.

    Raises:
        RecordingError: a window ends before it starts, or lies outside the recording.
    """
    anomalous = np.zeros(len(times), bool)
    events = []
    for window in sorted(windows):
        if window.end < window.start:
            raise RecordingError(
                f"The labelled window {_span(window)} ends before it starts; mend the labels."
            )
        first, last = float(times.min()), float(times.max())
        if window.end < first or window.start > last:
            raise RecordingError(
                f"The labelled window {_span(window)} lies outside {where}, which goes from "
                f"{_when(first)} to {_when(last)}; are these the labels of "
                "another recording?"
            )
        rows = np.flatnonzero((times >= window.start) & (times <= window.end))
        if len(rows):
            anomalous[rows] = True
            events.append(Event(int(rows[0]), int(rows[-1]) + 1, window.time))
    return Labels(anomalous, np.ones(len(times), bool), tuple(events))


def all_normal(rows: int) -> Labels:
    """The labels of a recording in which nothing happened."""
    return Labels(np.zeros(rows, bool), np.ones(rows, bool), ())


def rows_at(
    times: NDArray[np.float64], among: NDArray[np.float64], where: tuple[str, str]
) -> NDArray[np.int64]:
    """The row of another table at which each of these times is, (rows,); -1 where it is nowhere.

    Args:
        times: to be found, seconds, (rows,).
        among: of the other table, seconds, growing, (other rows,).
        where: what a message calls the other table and the one whose times these are.

    Raises:
        RecordingError: the other table has a time twice, or none of these times.
    """
    if (np.diff(among) <= 0).any():
        raise RecordingError(
            f"{where[0]} has rows with the same time or back in time, so its rows cannot be found "
            f"by time; give a file with as many rows as {where[1]}."
        )
    rows = np.minimum(np.searchsorted(among, times), len(among) - 1)
    there = among[rows] == times
    if not there.any():
        raise RecordingError(
            f"No time of {where[1]} is in {where[0]}; are these files of another recording?"
        )
    return np.where(there, rows, -1)


def need_same_time(
    times: NDArray[np.float64], others: NDArray[np.float64], where: tuple[str, str]
) -> None:
    """Refuses two tables of as many rows whose dates do not even overlap.

    Args:
        times: of the one table, seconds.
        others: of the other.
        where: what a message calls them.

    Raises:
        RecordingError: one ends before the other begins.
    """
    dated = min(times.min(), others.min()) >= _FIRST_DATE  # else one may have no times at all
    if dated and (times.max() < others.min() or others.max() < times.min()):
        raise RecordingError(
            f"{where[0]} begins at {_when(float(times.min()))} and {where[1]} at "
            f"{_when(float(others.min()))}, and they do not overlap; are these files of another "
            "recording?"
        )


def match_rows(
    labels: Labels,
    label_times: NDArray[np.float64],
    times: NDArray[np.float64],
    where: tuple[str, str],
) -> Labels:
    """The labels of another table for these rows: row by row if there are as many, else by time.

    Args:
        labels: of the rows of that table.
        label_times: of the same, seconds.
        times: of the rows that need labels, seconds; where no label is, nothing is known.
        where: what a message calls the labels' table and the other.

    Raises:
        RecordingError: see `rows_at` and `need_same_time`.
    """
    if len(labels) == len(times):
        need_same_time(label_times, times, where)
        return labels
    rows = rows_at(times, label_times, where)
    known = (rows >= 0) & labels.known[rows]
    return from_column(np.where(known, labels.anomalous[rows], np.nan), where[0])


def _span(window: Window) -> str:
    return f"{_when(window.start)} to {_when(window.end)}"


def _when(timestamp: float) -> str:
    return format_time(timestamp) if timestamp >= _FIRST_DATE else f"{timestamp:g} s"
