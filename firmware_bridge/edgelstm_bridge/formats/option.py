"""The `--format` option: a format as a text that is easily typed, and back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any
from urllib.parse import unquote

from edgelstm.errors import ConfigurationError
from edgelstm_bridge.formats.cells import name_complaint
from edgelstm_bridge.formats.format import DELIMITERS, KINDS, Format, Kind
from edgelstm_bridge.formats.times import TIME_UNITS
from edgelstm_bridge.messages import MAX_CHANNELS

_NO_TIME = "no"
_SPECIAL = re.compile(r"[%+,= ]")
_OF_ALL = ("columns", "channels", "units", "time", "time_unit", "checksum")
_OPTIONS: dict[Kind, tuple[str, ...]] = {
    "csv": ("delimiter", "header", "decimal", *_OF_ALL),
    "label": _OF_ALL,
    "json": ("array", *_OF_ALL),
    "keyvalue": _OF_ALL,
}


def parse_format(text: str) -> Format:
    """See `Format.parse`."""
    kind_text, _, rest = text.strip().partition(":")
    kind = next((kind for kind in KINDS if kind == kind_text.lower()), None)
    if kind is None:
        raise ConfigurationError(
            f"--format {text!r}: {kind_text!r} is no format; the formats are {', '.join(KINDS)}, "
            "as in --format csv or --format csv:delimiter=tab,header=no."
        )
    options: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        name, equals, value = part.partition("=")
        name = name.strip().lower()
        if name not in _OPTIONS[kind] or not equals:
            raise ConfigurationError(
                f"--format {text!r}: {part!r} is no option of {kind}; they are "
                f"{', '.join(_OPTIONS[kind])}, each with = and its value."
            )
        if name in options:
            raise ConfigurationError(f"--format {text!r}: {name} is given twice; leave one out.")
        try:
            options[name] = _READERS[name](value.strip())
        except ValueError as error:
            raise ConfigurationError(f"--format {text!r}: {name} {error}.") from None
    _check(text, options)
    return Format(kind, **options)


def format_text(fmt: Format) -> str:
    """See `Format.__str__`."""
    parts = []
    for field in fields(fmt)[1:]:
        value = getattr(fmt, field.name)
        if value is None or value == () or field.name not in _OPTIONS[fmt.kind]:
            continue
        if isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, tuple):
            value = "+".join(map(_escaped, value))
        elif field.name == "time":
            value = _escaped_time(value)
        parts.append(f"{field.name}={value}")
    return f"{fmt.kind}:{','.join(parts)}" if parts else fmt.kind


def _check(text: str, options: dict[str, Any]) -> None:
    for name in ("columns", "channels"):
        most = MAX_CHANNELS if name == "channels" else None
        complaint = name in options and name_complaint(options[name], most)
        if complaint:
            raise ConfigurationError(f"--format {text!r}: {name}: {complaint}.")
    channels, units = options.get("channels"), options.get("units")
    if units and len(units) != len(channels or ()):
        raise ConfigurationError(
            f"--format {text!r}: units needs one unit for each of the channels; give both, as in "
            "channels=temp+hum,units=C+%25."
        )
    columns = options.get("columns")
    for name in (*(channels or ()), options.get("time")):
        if columns and name and name not in columns and not (name.isdigit() and not channels):
            raise ConfigurationError(
                f"--format {text!r}: {name!r} is not one of the columns {', '.join(columns)}."
            )


def _one_of(words: dict[str, Any]) -> Callable[[str], Any]:
    def read(value: str) -> Any:
        try:
            return words[value.lower()]
        except KeyError:
            raise ValueError(f"is one of {', '.join(words)}, not {value!r}") from None

    return read


def _names(value: str) -> tuple[str, ...]:
    return tuple(unquote(name).strip() for name in value.split("+"))


def _time(value: str) -> str:
    if not value:
        raise ValueError("needs the name of a column, its index, or no")
    return "" if value.lower() == _NO_TIME else unquote(value).strip()


def _escaped(name: str) -> str:
    return _SPECIAL.sub(lambda match: f"%{ord(match[0]):02X}", name)


def _escaped_time(name: str) -> str:
    if not name:
        return _NO_TIME
    # A column of that very name is told from none by an escaped first letter.
    return f"%{ord(name[0]):02X}{name[1:]}" if name.lower() == _NO_TIME else _escaped(name)


_YES_NO = _one_of({"yes": True, "no": False})
_READERS: dict[str, Callable[[str], Any]] = {
    "delimiter": _one_of({word: word for word in DELIMITERS}),
    "header": _YES_NO,
    "decimal": _one_of({"point": "point", "comma": "comma"}),
    "array": _YES_NO,
    "columns": _names,
    "channels": _names,
    "units": _names,
    "time": _time,
    "time_unit": _one_of({unit: unit for unit in TIME_UNITS}),
    "checksum": _YES_NO,
}
