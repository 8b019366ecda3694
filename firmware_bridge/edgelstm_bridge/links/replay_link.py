"""A raw capture as a link: the same chunks with the same times, and the same losses."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

from edgelstm_bridge.capture import CaptureReader, Kind, Record
from edgelstm_bridge.links.link import Chunk, Link, LinkEnded, LinkLost, is_closed
from edgelstm_bridge.urls import SourceUrl


class Replay:
    """An opener that gives one connection of a capture after the other.

    It raises `LinkEnded` when there is no further one.

    Args:
        path: of the capture.
        speed: 1 is the pace at which it was recorded, 10 ten times that; `inf` waits for nothing.
    """

    def __init__(self, path: Path, speed: float = math.inf) -> None:
        self._path = path
        self._offset = 0
        self._pace = _Pace(speed)

    def __call__(self) -> Link:
        """Opens the next connection.

        Raises:
            LinkEnded: there is none.
            RecordingError: the file cannot be read, or is no capture.
        """
        reader = CaptureReader(self._path, self._offset)
        for record in reader:
            if record.kind is Kind.CONNECTED:
                self._offset = reader.offset
                return ReplayLink(reader, self._path, record, self._pace)
        raise _at_end(self._path)


class ReplayLink(Link):
    """One connection of a capture.

    Args:
        reader: just after the record of the connection; it is closed with the link.
        path: of the capture, for messages.
        connected: the record of the connection.
        pace: when what was recorded is due.
    """

    is_live = False
    can_wait = True

    def __init__(
        self,
        reader: CaptureReader,
        path: Path,
        connected: Record,
        pace: _Pace,
    ) -> None:
        self.description = f"{path} ({_text(connected)})"
        self._reader = reader
        self._path = path
        self._pace = pace
        self._waiting: Record | None = None
        self._end: LinkLost | LinkEnded | None = None
        self._using = threading.Lock()
        self._closing = threading.Event()
        pace.begin(connected.at)

    def read(self, timeout: float) -> Chunk | None:
        """Returns the next chunk, once it is due; see `Link.read`."""
        deadline = time.monotonic() + timeout
        with self._using:
            while not self._closing.is_set():
                if self._end is not None:
                    raise self._end
                record = self._waiting or next(self._reader, None)
                self._waiting = record
                if record is None:
                    self._end = _at_end(self._path)
                    continue
                wait = self._pace.due(record.at) - time.monotonic()
                if wait > 0:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return None
                    self._closing.wait(min(wait, left))
                    continue
                self._waiting = None
                if record.kind is Kind.RECEIVED:
                    return Chunk(record.data, record.at, record.wall_offset)
                self._end = self._happened(record)
            raise is_closed(self.description)

    def close(self) -> None:
        """Closes the file."""
        self._closing.set()
        with self._using:
            self._reader.close()

    def _happened(self, record: Record) -> LinkLost | LinkEnded | None:
        """Follows what is no data; returns how this connection ended, if it did."""
        if record.kind is Kind.SENT:
            if self.on_sent is not None:
                self.on_sent(record.data, record.at)
            return None
        if record.kind is Kind.CONNECTED:  # the end of the one before was not written down
            return LinkLost(f"{self.description} was connected anew.")
        if record.kind is Kind.DISCONNECTED:
            return LinkLost(_text(record))
        # Who recorded had enough: that is the end, unless the recording goes on.
        if record.kind is Kind.CLOSED and any(
            later.kind is Kind.CONNECTED for later in self._reader
        ):
            return LinkLost(f"{self.description} was closed, and opened again.")
        return _at_end(self._path)


class _Pace:
    """When on this host's clock what was recorded is due.

    Args:
        speed: how much faster than recorded.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._began: tuple[float, float] | None = None

    def begin(self, at: float) -> None:
        """The recording begins with what happened `at`; only the first call counts."""
        self._began = self._began or (at, time.monotonic())

    def due(self, at: float) -> float:
        """Returns when what happened `at` is due, on the monotonic clock."""
        if self._began is None or math.isinf(self._speed):
            return -math.inf
        recorded, replayed = self._began
        return replayed + (at - recorded) / self._speed


def _text(record: Record) -> str:
    return record.data.decode(errors="replace")


def _at_end(path: Path) -> LinkEnded:
    return LinkEnded(f"The capture {path} has come to its end.")


def replay_opener(url: SourceUrl) -> Replay:
    """Returns the opener of a capture; it remembers how far it has come."""
    return Replay(Path(url.path), url.speed)
