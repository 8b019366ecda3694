from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.recording import Recording
from edgelstm_quantize.horizons import explained, find_horizon
from edgelstm_quantize.training_data import prepare

Floats = NDArray[np.float64]


def autoregression(phi: float, count: int = 2000, seed: int = 0) -> Floats:
    noise = np.random.default_rng(seed).normal(size=count)
    x = np.zeros(count)
    for i in range(1, count):
        x[i] = phi * x[i - 1] + noise[i]
    return x


def horizon(*columns: Floats, **options: object) -> int:
    recording = Recording.from_array(np.column_stack(columns))
    return find_horizon(prepare([recording], **options))  # type: ignore[arg-type]  # in tests only


@pytest.mark.parametrize(
    ("phi", "expected"),
    # The correlation over h readings is phi^h, and its square is below 1/2 from then on.
    [(0.0, 1), (0.7, 1), (0.8, 2), (0.9, 4), (0.95, 8), (0.99, 32), (0.999, 32)],
)
def test_smooth_signals_are_forecast_further_ahead(phi: float, expected: int) -> None:
    assert horizon(autoregression(phi, 20_000)) == expected


def test_mean_of_the_targets_counts() -> None:
    smooth, rough = autoregression(0.99, seed=1), autoregression(0.0, seed=2)
    assert horizon(smooth, rough) == 1
    assert horizon(smooth, rough, targets=("channel_0",)) > 8


def test_constant_target_has_no_say() -> None:
    smooth = autoregression(0.9, 20_000)
    assert horizon(smooth, np.ones(20_000)) == horizon(smooth) == 4


def test_short_recording_is_not_forecast_further_than_it_can_tell() -> None:
    assert horizon(autoregression(0.999, 300)) < horizon(autoregression(0.999, 2000)) == 32


def test_squared_correlation_by_hand() -> None:
    now = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [np.nan, 5.0]])
    then = np.array([[2.0, 5.0], [2.0, 5.0], [4.0, 5.0], [9.0, 5.0]])
    # Of the first column 3 pairs: deviations -1, 0, 1 and -2/3, -2/3, 4/3; the second is constant.
    assert explained(now, then) == pytest.approx([2**2 / (2 * (4 / 9 + 4 / 9 + 16 / 9))])
