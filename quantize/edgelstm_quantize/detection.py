"""Calibrates scorer and threshold on the residuals of a recording."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm.manifest import Detection
from edgelstm.scorer import Scorer
from edgelstm.threshold import fit_tail

SPAN = 20
_SETTLING = 60  # first scores left out of the tail: the average needs three spans to fill
MIN_RESIDUALS = 150


def calibrate_detection(
    residuals: NDArray[np.float64],
    spread: NDArray[np.float64],
    kind: str,
    false_alarms_per_day: float,
) -> Detection:
    """Measures residual scales and the tail of the score.

    Args:
        residuals: physical units, (readings, targets), in time order; rows with NaN are left out.
        spread: standard deviation of each target's channel, (targets,). A hundredth of it is
            added to the scales, so that a channel that is forecast nearly exactly does not alarm
            on rounding; for a constant channel one unit counts.
        kind: where the residuals come from, see `Detection.residuals`.
        false_alarms_per_day: the budget to note.

    Raises:
        RecordingError: fewer than 150 residuals.
    """
    known = residuals[np.isfinite(residuals).all(axis=1)]
    if len(known) < MIN_RESIDUALS:
        raise RecordingError(
            f"The calibration has {len(known)} residuals; a threshold needs {MIN_RESIDUALS}."
        )
    constant = spread <= 1e-9 * np.abs(known).max(initial=1.0)
    scale = np.sqrt((known**2).mean(axis=0)) + 0.01 * np.where(constant, 1.0, spread)
    unfitted = Detection(
        tuple(float(s) for s in scale), SPAN, 1.0, 1.0, len(known), kind, false_alarms_per_day
    )
    tail = fit_tail(scores(known, unfitted)[_SETTLING:])
    return Detection(
        unfitted.residual_scale,
        SPAN,
        tail.start,
        tail.scale,
        len(known),
        kind,
        false_alarms_per_day,
    )


def scores(residuals: NDArray[np.float64], detection: Detection) -> NDArray[np.float64]:
    """The score of each residual, (readings,), rows with NaN left out."""
    scorer = Scorer(detection.residual_scale, detection.span)
    known = residuals[np.isfinite(residuals).all(axis=1)]
    return np.array([scorer.update(r) for r in known])
