"""Receivers: bytes and their arrival times in, readings and other events out. No I/O.

A receiver also knows what its device wants to hear, and when: `due` gives the bytes to send. Times
are those of `time.monotonic()`, handed in by the caller, so that a capture replays as it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields

from edgelstm_bridge.events import Event
from edgelstm_bridge.messages import (
    ChannelInfo,
    Statistics,
)


@dataclass(slots=True)
class SourceCounters:
    """What a source has seen so far.

    Attributes:
        readings: given out.
        lost: readings that are missing, as far as the device's numbers tell.
        damaged: frames or lines that came and could not be used.
        reordered: readings dropped because they came late or twice.
        overflow: readings dropped by this computer, because whoever takes them was too slow.
        gaps: places at which readings are missing, by numbers or, without them, by time.
        restarts: of the device.
        reconnects: how often the link was opened again.
        notes: log messages, boot messages and other lines for people.
        bytes: received.
    """

    readings: int = 0
    lost: int = 0
    damaged: int = 0
    reordered: int = 0
    overflow: int = 0
    gaps: int = 0
    restarts: int = 0
    reconnects: int = 0
    notes: int = 0
    bytes: int = 0

    def __add__(self, other: SourceCounters) -> SourceCounters:
        """The sum of both: of a source, and of the one that took its place."""
        names = [field.name for field in fields(self)]
        return SourceCounters(
            **{name: getattr(self, name) + getattr(other, name) for name in names}
        )


class Receiver(ABC):
    """What turns the bytes of one device into events."""

    @property
    @abstractmethod
    def counters(self) -> SourceCounters:
        """What was seen so far, but for what only the source knows."""

    @property
    def statistics(self) -> Statistics | None:
        """What the device last said of itself; None before, or when it cannot."""
        return None

    @property
    @abstractmethod
    def channels(self) -> tuple[ChannelInfo, ...] | None:
        """The channels; None until they are known."""

    @property
    @abstractmethod
    def sample_period(self) -> float | None:
        """Seconds between two readings as the device says it; None when it does not."""

    @property
    def device(self) -> str:
        """What the device calls itself; empty when it does not."""
        return ""

    @property
    def ended(self) -> bool:
        """Whether the device said that it has sent everything."""
        return False

    @abstractmethod
    def connected(self, now: float) -> None:
        """The link was opened, for the first time or again."""

    @abstractmethod
    def disconnected(self) -> None:
        """The link went away: what has come of a frame or a line is of no use."""

    @abstractmethod
    def receive(self, data: bytes, arrived_at: float, wall_offset: float) -> list[Event]:
        """Takes bytes as they came and returns what they say, in order.

        Args:
            data: in chunks of any size.
            arrived_at: when the last of them was there, in monotonic seconds.
            wall_offset: what makes Unix seconds of it.

        Raises:
            ProtocolError: the device speaks another version, or its format is not understood.
            SourceError: the device changed its channels.
        """

    def idle(self, now: float) -> list[Event]:  # noqa: ARG002
        """Returns what can be said because nothing more has come until now.

        Raises:
            ProtocolError: as for `receive`.
        """
        return []

    def finish(self, arrived_at: float, wall_offset: float) -> list[Event]:  # noqa: ARG002
        """Returns what the end of the stream completes: a last line without its end."""
        return []

    def due(self, now: float) -> bytes:  # noqa: ARG002 - for those that speak
        """Returns what is to be sent to the device now, if anything."""
        return b""

    def sent(self, data: bytes, now: float) -> None:  # noqa: B027 - for those that speak
        """Takes note of what was sent to the device."""

    def stop(self) -> bytes:
        """Returns what asks the device to end; empty when it does not listen."""
        return b""

    @abstractmethod
    def missing(self) -> str:
        """Says why nothing was understood so far: the end of a sentence about the port."""
