"""The file of the outbox: a SQLite database in WAL mode, its tables, and how it is opened.

Times are seconds since the Unix epoch by the clock of the computer, which may jump; nothing is
ordered by them. `sequence` counts the notices: it is their order. `age` is the service's own clock:
seconds that an outbox on this file has been open, which nobody can set.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from edgelstm.errors import OutboxError

VERSION = 1

_TABLES = """
CREATE TABLE alerts (
    id TEXT PRIMARY KEY,
    sensor TEXT NOT NULL,
    kind TEXT NOT NULL,
    number INTEGER NOT NULL,
    open INTEGER NOT NULL,
    opened REAL NOT NULL,
    told INTEGER NOT NULL,   -- how many notices its alert book wrote
    first INTEGER NOT NULL,  -- sequence of its first notice
    last INTEGER NOT NULL,   -- of its last one
    age REAL NOT NULL        -- when that was stored
) WITHOUT ROWID;
CREATE INDEX alerts_first ON alerts (first);
CREATE INDEX alerts_open ON alerts (first) WHERE open;
CREATE TABLE notices (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    alert_id TEXT NOT NULL,
    sensor TEXT NOT NULL,
    silent INTEGER NOT NULL, -- whether it is stored and not sent
    body TEXT NOT NULL       -- JSON, as Notice.to_dict gives it
);
CREATE INDEX notices_alert ON notices (alert_id, sequence);
CREATE INDEX notices_sensor ON notices (sensor, sequence) WHERE NOT silent;
CREATE TABLE evidence (
    alert_id TEXT PRIMARY KEY,
    first INTEGER NOT NULL,  -- as that of its alert
    body BLOB NOT NULL       -- JSON, as Evidence.to_dict gives it, through zlib
);
CREATE INDEX evidence_first ON evidence (first);
CREATE TABLE acknowledgements (
    alert_id TEXT PRIMARY KEY,
    time REAL NOT NULL,
    by TEXT NOT NULL,
    note TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE states (sensor TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE sinks (
    name TEXT PRIMARY KEY,
    base INTEGER NOT NULL    -- the newest sequence when it came
) WITHOUT ROWID;
CREATE TABLE begun (         -- alerts that were open when a sink came
    sink TEXT NOT NULL,
    alert_id TEXT NOT NULL,
    PRIMARY KEY (sink, alert_id)
) WITHOUT ROWID;
CREATE TABLE cursors (       -- up to where a sink has the notices of a sensor
    sink TEXT NOT NULL,
    sensor TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (sink, sensor)
) WITHOUT ROWID;
CREATE TABLE deliveries (
    sequence INTEGER NOT NULL,
    sink TEXT NOT NULL,
    time REAL NOT NULL,
    refused TEXT NOT NULL,
    PRIMARY KEY (sequence, sink)
) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
"""

LOG_BYTES = 500_000
"""To which the write-ahead log shrinks again, and after which it is taken into the file."""

BUSY_MS = 5_000
"""For which a write waits for another process that writes."""


def connect(path: Path | None) -> sqlite3.Connection:
    """Opens the database for reading and writing, and makes it when there is none.

    Args:
        path: of the file; None for one in memory.

    Raises:
        OutboxError: it is of a newer edgelstm.
        sqlite3.Error: it is damaged, or the disk is full or fails.
        OSError: it cannot be made.
    """
    if path is None:
        connection = _open(":memory:")
    else:
        if not path.exists():  # SQLite gives its other files the mode of this one
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = _open(str(path))
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_existing(path: Path) -> sqlite3.Connection:
    """Opens a file that is there, beside the service that owns it.

    Raises:
        OutboxError: there is none, it is of another edgelstm, or it cannot be read.
    """
    try:
        connection = _open(f"{path.absolute().as_uri()}?mode=rw", uri=True)
    except sqlite3.Error as error:
        raise OutboxError(
            f"{path} cannot be opened ({error}); run this as the user of the service."
        ) from error
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        _need_known(version, path)
        if version == 0:
            raise OutboxError(f"{path} is no outbox; name the state directory of a service.")
    except sqlite3.Error as error:
        connection.close()
        raise OutboxError(
            f"{path} cannot be read ({error}); a service that starts on it moves a damaged one "
            "aside."
        ) from error
    except OutboxError:
        connection.close()
        raise
    return connection


def is_sound(connection: sqlite3.Connection) -> bool:
    """Whether SQLite finds no damage; it looks at every page."""
    return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))


def file_bytes(path: Path) -> int:
    """What the database and its write-ahead log take on the disk."""
    return _size(path) + log_bytes(path)


def log_bytes(path: Path) -> int:
    """What the write-ahead log of a database takes on the disk."""
    return _size(path.with_name(path.name + "-wal"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _open(name: str, *, uri: bool = False) -> sqlite3.Connection:
    # Without implicit transactions; a lock of ours says who may use it.
    return sqlite3.connect(
        name, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False, uri=uri
    )


def _prepare(connection: sqlite3.Connection, path: Path | None) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    _need_known(version, path)
    if version == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_BYTES // 4096}")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -256")  # kB: what is written is seldom read again
    if version == 0:
        connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")


def _need_known(version: int, path: Path | None) -> None:
    if version > VERSION:
        raise OutboxError(
            f"{path} was written by a newer edgelstm (its version is {version}, and this one knows "
            f"{VERSION}): install that again, or name another state directory."
        )
