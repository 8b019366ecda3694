"""The error over the held-out steps as a plot.

Only the geometry: sizes are in CSS pixels, and a template turns ticks and paths into SVG.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BUCKETS = 600  # points that a long recording is drawn with


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where it is, and what it says."""

    at: float
    label: str


@dataclass(frozen=True)
class Tenth:
    """The mean over a tenth of the steps: a line from x0 to x1 at y."""

    label: str
    mean: float
    x0: float
    x1: float
    y: float


@dataclass(frozen=True)
class DriftPlot:
    """The error over the held-out steps, as SVG paths.

    Attributes:
        width: of the figure.
        height: of the figure.
        left: of the area within the axes.
        right: likewise.
        top: likewise.
        bottom: likewise.
        mean: path of the mean error of each bucket.
        band: path around what lies between the mean and the largest error of each bucket.
        x_ticks: in steps.
        y_ticks: in percent.
        tenths: means of the first and of the last tenth.
        steps_per_bucket: how many steps a point stands for, at most.
    """

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    mean: str
    band: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    tenths: tuple[Tenth, ...]
    steps_per_bucket: int


def plot_drift(errors: NDArray[np.float64]) -> DriftPlot:
    """Plots the error of each step.

    Args:
        errors: relative, (steps,), at least one.
    """
    width, height, left, right, top, bottom = 900, 300, 64, 888, 12, 252
    count = len(errors)
    bounds = np.linspace(0, count, min(count, _BUCKETS) + 1).astype(int)
    parts = [errors[a:b] for a, b in itertools.pairwise(bounds)]
    means, tops = ([float(f(part)) for part in parts] for f in (np.mean, np.max))
    y_values = nice_ticks(100 * max(tops) or 1.0, 5)
    x_values = [value for value in nice_ticks(count, 7) if value <= count and value == int(value)]

    def x_of(step: float) -> float:
        return left + (right - left) * step / count

    def y_of(error: float) -> float:
        return bottom - (bottom - top) * 100 * error / y_values[-1]

    # A bucket is a stair, so that a single one can be seen as well.
    xs = [x_of(float(b)) for b in bounds]

    def stairs(values: Sequence[float], edges: Sequence[float]) -> str:
        pairs = zip(values, edges, strict=True)
        return "".join(f"V{y_of(value):.1f}H{x:.1f}" for value, x in pairs)

    there = f"M{xs[0]:.1f} {y_of(means[0]):.1f}{stairs(means, xs[1:])}"
    back = stairs(tops[::-1], xs[-2::-1])
    tenth = max(1, count // 10)
    tenths = []
    for label, part, start in (
        ("first", errors[:tenth], 0),
        ("last", errors[-tenth:], count - tenth),
    ):
        mean = float(part.mean())
        tenths.append(Tenth(label, mean, x_of(start), x_of(start + tenth), y_of(mean)))
    return DriftPlot(
        width,
        height,
        left,
        right,
        top,
        bottom,
        there,
        f"{there}{back}Z",
        tuple(Tick(round(x_of(value), 1), f"{value:,.0f}") for value in x_values),
        tuple(Tick(round(y_of(v / 100), 1), f"{short(v)}%") for v in y_values),
        tuple(tenths),
        int(np.diff(bounds).max()),
    )


def nice_ticks(highest: float, about: int) -> list[float]:
    """Round numbers from 0 to at least `highest`, some `about` of them."""
    raw = highest / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * (1 - 1e-9))
    return [step * i for i in range(math.ceil(highest / step - 1e-9) + 1)]


def short(value: float) -> str:
    """A number with three digits at most, for an axis."""
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")
