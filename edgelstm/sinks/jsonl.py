"""Alerts as JSON lines, for programs and for the record."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from edgelstm.pipeline import Verdict


class JsonlSink:
    """Appends a JSON object to a file when an alert opens or closes.

    Each has `event` ("opened" or "closed"), `alert` (its number in this run), `time` (ISO 8601,
    UTC), `score`, `threshold` and `peak_score`, and is on the disk before the next reading.

    Args:
        path: of the file; what is in it stays.

    Raises:
        OSError: it cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def take(self, verdict: Verdict) -> bool:
        """Appends an object, if an alert opened or closed at this reading."""
        if verdict.event is None or verdict.alert is None:
            return False
        record = {
            "event": verdict.event.value,
            "alert": verdict.alert.number,
            "time": datetime.fromtimestamp(verdict.reading.timestamp, UTC).isoformat(),
            "score": verdict.score,
            "threshold": verdict.threshold,
            "peak_score": verdict.alert.peak_score,
        }
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        return True

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
