"""What scorer, threshold and sensor faults were calibrated to, as plain data of the manifest."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from edgelstm.errors import ConfigurationError


@dataclass(frozen=True)
class Tail:
    """The upper tail of the scores: see `edgelstm.threshold`, which measures and follows it.

    Attributes:
        start: their 98 % quantile.
        scale: mean excess over it of the scores that exceed it.
        excess: mean excess over it of the peaks of excursions, as a share of `start`.
        excursions: how many excursions are behind that.
        rate: excursions per reading.
        readings: how many readings are behind that.

    Raises:
        ConfigurationError: a figure is not positive.
    """

    start: float
    scale: float
    excess: float = 0.25
    excursions: int = 2
    rate: float = 1 / 150
    readings: int = 150

    def __post_init__(self) -> None:
        if not all(0 < figure < math.inf for figure in dataclasses.astuple(self)):
            raise ConfigurationError(f"The tail of the scores is not positive: {self}.")


@dataclass(frozen=True)
class ChannelLimits:
    """What a working sensor gives on one channel.

    Attributes:
        low: the lowest value that it can have, physical units, as the user stated it; None when
            nothing is known. It is never taken from the calibration: an anomaly leaves its range,
            too.
        high: likewise the highest.
        flat: readings in a row with the very same value after which the sensor is stuck; None
            when it may stay the same for ever.
    """

    low: float | None = None
    high: float | None = None
    flat: int | None = None

    def __post_init__(self) -> None:
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if not low < high or (self.flat is not None and self.flat < 2):
            raise ConfigurationError(
                f"No sensor works within these limits: low {self.low}, high {self.high}, flat "
                f"{self.flat}."
            )


@dataclass(frozen=True)
class Detection:
    """What the scorer and the threshold were calibrated to, on the quantised model's residuals.

    Attributes:
        scorer: which of `edgelstm.detectors` turns residuals into scores: "ewma" or "robust".
        residual_scale: per target, in physical units: the residual that counts as one.
        span: readings over which the score averages (`alpha = 2 / (span + 1)`).
        threshold: which of `edgelstm.detectors` judges scores: "adaptive-tail", "spot",
            "conformal" or "static-quantile".
        tail: of the scores on the calibration recording.
        score_body: the quantiles of those scores at 0, 1, ..., 98 %, 99 values.
        score_peaks: those above the 98 % quantile, ascending; of more than 500 so many, evenly
            by rank.
        channel_mean: per channel, on the calibration recording.
        channel_std: likewise.
        limits: per channel.
        readings: number of calibration readings behind these figures.
        residuals: "out-of-fold" (each residual from a model that had not seen it) or
            "recording" (from the model as it is, on a recording that it was not trained on,
            as far as is known).
        false_alarms_per_day: the budget that the threshold keeps unless told otherwise.
    """

    scorer: str
    residual_scale: tuple[float, ...]
    span: int
    threshold: str
    tail: Tail
    score_body: tuple[float, ...]
    score_peaks: tuple[float, ...]
    channel_mean: tuple[float, ...]
    channel_std: tuple[float, ...]
    limits: tuple[ChannelLimits, ...]
    readings: int
    residuals: str
    false_alarms_per_day: float

    def __post_init__(self) -> None:
        if not all(0 < scale < math.inf for scale in self.residual_scale) or self.span < 1:
            raise ConfigurationError(
                "The detection has a residual scale or a span that is not positive."
            )
        measured = (*self.score_body, *self.score_peaks, *self.channel_mean, *self.channel_std)
        if not all(map(math.isfinite, measured)) or self.readings < 0:
            raise ConfigurationError(
                "The detection has a score, a mean or a standard deviation that is not finite, or "
                "a negative number of readings."
            )
        if not 0 < self.false_alarms_per_day < math.inf:
            raise ConfigurationError(
                f"The detection has a budget of {self.false_alarms_per_day} false alarms a day."
            )
