"""`Stepped`: what a pipeline needs of whatever steps its model."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelstm.artifact import Artifact
from edgelstm.backends.graph import DelegateCounters
from edgelstm.session import SessionCounters
from edgelstm.state import State


class Stepped(Protocol):
    """A `Session`, or a row of a `Fleet`."""

    artifact: Artifact
    state: State

    @property
    def counters(self) -> SessionCounters:
        """See `Session.counters`."""

    @property
    def invalid(self) -> str:
        """See `Session.invalid`."""

    @property
    def backend(self) -> str:
        """See `Session.backend`."""

    @property
    def release(self) -> str:
        """See `Session.release`."""

    @property
    def delegate_counters(self) -> DelegateCounters | None:
        """See `Session.delegate_counters`."""

    def step(self, x: ArrayLike) -> NDArray[np.float64] | None:
        """See `Session.step`."""

    def reset(self) -> None:
        """See `Session.reset`."""

    def close(self) -> None:
        """See `Session.close`."""
