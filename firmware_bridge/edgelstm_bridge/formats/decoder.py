"""`TextDecoder`: bytes in, rows and notes out, and a count of what went wrong. No I/O."""

from __future__ import annotations

from edgelstm.errors import ConfigurationError
from edgelstm_bridge.formats.checksum import has_checksum, without_checksum
from edgelstm_bridge.formats.delimited import DelimitedParser
from edgelstm_bridge.formats.errors import FormatError
from edgelstm_bridge.formats.format import Format
from edgelstm_bridge.formats.json_lines import JsonParser
from edgelstm_bridge.formats.lines import BOM, LineSplitter, to_text
from edgelstm_bridge.formats.pairs import PairParser
from edgelstm_bridge.formats.rows import LineParser, Note, Row, TextCounters


class TextDecoder:
    """Turns the bytes from one device that writes text into rows.

    The first line after the link was opened is dropped: a number that was cut at its front looks
    like a whole one. Only the format's own header row is taken there.

    It never holds more than one line's bytes, and after garbage it is in step again at the next
    line.

    Args:
        fmt: complete, as `detect` gives it.
        whole_start: the first byte is the first of a line: of a file, not of a line that was
            open before.

    Attributes:
        format: how lines are read.
        counters: what was seen so far.

    Raises:
        ConfigurationError: the format is not complete.
    """

    def __init__(self, fmt: Format, *, whole_start: bool = False) -> None:
        if not fmt.complete:
            raise ConfigurationError(
                f"The format {fmt} leaves something open; let detect() find it out first."
            )
        self.format = fmt
        self.counters = TextCounters()
        self._parser = _make_parser(fmt, self.counters)
        self._lines = LineSplitter()
        self._may_be_cut = not whole_start
        self._is_start = True
        self._changed = ""  # the message of the error that ended the stream

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of a row's values, in order."""
        return self.format.channels or ()

    def feed(self, data: bytes) -> list[Row | Note]:
        """Takes bytes as they come, in chunks of any size, and returns what they say, in order.

        Raises:
            FormatError: a header row with other columns came; nothing is read after it. What
                came before it in the same chunk is returned, and the error comes with the next
                one, which may be empty.
        """
        if self._changed:
            raise FormatError(self._changed)
        lines = self._lines.feed(data)
        self.counters.oversize = self._lines.oversize
        return self._decode(lines)

    def finish(self) -> list[Row | Note]:
        """Takes the end of a stream (a file's) for the end of its last line.

        Raises:
            FormatError: as for `feed`.
        """
        return self.feed(b"\n")

    def break_line(self, *, whole_start: bool = False) -> None:
        """Forgets the incomplete line: the link went away.

        The first line after it is treated like the first after opening.

        Args:
            whole_start: the next byte is the first of a line.
        """
        if self._lines.drop().strip():
            self.counters.partial += 1
        self._may_be_cut = not whole_start
        self._is_start = True

    def _decode(self, lines: list[bytes]) -> list[Row | Note]:
        items: list[Row | Note] = []
        add = items.append
        parse = self._parser.parse
        checked = self.format.checksum
        rows = 0
        try:
            if self._is_start and lines:
                lines = self._begin(lines, items)
            for line in lines:
                row = None if checked else parse(line)
                if row is not None:
                    rows += 1
                    add(row)
                elif line:
                    item = self._follow(line)
                    if item is not None:
                        rows += isinstance(item, Row)
                        add(item)
        except FormatError as error:
            self._changed = str(error)
            if not items:
                raise
        finally:
            self.counters.rows += rows
        return items

    def _begin(self, lines: list[bytes], items: list[Row | Note]) -> list[bytes]:
        """Takes the first line after opening, and returns those that follow it."""
        self._is_start = False
        first = lines[0].removeprefix(BOM)
        if not self._may_be_cut or not first.strip():  # nothing before its end: nothing was cut
            return [first, *lines[1:]]
        note = self._header(first)
        if note is not None:
            items.append(note)
        else:
            self.counters.partial += 1
        return lines[1:]

    def _header(self, line: bytes) -> Note | None:
        """The note of a first line that is the header row.

        Raises:
            FormatError: it is one with other columns.
        """
        body = self._body(line)
        text = to_text(line)
        if body is None or text is None or not self._parser.is_header(body, may_be_cut=True):
            return None
        self.counters.headers += 1
        return Note(text.strip(), header=True)

    def _follow(self, line: bytes) -> Row | Note | None:
        """What a line says that is not known to be a row; counts it if it says nothing.

        Raises:
            FormatError: it is a header row with other columns.
        """
        body = self._body(line)
        if self.format.checksum and body is not None and body is not line:
            row = self._parser.parse(body)
            if row is not None:
                return row
        if not line.strip():
            return None
        counters = self.counters
        text = to_text(line)
        if text is None:
            counters.not_text += 1
        elif body is None or (body is line and self._is_unchecked_row(line)):
            counters.bad_checksum += 1
        elif self._parser.is_header(body):
            counters.headers += 1
            return Note(text.strip(), header=True)
        elif self._parser.resembles(body):
            counters.bad_rows += 1
        else:
            counters.notes += 1
            return Note(text.strip())
        return None

    def _body(self, line: bytes) -> bytes | None:
        """A line without its checksum, itself when it has none, None when that does not fit."""
        if not self.format.checksum:
            return line
        try:
            return without_checksum(line)
        except ValueError:
            return None if has_checksum(line.rstrip()) else line

    def _is_unchecked_row(self, line: bytes) -> bool:
        """Whether a line looks like data, but has no checksum where there should be one."""
        return bool(self.format.checksum) and self._parser.resembles(line)


def _make_parser(fmt: Format, counters: TextCounters) -> LineParser:
    if fmt.kind == "csv":
        return DelimitedParser(fmt)
    if fmt.kind == "json":
        return JsonParser(fmt, counters)
    return PairParser(fmt, counters)
