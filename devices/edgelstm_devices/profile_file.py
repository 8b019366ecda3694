"""Reads a dataclass from the text of a TOML file, and tells every mistake with its line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from edgelstm.configuration.fields import fields_of
from edgelstm.configuration.locate import locate
from edgelstm.configuration.problems import Problems
from edgelstm.configuration.table import TableReader
from edgelstm.errors import ConfigurationError

T = TypeVar("T")

_QUOTED = re.compile(r"'(\w+)'")
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def read_dataclass(kind: type[T], text: bytes, shown: str, **given: Any) -> T:
    """An instance of a dataclass, whose fields are the keys of a TOML file.

    Args:
        kind: the dataclass; its `__post_init__` may refuse values with a ConfigurationError that
            has the key in single quotes.
        text: content of the file.
        shown: the file, as messages call it.
        given: fields that the file does not have.

    Raises:
        ConfigurationError: the file has mistakes: a sentence for each, one a line.
    """
    data, problems = _parse(text, shown)
    wanted = [field for field in fields_of(kind) if field.name not in given]  # type: ignore[arg-type]  # classes are hashable
    values = TableReader(Path(), {}, problems).values(wanted, data, ())
    problems.refuse()
    try:
        return kind(**values, **given)
    except ConfigurationError as error:
        named = [name for name in _QUOTED.findall(str(error)) if name in values]
        problems.add(tuple(named[:1]), str(error))
        problems.refuse()
        raise


def _parse(text: bytes, shown: str) -> tuple[dict[str, Any], Problems]:
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{shown} is not text in UTF-8; save it anew as that.") from None
    try:
        return tomllib.loads(decoded), Problems(shown, locate(decoded))
    except tomllib.TOMLDecodeError as error:
        line, column = decoded.rstrip().count("\n") + 1, "at the end of the file"
        if (found := _PLACE.search(str(error))) and found[1]:
            line, column = int(found[1]), f"in column {found[2]}"
        reason = _PLACE.sub("", str(error))
        raise ConfigurationError(
            f"{shown}, line {line}: This is not TOML, {column}: {reason}."
        ) from None
    except (ValueError, RecursionError):
        # A number of thousands of digits, or brackets within thousands of brackets.
        raise ConfigurationError(f"{shown} has a value that no profile could have.") from None
