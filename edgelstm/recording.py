"""`Recording`: readings in time order, from a CSV file, another table or an array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.csv_table import read_csv_table
from edgelstm.errors import RecordingError
from edgelstm.tables import (
    Categorical,
    Table,
    check_header,
    find_time_column,
    read_channels,
    read_times,
)

_MOST_STEPS_BACK = 0.02  # of all


SAME_PERIOD = 0.1
"""By how much, as a share, two sample periods may differ and still count as the same."""


def same_period(period: float, needed: float) -> bool:
    """Whether a sample period is the one that is needed, as far as that matters."""
    return abs(period / needed - 1) <= SAME_PERIOD


@dataclass(frozen=True)
class Recording:
    """Readings in the order in which they were taken.

    Attributes:
        source: the file's name or what else it came from, for messages.
        channels: names, in the order of the columns.
        timestamps: seconds since the Unix epoch, UTC, float64 (readings,). Where the file has no
            time column, reading i is at i times the sample period.
        values: physical units, float64 (readings, channels). All finite, unless the recording was
            read with its missing values, which are NaN.
        sample_period: seconds; the median of the steps between readings.
        categories: of each categorical channel its texts, ascending; its values are their numbers
            0, 1 and so on.
        lines: of each reading its line in the file, int64 (readings,), counted from 1; None where
            it was no file of lines.
        first_row: what row of the file the first reading was, counted from 0.
        filled: bool, of the shape of the values: where a missing one was replaced; None where no
            value was.
        resampled: whether the readings are no rows of the file, but were put onto an even grid.
    """

    source: str
    channels: tuple[str, ...]
    timestamps: NDArray[np.float64]
    values: NDArray[np.float64]
    sample_period: float
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lines: NDArray[np.int64] | None = None
    first_row: int = 0
    filled: NDArray[np.bool_] | None = None
    resampled: bool = False

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def from_array(
        cls,
        values: Any,
        *,
        channels: Sequence[str] | None = None,
        sample_period: float = 1.0,
        source: str = "array",
        missing: bool = False,
    ) -> Recording:
        """A recording of readings that are in memory.

        Args:
            values: physical units, any numeric dtype, (readings, channels), or (readings,) of a
                single channel; copied.
            channels: names of the columns; by default channel_0, channel_1 and so on.
            sample_period: seconds between readings.
            source: what to call it in messages.
            missing: whether values may be missing, which NaN and masked ones are.

        Raises:
            RecordingError: the values are not numbers, not all finite (unless missing), of another
                shape or none, or the names do not fit them.
        """
        array = to_numbers(values, source)
        if array.ndim not in (1, 2) or not array.size:
            raise RecordingError(
                f"{source} has the shape {array.shape}; a recording is (readings, channels), with "
                "at least one of each."
            )
        if array.ndim == 1:
            array = array[:, np.newaxis]
        if channels is None:
            channels = [f"channel_{k}" for k in range(array.shape[1])]
        if len(set(channels)) != len(channels) or len(channels) != array.shape[1]:
            raise RecordingError(
                f"{source} has {array.shape[1]} columns, which {', '.join(channels)} does not name "
                "one by one; give as many names, no two the same."
            )
        need_finite(
            np.nan_to_num(array, posinf=np.inf, neginf=-np.inf) if missing else array,
            source,
            channels,
        )
        times = np.arange(len(array), dtype=np.float64) * sample_period
        return cls(source, tuple(channels), times, array, sample_period)

    def rows(self, start: int | None, stop: int | None) -> Recording:
        """The readings from `start` up to `stop`, as a slice takes them.

        Raises:
            RecordingError: there are none.
        """
        part = slice(start, stop)
        chosen = replace(
            self,
            timestamps=self.timestamps[part],
            values=self.values[part],
            lines=None if self.lines is None else self.lines[part],
            filled=None if self.filled is None else self.filled[part],
            first_row=self.first_row + part.indices(len(self))[0],
        )
        if not len(chosen):
            raise RecordingError(
                f"{self.source} has {len(self)} rows; the rows "
                f"{'' if start is None else start}:{'' if stop is None else stop} are none of them."
            )
        return chosen

    def need(self, readings: int, purpose: str) -> None:
        """Refuses a recording that is too short.

        Raises:
            RecordingError: it has fewer readings.
        """
        if len(self) < readings:
            raise RecordingError(
                f"{self.source} has {len(self)} rows here; {purpose} needs at least {readings}."
            )

    def step_back(self) -> str | None:
        """Where the time first goes back, in words; None where it never does."""
        back = np.flatnonzero(np.diff(self.timestamps) < 0)
        if not len(back):
            return None
        row = int(back[0]) + 1
        where = f"row {self.first_row + row} (counted from 0)"
        if self.lines is not None:
            where = f"line {self.lines[row]}"
        before, after = (format_time(t) for t in self.timestamps[row - 1 : row + 1].tolist())
        return f"{self.source}, {where}: the time goes back from {before} to {after}"

    def need_order(self) -> None:
        """Refuses a recording whose time goes back; readings at the same time may follow.

        Raises:
            RecordingError: it does; the message names the line.
        """
        place = self.step_back()
        if place:
            raise RecordingError(
                f"{place}, as a log in local time does when daylight saving ends; sort the rows by "
                "time, write the times in UTC, or choose the rows before or after it with --rows."
            )

    def with_channels(self, names: Sequence[str]) -> Recording:
        """The same readings with these channels, in this order.

        Raises:
            RecordingError: a channel is not there.
        """
        for name in names:
            if name not in self.channels:
                raise RecordingError(
                    f"{self.source} has no channel {name!r}; it has {', '.join(self.channels)}."
                )
        columns = [self.channels.index(name) for name in names]
        return replace(
            self,
            channels=tuple(names),
            values=self.values[:, columns],
            filled=None if self.filled is None else self.filled[:, columns],
            categories={name: self.categories[name] for name in names if name in self.categories},
        )


def to_numbers(values: Any, where: str) -> NDArray[np.float64]:
    """A copy of an array-like of any shape in float64, in which masked values are NaN.

    Raises:
        RecordingError: it holds no numbers; `where` is what the message calls it.
    """
    try:
        array = np.asanyarray(values)
    except (TypeError, ValueError) as error:
        raise RecordingError(f"{where} is no array of numbers ({error}).") from error
    if array.dtype.kind not in "biuf":
        raise RecordingError(
            f"{where} holds values of type {array.dtype}, not numbers; convert them to float32, "
            "without columns of text or times."
        )
    numbers = array.astype(np.float64)
    return numbers.filled(np.nan) if isinstance(numbers, np.ma.MaskedArray) else np.asarray(numbers)


def need_finite(values: NDArray[Any], where: str, channels: Sequence[str]) -> None:
    """Refuses values, (readings, channels), that are not all finite.

    Raises:
        RecordingError: one is not; the message names its row and channel.
    """
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise RecordingError(
            f"{where}, row {row} (counted from 0), channel {channels[column]!r}: "
            f"{values[row, column]} is not a finite number. Fill the gap, or split the data there "
            "into two recordings."
        )


def read_csv(
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    time_column: str | None = None,
    sample_period: float = 1.0,
    missing: bool = False,
    categorical: Categorical = (),
) -> Recording:
    """Reads a recording from a CSV file with a header row.

    The delimiter (comma, semicolon, tab or bar) is detected. The time column is `time_column`,
    or else the first one called timestamp, time or datetime (in any case); it holds ISO 8601
    times (UTC where they have no zone) or seconds since the Unix epoch.

    Args:
        path: the file.
        columns: the channels; by default every other column that holds numbers.
        time_column: name of the time column, where it has an unusual one.
        sample_period: seconds between readings, for a file without a time column.
        missing: whether values may be missing: empty cells, NaN, NA and null are then NaN.
        categorical: columns that hold one of a few texts or whole numbers. Text becomes the
            numbers 0, 1 and so on of the sorted texts, or of the texts that a mapping gives for
            the column; one that is not among those is missing.

    Raises:
        RecordingError: the file cannot be read, a column is missing, or a cell is not a number or
            a time; the message names the line and the column.
    """
    table = read_csv_table(Path(path))
    return read_table(
        table, columns, time_column, sample_period, missing=missing, categorical=categorical
    )


def read_table(
    table: Table,
    columns: Sequence[str] | None,
    time_column: str | None,
    sample_period: float,
    *,
    missing: bool = False,
    categorical: Categorical = (),
) -> Recording:
    """What is the same for every kind of file: the columns, the times and what is refused.

    Args:
        table: what the file holds.
        columns: as for `read_csv`.
        time_column: as for `read_csv`.
        sample_period: as for `read_csv`.
        missing: as for `read_csv`.
        categorical: as for `read_csv`.

    Raises:
        RecordingError: as for `read_csv`.
    """
    check_header(table)
    time_name = find_time_column(table, time_column)
    read = read_channels(table, columns, time_name, missing=missing, categorical=categorical)
    if time_name is None:
        times = np.arange(len(table), dtype=np.float64) * sample_period
    else:
        times = read_times(table, time_name)
        if len(times) > 1:
            sample_period = _period(times)
        if sample_period <= 0:
            raise RecordingError(
                f"{table.path}: the times in column {time_name!r} do not grow; sort the rows by "
                "time."
            )
    recording = Recording(
        table.path.name,
        read.names,
        times,
        read.values,
        sample_period,
        read.categories,
        table.lines(),
    )
    # A clock that was set back now and then is for the caller to judge; this is no order at all.
    if np.count_nonzero(np.diff(times) < 0) > max(1, _MOST_STEPS_BACK * len(times)):
        recording.need_order()
    return recording


def _period(times: NDArray[np.float64]) -> float:
    """The usual step between readings, in seconds; 0 or less when they do not follow in time."""
    steps = np.diff(times)
    period = float(np.median(steps))
    if period:
        return period
    # Times in whole seconds of a faster sensor: several readings share one.
    onwards = steps[steps > 0]
    if not len(onwards) or (steps < 0).any():
        return 0.0
    return float(np.median(onwards)) * (len(onwards) + 1) / len(times)


def format_time(timestamp: float) -> str:
    """A timestamp as people read it: `2013-12-16 17:25:00`, UTC."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
