"""Alerts as JSON lines, for programs and for the record."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgelstm.alert import AlertChange, AlertKind
from edgelstm.pipeline import Verdict


class JsonlSink:
    """Appends a JSON object to a file when an alert opens or closes.

    Each has

    - `event`: "opened" or "closed";
    - `kind`: "anomaly" or "sensor_fault";
    - `alert`: its number among those of its kind;
    - `time`: of the reading, ISO 8601, UTC;
    - `score` and `threshold`: of the reading, and `peak_score`: of the alert; null for a fault;
    - `channels`: names and shares of the score at its peak, largest first; of a fault those that
      it is about;
    - `reason`: of a fault "flat", "out of range", "wrong rate" or "missing"; else "";

    and is on the disk before the next reading.

    Args:
        path: of the file; what is in it stays.

    Raises:
        OSError: it cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def take(self, verdict: Verdict) -> bool:
        """Appends an object for each alert that opened or closed at this reading."""
        if not verdict.changes:
            return False
        for change in verdict.changes:
            self._file.write(json.dumps(describe(change, verdict)) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        return True

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def describe(change: AlertChange, verdict: Verdict) -> dict[str, Any]:
    """An alert that opened or closed as plain data; see `JsonlSink`.

    Args:
        change: of the alert.
        verdict: on the reading at which it came.
    """
    alert = change.alert
    judged = alert.kind is AlertKind.ANOMALY
    return {
        "event": change.event.value,
        "kind": alert.kind.value,
        "alert": alert.number,
        "time": datetime.fromtimestamp(verdict.reading.timestamp, UTC).isoformat(),
        "score": verdict.score if judged else None,
        "threshold": verdict.threshold if judged else None,
        "peak_score": alert.peak_score,
        "channels": [{"name": c.name, "share": round(c.share, 4)} for c in alert.channels],
        "reason": alert.reason,
    }
