"""Draws what `score` made of a recording: signals, score, threshold and alerts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.commands.scoring import Scored
from edgelstm.evaluation.plot import most_telling
from edgelstm.pictures import FALSE, LEVEL, LINE, picture

_A_DATE = 1e8  # seconds
_LEAST_SHOWN = 0.05  # of a score
_LONGEST_NAME = 18


def draw(scored: Scored, path: Path) -> None:
    """Writes the picture as a PNG file.

    Of many channels those are drawn whose residuals are largest in alerts.

    Args:
        scored: with its residuals.
        path: of the file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    part = slice(scored.from_row, None)
    seconds = scored.times[part]
    dated = seconds[0] >= _A_DATE
    times: Any = [datetime.fromtimestamp(t, UTC) for t in seconds.tolist()] if dated else seconds
    chosen: tuple[str, ...] = ()
    detection = scored.pipeline.session.artifact.manifest.detection
    if scored.residuals is not None and detection is not None:
        scale = detection.residual_scale[-len(scored.names) :]
        chosen = most_telling(scored.residuals[part], scored.names, scale, scored.alerts[part])
    rows = len(chosen) + 1
    with picture(path, 10, 2.2 + 1.3 * rows) as figure:
        *signals, score = figure.subplots(
            rows, 1, sharex=True, height_ratios=[*[1.0] * len(chosen), 1.6]
        )
        for axes, name in zip(signals, chosen, strict=True):
            column = scored.recording.channels.index(name)
            axes.plot(times, scored.recording.values[part, column], lw=0.6, color=LINE)
            axes.set_ylabel(_short(name))
        # A window has a score now and then; a line over rows without one would have no length.
        there = np.isfinite(scored.scores[part])
        moments = [time for time, is_there in zip(times, there, strict=True) if is_there]
        score.plot(moments, scored.scores[part][there], lw=0.6, color=LINE, label="score")
        score.plot(moments, scored.thresholds[part][there], lw=1.2, color=LEVEL, label="threshold")
        score.set_yscale("log")
        if there.any():
            score.set_ylim(bottom=max(_LEAST_SHOWN, float(scored.scores[part][there].min()) / 3))
        score.set_ylabel("anomaly score")
        if not dated:
            score.set_xlabel("seconds")
        for axes in (*signals, score):
            for start, stop in _stretches(scored):
                axes.axvspan(times[start], times[stop], color=FALSE, alpha=0.18, lw=0)
                if scored.onsets[part][start]:  # not one that was open before
                    axes.axvline(times[start], color=FALSE, lw=1, label="alert")
        figure.align_ylabels([*signals, score])
        count = int(scored.onsets[part].sum())
        alerts = "1 alert" if count == 1 else f"{count:,} alerts"
        figure.suptitle(f"{scored.recording.source}: {alerts} in {len(seconds):,} readings")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _stretches(scored: Scored) -> list[tuple[int, int]]:
    """From where to where alerts are open: indices from `from_row` on."""
    part = slice(scored.from_row, None)
    alerts, onsets = scored.alerts[part], scored.onsets[part]
    edges = np.diff(alerts.astype(int), prepend=0, append=0)
    starts = np.flatnonzero((edges[:-1] == 1) | onsets)
    stops = np.append(starts[1:], len(alerts))
    closes = np.flatnonzero(edges == -1)
    found = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        after = closes[closes > start]
        end = min(stop, int(after[0]) if len(after) else len(alerts)) - 1
        found.append((start, max(end, start)))
    return found
