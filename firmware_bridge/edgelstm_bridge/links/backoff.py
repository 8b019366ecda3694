"""How long to wait before a link is opened again. Pure."""

from __future__ import annotations

import random


class Backoff:
    """Delays that double from try to try, spread so that many devices do not knock at once.

    Args:
        first: the delay after a connection that lasted, in seconds.
        longest: no delay is longer, but for the jitter, in seconds.
        jitter: the share by which a delay is made shorter or longer at random.
        lasting: a connection of so many seconds counts as one that lasted.
        chance: where the jitter comes from; a seeded one repeats itself.
    """

    def __init__(
        self,
        first: float = 0.1,
        longest: float = 5.0,
        *,
        jitter: float = 0.25,
        lasting: float = 1.0,
        chance: random.Random | None = None,
    ) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self._lasting = lasting
        self._chance = chance or random.Random()  # noqa: S311 - nothing secret
        self._next = first

    def next_delay(self, lasted: float = 0.0) -> float:
        """Returns the seconds to wait before the next try.

        Args:
            lasted: how many seconds the last connection held; 0 after a try that failed.
        """
        if lasted >= self._lasting:
            self._next = self._first
        delay = self._next
        self._next = min(self._longest, 2 * delay)
        return delay * self._chance.uniform(1 - self._jitter, 1 + self._jitter)
