"""Keys and values as TOML writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def format_key(key: Iterable[str]) -> str:
    """A dotted key, such as `sensors.pump.artifact`."""
    return ".".join(part if _BARE.fullmatch(part) else _format_text(part) for part in key)


def format_value(value: Any) -> str:
    """A text, a number, a truth value, or an array or an inline table of them.

    Raises:
        TypeError: it is something else, such as a secret.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (str, Path)):
        return _format_text(str(value))
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(format_value, value))}]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{format_key([k])} = {format_value(v)}" for k, v in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    raise TypeError(f"TOML has no {type(value).__name__}.")


def _format_text(text: str) -> str:
    # What JSON escapes, TOML reads alike, but for the one character that JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
