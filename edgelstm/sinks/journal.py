"""Alerts as entries of systemd's journal, with fields to find them by."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgelstm.alert import AlertEvent, Severity
from edgelstm.errors import RefusedNoticeError, SinkError
from edgelstm.journal import IDENTIFIER, JOURNAL_SOCKET, Journal, Priority
from edgelstm.notice import ACKNOWLEDGED, Notice
from edgelstm.sinks import Sink, SinkContext

MESSAGE_ID = "bee7d614a927428abd394f621564a639"
"""Of every alert: `journalctl MESSAGE_ID=...` shows them, and nothing else."""

_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class JournalConfig:
    """Options of the sink `journal`."""

    identifier: str = field(
        default=IDENTIFIER, metadata={"help": "By which journalctl -t finds the entries."}
    )
    socket: Path = field(default=JOURNAL_SOCKET, metadata={"help": "Where journald listens."})


class JournalSink(Sink):
    """Writes each notice as an entry of the journal.

    Args:
        config: its options.
        context: what else it may know.
    """

    Config = JournalConfig
    config: JournalConfig

    def __init__(self, config: JournalConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._journal: Journal | None = None

    def send(self, notice: Notice) -> None:
        """Writes a notice.

        Raises:
            RefusedNoticeError: journald takes nothing as large.
            SinkError: journald does not listen.
        """
        path = self.context.directory / self.config.socket
        if self._journal is None:
            self._journal = Journal(path, _TIMEOUT_S)
        try:
            self._journal.send(fields(notice, self.config.identifier))
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise RefusedNoticeError(
                    f"The notice {notice.id} is too large for the journal; take the sink 'jsonl' "
                    "for it."
                ) from error
            raise SinkError(
                f"journald does not take entries at {path} ({error.strerror or error}); see "
                "'systemctl status systemd-journald'."
            ) from error

    def close(self) -> None:
        """Closes the socket."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None


def fields(notice: Notice, identifier: str = IDENTIFIER) -> dict[str, Any]:
    """A notice as the fields of a journal entry; `docs/service.md` lists them."""
    alert = notice.alert
    about = f"{notice.sensor}: " if notice.sensor else ""
    return {
        "MESSAGE": about + notice.summary,
        "MESSAGE_ID": MESSAGE_ID,
        "PRIORITY": _priority(notice).value,
        "SYSLOG_IDENTIFIER": identifier,
        "EDGELSTM_NOTICE_ID": notice.id,
        "EDGELSTM_ALERT_ID": notice.alert_id,
        "EDGELSTM_EVENT": notice.event,
        "EDGELSTM_KIND": alert.kind.value,
        "EDGELSTM_SEVERITY": alert.severity.value,
        "EDGELSTM_GATEWAY": notice.gateway or None,
        "EDGELSTM_SENSOR": notice.sensor or None,
        "EDGELSTM_TIME": notice.to_dict()["time"],
        "EDGELSTM_SCORE": notice.score,
        "EDGELSTM_THRESHOLD": notice.threshold,
        "EDGELSTM_PEAK_SCORE": alert.peak_score,
        "EDGELSTM_CHANNELS": ", ".join(channel.name for channel in alert.channels) or None,
        "EDGELSTM_REASON": alert.reason or None,
        "EDGELSTM_ACKNOWLEDGED_BY": notice.acknowledged and notice.acknowledged.by,
    }


def _priority(notice: Notice) -> Priority:
    if notice.event == ACKNOWLEDGED:
        return Priority.INFO
    if notice.event == AlertEvent.CLOSED.value:
        return Priority.NOTICE
    return Priority.CRITICAL if notice.alert.severity is Severity.CRITICAL else Priority.WARNING
