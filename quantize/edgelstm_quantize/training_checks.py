"""Looks for what hardly belongs into a recording of normal operation.

Coarse on purpose: noise, slow drift, daily cycles and whatever comes back a second time are
ordinary. What is measured of each block of a recording is compared with the range that all blocks
but its neighbours cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = 25  # readings, about
_FEWEST_BLOCKS, _MOST_BLOCKS = 8, 64
_NEAR = 2  # blocks to either side that may belong to the same disturbance
_FEW_VALUES = 8  # a channel with no more is a switch or a command
_LIVELIER = 2.0  # times the liveliest other block
_OFF_RANGE = 2.0  # times the range of all other blocks
_OTHER_LEVEL = 4.0  # standard deviations
_AROUND_GAP = 50  # readings on either side of a gap
_LABELS = frozenset(
    ("anomaly", "is_anomaly", "anomalous", "label", "labels", "target", "outlier", "is_outlier",
     "changepoint", "attack")
)  # fmt: skip


@dataclass(frozen=True)
class OddStretch:
    """Readings unlike the others.

    Attributes:
        start: the first of them.
        stop: the first after them.
        channel: the one that is most unlike itself.
        livelier: whether it moves more than anywhere else; or else it is at another level.
    """

    start: int
    stop: int
    channel: int
    livelier: bool


def find_odd_stretch(values: NDArray[np.float64]) -> OddStretch | None:
    """The stretch that is most unlike the rest, if there is one.

    Two figures of each block and channel: the median step from reading to reading, and the median
    level. A block is odd when its steps are twice those of the liveliest of the blocks that are
    not near it, or when its level lies twice the range of their levels outside that range. A
    single spike moves neither median, and what occurs twice is within the range. Where a switch
    or a mode (a channel of few whole numbers) is as in none of those blocks, that may be why.

    Args:
        values: (readings, channels), all finite, in time order.
    """
    count = len(values)
    blocks = min(max(count // _BLOCK, _FEWEST_BLOCKS), _MOST_BLOCKS)
    many = np.array([not has_few_values(column) for column in values.T])
    columns = np.flatnonzero(many)
    if count < blocks * _BLOCK // 2 or not len(columns):
        return None
    v = values[:, columns]
    steps = np.abs(np.diff(v, axis=0, append=v[-1:]))
    edges = np.linspace(0, count, blocks + 1).astype(int)
    pairs = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    pace = np.array([np.median(steps[a:b], axis=0) for a, b in pairs])
    mean_pace = np.array([steps[a:b].mean(axis=0) for a, b in pairs])
    level = np.array([np.median(v[a:b], axis=0) for a, b in pairs])
    codes = ~many & (values == np.round(values)).all(axis=0)
    modes = np.array([np.median(values[a:b, codes], axis=0) for a, b in pairs])
    noise = np.median([v[a:b].std(axis=0) for a, b in pairs], axis=0)
    floor = 0.02 * v.std(axis=0)
    livelier, off = np.zeros((2, blocks, len(columns)))
    for i in range(blocks):
        others = [j for j in range(blocks) if abs(i - j) > _NEAR]
        if not (modes[others] == modes[i]).any(axis=0).all():
            continue
        # Plus a share of the mean step, which counts in a signal that mostly stands still.
        usual = pace[others].max(axis=0) + 0.3 * mean_pace[others].mean(axis=0) + floor
        livelier[i] = pace[i] / usual
        low, high = level[others].min(axis=0), level[others].max(axis=0)
        off[i] = np.maximum(low - level[i], level[i] - high) / (high - low + noise + floor)
    found = [
        (float(figures.max()) / limit, figures, limit, figures is livelier)
        for figures, limit in ((livelier, _LIVELIER), (off, _OFF_RANGE))
    ]
    most, figures, limit, is_livelier = max(found, key=lambda one: one[0])
    if most <= 1:
        return None
    block, column = map(int, np.unravel_index(figures.argmax(), figures.shape))
    first = last = block
    while first > 0 and figures[first - 1, column] > limit / 2:
        first -= 1
    while last < blocks - 1 and figures[last + 1, column] > limit / 2:
        last += 1
    return OddStretch(int(edges[first]), int(edges[last + 1]), int(columns[column]), is_livelier)


def level_change(
    values: NDArray[np.float64], known: NDArray[np.bool_], cut: int
) -> tuple[int, float, float] | None:
    """The channel that is at another level after a gap, with the levels before and after.

    Args:
        values: (readings, channels), all finite.
        known: of the same shape; False where a value was filled.
        cut: the first reading after the gap.
    """
    before, after = (
        slice(max(0, cut - _AROUND_GAP), cut),
        slice(cut, cut + _AROUND_GAP),
    )
    if min(len(values[before]), len(values[after])) < _AROUND_GAP // 2:
        return None
    a, b = (np.median(values[part], axis=0) for part in (before, after))
    spread = np.sqrt((values[before].var(axis=0) + values[after].var(axis=0)) / 2)
    jump = np.abs(b - a) / (spread + 0.02 * values.std(axis=0) + 1e-12)
    few = np.array([has_few_values(column) for column in values.T])
    filled = ~(known[before].mean(axis=0) > 0.5) | ~(known[after].mean(axis=0) > 0.5)
    jump[few | filled] = 0
    k = int(jump.argmax())
    return (k, float(a[k]), float(b[k])) if jump[k] > _OTHER_LEVEL else None


def looks_like_labels(names: Sequence[str], values: NDArray[np.float64]) -> tuple[str, ...]:
    """The channels that are perhaps no sensors but labels: by their name.

    Args:
        names: of the channels.
        values: (readings, channels); a label has few values.
    """
    return tuple(
        name
        for name, column in zip(names, values.T, strict=True)
        if name.strip().lower() in _LABELS and has_few_values(column)
    )


def has_few_values(column: NDArray[np.float64]) -> bool:
    """Whether a channel is a switch, a command or a mode rather than a sensor."""
    return len(np.unique(column)) <= _FEW_VALUES


def is_switch(column: NDArray[np.float64]) -> bool:
    """Whether a channel only ever is 0 or 1, and is both."""
    return set(np.unique(column).tolist()) == {0.0, 1.0}
