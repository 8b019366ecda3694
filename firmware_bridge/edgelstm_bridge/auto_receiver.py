"""`AutoReceiver`: tells frames from lines of text by what comes. No I/O."""

from __future__ import annotations

from edgelstm_bridge.events import Event
from edgelstm_bridge.frame_receiver import FrameReceiver
from edgelstm_bridge.messages import ChannelInfo, Statistics
from edgelstm_bridge.receiver import Receiver, SourceCounters
from edgelstm_bridge.text_receiver import TextReceiver

_LISTEN_S = 0.5


class AutoReceiver(Receiver):
    """Listens first, because a device that writes text need not like what a start looks like.

    A whole frame decides for the frame protocol. Bytes without a 0x00, which no frame lacks, are
    taken for text. What sends nothing, or bytes with a 0x00, is sent a start after half a second.

    Args:
        sample_period: what to ask a device with the frame protocol for, in seconds.
        whole_start: the first byte of a link is the first of a line: of a file or a message, not of
            an open line.
    """

    def __init__(self, sample_period: float | None = None, *, whole_start: bool = False) -> None:
        self._frames = FrameReceiver(sample_period)
        self._text = TextReceiver(whole_start=whole_start)
        self._chosen: Receiver | None = None
        self._listen_until = 0.0
        self._has_zero = False

    @property
    def chosen(self) -> Receiver | None:
        """The receiver of what comes; None until it is told."""
        return self._chosen

    @property
    def counters(self) -> SourceCounters:
        """See `Receiver.counters`."""
        return (self._chosen or self._frames).counters

    @property
    def statistics(self) -> Statistics | None:
        """See `Receiver.statistics`."""
        return self._frames.statistics

    @property
    def channels(self) -> tuple[ChannelInfo, ...] | None:
        """See `Receiver.channels`."""
        return self._chosen.channels if self._chosen else None

    @property
    def sample_period(self) -> float | None:
        """See `Receiver.sample_period`."""
        return self._chosen.sample_period if self._chosen else None

    @property
    def device(self) -> str:
        """See `Receiver.device`."""
        return self._frames.device

    @property
    def ended(self) -> bool:
        """See `Receiver.ended`."""
        return self._chosen is not None and self._chosen.ended

    def connected(self, now: float) -> None:
        """See `Receiver.connected`."""
        self._listen_until = now + _LISTEN_S
        for receiver in self._candidates():
            receiver.connected(now)

    def disconnected(self) -> None:
        """See `Receiver.disconnected`."""
        for receiver in self._candidates():
            receiver.disconnected()

    def receive(self, data: bytes, arrived_at: float, wall_offset: float) -> list[Event]:
        """See `Receiver.receive`."""
        if self._chosen is not None:
            return self._chosen.receive(data, arrived_at, wall_offset)
        self._has_zero = self._has_zero or 0 in data
        events = self._frames.receive(data, arrived_at, wall_offset)
        if self._frames.has_frames:
            self._chosen = self._frames
            return events
        return self._or_text(self._text.receive(data, arrived_at, wall_offset))

    def idle(self, now: float) -> list[Event]:
        """See `Receiver.idle`."""
        if self._chosen is not None:
            return self._chosen.idle(now)
        return self._or_text(self._text.idle(now))

    def finish(self, arrived_at: float, wall_offset: float) -> list[Event]:
        """See `Receiver.finish`."""
        if self._chosen is not None:
            return self._chosen.finish(arrived_at, wall_offset)
        return self._or_text(self._text.finish(arrived_at, wall_offset))

    def due(self, now: float) -> bytes:
        """See `Receiver.due`."""
        if self._chosen is not None:
            return self._chosen.due(now)
        if now < self._listen_until or (self._text.has_bytes and not self._has_zero):
            return b""
        return self._frames.due(now)

    def sent(self, data: bytes, now: float) -> None:
        """See `Receiver.sent`."""
        for receiver in self._candidates():
            receiver.sent(data, now)

    def stop(self) -> bytes:
        """See `Receiver.stop`."""
        return self._chosen.stop() if self._chosen else b""

    def missing(self) -> str:
        """See `Receiver.missing`."""
        if self._chosen is not None:
            return self._chosen.missing()
        if self._has_zero:
            return self._frames.missing()
        if self._text.has_bytes:
            return self._text.missing()
        return "nothing came, neither frames nor text; is it the right port, and is the device on?"

    def _or_text(self, events: list[Event]) -> list[Event]:
        """Takes what came for text, if that was told by now."""
        if self._text.channels is not None:
            self._chosen = self._text
        return events

    def _candidates(self) -> tuple[Receiver, ...]:
        return (self._chosen,) if self._chosen else (self._frames, self._text)
