"""Draws an evaluation: the channels that mattered most, score and threshold, labels and alerts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.evaluation.judging import DETECTOR, Series
from edgelstm.pictures import FALSE, HIT, LEVEL, LINE, WINDOW, picture

Floats = NDArray[np.float64]

MOST_CHANNELS = 4
_COLUMNS = 2000  # stretches that a long line is thinned to; the picture has fewer pixels
_FIRST_DATE = 1e8  # smaller times (before 1973) count from the start of the recording
_MISSING = 5  # times the usual step between values: then the line is broken
_FEW = 25  # alerts that are drawn as lines over the whole height; more would hide the signal


@dataclass(frozen=True)
class Drawing:
    """What is drawn beside the alerts and labels of a `Series`; rows are those of the recording.

    Attributes:
        values: physical units, (rows, channels); None without a recording.
        channels: names.
        thresholds: (rows,), NaN where there is none; None without.
        scores: (rows,), NaN where there is none.
    """

    values: Floats | None
    channels: tuple[str, ...]
    thresholds: Floats | None
    scores: Floats


def most_telling(
    residuals: Floats, names: Sequence[str], scale: Sequence[float], alarm: NDArray[np.bool_]
) -> tuple[str, ...]:
    """The channels, at most four, whose residuals are largest for what is usual of them.

    Args:
        residuals: (rows, names); NaN where there is none.
        names: of the channels that have them.
        scale: of each, the residual that counts as one.
        alarm: bool (rows,): where it matters; where nothing is in alarm, everywhere.

    Returns:
        Their names, in the order of `names`.
    """
    rows = alarm if np.isfinite(residuals[alarm]).any() else np.ones(len(residuals), bool)
    part = residuals[rows] / np.asarray(scale, np.float64)
    known = np.isfinite(part)
    energy = np.where(known, np.square(part), 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    best = np.argsort(-energy, kind="stable")[:MOST_CHANNELS]
    return tuple(names[k] for k in sorted(best))


def draw(series: Series, drawing: Drawing, title: str, path: Path, lead: float = 0.0) -> None:
    """Writes the picture as a PNG file.

    Args:
        series: judged, with the detector's alerts.
        drawing: its lines.
        title: over the picture.
        path: of the file.
        lead: as it was judged with.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    rows = slice(int(series.rows[0]), int(series.rows[-1]) + 1)
    times = _whole_times(series, rows)
    count = 0 if drawing.values is None else len(drawing.channels)
    heights = [1.0 if count > 1 else 2.0] * count + [1.6]
    with picture(path, 10, 1.5 + 1.4 * sum(heights)) as figure:
        panels = figure.subplots(
            count + 1, 1, sharex=True, height_ratios=heights, squeeze=False
        ).ravel()
        for k, name in enumerate(drawing.channels[:count]):
            assert drawing.values is not None  # noqa: S101  # for mypy: count says so
            _line(panels[k], times, drawing.values[rows, k], LINE, None)
            panels[k].set_ylabel(_short(name))
        score = panels[-1]
        _line(score, times, drawing.scores[rows], LINE, "score")
        if drawing.thresholds is not None:
            _line(score, times, drawing.thresholds[rows], LEVEL, "threshold", width=1.2)
        _scale(score, drawing.scores[rows])
        score.set_ylabel("anomaly score")
        if times.dtype == np.float64:
            score.set_xlabel("seconds")
        figure.align_ylabels(list(panels))
        for axes in panels:
            _mark(axes, series, lead, whole=axes is not score)
        figure.suptitle(title)


def _whole_times(series: Series, rows: slice) -> NDArray[Any]:
    """A time for every row from the first judged to the last; those without label in between."""
    every = np.arange(rows.start, rows.stop)
    seconds = np.interp(every, series.rows, series.times)
    return _moments(seconds)


def _moments(seconds: Floats) -> NDArray[Any]:
    """Times as matplotlib takes them: dates, or seconds where they count from a start."""
    if len(seconds) and seconds[0] < _FIRST_DATE:
        return seconds
    return np.array([datetime.fromtimestamp(s, UTC) for s in seconds.tolist()], object)


def _line(
    axes: Any,
    times: NDArray[Any],
    values: Floats,
    color: str,
    label: str | None,
    width: float = 0.7,
) -> None:
    rows, breaks = _shown(values)
    axes.plot(
        np.insert(times[rows], breaks, times[rows][breaks]),
        np.insert(values[rows], breaks, np.nan),
        lw=width,
        color=color,
        label=label,
    )


def _shown(values: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows worth drawing, and before which of them the line is broken.

    Of each stretch of a long line these are the lowest and the highest. A window artifact has a
    score at every hop only: the line is broken where much more than that is missing.
    """
    there = np.flatnonzero(np.isfinite(values))
    if len(there) < 2:
        return there, np.array([], np.int64)
    steps = np.diff(there)
    piece = np.concatenate([[0], np.cumsum(steps > _MISSING * np.median(steps))])
    kept = _thinned(values[there])
    return there[kept], np.flatnonzero(np.diff(piece[kept])) + 1


def _thinned(values: Floats) -> NDArray[np.int64]:
    """Of each stretch of a long line the lowest and the highest value."""
    count = len(values)
    size = -(-count // _COLUMNS)
    if size < 3:
        return np.arange(count)
    whole = count // size * size
    blocks = values[:whole].reshape(-1, size)
    first = np.arange(0, whole, size)
    ends = (first + blocks.argmin(axis=1), first + blocks.argmax(axis=1))
    return np.unique(np.concatenate([*ends, np.arange(whole, count)]))


def _scale(axes: Any, scores: Floats) -> None:
    """A logarithmic axis where scores go over several powers of ten, as ours do in an event."""
    there = scores[np.isfinite(scores)]
    if not len(there) or there.min() < 0:
        return
    low = float(np.quantile(there, 0.1))
    if low > 0 and there.max() > 50 * low:
        axes.set_yscale("log")
        axes.set_ylim(bottom=float(np.quantile(there, 0.01)) / 2 or None)


def _mark(axes: Any, series: Series, lead: float, whole: bool) -> None:
    """Shades the labelled events and marks where alerts opened, and on the score how long."""
    times = _moments(series.times)
    for event in series.labels.events:
        axes.axvspan(
            times[event.start], times[event.stop - 1], color=WINDOW, alpha=0.4, lw=0.8,
            label="labelled event",
        )  # fmt: skip
    if DETECTOR not in series.alerts:
        return
    alerts = series.alerts[DETECTOR]
    false = set(series.false_alarms(lead).tolist())
    few = len(alerts.starts) <= _FEW
    for start, stop, opened in zip(
        alerts.starts.tolist(), alerts.stops.tolist(), alerts.opened.tolist(), strict=True
    ):
        wrong = start in false
        color = FALSE if wrong else HIT
        label = "alert, false alarm" if wrong else "alert, in an event"
        if opened and (few or not whole):
            top = 1.0 if few else 0.06
            axes.axvline(
                times[start], ymax=top, color=color, lw=1.3, ls="--" if few else "-", label=label
            )
        if not whole:
            axes.plot(
                [times[start], times[min(stop, len(times) - 1)]], [0.02, 0.02],
                transform=axes.get_xaxis_transform(), color=color, lw=4, solid_capstyle="butt",
            )  # fmt: skip


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"
