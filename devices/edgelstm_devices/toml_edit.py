"""Changes texts in a TOML file and leaves everything else as it was written, comments above all."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from edgelstm.configuration.locate import locate
from edgelstm.configuration.toml_text import format_value
from edgelstm.errors import ConfigurationError

Place = tuple[str | int, ...]
"""Where a value stands: keys, and positions in lists."""

# A text as TOML writes it, or a comment, in which nothing is a text (toml.io/en/v1.0.0#string).
_TEXT = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:[^"\\]|\\.)*"' r"|'[^']*'" r"|#[^\n]*",
    re.DOTALL,
)


def replace_texts(text: str, changes: Mapping[Place, str]) -> str:
    """The file with other texts in some places.

    What is found is tried: the file is read again, and nothing but that one value may differ. So
    it does not matter how the file is written, be it with dotted keys or inline tables.

    Args:
        text: of the file, which must be TOML.
        changes: the new texts. There must be a text in each place.

    Raises:
        ConfigurationError: a value could not be found, which is a mistake of edgelstm's.
    """
    lines = locate(text)

    def line_of(place: Place) -> int:
        keys = tuple(key for key in place if isinstance(key, str))
        depths = range(len(keys), 0, -1)
        return next((lines[keys[:n]] for n in depths if keys[:n] in lines), 1)

    # From the end on, so that the lines before stay where they are.
    for place, new in sorted(changes.items(), key=lambda change: line_of(change[0]), reverse=True):
        text = _replace(text, place, new, line_of(place))
    return text


def _replace(text: str, place: Place, new: str, line: int) -> str:
    data = tomllib.loads(text)
    old = _get(data, place)
    if old == new:
        return text
    wanted = copy.deepcopy(data)
    _get(wanted, place[:-1])[place[-1]] = new
    begin = _start_of(text, line)
    for match in _TEXT.finditer(text, begin):
        if _value(match[0]) != old:  # or a comment
            continue
        changed = f"{text[: match.start()]}{format_value(new)}{text[match.end() :]}"
        try:
            if tomllib.loads(changed) == wanted:
                return changed
        except tomllib.TOMLDecodeError:
            pass  # that was a key in quotes, say
    raise ConfigurationError(
        f"The value of {'.'.join(map(str, place))} could not be replaced; tell edgelstm's authors."
    )


def _get(data: Any, place: Place) -> Any:
    for key in place:
        data = data[key]
    return data


def _value(token: str) -> object:
    try:
        return tomllib.loads(f"x = {token}")["x"]
    except tomllib.TOMLDecodeError:
        return None


def _start_of(text: str, line: int) -> int:
    """Where a line begins, counted from 1."""
    start = 0
    for _ in range(line - 1):
        start = text.index("\n", start) + 1
    return start
