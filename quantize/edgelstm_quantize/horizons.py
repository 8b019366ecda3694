"""How far ahead to forecast, when the user does not say.

One step ahead, the forecast of a signal that is smooth for its sample period is nearly the reading
itself: it follows an anomaly instead of showing it. So the horizon is the shortest of a few at
which the reading of now explains less than half of the variance of the reading then: at which their
correlation, squared, is below one half. Signals that change from reading to reading stay at 1
(docs/decisions/0018).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgelstm_quantize.encoding import ROUNDING
from edgelstm_quantize.limits import training_readings
from edgelstm_quantize.sequences import ahead_of, blocks, longest_run, outside
from edgelstm_quantize.training_data import TrainingData

HORIZONS = (1, 2, 4, 8, 16, 32)
_EXPLAINED = 0.5
_FOLDS = 3
_LEAST_STRETCH = 16  # readings that a training sequence has at least, beside the horizon


def find_horizon(data: TrainingData) -> int:
    """The shortest horizon at which a forecast is not easy, as far as the data allow.

    The mean over the targets that vary counts. Missing values have no part.
    """
    columns = [data.channels.index(name) for name in data.targets]
    values = np.where(data.known, data.values, np.nan)[:, columns]
    stretch = min(
        longest_run(data.segments, outside(block, len(data))) for block in blocks(len(data), _FOLDS)
    )
    chosen = 1
    for horizon in HORIZONS:
        if len(data) < training_readings(horizon) or stretch < horizon + _LEAST_STRETCH:
            break
        chosen = horizon
        shares = explained(values, ahead_of(values, horizon, data.segments))
        if not shares.size or shares.mean() < _EXPLAINED:
            break
    return chosen


def explained(now: NDArray[np.float64], then: NDArray[np.float64]) -> NDArray[np.float64]:
    """The squared correlation of each column with the same column later.

    Args:
        now: (readings, targets), NaN where a value is missing.
        then: the readings that much later, likewise.

    Returns:
        Of each target that varies, (varying targets,).
    """
    shares = []
    for x, y in zip(now.T, then.T, strict=True):
        both = np.isfinite(x) & np.isfinite(y)
        if not both.any():
            continue
        levels = x[both].mean(), y[both].mean()
        x, y = x[both] - levels[0], y[both] - levels[1]
        if x.std() > ROUNDING * abs(levels[0]) and y.std() > ROUNDING * abs(levels[1]):
            shares.append(float(x @ y) ** 2 / (float(x @ x) * float(y @ y)))
    return np.array(shares)
