"""Whether lines are CSV: with which delimiter, decimal mark, header, text columns and time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from edgelstm_bridge.formats.cells import (
    default_names,
    is_identifier,
    is_no_number,
    is_number,
    resembles_number,
)
from edgelstm_bridge.formats.delimited import SWAP_MARKS, header_names, without_last_blank
from edgelstm_bridge.formats.errors import FormatError, shown
from edgelstm_bridge.formats.format import DELIMITERS, Format
from edgelstm_bridge.formats.guess import Guess, Sample, choose_channels, refuse_names
from edgelstm_bridge.formats.time_column import find_time
from edgelstm_bridge.formats.times import is_iso

_Cells = list[bytes]
# What an integer is not written like, but the digits behind a decimal mark may be.
_FRACTION = re.compile(rb"\s*(?:-0,\d+|[+-]?\d+,0\d+)\s*")
_WORD = re.compile(rb"\s*[A-Za-z_]\w*\s*")  # such as the first one of an NMEA sentence


def guess_delimited(sample: Sample, wanted: Format) -> Iterator[Guess]:
    """The ways to read lines as CSV."""
    for delimiter in [wanted.delimiter] if wanted.delimiter else DELIMITERS:
        for decimal in [wanted.decimal] if wanted.decimal else ("point", "comma"):
            if (delimiter, decimal) != ("comma", "comma"):
                guess = _Table(sample, wanted, delimiter, decimal).guess()
                if guess is not None:
                    yield guess


class _Table:
    """The lines cut into cells in one way."""

    def __init__(self, sample: Sample, wanted: Format, delimiter: str, decimal: str) -> None:
        self._sample = sample
        self._wanted = wanted
        self._delimiter = delimiter
        self._decimal = decimal
        lines = list(sample.lines)
        self._texts = [line.split(DELIMITERS[delimiter]) for line in lines]
        if decimal == "comma":
            lines = [line.translate(SWAP_MARKS) for line in lines]
        self._cells = [line.split(DELIMITERS[delimiter]) for line in lines]
        whole = range(sample.first_row, len(lines))
        self._rows = [i for i in whole if any(map(is_number, self._cells[i]))]
        self._count = 0
        self._header: int | None = None

    def guess(self) -> Guess | None:
        """How well this way fits; None when it does not."""
        if not self._rows:
            return None
        self._count = Counter(len(self._cells[i]) for i in self._rows).most_common(1)[0][0]
        self._header = self._find_header()
        self._drop_last_column()
        rows = [i for i in self._rows if len(self._cells[i]) == self._count]
        text = self._text_columns(rows)
        numeric = [k for k in range(self._count) if k not in text]
        good = [
            i
            for i in rows
            if all(_is_value(self._cells[i][k]) for k in numeric)
            and any(is_number(self._cells[i][k]) for k in numeric)
        ]
        if not good or not self._text_is_allowed(good, text):
            return None
        if self._decimal == "comma" and not any(b"," in self._sample.lines[i] for i in good):
            return None
        resembling = sum(
            2 * sum(map(resembles_number, self._cells[i])) >= len(self._cells[i])
            for i in range(self._sample.first_row, len(self._cells))
        )
        return Guess(
            option=f"csv:delimiter={self._delimiter},decimal={self._decimal}",
            good=tuple(good),
            resembling=max(resembling, len(good)),
            numbers=len(numeric),
            doubt=self._doubt(good),
            build=lambda: self._build(good, text),
        )

    def _build(self, good: Sequence[int], text: frozenset[int]) -> Format:
        """The format.

        Raises:
            FormatError: the names do not allow it.
        """
        wanted, line = self._wanted, self._sample.lines[good[0]]
        names, units = self._names(text, line)
        columns = {name: [self._cells[i][k] for i in good] for k, name in enumerate(names)}
        time = find_time(
            wanted if self._is_named else _no_guessed_time(wanted),
            columns,
            dict(zip(names, units, strict=True)),
        )
        present = [name for k, name in enumerate(names) if k not in text and name != time.name]
        channels = choose_channels(wanted, present, line)
        return Format(
            "csv",
            delimiter=self._delimiter,
            header=self._header is not None,
            decimal=self._decimal,
            columns=names,
            channels=channels,
            units=wanted.units or tuple(units[names.index(name)] for name in channels),
            time=time.name,
            time_unit=time.unit,
        )

    @property
    def _is_named(self) -> bool:
        """Whether the columns have names of their own."""
        return self._header is not None or self._wanted.columns is not None

    def _names(self, text: frozenset[int], line: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names and units of all columns."""
        wanted = self._wanted
        if self._header is not None:
            found = header_names(without_last_blank(self._texts[self._header]))
            names, units = found if found else ((), ())
            refuse_names(names, wanted, self._sample.lines[self._header], most=None)
        elif wanted.header:
            raise FormatError(
                f"The device sends lines such as {shown(line)}, but no header row came; restart it "
                "while edgelstm listens, or name the columns with --format "
                "csv:header=no,channels=..."
            )
        else:
            names, units = self._names_without_header(text, line), ("",) * self._count
        if wanted.columns is not None and names != wanted.columns:
            raise FormatError(
                f"The device sends the columns {', '.join(names)}, not "
                f"{', '.join(wanted.columns)}; correct columns in --format."
            )
        return names, units

    def _names_without_header(self, text: frozenset[int], line: bytes) -> tuple[str, ...]:
        wanted = self._wanted
        if wanted.columns is not None and len(wanted.columns) == self._count:
            return wanted.columns
        named = [k for k in range(self._count) if k not in text]
        time = -1
        if wanted.time and wanted.time.isascii() and wanted.time.isdigit():
            time = int(wanted.time[:4])
            named = [k for k in named if k != time]
        given = wanted.columns or wanted.channels or default_names(len(named))
        if len(given) != len(named):
            raise FormatError(
                f"The device sends lines such as {shown(line)}, with {len(named)} channels and no "
                f"header row, but --format names {len(given)} ({', '.join(given)}); name them all."
            )
        names = [f"text_{k}" for k in range(self._count)]
        for k, name in zip(named, given, strict=True):
            names[k] = name
        if 0 <= time < self._count:
            names[time] = "time" if "time" not in names else f"column_{time}"
        return tuple(names)

    def _find_header(self) -> int | None:
        """The line that is the header row: of those that can be, the last of the surest."""
        if self._wanted.header is False:
            return None
        sure = [i for i in range(len(self._texts)) if self._is_header(i, words_only=True)]
        likely = sure or [i for i in range(len(self._texts)) if self._is_header(i)]
        return likely[-1] if likely else None

    def _is_header(self, index: int, words_only: bool = False) -> bool:
        header = header_names(without_last_blank(self._texts[index]))
        if header is None or len(header[0]) not in self._header_lengths():
            return False
        names = header[0]
        words = all(map(is_identifier, filter(None, names)))
        # The first line may begin with the end of a row.
        if not words and (words_only or index < self._sample.first_row):
            return False
        before_row = index + 1 in self._rows
        # A message has as many words as a header soon where a space, or nothing, divides them.
        if self._delimiter == "space" or len(names) == 1:
            return before_row and words
        return 2 * sum(map(bool, names)) > len(names) and (before_row or words)

    def _header_lengths(self) -> tuple[int, ...]:
        """How many names a header may have: one less where the last column is always empty."""
        if self._count == 1 or not self._last_is_blank():
            return (self._count,)
        return (self._count, self._count - 1)

    def _last_is_blank(self) -> bool:
        rows = (self._cells[i] for i in self._rows if len(self._cells[i]) == self._count)
        return not any(cells[-1].strip() for cells in rows)

    def _drop_last_column(self) -> None:
        """Leaves out a last column that is always empty, behind a delimiter at the line's end."""
        if self._count == 1 or not self._last_is_blank():
            return
        if self._header is not None:
            names = without_last_blank(self._texts[self._header])
            if len(names) == self._count:
                return
        for cells in self._cells:
            if len(cells) == self._count:
                del cells[-1]
        self._count -= 1

    def _text_columns(self, rows: Sequence[int]) -> frozenset[int]:
        """The columns in which fewer than half of the cells are numbers or empty."""
        return frozenset(
            k
            for k in range(self._count)
            if 2 * sum(_is_value(self._cells[i][k]) for i in rows) < len(rows)
        )

    def _text_is_allowed(self, good: Sequence[int], text: frozenset[int]) -> bool:
        """Whether text columns may be: named ones, a constant word, or times."""
        if self._is_named:
            return True
        for k in text:
            cells = {self._cells[i][k] for i in good}
            word = len(cells) == 1 and all(map(_WORD.fullmatch, cells))
            if not word and not all(is_iso(cell.decode()) for cell in cells):
                return False
        return True

    def _doubt(self, good: Sequence[int]) -> str:
        wanted = self._wanted
        if wanted.decimal or self._header is not None or wanted.channels or wanted.columns:
            return ""
        lines = [self._sample.lines[i] for i in good]
        if self._decimal == "comma":
            cells = [c for line in lines for c in line.split(DELIMITERS[self._delimiter])]
            # A semicolon is what programs write where the comma is the decimal mark.
            if self._delimiter == "semicolon" or any(map(_FRACTION.fullmatch, cells)):
                return ""
            return "whose commas may be decimal commas or divide numbers"
        if self._delimiter == "comma" and self._count == 2 and not wanted.delimiter:
            padded = any(line.lstrip()[:1] == b"0" and line.lstrip()[1:2] != b"," for line in lines)
            if not padded and any(map(_FRACTION.fullmatch, lines)):
                return "whose comma may be a decimal comma or divide two numbers"
        return ""


def _is_value(cell: bytes) -> bool:
    return is_number(cell) or is_no_number(cell)


def _no_guessed_time(wanted: Format) -> Format:
    """What the user said of the time, for columns whose names say nothing of it."""
    return wanted if wanted.time else replace(wanted, time="")
