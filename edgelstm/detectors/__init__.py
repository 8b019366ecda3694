"""Which scorer and which threshold: registries by name, and what a detection makes of them.

| scorer | says |
|---|---|
| `ewma` | residuals in units of the calibration's scale; the default |
| `robust` | residuals in units of their own recent median absolute deviation |

| threshold | its level |
|---|---|
| `adaptive-tail` | of the peaks of excursions, follows the scores slowly; the default |
| `spot` | of a generalised Pareto tail, fitted to the latest peaks |
| `conformal` | a quantile of the latest scores, corrected by the alarms that there were |
| `static-quantile` | of the calibration alone, never moves |

The registries name the modules, so that only what is used is imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from edgelstm.errors import ConfigurationError
from edgelstm.manifest import Detection
from edgelstm.scorer import Scorer
from edgelstm.threshold import AdaptiveTail, Threshold

_SCORERS: Mapping[str, tuple[str, str]] = {
    "ewma": ("edgelstm.scorer", "EwmaScorer"),
    "robust": ("edgelstm.detectors.robust", "RobustScorer"),
}
_THRESHOLDS: Mapping[str, tuple[str, str]] = {
    "adaptive-tail": ("edgelstm.threshold", "AdaptiveTail"),
    "spot": ("edgelstm.detectors.spot", "Spot"),
    "conformal": ("edgelstm.detectors.conformal", "AdaptiveConformal"),
    "static-quantile": ("edgelstm.detectors.static_quantile", "StaticQuantile"),
}

SCORERS = tuple(_SCORERS)
"""The names that `make_scorer` knows, the default first."""
THRESHOLDS = tuple(_THRESHOLDS)
"""The names that `make_threshold` knows, the default first."""

__all__ = ["SCORERS", "THRESHOLDS", "make_scorer", "make_threshold"]


def make_scorer(detection: Detection) -> Scorer:
    """The scorer that a detection names, as it is before the first reading.

    Raises:
        ConfigurationError: there is no scorer of that name.
    """
    cls = _look_up(_SCORERS, detection.scorer, "scorer")
    scorer: Scorer = cls(detection.residual_scale, detection.span)
    return scorer


def make_threshold(
    detection: Detection, readings_per_false_alarm: float, kind: str | None = None
) -> Threshold:
    """A threshold for the scores of a detection, as it is before the first score.

    Args:
        detection: with the scores on the calibration recording.
        readings_per_false_alarm: the budget: scores per false alarm.
        kind: a name from `THRESHOLDS`; by default the detection's own.

    Raises:
        ConfigurationError: there is no threshold of that name, or it cannot keep the budget.
    """
    cls = _look_up(_THRESHOLDS, kind or detection.threshold, "threshold")
    given = detection.tail if cls is AdaptiveTail else detection
    threshold: Threshold = cls(given, readings_per_false_alarm)
    return threshold


def _look_up(registry: Mapping[str, tuple[str, str]], name: str, what: str) -> Any:
    if name not in registry:
        raise ConfigurationError(f"No {what} is called {name!r}; try {', '.join(registry)}.")
    module, cls = registry[name]
    return getattr(importlib.import_module(module), cls)
