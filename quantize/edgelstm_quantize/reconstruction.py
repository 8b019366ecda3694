"""Fits an autoencoder: windows of readings are squeezed through few numbers and drawn anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm_quantize.encoding import Encoding
from edgelstm_quantize.ridge import principal_axes
from edgelstm_quantize.sequences import Batch, outside, reaches
from edgelstm_quantize.training_data import TrainingData

_T = TypeVar("_T", bound=np.generic)
_BATCH = 32
_NOISE = 0.1  # on the input, in standard deviations
_MOST_JUDGED = 256  # held-out windows; more say nothing new about when to stop
_AT_ONCE = 512  # windows


class Reconstruction:
    """What an autoencoder is fitted to and judged by.

    Args:
        data: to train on; without categories, all its channels targets.
        encoding: of its channels.
        window: readings in a window.
        units: numbers that a window is squeezed through.
        folds: the blocks [start, stop) of readings that are held out in turn.

    Raises:
        RecordingError: no stretch without a gap is long enough.
    """

    def __init__(
        self,
        data: TrainingData,
        encoding: Encoding,
        window: int,
        units: int,
        folds: list[tuple[int, int]],
    ) -> None:
        self._segments, self._window, self._units = data.segments, window, units
        self._features = encoding.features(data.values)
        self._z = encoding.normalise(data.values)
        self._known = data.known
        for block in folds:
            for rows in (outside(block, len(data)), ~outside(block, len(data))):
                if not self._ends(rows).size:
                    raise RecordingError(
                        f"No stretch without a gap is long enough: a window of {window} readings "
                        "must fit into each third of the recording; record for longer, or choose "
                        "a shorter window."
                    )
        self._most = max(len(self._judged_ends(block)) for block in folds)
        self._forward: Callable[[NDArray[np.float32]], NDArray[np.float64]] | None = None

    def solve(self, seen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The axes of the linear reconstruction, (window x channels, axes).

        There are as many as units, but no more than a quarter of the numbers in a window: all of
        them would reconstruct everything.
        """
        windows = self._cut(self._features, self._ends(seen))
        rows = windows.reshape(len(windows), -1)
        return principal_axes(rows, min(self._units, max(1, rows.shape[1] // 4)))

    def draw(
        self, _linear: NDArray[np.float64], seen: NDArray[np.bool_], rng: np.random.Generator
    ) -> Callable[[], Batch]:
        """Gives windows of what is seen, with noise on what goes in."""
        ends = self._ends(seen)

        def one() -> Batch:
            chosen = rng.choice(ends, _BATCH)
            batch = self._batch(chosen)
            noise = rng.standard_normal(batch.x.shape).astype(np.float32) * np.float32(_NOISE)
            return Batch(batch.x + noise, batch.y, batch.weight)

        return one

    def held_out(self, _linear: NDArray[np.float64], block: tuple[int, int]) -> Batch:
        """Windows of a block, to judge a fit by; as many for each block."""
        batch = self._batch(self._judged_ends(block))
        more = self._most - len(batch.x)
        padding = ((0, more), (0, 0), (0, 0))
        return Batch(*(np.pad(part, padding) for part in (batch.x, batch.y, batch.weight)))

    def residuals(
        self, network: keras.Model | None, linear: NDArray[np.float64], block: tuple[int, int]
    ) -> NDArray[np.float64]:
        """What reconstruction misses, normalised, (rows of the block, window x channels).

        Row t is of the window that ends at t. NaN where a value was missing, and in the first
        rows, whose windows began before the block.

        Args:
            network: that reconstructs; None takes the linear reconstruction.
            linear: from `solve`.
            block: the rows [start, stop).
        """
        residuals = np.full((block[1] - block[0], len(linear)), np.nan)
        ends = self._ends(~outside(block, len(self._z)))
        for i in range(0, len(ends), _AT_ONCE):
            some = ends[i : i + _AT_ONCE]
            x = self._cut(self._features, some)
            if network is None:
                y = (x.reshape(len(some), -1) @ linear @ linear.T).reshape(x.shape)
            else:
                self._forward = self._forward or _forward(network)
                y = self._forward(x.astype(np.float32))
            missed = self._cut(self._z, some) - y
            missed[~self._cut(self._known, some)] = np.nan
            residuals[some - block[0]] = missed.reshape(len(some), -1)
        return residuals

    def _ends(self, rows: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Where the windows end that lie within some rows, bool (readings,)."""
        return np.flatnonzero(reaches(self._segments, rows, self._window - 1, 0))

    def _judged_ends(self, block: tuple[int, int]) -> NDArray[np.intp]:
        ends = self._ends(~outside(block, len(self._z)))
        few = np.linspace(0, len(ends) - 1, min(len(ends), _MOST_JUDGED)).astype(int)
        chosen: NDArray[np.intp] = ends[few]
        return chosen

    def _cut(self, values: NDArray[_T], ends: NDArray[np.intp]) -> NDArray[_T]:
        """Windows that end at some rows, (windows, window, channels)."""
        windows: NDArray[_T] = values[ends[:, None] + np.arange(1 - self._window, 1)]
        return windows

    def _batch(self, ends: NDArray[np.intp]) -> Batch:
        return Batch(
            self._cut(self._features, ends).astype(np.float32),
            self._cut(self._z, ends).astype(np.float32),
            self._cut(self._known, ends).astype(np.float32),
        )


def _forward(network: keras.Model) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    spec = tf.TensorSpec((None, *network.inputs[0].shape[1:]), tf.float32)
    traced = tf.function(lambda x: network(x, training=False), input_signature=[spec])
    return lambda x: np.asarray(traced(tf.constant(x)), np.float64)
