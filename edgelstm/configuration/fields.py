"""The keys that a table of a configuration may have: the fields of a dataclass."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union

from edgelstm.configuration.toml_text import format_value
from edgelstm.errors import ConfigurationError
from edgelstm.secret import Secret

_PLAIN = {
    str: ("a text", "..."),
    int: ("a whole number", 1),
    float: ("a number", 1.5),
    bool: ("true or false", True),
    Path: ("a path", "file"),
}


@dataclasses.dataclass(frozen=True)
class Field:
    """A key that a table may have.

    Attributes:
        name: of the key.
        kinds: the types that its value may have: those of `_PLAIN`, `Secret`, enumerations,
            literals, tuples and mappings of such, or one dataclass.
        required: whether there is no default.
        default: the value that it has when the file has none; None for none.
        metadata: of the field, see `edgelstm.configuration.settings`.
    """

    name: str
    kinds: tuple[Any, ...]
    required: bool
    default: Any
    metadata: Mapping[str, Any]

    @property
    def help(self) -> str:
        """What it is for."""
        return str(self.metadata.get("help", ""))

    @property
    def table(self) -> type | None:
        """The dataclass, if it is a table of its own."""
        (kind, *more) = self.kinds
        return kind if not more and dataclasses.is_dataclass(kind) else None  # type: ignore[return-value]  # a class, no instance

    @property
    def secret(self) -> bool:
        """Whether it may hold a secret, and nothing but it."""
        return self.kinds == (Secret,)

    @property
    def has_default(self) -> bool:
        """Whether there is a default that says something."""
        return not self.required and self.default not in (None, "", (), {})

    @property
    def example(self) -> str:
        """A value as the file has it: the default, or else one that might be."""
        if self.has_default and not isinstance(self.default, Secret):
            return format_value(self.default)
        if "example" in self.metadata:
            return format_value(self.metadata["example"])
        return _example_of(self.kinds[0], self.name)

    @property
    def expected(self) -> str:
        """What its value must be, such as "a whole number"."""
        return " or ".join(dict.fromkeys(map(_describe, self.kinds)))


@functools.cache
def fields_of(kind: type) -> tuple[Field, ...]:
    """The keys of the table that a dataclass is read from.

    Raises:
        ConfigurationError: it has a field of a type that no configuration has, or whose type
            cannot be told.
    """
    try:
        hints = typing.get_type_hints(kind)
    except Exception as error:
        raise ConfigurationError(
            f"The types of the options of {kind.__qualname__} cannot be told ({error}); tell its "
            "author."
        ) from error
    found = []
    for each in dataclasses.fields(kind):
        if not each.init:
            continue
        kinds = _alternatives(hints[each.name])
        for one in kinds:
            if not _known(one):
                raise ConfigurationError(
                    f"The option {each.name!r} of {kind.__qualname__} is of the type {one}, which "
                    "no configuration has; tell its author."
                )
        missing = dataclasses.MISSING
        default = each.default
        if each.default_factory is not missing:
            default = each.default_factory()
        required = default is missing
        found.append(
            Field(each.name, kinds, required, None if required else default, each.metadata)
        )
    return tuple(found)


def item_kinds(kind: Any) -> tuple[Any, ...]:
    """What an array of that type, or a table of free keys, may hold."""
    arguments = typing.get_args(kind)
    return _alternatives(arguments[0] if typing.get_origin(kind) is tuple else arguments[1])


def is_mapping(kind: Any) -> bool:
    """Whether it is a table of free keys."""
    origin = typing.get_origin(kind)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def choices_of(kind: Any) -> dict[str | int, Any]:
    """What stands in the file for each value of an enumeration or a literal; else nothing."""
    if typing.get_origin(kind) is Literal:
        return {value: value for value in typing.get_args(kind)}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {member.value: member for member in kind}
    return {}


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types of a union but None, which TOML does not have."""
    if typing.get_origin(kind) in (types.UnionType, Union):
        return tuple(each for each in typing.get_args(kind) if each is not type(None))
    return (kind,)


def _known(kind: Any) -> bool:
    if isinstance(kind, type) and (kind in _PLAIN or kind is Secret or issubclass(kind, Enum)):
        return True
    if typing.get_origin(kind) is Literal or dataclasses.is_dataclass(kind):
        return True
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return len(arguments) == 2 and arguments[1] is Ellipsis and _all_known(kind)
    return is_mapping(kind) and len(arguments) == 2 and arguments[0] is str and _all_known(kind)


def _all_known(kind: Any) -> bool:
    return all(map(_known, item_kinds(kind)))


def _describe(kind: Any) -> str:
    if kind is Secret:
        return 'a secret such as { env = "NAME" }'
    if choices := choices_of(kind):
        return "one of " + ", ".join(map(repr, choices))
    if dataclasses.is_dataclass(kind) or is_mapping(kind):
        return "a table"
    if typing.get_origin(kind) is tuple:
        return "a list"
    return _PLAIN[kind][0]


def _example_of(kind: Any, name: str) -> str:
    if kind is Secret:
        return format_value({"env": name.upper()})
    if choices := choices_of(kind):
        return format_value(next(iter(choices)))
    if typing.get_origin(kind) is tuple:
        return f"[{_example_of(item_kinds(kind)[0], name)}]"
    if is_mapping(kind):
        return f"{{ name = {_example_of(item_kinds(kind)[0], name)} }}"
    return format_value(_PLAIN[kind][1])
