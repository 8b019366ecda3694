"""`VerdictRing`: the last verdicts of a sensor, for evidence and for whoever looks on."""

from __future__ import annotations

from edgelstm.verdict import Verdict


class VerdictRing:
    """Keeps the last verdicts. One thread adds; any thread may look, without a lock.

    Args:
        capacity: how many are kept.
    """

    def __init__(self, capacity: int) -> None:
        # One slot more than are kept: it is the one that is being written.
        self._slots: list[Verdict | None] = [None] * (capacity + 1)
        self.capacity = capacity
        """How many verdicts are kept."""
        self.count = 0
        """How many verdicts were added so far."""

    def add(self, verdict: Verdict) -> None:
        """Takes a verdict; the oldest leaves."""
        count = self.count
        slots = self._slots
        slots[count % len(slots)] = verdict
        self.count = count + 1

    def since(self, count: int) -> tuple[int, list[Verdict]]:
        """The verdicts from the one with this count on, oldest first.

        Args:
            count: what the call before gave; 0 for all that are kept.

        Returns:
            The count to ask with next time, and the verdicts; what was overwritten is left out.
        """
        end = self.count
        start = max(count, end - self.capacity, 0)
        slots = self._slots
        kept = [slots[index % len(slots)] for index in range(start, end)]
        # Meanwhile the other thread may have put newer ones into the oldest places; it counts a
        # verdict only when it is in its place.
        overwritten = max(0, self.count - self.capacity - start)
        return end, [verdict for verdict in kept[overwritten:] if verdict is not None]

    def last(self, number: int) -> list[Verdict]:
        """The last so many verdicts, oldest first; fewer when there are not as many."""
        return self.since(self.count - number)[1]
