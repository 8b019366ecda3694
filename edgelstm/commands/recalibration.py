"""What `calibrate` makes of the readings it took: a detection, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelstm.calibrating import Judged, calibrate_with_scores, judge, limits_of
from edgelstm.calibration_checks import (
    anomaly_inside,
    constant_channels,
    extrapolation,
    larger_residuals,
    other_operating_point,
)
from edgelstm.commands.collecting import Collected, target_columns
from edgelstm.commands.console import format_budget
from edgelstm.manifest import Detection, Manifest
from edgelstm.threshold import default_budget

_SHOWN = 16  # channels


@dataclass(frozen=True)
class Wanted:
    """What the user says of a calibration; None for the artifact's own.

    Attributes:
        budget: false alarms per day.
        scorer: see `Detection.scorer`.
        threshold: see `Detection.threshold`.
        ranges: of some channels, the lowest and the highest value that the sensor can give.
    """

    budget: float | None
    scorer: str | None
    threshold: str | None
    ranges: Mapping[str, tuple[float | None, float | None]]


@dataclass(frozen=True)
class Made:
    """A detection.

    Attributes:
        detection: it.
        lines: what there was, and what it changes, for people.
        warnings: what looks wrong, a sentence each.
    """

    detection: Detection
    lines: list[str]
    warnings: list[str]


def recalibrate(manifest: Manifest, found: Collected, wanted: Wanted) -> Made:
    """Calibrates on what came.

    Raises:
        RecordingError: there is too little of it.
        ConfigurationError: the threshold cannot keep the budget.
    """
    before = manifest.detection
    names, columns, shares_of = target_columns(manifest)
    ranges = _own_ranges(manifest) | dict(wanted.ranges)
    period = manifest.sample_period * manifest.hop
    count = int(np.isfinite(found.residuals).any(axis=1).sum())
    budget, scorer, threshold = default_budget(max(count, 1), period), "ewma", "adaptive-tail"
    if before:
        budget, scorer = before.false_alarms_per_day, before.scorer
        threshold = before.threshold
    detection, scores = calibrate_with_scores(
        found.residuals,
        found.values,
        targets=columns,
        residuals_kind="recording",
        false_alarms_per_day=wanted.budget or budget,
        scorer=wanted.scorer or scorer,
        threshold=wanted.threshold or threshold,
        limits=limits_of(found.values, manifest.channels, ranges),
    )
    judged = judge(scores, detection, period)
    old = _per_channel(before, shares_of) if before else None
    new = _per_channel(detection, shares_of)
    warnings = [
        *constant_channels(manifest, detection),
        *other_operating_point(manifest, detection),
        *(larger_residuals(names, old, new) if old else ()),
        *anomaly_inside(found.residuals, scores, detection),
        *extrapolation(detection, int(np.isfinite(scores).sum()), period),
    ]
    lines = [
        f"Readings  {len(found):,}, of which {detection.readings:,} gave a residual",
        *_describe_residuals(names, old, new),
        *_describe_threshold(before, detection, judged),
    ]
    return Made(detection, lines, warnings)


def _own_ranges(manifest: Manifest) -> dict[str, tuple[float | None, float | None]]:
    """Those that were stated when the artifact was made."""
    if manifest.detection is None:
        return {}
    limits = zip(manifest.channels, manifest.detection.limits, strict=True)
    return {channel.name: (limit.low, limit.high) for channel, limit in limits}


def _per_channel(detection: Detection, shares_of: NDArray[np.intp]) -> list[float]:
    """The residual scale of each channel: of a window the rms over its readings."""
    energy = np.bincount(shares_of, np.square(detection.residual_scale))
    return [float(value) for value in np.sqrt(energy / np.bincount(shares_of))]


def _describe_residuals(
    names: Sequence[str], old: Sequence[float] | None, new: Sequence[float]
) -> Iterator[str]:
    for k, name in enumerate(names[:_SHOWN]):
        change = _change(old[k] if old else None, new[k])
        yield f"{'Residual' if k == 0 else '':<10}{name}: {change} counts as one"
    if len(names) > _SHOWN:
        yield f"          ... and {len(names) - _SHOWN} more"


def _describe_threshold(
    before: Detection | None, after: Detection, judged: Judged
) -> Iterator[str]:
    old = before.tail if before else None
    yield (
        f"Tail      starts at {_change(old.start if old else None, after.tail.start)}, "
        f"mean excess {_change(old.scale if old else None, after.tail.scale)}"
    )
    first = judged.thresholds[np.isfinite(judged.thresholds)][0]
    yield f"Threshold {first:.3g} at first, for {format_budget(after.false_alarms_per_day)}"
    alerts = "1 alert" if len(judged.onsets) == 1 else f"{len(judged.onsets):,} alerts"
    rate = f", {judged.per_day:.2g} a day" if judged.onsets else ""
    yield f"          {alerts} in the {judged.days:.3g} days of the calibration itself{rate}"


def _change(old: float | None, new: float) -> str:
    return f"{new:.4g}" if old is None else f"{old:.4g} -> {new:.4g}"
