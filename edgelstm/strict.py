"""Builds dataclasses from parsed JSON or TOML, refusing what does not fit."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from edgelstm.errors import EdgelstmError

T = TypeVar("T")


def build(kind: type[T], value: Any, where: str, error: type[EdgelstmError]) -> T:
    """Checks a parsed value against a dataclass and builds it.

    Args:
        kind: a dataclass whose fields are str, int, float, bool, dataclasses, tuples of one type,
            dicts or mappings of one type, or `X | None`.
        value: what the parser gave.
        where: what the value is, for messages.
        error: what to raise.

    Raises:
        EdgelstmError: of the class `error`; a field is missing, unknown or of a wrong type, and
            the message names it.
    """
    built: T = _build(kind, value, where, error)
    return built


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(kind: Any, value: Any, where: str, error: type[EdgelstmError]) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # only `X | None` occurs
        return None if value is None else _build(arguments[0], value, where, error)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = _hints(kind)  # type: ignore[arg-type]  # classes are hashable
        if missing := hints.keys() - value.keys():
            raise error(f"The {where} misses the field {min(missing)!r}.")
        if unknown := value.keys() - hints.keys():
            raise error(f"The {where} has an unknown field {min(unknown)!r}.")
        return kind(**{n: _build(t, value[n], f"{where}.{n}", error) for n, t in hints.items()})  # type: ignore[operator]  # mypy sees the class and its instances
    if origin is tuple and isinstance(value, list):
        return tuple(_build(arguments[0], v, f"{where}[{i}]", error) for i, v in enumerate(value))
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {str(n): _build(arguments[1], v, f"{where}.{n}", error) for n, v in value.items()}
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    expected = getattr(kind, "__name__", str(kind))
    raise error(f"The field {where} is {value!r}, which is not of type {expected}.")
