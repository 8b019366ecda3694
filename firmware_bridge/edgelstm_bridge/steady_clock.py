"""`SteadyClock`: the host's wall clock, which may be set, as one that never goes back. No I/O."""

from __future__ import annotations

import math

_SLOWER = 0.05  # what a clock set back takes off the pace of time; no rate looks wrong for it


class SteadyClock:
    """Makes wall clock times of monotonic ones.

    Where the host's clock was set back, time goes slower until it is caught up; where it was set
    forward, that is followed at once.

    Attributes:
        error: how far it is ahead of the host's at the moment, in seconds.
    """

    def __init__(self) -> None:
        self.error = 0.0
        self._offset = -math.inf
        self._at = 0.0

    def offset(self, wall_offset: float, now: float) -> float:
        """Return what to add to a monotonic time, at the monotonic time `now`."""
        slowest = self._offset - _SLOWER * max(0.0, now - self._at)
        self._offset = max(wall_offset, slowest)
        self._at = now
        self.error = self._offset - wall_offset
        return self._offset
