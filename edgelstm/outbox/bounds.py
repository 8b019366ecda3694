"""Keeps the outbox within its bounds: what is dropped, and in which order."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable
from typing import NamedTuple

from edgelstm.outbox.database import Database

_log = logging.getLogger(__name__)

_AT_ONCE = 50
"""Alerts that are dropped in one transaction, so that the write-ahead log stays small."""


class Dropped(NamedTuple):
    """What was dropped.

    Attributes:
        evidence: of so many alerts.
        alerts: so many.
        unsent: so many of them before every sink had them.
    """

    evidence: int = 0
    alerts: int = 0
    unsent: int = 0

    def plus(self, other: Dropped) -> Dropped:
        """Both together."""
        return Dropped(*(a + b for a, b in zip(self, other, strict=True)))


Floor = Callable[[str], int | None]
"""Gives the sequence up to which every sink has the notices of a sensor; None without sinks."""


def drop_for_space(database: Database, most_bytes: int, floor: Floor) -> Dropped:
    """Drops what is oldest until the rest takes 90 % of the bytes; nothing when it fits.

    Evidence goes first, then closed alerts that every sink has, then other closed ones. An open
    alert stays.

    Raises:
        sqlite3.Error: the disk fails.
    """
    with database.tidying() as connection:
        if _used_bytes(connection) <= most_bytes:
            return Dropped()
    dropped = Dropped()
    while True:
        with database.writing(surely=False) as connection:
            step = _drop_evidence(connection) or _drop_alerts(connection, floor)
        with database.tidying() as connection:
            # `execute` would free one page only: it takes the statement to give no rows.
            connection.executescript("PRAGMA incremental_vacuum")
            used = _used_bytes(connection)
        dropped = dropped.plus(step)
        if used <= most_bytes * 0.9 or step == Dropped():
            return dropped


def drop_for_age(database: Database, oldest: float, floor: Floor) -> Dropped:
    """Drops closed alerts that were stored before an age.

    Raises:
        sqlite3.Error: the disk fails.
    """
    dropped = Dropped()
    while True:
        with database.writing(surely=False) as connection:
            old = connection.execute(
                "SELECT id, sensor, last FROM alerts WHERE NOT open AND age < ? "
                "ORDER BY first LIMIT ?",
                (oldest, _AT_ONCE),
            ).fetchall()
            _delete(connection, old)
        if not old:
            return dropped
        unsent = sum(not _had(row, floor) for row in old)
        dropped = dropped.plus(Dropped(0, len(old), unsent))


def _used_bytes(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)


def _drop_evidence(connection: sqlite3.Connection) -> Dropped | None:
    rows = connection.execute(
        "SELECT e.alert_id FROM evidence e LEFT JOIN alerts a ON a.id = e.alert_id "
        "ORDER BY coalesce(a.open, 0), e.first LIMIT ?",
        (_AT_ONCE,),
    ).fetchall()
    connection.executemany("DELETE FROM evidence WHERE alert_id = ?", rows)
    return Dropped(evidence=len(rows)) if rows else None


def _drop_alerts(connection: sqlite3.Connection, floor: Floor) -> Dropped:
    unsent: list[tuple[str, str, int]] = []
    sent: list[tuple[str, str, int]] = []
    for row in connection.execute(
        "SELECT id, sensor, last FROM alerts WHERE NOT open ORDER BY first"
    ):
        (sent if _had(row, floor) else unsent).append(row)
        if len(sent) == _AT_ONCE:
            break
    chosen = sent or unsent[:_AT_ONCE]
    _delete(connection, chosen)
    return Dropped(0, len(chosen), 0 if sent else len(chosen))


def _had(row: tuple[str, str, int], floor: Floor) -> bool:
    _, sensor, last = row
    reached = floor(sensor)
    return reached is None or last <= reached


def _delete(connection: sqlite3.Connection, rows: Iterable[tuple[str, str, int]]) -> None:
    for alert_id, _, _ in rows:
        connection.execute(
            "DELETE FROM deliveries WHERE sequence IN "
            "(SELECT sequence FROM notices WHERE alert_id = ?)",
            (alert_id,),
        )
        connection.execute("DELETE FROM notices WHERE alert_id = ?", (alert_id,))
        for table in ("evidence", "acknowledgements", "begun"):
            connection.execute(f"DELETE FROM {table} WHERE alert_id = ?", (alert_id,))  # noqa: S608
        connection.execute("DELETE FROM alerts WHERE id = ?", (alert_id,))
