"""`View`: what the outbox keeps, on the disk and in memory, as people see it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from edgelstm.errors import OutboxError
from edgelstm.evidence import Evidence
from edgelstm.notice import Notice, OpenEntry
from edgelstm.outbox import reading
from edgelstm.outbox.database import Database
from edgelstm.outbox.memory import Memory
from edgelstm.outbox.overlay import overlaid, overlaid_open
from edgelstm.outbox.reading import Standing

T = TypeVar("T")


class View:
    """Reads what is kept. While the disk fails there is still what is in memory.

    Args:
        database: what is on the disk.
        memory: what is not on it yet.
        lock: of `memory`.
        suspect: is told why the disk could not be read.
    """

    def __init__(
        self,
        database: Database,
        memory: Memory,
        lock: threading.Lock,
        suspect: Callable[[sqlite3.Error], None],
    ) -> None:
        self._database, self._memory, self._lock = database, memory, lock
        self._suspect = suspect

    def alerts(
        self,
        limit: int | None = 100,
        *,
        open_only: bool = False,
        sensor: str | None = None,
        since: float | None = None,
    ) -> list[Notice]:
        """The last notice of each alert, as it stands, the newest alert first.

        Args:
            limit: how many at most; None for all.
            open_only: only alerts that are open.
            sensor: only alerts of this one.
            since: only alerts that opened at this time or later, seconds since the Unix epoch.
        """
        return [
            s.notice for s in self._standing(limit, open_only=open_only, sensor=sensor, since=since)
        ]

    def _standing(
        self,
        limit: int | None,
        *,
        open_only: bool = False,
        sensor: str | None = None,
        since: float | None = None,
    ) -> list[Standing]:
        with self._lock:
            fresh = self._memory.by_alert()
        more = None if limit is None else limit + len(fresh)
        read = partial(
            reading.read_alerts, limit=more, open_only=open_only, sensor=sensor, since=since
        )
        stored = self._read(read) or []
        return overlaid(stored, fresh, limit, open_only=open_only, sensor=sensor, since=since)

    def alert(self, part: str) -> Notice:
        """An alert as it stands, by its id, or the beginning or the end of it.

        Raises:
            ConfigurationError: there is none, or more than one.
        """
        with self._lock:
            fresh = self._memory.by_alert()
        ids = self._read(lambda c: reading.find_ids(c, part)) or []
        ids += [name for name in fresh if name.startswith(part) or name.endswith(part)]
        alert_id = reading.the_one(ids, part)
        stored = self._read(lambda c: reading.read_alert(c, alert_id))
        here = {alert_id: fresh[alert_id]} if alert_id in fresh else {}
        for standing in overlaid([stored] if stored else [], here):
            return standing.notice
        raise OutboxError(f"Alert {alert_id} cannot be read; the disk fails, or it was dropped.")

    def history(self, alert_id: str) -> list[Notice]:
        """All notices of an alert, in order."""
        with self._lock:
            fresh = self._memory.by_alert().get(alert_id, [])
        stored = self._read(lambda c: reading.read_history(c, alert_id)) or []
        known = {notice.id for notice in stored}
        return stored + [entry.notice for entry in fresh if entry.notice.id not in known]

    def evidence(self, alert_id: str) -> Evidence | None:
        """The readings around an alert, if they were kept."""
        with self._lock:
            fresh = self._memory.evidence.get(alert_id)
        if fresh is not None:
            return fresh
        return self._read(lambda c: reading.read_evidence(c, alert_id))

    def open_entries(self, sensor: str) -> tuple[OpenEntry, ...]:
        """The alerts of a sensor that are open, for its `AlertBook`."""
        with self._lock:
            fresh = self._memory.by_alert()
        stored = self._read(lambda c: reading.read_open(c, sensor)) or []
        return overlaid_open(stored, fresh, sensor)

    def state(self, sensor: str) -> bytes | None:
        """What was saved of a sensor's pipeline last; None when nothing was."""
        with self._lock:
            fresh = self._memory.states.get(sensor)
        if fresh is not None:
            return fresh.save()
        return self._read(lambda c: reading.read_state(c, sensor))

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T | None:
        """What is on the disk; None when that fails."""
        try:
            with self._database.reading() as connection:
                return read(connection)
        except sqlite3.Error as error:
            self._suspect(error)
            return None
