"""`TableReader`: builds dataclasses from the tables of a TOML file, and tells every mistake."""

from __future__ import annotations

import re
import typing
from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from edgelstm.configuration.fields import (
    Field,
    choices_of,
    fields_of,
    is_mapping,
    item_kinds,
)
from edgelstm.configuration.locate import Key
from edgelstm.configuration.places import resolve
from edgelstm.configuration.problems import Problems, did_you_mean, nearest
from edgelstm.configuration.secret_table import read_secret
from edgelstm.configuration.settings import out_of_range
from edgelstm.configuration.toml_text import format_key
from edgelstm.errors import ConfigurationError
from edgelstm.secret import Secret

_QUOTED = re.compile(r"'(\w+)'")


class TableReader:
    """Reads tables; what is wrong with them goes into `problems`.

    Args:
        folder: that paths are relative to.
        environ: the environment, which secrets may come from.
        problems: takes the mistakes.
        top: keys that belong at the top of the file, for the hint.
        elsewhere: whether the secrets are on another computer.
    """

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        problems: Problems,
        top: Collection[str] = (),
        *,
        elsewhere: bool = False,
    ) -> None:
        self._folder, self._environ, self._problems = folder, environ, problems
        self._top, self._elsewhere = top, elsewhere

    def read(self, kind: type, table: Any, key: Key) -> Any:
        """An instance of a dataclass; None when there was a mistake.

        Args:
            kind: the dataclass.
            table: as the parser gave it.
            key: of the table.
        """
        if not isinstance(table, dict):
            self._problems.about(key, f"is {_say(table)}; it must be a table, [{format_key(key)}]")
            return None
        before = len(self._problems)
        values = self.values(fields_of(kind), table, key)
        return self.build(kind, values, key) if len(self._problems) == before else None

    def values(
        self, fields: Iterable[Field], table: Mapping[str, Any], key: Key, more: Iterable[str] = ()
    ) -> dict[str, Any]:
        """The values that a table gives to fields; those with a mistake are left out.

        Args:
            fields: that it may have.
            table: as the parser gave it.
            key: of the table; empty for the top of the file.
            more: keys that it may also have, which somebody else reads.
        """
        known = {field.name: field for field in fields}
        strangers = [name for name in table if name not in known and name not in more]
        for name in strangers:
            self._unknown(name, [*known, *more], known, key)
        misspelt = {nearest(name, [*known, *more]) for name in strangers}
        for field in known.values():
            if field.required and field.name not in {*table, *misspelt}:
                where = format_key(key) or "the file"
                self._problems.add(
                    key, f"{where} needs the key {field.name!r}, such as {_example(field)}."
                )
        found = {
            name: self._value(known[name], value, (*key, name))
            for name, value in table.items()
            if name in known
        }
        return {name: value for name, value in found.items() if value is not None}

    def build(self, kind: type, values: Mapping[str, Any], key: Key) -> Any:
        """An instance of a dataclass; None when it refuses the values together.

        Args:
            kind: the dataclass.
            values: of its fields.
            key: of the table.
        """
        try:
            return kind(**values)
        except ConfigurationError as error:
            named = [name for name in _QUOTED.findall(str(error)) if name in values]
            where = (*key, named[0]) if named else key
            self._problems.add(where, f"{format_key(key)}: {error}")
        except Exception as error:
            # A plug-in's, which does not know our errors.
            told = f"{format_key(key)}: {type(error).__name__}: {error}"
            self._problems.add(key, told.removesuffix(".") + ".")
        return None

    def _unknown(
        self, name: str, names: Collection[str], known: Mapping[str, Field], key: Key
    ) -> None:
        inner = [
            format_key((*key, field.name))
            for field in known.values()
            if field.table and name in {each.name for each in fields_of(field.table)}
        ]
        if inner:
            hint = f"; it belongs into [{inner[0]}]."
        elif name in self._top:
            hint = "; it belongs at the top of the file, before the first [table]."
        else:
            hint = did_you_mean(name, names, f"; it may have {', '.join(names)}" if names else "")
        where = f"{format_key(key)} has" if key else "there is"
        shown = format_key([name])
        quoted = shown if shown.startswith('"') else repr(name)
        self._problems.add((*key, name), f"{where} no key {quoted}{hint}")

    def _value(self, field: Field, value: Any, key: Key) -> Any:
        """The value of a key; None when there was a mistake."""
        if field.table is not None:
            return self.read(field.table, value, key)
        for kind in field.kinds:
            if is_mapping(kind) and isinstance(value, dict):
                inner = {
                    name: self._value(_item(field, kind), each, (*key, name))
                    for name, each in value.items()
                }
                return None if None in inner.values() else inner
            if typing.get_origin(kind) is tuple and isinstance(value, list):
                items = [self._value(_item(field, kind), each, key) for each in value]
                return None if None in items else tuple(items)
        try:
            return self._convert(field, value, key[-1])
        except ConfigurationError as error:
            self._problems.about(key, str(error))
            return None

    def _convert(self, field: Field, value: Any, name: str) -> Any:
        """One value, no table and no list.

        Raises:
            ConfigurationError: it is another; the message is what is said of the key.
        """
        if field.secret or (Secret in field.kinds and isinstance(value, dict)):
            return read_secret(value, name, self._folder, self._environ, elsewhere=self._elsewhere)
        for kind in field.kinds:
            choices = choices_of(kind)
            if type(value) in (str, int) and value in choices:
                return choices[value]
            if kind is Path and isinstance(value, str):
                return resolve(value, self._folder)
            if kind is float and type(value) in (int, float):
                return _as_float(value, field)
            if kind in (str, int, bool) and type(value) is kind:
                return self._checked(value, field)
        texts = [c for c in choices_of(field.kinds[0]) if isinstance(c, str)]
        if texts and len(field.kinds) == 1 and isinstance(value, str):
            raise ConfigurationError(_none_of(value, texts))
        such = f", such as {_example(field)}" if field.name else ""
        raise ConfigurationError(f"is {_say(value)}; it must be {field.expected}{such}")

    def _checked(self, value: Any, field: Field) -> Any:
        if isinstance(value, str):
            choices = field.metadata.get("choices", ())
            if choices and value not in choices:
                raise ConfigurationError(_none_of(value, choices))
        elif wrong := out_of_range(value, field.metadata):
            raise ConfigurationError(wrong)
        return value


def _as_float(value: float, field: Field) -> float:
    try:
        number = float(value)
    except OverflowError as error:
        raise ConfigurationError("is too large a number") from error
    if wrong := out_of_range(number, field.metadata):
        raise ConfigurationError(wrong)
    return number


def _item(field: Field, kind: Any) -> Field:
    """What is in a list, or under a free key: it has the checks of the field, and no example."""
    metadata = {name: what for name, what in field.metadata.items() if name != "example"}
    return Field("", item_kinds(kind), True, None, metadata)


def _example(field: Field) -> str:
    return f"{field.name} = {field.example}"


def _none_of(value: str, choices: Collection[str]) -> str:
    hint = did_you_mean(value, choices).removesuffix(".")
    return f"is none of {', '.join(map(repr, choices))}{hint}"


def _say(value: Any) -> str:
    """What a value is; a text is not repeated."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value}" if abs(value) < 1e15 else "a large number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, (datetime, date, time)):
        return "a date or a time"
    return "a table"
