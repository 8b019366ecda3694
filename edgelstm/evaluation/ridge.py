"""The ridge floor: what a linear autoregression gets with the very same scoring.

Each target is forecast linearly from the last five readings of all channels, standardised on the
readings that it is fitted on, with a ridge of lambda = 0.5 p K. The residual scales are of
forecasts for thirds of those readings, each fitted on the other two. A model that takes hours to
train should be better than this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgelstm.alert import AlertEvent, AlertPolicy, AlertRule
from edgelstm.calibrating import MIN_RESIDUALS, calibrate
from edgelstm.detectors import make_scorer, make_threshold
from edgelstm.errors import RecordingError
from edgelstm.pipeline import LONG_GAP
from edgelstm.threshold import readings_per_false_alarm

Floats = NDArray[np.float64]

ORDER = 5
"""Readings that a forecast is made from."""
_RIDGE = 0.5  # times the number of weights
_BLOCKS = 3
_LARGEST_INPUT = 8.0  # standard deviations: a wild value must not make a wild forecast
_LARGEST_RESIDUAL = 100.0
FIT_SHARE, FIT_READINGS = 0.15, 750
"""Without a stated prefix, it is fitted on this share of a recording, at most so many readings."""


class RidgeForecasts(NamedTuple):
    """What the ridge autoregression makes of a recording.

    Attributes:
        residuals: observed - forecast, physical units, (readings, targets); NaN in the first five
            rows and where the reading misses the value.
        held_out: of the readings that it was fitted on, from the fits without their block,
            (fit readings, targets); NaN likewise.
    """

    residuals: Floats
    held_out: Floats


@dataclass(frozen=True)
class Rules:
    """What turns scores into alerts.

    Attributes:
        false_alarms_per_day: the budget.
        sample_period: seconds.
        scorer: its kind, as in a `Detection`.
        threshold: likewise.
        policy: of the alert rule.
    """

    false_alarms_per_day: float
    sample_period: float
    scorer: str = "ewma"
    threshold: str = "adaptive-tail"
    policy: AlertPolicy = field(default_factory=AlertPolicy)


class Watched(NamedTuple):
    """What became of each reading; all are (readings,).

    Attributes:
        scores: NaN where there is none.
        alarm: whether an alert is open after the reading.
        onsets: whether one opened at it.
    """

    scores: Floats
    alarm: NDArray[np.bool_]
    onsets: NDArray[np.bool_]


def fit_rows(rows: int, from_row: int) -> int:
    """How many readings to fit on: those before `from_row`, or a share of all where that is 0."""
    return from_row or min(int(FIT_SHARE * rows), FIT_READINGS)


def forecast(values: Floats, targets: Sequence[int], readings: int) -> RidgeForecasts:
    """Fits on the first readings and forecasts all.

    Args:
        values: physical units, (readings, channels); NaN where a value is missing: the last one
            before it takes its place as an input, and it is no target.
        targets: columns to forecast.
        readings: how many of the first it is fitted on.

    Raises:
        RecordingError: these are too few.
    """
    least = MIN_RESIDUALS + ORDER
    if readings < least:
        raise RecordingError(
            f"The ridge floor needs {least} readings to be fitted on, and there are {readings}; "
            "give a later --from-row."
        )
    known = ~np.isnan(values)
    filled = _hold(values)
    mean = filled[:readings].mean(axis=0)
    std = filled[:readings].std(axis=0)
    std = np.where(std > 0, std, 1.0)  # a constant channel
    z = (filled - mean) / std
    inputs = _lags(np.clip(z, -_LARGEST_INPUT, _LARGEST_INPUT))
    columns = list(targets)
    wanted, observed = z[:, columns], known[:, columns]
    rows = np.arange(len(values))
    usable = (rows >= ORDER) & (rows < readings)

    def residuals(fit: NDArray[np.bool_], of: NDArray[np.bool_]) -> Floats:
        # A target that is missing was filled; the few rows do no harm to a fit.
        left = wanted[of] - inputs[of] @ _solve(inputs[fit], wanted[fit])
        left = np.clip(left, -_LARGEST_RESIDUAL, _LARGEST_RESIDUAL) * std[columns]
        return np.where(observed[of], left, np.nan)

    held_out = np.full((readings, len(columns)), np.nan)
    edges = np.linspace(0, readings, _BLOCKS + 1).astype(int)
    for k in range(_BLOCKS):
        block = (rows >= edges[k]) & (rows < edges[k + 1])
        of = block & usable
        held_out[of[:readings]] = residuals(usable & ~block, of)
    everything = np.full((len(values), len(columns)), np.nan)
    everything[ORDER:] = residuals(usable, rows >= ORDER)
    return RidgeForecasts(everything, held_out)


def watch(
    forecasts: RidgeForecasts,
    values: Floats,
    times: Floats,
    targets: Sequence[int],
    rules: Rules,
) -> Watched:
    """Puts the residuals through the scoring that a model's residuals go through.

    Args:
        forecasts: of `forecast`.
        values: as given to it.
        times: of the readings, seconds, (readings,).
        targets: as given to it.
        rules: threshold and alert rule.

    Raises:
        RecordingError: the readings that it was fitted on are too few to calibrate on.
        ConfigurationError: the budget makes no sense.
    """
    readings = len(forecasts.held_out)
    detection = calibrate(
        forecasts.held_out,
        values[:readings],
        targets=targets,
        residuals_kind="out-of-fold",
        false_alarms_per_day=rules.false_alarms_per_day,
        scorer=rules.scorer,
        threshold=rules.threshold,
    )
    scorer = make_scorer(detection)
    threshold = make_threshold(
        detection, readings_per_false_alarm(rules.false_alarms_per_day, rules.sample_period)
    )
    rule = AlertRule(rules.policy)
    scores = np.full(len(values), np.nan)
    alarm, onsets = np.zeros(len(values), bool), np.zeros(len(values), bool)
    missing = _missing_before(values, times, rules.sample_period)
    settled = 0  # the first row after a long gap whose inputs are all of after it
    for row, residual in enumerate(forecasts.residuals):
        score = None
        if missing[row]:
            # As the pipeline has it: the forecast was for another time, or is made of the past.
            rule.gap()
            if missing[row] > LONG_GAP:
                scorer.reset()
                settled = row + ORDER
        elif row >= settled:
            score = scorer.update(residual)
        if score is not None and not np.isnan(residual).all():
            scores[row] = score
            change = rule.update(float(times[row]), score, threshold.update(score), ())
            onsets[row] = change is not None and change.event is AlertEvent.OPENED
        alarm[row] = rule.open is not None
    return Watched(scores, alarm, onsets)


def _missing_before(values: Floats, times: Floats, sample_period: float) -> NDArray[np.int64]:
    """How many readings are missing before each, (readings,); one without any value is none."""
    there = ~np.isnan(values).all(axis=1)
    missing = np.zeros(len(values), np.int64)
    rows = np.flatnonzero(there)
    passed = np.round(np.diff(times[rows]) / sample_period).astype(np.int64) - 1
    missing[rows[1:]] = np.maximum(passed, 0)
    return missing


def _hold(values: Floats) -> Floats:
    """Each missing value is the last before it; before the first, the first."""
    known = ~np.isnan(values)
    rows = np.arange(len(values))[:, np.newaxis]
    last = np.maximum.accumulate(np.where(known, rows, -1), axis=0)
    first = np.where(known.any(axis=0), known.argmax(axis=0), 0)
    held: Floats = np.take_along_axis(values, np.where(last >= 0, last, first), axis=0)
    return np.nan_to_num(held)  # a channel without a single value


def _lags(z: Floats) -> Floats:
    """The five readings before each and a one, (readings, 5 channels + 1); zeros at the start."""
    count, channels = z.shape
    inputs = np.zeros((count, ORDER * channels + 1))
    for lag in range(1, ORDER + 1):
        inputs[lag:, (lag - 1) * channels : lag * channels] = z[:-lag]
    inputs[:, -1] = 1
    return inputs


def _solve(inputs: Floats, wanted: Floats) -> Floats:
    """Ridge regression; the constant is not shrunk."""
    weights = inputs.shape[1] - 1
    penalty = np.full(weights + 1, _RIDGE * weights)
    penalty[-1] = 1e-9
    solution: Floats = np.linalg.solve(inputs.T @ inputs + np.diag(penalty), inputs.T @ wanted)
    return solution
