"""`Memory`: what the outbox has in memory, above all the notices that are not on the disk yet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import NamedTuple

from edgelstm.alert import AlertEvent
from edgelstm.evidence import Evidence
from edgelstm.notice import Acknowledgement, Notice
from edgelstm.outbox.cursors import Cursors, Delivery, Registration
from edgelstm.pipeline_state import PipelineState

MOST_NOTICES = 10_000
"""That wait for the disk; some 20 MB."""

MOST_EVIDENCE = 100
"""That waits for the disk; some 10 MB."""


class Entry(NamedTuple):
    """A notice and its place in the order of all.

    Attributes:
        sequence: its place; higher is later.
        notice: as it is stored and sent.
        silent: whether it is stored and not sent.
    """

    sequence: int
    notice: Notice
    silent: bool = False


class Batch(NamedTuple):
    """What is to be written in one go."""

    entries: tuple[Entry, ...]
    evidence: dict[str, Evidence]
    states: dict[str, PipelineState]
    sinks: dict[str, Registration] | None
    cursors: dict[tuple[str, str], int]
    deliveries: list[Delivery]
    watched: frozenset[str] | None


@dataclass
class Memory:
    """Holds what is not on the disk yet. Whoever uses it holds the outbox's lock.

    Attributes:
        newest: the highest sequence that was given.
        visible: the highest one that sinks may see.
        cursors: up to where sinks are.
        acknowledged: id of an open alert -> who has seen it.
        entries: notices that are not on the disk, in order.
        evidence: likewise, by id of the alert.
        states: likewise, by name of the sensor; only the last of each counts.
        watched: names of the sensors whose states are kept; None for all.
        stored: the highest sequence that is on the disk.
        dropped: alerts that were dropped before every sink had them.
        evidence_dropped: evidence that was dropped.
    """

    newest: int = 0
    visible: int = 0
    cursors: Cursors = field(default_factory=Cursors)
    acknowledged: dict[str, Acknowledgement] = field(default_factory=dict)
    entries: dict[int, Entry] = field(default_factory=dict)
    evidence: dict[str, Evidence] = field(default_factory=dict)
    states: dict[str, PipelineState] = field(default_factory=dict)
    watched: frozenset[str] | None = None
    stored: int = 0
    dropped: int = 0
    evidence_dropped: int = 0
    _ids: set[str] = field(default_factory=set)
    _bound: int = 0

    def add(
        self,
        notices: Iterable[Notice],
        evidence: Mapping[str, Evidence],
        states: Mapping[str, PipelineState],
    ) -> None:
        """Takes what a reading brought."""
        for notice in notices:
            if notice.id in self._ids:
                continue
            self.newest += 1
            self.entries[self.newest] = self._entry(self.newest, notice)
            self._ids.add(notice.id)
        if len(self.entries) > max(MOST_NOTICES, self._bound):
            self._shrink()
        for alert_id, what in evidence.items():
            self.evidence.pop(alert_id, None)  # the newest goes last
            self.evidence[alert_id] = what
        while len(self.evidence) > MOST_EVIDENCE:
            del self.evidence[next(iter(self.evidence))]
            self.evidence_dropped += 1
        self.states.update(states)

    def _entry(self, sequence: int, notice: Notice) -> Entry:
        seen = notice.acknowledged or self.acknowledged.get(notice.alert_id)
        if seen is not None:
            notice = replace(notice, acknowledged=seen)
            self.acknowledged[notice.alert_id] = seen
        if notice.alert.closed is not None:
            self.acknowledged.pop(notice.alert_id, None)
        silent = seen is not None and notice.event == AlertEvent.UPDATED.value
        return Entry(sequence, notice, silent)

    @property
    def unsaved(self) -> bool:
        """Whether anything but deliveries is to be written."""
        return bool(
            self.entries
            or self.evidence
            or self.states
            or self.cursors.sinks_changed
            or self.watched is not None
        )

    @property
    def undelivered(self) -> bool:
        """Whether deliveries are to be written."""
        return bool(self.cursors.changed or self.cursors.deliveries)

    def batch(self) -> Batch:
        """Everything that is to be written; deliveries count as written from now on."""
        sinks = dict(self.cursors.sinks) if self.cursors.sinks_changed else None
        self.cursors.sinks_changed = False
        return Batch(
            tuple(self.entries.values()),
            dict(self.evidence),
            dict(self.states),
            sinks,
            *self.cursors.take(),
            self.watched,
        )

    def saved(self, batch: Batch) -> None:
        """Forgets what was written."""
        for entry in batch.entries:
            self.forget(entry)
        for alert_id, what in batch.evidence.items():
            if self.evidence.get(alert_id) is what:
                del self.evidence[alert_id]
        for sensor, state in batch.states.items():
            if self.states.get(sensor) is state:
                del self.states[sensor]
        if self.watched is batch.watched:
            self.watched = None

    def forget(self, entry: Entry) -> None:
        """Forgets a notice."""
        if self.entries.pop(entry.sequence, None) is not None:
            self._ids.discard(entry.notice.id)

    def give_back(self, batch: Batch) -> None:
        """Takes back what could not be written."""
        self.cursors.sinks_changed |= batch.sinks is not None
        self.cursors.give_back(batch.cursors, batch.deliveries)

    def show(self) -> bool:
        """Lets the sinks see everything; says whether there was anything new."""
        if self.visible == self.newest:
            return False
        self.visible = self.newest
        for entry in self.entries.values():
            self._show(entry)
        return True

    def show_saved(self, entries: Sequence[Entry]) -> None:
        """Lets the sinks see what is on the disk now."""
        for entry in entries:
            self._show(entry)
            self.visible = max(self.visible, entry.sequence)
            self.stored = max(self.stored, entry.sequence)

    def _show(self, entry: Entry) -> None:
        newest, sensor = self.cursors.newest, entry.notice.sensor
        if not entry.silent:
            newest[sensor] = max(newest.get(sensor, 0), entry.sequence)

    def pending(self, sink: str, behind: Mapping[str, int]) -> list[tuple[int, Notice]]:
        """What a sink is still to get of what is visible and not on the disk, in order.

        Args:
            sink: name of it.
            behind: sensors, and up to where it has their notices.
        """
        registration = self.cursors.sinks[sink]
        lowest = min(behind.values(), default=self.newest)
        found = [
            (entry.sequence, entry.notice)
            for entry in takewhile(lambda e: e.sequence > lowest, reversed(self.entries.values()))
            if not entry.silent
            and entry.sequence <= self.visible
            and entry.sequence > behind.get(entry.notice.sensor, self.newest)
            and registration.wants(entry.sequence, entry.notice.alert_id)
        ]
        return found[::-1]

    def by_alert(self) -> dict[str, list[Entry]]:
        """The notices that are not on the disk, of each alert in order."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries.values():
            found.setdefault(entry.notice.alert_id, []).append(entry)
        return found

    def _shrink(self) -> None:
        """Drops a tenth: closed alerts that every sink has, then other closed ones."""
        target = MOST_NOTICES * 9 // 10
        closed = [es for es in self.by_alert().values() if es[-1].notice.alert.closed is not None]
        closed.sort(key=lambda entries: not self._had(entries))  # stable: the oldest first
        for entries in closed:
            if len(self.entries) <= target:
                break
            self.dropped += not self._had(entries)
            for entry in entries:
                self.forget(entry)
            self.evidence.pop(entries[0].notice.alert_id, None)
        self._bound = len(self.entries) + MOST_NOTICES // 10  # should all the rest be open

    def _had(self, entries: Collection[Entry]) -> bool:
        """Whether every sink has the notices of an alert."""
        last = max(entry.sequence for entry in entries)
        floor = self.cursors.floor(next(iter(entries)).notice.sensor)
        return floor is None or last <= floor
