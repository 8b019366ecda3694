"""What looks wrong about a calibration: sentences for people, who may know better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edgelstm.calibrating import is_constant
from edgelstm.manifest import Detection, Manifest
from edgelstm.threshold import REACH, readings_per_false_alarm

_ELSEWHERE = 3.0  # standard deviations between two means: another operating point
_LARGER = 3.0  # times the residuals that the artifact was made with
_BLOCKS = 10
_LEAST_BLOCK = 40  # scored readings, below which the median of a block is luck
_WILD_BLOCK = 25.0  # times the median energy of all blocks
_WILD_SCORE = 40.0  # times the spread from the median to the 90 % quantile, above the median


def constant_channels(manifest: Manifest, detection: Detection) -> Iterator[str]:
    """Says which channels stayed the same."""
    constant = is_constant(np.array(detection.channel_mean), np.array(detection.channel_std))
    names = [c.name for c, same in zip(manifest.channels, constant, strict=True) if same]
    if names:
        yield (
            f"{_listed(names)} stayed the same all the time: nothing is known of how "
            f"{'it changes' if len(names) == 1 else 'they change'} in normal operation."
        )


def other_operating_point(manifest: Manifest, detection: Detection) -> Iterator[str]:
    """Says which channels are far from where the model was calibrated when it was made."""
    before = manifest.detection
    if before is None:
        return
    rows = zip(
        manifest.channels,
        before.channel_mean,
        before.channel_std,
        detection.channel_mean,
        detection.channel_std,
        strict=True,
    )
    for channel, mean, std, now, spread in rows:
        away = abs(now - mean)
        reference = std if std > 1e-9 * max(1.0, abs(mean)) else spread
        if channel.tokens is None and channel.categories is None and away > _ELSEWHERE * reference:
            if not away > 1e-9 * max(1.0, abs(mean)):
                continue
            apart = f"{away / std:.1f} of its standard deviations" if std else f"{away:.4g}"
            yield (
                f"{channel.name} is at {now:.4g} on average, {apart} away from the {mean:.4g} that "
                "the model was made with: this model knows another operating point, so train one "
                "on this sensor's recordings."
            )


def larger_residuals(
    names: Sequence[str], before: Sequence[float], after: Sequence[float]
) -> Iterator[str]:
    """Says which residuals are far larger than those that the artifact was made with.

    Args:
        names: of the channels that have residuals.
        before: their residual scales when the model was made.
        after: their residual scales now.
    """
    for name, old, new in zip(names, before, after, strict=True):
        if new > _LARGER * old:
            yield (
                f"The residuals of {name} are {new / old:.1f} times as large as where the model "
                "was made: it forecasts this sensor badly, so train one on its recordings."
            )


def extrapolation(detection: Detection, scored: int, period: float) -> Iterator[str]:
    """Says how far the budget is beyond what the calibration can speak for.

    Args:
        detection: with the budget.
        scored: how many scores there were.
        period: seconds from one score to the next.
    """
    needed = readings_per_false_alarm(detection.false_alarms_per_day, period)
    if needed > (REACH + 0.5) * scored:
        yield (
            f"The budget is one false alarm in {needed:,.0f} scored readings, and the calibration "
            f"has {scored:,}: the threshold is extrapolated {needed / max(scored, 1):,.3g}-fold, "
            "so record for longer, or set a budget that is less strict, to measure it."
        )


def anomaly_inside(
    residuals: NDArray[np.float64], scores: NDArray[np.float64], detection: Detection
) -> Iterator[str]:
    """Says where the calibration looks as if something had been wrong.

    A stretch in which the median residual is far larger than in the rest, or else a score far
    above the others. Coarse on purpose: real residuals have heavy tails.

    Args:
        residuals: physical units, (readings, targets); NaN where there is none.
        scores: of them, (readings,); NaN where there is none.
        detection: with their scales.
    """
    rows = np.flatnonzero(np.isfinite(residuals).any(axis=1) & np.isfinite(scores))
    if len(rows) < 3 * _LEAST_BLOCK:
        return
    energy = np.nanmean((residuals[rows] / np.array(detection.residual_scale)) ** 2, axis=1)
    blocks = np.array_split(np.arange(len(rows)), min(_BLOCKS, len(rows) // _LEAST_BLOCK))
    levels = np.array([np.median(energy[block]) for block in blocks])
    wild = np.flatnonzero(levels > _WILD_BLOCK * np.median(levels))
    if len(wild):
        first, last = rows[blocks[wild[0]][0]], rows[blocks[wild[-1]][-1]]
        yield (
            f"In rows {first:,} to {last:,} of the calibration the residuals are "
            f"{np.sqrt(levels.max() / max(np.median(levels), 1e-12)):.1f} times as large as in the "
            f"rest: {_ADVICE}"
        )
        return
    known = scores[rows]
    middle, high = np.quantile(known, [0.5, 0.9])
    if high > middle and known.max() > middle + _WILD_SCORE * (high - middle):
        yield (
            f"At row {rows[known.argmax()]:,} of the calibration the score rises to "
            f"{known.max():.3g}, far above all others: {_ADVICE}"
        )


_ADVICE = (
    "if something was wrong then, leave these rows out with --rows, or the threshold will be too "
    "high."
)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
