"""`LinkSource`: a link and the receiver of its bytes, in a thread of their own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from edgelstm.errors import ConfigurationError, ProtocolError, SourceError
from edgelstm_bridge.event_queue import EventQueue
from edgelstm_bridge.events import Connected, Disconnected, Ended, Event
from edgelstm_bridge.links.backoff import Backoff
from edgelstm_bridge.links.link import Link, LinkEnded, LinkLost
from edgelstm_bridge.messages import ChannelInfo, Statistics
from edgelstm_bridge.receiver import Receiver, SourceCounters
from edgelstm_bridge.silence import SilenceWatch
from edgelstm_bridge.source import Source

QUEUE_SIZE = 16_384
CONNECT_TIMEOUT_S = 10.0

_READ_TIMEOUT_S = 0.05  # how late a command may be sent
_STOP_TIMEOUT_S = 1.0


class LinkSource(Source):
    """A source of bytes: a link, and the receiver that understands them, in a thread.

    Args:
        opener: opens the link; called again after it was lost.
        receiver: of the bytes.
        reconnect: whether a lost link is opened again, for as long as it takes.
        backoff: how long to wait before each try.
        queue_size: how many events may wait to be taken, at least 1. When there are more, the
            oldest are dropped and the readings among them counted, but where the other side of
            the link can wait, it has to.
        connect_timeout: how long to wait for the first thing that is understood, in seconds.
        on_close: called once the last link is closed.

    Raises:
        ConfigurationError: the queue has no room.
        SourceError: the link cannot be opened, or nothing came that could be understood.
        ProtocolError: the device speaks another version of the protocol, or its format is not
            understood.
    """

    def __init__(
        self,
        opener: Callable[[], Link],
        receiver: Receiver,
        *,
        reconnect: bool = True,
        backoff: Backoff | None = None,
        queue_size: int = QUEUE_SIZE,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        if queue_size < 1:
            raise ConfigurationError(f"A queue of {queue_size} events has no room: give 1 or more.")
        self._on_close = on_close
        self._opener = opener
        self._receiver = receiver
        self._reconnect = reconnect
        self._backoff = backoff or Backoff()
        self._reconnects = 0
        self._bytes = 0
        self._error: BaseException | None = None
        self._silence = SilenceWatch()
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._closing = threading.Event()
        link = opener()
        self._description = link.description
        self._queue = EventQueue(queue_size, drop=not link.can_wait)
        self._pending: deque[Event] = deque()
        self._thread = threading.Thread(
            target=self._run, args=(link,), name=f"edgelstm {link.description}", daemon=True
        )
        self._thread.start()
        try:
            self._wait_until_ready(connect_timeout)
        except BaseException:
            self.close()
            raise

    @property
    def description(self) -> str:
        """See `Source.description`."""
        return self._description

    @property
    def channels(self) -> tuple[ChannelInfo, ...]:
        """See `Source.channels`."""
        return self._receiver.channels or ()

    @property
    def sample_period(self) -> float | None:
        """See `Source.sample_period`."""
        return self._receiver.sample_period

    @property
    def device(self) -> str:
        """What the device calls itself; empty when it does not."""
        return self._receiver.device

    @property
    def counters(self) -> SourceCounters:
        """See `Source.counters`."""
        return replace(
            self._receiver.counters,
            overflow=self._queue.overflow,
            reconnects=self._reconnects,
            bytes=self._bytes,
        )

    @property
    def statistics(self) -> Statistics | None:
        """See `Source.statistics`."""
        return self._receiver.statistics

    def events(self) -> Iterator[Event]:
        """See `Source.events`."""
        pending = self._pending
        while True:
            try:
                event = pending.popleft()
            except IndexError:  # nothing is there, or another thread was quicker
                taken = self._queue.take()
                if not taken:
                    return
                pending.extend(taken)
            else:
                yield event

    def stop(self) -> None:
        """See `Source.stop`."""
        self._stopping.set()

    def close(self) -> None:
        """See `Source.close`."""
        self._closing.set()
        self._stopping.set()
        self._queue.close()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._pending.clear()
        if self._on_close is not None:
            self._on_close()

    def _wait_until_ready(self, timeout: float) -> None:
        if not self._ready.wait(timeout):
            raise SourceError(
                f"Nothing to be understood from {self._description} within {timeout:g} s: "
                f"{self._receiver.missing()}"
            )
        if self._receiver.channels is None:
            raise self._error or SourceError(
                f"{self._description} ended before anything was understood: "
                f"{self._receiver.missing()}"
            )

    def _run(self, link: Link) -> None:
        """The thread: pumps one link after the other."""
        error: BaseException | None = None
        try:
            self._follow_all(link)
        except ProtocolError as caught:
            error = type(caught)(f"{link.description}: {caught}")
            error.__cause__ = caught
        except BaseException as caught:  # whatever it is, it is raised where events are taken
            error = caught
        self._error = error
        self._queue.finish(error)
        self._ready.set()

    def _follow_all(self, link: Link) -> None:
        following: Link | None = link
        try:
            while following is not None:
                following = self._follow(following)
        except LinkEnded:
            now = time.monotonic()
            self._queue.put([*self._receiver.finish(now, time.time() - now), Ended()])

    def _follow(self, link: Link) -> Link | None:
        """Pumps a link until it is lost and returns the next; None when there is none."""
        began = time.monotonic()
        link.on_sent = self._receiver.sent
        self._receiver.connected(began)
        try:
            self._pump(link)
        except LinkLost as lost:
            if self._closing.is_set():
                return None
            if not self._reconnect:
                raise
            self._receiver.disconnected()
            self._queue.put([Disconnected(str(lost))])
        else:
            return None
        finally:
            link.close()
        return self._open_again(time.monotonic() - began if link.is_live else None)

    def _pump(self, link: Link) -> None:
        """Moves bytes from a link to the queue until the device ends or this is closed."""
        receiver = self._receiver
        now = time.monotonic()
        self._silence.begin(now, receiver.counters.damaged)
        stop_at: float | None = None
        while not self._closing.is_set():
            if self._stopping.is_set():
                if stop_at is None:
                    farewell = receiver.stop() if link.can_write else b""
                    if not farewell:
                        return
                    self._send(link, farewell)
                    stop_at = now + _STOP_TIMEOUT_S
                elif now >= stop_at:
                    return
            elif link.is_live and (commands := receiver.due(now)):
                self._send(link, commands)
            chunk = link.read(_READ_TIMEOUT_S)
            now = time.monotonic()
            events: list[Event] = []
            if chunk is not None:
                self._bytes += len(chunk.data)
                events = receiver.receive(*chunk)
            elif link.is_live:
                events = receiver.idle(now)
            if events:
                self._silence.end(now, receiver.counters.damaged)
            # A hello is no event, but makes the channels known.
            if (events or chunk is not None) and self._deliver(link, events):
                return
            if link.is_live and self._ready.is_set():
                silence = self._silence.look(now, receiver.counters.damaged, receiver.sample_period)
                self._queue.put(silence)
        with contextlib.suppress(SourceError):
            link.write(receiver.stop())

    def _deliver(self, link: Link, events: list[Event]) -> bool:
        """Hands events on; returns whether the device has ended."""
        if not self._ready.is_set() and self._receiver.channels is not None:
            name = f"{link.description} ({self.device})" if self.device else link.description
            self._queue.put([Connected(name)])
            self._ready.set()
        self._queue.put(events)
        return self._receiver.ended

    def _send(self, link: Link, data: bytes) -> None:
        now = time.monotonic()
        link.write(data)
        self._receiver.sent(data, now)

    def _open_again(self, lasted: float | None) -> Link | None:
        """Tries to open the link until that succeeds; None when this is stopped meanwhile.

        Args:
            lasted: how long the last one held, in seconds; None for what was recorded before.
        """
        while lasted is None or not self._stopping.wait(self._backoff.next_delay(lasted)):
            try:
                link = self._opener()
            except LinkEnded:
                raise
            except SourceError:
                lasted = 0.0
                continue
            self._reconnects += 1
            self._queue.put([Connected(link.description, again=True)])
            return link
        return None
