"""What is read from the database when the outbox starts."""

from __future__ import annotations

from edgelstm.alert import AlertKind
from edgelstm.outbox import reading
from edgelstm.outbox.cursors import Cursors
from edgelstm.outbox.database import Database
from edgelstm.outbox.faults import Faults
from edgelstm.outbox.late import LATE
from edgelstm.outbox.memory import Memory


def load_memory(database: Database) -> Memory:
    """What the outbox has in memory at first.

    Raises:
        sqlite3.Error: the disk fails.
    """
    if not database.opened:
        return Memory(LATE, LATE)
    with database.reading() as connection:
        newest = reading.read_newest(connection)
        seen = reading.read_acknowledged(connection)
        return Memory(newest, newest, Cursors.load(connection), seen)


def load_faults(database: Database, gateway: str) -> Faults:
    """The faults of the service that are open.

    Args:
        database: to read.
        gateway: name of the computer.

    Raises:
        sqlite3.Error: the disk fails.
    """
    with database.reading() as connection:
        known = reading.read_alerts(connection, None, open_only=True, sensor="")
        (number,) = connection.execute(
            "SELECT coalesce(max(number), 0) FROM alerts WHERE kind = ?",
            (AlertKind.SERVICE_FAULT.value,),
        ).fetchone()
    return Faults(gateway, (standing.notice for standing in known), number)
