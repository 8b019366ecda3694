"""`PolledSource`: readings from a function that is called again and again."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from edgelstm.errors import ConfigurationError, SourceError
from edgelstm.reading import Reading
from edgelstm_bridge.events import Connected, Event, Gap
from edgelstm_bridge.messages import ChannelInfo
from edgelstm_bridge.receiver import SourceCounters
from edgelstm_bridge.source import Source
from edgelstm_bridge.steady_clock import SteadyClock


class PolledSource(Source):
    """Calls a function at an even pace: for sensors that are asked, on I2C or SPI.

    A reading that falls due while the last one is not yet taken is lost and counted, as on any
    device that was too busy.

    Args:
        read: returns one value per channel; an `OSError` of it is a reading of NaN for each
            channel, because a sensor that does not answer once may answer the next time.
        channels: what is read, in order.
        sample_period: seconds between two readings, above 0.
        description: what messages call it.
        close: called once, when this is closed.

    Raises:
        ConfigurationError: the period is not above 0.
        SourceError: a reading has not one value per channel, or `read` failed in another way.
    """

    def __init__(
        self,
        read: Callable[[], Sequence[float]],
        channels: Sequence[ChannelInfo | str],
        sample_period: float,
        *,
        description: str = "polled sensor",
        close: Callable[[], None] | None = None,
    ) -> None:
        if not 0 < sample_period < math.inf:
            raise ConfigurationError(
                f"A sample period must be above 0 seconds, not {sample_period:g}."
            )
        self._read = read
        self._channels = tuple(
            channel if isinstance(channel, ChannelInfo) else ChannelInfo(channel)
            for channel in channels
        )
        self._period = sample_period
        self._description = description
        self._on_close = close
        self._counters = SourceCounters()
        self._closing = threading.Event()
        self._wall = SteadyClock()
        self._stream = self._make_events()

    @property
    def description(self) -> str:
        """See `Source.description`."""
        return self._description

    @property
    def channels(self) -> tuple[ChannelInfo, ...]:
        """See `Source.channels`."""
        return self._channels

    @property
    def sample_period(self) -> float | None:
        """See `Source.sample_period`."""
        return self._period

    @property
    def counters(self) -> SourceCounters:
        """See `Source.counters`."""
        return self._counters

    def events(self) -> Iterator[Event]:
        """See `Source.events`."""
        return self._stream

    def close(self) -> None:
        """See `Source.close`."""
        if not self._closing.is_set():
            self._closing.set()
            if self._on_close is not None:
                self._on_close()

    def _make_events(self) -> Iterator[Event]:
        yield Connected(self._description)
        began = time.monotonic()
        number = 0
        while not self._closing.wait(max(0.0, began + number * self._period - time.monotonic())):
            due = int((time.monotonic() - began) / self._period)
            lost, number = max(0, due - number), max(due, number)
            reading = self._take(number)
            if lost:
                self._counters.lost += lost
                self._counters.gaps += 1
                step = (lost + 1) * self._period
                yield Gap(lost, True, reading.timestamp, step)
            self._counters.readings += 1
            yield reading
            number += 1

    def _take(self, number: int) -> Reading:
        before = time.monotonic()
        try:
            values = tuple(map(float, self._read()))
        except OSError:
            self._counters.damaged += 1
            values = (math.nan,) * len(self._channels)
        except Exception as error:
            raise SourceError(
                f"Reading {self._description} failed ({type(error).__name__}: {error}): tell the "
                "author of what reads it."
            ) from error
        if len(values) != len(self._channels):
            raise SourceError(
                f"{self._description} gave {len(values)} values for {len(self._channels)} channels."
            )
        after = time.monotonic()
        offset = self._wall.offset(time.time() - after, after)
        unsure = (after - before) / 2 + self._wall.error
        return Reading((before + after) / 2 + offset, values, number, unsure)
