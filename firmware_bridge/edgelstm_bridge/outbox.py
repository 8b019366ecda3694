"""`Outbox`: what is on its way out of a virtual device, and what became of which row. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate

from edgelstm_bridge.faults import LineNoise
from edgelstm_bridge.pacing import Row


class Fate(StrEnum):
    """Why a row cannot arrive as it was sent."""

    LOSE = "lose"  # its frame was left out on purpose
    DAMAGE = "damage"  # its frame was damaged on purpose
    NOISE = "noise"  # bytes of its frame were lost or garbled on the line
    HANG = "hang"  # it was due while the device hung
    RESTART = "restart"  # it was still in the device when that booted anew
    UNPLUG = "unplug"  # it was due, or still in the device, while nobody was connected
    END = "end"  # it was still in the device when the run ended


@dataclass(frozen=True)
class RunReport:
    """How a run of a virtual device went.

    Attributes:
        sent: samples that left the device, with those lost or damaged on their way on purpose.
        finished: every row was sent, and the end after it; False when the reader left early.
        restarts: how many times the device booted anew.
        unplugs: how many times the port went away.
        fates: the rows (counted from 0) that were taken and cannot arrive as they were sent,
            and why. Every other one was written to the port whole and unharmed: it arrives
            unless the reader leaves it unread, or the port is unplugged without draining.
    """

    sent: int
    finished: bool
    restarts: int = 0
    unplugs: int = 0
    fates: Mapping[int, Fate] = field(default_factory=dict)

    @property
    def lost(self) -> dict[str, int]:
        """How many rows cannot arrive, by why."""
        return {fate.value: count for fate, count in sorted(Counter(self.fates.values()).items())}

    @property
    def arriving(self) -> list[int]:
        """The rows that can arrive as they were sent, in order."""
        left = sum(1 for fate in self.fates.values() if fate in _LEFT)
        taken = self.sent + len(self.fates) - left
        return [row for row in range(taken) if row not in self.fates]


_LEFT = frozenset({Fate.LOSE, Fate.DAMAGE, Fate.NOISE})  # it has left the device all the same


class Outbox:
    """Frames that wait for room in the port, and the rows that they carry.

    Attributes:
        data: the bytes that come out of the line, in order.
        sent: rows whose frames have left as a whole.
        fates: rows that cannot arrive, and why.
    """

    def __init__(self, noise: LineNoise) -> None:
        self._noise = noise
        self.data = bytearray()
        self.sent = 0
        self.fates: dict[int, Fate] = {}
        self._written = 0
        # The batch of rows that is in `data`, at its front.
        self._first = 0
        self._rows: list[Row] = []
        self._frames: list[bytes] = []
        self._fates: dict[int, Fate] = {}

    def add(self, frames: Iterable[bytes]) -> None:
        """Puts frames that carry no row behind what is there."""
        for frame in frames:
            self.data += frame if self._noise.silent else self._noise.apply(frame)[0]

    def add_rows(
        self, first: int, rows: list[Row], frames: list[bytes], fates: dict[int, Fate]
    ) -> None:
        """Puts one frame for each row into the outbox, which must be empty.

        Args:
            first: index of the first row; the others follow it.
            rows: the rows.
            frames: for each row; empty for one that is lost.
            fates: of the rows that were lost or damaged already.
        """
        if not self._noise.silent:
            frames = list(frames)
            for position, frame in enumerate(frames):
                frames[position], hit = self._noise.apply(frame)
                if hit:
                    fates.setdefault(first + position, Fate.NOISE)
        self._first, self._rows, self._frames, self._fates = first, rows, frames, fates
        self._written = 0
        self.data += b"".join(frames)
        if not self.data:
            self.wrote(0)

    def wrote(self, count: int) -> None:
        """The first `count` bytes have left."""
        del self.data[:count]
        self._written += count
        if not self.data and self._rows:
            self.sent += len(self._rows)
            self.fates |= self._fates
            self._rows = []

    def cut(self) -> list[Row]:
        """Throws away what has not left yet; returns the rows that it carried."""
        ends = accumulate(map(len, self._frames))
        whole = sum(1 for end in ends if end <= self._written) if self._rows else 0
        self.sent += whole
        border = self._first + whole
        self.fates |= {row: fate for row, fate in self._fates.items() if row < border}
        left_behind = self._rows[whole:]
        self._rows = []
        self.data.clear()
        self._noise.cut()
        return left_behind

    def write_off(self, first: int, count: int, fate: Fate) -> None:
        """Rows that were taken will never leave."""
        self.fates |= dict.fromkeys(range(first, first + count), fate)
