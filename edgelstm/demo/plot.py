"""Draws a run of the demonstration: signal, score, threshold, alerts and labelled failures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgelstm.demo.evaluation import Evaluation
from edgelstm.pictures import FALSE, HIT, LEVEL, LINE, WINDOW, picture
from edgelstm.pipeline import Verdict


def draw(verdicts: Sequence[Verdict], evaluation: Evaluation, path: Path) -> None:
    """Writes the picture as a PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    times = [_time(v.reading.timestamp) for v in verdicts]
    scored = [v for v in verdicts if v.threshold is not None]
    scored_times = [_time(v.reading.timestamp) for v in scored]
    with picture(path, 10, 5.4) as figure:
        signal, score = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        signal.plot(times, [v.reading.values[0] for v in verdicts], lw=0.6, color=LINE)
        signal.set_ylabel("temperature, as recorded")
        score.plot(scored_times, [v.score for v in scored], lw=0.6, color=LINE, label="score")
        score.plot(
            scored_times, [v.threshold for v in scored], lw=1.2, color=LEVEL, label="threshold"
        )
        score.set_yscale("log")
        score.set_ylim(bottom=0.05)
        score.set_ylabel("anomaly score")
        for axes in (signal, score):
            _mark(axes, evaluation)
        figure.suptitle(f"{evaluation} in {len(verdicts):,} readings")


def _mark(axes: Any, evaluation: Evaluation) -> None:
    """Marks failures and alerts."""
    for announcement in evaluation.announcements:
        start, end = _time(announcement.failure.start), _time(announcement.failure.end)
        axes.axvspan(start, end, color=WINDOW, alpha=0.45, lw=0, label="labelled failure")
    for announcement in evaluation.announcements:
        if announcement.alert is not None:
            _line(axes, announcement.alert, HIT, "alert, announcing a failure")
    for alert in evaluation.false_alarms:
        _line(axes, alert, FALSE, "alert, false alarm")


def _line(axes: Any, timestamp: float, color: str, label: str) -> None:
    axes.axvline(_time(timestamp), color=color, lw=1.4, ls="--", label=label)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
