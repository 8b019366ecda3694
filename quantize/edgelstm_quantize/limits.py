"""What training and calibration need at least, apart so that it can be checked cheaply."""

from __future__ import annotations

# Three folds of 60 readings leave enough residuals for a threshold; of fewer than 300 in all little
# is told of what a forecast is worth and where the threshold belongs.
MIN_TRAINING_READINGS = 180
FEW_TRAINING_READINGS = 300


def training_readings(horizon: int = 1, window: int | None = None) -> int:
    """The least number of readings to train on.

    Each third must hold what a forecast needs behind it, or several windows.
    """
    third = MIN_TRAINING_READINGS // 3
    return 3 * max(third + horizon - 1, 3 * (window or 0))


# Of calibration, over all recordings. With a fifth held out, 40 leave 32 steps for the ranges and
# 8 to measure fidelity on; below that both are luck.
MIN_STEPS = 40
FEW_STEPS = 200  # below, states have not yet been everywhere they go, and their ranges are short
