"""`edgelstm ports`."""

from __future__ import annotations

import grp
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from edgelstm.diagnosis.finding import Finding
from edgelstm.diagnosis.obstacles import obstacles
from edgelstm.diagnosis.ports import PortState, list_ports, look
from edgelstm.diagnosis.udev import INSTALL, RULES_FILE, rules
from edgelstm.errors import ConfigurationError, MissingDependencyError

_ROOT = Path("/")
_GROUPS = ("dialout", "uucp")  # whose ports are: Debian and its kin, Arch
_HEADER = ("port", "what it is", "vid:pid", "serial number", "state")
_NONE = """\
No serial port is here. Check
  - the cable: many only charge, and carry no data;
  - what the kernel says when the device is plugged in: sudo dmesg --follow
  - that the device shows up at all: lsusb"""


@click.command(short_help="List the serial ports, and what keeps them from being used.")
@click.option("--udev", is_flag=True, help="Print only the udev rules for the devices found.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def ports(udev: bool, as_json: bool) -> None:
    """List the serial ports, what keeps them from being used, and how to mend it.

    For each port there is a value of --port that finds it again when it gets another number.

    Example: edgelstm ports
    """
    listed = list_ports()
    if listed is None:
        raise MissingDependencyError("This needs pyserial; run: pip install pyserial")
    lines = rules(listed, _group())
    if udev:
        if not lines:
            raise ConfigurationError(
                "No USB serial device is plugged in to write a rule for; plug it in and try again."
            )
        click.echo("\n".join(lines))
        return
    states = look(_ROOT, listed)
    found = obstacles(
        _ROOT, {state.port.device for state in states}, {state.port.usb_id for state in states}
    )
    if as_json:
        answer = {
            "ports": [state.to_dict() for state in states],
            "notes": [finding.to_dict() for finding in found],
            "udev_rules": lines,
        }
        click.echo(json.dumps(answer, indent=2))
        return
    for line in page(states, found, lines):
        click.echo(line)


def page(
    states: Sequence[PortState], found: Sequence[Finding], udev_rules: Sequence[str]
) -> Iterator[str]:
    """The ports as a table, then what to mend.

    Args:
        states: the ports.
        found: what gets in their way.
        udev_rules: for the devices behind them.
    """
    if states:
        yield from _table(states)
    else:
        yield _NONE
    for state in states:
        if state.trouble:
            yield ""
            yield f"{state.port.device}: {state.trouble}"
            yield f"  {state.mend}"
    if udev_rules and any(state.is_refused for state in states):
        yield ""
        yield "For good, and whoever sits here, for devices of this kind: these udev rules,"
        yield from (f"  {line}" for line in udev_rules)
        yield f"which these commands write to {RULES_FILE} and put in force:"
        yield from (f"  {command}" for command in INSTALL)
    for finding in found:
        yield ""
        yield f"{finding.name}: {finding.what}"
        yield f"  {finding.mend}"


def _table(states: Sequence[PortState]) -> Iterator[str]:
    rows = [_HEADER, *map(_row, states)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(_HEADER))]
    for row, state in zip(rows, [None, *states], strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
        if state is not None:
            yield f"{' ' * widths[0]}  --port '{state.url}'"


def _row(state: PortState) -> tuple[str, ...]:
    port = state.port
    what = port.description
    if port.manufacturer and port.manufacturer not in what:
        what = f"{what} ({port.manufacturer})" if what else port.manufacturer
    return (port.device, what, port.usb_id, port.serial_number, _state(state))


def _state(state: PortState) -> str:
    if state.trouble:
        return "PROBLEM, see below"
    if state.holder:
        return f"used by process {state.holder[0]} ({state.holder[1]})"
    return "the system's console" if state.is_console else "free"


def _group() -> str:
    """The group that serial ports belong to on this system."""
    names = {group.gr_name for group in grp.getgrall()}
    return next((name for name in _GROUPS if name in names), _GROUPS[0])
