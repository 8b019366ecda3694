"""The user of a device: his groups, what sudo lets him do, and the user that services run as."""

from __future__ import annotations

import grp
import os
import pwd
import re
from typing import Any

from .machine import Machine
from .serial_ports import group_name

SERVICE_USER = "edgelstm"
PORT_GROUP = "dialout"
_REFUSALS = ("may not run sudo", "not in the sudoers", "not allowed to", "no new privileges")


def user(machine: Machine) -> dict[str, Any]:
    """Who looks.

    Returns:
        `name`, `uid`, `home`, `groups` (of this login), `future_groups` (from the next login on),
        `manager_groups` (of the systemd that has the user's services; None when it does not run)
        and `linger` (whether that runs without a login).
    """
    number = machine.user
    try:
        entry = pwd.getpwuid(number)
        name, home, first = entry.pw_name, entry.pw_dir, entry.pw_gid
    except KeyError:
        name, home, first = str(number), machine.environ.get("HOME", "/"), os.getgid()
    manager = _manager_groups(machine, number)
    return {
        "name": name,
        "uid": number,
        "home": home,
        "groups": sorted({group_name(g) for g in (*os.getgroups(), os.getegid())}),
        "future_groups": sorted(groups_of(name, first)),
        "manager_groups": None if manager is None else sorted(map(group_name, manager)),
        "linger": machine.path(f"/var/lib/systemd/linger/{name}").exists(),
    }


def groups_of(name: str, first: int) -> set[str]:
    """The groups that a user is in, as the machine's own files and directories have it."""
    try:
        return {group_name(number) for number in os.getgrouplist(name, first)}
    except OSError:
        return {group_name(first)}


def _manager_groups(machine: Machine, number: int) -> set[int] | None:
    """The groups of a user's `systemd --user`, which are as old as its start."""
    for name in machine.names("/proc"):
        if not name.isdigit() or machine.read(f"/proc/{name}/comm") != "systemd":
            continue
        words = machine.read(f"/proc/{name}/cmdline").split(" ")
        status = machine.read(f"/proc/{name}/status")
        owner = re.search(r"^Uid:\s*(\d+)", status, re.MULTILINE)
        if "--user" in words and owner and int(owner[1]) == number:
            lines = re.findall(r"^(Gid|Groups):(.*)$", status, re.MULTILINE)
            return {int(word) for _, line in lines for word in line.split()}
    return None


def service_user() -> dict[str, Any]:
    """Whether there is the user that services run as, and the group of serial ports."""
    try:
        entry = pwd.getpwnam(SERVICE_USER)
        groups = sorted(groups_of(SERVICE_USER, entry.pw_gid))
    except KeyError:
        groups = None
    try:
        grp.getgrnam(PORT_GROUP)
        port_group = True
    except KeyError:
        port_group = False
    return {"exists": groups is not None, "groups": groups or [], "port_group": port_group}


def sudo(machine: Machine) -> str | None:
    """How this user becomes root: "root" (is), "passwordless", "password" or "none".

    Whoever has to give a password first is not told whether it would help.
    """
    if machine.user == 0:
        return "root"
    done = machine.run("sudo", "-n", "true")
    if done is None:
        found = any(machine.path(f"{folder}/sudo").exists() for folder in ("/usr/bin", "/bin"))
        return None if found else "none"
    if done[0] == 0:
        return "passwordless"
    return "none" if any(words in done[1] for words in _REFUSALS) else "password"
