"""`Database`: the connections to the file, one that writes and one that reads."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from edgelstm.errors import OutboxError
from edgelstm.outbox.lock import OwnerLock
from edgelstm.outbox.schema import BUSY_MS, LOG_BYTES, connect, file_bytes, is_sound, log_bytes

_log = logging.getLogger(__name__)

_DAMAGED_KEPT = 3
"""Damaged files that are left for people to look at."""

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)

FULL = 65_536
"""Bytes that are free on a disk on which SQLite can do nothing."""

DAMAGE = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))


class Database:
    """A database in a file, or in memory.

    Whoever reads waits for no writer, unless it is in memory, where nothing takes long. While the
    disk is full or fails already at the start, it is `opened` later, and empty until then.

    Args:
        path: of the file, whose folder is made; None for one in memory.

    Raises:
        OutboxError: another service has it, it is of a newer edgelstm, or it may not be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.moved: Path | None = None
        """Where a damaged file was moved to."""
        self._write_lock = threading.Lock()
        self._read_lock = self._write_lock if path is None else threading.Lock()
        self._lock: OwnerLock | None = None
        self.opened = False
        """Whether it is the file, and not an empty one in memory in its place."""
        self.why_not: Exception | None = None
        """Why it is not."""
        try:
            self.open()
        except OutboxError:
            self.close()
            raise
        except (sqlite3.Error, OSError) as error:
            self.close()
            if path is None or not may_pass(error, path):
                raise OutboxError(
                    f"The state directory {self.path and self.path.parent} cannot be used "
                    f"({error}); name one that this user may write to."
                ) from error
            self.why_not = error
            self._writer = self._reader = connect(None)

    def open(self) -> None:
        """Opens the file, and moves a damaged one aside.

        Raises:
            OutboxError: another service has it, or it is of a newer edgelstm.
            sqlite3.Error: the disk is full or fails.
            OSError: likewise.
        """
        if self.path is not None and self._lock is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._lock = OwnerLock(self.path.with_name("lock"))
        try:
            connections = self._connect()
        except sqlite3.DatabaseError as error:
            if self.path is None or not is_damage(error):
                raise
            self._move_aside(self.path)
            connections = self._connect()
        with self._alone():
            self._close()
            self._writer, self._reader = connections
        self.opened = True

    def _connect(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        """The connections that write and that read."""
        writer = connect(self.path)
        if self.path is None:
            return writer, writer
        try:
            if not is_sound(writer):
                raise _damaged()
            reader = connect(self.path)
            reader.execute("PRAGMA cache_size = -256")  # kB
        except BaseException:
            writer.close()
            raise
        return writer, reader

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with ExitStack() as stack:
            for lock in {self._write_lock, self._read_lock}:
                stack.enter_context(lock)
            yield

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Gives the connection that reads.

        Raises:
            sqlite3.Error: the disk fails.
        """
        with self._read_lock:
            yield self._reader

    @contextmanager
    def writing(self, *, surely: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction: all that happens in the block is in the file, or nothing of it.

        Args:
            surely: whether it is on the disk when the block ends; a power cut may take back the
                others, in order.

        Raises:
            sqlite3.Error: the disk is full or fails; nothing was written.
        """
        with self._write_lock:
            writer = self._writer
            writer.execute(f"PRAGMA synchronous = {'FULL' if surely else 'NORMAL'}")
            writer.execute("BEGIN IMMEDIATE")
            try:
                yield writer
                writer.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # after a full disk SQLite has done it already
                    if writer.in_transaction:
                        writer.execute("ROLLBACK")
                raise

    @contextmanager
    def tidying(self) -> Iterator[sqlite3.Connection]:
        """Gives the connection that writes, outside a transaction."""
        with self._write_lock:
            yield self._writer

    def shorten_log(self) -> None:
        """Takes the log into the file when it has grown, as soon as nobody reads from it.

        Raises:
            sqlite3.Error: the disk fails.
        """
        if self.path is None or log_bytes(self.path) <= LOG_BYTES:
            return
        with self._write_lock:
            self._writer.execute("PRAGMA busy_timeout = 0")  # who reads must not stall the rest
            try:
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self._writer.execute(f"PRAGMA busy_timeout = {BUSY_MS}")

    def bytes(self) -> int:
        """What it takes on the disk; of one in memory, there."""
        if self.path is not None:
            return file_bytes(self.path)
        with self.reading() as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
        return int(pages) * 4096

    def replace(self) -> None:
        """Moves a damaged file aside and begins a new one; `moved` says where the old one is.

        Raises:
            sqlite3.Error: the disk is full or fails.
            OSError: likewise.
        """
        if self.path is None:
            return  # memory is never damaged
        with self._alone():
            self._close()
            self._move_aside(self.path)
            self._writer, self._reader = self._connect()

    def _move_aside(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        if not path.exists():
            _log.warning("%s was deleted: a new one is begun", path)
            return
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        moved = path.with_name(f"{path.name}.damaged-{stamp}")
        for again in count(2):
            if not moved.exists():
                break
            moved = path.with_name(f"{path.name}.damaged-{stamp}-{again}")
        for end in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + end).rename(moved.with_name(moved.name + end))
        _log.warning("%s was damaged: it is now %s, and a new one is begun", path, moved)
        self.moved = moved
        found = path.parent.glob(f"{path.name}.damaged-*")
        damaged = sorted(one for one in found if not one.name.endswith(("-wal", "-shm")))
        for old in damaged[:-_DAMAGED_KEPT]:
            for end in ("", "-wal", "-shm"):
                old.with_name(old.name + end).unlink(missing_ok=True)

    def is_gone(self) -> bool:
        """Whether somebody deleted the file: what is written then is lost when it is closed."""
        return self.opened and self.path is not None and not self.path.exists()

    def close(self) -> None:
        """Closes it; may be called twice. The last one to close takes the log into the file."""
        with self._alone():
            self._close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _close(self) -> None:
        for name in ("_reader", "_writer"):
            connection = getattr(self, name, None)
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()


def is_damage(error: BaseException) -> bool:
    """Whether an error says that the file is no sound database."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in DAMAGE


def may_pass(error: Exception, path: Path) -> bool:
    """Whether an error is one of the disk, which may pass, and not of what the user may do."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    number = getattr(error, "errno", None)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR) or number in _OF_THE_DISK:
        return True
    try:
        system = os.statvfs(next(p for p in path.absolute().parents if p.exists()))
    except OSError:
        return True
    return bool(system.f_flag & os.ST_RDONLY) or system.f_bavail * system.f_frsize < FULL


def _damaged() -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError("the pages do not fit together")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
