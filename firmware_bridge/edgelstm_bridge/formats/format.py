"""`Format`: how a device writes its readings as lines of text, and as far as that is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgelstm_bridge.formats.times import TIME_UNITS

Kind = Literal["csv", "label", "json", "keyvalue"]
KINDS: tuple[Kind, ...] = ("csv", "label", "json", "keyvalue")

# Space stands for any run of spaces and tabs, as bytes.split(None) has it.
DELIMITERS: dict[str, bytes | None] = {
    "comma": b",",
    "semicolon": b";",
    "tab": b"\t",
    "bar": b"|",
    "space": None,
}


@dataclass(frozen=True, slots=True)
class Format:
    """How a device writes its readings.

    As the user states it, what is None is still open; `detect` fills it in.

    Attributes:
        kind: "csv"; "label" (`temp:21.5,hum:40`); "json", one object or array a line; or
            "keyvalue" (`t=21.5 h=40`).
        delimiter: of csv: one of `DELIMITERS`.
        header: of csv: whether a row of names comes before the rows of numbers.
        decimal: of csv: "point" or "comma".
        array: of json: whether a line is an array, not an object.
        columns: the names of all columns or labels of the stream, in order. Those that are
            neither channels nor the time are text, or not wanted.
        channels: the names of the values of a row, in order.
        units: of the channels, in their order; () when none is known.
        time: the column that holds the time; "" when there is none. A user's may be the column's
            index, counted from 0.
        time_unit: one of `TIME_UNITS`; None when it has to be found out from the values.
        checksum: whether lines end in `*` and a checksum.
    """

    kind: Kind
    delimiter: str | None = None
    header: bool | None = None
    decimal: str | None = None
    array: bool | None = None
    columns: tuple[str, ...] | None = None
    channels: tuple[str, ...] | None = None
    units: tuple[str, ...] = ()
    time: str | None = None
    time_unit: str | None = None
    checksum: bool | None = None

    def __post_init__(self) -> None:
        if not any(self.units):
            object.__setattr__(self, "units", ())

    @classmethod
    def parse(cls, text: str) -> Format:
        """The format that the `--format` option says, such as "csv:delimiter=tab,header=no".

        Raises:
            ConfigurationError: it is not understood.
        """
        from edgelstm_bridge.formats.option import parse_format

        return parse_format(text)

    def __str__(self) -> str:
        """The format as the `--format` option says it."""
        from edgelstm_bridge.formats.option import format_text

        return format_text(self)

    @property
    def complete(self) -> bool:
        """Whether nothing is left for `detect` to find out."""
        needed: list[object] = [self.columns, self.channels, self.time, self.checksum]
        if self.kind == "csv":
            needed += [self.delimiter, self.header, self.decimal]
        elif self.kind == "json":
            needed.append(self.array)
        return None not in needed

    @property
    def channel_units(self) -> tuple[str, ...]:
        """One unit per channel; empty where it is not known."""
        return self.units or ("",) * len(self.channels or ())

    @property
    def clock_unit(self) -> float | None:
        """Seconds per unit of the time column; None when it is not known, or there is none."""
        return TIME_UNITS[self.time_unit] if self.time and self.time_unit else None

    @property
    def time_is_text(self) -> bool:
        """Whether the time is written in ISO 8601."""
        return self.time_unit == "iso"
