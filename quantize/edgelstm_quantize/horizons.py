"""How far ahead to forecast, when the user does not say.

One step ahead, the forecast of a signal that is smooth for its sample period is nearly the reading
itself: it follows an anomaly instead of showing it. So the horizon is the shortest of a few at
which the linear forecast explains less than half of the variance of readings that it has not seen.
Signals that change from reading to reading stay at 1 (docs/decisions/0018).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

HORIZONS = (1, 2, 4, 8, 16, 32)
_EXPLAINED = 0.5


def choose_horizon(
    explained_by: Callable[[int], NDArray[np.float64] | None], longest: int = HORIZONS[-1]
) -> int:
    """The shortest horizon at which a forecast is no longer easy.

    Args:
        explained_by: for a horizon, the share of its variance that the out-of-fold linear forecast
            explains, of each target that varies, (targets,); None where there are too few readings.
        longest: to go no further than this.
    """
    chosen = 1
    for horizon in HORIZONS:
        if horizon > longest:
            break
        explained = explained_by(horizon)
        if explained is None:
            break
        chosen = horizon
        if not explained.size or explained.mean() < _EXPLAINED:
            break
    return chosen
