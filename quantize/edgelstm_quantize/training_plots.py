"""The charts of a training report.

Only the geometry: sizes are in CSS pixels, and a template turns it into SVG.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelstm_quantize.drift_plot import Tick

_BUCKETS = 300  # points that a long recording is drawn with
_WIDEST = 5.0  # standard deviations at the ends of the histogram
_BIN = 0.25
LAGS = 40


@dataclass(frozen=True)
class Mark:
    """A part of a chart: a path or, where `radius` is not 0, a dot at (x, y).

    `style` is a class of the style sheet.
    """

    style: str
    path: str = ""
    x: float = 0.0
    y: float = 0.0
    radius: float = 0.0


@dataclass(frozen=True)
class Chart:
    """A chart: its axes, and what is drawn between them, the first at the back.

    Attributes:
        title: what it shows, for those who do not see it.
        x_label: of the axis.
        y_label: likewise.
        width: of the figure.
        height: of the figure.
        left: of the area within the axes.
        right: likewise.
        top: likewise.
        bottom: likewise.
        x_ticks: from left to right.
        y_ticks: from bottom to top.
        marks: see above.
    """

    title: str
    x_label: str
    y_label: str
    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]


class _Frame:
    """The axes of a chart to be."""

    def __init__(
        self, size: tuple[int, int], x: tuple[float, float], y: tuple[float, float]
    ) -> None:
        self.width, self.height = size
        self.left, self.right, self.top, self.bottom = 68, size[0] - 26, 12, size[1] - 46
        self._x, self._y = x, y

    def x_of(self, value: float) -> float:
        low, high = self._x
        return self.left + (self.right - self.left) * (value - low) / (high - low)

    def y_of(self, value: float) -> float:
        low, high = self._y
        return self.bottom - (self.bottom - self.top) * (value - low) / (high - low)

    def line(self, points: Sequence[tuple[float, float]]) -> str:
        """A path through points."""
        return "".join(
            f"{'L' if i else 'M'}{self.x_of(x):.1f} {self.y_of(y):.1f}"
            for i, (x, y) in enumerate(points)
        )

    def level(self, y: float) -> str:
        """A path from left to right."""
        return f"M{self.left} {self.y_of(y):.1f}H{self.right}"

    def chart(
        self,
        title: str,
        labels: tuple[str, str],
        x_values: Sequence[float],
        y_values: Sequence[float],
        marks: Sequence[Mark],
    ) -> Chart:
        return Chart(
            title,
            *labels,
            self.width,
            self.height,
            self.left,
            self.right,
            self.top,
            self.bottom,
            tuple(Tick(round(self.x_of(v), 1), _short(v)) for v in x_values),
            tuple(Tick(round(self.y_of(v), 1), _short(v)) for v in y_values),
            tuple(marks),
        )


def plot_curves(
    curves: Sequence[Sequence[tuple[int, float]]], best: Sequence[int], linear: float
) -> Chart:
    """The held-out error of each fold against the iterations.

    Args:
        curves: of each fold (iteration, error), at least one point each.
        best: of each fold the iteration that was taken.
        linear: the error of a linear model.
    """
    errors = [error for curve in curves for _, error in curve]
    start = max(curve[0][1] for curve in curves)
    # A fit that went astray would squeeze all that matters into a line at the foot.
    highest = min(max(errors), 1.5 * max(start, linear))
    y_values = nice_ticks(min(*errors, linear), max(highest, linear), 5)
    low, high = y_values[0], y_values[-1]
    last = max(max(curve[-1][0] for curve in curves), 1)
    x_values = [value for value in nice_ticks(0, last, 6) if value <= last]
    frame = _Frame((900, 320), (0.0, float(last)), (low, high))
    marks = [Mark("linear", frame.level(linear))]
    for k, (curve, taken) in enumerate(zip(curves, best, strict=True)):
        shown = [(float(i), min(error, high)) for i, error in curve]
        marks.append(Mark(f"curve fold{k + 1}", frame.line(shown)))
        x, y = min(shown, key=lambda point: abs(point[0] - taken))
        dot = round(frame.x_of(x), 1), round(frame.y_of(y), 1)
        marks.append(Mark(f"dot fold{k + 1}", "", *dot, 5.0))
    labels = "iterations", "held-out error, standard deviations"
    return frame.chart(
        "Error on readings held out, against the iterations", labels, x_values, y_values, marks
    )


def plot_residual(
    residual: NDArray[np.float64], scale: float, folds: Sequence[int], name: str
) -> Chart:
    """A residual over the readings, in multiples of a scale.

    A line, or of many readings the range of each bucket.

    Args:
        residual: (readings,); NaN where there is none, which leaves a gap.
        scale: above 0.
        folds: the readings at which a new fold begins.
        name: of the target.
    """
    count = len(residual)
    ratio = residual / scale
    known = ratio[np.isfinite(ratio)]
    highest = max(float(np.abs(known).max(initial=0.0)), 3.0)
    y_values = nice_ticks(-highest, highest, 6)
    x_values = [value for value in nice_ticks(0, count, 5) if value <= count]
    frame = _Frame((480, 240), (0.0, float(count)), (y_values[0], y_values[-1]))
    path = _ranges(frame, ratio) if count > 2 * _BUCKETS else _pieces(frame, ratio)
    cuts = "".join(f"M{frame.x_of(at):.1f} {frame.top}V{frame.bottom}" for at in folds)
    marks = [Mark("fold", cuts), Mark("residual", path), Mark("axis", frame.level(0.0))]
    labels = "readings", "residual / its rms"
    return frame.chart(f"Residual of {name} over the readings", labels, x_values, y_values, marks)


def _ranges(frame: _Frame, ratio: NDArray[np.float64]) -> str:
    """From the lowest to the highest value of each bucket that has one."""
    bounds = np.linspace(0, len(ratio), _BUCKETS + 1).astype(int)
    path = ""
    for a, b in itertools.pairwise(bounds.tolist()):
        known = ratio[a:b][np.isfinite(ratio[a:b])]
        if len(known):
            low, high = frame.y_of(float(known.min())), frame.y_of(float(known.max()))
            path += f"M{frame.x_of((a + b) / 2):.1f} {low + 0.5:.1f}V{high - 0.5:.1f}"
    return path


def _pieces(frame: _Frame, ratio: NDArray[np.float64]) -> str:
    """A line from value to value, broken where there is none."""
    path, pen = "", "M"
    for i, value in enumerate(ratio.tolist()):
        if math.isfinite(value):
            path += f"{pen}{frame.x_of(i):.1f} {frame.y_of(value):.1f}"
            pen = "L"
        else:
            pen = "M"
    return path


def plot_histogram(residual: NDArray[np.float64], scale: float, name: str) -> Chart:
    """How often a residual is how large, beside a normal distribution of the same rms.

    Args:
        residual: (readings,), without NaN, at least one; the ends count what lies beyond.
        scale: its rms.
        name: of the target.
    """
    edges = np.arange(-_WIDEST, _WIDEST + _BIN / 2, _BIN)
    inside = np.clip(residual / scale, -_WIDEST + _BIN / 2, _WIDEST - _BIN / 2)
    density = np.histogram(inside, edges)[0] / (len(residual) * _BIN)
    normal = [(x, math.exp(-x * x / 2) / math.sqrt(2 * math.pi)) for x in edges.tolist()]
    y_values = nice_ticks(0, max(float(density.max()), 0.4), 4)
    frame = _Frame((400, 240), (-_WIDEST, _WIDEST), (0.0, y_values[-1]))
    bars = "".join(
        f"M{frame.x_of(a) + 0.5:.1f} {frame.bottom}V{frame.y_of(d):.1f}"
        f"H{frame.x_of(b) - 0.5:.1f}V{frame.bottom}Z"
        for (a, b), d in zip(itertools.pairwise(edges.tolist()), density.tolist(), strict=True)
        if d
    )
    marks = [Mark("bars", bars), Mark("normal", frame.line(normal))]
    labels = "residual / its rms", "density"
    title = f"Histogram of the residual of {name} beside a normal curve"
    return frame.chart(title, labels, (-4, -2, 0, 2, 4), y_values, marks)


def autocorrelation(residual: NDArray[np.float64], lags: int = LAGS) -> NDArray[np.float64]:
    """Correlation of a residual with itself 1 to `lags` readings earlier, (lags,).

    About the mean 0 that a residual should have. Pairs with a NaN are left out.
    """
    found = np.zeros(lags)
    power = np.nanmean(residual**2)
    for lag in range(1, min(lags, len(residual) - 1) + 1):
        products = residual[lag:] * residual[:-lag]
        known = products[np.isfinite(products)]
        found[lag - 1] = known.mean() / power if len(known) and power else 0.0
    return found


def plot_autocorrelation(correlation: NDArray[np.float64], count: int, name: str) -> Chart:
    """Correlations at 1, 2 and so on readings, with the band that 95 % of white noise stays in.

    Args:
        correlation: (lags,), from -1 to 1.
        count: of residuals.
        name: of the target.
    """
    band = 1.96 / math.sqrt(max(count, 1))
    lowest = min(-0.2, float(correlation.min()))
    highest = max(0.4, float(correlation.max()))
    y_values = nice_ticks(lowest, highest, 5)
    frame = _Frame((400, 240), (0.0, len(correlation) + 1.0), (y_values[0], y_values[-1]))
    stems = "".join(
        f"M{frame.x_of(lag):.1f} {frame.y_of(0):.1f}V{frame.y_of(value):.1f}"
        for lag, value in enumerate(correlation.tolist(), start=1)
    )
    inner = (
        f"M{frame.left} {frame.y_of(band):.1f}H{frame.right}V{frame.y_of(-band):.1f}H{frame.left}Z"
    )
    marks = [Mark("noise", inner), Mark("stems", stems), Mark("axis", frame.level(0.0))]
    labels = "readings apart", "correlation"
    title = f"Autocorrelation of the residual of {name}"
    return frame.chart(title, labels, range(0, len(correlation) + 1, 10), y_values, marks)


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from at most `low` to at least `high`, some `about` of them."""
    raw = (high - low) / about or abs(high) / about or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * i, 12) for i in range(first, max(last, first + 1) + 1)]


def _short(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value + 0.0:.6g}".replace("-", "\N{MINUS SIGN}")
