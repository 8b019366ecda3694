"""An evaluation as a value that JSON can hold.

The JSON (`schema` 1) is:

- `files`: for each, `name`, `readings` (judged), `from_row`, `anomalous` (share of the rows),
  `events` (see `EventReport`) and `false_alarms` (times) by the detector's alerts, and `figures`
  (of the detector on this file alone);
- `methods`: figures over all files (see `judging.Figures`) by method: `detector`, `ridge`,
  `random`, `clock`, `always_on`; null where there is nothing to tell;
- `budget_per_day`: the false alarms that were granted, or null; `lead_s` and `buffer`: what the
  figures were computed with; `remarks`: sentences for people.

Times are seconds since 1970, rates and shares as `Figures` says. The point-adjusted figure is there
only if it was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from edgelstm.evaluation import vus
from edgelstm.evaluation.floors import RANDOM_DRAWS
from edgelstm.evaluation.judging import DETECTOR, Figures, Series, judge, judge_detector

SCHEMA = 1


@dataclass(frozen=True)
class EventReport:
    """What became of a labelled event; times in seconds since 1970.

    Attributes:
        start: of its first row.
        end: of its last row.
        time: when it happened within them, if the labels say so.
        alert: when the alert opened that found it; None where none did.
        delay_s: from the start to the alert.
        delay_readings: the same in rows.
        after_time_s: from `time` to the alert; negative: before it.
        already_open: no alert found it, but one was open when it began.
    """

    start: float
    end: float
    time: float | None
    alert: float | None
    delay_s: float | None
    delay_readings: int | None
    after_time_s: float | None
    already_open: bool


@dataclass(frozen=True)
class FileReport:
    """One recording: see the head of this module."""

    name: str
    readings: int
    from_row: int
    anomalous: float
    events: tuple[EventReport, ...]
    false_alarms: tuple[float, ...]
    figures: Figures


@dataclass(frozen=True)
class Report:
    """The evaluation: see the head of this module."""

    files: tuple[FileReport, ...]
    methods: Mapping[str, Figures]
    budget_per_day: float | None
    lead_s: float
    buffer: int
    point_adjusted: bool = False
    remarks: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        """The report as JSON."""
        plain: dict[str, Any] = {"schema": SCHEMA, **asdict(self)}
        if not plain.pop("point_adjusted"):
            for figures in (*plain["methods"].values(), *(f["figures"] for f in plain["files"])):
                del figures["point_adjusted_f1"]
        return json.dumps(plain, indent=2)


def make_report(
    series: Sequence[Series],
    *,
    budget_per_day: float | None = None,
    lead: float = 0.0,
    buffer: int | None = None,
    point_adjusted: bool = False,
    remarks: Sequence[str] = (),
    draws: int = RANDOM_DRAWS,
) -> Report:
    """Judges series and puts together what came out.

    Args:
        series: one for each recording.
        budget_per_day: the false alarms a day that were granted, if known.
        lead: as for `judge`; so `buffer` and `draws`.
        buffer: see there.
        point_adjusted: whether to show the point-adjusted figure, too.
        remarks: sentences for people.
        draws: see there.
    """
    if buffer is None:
        buffer = vus.default_buffer([event for one in series for event in one.labels.events])
    return Report(
        tuple(_file(one, lead, buffer) for one in series),
        judge(series, lead=lead, buffer=buffer, draws=draws),
        budget_per_day,
        lead,
        buffer,
        point_adjusted,
        tuple(remarks),
    )


def _file(series: Series, lead: float, buffer: int) -> FileReport:
    times = series.times
    events = []
    false: tuple[float, ...] = ()
    if DETECTOR in series.alerts:
        false = tuple(times[series.false_alarms(lead)].tolist())
        for event, row, already_open in series.findings(lead):
            alert = None if row is None else float(times[row])
            start = float(times[event.start])
            events.append(
                EventReport(
                    start,
                    float(times[event.stop - 1]),
                    event.time,
                    alert,
                    None if alert is None else alert - start,
                    None if row is None else row - event.start,
                    None if alert is None or event.time is None else alert - event.time,
                    already_open,
                )
            )
    return FileReport(
        series.name,
        len(series),
        int(series.rows[0]),
        float(np.mean(series.labels.anomalous)),
        tuple(events),
        false,
        judge_detector([series], lead=lead, buffer=buffer),
    )
