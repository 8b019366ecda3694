"""What is written to the database: notices, evidence, states, and who has got what.

Each function takes a connection that is in a transaction.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Collection, Iterable, Mapping

from edgelstm.evidence import Evidence
from edgelstm.notice import ACKNOWLEDGED, Notice
from edgelstm.outbox.cursors import Delivery, Registration
from edgelstm.outbox.memory import Entry


def write_notices(
    connection: sqlite3.Connection, entries: Iterable[tuple[Entry, str]], age: float
) -> int:
    """Writes notices; those whose ids are there already are left out.

    Args:
        connection: to the database.
        entries: each with what `to_json` made of its notice.
        age: by the service's own clock.

    Returns:
        How many alerts are new.
    """
    alerts = 0
    for (sequence, notice, silent), body in entries:
        row = (sequence, notice.id, notice.alert_id, notice.sensor, silent, body)
        added = connection.execute("INSERT OR IGNORE INTO notices VALUES (?, ?, ?, ?, ?, ?)", row)
        if not added.rowcount:
            continue
        alert = notice.alert
        told = place_of(notice)
        changed = connection.execute(
            "UPDATE alerts SET open = ?, told = max(told, ?), last = ?, age = ? WHERE id = ?",
            (alert.closed is None, told, sequence, age, notice.alert_id),
        )
        if not changed.rowcount:
            alerts += 1
            connection.execute(
                "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    notice.alert_id,
                    notice.sensor,
                    alert.kind.value,
                    alert.number,
                    alert.closed is None,
                    alert.opened,
                    told,
                    sequence,
                    sequence,
                    age,
                ),
            )
        seen = notice.acknowledged
        if notice.event == ACKNOWLEDGED and seen is not None:
            connection.execute(
                "INSERT OR IGNORE INTO acknowledgements VALUES (?, ?, ?, ?)",
                (notice.alert_id, seen.time, seen.by, seen.note),
            )
    return alerts


def write_evidence(connection: sqlite3.Connection, evidence: Mapping[str, bytes]) -> None:
    """Writes evidence in place of what there was; that of unknown alerts is left out.

    Args:
        connection: to the database.
        evidence: id of the alert -> what `pack_evidence` made.
    """
    connection.executemany(
        "INSERT OR REPLACE INTO evidence SELECT id, first, ? FROM alerts WHERE id = ?",
        ((body, alert_id) for alert_id, body in evidence.items()),
    )


def write_states(connection: sqlite3.Connection, states: Mapping[str, bytes]) -> None:
    """Writes the states of pipelines in place of those that there were."""
    connection.executemany("INSERT OR REPLACE INTO states VALUES (?, ?)", states.items())


def forget_states(connection: sqlite3.Connection, watched: Collection[str]) -> None:
    """Forgets the states of other sensors than these."""
    rows = connection.execute("SELECT sensor FROM states").fetchall()
    connection.executemany(
        "DELETE FROM states WHERE sensor = ?", (row for row in rows if row[0] not in watched)
    )


def write_sinks(connection: sqlite3.Connection, sinks: Mapping[str, Registration]) -> None:
    """Writes which sinks there are; what belongs to others goes."""
    connection.execute("DELETE FROM sinks")
    connection.execute("DELETE FROM begun")
    for name, registration in sinks.items():
        connection.execute("INSERT INTO sinks VALUES (?, ?)", (name, registration.base))
        connection.executemany(
            "INSERT INTO begun VALUES (?, ?)", ((name, alert) for alert in registration.begun)
        )
    connection.execute("DELETE FROM cursors WHERE sink NOT IN (SELECT name FROM sinks)")


def write_deliveries(
    connection: sqlite3.Connection,
    cursors: Mapping[tuple[str, str], int],
    deliveries: Iterable[Delivery],
) -> None:
    """Writes up to where sinks are, and what became of each notice."""
    connection.executemany(
        "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)",
        ((sink, sensor, sequence) for (sink, sensor), sequence in cursors.items()),
    )
    connection.executemany(
        "INSERT OR REPLACE INTO deliveries SELECT sequence, ?, ?, ? FROM notices "
        "WHERE sequence = ?",
        ((one.sink, one.time, one.refused, one.sequence) for one in deliveries),
    )


def write_fact(connection: sqlite3.Connection, name: str, value: float) -> None:
    """Writes a figure that is to outlast the service."""
    connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))


def to_json(notice: Notice) -> str:
    """A notice as it is stored."""
    return json.dumps(notice.to_dict(), separators=(",", ":"))


def pack_evidence(evidence: Evidence) -> bytes:
    """Evidence as it is stored."""
    return zlib.compress(json.dumps(evidence.to_dict(), separators=(",", ":")).encode())


def place_of(notice: Notice) -> int:
    """Which of the notices of its alert book a notice is; 0 for one that the outbox wrote."""
    _, _, place = notice.id.rpartition("/")
    return int(place) if place.isdecimal() else 0
