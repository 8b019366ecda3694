"""`VerdictRing`: the last verdicts of a sensor, for evidence and for whoever looks on."""

from __future__ import annotations

from edgelstm.pipeline import Verdict


class VerdictRing:
    """Keeps the last verdicts. One thread adds; any thread may look, without a lock.

    Args:
        capacity: how many are kept.
    """

    def __init__(self, capacity: int) -> None:
        self._slots: list[Verdict | None] = [None] * capacity
        self._capacity = capacity
        self.count = 0
        """How many verdicts were added so far."""

    def add(self, verdict: Verdict) -> None:
        """Takes a verdict; the oldest leaves."""
        count = self.count
        self._slots[count % self._capacity] = verdict
        self.count = count + 1

    def since(self, count: int) -> tuple[int, list[Verdict]]:
        """The verdicts from the one with this count on, oldest first.

        Args:
            count: what the call before gave; 0 for all that are kept.

        Returns:
            The count to ask with next time, and the verdicts; what was overwritten is left out.
        """
        end = self.count
        start = max(count, end - self._capacity, 0)
        kept = [self._slots[index % self._capacity] for index in range(start, end)]
        # Meanwhile the other thread may have put newer ones into the oldest places.
        overwritten = max(0, self.count - self._capacity - start)
        return end, [verdict for verdict in kept[overwritten:] if verdict is not None]

    def last(self, number: int) -> list[Verdict]:
        """The last so many verdicts, oldest first; fewer when there are not as many."""
        return self.since(self.count - number)[1]
