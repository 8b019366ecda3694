"""What training and calibration need at least, apart so that it can be checked cheaply."""

from __future__ import annotations

MIN_TRAINING_READINGS = 300  # three folds, each long enough to tell a forecast from luck
MIN_CALIBRATION_READINGS = 250  # with fewer than about 200 for the ranges a model is ruined
