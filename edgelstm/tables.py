"""`Table`: rows of cells as a file holds them, and what its columns mean."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError

TIME_COLUMNS = ("timestamp", "time", "datetime")
MISSING = frozenset(("", "nan", "na", "n/a", "null", "none"))
"""Cells that stand for a missing value, in any case."""
_LATEST_TIME = 1e11  # seconds since 1970: the year 5138
_MOST_CATEGORIES = 10_000  # distinct texts that a column may have to be read at all

Categorical = Sequence[str] | Mapping[str, Sequence[str]]
"""Names of categorical columns; a mapping also has their texts, code 0 first, where known."""


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
    def texts(self, column: int) -> list[str]:
        """The text of each cell of a column, without spaces around; empty where there is none."""

    @abstractmethod
    def numbers(self, column: int) -> NDArray[np.float64]:
        """The column as numbers, (rows,); NaN where a cell is no finite number."""

    @abstractmethod
    def times(self, column: int) -> NDArray[np.float64]:
        """The column as seconds since 1970, (rows,); NaN where a cell is no time."""

    def lines(self) -> NDArray[np.int64] | None:
        """Of each row its line in the file, counted from 1; None where it has no lines."""
        return None


@dataclass(frozen=True)
class Channels:
    """Columns of a table as channels.

    Attributes:
        names: in order.
        values: float64 (rows, channels).
        categories: of each column that held categories as text, its texts, code 0 first.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    categories: dict[str, tuple[str, ...]]


def read_channels(
    table: Table,
    wanted: Sequence[str] | None,
    time_name: str | None,
    *,
    missing: bool = False,
    categorical: Categorical = (),
) -> Channels:
    """The channels of a table.

    Args:
        table: what the file holds.
        wanted: the channels; by default every column with a number in it, and the categorical
            ones. Categorical columns that are not among them come last.
        time_name: the column that is none of them.
        missing: whether values may be missing: they are NaN.
        categorical: columns whose values are one of a few. Where a cell holds anything but a
            number, or the texts are known, values are the numbers of the texts: 0, 1 and so on.

    Raises:
        RecordingError: a column is not there, or a cell is not a number (and not missing, where
            that is allowed); the message names the line and the column.
    """
    for name in (*(wanted or ()), *categorical):
        require_column(table, name)
        if wanted is not None and list(wanted).count(name) > 1:
            raise RecordingError(f"The column {name!r} is chosen twice.")
        if name == time_name and name in categorical:
            raise RecordingError(
                f"{table.path}: the column {name!r} holds the time, so it cannot be categorical."
            )
    texts: dict[str, tuple[str, ...]] = {}
    columns: dict[str, NDArray[np.float64]] = {}
    if wanted is not None:
        chosen = [*wanted, *(name for name in categorical if name not in wanted)]
    else:
        chosen = [name for name in table.header if name != time_name]
    for name in chosen:
        if name in categorical:
            known = categorical[name] if isinstance(categorical, Mapping) else None
            columns[name], found = _read_categories(table, name, known, missing)
            if found is not None:
                texts[name] = found
        else:
            numbers = table.numbers(table.header.index(name))
            # A column without a single number is text (a status, a note) and no channel. One with
            # a number is meant as numbers, so that text in it is a mistake to be reported.
            if wanted is not None or not np.isnan(numbers).all():
                _need_numbers(table, name, numbers, missing, named=wanted is not None)
                columns[name] = numbers
    if not columns:
        raise RecordingError(
            f"{table.path} has no column of numbers beside the time; numbers are written 1.5, "
            "not 1,5."
        )
    return Channels(tuple(columns), np.stack(list(columns.values()), axis=1), texts)


def _need_numbers(
    table: Table, name: str, numbers: NDArray[np.float64], missing: bool, *, named: bool
) -> None:
    """Refuses what is no number and, unless it may be, what is missing.

    Where the column was asked for by its name, as a model does, there is no other to choose.
    """
    column = table.header.index(name)
    for row in np.flatnonzero(np.isnan(numbers)).tolist():
        cell = table.cell(row, column)
        gone = cell.strip().lower() in MISSING
        if gone and missing:
            continue
        way = "Mend the file, or choose other columns with --columns."
        if missing and named:
            way = "Mend the file, or leave such cells empty."
        elif gone:
            way = (
                "Mend the file, or choose other columns with --columns; "
                "`edgelstm train` fills such gaps."
            )
        raise RecordingError(
            f"{place(table, row, name)}: {repr(cell) if cell else 'an empty cell'} is not a "
            f"number. {way}"
        )


def _read_categories(
    table: Table, name: str, known: Sequence[str] | None, missing: bool
) -> tuple[NDArray[np.float64], tuple[str, ...] | None]:
    """The codes of a categorical column, and its texts unless it holds plain numbers."""
    cells = table.texts(table.header.index(name))
    gone = np.array([cell.lower() in MISSING for cell in cells])
    if gone.any() and not missing:
        row = int(gone.argmax())
        raise RecordingError(
            f"{place(table, row, name)}: the category is missing. Mend the file; `edgelstm train` "
            "fills such gaps."
        )
    if known is None:
        numbers = np.array([parse_number(cell) for cell in cells])
        if not np.isnan(numbers[~gone]).any():
            return numbers, None
        known = sorted({cell for cell, no in zip(cells, gone, strict=True) if not no})
        if len(known) > _MOST_CATEGORIES:
            raise RecordingError(
                f"{table.path}: the column {name!r} holds {len(known):,} different texts, which "
                "are no categories; choose a column with a few."
            )
    codes = {text: float(code) for code, text in enumerate(known)}
    values = np.array([codes.get(cell, math.nan) for cell in cells])
    strange = np.isnan(values) & ~gone
    if strange.any() and not missing:
        row = int(strange.argmax())
        raise RecordingError(
            f"{place(table, row, name)}: {cells[row]!r} is none of the categories that are known: "
            f"{', '.join(known)}."
        )
    return values, tuple(known)


def find_time_column(table: Table, wanted: str | None) -> str | None:
    """The column that holds the time: the one that is wanted, or else one with a usual name.

    Raises:
        RecordingError: the wanted one is not there.
    """
    if wanted is not None:
        require_column(table, wanted)
        return wanted
    return next((name for name in table.header if name.lower() in TIME_COLUMNS), None)


def read_times(table: Table, name: str) -> NDArray[np.float64]:
    """The column of times as seconds since 1970, (rows,).

    Raises:
        RecordingError: a cell is no time; the message names the line.
    """
    k = table.header.index(name)
    times = table.times(k)
    bad = ~(np.abs(times) <= _LATEST_TIME)  # true for NaN, too
    if bad.any():
        row = int(bad.argmax())
        cell = table.cell(row, k)
        if np.isnan(times[row]):
            raise RecordingError(
                f"{place(table, row, name)}: {cell!r} is not a time (ISO 8601, or seconds since "
                "1970)."
            )
        raise RecordingError(
            f"{place(table, row, name)}: {cell} is no time in seconds since 1970; if it is in "
            "milliseconds, divide it by 1000."
        )
    return times


def check_header(table: Table) -> None:
    """Refuses two columns of one name.

    Raises:
        RecordingError: there are two.
    """
    names = list(table.header)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RecordingError(
            f"{table.path} has two columns called {twice!r}; give them names apart."
        )


def require_column(table: Table, name: str) -> None:
    """Refuses a column that is not there.

    Raises:
        RecordingError: it is not.
    """
    if name not in table.header:
        raise RecordingError(
            f"{table.path} has no column {name!r}; its columns are {', '.join(table.header)}."
        )


def place(table: Table, row: int, name: str) -> str:
    """What a message calls a cell."""
    return f"{table.path}, {table.place(row)}, column {name!r}"


def parse_number(text: str) -> float:
    """A cell of text as a number; NaN when it is no finite one."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def parse_numbers(texts: Sequence[str]) -> NDArray[np.float64]:
    """Cells of text as numbers, (cells,); NaN where one is no finite number."""
    try:
        values = np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        return np.array([parse_number(text) for text in texts])
    values[~np.isfinite(values)] = math.nan
    return values


def parse_times(texts: Sequence[str]) -> NDArray[np.float64]:
    """Cells of text as seconds since 1970, (cells,); NaN where one is no time."""
    # Quick where all are of the kind of the first.
    if texts and math.isnan(parse_number(texts[0])):
        with suppress(ValueError, OverflowError):
            return np.fromiter(map(_seconds, map(datetime.fromisoformat, texts)), np.float64)
    else:
        numbers = parse_numbers(texts)
        if not np.isnan(numbers).any():
            return numbers
    return np.array([parse_time(text) for text in texts])


def parse_time(text: str) -> float:
    """A cell of text, ISO 8601 or seconds, as seconds since 1970; NaN when it is no time."""
    seconds = parse_number(text)
    if math.isnan(seconds):
        try:
            return _seconds(datetime.fromisoformat(text))
        except ValueError:
            return math.nan
    return seconds


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
