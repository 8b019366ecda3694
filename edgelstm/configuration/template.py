"""`write_template`: a configuration with every key in it, to be changed by people.

It is made of the dataclasses, so it has the keys that are read and no others.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgelstm.configuration.checks import PASSWORD_IN_URL
from edgelstm.configuration.fields import Field, fields_of
from edgelstm.configuration.reading import (
    NAMED_TABLES,
    SINGLE_TABLES,
    sink_fields,
    top_fields,
)
from edgelstm.configuration.settings import (
    DetectionSettings,
    OutboxSettings,
    RunSettings,
    SensorSettings,
    SinkSettings,
    SourceSettings,
)
from edgelstm.configuration.toml_text import format_key, format_value
from edgelstm.errors import EdgelstmError
from edgelstm.secret import Secret
from edgelstm.sinks.registry import sink_types

_WIDTH = 100
_ALIGNED = 40  # where the help begins, if the key and its value leave room
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")

_HEAD = """\
# The configuration of a service: edgelstm run FILE

# A line such as "#key = value" is not in force: it shows the default, or where it says so an
# example. Take away the "#" to change it. Paths are relative to this file.
"""

_ABOUT = {
    "sources": "Where readings come from. Several sources are several tables, each with a name of "
    "its own.",
    "sensors": "What is watched, with which model. Several sensors are several tables, of one "
    "source or of several.",
    "sinks": "Where alerts go, besides the terminal. As many as you like, each with a name of its "
    "own; every sink may have the keys of the first one.",
    "outbox": "Alerts are kept in the state directory before they are sent.",
    "dashboard": "A page with the live signal; there is one when this table is there.",
    "metrics": "Figures for Prometheus at /metrics, and /healthz, when this table is there.",
}

_EXAMPLE = RunSettings(
    name="",
    sources={NAMED_TABLES["sources"]: SourceSettings("/dev/ttyACM0")},
    sensors={NAMED_TABLES["sensors"]: SensorSettings(Path("pump.tflite"))},
)


def write_template(settings: RunSettings | None = None, *, folder: Path | None = None) -> str:
    """A complete configuration, in which all is commented out that has its default.

    A secret is not written: in its place is the variable of the environment that it may come from.

    Args:
        settings: what is in force; None for an example.
        folder: where the file will be, so that paths in it are right; None where they are already.
    """
    given = settings or _EXAMPLE
    writer = _Writer(folder, given)
    parts = [_HEAD, "\n", writer.keys(top_fields(), given if settings else None)]
    parts += [_about("sources"), "\n".join(writer.sources())]
    parts += [_about("sensors"), "\n".join(writer.sensors())]
    parts += [_about("sinks"), "\n".join(writer.sinks())]
    for name, kind in SINGLE_TABLES.items():
        single = getattr(given, name)
        if single == OutboxSettings():
            single = None  # it need not be there
        parts += [_about(name), writer.table((name,), fields_of(kind), single)]
    return "".join(parts)


class _Writer:
    def __init__(self, folder: Path | None, settings: RunSettings) -> None:
        self._folder, self._settings = folder, settings
        # What examples may name, so that they are right.
        self._named = {
            "source": format_value(next(iter(settings.sources), NAMED_TABLES["sources"])),
            "sensors": format_value([next(iter(settings.sensors), NAMED_TABLES["sensors"])]),
        }

    def sources(self) -> Iterator[str]:
        for name, source in self._settings.sources.items():
            replaced = {}
            if PASSWORD_IN_URL.search(source.port):
                port = PASSWORD_IN_URL.sub(r"//\1@", source.port)
                replaced = {"port": format_value(port), "password": _secret("password")}
            yield self.table(("sources", name), fields_of(SourceSettings), source, replaced)

    def sensors(self) -> Iterator[str]:
        fields = [field for field in fields_of(SensorSettings) if field.table is None]
        for name, sensor in self._settings.sensors.items():
            yield self.table(("sensors", name), fields, sensor)
            detection = None if sensor.detection == DetectionSettings() else sensor.detection
            yield self.table(
                ("sensors", name, "detection"), fields_of(DetectionSettings), detection
            )

    def sinks(self) -> Iterator[str]:
        """Those in force, then an example of each other type."""
        told = False
        for name, sink in self._settings.sinks.items():
            yield self._sink(name, sink.options.type, sink, all_keys=not told)
            told = True
        there = {sink.options.type for sink in self._settings.sinks.values()}
        for kind in sink_types():
            if kind in there:
                continue
            name = NAMED_TABLES["sinks"] if kind == "mqtt" else _NO_NAME.sub("-", kind)[:64]
            try:
                yield self._sink(name, kind, None, all_keys=not told)
                told = True
            except EdgelstmError as error:
                yield _comment(f"{kind}: {error}")

    def _sink(self, name: str, kind: str, sink: SinkSettings | None, *, all_keys: bool) -> str:
        common, own, _ = sink_fields(kind)
        given = None if sink is None else sink.options
        shown = [
            field
            for field in common
            if all_keys or field.required or (given and self._value(field, given) is not None)
        ]
        replaced = {"type": format_value(kind)}
        if given is None:
            return self.table(("sinks", name), (*shown, *own), None, replaced)
        return self.table(("sinks", name), shown, given) + self.keys(own, sink and sink.config)

    def table(
        self,
        key: tuple[str, ...],
        fields: Iterable[Field],
        given: Any,
        replaced: Mapping[str, str] | None = None,
    ) -> str:
        """A table with its header; all of it is commented out when nothing is given."""
        header = f"{'#' if given is None else ''}[{'.'.join(key)}]\n"
        return header + self.keys(fields, given, replaced)

    def keys(
        self, fields: Iterable[Field], given: Any, replaced: Mapping[str, str] | None = None
    ) -> str:
        """A line for each key.

        Args:
            fields: the keys.
            given: has their values; None when they are commented out.
            replaced: other values than those, or than the examples.
        """
        lines = []
        for field in fields:
            value = (replaced or {}).get(field.name) or (given and self._value(field, given))
            lines.append(self._key(field, value, given is not None))
        return "".join(lines)

    def _key(self, field: Field, value: str | None, on: bool) -> str:
        shown = value or self._named.get(field.name) or field.example
        assignment = f"{'' if on and value else '#'}{field.name} = {shown}"
        about = field.help
        if not (value or field.has_default or field.required):
            about = f"{about} (example)".strip()
        if not about:
            return f"{assignment}\n"
        line = f"{assignment:{_ALIGNED - 2}}  # {about}"
        return f"{line}\n" if len(line) <= _WIDTH else f"{_comment(about)}{assignment}\n"

    def _value(self, field: Field, given: Any) -> str | None:
        """A value as the file has it; None for the default."""
        value = getattr(given, field.name)
        if value is None or (not field.required and value == field.default):
            return None
        return self._format(value, field.name)

    def _format(self, value: Any, name: str) -> str:
        if isinstance(value, Secret):
            return _secret(name)
        if isinstance(value, Path):
            return format_value(self._shown(value))
        if isinstance(value, Mapping):
            pairs = ", ".join(
                f"{format_key([key])} = {self._format(each, _NO_NAME.sub('_', key))}"
                for key, each in value.items()
            )
            return f"{{ {pairs} }}"
        if isinstance(value, tuple):
            return f"[{', '.join(self._format(each, name) for each in value)}]"
        return format_value(value)

    def _shown(self, path: Path) -> Path:
        """The path as a file in that folder has it."""
        if self._folder is None:
            return path
        whole, base = path.absolute(), self._folder.absolute()
        return whole.relative_to(base) if whole.is_relative_to(base) else whole


def _secret(name: str) -> str:
    return format_value({"env": name.upper()})


def _about(name: str) -> str:
    return "\n\n" + _comment(_ABOUT[name])


def _comment(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="# ", subsequent_indent="# ") + "\n"
