"""What is read from the database: each function takes a connection."""

from __future__ import annotations

import json
import logging
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from edgelstm.alert import AlertKind
from edgelstm.errors import ConfigurationError, OutboxError
from edgelstm.evidence import Evidence
from edgelstm.notice import Acknowledgement, Notice, OpenEntry
from edgelstm.outbox.cursors import Delivery, Registration

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Standing(NamedTuple):
    """An alert as it stands.

    Attributes:
        first: sequence of its first notice.
        notice: its last one, with the acknowledgement.
    """

    first: int
    notice: Notice


_STANDING = (
    "SELECT a.first, n.body, k.time, k.by, k.note FROM alerts a JOIN notices n ON "
    "n.sequence = a.last LEFT JOIN acknowledgements k ON k.alert_id = a.id "
)


def read_alerts(
    connection: sqlite3.Connection,
    limit: int | None,
    *,
    open_only: bool = False,
    sensor: str | None = None,
    since: float | None = None,
) -> list[Standing]:
    """The last notice of each alert, the newest alert first; see `Outbox.alerts`."""
    conditions, values = ["1"], list[object]()
    if open_only:
        conditions.append("a.open")
    if sensor is not None:
        conditions.append("a.sensor = ?")
        values.append(sensor)
    if since is not None:
        conditions.append("a.opened >= ?")
        values.append(since)
    where = f"WHERE {' AND '.join(conditions)} ORDER BY a.first DESC LIMIT ?"
    values.append(-1 if limit is None else limit)
    return list(_readable(connection.execute(_STANDING + where, values), _standing))


def read_alert(connection: sqlite3.Connection, alert_id: str) -> Standing | None:
    """The last notice of an alert, by its whole id."""
    row = connection.execute(f"{_STANDING} WHERE a.id = ?", (alert_id,)).fetchone()
    return None if row is None else _standing(*row)


def count_alerts(connection: sqlite3.Connection) -> int:
    """How many alerts there are."""
    (count,) = connection.execute("SELECT count(*) FROM alerts").fetchone()
    return int(count)


def find_ids(connection: sqlite3.Connection, part: str) -> list[str]:
    """The ids that begin or end with a text."""
    rows = connection.execute(
        "SELECT id FROM alerts WHERE substr(id, 1, :n) = :part OR substr(id, -:n) = :part",
        {"n": len(part), "part": part},
    )
    return [alert_id for (alert_id,) in rows]


def the_one(ids: Iterable[str], part: str) -> str:
    """The one id that a part of it means.

    Raises:
        ConfigurationError: there is none, or more than one.
    """
    found = sorted(set(ids))
    if part in found:
        return part
    if not found:
        raise ConfigurationError(
            f"There is no alert whose id begins or ends with {part!r}; edgelstm alerts list shows "
            "those that are kept."
        )
    if len(found) > 1:
        shown = ", ".join(found[:3]) + (" and others" if len(found) > 3 else "")
        raise ConfigurationError(f"{part!r} may mean {shown}; give more of the id.")
    return found[0]


def read_history(connection: sqlite3.Connection, alert_id: str) -> list[Notice]:
    """All notices of an alert that are kept, in order."""
    rows = connection.execute(
        "SELECT body FROM notices WHERE alert_id = ? ORDER BY sequence", (alert_id,)
    )
    return list(_readable(rows, from_json))


def read_evidence(connection: sqlite3.Connection, alert_id: str) -> Evidence | None:
    """The readings around an alert, if they are kept."""
    row = connection.execute("SELECT body FROM evidence WHERE alert_id = ?", (alert_id,)).fetchone()
    if row is None:
        return None
    try:
        return Evidence.from_dict(json.loads(zlib.decompress(row[0])))
    except (zlib.error, ValueError) as error:
        raise OutboxError(f"The evidence of alert {alert_id} is damaged.") from error


def read_deliveries(connection: sqlite3.Connection, alert_id: str) -> list[tuple[str, Delivery]]:
    """Which sink is done with which notice of an alert: ids of notices and what became of them."""
    rows = connection.execute(
        "SELECT n.id, d.sink, d.sequence, d.time, d.refused FROM notices n JOIN deliveries d ON "
        "d.sequence = n.sequence WHERE n.alert_id = ? ORDER BY n.sequence, d.sink",
        (alert_id,),
    )
    return [(notice_id, Delivery(*rest)) for notice_id, *rest in rows]


def read_open(connection: sqlite3.Connection, sensor: str | None = None) -> list[OpenEntry]:
    """The alerts that are open, of a sensor or of all."""
    rows = connection.execute(
        "SELECT id, kind, number, told FROM alerts WHERE open AND (?1 IS NULL OR sensor = ?1) "
        "ORDER BY first",
        (sensor,),
    )
    return [
        OpenEntry(alert_id, AlertKind(kind), number, told) for alert_id, kind, number, told in rows
    ]


_SEEN = (
    "SELECT a.id, k.time, k.by, k.note FROM acknowledgements k JOIN alerts a ON a.id = k.alert_id "
)


def read_acknowledged(connection: sqlite3.Connection) -> dict[str, Acknowledgement]:
    """Who has seen which of the open alerts, by id."""
    rows = connection.execute(f"{_SEEN} WHERE a.open")
    return {alert_id: Acknowledgement(*rest) for alert_id, *rest in rows}


def read_untold(connection: sqlite3.Connection) -> dict[str, Acknowledgement]:
    """Acknowledgements of which there is no notice yet, by id of the alert."""
    rows = connection.execute(
        f"{_SEEN} LEFT JOIN notices n ON n.id = a.id || '/acknowledged' WHERE n.id IS NULL"
    )
    return {alert_id: Acknowledgement(*rest) for alert_id, *rest in rows}


def read_pending(
    connection: sqlite3.Connection, registration: Registration, sensor: str, at: int, limit: int
) -> list[tuple[int, Notice]]:
    """The notices of a sensor that a sink is still to get, in order.

    Args:
        connection: to the database.
        registration: of the sink.
        sensor: name of it.
        at: sequence up to which the sink has them.
        limit: how many at most.
    """
    select = "SELECT sequence, alert_id, body FROM notices WHERE sensor = ? AND NOT silent "
    found: list[tuple[int, Notice]] = []
    if registration.begun and at < registration.base:
        rows = connection.execute(
            f"{select} AND sequence > ? AND sequence <= ? ORDER BY sequence",
            (sensor, at, registration.base),
        )
        found += _readable((row for row in rows if row[1] in registration.begun), _numbered)
    if len(found) < limit:
        rows = connection.execute(
            f"{select} AND sequence > ? ORDER BY sequence LIMIT ?",
            (sensor, max(at, registration.base), limit - len(found)),
        )
        found += _readable(rows, _numbered)
    return found[:limit]


def _readable(rows: Iterable[tuple[Any, ...]], read: Callable[..., T]) -> Iterator[T]:
    """Those that can be read: one that another edgelstm wrote must not stop the rest."""
    for row in rows:
        try:
            yield read(*row)
        except (OutboxError, ValueError) as error:
            _log.warning("a notice is left out: %s", error)


def _numbered(sequence: int, _alert_id: str, body: str) -> tuple[int, Notice]:
    return sequence, from_json(body)


def count_pending(
    connection: sqlite3.Connection, registration: Registration, sensor: str, at: int
) -> int:
    """How many notices of a sensor a sink is still to get; arguments as `read_pending`."""
    (count,) = connection.execute(
        "SELECT count(*) FROM notices WHERE sensor = ? AND NOT silent AND sequence > ?",
        (sensor, max(at, registration.base)),
    ).fetchone()
    if registration.begun and at < registration.base:
        rows = connection.execute(
            "SELECT alert_id, count(*) FROM notices WHERE sensor = ? AND NOT silent AND "
            "sequence > ? AND sequence <= ? GROUP BY alert_id",
            (sensor, at, registration.base),
        )
        count += sum(number for alert_id, number in rows if alert_id in registration.begun)
    return int(count)


def read_state(connection: sqlite3.Connection, sensor: str) -> bytes | None:
    """The state of a sensor's pipeline, as it was saved."""
    row = connection.execute("SELECT body FROM states WHERE sensor = ?", (sensor,)).fetchone()
    return None if row is None else bytes(row[0])


def read_fact(connection: sqlite3.Connection, name: str) -> float:
    """A figure that outlasts the service; 0 for one that was never written."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return 0.0 if row is None else float(row[0])


def read_newest(connection: sqlite3.Connection) -> int:
    """The highest sequence there is, or was; 0 at first."""
    (newest,) = connection.execute("SELECT coalesce(max(sequence), 0) FROM notices").fetchone()
    (base,) = connection.execute("SELECT coalesce(max(base), 0) FROM sinks").fetchone()
    (at,) = connection.execute("SELECT coalesce(max(sequence), 0) FROM cursors").fetchone()
    return int(max(newest, base, at))


def from_json(body: str) -> Notice:
    """A notice as it was stored.

    Raises:
        OutboxError: it is of another edgelstm.
    """
    return Notice.from_dict(json.loads(body))


def _standing(
    first: int, body: str, time: float | None, by: str | None, note: str | None
) -> Standing:
    notice = from_json(body)
    if time is not None and notice.acknowledged is None:
        notice = replace(notice, acknowledged=Acknowledgement(time, by or "", note or ""))
    return Standing(first, notice)
