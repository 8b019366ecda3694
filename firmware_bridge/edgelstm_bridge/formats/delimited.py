"""CSV: lines of cells with a delimiter between them."""

from __future__ import annotations

from collections.abc import Sequence

from edgelstm_bridge.formats.cells import (
    begins_like_number,
    is_identifier,
    number,
    picker,
    resembles_number,
    split_unit,
)
from edgelstm_bridge.formats.errors import FormatError, shown
from edgelstm_bridge.formats.format import DELIMITERS, Format
from edgelstm_bridge.formats.rows import Row
from edgelstm_bridge.formats.times import unix_seconds

# Of numbers with a decimal comma: one with a point is no number then.
SWAP_MARKS = bytes.maketrans(b",.", b".,")

_Cells = Sequence[bytes]


def without_last_blank(cells: _Cells) -> _Cells:
    """Cells without a last one that is empty, behind a delimiter at the line's end."""
    return cells[:-1] if len(cells) > 1 and not cells[-1].strip() else cells


def header_names(cells: _Cells) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The names and units in a header row's cells; None when it cannot be one.

    A cell may be empty here, so that whoever uses the names can complain about it.
    """
    try:
        texts = [cell.decode().strip(" \t\"'") for cell in cells]
    except UnicodeDecodeError:
        return None
    if (
        any(map(begins_like_number, cells))
        or not any(texts)
        or not all(map(str.isprintable, texts))
    ):
        return None
    names, units = zip(*map(split_unit, texts), strict=True)
    return names, units


class DelimitedParser:
    """Parses CSV.

    Args:
        fmt: complete.
    """

    def __init__(self, fmt: Format) -> None:
        columns, channels = fmt.columns or (), fmt.channels or ()
        self._columns = columns
        self._count = len(columns)
        self._delimiter = DELIMITERS[fmt.delimiter or "comma"]
        self._decimal_comma = fmt.decimal == "comma"
        self._has_header = bool(fmt.header)
        self._time = columns.index(fmt.time) if fmt.time else None
        self._time_is_text = fmt.time_is_text
        wanted = [columns.index(name) for name in channels]
        self._has_clock = self._time is not None and not fmt.time_is_text
        if self._time is not None and self._has_clock:
            wanted.append(self._time)
        self._pick = picker(wanted, self._count)

    def parse(self, line: bytes) -> Row | None:
        """See `LineParser.parse`."""
        if self._decimal_comma:
            line = line.translate(SWAP_MARKS)
        cells = line.split(self._delimiter)
        # Many sketches print the delimiter behind the last value, too.
        if len(cells) != self._count and (len(cells) != self._count + 1 or cells.pop().strip()):
            return None
        try:
            picked = cells if self._pick is None else self._pick(cells)
            values = tuple(map(float, picked))
            total = sum(values)
            # float() takes 1_0 and gives infinity, which a row does not have.
            if total - total != 0.0 or b"_" in line:
                values = tuple(map(number, picked))
        except ValueError:
            return self._parse_slowly(cells)
        if self._time is None:
            return Row(values, None)
        return self._with_clock(values, cells)

    def resembles(self, line: bytes) -> bool:
        """See `LineParser.resembles`."""
        cells = line.split(self._delimiter)
        return 2 * sum(map(resembles_number, cells)) >= len(cells)

    def is_header(self, line: bytes, may_be_cut: bool = False) -> bool:
        """See `LineParser.is_header`."""
        if not self._has_header:
            return False
        header = header_names(without_last_blank(line.split(self._delimiter)))
        if header is None:
            return False
        names = header[0]
        if names == self._columns:
            return True
        if may_be_cut and names[1:] == self._columns[self._count - len(names) + 1 :]:
            return False
        if self._is_changed(names):
            raise FormatError(
                f"The device now sends other columns ({shown(line)}) than before "
                f"({', '.join(self._columns)}); start again to go on with those."
            )
        return False

    def _parse_slowly(self, cells: _Cells) -> Row | None:
        if self._count == 1 and not cells[0].strip():  # a blank line
            return None
        picked = cells if self._pick is None else self._pick(cells)
        try:
            values = tuple(map(number, picked))
        except ValueError:
            return None
        return self._with_clock(values, cells)

    def _with_clock(self, values: tuple[float, ...], cells: _Cells) -> Row | None:
        if self._time is None:
            return Row(values, None)
        if self._has_clock:
            clock = values[-1]
            return Row(values[:-1], clock) if clock == clock else None
        try:
            return Row(values, unix_seconds(cells[self._time].decode()))
        except (ValueError, OverflowError):
            return None

    def _is_changed(self, names: tuple[str, ...]) -> bool:
        """Whether names that are not the header's look like another header, not like a message."""
        if self._count < 2 or not all(names):
            return False
        shared = len(set(names) & set(self._columns))
        if len(names) != self._count:
            return shared >= 2
        # Messages of as many words are too usual where a space divides them.
        return shared > 0 or (self._delimiter is not None and all(map(is_identifier, names)))
