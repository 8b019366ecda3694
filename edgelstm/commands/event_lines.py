"""What happens to a source beside its readings: as lines for people and for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelstm.recording import format_time

if TYPE_CHECKING:
    from edgelstm_bridge.events import Event

_BURST = 10
_LINES_PER_S = 0.5


def describe_event(event: Event) -> dict[str, Any] | None:
    """An event as plain data, `event` with its name first; None for a reading."""
    from edgelstm_bridge import events
    from edgelstm_bridge.messages import Statistics

    if isinstance(event, events.Gap):
        return {
            "event": "gap",
            "missing": event.missing,
            "exact": event.exact,
            "before": _iso(event.timestamp),
            "seconds": event.seconds,
        }
    if isinstance(event, events.Connected):
        return {"event": "connected", "again": event.again, "description": event.description}
    if isinstance(event, events.Disconnected):
        return {"event": "disconnected", "reason": event.reason}
    if isinstance(event, events.Restarted):
        return {"event": "restarted"}
    if isinstance(event, events.Silence):
        damaged = {"damaged": event.damaged} if event.damaged else {}
        return {"event": "silence", "seconds": event.seconds, **damaged}
    if isinstance(event, events.Log):
        return {"event": "log", "level": event.level.name.lower(), "text": event.text}
    if isinstance(event, Statistics):
        return {
            "event": "statistics",
            "sample_count": event.sample_count,
            "dropped": event.dropped,
            "overruns": event.overruns,
            "bad_commands": event.bad_commands,
        }
    return {"event": "ended"} if isinstance(event, events.Ended) else None


def format_event(event: Event) -> str | None:
    """A line about an event, for people; None where there is nothing to say."""
    from edgelstm_bridge import events

    if isinstance(event, events.Gap):
        about = "" if event.exact else "about "
        missing = "1 reading is" if event.missing == 1 else f"{event.missing:,} readings are"
        return f"{about}{missing} missing before {format_time(event.timestamp)}."
    if isinstance(event, events.Connected):
        return f"Connected again to {event.description}." if event.again else None
    if isinstance(event, events.Disconnected):
        return event.reason
    if isinstance(event, events.Restarted):
        return "The device has restarted."
    if isinstance(event, events.Silence):
        if event.damaged:
            return (
                f"Nothing that can be used has come for {event.seconds:.0f} s, only "
                f"{event.damaged:,} damaged frames or lines: does the device send something else "
                "now, or at another baud rate?"
            )
        return f"Nothing has come for {event.seconds:.0f} s."
    if isinstance(event, events.Log):
        text = "".join(c if c.isprintable() else "?" for c in event.text)
        return f"The device says ({event.level.name.lower()}): {text}"
    return None


class RateLimit:
    """Lets lines through, but not a flood of them: a few at once, then one now and then.

    Args:
        write: takes one line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._allowed = float(_BURST)
        self._last: float | None = None
        self._hidden = 0

    def take(self, line: str, now: float) -> None:
        """Writes a line, or counts it.

        Args:
            line: without its end.
            now: in monotonic seconds.
        """
        passed = 0.0 if self._last is None else now - self._last
        self._last = now
        self._allowed = min(_BURST, self._allowed + passed * _LINES_PER_S)
        if self._allowed < 1:
            self._hidden += 1
            return
        self._allowed -= 1
        self.close()
        self._write(line)

    def close(self) -> None:
        """Says how many lines were not written."""
        if self._hidden:
            self._write(f"({self._hidden:,} more such lines)")
            self._hidden = 0


class EventFile:
    """Appends events to a file as JSON lines, each on the disk before the next.

    Each has `time` (ISO 8601, UTC: when it was written) and `event`, and what belongs to that.

    Args:
        path: of the file; what is in it stays.

    Raises:
        OSError: it cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_new = not path.exists()
        self._file = path.open("a", encoding="utf-8")

    def take(self, event: Event, now: float) -> None:
        """Appends an event; a reading is none.

        Args:
            event: of the source.
            now: Unix seconds.
        """
        described = describe_event(event)
        if described is not None:
            self._file.write(json.dumps({"time": _iso(now), **described}) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file, and removes it when it was made for this and there is nothing in it."""
        if self._is_new and not self._file.tell():
            self._path.unlink(missing_ok=True)
        self._file.close()


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat()
