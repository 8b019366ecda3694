"""What was tried with a service when, and how that ended: a line of JSON each, the newest last."""

from __future__ import annotations

import json
from typing import Any

from .files import write_file
from .layout import Service

KEPT = 200
"""So many entries are kept: some 100 KB, and more than anybody deploys in a year."""


def append_history(service: Service, entry: dict[str, Any]) -> None:
    """Adds an entry; the oldest is forgotten for it when there are `KEPT`.

    Args:
        service: which; its folder is there.
        entry: plain data. Of a trial: `time` (seconds since the Unix epoch), `what` ("deploy" or
            "rollback"), `release`, `previous`, `committed`, and `reason` where it was not.

    Raises:
        OSError: it cannot be written; the file is as it was.
    """
    entries = [*read_history(service), entry][-KEPT:]
    # As a whole, for it is short: half a line never has to be mended.
    lines = (json.dumps(one, separators=(",", ":")) + "\n" for one in entries)
    write_file(service.history, "".join(lines).encode())


def read_history(service: Service) -> list[dict[str, Any]]:
    """The entries, oldest first; none where there is no file. What cannot be read is left out."""
    try:
        lines = service.history.read_bytes().splitlines()
    except OSError:
        return []
    entries = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries
