"""Reads `tests/data/frames.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgelstm_bridge.hello import ChannelInfo, Hello, ValueType

PATH = Path(__file__).parents[1] / "data/frames.json"
VECTORS: dict[str, Any] = json.loads(PATH.read_text())


def hello_of(entry: dict[str, Any]) -> Hello:
    fields = {name: entry[name] for name in entry if name not in ("payload", "frame")}
    fields["channels"] = tuple(ChannelInfo(**channel) for channel in entry["channels"])
    fields["value_type"] = ValueType(entry["value_type"])
    return Hello(**fields)


HELLOS = {name: hello_of(entry) for name, entry in VECTORS["hellos"].items()}
