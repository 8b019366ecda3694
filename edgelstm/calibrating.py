"""Calibrates scorer and threshold on residuals: pure, for the host and for the device alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelstm.alert import AlertEvent, AlertPolicy, AlertRule
from edgelstm.detectors import make_scorer, make_threshold
from edgelstm.errors import RecordingError
from edgelstm.manifest import Channel, ChannelLimits, Detection, Tail
from edgelstm.threshold import TAIL_QUANTILE, fit_tail, readings_per_false_alarm

SPAN = 20
MIN_RESIDUALS = 150
SETTLING = 60  # first scores left out of the tail: the average needs three spans to fill
_LEAST_SCORES = 30  # the robust scorer has its first score after as many residuals again
_LEAST_SCALE = 0.01  # of a channel's standard deviation
_MOST_PEAKS = 500
_FLAT_RUNS = 10  # times the longest run of equal values: then a sensor is stuck
_LEAST_FLAT = 60


def calibrate(
    residuals: NDArray[np.float64],
    values: NDArray[np.float64],
    *,
    targets: Sequence[int],
    residuals_kind: str,
    false_alarms_per_day: float,
    scorer: str = "ewma",
    threshold: str = "adaptive-tail",
    limits: Sequence[ChannelLimits] | None = None,
) -> Detection:
    """`calibrate_with_scores` without the scores."""
    detection, _ = calibrate_with_scores(
        residuals,
        values,
        targets=targets,
        residuals_kind=residuals_kind,
        false_alarms_per_day=false_alarms_per_day,
        scorer=scorer,
        threshold=threshold,
        limits=limits,
    )
    return detection


def calibrate_with_scores(
    residuals: NDArray[np.float64],
    values: NDArray[np.float64],
    *,
    targets: Sequence[int],
    residuals_kind: str,
    false_alarms_per_day: float,
    scorer: str = "ewma",
    threshold: str = "adaptive-tail",
    limits: Sequence[ChannelLimits] | None = None,
) -> tuple[Detection, NDArray[np.float64]]:
    """Measures residual scales, the scores and their tail, and what the channels are like.

    A hundredth of the channel's standard deviation is added to the rms of its residual, so that a
    channel that is forecast nearly exactly does not alarm on rounding; a constant channel counts
    as one with a standard deviation of one unit, as it does for the trained models.

    Args:
        residuals: observed - predicted, physical units, (readings, targets), in time order; NaN
            where there is none.
        values: what was read, physical units, (readings, channels); NaN where it is missing.
        targets: for each target the column of its channel in `values`.
        residuals_kind: where the residuals come from, see `Detection.residuals`.
        false_alarms_per_day: the budget to note.
        scorer: see `Detection.scorer`.
        threshold: see `Detection.threshold`.
        limits: per channel; by default those of `find_limits`.

    Returns:
        The detection, and the score after each row of residuals, (readings,); NaN where there is
        none.

    Raises:
        RecordingError: fewer than 150 residuals, or too few of each target for scores; none at all
            of one target, or a channel without a value.
    """
    known = np.isfinite(residuals)
    if not np.isfinite(values).any(axis=0).all():
        raise RecordingError(
            "A channel of the calibration has no value at all: see whether its sensor is connected."
        )
    count = int(known.any(axis=1).sum())
    if count < MIN_RESIDUALS:
        raise RecordingError(
            f"The calibration has {count:,} residuals, and a threshold needs {MIN_RESIDUALS:,}: "
            f"record for {MIN_RESIDUALS - count:,} readings more."
        )
    if not known.any(axis=0).all():
        raise RecordingError(
            "A channel of the calibration has no residual at all, as its values were missing: see "
            "whether its sensor is connected."
        )
    mean, std = channel_levels(values)
    spread = np.where(is_constant(mean, std), 1.0, std)[list(targets)]
    unfitted = Detection(
        scorer=scorer,
        residual_scale=_floats(residual_rms(residuals) + _LEAST_SCALE * spread),
        span=SPAN,
        threshold=threshold,
        tail=Tail(1.0, 1.0),
        score_body=(),
        score_peaks=(),
        channel_mean=_floats(mean),
        channel_std=_floats(std),
        limits=tuple(find_limits(values) if limits is None else limits),
        readings=count,
        residuals=residuals_kind,
        false_alarms_per_day=false_alarms_per_day,
    )
    scores = score(residuals, unfitted)
    usable = settled(scores)
    if len(usable) < _LEAST_SCORES:
        raise RecordingError(
            f"The {count:,} residuals of the calibration give {len(usable):,} settled scores, and "
            f"a threshold needs {_LEAST_SCORES}: record for longer, with fewer values missing."
        )
    return fit_scores(unfitted, usable), scores


def fit_scores(detection: Detection, scores: NDArray[np.float64]) -> Detection:
    """The detection with the tail, the body and the peaks of some scores, (readings,), finite."""
    edges = np.quantile(scores, np.arange(99) / 100)
    peaks = np.sort(scores[scores > np.quantile(scores, TAIL_QUANTILE)])
    if len(peaks) > _MOST_PEAKS:
        peaks = peaks[np.linspace(0, len(peaks) - 1, _MOST_PEAKS).round().astype(int)]
    return dataclasses.replace(
        detection,
        tail=fit_tail(scores),
        score_body=_floats(edges),
        score_peaks=_floats(peaks),
    )


def score(residuals: NDArray[np.float64], detection: Detection) -> NDArray[np.float64]:
    """The score after each row of residuals, (readings,); NaN where there is none."""
    scorer = make_scorer(detection)
    found = [scorer.update(row) for row in residuals]
    return np.array([np.nan if value is None else value for value in found])


def settled(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scores that there are, without the first ones, which are still on their way up."""
    return scores[np.isfinite(scores)][SETTLING:]


@dataclass(frozen=True)
class Judged:
    """What the threshold and the alert rule make of scores.

    Attributes:
        thresholds: what each score had to exceed, (readings,); NaN where there is no score.
        alerting: whether an alert was open after each, (readings,).
        onsets: the rows at which one opened, growing.
        days: how long the scored readings took together.
    """

    thresholds: NDArray[np.float64]
    alerting: NDArray[np.bool_]
    onsets: tuple[int, ...]
    days: float

    @property
    def per_day(self) -> float:
        """Alerts per day of scored readings."""
        return len(self.onsets) / self.days


def judge(scores: NDArray[np.float64], detection: Detection, period: float) -> Judged:
    """Runs the threshold and the alert rule over scores, as they run on the device.

    Args:
        scores: (readings,); NaN where there is none.
        detection: with the budget to keep.
        period: seconds from one score to the next.

    Raises:
        ConfigurationError: the threshold cannot keep such a budget.
    """
    budget = readings_per_false_alarm(detection.false_alarms_per_day, period)
    threshold = make_threshold(detection, budget)
    rule = AlertRule(AlertPolicy())
    thresholds = np.full(len(scores), np.nan)
    alerting = np.zeros(len(scores), bool)
    onsets = []
    for row in np.flatnonzero(np.isfinite(scores)).tolist():
        value = float(scores[row])
        judgement = threshold.update(value)
        thresholds[row] = judgement.threshold
        change = rule.update(row * period, value, judgement, ())
        if change is not None and change.event is AlertEvent.OPENED:
            onsets.append(row)
        alerting[row] = rule.open is not None
    scored = int(np.isfinite(scores).sum())
    return Judged(thresholds, alerting, tuple(onsets), scored * period / 86_400)


def residual_rms(residuals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square of the residuals of each target that there are, (targets,)."""
    rms: NDArray[np.float64] = np.sqrt(np.nanmean(np.square(residuals), axis=0))
    return rms


def channel_levels(
    values: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel, (channels,), of the values that there are."""
    return np.nanmean(values, axis=0), np.nanstd(values, axis=0)


def is_constant(mean: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which channels stayed the same but for rounding, (channels,)."""
    constant: NDArray[np.bool_] = std <= 1e-9 * np.maximum(1, np.abs(mean))
    return constant


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


# What a working sensor gives


def find_limits(
    values: NDArray[np.float64],
    ranges: Sequence[tuple[float | None, float | None]] | None = None,
    codes: Sequence[bool] | None = None,
) -> list[ChannelLimits]:
    """The limits of each channel: how long it may stay the same, and the range as stated.

    A sensor is stuck after ten times the longest run of equal values that it gave while it worked,
    and 60 readings at least. Where that is longer than the recording itself nothing can be said,
    and a channel with two values or one is a switch or a setting, which may stay.

    Args:
        values: physical units, (readings, channels); NaN where one is missing.
        ranges: the lowest and the highest value of each channel, where they are known.
        codes: of each channel whether it holds codes (categories, tokens), which may stay, too.
    """
    count = values.shape[1]
    found = []
    for column, (low, high), code in zip(
        values.T, ranges or [(None, None)] * count, codes or [False] * count, strict=True
    ):
        longest = longest_run(column)
        flat = max(_FLAT_RUNS * longest, _LEAST_FLAT)
        stays = code or _FLAT_RUNS * longest > len(column) or len(np.unique(column)) <= 2
        found.append(ChannelLimits(low, high, None if stays else flat))
    return found


def limits_of(
    values: NDArray[np.float64],
    channels: Sequence[Channel],
    ranges: Mapping[str, tuple[float | None, float | None]],
) -> list[ChannelLimits]:
    """`find_limits` for these channels, with the ranges of some of them by name."""
    return find_limits(
        values,
        [ranges.get(channel.name, (None, None)) for channel in channels],
        [channel.categories is not None or channel.tokens is not None for channel in channels],
    )


def longest_run(column: NDArray[np.float64]) -> int:
    """How many times in a row the very same value comes at most; a missing one ends a run."""
    changes = np.flatnonzero(column[1:] != column[:-1]) + 1
    return int(np.diff([0, *changes, len(column)]).max())
