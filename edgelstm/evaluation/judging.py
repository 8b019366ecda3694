"""A detector and its floors on labelled series: counts per series, figures over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelstm.evaluation import vus
from edgelstm.evaluation.events import (
    Alerts,
    EventTally,
    Finding,
    count_events,
    false_rows,
    find,
)
from edgelstm.evaluation.floors import RANDOM_DRAWS, always_on, clock, random_alerts
from edgelstm.evaluation.labels import Labels
from edgelstm.evaluation.points import PointTally, count_points

DETECTOR = "detector"
"""What the detector itself is called among the methods."""
# Of random scores: so many draws are averaged, less where one of many rows says as much.
_RANDOM_SCORES, _RANDOM_ROWS = 5, 20_000


@dataclass(frozen=True)
class Track:
    """What one method said of each row of a series.

    Attributes:
        alarm: bool (rows,): whether an alert is open; None where it has scores only.
        onsets: bool (rows,): whether one opened; None: where `alarm` begins.
        scores: float64 (rows,), NaN where there is none; None where it has alerts only.
    """

    alarm: NDArray[np.bool_] | None
    onsets: NDArray[np.bool_] | None
    scores: NDArray[np.float64] | None


class Series:
    """The rows of one recording that are judged: those from a row on that have a label.

    Args:
        name: of the recording.
        times: seconds, (rows,).
        labels: of all its rows.
        sample_period: seconds.
        tracks: what each method said, by name; `DETECTOR` is among them.
        from_row: the first row that counts.

    Attributes:
        rows: which rows of the recording are judged, int (judged,).
        labels: of these rows.
        times: of these rows.
        alerts: of each method that has any.
        scores: of each method that has any; a row without one has the last before it.
    """

    def __init__(
        self,
        name: str,
        times: ArrayLike,
        labels: Labels,
        sample_period: float,
        tracks: Mapping[str, Track],
        from_row: int = 0,
    ) -> None:
        self.name = name
        self.sample_period = sample_period
        rest = labels.from_row(from_row)
        self.labels = rest.known_only()
        self.rows = np.flatnonzero(rest.known) + from_row
        self.times = np.asarray(times, np.float64)[self.rows]
        self.alerts: dict[str, Alerts] = {}
        self.scores: dict[str, NDArray[np.float64]] = {}
        for method, track in tracks.items():
            if track.alarm is not None:
                # On all rows first: an alert that opened in a row that is not judged opens in none.
                whole = Alerts.from_rows(track.alarm, track.onsets)
                onsets = np.zeros(len(track.alarm), bool)
                onsets[whole.starts[whole.opened]] = True
                self.alerts[method] = Alerts.from_rows(track.alarm[self.rows], onsets[self.rows])
            if track.scores is not None:
                self.scores[method] = vus.without_gaps(track.scores[self.rows])

    def __len__(self) -> int:
        return len(self.rows)

    def findings(self, lead: float = 0.0) -> tuple[Finding, ...]:
        """What became of each event, by the detector's alerts; rows count from `rows[0]`."""
        return find(self.alerts[DETECTOR], self.labels.events, self.times, lead)

    def false_alarms(self, lead: float = 0.0) -> NDArray[np.int64]:
        """Where the detector's false alarms opened, in rows that count from `rows[0]`."""
        return false_rows(self.alerts[DETECTOR], self.labels, self.findings(lead))


@dataclass(frozen=True)
class Figures:
    """All figures of one method; None where there is nothing to tell (see each one's module).

    Of random alerts every figure is the mean over the draws in which it can be told.

    Attributes:
        events: labelled events.
        found: of them, those that an alert found.
        already_open: of the others, those that began while an alert was open.
        precision: share of the alerts that opened in an event.
        recall: share of the events that were found.
        event_f1: harmonic mean of both.
        delay_s: median over the events found, seconds from their start to the alert.
        delay_readings: the same in rows.
        alerts: alerts opened.
        false_alarms: of them, in no event.
        false_alarms_per_day: of normal time.
        false_alarm_rate: FAR: normal rows in alarm, %.
        missed_alarm_rate: MAR: anomalous rows not in alarm, %.
        point_f1: F1 of the rows.
        j: 100 - FAR - MAR.
        point_adjusted_f1: the point-adjusted F1 of the rows, which flatters.
        vus_pr: mean over the series that have events.
        auc_pr: likewise.
        auc_roc: likewise.
    """

    events: float | None = None
    found: float | None = None
    already_open: float | None = None
    precision: float | None = None
    recall: float | None = None
    event_f1: float | None = None
    delay_s: float | None = None
    delay_readings: float | None = None
    alerts: float | None = None
    false_alarms: float | None = None
    false_alarms_per_day: float | None = None
    false_alarm_rate: float | None = None
    missed_alarm_rate: float | None = None
    point_f1: float | None = None
    j: float | None = None
    point_adjusted_f1: float | None = None
    vus_pr: float | None = None
    auc_pr: float | None = None
    auc_roc: float | None = None


def judge(
    series: Sequence[Series],
    *,
    lead: float = 0.0,
    buffer: int | None = None,
    draws: int = RANDOM_DRAWS,
    seed: int = 0,
) -> dict[str, Figures]:
    """The figures of the detector, of every other method that all series have, and of the floors.

    Events, alerts and rows are counted over all series; areas are the mean over series, for scores
    of different models cannot be set against one threshold.

    Args:
        series: at least one.
        lead: seconds before an event in which an alert may open, see `events.find`.
        buffer: readings, of VUS-PR; by default 100, or the median event where that is shorter.
        draws: of the random floor.
        seed: of the random floor.

    Returns:
        By method, in this order: the detector, the other methods, random, clock, always_on.
    """
    if buffer is None:
        buffer = vus.default_buffer([event for one in series for event in one.labels.events])
    figures = {}
    for method in (DETECTOR, *sorted(_methods(series) - {DETECTOR})):
        figures[method] = _method(series, method, lead, buffer)
    if all(DETECTOR in one.alerts for one in series):
        drawn = [
            random_alerts(one.alerts[DETECTOR], len(one), draws, seed + k)
            for k, one in enumerate(series)
        ]
        figures["random"] = _mean(
            _figures(_tally(series, alerts, lead), None) for alerts in zip(*drawn, strict=True)
        )
    figures["random"] = _with_areas(
        figures.get("random", Figures()), _random_areas(series, buffer, seed)
    )
    for method, floor in (("clock", clock), ("always_on", always_on)):
        alerts = [floor(len(one)) for one in series]
        rows = [a.rows(len(s)).astype(np.float64) for a, s in zip(alerts, series, strict=True)]
        figures[method] = _figures(_tally(series, alerts, lead), _areas(series, rows, buffer))
    return figures


def judge_detector(series: Sequence[Series], *, lead: float, buffer: int) -> Figures:
    """The figures of the detector alone; the arguments are those of `judge`."""
    return _method(series, DETECTOR, lead, buffer)


def _methods(series: Sequence[Series]) -> set[str]:
    """The methods that have alerts, or scores, on all series."""
    alerts = set.intersection(*(set(one.alerts) for one in series))
    scores = set.intersection(*(set(one.scores) for one in series))
    return alerts | scores


def _method(series: Sequence[Series], method: str, lead: float, buffer: int) -> Figures:
    counts = scores = None
    if all(method in one.alerts for one in series):
        counts = _tally(series, [one.alerts[method] for one in series], lead)
    if all(method in one.scores for one in series):
        scores = [one.scores[method] for one in series]
    return _figures(counts, _areas(series, scores, buffer))


_Counts = tuple[EventTally, PointTally]


def _tally(series: Sequence[Series], alerts: Sequence[Alerts], lead: float) -> _Counts:
    events, points = EventTally(), PointTally()
    for one, of_one in zip(series, alerts, strict=True):
        events += count_events(of_one, one.labels, one.times, one.sample_period, lead)
        points += count_points(of_one, one.labels)
    return events, points


def _areas(
    series: Sequence[Series], scores: Sequence[NDArray[np.float64]] | None, buffer: int
) -> vus.Areas | None:
    """The mean over the series that have events; None where none has."""
    if scores is None:
        return None
    found = [
        of_one
        for one, given in zip(series, scores, strict=True)
        if (of_one := vus.areas(given, one.labels.anomalous, buffer)) is not None
    ]
    return _mean_areas(found)


def _random_areas(series: Sequence[Series], buffer: int, seed: int) -> vus.Areas | None:
    rng = np.random.default_rng(seed)
    draws = min(_RANDOM_SCORES, _RANDOM_ROWS // sum(map(len, series)) + 1)
    found = [_areas(series, [rng.random(len(one)) for one in series], buffer) for _ in range(draws)]
    return _mean_areas([areas for areas in found if areas is not None])


def _mean_areas(found: Sequence[vus.Areas]) -> vus.Areas | None:
    return vus.Areas(*np.mean(found, axis=0).tolist()) if found else None


def _figures(counts: _Counts | None, areas: vus.Areas | None) -> Figures:
    if counts is None:
        return _with_areas(Figures(), areas)
    events, points = counts
    return _with_areas(
        Figures(
            events=events.events,
            found=events.found,
            already_open=events.already_open,
            precision=events.precision,
            recall=events.recall,
            event_f1=events.f1,
            delay_s=_median(events.delays_s),
            delay_readings=_median(events.delays_readings),
            alerts=events.alerts,
            false_alarms=events.false_alarms,
            false_alarms_per_day=events.false_alarms_per_day,
            false_alarm_rate=points.false_alarm_rate,
            missed_alarm_rate=points.missed_alarm_rate,
            point_f1=points.f1,
            j=points.j,
            point_adjusted_f1=points.adjusted_f1,
        ),
        areas,
    )


def _with_areas(figures: Figures, areas: vus.Areas | None) -> Figures:
    return figures if areas is None else replace(figures, **areas._asdict())


def _mean(drawn: Iterable[Figures]) -> Figures:
    """The mean of each figure over the draws in which it can be told."""
    all_drawn = list(drawn)
    means = {}
    for field in fields(Figures):
        told = [v for one in all_drawn if (v := getattr(one, field.name)) is not None]
        means[field.name] = sum(told) / len(told) if told else None
    return Figures(**means)


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
