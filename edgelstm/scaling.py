"""From physical units to a graph's own values and back.

Normalisation, `z = (x - mean) / std`, and quantisation, `raw = round(z / scale) + zero_point`, are
both affine, and so is their composition: one multiplication and one addition per value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.manifest import Channel, TensorSpec

# In standard deviations, for a model that sets no bound itself: a broken sensor's 1e38 would make
# the states of a float model infinite, and then NaN for ever.
_LARGEST_INPUT = 1e6


class InputScaling:
    """Physical units, float64 (channels,), to raw values of the input tensor.

    Args:
        channels: mean and std of each input.
        clip: bound on |normalised value|, or None for a million.
        tensor: the input tensor; an integer type rounds half to even and saturates.
    """

    def __init__(self, channels: Sequence[Channel], clip: float | None, tensor: TensorSpec) -> None:
        mean, std = _statistics(channels)
        scale = tensor.scale or 1.0
        self._gain = 1 / (std * scale)
        self._offset = tensor.zero_point - mean * self._gain
        self._dtype = np.dtype(tensor.dtype)
        self._integer = tensor.scale != 0
        bound = (_LARGEST_INPUT if clip is None else clip) / scale
        self._low, self._high = tensor.zero_point - bound, tensor.zero_point + bound
        if self._integer:
            limits = np.iinfo(self._dtype)
            self._low = max(self._low, limits.min)
            self._high = min(self._high, limits.max)

    def __call__(self, x: NDArray[np.float64]) -> NDArray[Any]:
        """Scales values whose last axis is the channels."""
        raw = x * self._gain
        raw += self._offset
        np.maximum(raw, self._low, out=raw)
        np.minimum(raw, self._high, out=raw)
        if self._integer:
            np.rint(raw, out=raw)
        return raw.astype(self._dtype)


class OutputScaling:
    """Raw values of the output tensor to physical units, float64 (targets,).

    Args:
        targets: mean and std of each output.
        tensor: the output tensor.
    """

    def __init__(self, targets: Sequence[Channel], tensor: TensorSpec) -> None:
        mean, std = _statistics(targets)
        self.unit = std * (tensor.scale or 1.0)
        """What one raw unit is worth in physical units, (targets,)."""
        self._offset = mean - tensor.zero_point * self.unit

    def __call__(self, raw: NDArray[Any]) -> NDArray[np.float64]:
        """Scales values whose last axis is the targets."""
        y: NDArray[np.float64] = raw * self.unit
        y += self._offset
        return y


def _statistics(channels: Sequence[Channel]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array([c.mean for c in channels]), np.array([c.std for c in channels])
