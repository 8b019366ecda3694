"""`Keeper`: holds the outbox to its bounds while it is written."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from edgelstm.outbox.bounds import Dropped, drop_for_age, drop_for_space
from edgelstm.outbox.database import Database
from edgelstm.outbox.memory import Memory
from edgelstm.outbox.reading import count_alerts, read_fact
from edgelstm.outbox.schema import LOG_BYTES

_log = logging.getLogger(__name__)

_EVERY = 3600.0
_LOG_EVERY = 60.0


class Keeper:
    """Drops what is too much, counts it, and logs it once a minute at most.

    Args:
        database: that is held to its bounds.
        memory: where what was dropped is counted.
        lock: of `memory`.
        max_bytes: that the file and its log may take.
        max_age: seconds of the service's own clock for which closed alerts are kept.
        monotonic: seconds that only ever grow.
    """

    def __init__(
        self,
        database: Database,
        memory: Memory,
        lock: threading.Lock,
        *,
        max_bytes: int,
        max_age: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._database, self._memory, self._lock = database, memory, lock
        # A transaction may add to the file, and to the log twice its usual size.
        self._most_bytes = max_bytes - 3 * LOG_BYTES
        self._max_age, self._monotonic = max_age, monotonic
        self._logged = -_LOG_EVERY
        self._unlogged = Dropped()
        self.begin()

    def begin(self) -> None:
        """Looks at the file anew: another one is open.

        Raises:
            sqlite3.Error: the disk fails.
        """
        with self._database.reading() as connection:
            self._age = read_fact(connection, "age")
            self.alerts = count_alerts(connection)
        self._opened = self._monotonic()
        self._tidied = self._opened - _EVERY
        self.bytes = self._database.bytes()

    def age(self) -> float:
        """By the service's own clock, which nobody can set: seconds for which it was open."""
        return self._age + self._monotonic() - self._opened

    def wrote(self, alerts: int) -> None:
        """After a transaction: makes room when there is too little.

        Args:
            alerts: how many came in it.

        Raises:
            sqlite3.Error: the disk fails.
        """
        self.alerts += alerts
        self._database.shorten_log()
        self._take(drop_for_space(self._database, self._most_bytes, self._floor))
        self.bytes = self._database.bytes()

    def tidy(self) -> None:
        """Once an hour: drops what is too old.

        Raises:
            sqlite3.Error: the disk fails.
        """
        now = self._monotonic()
        if now - self._tidied >= _EVERY:
            self._tidied = now
            self._take(drop_for_age(self._database, self.age() - self._max_age, self._floor))
        if self._unlogged != Dropped() and now - self._logged >= _LOG_EVERY:
            _log.warning(
                "the outbox is at its bounds: the evidence of %d alerts and %d alerts were "
                "dropped, %d of them before every sink had them",
                *self._unlogged,
            )
            self._logged, self._unlogged = now, Dropped()

    def _floor(self, sensor: str) -> int | None:
        with self._lock:
            return self._memory.cursors.floor(sensor)

    def _take(self, dropped: Dropped) -> None:
        self.alerts -= dropped.alerts
        self._unlogged = self._unlogged.plus(dropped)
        with self._lock:
            self._memory.dropped += dropped.unsent
            self._memory.evidence_dropped += dropped.evidence
