"""`Source`: the readings of a device, wherever they come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

from edgelstm.reading import Reading
from edgelstm_bridge.events import Event
from edgelstm_bridge.messages import ChannelInfo, Statistics
from edgelstm_bridge.receiver import SourceCounters


class Source(ABC):
    """Readings with their times, one after the other, and what else there is to know.

    ```
    with open_source("/dev/ttyACM0") as source:
        for reading in source:
            print(reading.timestamp, reading.values)
    ```

    `events` gives all events in order, the readings among them; iterating gives the readings
    alone. Both take from the same stream.
    """

    @property
    @abstractmethod
    def description(self) -> str:
        """What messages call it."""

    @property
    @abstractmethod
    def channels(self) -> tuple[ChannelInfo, ...]:
        """The channels, in the order of a reading's values."""

    @property
    def sample_period(self) -> float | None:
        """Seconds between two readings as the device says it; None when it does not."""
        return None

    @property
    @abstractmethod
    def counters(self) -> SourceCounters:
        """What was seen so far."""

    @property
    def statistics(self) -> Statistics | None:
        """What the device last said of its own losses; None when it said nothing."""
        return None

    @abstractmethod
    def events(self) -> Iterator[Event]:
        """Gives the events as they come, and ends when the device has ended.

        Raises:
            SourceError: the source went away and is not tried again.
            ProtocolError: what came cannot be understood.
        """

    def __iter__(self) -> Iterator[Reading]:
        for event in self.events():
            if type(event) is Reading:
                yield event

    def stop(self) -> None:
        """Asks the device to end; the events that are on their way still come."""
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Closes it; may be called more than once, and from any thread."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class FakeSource(Source):
    """A source of events that are given beforehand, for tests of what takes readings.

    Args:
        channels: names of the channels.
        events: readings and other events, taken one by one.
        sample_period: as a device would say it, in seconds.
    """

    def __init__(
        self,
        channels: Sequence[str],
        events: Iterable[Event],
        sample_period: float | None = None,
    ) -> None:
        self._channels = tuple(map(ChannelInfo, channels))
        self._events = iter(events)
        self._sample_period = sample_period
        self._counters = SourceCounters()
        self._closed = False

    @property
    def description(self) -> str:
        """See `Source.description`."""
        return "fake"

    @property
    def channels(self) -> tuple[ChannelInfo, ...]:
        """See `Source.channels`."""
        return self._channels

    @property
    def sample_period(self) -> float | None:
        """See `Source.sample_period`."""
        return self._sample_period

    @property
    def counters(self) -> SourceCounters:
        """See `Source.counters`; a test may set them."""
        return self._counters

    def events(self) -> Iterator[Event]:
        """See `Source.events`."""
        for event in self._events:
            if self._closed:
                return
            self._counters.readings += type(event) is Reading
            yield event

    def close(self) -> None:
        """See `Source.close`."""
        self._closed = True
