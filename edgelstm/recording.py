"""`Recording`: readings kept in a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

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
        source: the file's name, for messages.
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
    path = Path(path)
    header, lines = _read_table(path)
    time_name = _find_time_column(path, header, time_column)
    names = _choose_columns(path, header, lines, columns, time_name)
    values = np.empty((len(lines), len(names)))
    for j, name in enumerate(names):
        k = header.index(name)
        for i, (number, cells) in enumerate(lines):
            value = _number(cells[k])
            if value is None:
                what = repr(cells[k]) if cells[k] else "an empty cell"
                raise RecordingError(
                    f"{path}, line {number}, column {name!r}: {what} is not a number. Mend the "
                    "file, or choose other columns with --columns."
                )
            values[i, j] = value
    if time_name is None:
        times = np.arange(len(lines), dtype=np.float64) * sample_period
    else:
        times = _times(path, lines, header.index(time_name), time_name)
        if len(times) > 1:
            sample_period = float(np.median(np.diff(times)))
        if sample_period <= 0:
            raise RecordingError(
                f"{path}: the times in column {time_name!r} do not grow; sort the rows by time."
            )
    return Recording(path.name, names, times, values, sample_period)


def format_time(timestamp: float) -> str:
    """A timestamp as people read it: `2013-12-16 17:25:00`, UTC."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")


_Line = tuple[int, list[str]]


def _read_table(path: Path) -> tuple[list[str], list[_Line]]:
    """The header and the rows, each with its line number in the file."""
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
    if all(_number(cell) is not None for cell in header):
        raise RecordingError(
            f"{path} has no header row: its first line is all numbers. Add a line of column names."
        )
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise RecordingError(f"{path} has two columns called {twice!r}; give them names apart.")
    for number, cells in lines:
        if len(cells) != len(header):
            raise RecordingError(
                f"{path}, line {number}: {len(cells)} cells, but the header has {len(header)}."
            )
    if not lines:
        raise RecordingError(f"{path} has a header row and nothing below it.")
    return header, lines


def _find_time_column(path: Path, header: list[str], wanted: str | None) -> str | None:
    if wanted is not None:
        _require_column(path, header, wanted)
        return wanted
    return next((name for name in header if name.lower() in TIME_COLUMNS), None)


def _require_column(path: Path, header: list[str], name: str) -> None:
    if name not in header:
        raise RecordingError(f"{path} has no column {name!r}; its columns are {', '.join(header)}.")


def _choose_columns(
    path: Path,
    header: list[str],
    lines: list[_Line],
    wanted: Sequence[str] | None,
    time_name: str | None,
) -> tuple[str, ...]:
    if wanted is not None:
        for name in wanted:
            _require_column(path, header, name)
            if list(wanted).count(name) > 1:
                raise RecordingError(f"The column {name!r} is chosen twice.")
        return tuple(wanted)
    # A column without a single number is text (a status, a note) and no channel. One with a
    # number is meant as numbers, so that text in it is a mistake to be reported.
    names = tuple(
        name
        for k, name in enumerate(header)
        if name != time_name and any(_number(cells[k]) is not None for _, cells in lines)
    )
    if not names:
        raise RecordingError(
            f"{path} has no column of numbers beside the time; numbers are written 1.5, not 1,5."
        )
    return names


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _times(path: Path, lines: list[_Line], k: int, name: str) -> NDArray[np.float64]:
    def parse() -> Iterator[float]:
        for number, cells in lines:
            seconds = _number(cells[k])
            if seconds is None:
                try:
                    moment = datetime.fromisoformat(cells[k])
                except ValueError as error:
                    raise RecordingError(
                        f"{path}, line {number}, column {name!r}: {cells[k]!r} is not a time "
                        "(ISO 8601, or seconds since 1970)."
                    ) from error
                seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
            if abs(seconds) > _LATEST_TIME:
                raise RecordingError(
                    f"{path}, line {number}, column {name!r}: {cells[k]} is no time in seconds "
                    "since 1970; if it is in milliseconds, divide it by 1000."
                )
            yield seconds

    return np.fromiter(parse(), np.float64, len(lines))
