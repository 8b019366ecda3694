"""An evaluation as lines that people read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edgelstm.commands.console import format_budget
from edgelstm.evaluation.judging import DETECTOR, Figures
from edgelstm.evaluation.report import EventReport, FileReport, Report
from edgelstm.recording import format_time
from edgelstm.sinks.log import format_duration

_MOST_FILES = 20  # that get a line each
_MOST_EVENTS = 20  # likewise
_FIRST_DATE = 1e8  # smaller times (before 1973) count from the start of the recording
_TITLES = {DETECTOR: "detector", "always_on": "always on"}


def format_report(report: Report) -> Iterator[str]:
    """The report, line by line."""
    yield from _head(report)
    yield ""
    yield from _table(report)
    if len(report.files) == 1:
        yield from _events(report.files[0])
    elif len(report.files) <= _MOST_FILES:
        yield ""
        yield from _files(report.files)
    for remark in report.remarks:
        yield f"Note: {remark}"


def _head(report: Report) -> Iterator[str]:
    readings = sum(file.readings for file in report.files)
    anomalous = sum(file.anomalous * file.readings for file in report.files) / readings
    events = int(report.methods["always_on"].events or 0)
    name = report.files[0].name if len(report.files) == 1 else f"{len(report.files)} recordings"
    row = report.files[0].from_row
    where = f" from row {row:,} on" if row and len({f.from_row for f in report.files}) == 1 else ""
    yield (
        f"{name}: {readings:,} readings judged{where}, {events:,} labelled "
        f"{'event' if events == 1 else 'events'} ({anomalous:.1%} of the rows)."
    )


def _table(report: Report) -> Iterator[str]:
    """A row for each figure, a column for each method."""
    methods = list(report.methods)
    rows = [["", *(_TITLES.get(method, method) for method in methods)]]

    def add(title: str, tell: Callable[[Figures], str]) -> None:
        cells = [tell(report.methods[method]) for method in methods]
        if any(cell != "-" for cell in cells):
            rows.append([title, *cells])

    add("Events found", lambda f: _of(f.found, f.events))
    if any(figures.already_open for figures in report.methods.values()):
        add("  alert open already", lambda f: _count(f.already_open))
    add("Precision of alerts", lambda f: _share(f.precision))
    add("Recall of events", lambda f: _share(f.recall))
    add("F1 of events", lambda f: _share(f.event_f1))
    add("Delay, median", lambda f: _duration(f.delay_s))
    add("  in readings", lambda f: _count(f.delay_readings))
    add("Alerts", lambda f: _count(f.alerts))
    add("  false", lambda f: _count(f.false_alarms))
    add("  false per day", lambda f: _figure(f.false_alarms_per_day))
    add("False alarm rate", lambda f: _percent(f.false_alarm_rate))
    add("Missed alarm rate", lambda f: _percent(f.missed_alarm_rate))
    add("J (100 - both)", lambda f: _points(f.j))
    add("F1 of rows", lambda f: _share(f.point_f1))
    add("VUS-PR", lambda f: _share(f.vus_pr))
    add("AUC-PR", lambda f: _share(f.auc_pr))
    add("AUC-ROC", lambda f: _share(f.auc_roc))
    yield from _aligned(rows)
    if report.budget_per_day is not None:
        yield f"The budget: {format_budget(report.budget_per_day)}."
    if report.point_adjusted:
        yield _flattering(report)


def _flattering(report: Report) -> str:
    detector = report.methods[DETECTOR].point_adjusted_f1
    random = report.methods["random"].point_adjusted_f1
    return (
        f"F1 of rows, point-adjusted: {_share(detector)} (point-adjusted: flatters, random gets "
        f"{_share(random)})."
    )


def _events(file: FileReport) -> Iterator[str]:
    if file.events and len(file.events) <= _MOST_EVENTS:
        yield ""
        yield from (f"  event  {_when(event.start)}  {_fate(event)}" for event in file.events)
    if file.false_alarms and len(file.false_alarms) <= _MOST_EVENTS:
        yield from (f"  false  {_when(time)}" for time in file.false_alarms)


def _fate(event: EventReport) -> str:
    if event.alert is None or event.delay_s is None:
        return "not found: an alert was open already" if event.already_open else "not found"
    late = abs(event.delay_readings or 0)
    readings = "1 reading" if late == 1 else f"{late:,} readings"
    side = "after its start" if event.delay_s >= 0 else "before its start"
    text = f"found {format_duration(abs(event.delay_s))} {side} ({readings})"
    if event.after_time_s is not None:
        side = "after" if event.after_time_s >= 0 else "before"
        text += f", {format_duration(abs(event.after_time_s))} {side} it happened"
    return text


def _files(files: Sequence[FileReport]) -> Iterator[str]:
    rows = [["", "found", "false", "FAR", "MAR", "J", "VUS-PR"]]
    for file in files:
        f = file.figures
        rows.append(
            [
                file.name,
                _of(f.found, f.events),
                _count(f.false_alarms),
                _percent(f.false_alarm_rate),
                _percent(f.missed_alarm_rate),
                _points(f.j),
                _share(f.vus_pr),
            ]
        )
    yield from _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        yield f"{first:<{widths[0]}}  {'  '.join(cells)}".rstrip()


def _count(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def _of(value: float | None, total: float | None) -> str:
    return f"{_count(value)} of {_count(total)}" if total else "-"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 1) + 0.0:.1f}"  # never -0.0


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _duration(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{'-' if value < 0 else ''}{format_duration(abs(value))}"


def _when(timestamp: float) -> str:
    return format_time(timestamp) if timestamp >= _FIRST_DATE else f"{timestamp:g} s"
