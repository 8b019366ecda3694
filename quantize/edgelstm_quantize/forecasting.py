"""Fits a forecaster: the linear part solved by ridge regression, the network to what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm.reach import Reach
from edgelstm_quantize import ridge
from edgelstm_quantize.encoding import Encoding
from edgelstm_quantize.forward import forward
from edgelstm_quantize.sequences import (
    Batch,
    Span,
    ahead_of,
    behind,
    longest_run,
    outside,
    reaches,
    spans,
)
from edgelstm_quantize.training_data import TrainingData

SETTLING = 8  # steps of a sequence from zero states that are left out of every loss and residual
_CROP = 64  # steps of a training sequence
_BATCH = 8, 32  # sequences in an iteration, of a short recording and of a long one
_READINGS_A_SEQUENCE = 250  # of the recording for each sequence of an iteration, between these
_NOISE = 0.3  # on the input, as a share of what the linear part cannot forecast
_JUDGED = 64  # steps of a held-out sequence that count
_RUN_UP = 192  # steps before them; states that go astray later than a crop is long show there
_MOST_JUDGED = 256  # held-out sequences; more say nothing new about when to stop


class Forecasting:
    """What a forecaster is fitted to and judged by.

    Args:
        data: to train on.
        encoding: of its channels.
        horizon: steps ahead.
        folds: the blocks [start, stop) of readings that are held out in turn.

    Raises:
        RecordingError: no stretch without a gap is long enough.
    """

    def __init__(
        self,
        data: TrainingData,
        encoding: Encoding,
        horizon: int,
        folds: list[tuple[int, int]],
    ) -> None:
        n = len(data)
        columns = [data.channels.index(name) for name in data.targets]
        self._targets = encoding.normalise(data.values)[:, columns]
        self._horizon, self._segments = horizon, data.segments
        self._features = encoding.features(data.values)
        power = np.ones(encoding.width)
        first_category = len(encoding.numbers)
        power[first_category:] = self._features[:, first_category:].mean(axis=0)
        self._penalty = ridge.penalty(power, len(data.channels))
        self._stacked = ridge.stack(self._features, data.segments)
        self._ahead = ahead_of(self._targets, horizon, data.segments)
        # What is beyond the clip is carried on outside the model, see edgelstm.reach.
        clip = np.full(len(columns), encoding.clip)
        self._ahead -= Reach(-clip, clip).carried(self._targets)
        known = ahead_of(data.known[:, columns].astype(np.float64), horizon, data.segments)
        self._known = known == 1.0  # NaN, where there is nothing ahead, is not
        settled = reaches(data.segments, np.ones(n, bool), SETTLING - 1, 0)
        self._judged = self._known & settled[:, None]
        self._crop = self._crop_length(folds)
        self._noise = self._noise_of(data, encoding)
        self._most = max(len(self._spans(block)) for block in folds)
        self._forward: Callable[[NDArray[Any]], NDArray[np.float64]] | None = None

    def solve(self, seen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The linear part from the rows that are seen, (taps, features, targets)."""
        usable = reaches(self._segments, seen, ridge.TAPS - 1, self._horizon)
        return ridge.solve(self._stacked, self._ahead, self._known & usable[:, None], self._penalty)

    def draw(
        self, linear: NDArray[np.float64], seen: NDArray[np.bool_], rng: np.random.Generator
    ) -> Callable[[], Batch]:
        """Gives crops of what is seen, with noise on the numbers that go in.

        What a network should give is what the linear part leaves of the targets.
        """
        crop, n = self._crop, len(seen)
        batch = int(np.clip(n // _READINGS_A_SEQUENCE, *_BATCH))
        starts = np.flatnonzero(reaches(self._segments, seen, 0, crop + self._horizon - 1))

        def one() -> Batch:
            rows = rng.choice(starts, batch)[:, None] + np.arange(crop)
            noise = rng.standard_normal((*rows.shape, len(self._noise))) * self._noise
            x = self._features[rows] + noise
            left = self._ahead[rows] - ridge.apply_to_sequences(x, linear)
            weight = self._known[rows].copy()
            weight[:, :SETTLING] = False
            return _batch(x, left, weight)

        return one

    def held_out(self, linear: NDArray[np.float64], block: tuple[int, int]) -> Batch:
        """The block's forecasts as sequences of one length, to judge a fit by."""
        features, targets = self._features.shape[1], self._targets.shape[1]
        steps = _RUN_UP + _JUDGED
        left = self._ahead - ridge.apply(self._stacked, linear)
        x = np.zeros((self._most, steps, features))
        y = np.zeros((self._most, steps, targets))
        weight = np.zeros((self._most, steps, targets), bool)
        for i, found in enumerate(self._spans(block)):
            rows = slice(found.start, found.stop)
            length = found.stop - found.start
            x[i, :length] = self._features[rows]
            y[i, :length] = left[rows]
            counted = slice(found.counted - found.start, length)
            weight[i, counted] = self._judged[found.counted : found.stop]
        return _batch(x, y, weight)

    def residuals(
        self, network: keras.Model | None, linear: NDArray[np.float64], block: tuple[int, int]
    ) -> NDArray[np.float64]:
        """The readings of a block less their forecasts, normalised, (rows of the block, targets).

        The states run from the start of each segment, as they do on the device. NaN where a value
        was missing, and for the first readings of a segment.

        Args:
            network: that corrects the linear part; None where there is none.
            linear: from `solve`.
            block: the rows [start, stop).
        """
        residuals = self._ahead - ridge.apply(self._stacked, linear)
        if network is not None:
            self._forward = self._forward or forward(network)
            for start, stop in self._segments:
                end = min(stop, block[1] - self._horizon)
                if start < end and stop > block[0]:
                    seen = self._features[start:end].astype(np.float32)
                    residuals[start:end] -= self._forward(seen)
        residuals[~self._judged] = np.nan
        return behind(residuals, self._horizon, self._segments)[slice(*block)]

    def _spans(self, block: tuple[int, int]) -> list[Span]:
        rows = (block[0] - self._horizon, block[1] - self._horizon)
        return spans(self._segments, rows, length=_JUDGED, run_up=_RUN_UP, most=_MOST_JUDGED)

    def _crop_length(self, folds: list[tuple[int, int]]) -> int:
        n = len(self._targets)
        longest = min(longest_run(self._segments, outside(block, n)) for block in folds)
        crop = min(_CROP, n // (2 * len(folds)), longest - self._horizon)
        if crop < 2 * SETTLING:
            raise RecordingError(
                f"No stretch without a gap is long enough: a forecast {self._horizon} "
                f"reading{'s' * (self._horizon > 1)} ahead needs {2 * SETTLING + self._horizon} "
                "readings in a row, outside each third of the recording in turn; record for longer."
            )
        return crop

    def _noise_of(self, data: TrainingData, encoding: Encoding) -> NDArray[np.float64]:
        """Of each feature; none on categories."""
        numbers = encoding.numbers
        later = ahead_of(encoding.normalise(data.values)[:, numbers], 1, data.segments)
        known = ahead_of(data.known[:, numbers].astype(np.float64), 1, data.segments) == 1.0
        known &= reaches(data.segments, np.ones(len(data), bool), ridge.TAPS - 1, 1)[:, None]
        surprise = later - ridge.apply(
            self._stacked, ridge.solve(self._stacked, later, known, self._penalty)
        )
        noise = np.zeros(encoding.width)
        squares = np.where(known, surprise, 0.0) ** 2
        noise[: len(numbers)] = _NOISE * np.sqrt(
            squares.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        )
        return noise


def _batch(x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.bool_]) -> Batch:
    # What does not count may be NaN, and NaN times zero is NaN.
    y = np.where(weight, y, 0.0)
    return Batch(x.astype(np.float32), y.astype(np.float32), weight.astype(np.float32))
