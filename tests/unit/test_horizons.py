from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm_quantize.horizons import choose_horizon


def explained(shares: dict[int, list[float]]) -> Callable[[int], NDArray[np.float64] | None]:
    return lambda horizon: np.array(shares[horizon]) if horizon in shares else None


@pytest.mark.parametrize(
    ("shares", "horizon"),
    [
        ({1: [0.3]}, 1),
        ({1: [0.98], 2: [0.9], 4: [0.6], 8: [0.49]}, 8),
        ({h: [0.9] for h in (1, 2, 4, 8, 16, 32)}, 32),  # no further
        ({1: [0.9, 0.2], 2: [0.7, 0.1]}, 2),  # the mean of the targets counts
        ({1: [0.9], 2: [0.8]}, 2),  # too short a recording for 4
        ({1: []}, 1),  # nothing varies
        ({}, 1),
    ],
)
def test_horizon_is_the_shortest_at_which_a_forecast_is_not_easy(
    shares: dict[int, list[float]], horizon: int
) -> None:
    assert choose_horizon(explained(shares)) == horizon


def test_horizon_is_no_longer_than_allowed() -> None:
    assert choose_horizon(lambda _: np.array([0.9]), longest=5) == 4
