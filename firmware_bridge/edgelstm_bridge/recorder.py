"""`Recorder`: the readings of a source into a file, and what there is to say of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgelstm.errors import ConfigurationError
from edgelstm.reading import Reading
from edgelstm_bridge.events import Event, Restarted
from edgelstm_bridge.messages import Statistics
from edgelstm_bridge.recording_file import RecordingFile
from edgelstm_bridge.resampling import Resampler
from edgelstm_bridge.source import Source

_NOTHING_SAID = Statistics(0, 0, 0, 0)
_SAME_TIME_S = 2e-6  # what came at once is dated a microsecond apart, so that time goes on


@dataclass(frozen=True)
class RecordingSummary:
    """What was recorded, and what was not.

    Attributes:
        file: the recording; None when nothing was written.
        size: of the file in bytes.
        channels: names of its columns.
        readings: that came from the source.
        rows: in the file; others than `readings` when it was resampled, or some were unusable.
        seconds: from the first reading to the last, by their own times.
        rate_hz: readings per second, with those that were lost; None for fewer than two.
        announced_rate_hz: what the device says; None when it does not.
        numbered: whether the device numbers its readings.
        sequence_complete: whether each number followed the one before; None without numbers.
        lost: missing by the device's numbers.
        damaged: frames or lines that came and could not be used.
        gaps: places at which readings are missing.
        restarts: of the device.
        reconnects: how often the link was opened again.
        reordered: readings that came late or twice.
        overflow: readings dropped by this computer.
        repeated_times: readings whose time is that of the one before, to 2 us, or earlier.
        unusable: readings left out because a value was no finite number.
        notes: log messages and other lines for people.
        dropped_by_device: readings that the device had no room to send, as it says.
        missed_by_device: readings that the device had no time to take, as it says.
    """

    file: str | None
    size: int
    channels: tuple[str, ...]
    readings: int
    rows: int
    seconds: float
    rate_hz: float | None
    announced_rate_hz: float | None
    numbered: bool
    sequence_complete: bool | None
    lost: int
    damaged: int
    gaps: int
    restarts: int
    reconnects: int
    reordered: int
    overflow: int
    repeated_times: int
    unusable: int
    notes: int
    dropped_by_device: int
    missed_by_device: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


class Recorder:
    """Writes the readings of a source to a file as they come.

    Args:
        source: of the readings.
        path: of the CSV or Parquet file to write.
        channels: which of the source's channels to write, in this order; by default all.
        resampler: what the readings go through on their way to the file.
        limit: how many readings to take; None for all.
        force: whether a file that exists may be replaced.

    Attributes:
        source: as it was given.
        file: where the rows go.
        readings: taken so far.
        last: the last reading; its values are those of all channels of the source.

    Raises:
        EdgelstmError: as `RecordingFile` does, or the source has not all of the channels.
        OSError: the file cannot be made.
    """

    def __init__(
        self,
        source: Source,
        path: Path,
        *,
        channels: Sequence[str] | None = None,
        resampler: Resampler | None = None,
        limit: int | None = None,
        force: bool = False,
    ) -> None:
        names = [channel.name for channel in source.channels]
        self._order = None if channels is None else _positions(channels, names)
        self.source = source
        self.file = RecordingFile(path, channels or names, force=force)
        self.readings = 0
        self.last: Reading | None = None
        self._first: Reading | None = None
        self._resampler = resampler
        self._limit = limit
        self._said: Statistics | None = None
        self._device_dropped = self._device_missed = 0
        self._complete = True
        self._repeated_times = 0
        self._finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.file.close()

    def events(self) -> Iterator[Event]:
        """Gives the events of the source on; the readings among them are on their way to the file.

        Raises:
            EdgelstmError: the source's; what came before is kept, and `finish` completes it.
            OSError: the file cannot be written.
        """
        for event in self.source.events():
            if type(event) is Reading:
                self._take(event)
                yield event
                if self.is_full:
                    return
            else:
                self._follow(event)
                yield event

    @property
    def is_full(self) -> bool:
        """Whether as many readings were taken as were asked for."""
        return self._limit is not None and self.readings >= self._limit

    def finish(self) -> bool:
        """Completes the file; False, and no file, when there is no row for it.

        Raises:
            OutputExistsError: somebody else has made the file meanwhile.
            OSError: it cannot be written; what could is in `FILE.part`.
        """
        if self._resampler is not None:
            for resampled in self._resampler.flush():
                self.file.append(resampled)
        if not self.file.rows:
            self.file.discard()
            return False
        self.file.finish()
        self._finished = True
        return True

    def summary(self) -> RecordingSummary:
        """What was recorded so far."""
        counters = self.source.counters
        first, last, period = self._first, self.last, self.source.sample_period
        numbered = first is not None and first.sequence_number is not None
        return RecordingSummary(
            file=str(self.file.path) if self._finished else None,
            size=self.file.path.stat().st_size if self._finished else 0,
            channels=tuple(self.file.columns),
            readings=self.readings,
            rows=self.file.rows,
            seconds=last.timestamp - first.timestamp if first and last else 0.0,
            rate_hz=_rate(first, last, self.readings),
            announced_rate_hz=1 / period if period else None,
            numbered=numbered,
            sequence_complete=self._complete if numbered else None,
            lost=counters.lost,
            damaged=counters.damaged,
            gaps=counters.gaps,
            restarts=counters.restarts,
            reconnects=counters.reconnects,
            reordered=counters.reordered,
            overflow=counters.overflow,
            repeated_times=self._repeated_times,
            unusable=self.file.unusable,
            notes=counters.notes,
            dropped_by_device=self._device_dropped,
            missed_by_device=self._device_missed,
        )

    def _follow(self, event: Event) -> None:
        """Counts what the device says it lost; it counts since it booted."""
        if isinstance(event, Restarted):
            self._said = _NOTHING_SAID
        elif isinstance(event, Statistics):
            if self._said is not None:
                self._device_dropped += max(0, event.dropped - self._said.dropped)
                self._device_missed += max(0, event.overruns - self._said.overruns)
            self._said = event

    def _take(self, reading: Reading) -> None:
        last = self.last
        if last is None:
            self._first = reading
        else:
            self._complete &= reading.sequence_number == (last.sequence_number or 0) + 1
            self._repeated_times += reading.timestamp < last.timestamp + _SAME_TIME_S
        self.last = reading
        self.readings += 1
        if self._order is not None:
            reading = reading._replace(values=self._order(reading.values))
        if self._resampler is None:
            self.file.append(reading)
        else:
            for resampled in self._resampler.push(reading):
                self.file.append(resampled)


def _positions(channels: Sequence[str], names: Sequence[str]) -> Any:
    """What takes the values of some channels, as a tuple, from those of all."""
    for name in channels:
        if name not in names:
            raise ConfigurationError(f"There is no channel {name!r}; there are {', '.join(names)}.")
    first, *rest = (names.index(name) for name in channels)
    return itemgetter(first, *rest) if rest else lambda values: (values[first],)


def _rate(first: Reading | None, last: Reading | None, readings: int) -> float | None:
    """Readings per second, by their numbers where they have any."""
    if first is None or last is None or last.timestamp <= first.timestamp:
        return None
    steps = readings - 1
    if first.sequence_number is not None and last.sequence_number is not None:
        steps = last.sequence_number - first.sequence_number
    return steps / (last.timestamp - first.timestamp)
