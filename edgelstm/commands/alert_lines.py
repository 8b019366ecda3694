"""What `edgelstm alerts` prints and exports."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edgelstm.alert import Alert, ChannelShare
from edgelstm.evidence import Evidence
from edgelstm.files import atomic_path
from edgelstm.notice import Notice
from edgelstm.outbox import Delivery
from edgelstm.recording import format_time
from edgelstm.sinks.log import format_duration

_SHORT = 6  # characters of an id: 30 bits of chance
_WIDTH = 60  # of a plot
_BARS = "▁▂▃▄▅▆▇█"
_PLAIN_BARS = "_.-~=+*#"  # where the terminal cannot show them

_COLUMNS = (
    "alert_id",
    "sensor",
    "kind",
    "severity",
    "opened",
    "closed",
    "peak_score",
    "threshold",
    "peaked",
    "channels",
    "reason",
    "acknowledged",
    "acknowledged_by",
    "note",
    "gateway",
    "summary",
)


def short_id(alert_id: str) -> str:
    """The end of an id, by which its alert is named at the command line."""
    return alert_id[-_SHORT:]


def table(notices: Iterable[Notice]) -> Iterator[str]:
    """The lines of a table of alerts; the first one names the columns."""
    rows = [("id", "opened", "sensor", "kind", "severity", "lasted", "peak / threshold", "seen by")]
    rows += [
        (
            short_id(one.alert_id),
            format_time(one.alert.opened),
            one.sensor or "-",
            _kind(one.alert),
            one.alert.severity.value,
            _lasted(one.alert),
            _peak(one.alert),
            one.acknowledged.by if one.acknowledged else "",
        )
        for one in notices
    ]
    shown = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for line in shown:
        yield "  ".join(
            f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)
        ).rstrip()


def page(
    last: Notice,
    history: Sequence[Notice],
    deliveries: Sequence[tuple[str, Delivery]],
    evidence: Evidence | None,
    *,
    unicode: bool,
) -> Iterator[str]:
    """Everything about an alert, line by line.

    Args:
        last: its last notice, as it stands.
        history: all its notices.
        deliveries: what became of them, as `Outbox.deliveries` gives it.
        evidence: the readings around it, if they were kept.
        unicode: whether the terminal shows more than ASCII.
    """
    alert, seen = last.alert, last.acknowledged
    lines = [
        ("alert", last.alert_id),
        *([("gateway", last.gateway)] if last.gateway else []),
        *([("sensor", last.sensor)] if last.sensor else []),
        ("kind", f"{_kind(alert)}, {alert.severity.value}, number {alert.number}"),
        ("opened", format_time(alert.opened)),
        ("lasted", _lasted(alert)),
        *([("peak", _peak_line(alert))] if alert.peak_score is not None else []),
        ("seen", f"by {seen.by}, {format_time(seen.time)}" if seen else "by nobody so far"),
        *([("note", seen.note)] if seen and seen.note else []),
        *(("channel", _channel(channel)) for channel in alert.channels),
        *(("notice", f"{format_time(one.time)}  {one.summary}") for one in history),
        *(("sink", _delivery(name, delivery)) for name, delivery in deliveries),
        ("evidence", _span(evidence)),
    ]
    for label, value in lines:
        yield f"{label:<10}{printable(value)}"
    if evidence is not None and evidence.times:
        yield from _plot(evidence, _BARS if unicode else _PLAIN_BARS)


def as_data(
    last: Notice, history: Sequence[Notice], deliveries: Sequence[tuple[str, Delivery]]
) -> dict[str, Any]:
    """The same as plain data for JSON, without the evidence."""
    return {
        **last.to_dict(),
        "notices": [one.to_dict() for one in history],
        "deliveries": [
            {
                "notice": name,
                "sink": delivery.sink,
                "time": format_time(delivery.time),
                "refused": delivery.refused,
            }
            for name, delivery in deliveries
        ],
    }


def export(notices: Iterable[Notice], path: Path) -> None:
    """Writes alerts as CSV, or as JSON lines, by the ending of the name.

    Raises:
        OSError: it cannot be written.
    """
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(one.to_dict()) + "\n" for one in notices)
            return
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(map(_cells, notices))


def write_evidence(evidence: Evidence, path: Path) -> None:
    """Writes the readings around an alert as CSV: times are seconds since the Unix epoch.

    Raises:
        OSError: it cannot be written.
    """
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        predicted = [f"{name}_predicted" for name in evidence.compared]
        writer.writerow(["time", *evidence.channels, *predicted, "score", "threshold"])
        for time, values, guesses, score, threshold in zip(
            evidence.times,
            evidence.values,
            evidence.predicted,
            evidence.scores,
            evidence.thresholds,
            strict=True,
        ):
            given = guesses if guesses is not None else (None,) * len(predicted)
            writer.writerow([time, *values, *given, score, threshold])


def printable(text: str) -> str:
    """A text without anything that a terminal would obey: notes and names come from elsewhere."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _kind(alert: Alert) -> str:
    kind = alert.kind.value.replace("_", " ")
    return f"{kind}: {alert.reason}" if alert.reason else kind


def _lasted(alert: Alert) -> str:
    return "open" if alert.duration is None else format_duration(max(alert.duration, 0.0))


def _peak(alert: Alert) -> str:
    if alert.peak_score is None:
        return ""
    level = "" if alert.threshold is None else f" / {alert.threshold:.4g}"
    return f"{alert.peak_score:.4g}{level}"


def _peak_line(alert: Alert) -> str:
    when = "" if alert.peaked is None else f", {format_time(alert.peaked)}"
    over = f", threshold {alert.threshold:.4g} when it opened" if alert.threshold else ""
    return f"score {alert.peak_score:.4g}{when}{over}"


def _channel(channel: ChannelShare) -> str:
    parts = [f"{channel.share:.0%}".replace("%", " %")]
    if channel.observed is not None:
        parts.append(f"observed {channel.observed:.4g}")
    if channel.predicted is not None:
        parts.append(f"predicted {channel.predicted:.4g}")
    if channel.residual is not None:
        parts.append(f"residual {channel.residual:+.4g}")
    return f"{channel.name}  {', '.join(parts)}"


def _delivery(notice_id: str, delivery: Delivery) -> str:
    what = f"refused: {delivery.refused}" if delivery.refused else "done"
    event = notice_id.rpartition("/")[2]
    return f"{format_time(delivery.time)}  {delivery.sink}  notice {event}  {what}"


def _span(evidence: Evidence | None) -> str:
    if evidence is None or not evidence.times:
        return "none is kept"
    first, last = format_time(evidence.times[0]), format_time(evidence.times[-1])
    return f"{len(evidence.times):,} readings, {first} to {last}"


def _plot(evidence: Evidence, bars: str) -> Iterator[str]:
    """A line for each channel, and one for the score."""
    columns = [
        (name, [row[k] for row in evidence.values]) for k, name in enumerate(evidence.channels)
    ]
    columns.append(("score", list(evidence.scores)))
    width = max(len(printable(name)) for name, _ in columns)
    for name, values in columns:
        known = [v for v in values if v is not None and math.isfinite(v)]
        if not known:
            continue
        low, high = min(known), max(known)
        drawn = sparkline(values, bars)
        yield f"  {printable(name):<{width}}  {drawn}  {low:.4g} .. {high:.4g}"


def sparkline(values: Sequence[float | None], bars: str = _BARS, width: int = _WIDTH) -> str:
    """Values as bars, lowest first; the farthest of each stretch where there are too many.

    Args:
        values: None, or one that is not finite, leaves a gap.
        bars: characters for heights, lowest first.
        width: the most characters.
    """
    finite = [None if v is None or not math.isfinite(v) else v for v in values]
    known = [v for v in finite if v is not None]
    if not known:
        return " " * min(len(values), width)
    low, high = min(known), max(known)
    middle = sorted(known)[len(known) // 2]
    count = min(len(finite), width)
    drawn = ""
    for k in range(count):
        part = finite[k * len(finite) // count : (k + 1) * len(finite) // count]
        stretch = [v for v in part if v is not None]
        if not stretch:
            drawn += " "
            continue
        far = max(stretch, key=lambda v: abs(v - middle))
        share = (far - low) / (high - low) if high > low else 0.0
        drawn += bars[min(int(share * len(bars)), len(bars) - 1)]
    return drawn


def _cells(notice: Notice) -> list[Any]:
    alert, seen = notice.alert, notice.acknowledged
    data = notice.to_dict()
    return [
        notice.alert_id,
        notice.sensor,
        alert.kind.value,
        alert.severity.value,
        data["opened"],
        data["closed"],
        alert.peak_score,
        alert.threshold,
        data["peaked"],
        "; ".join(f"{c.name} {c.share:.2f}" for c in alert.channels),
        alert.reason,
        data["acknowledged"]["time"] if seen else None,
        seen.by if seen else None,
        seen.note if seen else None,
        notice.gateway,
        notice.summary,
    ]
