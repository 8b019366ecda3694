"""How far a model's inputs reach, and what becomes of a channel that goes further.

A model sees no more than its inputs can hold: `train` clips at 8 standard deviations, and the
tensors of an int8 graph end where the calibration ended. A channel that drifts beyond, as a
thermocouple does while a machine gets warm, would be forecast at the edge for ever, and its
residual would grow with the drift. So the part that the model does not see is added to the
forecast, at nine tenths: of a slow drift little is left in the residual, and a channel that stays
away from all that was ever known still shows (docs/decisions/0018).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgelstm.manifest import Manifest, Port

CARRIED = 0.9
"""The share of what is beyond the reach that is thought to be there when the forecast is due."""


class Reach:
    """The values that a model sees whole, per channel.

    Args:
        low: physical units, (channels,); -inf where there is no bound.
        high: likewise.
    """

    def __init__(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
        self.low, self.high = low, high

    def carried(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """What is to be added to a forecast made at `x`, (..., channels), physical units.

        Missing values, NaN, carry nothing.
        """
        beyond: NDArray[np.float64] = x - np.minimum(np.maximum(x, self.low), self.high)
        beyond[np.isnan(beyond)] = 0.0
        return CARRIED * beyond


def reach_of(manifest: Manifest) -> Reach:
    """The reach of a model's channels, in their order, as its inputs' clips and types have it."""
    ends = [_of_port(port) for port in manifest.inputs]
    return Reach(
        np.concatenate([low for low, _ in ends]), np.concatenate([high for _, high in ends])
    )


def _of_port(port: Port) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean = np.array([channel.mean for channel in port.channels])
    std = np.array([channel.std for channel in port.channels])
    bound = np.inf if port.clip is None else port.clip
    low, high = mean - bound * std, mean + bound * std
    tensor = port.tensor
    if tensor.scale:
        limits = np.iinfo(tensor.dtype)
        ends = (np.array([limits.min, limits.max], np.float64) - tensor.zero_point) * tensor.scale
        if port.scaling == "session":
            low = np.maximum(low, mean + ends[0] * std)
            high = np.minimum(high, mean + ends[1] * std)
        else:
            low, high = np.maximum(low, ends[0]), np.minimum(high, ends[1])
    return low, high
