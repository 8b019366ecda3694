"""`BackOff`: when to try again what failed."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_S = 1.0
LONGEST_S = 300.0
_MOST_ASKED_S = 3600.0  # a receiver that asks for a day must not silence us for one


class BackOff:
    """Waits twice as long after each failure, at most, and by chance.

    The wait is drawn evenly from 0 up to the bound ("full jitter"): when a receiver comes back,
    those that waited for it do not come at the same moment.

    Args:
        first: bound of the first wait, seconds.
        longest: that no bound exceeds, seconds.
        draw: gives chance, from 0 to 1.
    """

    def __init__(
        self,
        first: float = FIRST_S,
        longest: float = LONGEST_S,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._first, self._longest, self._draw = first, longest, draw
        self.failures = 0
        """In a row."""
        self.due = float("-inf")
        """When to try again, by the clock of the times that were given."""

    def failed(self, now: float, at_least: float = 0.0) -> None:
        """Takes note of a failure.

        Args:
            now: seconds, by a clock that never goes back.
            at_least: seconds that the receiver asked to wait; an hour at most.
        """
        bound = min(self._longest, self._first * 2.0 ** min(self.failures, 60))
        self.failures += 1
        self.due = now + max(self._draw() * bound, min(at_least, _MOST_ASKED_S))

    def worked(self) -> None:
        """Takes note of a success: the next failure is the first again."""
        self.failures = 0
        self.due = float("-inf")

    def try_now(self) -> None:
        """What is to be tried again is tried at once: there is a sign that it may work."""
        self.due = float("-inf")
