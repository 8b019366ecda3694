"""`Archive`: the file of an outbox as another process sees it, beside the service or without."""

from __future__ import annotations

import sqlite3
import time as time_module
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgelstm.errors import OutboxError
from edgelstm.evidence import Evidence
from edgelstm.notice import Acknowledgement, Notice
from edgelstm.outbox import reading
from edgelstm.outbox.acknowledging import acknowledgement_of, need_unseen
from edgelstm.outbox.cursors import Delivery
from edgelstm.outbox.schema import connect_existing


class Archive:
    """Reads the alerts that an outbox keeps, and acknowledges them; a context manager.

    An acknowledgement is written down; the service makes a notice of it, within a second when it
    runs, and else when it starts.

    Args:
        path: of the file.
        clock: seconds since the Unix epoch.

    Raises:
        OutboxError: there is no such file, or it cannot be read.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time_module.time) -> None:
        self._path, self._clock = path, clock
        self._connection = connect_existing(path)

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def alerts(
        self,
        limit: int | None = 100,
        *,
        open_only: bool = False,
        sensor: str | None = None,
        since: float | None = None,
    ) -> list[Notice]:
        """See `Outbox.alerts`."""
        with self._reading() as connection:
            found = reading.read_alerts(
                connection, limit, open_only=open_only, sensor=sensor, since=since
            )
        return [standing.notice for standing in found]

    def alert(self, part: str) -> Notice:
        """See `Outbox.alert`."""
        with self._reading() as connection:
            alert_id = reading.the_one(reading.find_ids(connection, part), part)
            standing = reading.read_alert(connection, alert_id)
        if standing is None:
            raise OutboxError(f"Alert {alert_id} was dropped just now; there are too many.")
        return standing.notice

    def history(self, alert_id: str) -> list[Notice]:
        """See `Outbox.history`."""
        with self._reading() as connection:
            return reading.read_history(connection, alert_id)

    def evidence(self, alert_id: str) -> Evidence | None:
        """See `Outbox.evidence`."""
        with self._reading() as connection:
            return reading.read_evidence(connection, alert_id)

    def deliveries(self, alert_id: str) -> list[tuple[str, Delivery]]:
        """See `Outbox.deliveries`."""
        with self._reading() as connection:
            return reading.read_deliveries(connection, alert_id)

    def check_unseen(self, last: Notice) -> None:
        """Refuses an alert that somebody has seen.

        Raises:
            ConfigurationError: somebody has.
        """
        need_unseen(last)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connection
        except sqlite3.Error as error:
            raise OutboxError(
                f"{self._path} cannot be read ({error}); try again, or see whether its disk is "
                "well."
            ) from error

    def acknowledge(
        self, alert_id: str, by: str, note: str = "", *, time: float | None = None
    ) -> Notice:
        """See `Outbox.acknowledge`.

        Raises:
            ConfigurationError: there is no such alert, it was acknowledged before, or the name is
                missing or too long, or the note is.
            OutboxError: it cannot be written down.
        """
        seen = Acknowledgement.given(self._clock() if time is None else time, by, note)
        last = self.alert(alert_id)
        need_unseen(last)
        try:
            self._connection.execute(
                "INSERT INTO acknowledgements VALUES (?, ?, ?, ?)",
                (last.alert_id, seen.time, seen.by, seen.note),
            )
        except sqlite3.IntegrityError:
            need_unseen(self.alert(last.alert_id))  # somebody else was quicker
        except sqlite3.Error as error:
            raise OutboxError(
                f"{self._path} cannot be written ({error}); make room, or run this as the user of "
                "the service."
            ) from error
        return acknowledgement_of(last, seen)

    def close(self) -> None:
        """Lets go of the file; may be called twice."""
        with suppress(sqlite3.Error):
            self._connection.close()
