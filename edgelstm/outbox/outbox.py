"""`Outbox`: keeps notices of alerts until every sink has them, whatever happens meanwhile."""

from __future__ import annotations

import logging
import platform
import sqlite3
import threading
import time as time_module
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from edgelstm.alert import Severity
from edgelstm.errors import ConfigurationError, OutboxError
from edgelstm.evidence import Evidence
from edgelstm.health import OutboxHealth
from edgelstm.notice import Acknowledgement, Notice
from edgelstm.outbox import reading
from edgelstm.outbox.acknowledging import acknowledgement_of, need_unseen
from edgelstm.outbox.cursors import Delivery, Registration
from edgelstm.outbox.database import Database
from edgelstm.outbox.faults import DAMAGED, OF_THE_DISK, closing
from edgelstm.outbox.loading import load_faults, load_memory
from edgelstm.outbox.view import View
from edgelstm.outbox.writer import Writer, damage_summary
from edgelstm.outbox.writing import place_of
from edgelstm.pipeline_state import PipelineState

_log = logging.getLogger(__name__)

FILE = "outbox.sqlite3"
"""Its name in the state directory."""

_LEAST_BYTES = 4_000_000


class Outbox(View):
    """Takes notices from the pipelines and gives them to the couriers, at least once and in order.

    What the pipelines bring goes to a SQLite file first, each submission in one transaction that
    is on the disk before a courier sees it. While the disk takes nothing, everything goes on in
    memory and an alert says so. Nothing is ordered by time, so the clock may jump.

    Args:
        path: of the file; None keeps everything in memory, and behaves the same.
        max_bytes: that the file and its log may take.
        max_age: seconds for which closed alerts are kept; counted while the outbox is open, by a
            clock that nobody can set.
        clock: seconds since the Unix epoch, for what people read.
        monotonic: seconds that only ever grow.
        gateway: name of this computer in the alerts that the outbox itself opens.

    Raises:
        OutboxError: another service has the file, it is of a newer edgelstm, or its folder cannot
            be made.
        ConfigurationError: the bounds make no sense.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        max_bytes: int = 64_000_000,
        max_age: float = 90 * 86400,
        clock: Callable[[], float] = time_module.time,
        monotonic: Callable[[], float] = time_module.monotonic,
        gateway: str = "",
    ) -> None:
        if max_bytes < _LEAST_BYTES or not max_age > 0:
            raise ConfigurationError(
                f"An outbox of {max_bytes / 1e6:g} MB that keeps alerts for {max_age / 86400:g} "
                f"days makes no sense; give it {_LEAST_BYTES / 1e6:g} MB or more and some days."
            )
        self._path, self._clock = path, clock
        database, lock = Database(path), threading.Lock()
        try:
            memory = load_memory(database)
            self._writer = Writer(
                database,
                memory,
                lock,
                load_faults(database, gateway or platform.node()),
                max_bytes=max_bytes,
                max_age=max_age,
                clock=clock,
                monotonic=monotonic,
            )
        except sqlite3.Error as error:
            database.close()
            raise OutboxError(
                f"{path} cannot be read ({error}); mend its disk, or move the file away."
            ) from error
        super().__init__(database, memory, lock, self._writer.suspect)
        if database.why_not is not None:
            self._writer.begin_late(database.why_not)
        else:
            for reason in OF_THE_DISK:
                self.settle(reason, "outbox: the disk takes alerts again")
        if database.moved is None:
            self.settle(DAMAGED, "outbox: the one that took its place is sound")
        else:
            self.announce(DAMAGED, damage_summary(database))
        self._writer.start()

    # From the pipelines

    def submit(
        self,
        notices: Sequence[Notice] = (),
        *,
        evidence: Mapping[str, Evidence] | None = None,
        states: Mapping[str, PipelineState] | None = None,
    ) -> None:
        """Takes what a reading brought; it is written in one transaction, by another thread.

        Never blocks and never raises. The same notice again is stored once; of states that wait,
        only the last of each sensor is written.

        Args:
            notices: in order.
            evidence: by id of the alert; it takes the place of what there was.
            states: of the pipelines, by name of the sensor.
        """
        with self._lock:
            self._memory.add(notices, evidence or {}, states or {})
            self._writer.need()

    # At the start

    def close_orphans(self, sensors: Collection[str]) -> None:
        """Closes the alerts of sensors that are watched no more, with a notice, and forgets them.

        Args:
            sensors: names of those that are watched.
        """
        standing = [s.notice for s in self._standing(None, open_only=True)]
        now = self._clock()
        gone = [n for n in standing if n.sensor and n.sensor not in sensors]
        told = {n.alert_id: max(map(place_of, [n, *self.history(n.alert_id)])) for n in gone}
        self.submit(
            [
                closing(n, told[n.alert_id], f"alert closed: {n.sensor} is watched no more", now)
                for n in gone
            ]
        )
        with self._lock:
            self._memory.watched = frozenset(sensors)
            self._writer.need()

    # For couriers

    def register(self, sinks: Collection[str]) -> None:
        """Says which sinks there are.

        A new one begins with the alerts that are open now; what one that is gone has not got is
        forgotten.

        Args:
            sinks: their names.
        """
        with self._lock:
            newest = self._memory.newest  # what opens from here on is newer
        begun = [s.notice.alert_id for s in self._standing(None, open_only=True)]
        with self._lock:
            self._memory.cursors.register(sinks, newest, begun)
            self._writer.need()
            self._writer.news.notify_all()

    def pending(
        self, sink: str, limit: int = 100, *, skip_sensors: Collection[str] = ()
    ) -> list[tuple[int, Notice]]:
        """The next notices that a sink is to get: sequences and notices, in order.

        Args:
            sink: name of it.
            limit: how many at most.
            skip_sensors: names of sensors of which it wants none now.

        Raises:
            ConfigurationError: it was not registered.
        """
        with self._lock:
            registration = self._registration(sink)
            self._writer.show_if_hanging()
            behind = self._memory.cursors.behind(sink, skip_sensors)
            fresh = self._memory.pending(sink, behind)
        found = dict(fresh[:limit])
        for sensor, at in behind.items():
            read = partial(
                reading.read_pending,
                registration=registration,
                sensor=sensor,
                at=at,
                limit=limit,
            )
            found.update(self._read(read) or [])
        return sorted(found.items())[:limit]

    def count(self, sink: str) -> int:
        """How many notices a sink is still to get.

        Raises:
            ConfigurationError: it was not registered.
        """
        with self._lock:
            registration = self._registration(sink)
            behind = self._memory.cursors.behind(sink)
            stored = self._memory.stored
            fresh = self._memory.pending(sink, behind)
        count = sum(sequence > stored for sequence, _ in fresh)
        for sensor, at in behind.items():
            read = partial(reading.count_pending, registration=registration, sensor=sensor, at=at)
            count += self._read(read) or 0
        return count

    def mark(self, sink: str, sequence: int, sensor: str, *, refused: str = "") -> None:
        """Takes note that a sink is done with a notice, and with those of the sensor before it.

        Args:
            sink: name of it.
            sequence: of the notice.
            sensor: whose notice it is.
            refused: why the receiver will never take it; "" when it has it, or wants none such.
        """
        delivery = Delivery(sink, sequence, self._clock(), refused)
        with self._lock:
            if sequence <= self._memory.newest:  # not one from before the file was opened late
                self._memory.cursors.mark(delivery, sensor)

    def wait(self, seen: int, timeout: float) -> int:
        """Sleeps until there is a notice after a sequence.

        Args:
            seen: the sequence; what the call before gave.
            timeout: seconds after which it comes back anyway.

        Returns:
            The newest sequence.
        """
        with self._lock:
            self._writer.news.wait_for(lambda: self._memory.visible != seen, timeout)
            self._writer.show_if_hanging()
            return self._memory.visible

    def _registration(self, sink: str) -> Registration:
        try:
            return self._memory.cursors.sinks[sink]
        except KeyError:
            raise ConfigurationError(
                f"The outbox knows no sink {sink!r}; register it first."
            ) from None

    # For people; see also `View`

    def deliveries(self, alert_id: str) -> list[tuple[str, Delivery]]:
        """What became of each notice of an alert at each sink: ids of notices, and deliveries."""
        if not self._writer.problem:
            self.flush(1.0)
        return self._read(lambda c: reading.read_deliveries(c, alert_id)) or []

    def acknowledge(
        self, alert_id: str, by: str, note: str = "", *, time: float | None = None
    ) -> Notice:
        """Takes note that somebody has seen an alert; the sinks are told.

        Args:
            alert_id: of the alert.
            by: who.
            note: what they say of it.
            time: when; now by default.

        Raises:
            ConfigurationError: there is no such alert, it was acknowledged before, or the name is
                missing or too long, or the note is.
        """
        seen = Acknowledgement.given(self._clock() if time is None else time, by, note)
        last = self.alert(alert_id)
        with self._lock:
            here = self._memory.by_alert().get(last.alert_id)
            if here is not None:  # it may have changed meanwhile
                last = here[-1].notice
            need_unseen(last)
            notice = acknowledgement_of(last, seen)
            self._writer.acknowledge(notice)
        return notice

    def announce(self, reason: str, summary: str, severity: Severity = Severity.WARNING) -> None:
        """Opens an alert about the service itself, unless one of this reason is open.

        Args:
            reason: two or three words, such as "disk full".
            summary: one line for people.
            severity: how much it matters.
        """
        with self._lock:
            self._writer.announce(reason, summary, severity)

    def settle(self, reason: str, summary: str) -> None:
        """Closes the alert about the service that `announce` opened, if it is open."""
        with self._lock:
            self._writer.settle(reason, summary)

    def health(self) -> OutboxHealth:
        """How it is now."""
        with self._lock:
            return OutboxHealth(
                None if self._path is None else str(self._path),
                self._writer.keeper.bytes,
                self._writer.keeper.alerts,
                len(self._memory.entries),
                self._memory.dropped,
                self._memory.evidence_dropped,
                self._writer.problem,
            )

    def flush(self, timeout: float) -> bool:
        """Waits until everything is on the disk; says whether it is.

        Args:
            timeout: seconds to wait at most.
        """
        return self._writer.flush(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Writes what is left and lets go of the file; may be called twice.

        Args:
            timeout: seconds to wait for a disk that does not answer.
        """
        self._writer.stop()
        self._writer.join(timeout)
        if self._writer.is_alive():
            _log.warning("the outbox was left while the disk did not answer")
            return  # the thread has the file, and ends with the process
        self._database.close()
