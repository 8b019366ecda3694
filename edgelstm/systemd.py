"""What a service says to systemd: that it is ready, reloads, stops and makes progress; and its log.

The protocols are a few datagrams, so there is no library (docs/decisions/0022). Without systemd all
of it does nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from edgelstm.journal import IDENTIFIER, JOURNAL_SOCKET, Journal, Priority

_LOG = logging.getLogger(__name__)
_TIMEOUT_S = 1.0


class Notifier:
    """Tells systemd how the service is, as sd_notify(3) does.

    Args:
        environ: has `NOTIFY_SOCKET` when systemd listens, and `WATCHDOG_USEC` when it wants to
            hear of progress.
        timeout: seconds to wait while systemd is busy.
    """

    def __init__(
        self, environ: Mapping[str, str] = os.environ, timeout: float = _TIMEOUT_S
    ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):  # of the abstract namespace, which has no files
            address = "\0" + address[1:]
        elif address and not address.startswith("/"):
            _LOG.warning("NOTIFY_SOCKET is %s, which edgelstm cannot send to.", address)
            address = ""
        self._address, self._timeout = address, timeout
        self._told_failure = False
        self.watchdog_seconds = _watchdog_seconds(environ)
        """Within so many seconds `watchdog` has to be called again; None for never."""

    @property
    def listening(self) -> bool:
        """Whether systemd listens."""
        return bool(self._address)

    def ready(self, status: str = "") -> None:
        """The start, or a reload, is over.

        Args:
            status: one line for `systemctl status`.
        """
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """The configuration is read anew; `ready` has to follow."""
        # The time tells systemd which reload this answers (Type=notify-reload).
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def status(self, text: str) -> None:
        """What `systemctl status` shows, one line."""
        self._send(_status(text))

    def stopping(self, status: str = "") -> None:
        """The end has begun."""
        self._send("STOPPING=1", _status(status))

    def watchdog(self) -> None:
        """The service makes progress. Without this for long, systemd kills it and starts anew."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        message = "\n".join(filter(None, lines)).encode(errors="replace")
        if not message:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(self._timeout)
                channel.sendto(message, self._address)
        except OSError as error:
            if not self._told_failure:
                _LOG.warning("systemd does not hear this service: %s.", error)
            self._told_failure = True
        else:
            self._told_failure = False


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())}" if text else ""


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """See sd_watchdog_enabled(3): a child inherits the variables, but is not watched."""
    try:
        microseconds = int(environ["WATCHDOG_USEC"])
        if int(environ.get("WATCHDOG_PID", os.getpid())) != os.getpid():
            return None
    except (KeyError, ValueError):
        return None
    return microseconds / 1e6 if microseconds > 0 else None


def under_journal(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether standard error goes to the journal, so that its lines belong there as entries.

    `JOURNAL_STREAM` is inherited by children whose standard error goes elsewhere: hence the look
    at the file itself.
    """
    try:
        device, _, inode = environ["JOURNAL_STREAM"].partition(":")
        stream = os.fstat(sys.stderr.fileno())
        return (stream.st_dev, stream.st_ino) == (int(device), int(inode))
    except (KeyError, ValueError, OSError):
        return False


class JournalHandler(logging.Handler):
    """Writes log records as entries of the journal, without ever waiting for it.

    What a record has as `extra={"journal": {"EDGELSTM_SENSOR": "pump"}}` becomes fields. Without a
    journald, records go to standard error. While it is too busy to take them they are lost; the
    next one that it takes says how many in the field `EDGELSTM_LOST_ENTRIES`.

    Args:
        path: of journald's socket.
        identifier: by which `journalctl -t` finds the entries.
    """

    def __init__(self, path: Path = JOURNAL_SOCKET, identifier: str = IDENTIFIER) -> None:
        super().__init__()
        self._journal = Journal(path)
        self._identifier = identifier
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        try:
            message = self.format(record)
            try:
                self._journal.send(self._fields(record, message))
                self._lost = 0
            except BlockingIOError:
                self._lost += 1
            except OSError:
                sys.stderr.write(message + "\n")
        except Exception:  # as every handler of the library does: logging breaks nothing
            self.handleError(record)

    def close(self) -> None:
        """Closes the socket."""
        self._journal.close()
        super().close()

    def _fields(self, record: logging.LogRecord, message: str) -> dict[str, object]:
        return {
            "MESSAGE": message,
            "PRIORITY": _priority(record.levelno).value,
            "SYSLOG_IDENTIFIER": self._identifier,
            "LOGGER": record.name,
            "THREAD_NAME": record.threadName,
            "CODE_FILE": record.pathname,
            "CODE_LINE": record.lineno,
            "CODE_FUNC": record.funcName,
            "EDGELSTM_LOST_ENTRIES": self._lost or None,
            **getattr(record, "journal", {}),
        }


def _priority(level: int) -> Priority:
    for least, priority in (
        (logging.CRITICAL, Priority.CRITICAL),
        (logging.ERROR, Priority.ERROR),
        (logging.WARNING, Priority.WARNING),
        (logging.INFO, Priority.INFO),
    ):
        if level >= least:
            return priority
    return Priority.DEBUG
