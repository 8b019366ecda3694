"""`Writer`: the thread that takes notices, evidence and states to the disk."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable

from edgelstm.alert import Severity
from edgelstm.errors import OutboxError
from edgelstm.notice import Notice
from edgelstm.outbox.acknowledging import acknowledgement_of
from edgelstm.outbox.database import Database, is_damage
from edgelstm.outbox.faults import (
    DAMAGED,
    DISK_HANGS,
    OF_THE_DISK,
    Faults,
    reason_of,
)
from edgelstm.outbox.keeper import Keeper
from edgelstm.outbox.late import closings, join
from edgelstm.outbox.loading import load_memory
from edgelstm.outbox.memory import Batch, Memory
from edgelstm.outbox.packing import chunks_of, states_of
from edgelstm.outbox.reading import (
    read_alert,
    read_alerts,
    read_open,
    read_untold,
)
from edgelstm.outbox.writing import (
    forget_states,
    write_deliveries,
    write_evidence,
    write_fact,
    write_notices,
    write_sinks,
    write_states,
)

_log = logging.getLogger(__name__)

_TICK = 0.25
"""Seconds between two looks for what other processes wrote, and for which deliveries wait to be
written together; after a crash they are repeated."""

_RETRY = (1.0, 15.0)
"""Seconds until a disk that takes nothing is tried again: at first, and at most."""

_REPLACE_EVERY = 60.0
"""Seconds between two damaged files that are moved aside."""

_HANGS_AFTER = 10.0
"""Seconds after which notices that wait for the disk are sent from memory."""


class Writer(threading.Thread):
    """Writes what `memory` holds, one transaction after the other, until `stop`.

    The disk may be full, fail or hang: meanwhile the notices stay in memory, and the sinks get them
    from there.

    Args:
        database: where to.
        memory: what is to be written.
        lock: of `memory`.
        faults: opens and closes the alerts about the disk; used with `lock`.
        max_bytes: that the file and its log may take.
        max_age: seconds of the service's own clock for which closed alerts are kept.
        clock: of the computer, seconds since the Unix epoch; it may jump.
        monotonic: seconds that only ever grow.
    """

    def __init__(
        self,
        database: Database,
        memory: Memory,
        lock: threading.Lock,
        faults: Faults,
        *,
        max_bytes: int,
        max_age: float,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(name="outbox", daemon=True)
        self.database, self.memory, self.faults = database, memory, faults
        self.work = threading.Condition(lock)
        """For this thread: there is something to write."""
        self.news = threading.Condition(lock)
        """For couriers, and whoever waits for the disk."""
        self.problem = ""
        self.keeper = Keeper(
            database, memory, lock, max_bytes=max_bytes, max_age=max_age, monotonic=monotonic
        )
        self._lock = lock
        self._clock, self._monotonic = clock, monotonic
        self._reason = ""
        self._retry_at, self._delay = monotonic(), _RETRY[0]
        self._replaced = -_REPLACE_EVERY
        self._suspected = False
        self._version = 0
        self._polled = False
        self._waiting_since: float | None = None
        self._stopping = self._hurry = self._busy = False

    def stop(self) -> None:
        """Makes it end after one more try to write."""
        with self._lock:
            self._stopping = True
            self.work.notify_all()

    def run(self) -> None:
        """See `Thread.run`."""
        if not self._reason:
            self._look_after()
        while not self._survive():
            pass

    def _survive(self) -> bool:
        """One round; whether it was the last. No error ends the thread: alerts hang on it."""
        try:
            return self._round()
        except Exception as error:
            _log.exception("The outbox failed.")
            with self._lock:
                self._busy = False
                self.problem = f"The outbox failed ({error!r}); alerts are in memory only."
                self._retry_at = self._monotonic() + self._delay
                self._show()
            return self._stopping

    def need(self) -> None:
        """Says that there is something to write. The caller holds the lock."""
        if self._waiting_since is None and self.memory.unsaved:
            self._waiting_since = self._monotonic()
        self.work.notify()

    def suspect(self, error: sqlite3.Error) -> None:
        """Takes note of what somebody who reads ran into; any thread may call it."""
        _log.debug("the outbox cannot be read: %s", error)
        self._suspected = self._suspected or is_damage(error)

    def show_if_hanging(self) -> None:
        """Lets the sinks see what waits for a disk that does not answer. Caller holds the lock."""
        since = self._waiting_since
        if since is None or self._reason or self._monotonic() - since < _HANGS_AFTER:
            return
        if self.problem == "":
            self.problem = "The disk does not answer; alerts are in memory only."
            self.announce(DISK_HANGS, self.problem)
        self._show()

    def flush(self, timeout: float) -> bool:
        """Waits until everything is written; see `Outbox.flush`."""

        def done() -> bool:
            return not (self.memory.unsaved or self.memory.undelivered or self._busy)

        with self._lock:
            self._hurry = True
            self.work.notify()
            return self.news.wait_for(done, timeout)

    # One round

    def _round(self) -> bool:
        with self._lock:
            self.work.wait_for(self._due, _TICK)
            self._hurry = False
            stopping = self._stopping
            if self._reason:
                self._show()
            ready = stopping or self._monotonic() >= self._retry_at
            anything = self.memory.unsaved or self.memory.undelivered
            batch = self.memory.batch() if ready and anything else None
            self._busy = batch is not None
        if batch is not None and not self.database.opened:
            self._open_late(batch)
        elif batch is not None:
            self._save(batch)
        if not self._reason:
            self._look_after()
        return stopping

    def _due(self) -> bool:
        if self._reason and self.memory.visible < self.memory.newest:
            return True
        if self._stopping or (self._hurry and self.memory.undelivered):
            return True
        return self.memory.unsaved and self._monotonic() >= self._retry_at

    def _save(self, batch: Batch) -> None:
        surely = bool(batch.entries or batch.states or batch.sinks)
        try:
            chunks, states = chunks_of(batch), states_of(batch)
            for chunk in chunks:
                with self.database.writing(surely=surely) as connection:
                    alerts = write_notices(connection, chunk.entries, self.keeper.age())
                    write_evidence(connection, chunk.evidence)
                    if chunk is chunks[-1]:
                        write_states(connection, states)
                        if batch.watched is not None:
                            forget_states(connection, batch.watched)
                        if batch.sinks is not None:
                            write_sinks(connection, batch.sinks)
                        write_deliveries(connection, batch.cursors, batch.deliveries)
                        write_fact(connection, "age", self.keeper.age())
                with self._lock:
                    self.memory.show_saved([entry for entry, _ in chunk.entries])
                    self.news.notify_all()
                self.keeper.wrote(alerts)
        except Exception as error:  # of the disk; or a bug, which must not lose what is unsaved
            if not isinstance(error, (sqlite3.Error, OSError)):
                _log.exception("The outbox failed.")
            self._failed(batch, error)
        else:
            self._saved(batch)

    def _saved(self, batch: Batch) -> None:
        with self._lock:
            self.memory.saved(batch)
            self._waiting_since = None if not self.memory.unsaved else self._monotonic()
            self.problem, self._reason, self._delay = "", "", _RETRY[0]
            self._busy = False
            for reason in OF_THE_DISK:
                self.settle(reason, "outbox: the disk takes alerts again")
            self.news.notify_all()

    def _failed(self, batch: Batch | None, error: Exception) -> None:
        if batch is not None and is_damage(error) and self._replace():
            with self._lock:
                self.memory.give_back(batch)
                self._busy = False
            return
        reason = reason_of(error, self.database.path)
        with self._lock:
            if batch is not None:
                self.memory.give_back(batch)
            self._busy = False
            if reason != self._reason:
                self.problem = (
                    f"The outbox cannot be written ({reason}: {error}); alerts are in memory only."
                )
                _log.warning("%s", self.problem)
                for other in OF_THE_DISK:
                    if other != reason:
                        self.settle(other, f"outbox: {other} became {reason}")
                self.announce(reason, f"outbox: {reason}; alerts are in memory only")
                self._reason = reason
            self._retry_at = self._monotonic() + self._delay
            self._delay = min(self._delay * 2, _RETRY[1])
            self._show()

    def _replace(self) -> bool:
        if self._monotonic() - self._replaced < _REPLACE_EVERY:
            return False  # a disk that damages whatever is written to it
        self._replaced = self._monotonic()
        try:
            self.database.replace()
            self.keeper.begin()
        except (sqlite3.Error, OSError, OutboxError) as error:
            _log.warning("a damaged outbox could not be replaced: %s", error)
            return False
        with self._lock:
            self.memory.stored = 0
            self.memory.cursors.save_all()
            self.announce(DAMAGED, damage_summary(self.database))
        return True

    def _show(self) -> None:
        if self.memory.show():
            self.news.notify_all()

    def announce(self, reason: str, summary: str, severity: Severity = Severity.WARNING) -> None:
        """Opens an alert about the service. The caller holds the lock."""
        self._take(self.faults.open(reason, summary, self._clock(), severity))

    def settle(self, reason: str, summary: str) -> None:
        """Closes an alert about the service. The caller holds the lock."""
        self._take(self.faults.close(reason, summary, self._clock()))

    def _take(self, notice: Notice | None) -> None:
        if notice is not None:
            self.memory.add((notice,), {}, {})
            self.need()

    # When the disk took nothing at the start

    def begin_late(self, error: Exception) -> None:
        """Says why the file could not be opened, before the thread starts."""
        self._failed(None, error)

    def _open_late(self, batch: Batch) -> None:
        try:
            self.database.open()
            stored = load_memory(self.database)
            with self.database.reading() as connection:
                standing = read_alerts(connection, None, open_only=True)
                entries = read_open(connection)
            self.keeper.begin()
        except (sqlite3.Error, OSError) as error:
            self._failed(batch, error)
            return
        with self._lock:
            self.memory.give_back(batch)
            join(self.memory, stored)
            over = closings([one.notice for one in standing], entries, self._clock())
            self.memory.add(over, {}, {})
            if self.database.moved is not None:
                self.announce(DAMAGED, damage_summary(self.database))
            self._retry_at = self._monotonic()
            self._busy = False

    # What is done beside

    def _look_after(self) -> None:
        try:
            if self.database.is_gone() or self._suspected:
                self._suspected = False
                self._replace()
            self._take_acknowledgements()
            self.keeper.tidy()
        except sqlite3.Error as error:
            _log.debug("the outbox was not looked after: %s", error)
            return

    def _take_acknowledgements(self) -> None:
        """Those that other processes wrote become notices."""
        with self.database.tidying() as connection:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            if self._polled and version == self._version:
                return
            self._version, self._polled = version, True
            untold = read_untold(connection)
            standing = {alert_id: read_alert(connection, alert_id) for alert_id in untold}
        with self._lock:
            for alert_id, seen in untold.items():
                here = self.memory.by_alert().get(alert_id)
                stored = standing[alert_id]
                last = here[-1].notice if here else stored and stored.notice
                if last is not None:
                    self.acknowledge(acknowledgement_of(last, seen))

    def acknowledge(self, notice: Notice) -> None:
        """Takes the notice of an acknowledgement. The caller holds the lock."""
        self._take(notice)
        if notice.alert.reason == DAMAGED and notice.sensor == "":
            self.settle(DAMAGED, "outbox: the damage was acknowledged")


def damage_summary(database: Database) -> str:
    """One line about a damaged file."""
    if database.moved is None:
        return "outbox: its file was deleted, and a new one is begun"
    return f"outbox: it was damaged, is now {database.moved.name}, and a new one is begun"
