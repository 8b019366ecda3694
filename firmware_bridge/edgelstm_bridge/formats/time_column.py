"""Which of a format's columns is the time, by what the user said, its name and its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edgelstm_bridge.formats.cells import quantity
from edgelstm_bridge.formats.errors import FormatError
from edgelstm_bridge.formats.format import Format
from edgelstm_bridge.formats.times import is_clock, is_iso, time_name

Columns = Mapping[str, Sequence[bytes]]  # the cells of every column, by its name and in order


class TimeColumn(NamedTuple):
    """The column that holds the time.

    Attributes:
        name: empty when there is none.
        unit: one of `times.TIME_UNITS`; None when it is not known.
    """

    name: str
    unit: str | None


def find_time(wanted: Format, columns: Columns, units: Mapping[str, str]) -> TimeColumn:
    """The time among the columns.

    Args:
        wanted: what the user said.
        columns: what the lines hold.
        units: of the columns, by name; "" or no item where it is not known.

    Raises:
        FormatError: the one that the user named is not there, or holds no times.
    """
    if wanted.time == "":
        return TimeColumn("", None)
    if wanted.time is not None:
        name = _named(wanted.time, list(columns))
        found = _as_time(name, columns[name], units.get(name, ""), asked=True)
        if found is None:
            raise FormatError(
                f"The column {name!r} holds no times, neither numbers nor ISO 8601; choose another "
                f"with --format {wanted.kind}:time=..., or time=no."
            )
        return _with_unit(found, wanted)
    # Channels that the user named are channels.
    candidates = (name for name in columns if name not in (wanted.channels or ()))
    for name in candidates:
        found = _as_time(name, columns[name], units.get(name, ""), asked=False)
        if found is not None:
            return _with_unit(found, wanted)
    return TimeColumn("", None)


def _with_unit(found: TimeColumn, wanted: Format) -> TimeColumn:
    unit = wanted.time_unit
    if unit is not None and (unit == "iso") != (found.unit == "iso"):
        held = "times in ISO 8601" if found.unit == "iso" else "numbers"
        raise FormatError(
            f"The column {found.name!r} holds {held}, which time_unit={unit} is not for; correct "
            "it in --format."
        )
    return found._replace(unit=unit or found.unit)


def _named(wanted: str, names: Sequence[str]) -> str:
    if wanted in names:
        return wanted
    if wanted.isascii() and wanted.isdigit() and int(wanted[:4]) < len(names):
        return names[int(wanted[:4])]
    raise FormatError(
        f"The device sends no time called {wanted!r}, only {', '.join(names)}; choose "
        "one of these in --format."
    )


def _as_time(name: str, cells: Sequence[bytes], unit: str, *, asked: bool) -> TimeColumn | None:
    """The column as the time; None when it is none."""
    said = time_name(name, unit)
    if said is None and not asked:
        return None
    if all(is_iso(cell.decode()) for cell in cells):
        return TimeColumn(name, "iso")
    values = []
    for cell in cells:
        try:
            value, glued = quantity(cell)
        except ValueError:
            continue
        values.append(value)
        if said is None or not unit:
            said = time_name(name, glued.decode()) or said
    if 2 * len(values) < len(cells) or all(value != value for value in values):
        return None
    if not asked and said is not None and not said.sure and not is_clock(values):
        return None
    return TimeColumn(name, said.unit if said else None)
