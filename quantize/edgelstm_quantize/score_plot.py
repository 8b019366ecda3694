"""The scores over the calibration recording as a plot, with the threshold.

Only the geometry: sizes are in CSS pixels, and a template turns ticks and paths into SVG.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelstm.calibrating import Judged
from edgelstm_quantize.drift_plot import Tick, nice_ticks, short

_BUCKETS = 600  # points that a long recording is drawn with
_HIGHEST = 2.0  # times the highest threshold: what is above is cut


@dataclass(frozen=True)
class ScorePlot:
    """Scores and threshold, as SVG paths.

    Attributes:
        width: of the figure.
        height: of the figure.
        left: of the area within the axes.
        right: likewise.
        top: likewise.
        bottom: likewise.
        scores: path of the highest score of each bucket.
        threshold: path of the lowest threshold of each bucket; empty without one.
        alerts: from where to where an alert was open.
        x_ticks: in readings.
        y_ticks: in units of the score.
        readings_per_bucket: how many readings a point stands for, at most.
        cut: the highest score, where that is above the figure; else None.
    """

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    scores: str
    threshold: str
    alerts: tuple[tuple[float, float], ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    readings_per_bucket: int
    cut: float | None


def plot_scores(scores: NDArray[np.float64], judged: Judged | None) -> ScorePlot:
    """Plots scores.

    Args:
        scores: (readings,), NaN where there is none; at least one.
        judged: what the threshold made of them, if it could.
    """
    width, height, left, right, top, bottom = 900, 300, 64, 872, 12, 252
    count = len(scores)
    bounds = np.linspace(0, count, min(count, _BUCKETS) + 1).astype(int)
    peak = float(np.nanmax(scores)) or 1.0
    highest = peak
    if judged is not None:
        level = float(np.nanmax(judged.thresholds))
        highest = min(max(peak, 1.1 * level), _HIGHEST * level)
    y_values = nice_ticks(highest, 5)
    x_values = [value for value in nice_ticks(count, 7) if value <= count and value == int(value)]

    def x_of(row: float) -> float:
        return left + (right - left) * row / count

    def y_of(value: float) -> float:
        return bottom - (bottom - top) * min(value / y_values[-1], 1.0)

    def path(values: NDArray[np.float64], highest: bool) -> str:
        """Stairs over the buckets, broken where there is nothing."""
        drawn, broken = [], True
        for a, b, value in _buckets(values, bounds, highest):
            if np.isnan(value):
                broken = True
                continue
            drawn.append(f"M{x_of(a):.1f} {y_of(value):.1f}" if broken else f"V{y_of(value):.1f}")
            drawn.append(f"H{x_of(b):.1f}")
            broken = False
        return "".join(drawn)

    return ScorePlot(
        width,
        height,
        left,
        right,
        top,
        bottom,
        path(scores, True),
        path(judged.thresholds, False) if judged else "",
        tuple((x_of(a), x_of(b)) for a, b in _stretches(judged.alerting)) if judged else (),
        tuple(Tick(round(x_of(value), 1), f"{value:,.0f}") for value in x_values),
        tuple(Tick(round(y_of(value), 1), short(value)) for value in y_values),
        int(np.diff(bounds).max()),
        peak if peak > y_values[-1] else None,
    )


def _buckets(
    values: NDArray[np.float64], bounds: NDArray[np.int64], highest: bool
) -> Iterator[tuple[int, int, float]]:
    """Where each bucket begins and ends, and its highest or lowest value; NaN for none."""
    for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        there = values[a:b][np.isfinite(values[a:b])]
        yield a, b, float(there.max() if highest else there.min()) if len(there) else np.nan


def _stretches(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """From where to where they are set, the end excluded."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
