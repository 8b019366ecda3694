"""In which line of a TOML text a key stands; the parser of the standard library does not say."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

Key = tuple[str, ...]
"""The parts of a dotted key, from the top of the file on."""

# What may hold a line's end or a bracket without meaning one; a text in three quotes may end in up
# to five (toml.io/en/v1.0.0#string).
_MARK = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'"
    r"|#[^\n]*"
    r"|[\[\]{}\n]",
    re.DOTALL,
)


def locate(text: str) -> dict[Key, int]:
    """The lines of a TOML text in which its keys and tables stand, counted from 1.

    Of a key that is in an inline table or an array it is the line in which the statement begins;
    of a table that no header names, the line of its first key. What stands in several tables of an
    array has the line of the first.

    Args:
        text: that `tomllib.loads` takes.
    """
    lines: dict[Key, int] = {}
    headers: dict[Key, int] = {}
    table: Key = ()
    for number, statement in _statements(text):
        parsed = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            table = _innermost(parsed)
            headers.setdefault(table, number)
            found = [table]
        else:
            found = [(*table, *key) for key in _keys(parsed)]
        for key in found:
            for depth in range(1, len(key) + 1):
                lines.setdefault(key[:depth], number)
    return lines | headers


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Headers and assignments, each with the number of the line in which it begins."""
    text = text.replace("\r\n", "\n") + "\n"
    start, depth, number = 0, 0, 1
    for match in _MARK.finditer(text):
        mark = match[0]
        if mark in ("[", "{"):
            depth += 1
        elif mark in ("]", "}"):
            depth -= 1
        elif mark == "\n" and not depth:
            statement = text[start : match.end()]
            if (stripped := statement.strip()) and not stripped.startswith("#"):
                yield number, statement
            start = match.end()
            number += statement.count("\n")


def _innermost(header: dict[str, Any]) -> Key:
    key: list[str] = []
    inner: Any = header
    while inner:
        if isinstance(inner, list):
            (inner,) = inner
            continue
        ((name, inner),) = inner.items()
        key.append(name)
    return tuple(key)


def _keys(parsed: Any) -> Iterator[Key]:
    """Every key of an assignment, those of inline tables as well."""
    if isinstance(parsed, list):
        for each in parsed:
            yield from _keys(each)
    elif isinstance(parsed, dict):
        for name, value in parsed.items():
            yield (name,)
            yield from ((name, *key) for key in _keys(value))
