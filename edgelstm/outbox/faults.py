"""`Faults`: alerts about the service itself, such as a full disk."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from edgelstm.alert import Alert, AlertEvent, AlertKind, Severity
from edgelstm.notice import Notice, new_alert_id
from edgelstm.outbox.database import FULL
from edgelstm.outbox.writing import place_of

DISK_FULL, DISK_READ_ONLY, DISK_FAILS = "disk full", "disk read-only", "disk fails"
DISK_HANGS, LOCKED, DAMAGED = "disk hangs", "outbox locked", "outbox damaged"

OF_THE_DISK = (DISK_FULL, DISK_READ_ONLY, DISK_FAILS, DISK_HANGS, LOCKED)
"""Those that are over when something can be written."""


class Faults:
    """Opens and closes alerts of kind SERVICE_FAULT, one for each reason at a time.

    Args:
        gateway: name of the computer.
        known: the last notices of those that are open already.
        number: how many there were before.
    """

    def __init__(self, gateway: str, known: Iterable[Notice] = (), number: int = 0) -> None:
        self._gateway, self._number = gateway, number
        self._open = {notice.alert.reason: notice for notice in known}

    def open(
        self, reason: str, summary: str, time: float, severity: Severity = Severity.WARNING
    ) -> Notice | None:
        """The notice that a fault began; None when it is known."""
        if reason in self._open:
            return None
        self._number += 1
        alert = Alert(self._number, AlertKind.SERVICE_FAULT, time, reason=reason, severity=severity)
        alert_id = new_alert_id(time)
        notice = Notice(
            f"{alert_id}/1",
            alert_id,
            AlertEvent.OPENED.value,
            time,
            self._gateway,
            "",
            alert,
            summary,
        )
        self._open[reason] = notice
        return notice

    def close(self, reason: str, summary: str, time: float) -> Notice | None:
        """The notice that a fault is over; None when there was none."""
        last = self._open.pop(reason, None)
        return None if last is None else closing(last, place_of(last), summary, time)


def closing(last: Notice, told: int, summary: str, time: float) -> Notice:
    """The notice that closes an alert of which nobody else will say so.

    Args:
        last: the last notice of the alert.
        told: how many notices its alert book wrote.
        summary: one line for people.
        time: of the closing.
    """
    return replace(
        last,
        id=f"{last.alert_id}/{told + 1}",
        event=AlertEvent.CLOSED.value,
        time=time,
        alert=replace(last.alert, closed=max(time, last.alert.opened)),
        summary=summary,
        score=None,
        threshold=None,
    )


def reason_of(error: BaseException, path: Path | None) -> str:
    """What is wrong with the disk, from an error of it."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    number = getattr(error, "errno", None)
    if code == sqlite3.SQLITE_FULL or number in (errno.ENOSPC, errno.EDQUOT):
        return DISK_FULL
    if code == sqlite3.SQLITE_READONLY or number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return DISK_READ_ONLY
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LOCKED
    return DISK_FULL if path is not None and _is_full(path) else DISK_FAILS


def _is_full(path: Path) -> bool:
    """SQLite says no more than that it could not write, or could not open, where a disk is full."""
    try:
        free = os.statvfs(path.parent)
    except OSError:
        return False
    return free.f_bavail * free.f_frsize < FULL
