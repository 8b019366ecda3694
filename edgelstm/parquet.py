"""Recordings in Parquet files, and in whichever of Parquet and CSV a file turns out to be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import MissingDependencyError, RecordingError
from edgelstm.recording import Recording, read_csv, read_table
from edgelstm.tables import TIME_COLUMNS, Categorical, Table, parse_numbers, parse_times

_MAGIC = b"PAR1"
_SUFFIXES = (".parquet", ".parq", ".pq")
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # per second
_UNNAMED_INDEX = re.compile(r"__index_level_\d+__")  # as pandas calls it in a file


def read_recording(
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    time_column: str | None = None,
    sample_period: float = 1.0,
    missing: bool = False,
    categorical: Categorical = (),
) -> Recording:
    """Reads a recording from a Parquet or a CSV file: see `read_parquet` and `read_csv`.

    Parquet is known by the mark at both ends of such a file, or else by its name.

    Raises:
        RecordingError: as `read_parquet` and `read_csv` do.
        MissingDependencyError: it is a Parquet file, and pyarrow is not installed.
    """
    read = read_parquet if _is_parquet(Path(path)) else read_csv
    return read(
        path,
        columns=columns,
        time_column=time_column,
        sample_period=sample_period,
        missing=missing,
        categorical=categorical,
    )


def read_parquet(
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    time_column: str | None = None,
    sample_period: float = 1.0,
    missing: bool = False,
    categorical: Categorical = (),
) -> Recording:
    """Reads a recording from a Parquet file, by the rules of `read_csv`.

    The time column holds timestamps of any unit (UTC where they have no zone), dates, seconds
    since the Unix epoch, or text as in a CSV file. Without one, an unnamed pandas index of
    timestamps is the time; any other unnamed index is left out. A column of booleans is no
    column of numbers, as it is none in a CSV file.

    Args:
        path: the file.
        columns: the channels; by default every other column that holds numbers.
        time_column: name of the time column, where it has an unusual one.
        sample_period: seconds between readings, for a file without a time column.
        missing: whether values may be missing: null, NaN and what `read_csv` takes for such.
        categorical: columns that hold one of a few texts, booleans or whole numbers.

    Raises:
        RecordingError: the file cannot be read, a column is missing, or a cell is not a number
            (null and NaN are none) or a time; the message names the row and the column.
        MissingDependencyError: pyarrow is not installed.
    """
    arrow = _read_arrow(Path(path))
    names: list[str] = arrow.column_names
    unnamed = [name for name in names if _UNNAMED_INDEX.fullmatch(name)]
    if time_column is None and not any(name.lower() in TIME_COLUMNS for name in names):
        stamps = (name for name in unnamed if _is_time(arrow.column(name).type))
        time_column = next(stamps, None)
    asked = {time_column, *(columns or ()), *categorical}
    kept = [k for k, name in enumerate(names) if name not in unnamed or name in asked]
    table = _ParquetTable(
        Path(path), [names[k] for k in kept], [_plain(arrow.column(k)) for k in kept]
    )
    return read_table(
        table, columns, time_column, sample_period, missing=missing, categorical=categorical
    )


def _is_parquet(path: Path) -> bool:
    if path.suffix.lower() in _SUFFIXES:
        return True
    try:
        content = path.open("rb")
    except OSError:
        return False  # whoever reads it says why
    with content:
        head = content.read(len(_MAGIC))
        # At both ends: a CSV file may well begin with a column called PAR1, as light sensors do.
        length = content.seek(0, 2)
        content.seek(max(length - len(_MAGIC), 0))
        return head == content.read() == _MAGIC and length > len(_MAGIC)


def _read_arrow(path: Path) -> Any:
    """The file as a `pyarrow.Table` of at least one row and column."""
    pyarrow = _pyarrow()
    try:
        file = path.open("rb")
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}.") from error
    with file:
        try:
            table = pyarrow.parquet.ParquetFile(file).read()
            table.validate(full=True)  # text that is not UTF-8, above all
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise RecordingError(f"{path} is damaged, or is no Parquet file ({reason}).") from error
    if not table.num_columns or not table.num_rows:
        raise RecordingError(
            f"{path} is empty: it has no {'rows' if table.num_columns else 'columns'}."
        )
    return table


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(
            "This needs pyarrow; run: pip install 'edgelstm[parquet]'"
        ) from error
    return pyarrow


def _plain(column: Any) -> Any:
    """A column without its dictionary, which pandas gives to categories."""
    kind = column.type
    return column.cast(kind.value_type) if _pyarrow().types.is_dictionary(kind) else column


def _is_time(kind: Any) -> bool:
    types = _pyarrow().types
    return bool(types.is_timestamp(kind) or types.is_date(kind))


@dataclass(frozen=True)
class _ParquetTable(Table):
    """`columns`: a `pyarrow.ChunkedArray` each."""

    columns: Sequence[Any]

    def __len__(self) -> int:
        return len(self.columns[0])

    def place(self, row: int) -> str:
        return f"row {row} (counted from 0)"

    def cell(self, row: int, column: int) -> str:
        scalar = self.columns[column][row]
        try:
            value = scalar.as_py()
        except (ValueError, OverflowError):
            value = scalar.value  # finer or further than Python's times, or of an unknown zone
        return "" if value is None else str(value)

    def texts(self, column: int) -> list[str]:
        cells = self.columns[column]
        if _pyarrow().types.is_nested(cells.type) or _is_time(cells.type):
            return [self.cell(row, column) for row in range(len(cells))]
        return ["" if cell is None else str(cell).strip() for cell in cells.to_pylist()]

    def numbers(self, column: int) -> NDArray[np.float64]:
        cells = self.columns[column]
        types, kind = _pyarrow().types, cells.type
        if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
            values = cells.cast("double", safe=False).to_numpy()
            return np.where(np.isfinite(values), values, np.nan)
        if _is_text(kind):
            return parse_numbers([cell or "" for cell in cells.to_pylist()])
        return np.full(len(cells), np.nan)

    def times(self, column: int) -> NDArray[np.float64]:
        cells = self.columns[column]
        if _is_text(cells.type):
            return parse_times(self.texts(column))
        if not _is_time(cells.type):
            return self.numbers(column)
        if _pyarrow().types.is_date(cells.type):
            cells = cells.cast(_pyarrow().timestamp("ms"))
        # Whole seconds apart: nanoseconds since 1970 have more digits than float64.
        ticks = cells.cast("int64").fill_null(0).to_numpy()
        seconds, rest = np.divmod(ticks, _TICKS[cells.type.unit])
        return np.where(
            cells.is_valid().to_numpy(), seconds + rest / _TICKS[cells.type.unit], np.nan
        )


def _is_text(kind: Any) -> bool:
    types = _pyarrow().types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
