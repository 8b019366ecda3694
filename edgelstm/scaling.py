"""From physical units to a graph's own values and back.

Normalisation, `z = (x - mean) / std`, and quantisation, `raw = round(z / scale) + zero_point`, are
both affine, and so is their composition: one multiplication and one addition per value.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import ReadingError
from edgelstm.manifest import Manifest, Port

# In standard deviations, for a model that sets no bound itself: a broken sensor's 1e38 would make
# the states of a float model infinite, and then NaN for ever. So large that one bound on the values
# of all channels, whatever their units, is seldom in the way (`InputScaling.plain`).
_LARGEST_INPUT = 1e9


class InputScaling:
    """Physical units, float64 (channels,), to raw values of an input tensor.

    A port whose graph scales itself passes through, and so do tokens. An integer type rounds half
    to even and saturates; where the port has no clip, a million standard deviations bound it.

    Args:
        port: an input.
    """

    def __init__(self, port: Port) -> None:
        tensor = port.tensor
        mean, std = _applied(port)
        scale = tensor.scale or 1.0
        self._gain = 1 / (std * scale)
        self._offset = tensor.zero_point - mean * self._gain
        self._dtype = np.dtype(tensor.dtype)
        self._integer = tensor.scale != 0
        clip = port.clip if port.scaling == "session" else None  # else the graph does it
        bound = (_LARGEST_INPUT if clip is None else clip) / scale
        self._low: Any = tensor.zero_point - bound
        self._high: Any = tensor.zero_point + bound
        if self._integer:
            limits = np.iinfo(self._dtype)
            self._low = max(self._low, limits.min)
            self._high = min(self._high, limits.max)
        elif port.scaling == "graph":  # the graph clips itself, in its own units
            middle, spread = _statistics(port)
            self._low = middle - _LARGEST_INPUT * spread
            self._high = middle + _LARGEST_INPUT * spread
        self._tokens = [c.tokens for c in port.channels if c.tokens is not None]
        self.affine: tuple[NDArray[np.float64], ...] | None = None
        """Gain, offset, and the bounds of the raw values, (channels,) each; None for tokens."""
        if not self._tokens:
            parts = (self._gain, self._offset, self._low, self._high)
            self.affine = tuple(np.broadcast_to(part, self._gain.shape) for part in parts)
        self.plain = 0.0
        """Where every |value| is below this, the raw values are the values themselves."""
        if port.scaling == "graph" and not self._integer and not self._tokens:
            self.plain = float(np.min(np.minimum(-self._low, self._high)))

    def __call__(self, x: NDArray[np.float64]) -> NDArray[Any]:
        """Scales values whose last axis is the channels.

        Raises:
            ReadingError: a token is none.
        """
        if self._tokens:
            return self._check_tokens(x)
        with np.errstate(over="ignore"):  # to infinity, which is bounded below
            raw = x * self._gain
        raw += self._offset
        np.maximum(raw, self._low, out=raw)
        np.minimum(raw, self._high, out=raw)
        if self._integer:
            np.rint(raw, out=raw)
        return raw.astype(self._dtype)

    def _check_tokens(self, x: NDArray[np.float64]) -> NDArray[Any]:
        if ((x < 0) | (x >= self._tokens) | (x != np.rint(x))).any():
            raise ReadingError(
                f"A reading has the tokens {x.tolist()}; this model knows whole numbers from 0 to "
                f"{max(self._tokens) - 1}."
            )
        return x.astype(self._dtype)


class OutputScaling:
    """Raw values of an output tensor to physical units, float64 (targets,).

    Args:
        port: an output.
    """

    def __init__(self, port: Port) -> None:
        mean, std = _applied(port)
        self.unit = std * (port.tensor.scale or 1.0)
        """What one raw unit is worth in physical units, (targets,)."""
        self.offset = mean - port.tensor.zero_point * self.unit
        """The physical value of raw 0, (targets,)."""
        self.plain = port.scaling == "graph" and not port.tensor.scale
        """Whether raw values are physical units."""

    def __call__(self, raw: NDArray[Any]) -> NDArray[np.float64]:
        """Scales values whose last axis is the targets."""
        if self.plain:
            return raw.astype(np.float64)
        y: NDArray[np.float64] = raw * self.unit
        y += self.offset
        return y


class Units:
    """From readings in physical units to the raw values of a graph's inputs, and back.

    Args:
        manifest: of the artifact.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.inputs = [InputScaling(port) for port in manifest.inputs]
        self.outputs = [OutputScaling(port) for port in manifest.outputs]
        self.columns = _columns(manifest.inputs)
        """Where the channels of each input lie in a reading."""

    def to_raw(self, x: NDArray[np.float64]) -> list[NDArray[Any]]:
        """Readings, (..., channels), finite, as raw values of each input.

        Raises:
            ReadingError: a token is none.
        """
        return [f(x[..., part]) for f, part in zip(self.inputs, self.columns, strict=True)]

    def from_raw(self, raw: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """Raw values of each output, (..., targets of that output), as (..., targets)."""
        if len(raw) == 1:
            return self.outputs[0](raw[0])
        return np.concatenate([f(y) for f, y in zip(self.outputs, raw, strict=True)], axis=-1)


def _columns(ports: Sequence[Port]) -> list[slice]:
    ends = np.cumsum([0, *(len(port.channels) for port in ports)]).tolist()
    return [slice(start, stop) for start, stop in itertools.pairwise(ends)]


def _applied(port: Port) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and std that the session applies, (channels,) each."""
    if port.scaling == "graph":
        return np.zeros(len(port.channels)), np.ones(len(port.channels))
    return _statistics(port)


def _statistics(port: Port) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array([c.mean for c in port.channels]), np.array([c.std for c in port.channels])
