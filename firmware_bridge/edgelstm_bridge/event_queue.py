"""`EventQueue`: from the thread that reads a link to whoever takes its events; bounded."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from edgelstm.reading import Reading
from edgelstm_bridge.events import Event

_MOST_KEPT = 1000


class EventQueue:
    """Hands events from one thread to another, in order.

    Args:
        limit: how many may wait.
        drop: whether the oldest readings are dropped when there are more (a live sensor cannot
            wait); False: `put` waits. What else happened is kept as long as it is not a flood.

    Attributes:
        overflow: readings dropped so far.
    """

    def __init__(self, limit: int, *, drop: bool) -> None:
        self.overflow = 0
        self._limit = limit
        self._drop = drop
        self._events: deque[Event] = deque()
        self._kept: deque[Event] = deque(maxlen=_MOST_KEPT)  # older than all of `_events`
        self._changed = threading.Condition()
        self._finished = False
        self._closed = False
        self._error: BaseException | None = None

    def put(self, events: Sequence[Event]) -> None:
        """Adds events, and drops the oldest, or waits, when there are too many."""
        if not events:
            return
        with self._changed:
            if not self._drop:
                while len(self._events) >= self._limit and not self._closed:
                    self._changed.wait()
            self._events.extend(events)
            if self._drop:
                while len(self._events) > self._limit:
                    oldest = self._events.popleft()
                    if type(oldest) is Reading:
                        self.overflow += 1
                    else:
                        self._kept.append(oldest)
            self._changed.notify_all()

    def finish(self, error: BaseException | None = None) -> None:
        """Says that nothing more comes; `error` is raised once the rest is taken."""
        with self._changed:
            self._finished = True
            self._error = error
            self._changed.notify_all()

    def take(self) -> deque[Event]:
        """Waits for events and returns all that are there; none when there will be no more.

        Raises:
            BaseException: what `finish` was given.
        """
        with self._changed:
            while not self._events:
                if self._closed or (self._finished and self._error is None):
                    return deque()
                if self._error is not None:
                    raise self._error
                self._changed.wait()
            events, self._events = self._events, deque()
            events.extendleft(reversed(self._kept))
            self._kept.clear()
            self._changed.notify_all()
            return events

    def close(self) -> None:
        """Throws away what was not taken and lets nobody wait any more."""
        with self._changed:
            self._closed = True
            self._events.clear()
            self._kept.clear()
            self._changed.notify_all()
