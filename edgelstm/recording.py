"""`Recording`: readings in time order, from a CSV file, another table or an array."""

from __future__ import annotations

import csv
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError

TIME_COLUMNS = ("timestamp", "time", "datetime")
_LATEST_TIME = 1e11  # seconds since 1970: the year 5138
_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Recording:
    """Readings in the order in which they were taken.

    Attributes:
        source: the file's name or what else it came from, for messages.
        channels: names, in the order of the columns.
        timestamps: seconds since the Unix epoch, UTC, float64 (readings,). Where the file has no
            time column, reading i is at i times the sample period.
        values: physical units, float64 (readings, channels); all finite.
        sample_period: seconds; the median of the steps between readings.
    """

    source: str
    channels: tuple[str, ...]
    timestamps: NDArray[np.float64]
    values: NDArray[np.float64]
    sample_period: float

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
    ) -> Recording:
        """A recording of readings that are in memory.

        Args:
            values: physical units, any numeric dtype, (readings, channels), or (readings,) of a
                single channel; copied.
            channels: names of the columns; by default channel_0, channel_1 and so on.
            sample_period: seconds between readings.
            source: what to call it in messages.

        Raises:
            RecordingError: the values are not numbers, not all finite, of another shape or none,
                or the names do not fit them.
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
        need_finite(array, source, channels)
        times = np.arange(len(array), dtype=np.float64) * sample_period
        return cls(source, tuple(channels), times, array, sample_period)

    def rows(self, start: int | None, stop: int | None) -> Recording:
        """The readings from `start` up to `stop`, as a slice takes them.

        Raises:
            RecordingError: there are none.
        """
        part = slice(start, stop)
        chosen = replace(self, timestamps=self.timestamps[part], values=self.values[part])
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
        return replace(self, channels=tuple(names), values=self.values[:, columns])


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

    Raises:
        RecordingError: the file cannot be read, a column is missing, or a cell is not a number or
            a time; the message names the line and the column.
    """
    return read_table(_read_csv_table(Path(path)), columns, time_column, sample_period)


def format_time(timestamp: float) -> str:
    """A timestamp as people read it: `2013-12-16 17:25:00`, UTC."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")


@dataclass(frozen=True)
class Table(ABC):
    """Rows of cells as a file holds them, at least one.

    Attributes:
        path: the file.
        header: names of the columns.
    """

    path: Path
    header: Sequence[str]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def place(self, row: int) -> str:
        """What a message calls a row."""

    @abstractmethod
    def cell(self, row: int, column: int) -> str:
        """The text of a cell, for messages; empty where there is none."""

    @abstractmethod
    def numbers(self, column: int) -> NDArray[np.float64]:
        """The column as numbers, (rows,); NaN where a cell is no finite number."""

    @abstractmethod
    def times(self, column: int) -> NDArray[np.float64]:
        """The column as seconds since 1970, (rows,); NaN where a cell is no time."""


def read_table(
    table: Table, columns: Sequence[str] | None, time_column: str | None, sample_period: float
) -> Recording:
    """What is the same for every kind of file: the columns, the times and what is refused.

    Args:
        table: what the file holds.
        columns: as for `read_csv`.
        time_column: as for `read_csv`.
        sample_period: as for `read_csv`.

    Raises:
        RecordingError: as for `read_csv`.
    """
    _check_header(table)
    time_name = find_time_column(table, time_column)
    channels = _read_channels(table, columns, time_name)
    values = np.empty((len(table), len(channels)))
    for j, (name, numbers) in enumerate(channels.items()):
        bad = np.isnan(numbers)
        if bad.any():
            row = int(bad.argmax())
            cell = table.cell(row, table.header.index(name))
            raise RecordingError(
                f"{_place(table, row, name)}: {repr(cell) if cell else 'an empty cell'} is not a "
                "number. Mend the file, or choose other columns with --columns."
            )
        values[:, j] = numbers
    if time_name is None:
        times = np.arange(len(table), dtype=np.float64) * sample_period
    else:
        times = _read_times(table, time_name)
        if len(times) > 1:
            sample_period = float(np.median(np.diff(times)))
        if sample_period <= 0:
            raise RecordingError(
                f"{table.path}: the times in column {time_name!r} do not grow; sort the rows by "
                "time."
            )
    return Recording(table.path.name, tuple(channels), times, values, sample_period)


def find_time_column(table: Table, wanted: str | None) -> str | None:
    """The column that holds the time: the one that is wanted, or else one with a usual name.

    Raises:
        RecordingError: the wanted one is not there.
    """
    if wanted is not None:
        _require_column(table, wanted)
        return wanted
    return next((name for name in table.header if name.lower() in TIME_COLUMNS), None)


def parse_number(text: str) -> float:
    """A cell of text as a number; NaN when it is no finite one."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def parse_time(text: str) -> float:
    """A cell of text, ISO 8601 or seconds, as seconds since 1970; NaN when it is no time."""
    seconds = parse_number(text)
    if math.isnan(seconds):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return math.nan
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return seconds


def _place(table: Table, row: int, name: str) -> str:
    return f"{table.path}, {table.place(row)}, column {name!r}"


def _check_header(table: Table) -> None:
    names = list(table.header)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RecordingError(
            f"{table.path} has two columns called {twice!r}; give them names apart."
        )


def _require_column(table: Table, name: str) -> None:
    if name not in table.header:
        raise RecordingError(
            f"{table.path} has no column {name!r}; its columns are {', '.join(table.header)}."
        )


def _read_channels(
    table: Table, wanted: Sequence[str] | None, time_name: str | None
) -> dict[str, NDArray[np.float64]]:
    """The numbers of every channel, by name and in order."""
    if wanted is not None:
        for name in wanted:
            _require_column(table, name)
            if list(wanted).count(name) > 1:
                raise RecordingError(f"The column {name!r} is chosen twice.")
        return {name: table.numbers(table.header.index(name)) for name in wanted}
    # A column without a single number is text (a status, a note) and no channel. One with a
    # number is meant as numbers, so that text in it is a mistake to be reported.
    others = {name: table.numbers(k) for k, name in enumerate(table.header) if name != time_name}
    channels = {name: numbers for name, numbers in others.items() if not np.isnan(numbers).all()}
    if not channels:
        raise RecordingError(
            f"{table.path} has no column of numbers beside the time; numbers are written 1.5, "
            "not 1,5."
        )
    return channels


def _read_times(table: Table, name: str) -> NDArray[np.float64]:
    k = table.header.index(name)
    times = table.times(k)
    bad = ~(np.abs(times) <= _LATEST_TIME)  # true for NaN, too
    if bad.any():
        row = int(bad.argmax())
        cell = table.cell(row, k)
        if np.isnan(times[row]):
            raise RecordingError(
                f"{_place(table, row, name)}: {cell!r} is not a time (ISO 8601, or seconds since "
                "1970)."
            )
        raise RecordingError(
            f"{_place(table, row, name)}: {cell} is no time in seconds since 1970; if it is in "
            "milliseconds, divide it by 1000."
        )
    return times


@dataclass(frozen=True)
class _CsvTable(Table):
    """`lines`: for each row its line number in the file and its cells."""

    lines: Sequence[tuple[int, list[str]]]

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, row: int) -> str:
        return f"line {self.lines[row][0]}"

    def cell(self, row: int, column: int) -> str:
        return self.lines[row][1][column]

    def numbers(self, column: int) -> NDArray[np.float64]:
        return np.array([parse_number(cells[column]) for _, cells in self.lines])

    def times(self, column: int) -> NDArray[np.float64]:
        return np.array([parse_time(cells[column]) for _, cells in self.lines])


def _read_csv_table(path: Path) -> _CsvTable:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            delimiter = max(_DELIMITERS, key=first.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
            table = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise RecordingError(f"{path} is not text in UTF-8, so it is no CSV file.") from error
    except csv.Error as error:
        raise RecordingError(f"{path} is not a CSV file ({error}).") from error
    if not table:
        raise RecordingError(f"{path} is empty.")
    (_, header), *lines = table
    if not any(math.isnan(parse_number(cell)) for cell in header):
        raise RecordingError(
            f"{path} has no header row: its first line is all numbers. Add a line of column names."
        )
    for number, cells in lines:
        if len(cells) != len(header):
            raise RecordingError(
                f"{path}, line {number}: {len(cells)} cells, but the header has {len(header)}."
            )
    if not lines:
        raise RecordingError(f"{path} has a header row and nothing below it.")
    return _CsvTable(path, header, lines)
