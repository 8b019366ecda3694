"""A CSV file as a `Table`."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm.tables import Table, parse_number, parse_numbers, parse_times

_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class CsvTable(Table):
    """`numbered`: for each row its line number in the file and its cells."""

    numbered: Sequence[tuple[int, list[str]]]

    def __len__(self) -> int:
        return len(self.numbered)

    def place(self, row: int) -> str:
        """See `Table.place`."""
        return f"line {self.numbered[row][0]}"

    def cell(self, row: int, column: int) -> str:
        """See `Table.cell`."""
        return self.numbered[row][1][column]

    def texts(self, column: int) -> list[str]:
        """See `Table.texts`."""
        return [cells[column] for _, cells in self.numbered]

    def numbers(self, column: int) -> NDArray[np.float64]:
        """See `Table.numbers`."""
        return parse_numbers(self.texts(column))

    def times(self, column: int) -> NDArray[np.float64]:
        """See `Table.times`."""
        return parse_times(self.texts(column))

    def lines(self) -> NDArray[np.int64]:
        """See `Table.lines`."""
        return np.array([line for line, _ in self.numbered], np.int64)


def read_csv_table(path: Path) -> CsvTable:
    """Reads a CSV file with a header row; comma, semicolon, tab or bar are told apart.

    Raises:
        RecordingError: it cannot be read, is no CSV file, or holds no row below a header.
    """
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
    return CsvTable(path, header, lines)
