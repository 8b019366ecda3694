"""From what a model gives to residuals: observed - predicted, one reading at a time.

A forecast waits until the reading that it is for has come; a reconstruction is compared with the
window that it was made of, at once. Both know when something was missing: a residual is never taken
between two different times.
"""

from __future__ import annotations

import itertools
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import StateError
from edgelstm.manifest import Manifest
from edgelstm.reach import Reach, reach_of


class Comparison(NamedTuple):
    """What was predicted, and how far the reading is from it; both (targets,), physical units.

    Attributes:
        predicted: the forecast for this reading, or the window as the model gives it back.
        residual: observed - predicted; NaN where nothing was observed.
        warm: whether the model's states told of the machine by then, not of how they began.
    """

    predicted: NDArray[np.float64]
    residual: NDArray[np.float64]
    warm: bool


class Residuals(Protocol):
    """Compares what a model gives with what comes."""

    shares_of: NDArray[np.intp]
    """For each target the number of the name in `names` that it belongs to, (targets,)."""
    names: tuple[str, ...]
    """The channels that are compared, in order."""

    def update(
        self,
        observed: Sequence[float],
        output: NDArray[np.float64] | None,
        inputs: Sequence[float] | None = None,
    ) -> Comparison | None:
        """Takes a reading and what its step gave.

        Args:
            observed: (channels,), physical units; NaN where there is nothing to compare.
            output: (targets,); None where the model gave nothing.
            inputs: what the model was given, (channels,), with a stand-in where a value is
                missing; by default what was observed.

        Returns:
            The comparison that became possible; None where there is none.
        """

    def gap(self, missing: int) -> None:
        """Is told how many readings are missing before the next; a few only."""

    def reset(self) -> None:
        """Forgets everything: the model's states were reset."""

    @property
    def state(self) -> Any:
        """What is remembered: a frozen value, which can be set again.

        Setting that of another model raises a StateError and changes nothing.
        """

    @state.setter
    def state(self, state: Any) -> None: ...


@dataclass(frozen=True)
class PendingForecast:
    """A forecast: in how many readings it is due, whether it counts, and its values."""

    due: int
    warm: bool
    values: tuple[float, ...]


@dataclass(frozen=True)
class ForecastState:
    """What `Forecasts` remembers: how often the model ran, and the forecasts not yet compared."""

    runs: int
    pending: tuple[PendingForecast, ...]


class Forecasts:
    """Forecasts of any horizon, each kept until its reading comes.

    What of a channel is beyond the reach of the model is carried over to its forecast, see
    `edgelstm.reach`. After a gap the forecasts for the readings that are missing are dropped; those
    for later ones are still for the right time.

    Args:
        manifest: of a model that forecasts.
    """

    def __init__(self, manifest: Manifest) -> None:
        channels = [channel.name for channel in manifest.channels]
        self.names = tuple(target.name for target in manifest.targets)
        self.shares_of = np.arange(len(self.names))
        columns = [channels.index(name) for name in self.names]
        self._columns = None if columns == list(range(len(channels))) else columns
        whole = reach_of(manifest)
        self._reach = Reach(whole.low[columns], whole.high[columns])
        self._ends = list(zip(self._reach.low.tolist(), self._reach.high.tolist(), strict=True))
        self._horizon, self._warm_up = manifest.horizon, manifest.warm_up
        # Written anew at each reading: making an array of a tuple costs twice as much.
        self._observed = np.empty(len(self.names))
        self._memory = self._observed.data
        self._write = struct.Struct(f"{len(self.names)}d").pack_into
        self._runs = 0
        self._now = 0
        self._pending: deque[tuple[int, bool, NDArray[np.float64]]] = deque()

    def update(
        self,
        observed: Sequence[float],
        output: NDArray[np.float64] | None,
        inputs: Sequence[float] | None = None,
    ) -> Comparison | None:
        """See `Residuals.update`."""
        now = self._now
        self._now = now + 1
        pending = self._pending
        due = pending.popleft() if pending and pending[0][0] == now else None
        given = observed if inputs is None else inputs
        if self._columns is not None:
            observed = [observed[k] for k in self._columns]
            given = [given[k] for k in self._columns]
        if output is not None:
            self._runs += 1
            for value, (low, high) in zip(given, self._ends, strict=True):
                if not low <= value <= high:
                    output = output + self._reach.carried(np.array(given))
                    break
            pending.append((now + self._horizon, self._runs >= self._warm_up, output))
        if due is None:
            return None
        _, warm, predicted = due
        self._write(self._memory, 0, *observed)
        return Comparison(predicted, self._observed - predicted, warm)

    def gap(self, missing: int) -> None:
        """See `Residuals.gap`."""
        self._now += missing
        while self._pending and self._pending[0][0] < self._now:
            self._pending.popleft()

    def reset(self) -> None:
        """See `Residuals.reset`."""
        self._runs = self._now = 0
        self._pending.clear()

    @property
    def state(self) -> ForecastState:
        """See `Residuals.state`."""
        return ForecastState(
            self._runs,
            tuple(
                PendingForecast(due - self._now, warm, tuple(y.tolist()))
                for due, warm, y in self._pending
            ),
        )

    @state.setter
    def state(self, state: ForecastState) -> None:
        if not (
            isinstance(state, ForecastState)
            and state.runs >= 0
            and all(len(one.values) == len(self.names) for one in state.pending)
            # In time order, and none later than a forecast can be.
            and _grows([-1, *(one.due for one in state.pending), self._horizon])
        ):
            raise StateError("The forecasts in this state are not of this model; start afresh.")
        self._runs, self._now = state.runs, 0
        self._pending = deque((one.due, one.warm, np.array(one.values)) for one in state.pending)


@dataclass(frozen=True)
class ReconstructionState:
    """What `Reconstructions` remembers: how often the model ran, and the readings, oldest first."""

    runs: int
    readings: tuple[tuple[float, ...], ...]


class Reconstructions:
    """Windows that a model gives back, compared with the readings that they were made of.

    A window over a gap shows a jump that the machine never made, so it is not compared.

    Args:
        manifest: of a model that reconstructs.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.names = tuple(channel.name for channel in manifest.channels)
        length = manifest.window or 0
        self.shares_of = np.tile(np.arange(len(self.names)), length)
        self._warm_up = manifest.warm_up
        self._runs = 0
        self._readings: deque[tuple[float, ...]] = deque(maxlen=length)

    def update(
        self,
        observed: Sequence[float],
        output: NDArray[np.float64] | None,
        inputs: Sequence[float] | None = None,  # noqa: ARG002  # the window holds what was read
    ) -> Comparison | None:
        """See `Residuals.update`."""
        readings = self._readings
        readings.append(tuple(map(float, observed)))
        if output is None:
            return None
        self._runs += 1
        if len(readings) < (readings.maxlen or 0):
            return None
        window = np.array(readings).reshape(-1)
        return Comparison(output, window - output, self._runs > self._warm_up)

    def gap(self, missing: int) -> None:  # noqa: ARG002  # one is as bad as many
        """See `Residuals.gap`."""
        self._readings.clear()

    def reset(self) -> None:
        """See `Residuals.reset`."""
        self._runs = 0
        self._readings.clear()

    @property
    def state(self) -> ReconstructionState:
        """See `Residuals.state`."""
        return ReconstructionState(self._runs, tuple(self._readings))

    @state.setter
    def state(self, state: ReconstructionState) -> None:
        if not (
            isinstance(state, ReconstructionState)
            and state.runs >= 0
            and len(state.readings) <= (self._readings.maxlen or 0)
            and all(len(one) == len(self.names) for one in state.readings)
        ):
            raise StateError("The window in this state is not of this model; start afresh.")
        self._runs = state.runs
        self._readings = deque(state.readings, self._readings.maxlen)


def make_residuals(manifest: Manifest) -> Residuals:
    """What compares the outputs of this model, which forecasts or reconstructs."""
    return Reconstructions(manifest) if manifest.task == "reconstruction" else Forecasts(manifest)


def _grows(numbers: Sequence[int]) -> bool:
    return all(a < b for a, b in itertools.pairwise(numbers))
