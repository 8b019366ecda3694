"""When a virtual device takes its rows: `RowQueue` and `Pacer`. No I/O."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Literal

from edgelstm.errors import ConfigurationError

Row = tuple[float, Sequence[float]]
"""A timestamp in seconds since the Unix epoch, and one value per channel."""

Pace = float | Literal["recorded"] | None
"""Samples per second; `recorded` as the rows' own times say; None as fast as they are taken."""

BATCH = 256
"""Samples per write at full speed: one system call each would halve the speed."""


class RowQueue:
    """The rows that a device has still to send; some may be put back.

    Attributes:
        index: of the next row, counted from 0.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = iter(rows)
        self._ahead: deque[Row] = deque()
        self.index = 0

    def peek(self) -> Row | None:
        """Returns the next row and leaves it where it is; None at the end."""
        if not self._ahead:
            row = next(self._rows, None)
            if row is None:
                return None
            self._ahead.append(row)
        return self._ahead[0]

    def take(self, count: int) -> list[Row]:
        """Takes up to `count` rows; fewer only at the end."""
        rows = [self._ahead.popleft() for _ in range(min(count, len(self._ahead)))]
        rows += islice(self._rows, count - len(rows))
        self.index += len(rows)
        return rows

    def put_back(self, rows: Sequence[Row]) -> None:
        """Puts the rows that were taken last back, in their order."""
        self._ahead.extendleft(reversed(rows))
        self.index -= len(rows)


class Pacer:
    """Says which rows are due.

    Args:
        pace: of the samples.
        now: seconds of `time.monotonic()`, as everywhere here; the first row is due then.

    Attributes:
        next_at: when the next row is due; meaningless at full speed.
        gap: seconds between the row that was taken last and the next.

    Raises:
        ConfigurationError: the rate is not above 0.
    """

    def __init__(self, pace: Pace, now: float) -> None:
        if isinstance(pace, (int, float)) and not (pace > 0 and math.isfinite(pace)):
            raise ConfigurationError(f"A rate must be above 0 samples per second, not {pace:g}.")
        self._pace = pace
        self._period: float | None = None
        self.next_at = now
        self.gap = 0.0
        self.reset()

    @property
    def is_paced(self) -> bool:
        """Whether rows are due at certain times."""
        return self._pace is not None

    def reset(self) -> None:
        """Goes back to the pace that was there from the beginning."""
        self._period = 1 / self._pace if isinstance(self._pace, (int, float)) else None

    def set_period(self, seconds: float) -> None:
        """Goes on at another pace; at full speed nothing changes."""
        self._period = seconds

    def resume(self, now: float) -> float:
        """The next row is due now; returns how many seconds later that is than it was."""
        delay = now - self.next_at
        self.next_at = now
        return delay

    def take(self, queue: RowQueue, now: float, limit: int = BATCH) -> list[Row]:
        """Takes the rows that are due, at most `limit`."""
        if not self.is_paced:
            return queue.take(limit)
        rows: list[Row] = []
        while self.next_at <= now and len(rows) < limit:
            taken = queue.take(1)
            if not taken:
                break
            rows += taken
            self.gap = self._gap_after(taken[0], queue)
            self.next_at += self.gap
        return rows

    def _gap_after(self, row: Row, queue: RowQueue) -> float:
        if self._period is not None:
            return self._period
        following = queue.peek()
        return max(0.0, following[0] - row[0]) if following else 0.0
