"""What a pipeline says: its verdict on each reading, and what became of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgelstm.alert import AlertChange
from edgelstm.reading import Reading


class Verdict(NamedTuple):
    """What the pipeline made of one reading. A tuple, because there are thousands a second.

    Attributes:
        reading: the reading.
        predicted: the forecast for it, or the window as the model gives it back, shape (targets,),
            physical units; None without one.
        residual: observed - predicted, (targets,), physical units; NaN where nothing was observed.
        score: of this reading; None without a residual, and in warm-up.
        threshold: the level the score had to exceed; None without a score.
        exceeded: whether it did.
        changes: the alerts that opened, got worse or closed at this reading.
    """

    reading: Reading
    predicted: NDArray[np.float64] | None = None
    residual: NDArray[np.float64] | None = None
    score: float | None = None
    threshold: float | None = None
    exceeded: bool = False
    changes: tuple[AlertChange, ...] = ()


@dataclass(slots=True)
class PipelineCounters:
    """Counts since the start; `readings` is `scored` and all of `skipped`, each reading once.

    Attributes:
        readings: that came.
        scored: those with a score.
        warming_up: those without a score because none came yet since the start, or since the states
            were reset.
        after_gap: those whose forecast, or part of whose window, fell into a short gap.
        not_due: those at which a window artifact does not run, or that it gives no forecast for.
        uncompared: those without a value on any channel that is compared, or whose channels were
            missing for so long that their forecasts are not of them yet.
        unusable: those that were not stepped: without a value, or with one missing for which
            nothing can stand in yet.
        backwards: those that were left out because their time went back.
        failed: those at which an error was raised.
        gaps: short gaps.
        restarts: how often the states were reset.
        sensor_faults: how many faults of the sensor were opened.
    """

    readings: int = 0
    scored: int = 0
    warming_up: int = 0
    after_gap: int = 0
    not_due: int = 0
    uncompared: int = 0
    unusable: int = 0
    backwards: int = 0
    failed: int = 0
    gaps: int = 0
    restarts: int = 0
    sensor_faults: int = 0

    @property
    def skipped(self) -> dict[str, int]:
        """How many readings have no score, by the reason."""
        return {reason: getattr(self, reason) for reason in _REASONS}


_REASONS = (
    "warming_up",
    "after_gap",
    "not_due",
    "uncompared",
    "unusable",
    "backwards",
    "failed",
)


class Achieved(NamedTuple):
    """How many alerts there were in how much time: true ones and false ones alike.

    Attributes:
        alerts: of the kind anomaly that were opened.
        days: that the scored readings stand for.
    """

    alerts: int
    days: float

    @property
    def per_day(self) -> float | None:
        """Alerts a day; None before the first score."""
        return self.alerts / self.days if self.days else None
