"""`read_settings`: from a TOML file to `RunSettings`."""

from __future__ import annotations

import os
import re
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgelstm.configuration.checks import check_public_keys, check_together
from edgelstm.configuration.fields import Field, fields_of
from edgelstm.configuration.locate import Key, locate
from edgelstm.configuration.places import default_state_directory
from edgelstm.configuration.problems import Problems, did_you_mean
from edgelstm.configuration.settings import (
    DashboardSettings,
    MetricsSettings,
    OutboxSettings,
    RunSettings,
    SensorSettings,
    SinkSettings,
    SourceSettings,
)
from edgelstm.configuration.table import TableReader
from edgelstm.errors import ConfigurationError, EdgelstmError
from edgelstm.sinks import SinkOptions
from edgelstm.sinks.registry import find_sink, sink_types

NAMED_TABLES: Mapping[str, str] = {"sources": "board", "sensors": "pump", "sinks": "broker"}
"""The tables that hold a table for each of something, and how one might be called."""

SINGLE_TABLES: Mapping[str, type] = {
    "outbox": OutboxSettings,
    "dashboard": DashboardSettings,
    "metrics": MetricsSettings,
}
"""The other tables, and what they are read into."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WHERE = re.compile(r" \((?:at line (\d+), column (\d+)|at end of document)\)$")


def top_fields() -> tuple[Field, ...]:
    """The keys at the top of the file; none is required, for the name is the host's by default."""
    tables = (*NAMED_TABLES, *SINGLE_TABLES)
    return tuple(
        replace(field, required=False)
        for field in fields_of(RunSettings)
        if field.name not in tables and field.help
    )


def sink_fields(name: str) -> tuple[tuple[Field, ...], tuple[Field, ...], type]:
    """The keys of a sink: those that all have, those of its type, and the type's `Config`.

    Args:
        name: of the type.

    Raises:
        EdgelstmError: there is no such sink, or it cannot be used.
    """
    common, config = fields_of(SinkOptions), find_sink(name).Config
    own = fields_of(config)  # type: ignore[arg-type]  # classes are hashable
    for field in own:
        if field.name in {each.name for each in common}:
            raise ConfigurationError(
                f"The sink {name!r} has an option {field.name!r} of its own, which every sink has; "
                "tell its author."
            )
    return common, own, config


def read_settings(
    path: Path, *, environ: Mapping[str, str] = os.environ, elsewhere: bool = False
) -> RunSettings:
    """Reads the configuration of a service.

    Args:
        path: the TOML file; paths in it are relative to it.
        environ: the environment: secrets, and the state directory under systemd.
        elsewhere: whether the service runs on another computer: no secret is looked up, and no
            folder to write into. Not for running it.

    Raises:
        ConfigurationError: there is no such file, or it has mistakes: the message has a sentence
            for each, one a line, with the line of the file; never a secret.
    """
    data, problems = _parse(path)
    return _Reading(path, data, problems, environ, elsewhere=elsewhere).run()


def read_state_directory(path: Path, *, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the service of a configuration keeps its outbox; nothing else in it is looked at.

    So it works for those who may not see the service's secrets.

    Args:
        path: the TOML file.
        environ: the environment.

    Raises:
        ConfigurationError: there is no such file, it is not TOML, or what it says of this is wrong.
    """
    data, problems = _parse(path)
    reading = _Reading(path, data, problems, environ)
    settings = reading.read_top({"name", "state_directory"})
    problems.refuse()
    return reading.state_directory(settings)


def _parse(path: Path) -> tuple[dict[str, Any], Problems]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no file {path}; 'edgelstm run --write-config {path}' writes one."
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not text in UTF-8; save it anew as that.") from None
    try:
        data = tomllib.loads(text)
        return data, Problems(str(path), locate(text))
    except tomllib.TOMLDecodeError as error:
        found = _WHERE.search(str(error))
        reason = _WHERE.sub("", str(error))
        if found and found[1]:
            where, column = f", line {found[1]}", f", in column {found[2]}"
        else:
            where, column = f", line {text.rstrip().count(chr(10)) + 1}", ", at the end of the file"
        raise ConfigurationError(f"{path}{where}: This is not TOML{column}: {reason}.") from None
    except (ValueError, RecursionError):
        # A number of thousands of digits, or brackets within thousands of brackets.
        raise ConfigurationError(f"{path} has a value that no setting could have.") from None


class _Reading:
    """One file on its way."""

    def __init__(
        self,
        path: Path,
        data: dict[str, Any],
        problems: Problems,
        environ: Mapping[str, str],
        *,
        elsewhere: bool = False,
    ) -> None:
        self._path = path.absolute()
        self._data, self._problems, self._environ = data, problems, environ
        self._elsewhere = elsewhere
        self._top = top_fields()
        names = [field.name for field in self._top]
        self._reader = TableReader(self._path.parent, environ, problems, names, elsewhere=elsewhere)

    def run(self) -> RunSettings:
        """Reads all of it.

        Raises:
            ConfigurationError: something is wrong.
        """
        top = self.read_top()
        sources = self._read_each("sources", SourceSettings)
        sensors = self._read_each("sensors", SensorSettings)
        sinks = {
            name: sink
            for name, table in self._tables("sinks").items()
            if (sink := self._read_sink(name, table)) is not None
        }
        singles = {
            name: self._reader.read(kind, self._data[name], (name,))
            for name, kind in SINGLE_TABLES.items()
            if name in self._data
        }
        given = {table: self._tables(table, told=True) for table in NAMED_TABLES}
        sensors = check_together(
            sources, sensors, sinks, singles, given, self._problems, elsewhere=self._elsewhere
        )
        if not self._elsewhere:
            check_public_keys(top.get("public_keys", ()), self._problems)
        self._problems.refuse()
        return RunSettings(
            sources=sources,
            sensors=sensors,
            sinks=sinks,
            path=self._path,
            **(top | {"state_directory": self.state_directory(top)} | singles),
        )

    def read_top(self, names: set[str] | None = None) -> dict[str, Any]:
        """The settings at the top of the file, with a name.

        Args:
            names: the only ones to look at.
        """
        tables = (*NAMED_TABLES, *SINGLE_TABLES)
        if names is None:
            top = self._reader.values(self._top, self._data, (), tables)
        else:
            data = {name: value for name, value in self._data.items() if name in names}
            top = self._reader.values((f for f in self._top if f.name in names), data, ())
        if "name" in top:
            self._check_name(top["name"], ("name",), "name")
        return {"name": _host_name()} | top

    def state_directory(self, top: Mapping[str, Any]) -> Path:
        """Where the outbox is, by the settings at the top."""
        given: Path | None = top.get("state_directory")
        return given or default_state_directory(top["name"], self._environ)

    def _tables(self, kind: str, *, told: bool = False) -> dict[str, dict[str, Any]]:
        """The tables of the sources, the sensors or the sinks that are tables.

        Args:
            kind: which.
            told: whether what is wrong with them was said already.
        """
        tables = self._data.get(kind, {})
        such = f"each has a table of its own, such as [{kind}.{NAMED_TABLES[kind]}]"
        if not isinstance(tables, dict):
            if not told:
                self._problems.about((kind,), f"must not be a value or a list; {such}")
            return {}
        if not told:
            for name, table in tables.items():
                if not isinstance(table, dict):
                    self._problems.about((kind, name), f"is no table; {such}")
                else:
                    self._check_name(name, (kind, name), "name of a table")
        return {name: table for name, table in tables.items() if isinstance(table, dict)}

    def _check_name(self, name: str, key: Key, what: str) -> None:
        if not _NAME.fullmatch(name):
            self._problems.about(
                key,
                f"cannot be the {what}: it may have letters from a to z, digits, - and _, at most "
                "64 of them"
                if key[-1] == name
                else "may have letters from a to z, digits, - and _, at most 64 of them",
            )

    def _read_each(self, kind: str, dataclass: type) -> dict[str, Any]:
        found = {
            name: self._reader.read(dataclass, table, (kind, name))
            for name, table in self._tables(kind).items()
        }
        return {name: settings for name, settings in found.items() if settings is not None}

    def _read_sink(self, name: str, table: dict[str, Any]) -> SinkSettings | None:
        key = ("sinks", name)
        kind = table.get("type")
        if not isinstance(kind, str):
            types = ", ".join(sink_types())
            if kind is None:
                self._problems.about(
                    key, f"needs the key 'type', such as type = \"mqtt\"; there are {types}"
                )
            else:
                self._problems.about((*key, "type"), f"must be one of {types}")
            return None
        if kind not in sink_types():
            known = sink_types()
            hint = did_you_mean(kind, known, f"; there are {', '.join(known)}")
            self._problems.add((*key, "type"), f"There is no sink of the type {kind!r}{hint}")
            return None
        try:
            common, own, config = sink_fields(kind)
        except EdgelstmError as error:
            self._problems.add((*key, "type"), str(error))
            return None
        before = len(self._problems)
        values = self._reader.values((*common, *own), table, key)
        if len(self._problems) > before:
            return None
        of_all = {field.name for field in common}
        options = self._reader.build(
            SinkOptions, {n: v for n, v in values.items() if n in of_all}, key
        )
        settings = self._reader.build(
            config, {n: v for n, v in values.items() if n not in of_all}, key
        )
        return None if None in (options, settings) else SinkSettings(name, options, settings)


def _host_name() -> str:
    host = socket.gethostname().partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]", "-", host)[:64] or "edgelstm"
