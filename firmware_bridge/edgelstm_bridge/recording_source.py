"""`RecordingSource`: a recording as if it came from a device now."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator

from edgelstm.reading import Reading
from edgelstm.recording import Recording
from edgelstm_bridge.events import Connected, Ended, Event
from edgelstm_bridge.messages import ChannelInfo
from edgelstm_bridge.receiver import SourceCounters
from edgelstm_bridge.source import Source


class RecordingSource(Source):
    """Gives the readings of a recording with the times that they have there.

    Args:
        recording: of any number of channels.
        speed: 1 is the pace of its times, 10 ten times that; `inf` waits for nothing.
    """

    def __init__(self, recording: Recording, speed: float = math.inf) -> None:
        self._recording = recording
        self._speed = speed
        self._counters = SourceCounters()
        self._closing = threading.Event()
        self._events = self._make_events()

    @property
    def description(self) -> str:
        """See `Source.description`."""
        return self._recording.source

    @property
    def channels(self) -> tuple[ChannelInfo, ...]:
        """See `Source.channels`."""
        return tuple(map(ChannelInfo, self._recording.channels))

    @property
    def sample_period(self) -> float | None:
        """See `Source.sample_period`."""
        return self._recording.sample_period

    @property
    def counters(self) -> SourceCounters:
        """See `Source.counters`."""
        return self._counters

    def events(self) -> Iterator[Event]:
        """See `Source.events`."""
        return self._events

    def close(self) -> None:
        """See `Source.close`."""
        self._closing.set()

    def _make_events(self) -> Iterator[Event]:
        yield Connected(self.description)
        times, values = self._recording.timestamps, self._recording.values
        began = time.monotonic()
        first = float(times[0])
        for timestamp, row in zip(times.tolist(), values.tolist(), strict=True):
            if not math.isinf(self._speed):
                due = began + (timestamp - first) / self._speed
                self._closing.wait(max(0.0, due - time.monotonic()))
            if self._closing.is_set():
                return
            self._counters.readings += 1
            yield Reading(timestamp, tuple(row))
        yield Ended()
