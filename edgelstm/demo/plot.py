"""Draws a run of the demonstration: signal, score, threshold, alerts and labelled failures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgelstm.demo.evaluation import Evaluation
from edgelstm.errors import MissingDependencyError
from edgelstm.files import atomic_path
from edgelstm.pipeline import Verdict

_STYLE: dict[Any, Any] = {"font.size": 9, "axes.edgecolor": "#bbbbbb", "axes.xmargin": 0.01}
_LINE, _LEVEL, _WINDOW = "#4c72b0", "#dd8452", "#f2c14e"
_HIT, _FALSE = "#2e8b57", "#c44e52"


def draw(verdicts: Sequence[Verdict], evaluation: Evaluation, path: Path) -> None:
    """Writes the picture as a PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "Drawing needs matplotlib; run: pip install 'edgelstm[plot]'"
        ) from error

    times = [_time(v.reading.timestamp) for v in verdicts]
    scored = [v for v in verdicts if v.threshold is not None]
    scored_times = [_time(v.reading.timestamp) for v in scored]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 5.4), layout="constrained")
        signal, score = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        signal.plot(times, [v.reading.values[0] for v in verdicts], lw=0.6, color=_LINE)
        signal.set_ylabel("temperature, as recorded")
        score.plot(scored_times, [v.score for v in scored], lw=0.6, color=_LINE, label="score")
        score.plot(
            scored_times, [v.threshold for v in scored], lw=1.2, color=_LEVEL, label="threshold"
        )
        score.set_yscale("log")
        score.set_ylim(bottom=0.05)
        score.set_ylabel("anomaly score")
        for axes in (signal, score):
            axes.spines[["top", "right"]].set_visible(False)
            _mark(axes, evaluation)
        figure.suptitle(f"{evaluation} in {len(verdicts):,} readings")
        # Both axes have the same marks; a label for each kind is enough.
        handles = dict(zip(*reversed(score.get_legend_handles_labels()), strict=True))
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=len(handles),
            frameon=False,
        )
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=130)


def _mark(axes: Any, evaluation: Evaluation) -> None:
    """Marks failures and alerts."""
    for announcement in evaluation.announcements:
        start, end = _time(announcement.failure.start), _time(announcement.failure.end)
        axes.axvspan(start, end, color=_WINDOW, alpha=0.45, lw=0, label="labelled failure")
    for announcement in evaluation.announcements:
        if announcement.alert is not None:
            _line(axes, announcement.alert, _HIT, "alert, announcing a failure")
    for alert in evaluation.false_alarms:
        _line(axes, alert, _FALSE, "alert, false alarm")


def _line(axes: Any, timestamp: float, color: str, label: str) -> None:
    axes.axvline(_time(timestamp), color=color, lw=1.4, ls="--", label=label)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
