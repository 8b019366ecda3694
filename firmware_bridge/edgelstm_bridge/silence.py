"""`SilenceWatch`: whether nothing has come for longer than is usual. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from edgelstm_bridge.events import Silence

_LEAST_S = 5.0
_PERIODS = 10
_USUAL_WAITS = 2
_WAITS = 8  # of late: a line may come in pieces


class SilenceWatch:
    """Learns how long events of a device are waited for, and tells when it is much longer.

    All times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._waits: deque[float] = deque(maxlen=_WAITS)
        self._since = 0.0
        self._damaged = 0
        self._is_told = False

    def begin(self, now: float, damaged: int) -> None:
        """The link was opened: the silence begins anew; see `end`."""
        self._since = now
        self._damaged = damaged
        self._is_told = False

    def end(self, now: float, damaged: int) -> None:
        """Something came that was understood.

        Args:
            now: when.
            damaged: frames or lines until then that were not.
        """
        self._waits.append(now - self._since)
        self._since = now
        self._damaged = damaged
        self._is_told = False

    def look(self, now: float, damaged: int, sample_period: float | None) -> Sequence[Silence]:
        """Returns the silence when it is to be told: once, and not before 5 seconds.

        Args:
            now: the time.
            damaged: as for `end`.
            sample_period: of the device in seconds; None when it does not say.
        """
        seconds = now - self._since
        if self._is_told or seconds <= _LEAST_S:
            return ()
        # Text says no period: what sends a line a minute is not silent in between.
        waits = sorted(self._waits)
        usual = waits[-2] if len(waits) > 1 else 0.0  # the longest may have been a silence, too
        if seconds <= max(_PERIODS * (sample_period or 0.0), _USUAL_WAITS * usual):
            return ()
        self._is_told = True
        return (Silence(seconds, damaged - self._damaged),)
