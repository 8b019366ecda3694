"""`Cursors`: which sinks there are, and up to where each has the notices of each sensor."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Delivery(NamedTuple):
    """What became of a notice at a sink.

    Attributes:
        sink: name of it.
        sequence: of the notice.
        time: when, seconds since the Unix epoch.
        refused: why the receiver will never take it; "" when it has it.
    """

    sink: str
    sequence: int
    time: float
    refused: str


class Registration(NamedTuple):
    """When a sink came.

    Attributes:
        base: the newest sequence then; it gets what is newer,
        begun: and all notices of the alerts that were open then.
    """

    base: int
    begun: frozenset[str] = frozenset()

    def wants(self, sequence: int, alert_id: str) -> bool:
        """Whether the sink is to get a notice at all."""
        return sequence > self.base or alert_id in self.begun


@dataclass
class Cursors:
    """In memory, so that nobody waits for the disk; the writer saves what changed.

    Attributes:
        sinks: by name.
        at: (sink, sensor) -> sequence up to which the sink has the notices.
        newest: sensor -> sequence of its newest notice that is sent.
        changed: those of `at` that are not saved.
        deliveries: that are not saved.
        sinks_changed: whether `sinks` is not saved.
    """

    sinks: dict[str, Registration] = field(default_factory=dict)
    at: dict[tuple[str, str], int] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)
    changed: dict[tuple[str, str], int] = field(default_factory=dict)
    deliveries: list[Delivery] = field(default_factory=list)
    sinks_changed: bool = False

    @classmethod
    def load(cls, connection: sqlite3.Connection) -> Cursors:
        """Reads what is saved.

        Raises:
            sqlite3.Error: it cannot be read.
        """
        begun: dict[str, set[str]] = {}
        for sink, alert_id in connection.execute("SELECT sink, alert_id FROM begun"):
            begun.setdefault(sink, set()).add(alert_id)
        rows = connection.execute("SELECT name, base FROM sinks")
        sinks = {name: Registration(base, frozenset(begun.get(name, ()))) for name, base in rows}
        rows = connection.execute("SELECT sink, sensor, sequence FROM cursors")
        at = {(sink, sensor): sequence for sink, sensor, sequence in rows}
        newest = dict(
            connection.execute(
                "SELECT sensor, max(sequence) FROM notices WHERE NOT silent GROUP BY sensor"
            )
        )
        return cls(sinks, at, newest)

    def register(self, names: Collection[str], base: int, begun: Collection[str]) -> None:
        """Sets which sinks there are; see `Outbox.register`."""
        new = Registration(base, frozenset(begun))
        sinks = {name: self.sinks.get(name, new) for name in names}
        if sinks != self.sinks:
            self.sinks, self.sinks_changed = sinks, True
            self.at = {key: sequence for key, sequence in self.at.items() if key[0] in sinks}
            self.changed = {key: at for key, at in self.changed.items() if key[0] in sinks}

    def behind(self, sink: str, skipped: Collection[str] = ()) -> dict[str, int]:
        """The sensors of which a sink may have to get something, and up to where it is."""
        return {
            sensor: self.at.get((sink, sensor), 0)
            for sensor, newest in self.newest.items()
            if newest > self.at.get((sink, sensor), 0) and sensor not in skipped
        }

    def mark(self, delivery: Delivery, sensor: str) -> None:
        """Takes note that a sink is done with a notice, and with those before it."""
        key = delivery.sink, sensor
        if delivery.sink not in self.sinks:
            return  # it went while its last notice was under way
        if delivery.sequence > self.at.get(key, 0):
            self.at[key] = self.changed[key] = delivery.sequence
        self.deliveries.append(delivery)

    def take(self) -> tuple[dict[tuple[str, str], int], list[Delivery]]:
        """What is to be saved; from now on it counts as saved."""
        taken = self.changed, self.deliveries
        self.changed, self.deliveries = {}, []
        return taken

    def give_back(
        self, changed: Mapping[tuple[str, str], int], deliveries: Collection[Delivery]
    ) -> None:
        """Takes back what could not be saved."""
        self.changed = {**changed, **self.changed}
        self.deliveries = [*deliveries, *self.deliveries][-_MOST_DELIVERIES:]

    def save_all(self) -> None:
        """Has everything saved anew, in a new file."""
        self.changed, self.deliveries, self.sinks_changed = dict(self.at), [], True

    def floor(self, sensor: str) -> int | None:
        """The sequence up to which every sink has the notices of a sensor; None without sinks."""
        reached = (
            max(self.at.get((name, sensor), 0), registration.base)
            for name, registration in self.sinks.items()
        )
        return min(reached, default=None)


_MOST_DELIVERIES = 10_000
"""That wait for a disk that takes nothing; they are for people to look at, and nothing more."""
