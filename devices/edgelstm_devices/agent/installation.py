"""What of edgelstm is on a device already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .context import AgentError
from .layout import Layout
from .machine import Machine, properties

TRUSTED = "/etc/edgelstm/trusted"


def installation(machine: Machine, mode: str, root: str | None, name: str) -> dict[str, Any]:
    """The services that there are, and what stands in the way of a new one.

    Returns:
        `root`; `services`, each with `name`, `current` (a release), `releases` and `trial`; and of
        the unit of the service `name`: `unit` (the file that systemd would take for it), `made`
        (whether a deployment wrote that), `state` (such as "active"), `drop_ins`.

    Raises:
        AgentError: there is no such mode.
    """
    layout = Layout(mode, root, machine.environ)
    services = [_service(machine, layout, each) for each in _names(machine, layout)]
    found: dict[str, Any] = {"root": str(layout.root), "services": services}
    found.update(unit=None, made=False, state=None, drop_ins=[])
    if name:
        found.update(_unit(machine, layout, name))
    return found


def _names(machine: Machine, layout: Layout) -> list[str]:
    names = []
    for name in machine.names(str(layout.services)):
        try:
            names.append(layout.service(name).name)
        except AgentError:  # what somebody else put there
            continue
    return names


def _service(machine: Machine, layout: Layout, name: str) -> dict[str, Any]:
    service = layout.service(name)
    return {
        "name": name,
        "current": Path(machine.link(str(service.current))).name,
        "releases": machine.names(str(service.releases)),
        "trial": machine.path(str(service.trial_unit_file)).exists(),
    }


def _unit(machine: Machine, layout: Layout, name: str) -> dict[str, Any]:
    service = layout.service(name)
    scope = ["--user"] if layout.mode == "user" else []
    wanted = ("FragmentPath", "DropInPaths", "ActiveState")
    options = [word for each in wanted for word in ("-p", each)]
    done = machine.run("systemctl", *scope, "show", *options, service.unit)
    said = (properties(done[1]) or [{}])[0] if done and done[0] == 0 else {}
    unit = said.get("FragmentPath") or None
    if unit is None and machine.path(str(service.unit_file)).exists():
        unit = str(service.unit_file)
    made = bool(machine.link(str(service.current))) and unit in (
        str(service.unit_file),
        str(service.trial_unit_file),
    )
    return {
        "unit": unit,
        "made": made,
        "state": said.get("ActiveState"),
        "drop_ins": said.get("DropInPaths", "").split(),
    }


def trusted(machine: Machine) -> list[str]:
    """The names of the keys that artifacts must be signed by; none when anything goes."""
    return [name for name in machine.names(TRUSTED) if name.endswith(".pem")]
