"""What comes out of a text format: rows, notes, and a count of everything that was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Row(NamedTuple):
    """The numbers of one line.

    Attributes:
        values: one per channel; NaN where the line has none.
        clock: the time column in its own unit, or Unix seconds where it is in ISO 8601; None
            when there is no time column.
    """

    values: tuple[float, ...]
    clock: float | None


class Note(NamedTuple):
    """A line for people: a boot message, a log line or a header row.

    Attributes:
        text: the line.
        header: whether it is the header row; one that comes after rows means that the device has
            restarted.
    """

    text: str
    header: bool = False


@dataclass(slots=True)
class TextCounters:
    """What a decoder has seen so far; every line that is not blank counts in one of the first nine.

    Attributes:
        rows: given out.
        bad_rows: lines that look like data and could not be parsed.
        bad_checksum: lines whose checksum does not fit, or is missing where lines have one.
        oversize: lines dropped because they are longer than `lines.MAX_LINE_SIZE`.
        not_text: lines that are not text in UTF-8, or have control characters.
        notes: boot messages, log lines and other text.
        headers: header rows.
        partial: lines that were cut when the link was opened or went away.
        unknown_labels: labels and their values that were not there when the format was told.
    """

    rows: int = 0
    bad_rows: int = 0
    bad_checksum: int = 0
    oversize: int = 0
    not_text: int = 0
    notes: int = 0
    headers: int = 0
    partial: int = 0
    unknown_labels: int = 0

    @property
    def damaged(self) -> int:
        """Lines that arrived and could not be used."""
        return self.bad_rows + self.bad_checksum + self.oversize + self.not_text


class LineParser(Protocol):
    """What knows the lines of one kind."""

    def parse(self, line: bytes) -> Row | None:
        """The row in a line; None when there is none. Raises nothing, whatever the line is."""

    def resembles(self, line: bytes) -> bool:
        """Whether a line without a row looks like one that was damaged."""

    def is_header(self, line: bytes, may_be_cut: bool = False) -> bool:
        """Whether a line without a row is the header row.

        Args:
            line: without its checksum.
            may_be_cut: it may lack its front, or have the end of another line there.

        Raises:
            FormatError: it is one with other columns.
        """
