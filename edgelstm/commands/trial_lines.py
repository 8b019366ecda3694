"""A trial of a release on a device, as lines that people read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from edgelstm.commands.alert_lines import printable
from edgelstm.sinks.log import format_duration

_STEPS = {
    "starting": "starting it in the place of the one that runs",
    "ready": "it is ready; waiting for readings",
    "reading": "readings come; looking on",
    "healthy": "it is healthy",
    "committed": "taken",
    "rolling back": "going back",
    "rolled back": "gone back",
}
_RESTORED = {
    "active": "{host} goes on with release {previous}.",
    "stopped": "{service} on {host} is stopped, as it was before.",
    "none": "{host} had no release of {service} before, and has none that runs now.",
    "failed": "The one before, {previous}, does not get ready either: see 'edgelstm logs {host}'.",
}


def step(event: Mapping[str, Any]) -> str:
    """What a trial tells while it goes on, as a line.

    Args:
        event: of the agent's `trial` or `rollback`.
    """
    line = f"  {_STEPS.get(event['what'], event['what'])}"
    if event.get("excused"):
        line += f" (not at {', '.join(event['excused'])}, of which nothing came before, either)"
    return printable(line)


def outcome(host: str, service: str, answer: Mapping[str, Any]) -> Iterator[str]:
    """How a trial ended.

    Args:
        host: of the device.
        service: its name.
        answer: what the agent's `trial` or `rollback` gave.
    """
    seconds = answer["seconds"]
    down = f"; {format_duration(seconds['down'])} without readings" if "down" in seconds else ""
    if answer["committed"]:
        release = printable(answer["release"])
        yield f"{click.style('ok', fg='green')}  {host} runs release {release} of {service}{down}."
        return
    yield f"{click.style('failed', fg='red')}  {printable(answer['reason'])}"
    if answer["journal"]:
        yield "  Its last lines:"
        yield from (f"    {printable(line)}" for line in answer["journal"])
    previous = printable(answer["previous"]) or "which nobody knows"
    text = _RESTORED[answer["restored"]]
    yield text.format(host=host, service=service, previous=previous)
