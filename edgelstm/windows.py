"""The last readings of a window artifact, and when it is due to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import StateError
from edgelstm.manifest import Port
from edgelstm.state import ANOTHER_MODEL

_DUE = "due"


class Windows:
    """Holds the last `length` raw readings of every input.

    Args:
        ports: the inputs.
        length: readings in a window.
        hop: readings from one run to the next.
        arrays: where the windows are kept; by default they have memory of their own.
    """

    def __init__(
        self,
        ports: Sequence[Port],
        length: int,
        hop: int,
        arrays: Sequence[NDArray[Any]] | None = None,
    ) -> None:
        self._length, self._hop = length, hop
        self._names = [port.tensor.name for port in ports]
        self.arrays = arrays or [np.zeros(port.tensor.shape, port.tensor.dtype) for port in ports]
        """The windows as the graph takes them, (1, length, channels), oldest reading first.

        Of tokens (1, length). What lies before the first reading is of no meaning.
        """
        self._filled = 0
        self._due = length

    @property
    def last_missing(self) -> bool:
        """Whether it is time to run after the next reading."""
        return self._due == 1

    def push(self, readings: Sequence[NDArray[Any]]) -> bool:
        """Takes the raw reading of each input, (channels,); tells whether it is time to run."""
        for array, reading in zip(self.arrays, readings, strict=True):
            array[0, :-1] = array[0, 1:]
            array[0, -1] = reading.reshape(array.shape[2:])
        self._filled = min(self._filled + 1, self._length)
        self._due -= 1
        if self._due:
            return False
        self._due = self._hop
        return True

    def empty(self) -> dict[str, NDArray[Any]]:
        """The state at the start."""
        return {
            **{n: a[0, :0].copy() for n, a in zip(self._names, self.arrays, strict=True)},
            _DUE: np.array(self._length),
        }

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """The readings so far of each input by name, oldest first, and when it runs: a copy."""
        start = self._length - self._filled
        return {
            **{n: a[0, start:].copy() for n, a in zip(self._names, self.arrays, strict=True)},
            _DUE: np.array(self._due),
        }

    @state.setter
    def state(self, state: Mapping[str, NDArray[Any]]) -> None:
        if state.keys() != {*self._names, _DUE}:
            raise StateError(ANOTHER_MODEL)
        kept = [state[name] for name in self._names]
        filled, due = len(kept[0]), int(state[_DUE])
        fits = all(
            value.shape == (filled, *array.shape[2:]) and value.dtype == array.dtype
            for value, array in zip(kept, self.arrays, strict=True)
        )
        if filled < self._length:  # it runs for the first time when it is full
            fits = fits and due == self._length - filled
        else:
            fits = fits and filled == self._length and 0 < due <= self._hop
        if not fits:
            raise StateError(ANOTHER_MODEL)
        for value, array in zip(kept, self.arrays, strict=True):
            array[0, self._length - filled :] = value
        self._filled, self._due = filled, due
