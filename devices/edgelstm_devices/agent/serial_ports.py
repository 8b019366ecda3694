"""The serial ports of a device: their names, who may use them, and who does."""

from __future__ import annotations

import grp
import os
import re
import stat
from pathlib import Path
from typing import Any

from .machine import Machine

# Daemons that open every new port.
MEDDLERS = ("ModemManager", "brltty")

_UNLISTED = ("/dev/ttyUSB*", "/dev/ttyACM*", "/dev/ttyGS*", "/dev/rfcomm[0-9]*")
_UNIT = re.compile(r"/([^/]+\.(?:service|scope))(?=/|$)", re.MULTILINE)
_GETTY = re.compile(r"(?:serial-)?getty@(.+)\.service\Z")
_NO_DRIVER = "0"  # the type of a ttyS that is only a place for one
_NULL = 0


def serial_ports(machine: Machine, port: str = "") -> list[dict[str, Any]]:
    """The serial ports, one entry each.

    Args:
        machine: to look at.
        port: a path to look at, too, whatever it is.

    Returns:
        Of each `device` (its path), `names` (all others that it has in /dev), `class` (as
        `DeviceAllow=char-CLASS` takes it), `group`, `mode` (octal), `readable`, `writable` (by the
        user who looks), `usb` (vendor, product, serial number, manufacturer, description; None of
        another), `console` (of the kernel), and `in_use_by` (process id, name, unit, and the mode
        of whose systemd; None as far as this user may see).
    """
    devices = _devices(machine, port)
    names = _names(machine, devices)
    consoles = _consoles(machine)
    holders = _holders(machine, devices)
    majors = _majors(machine)
    return [
        {
            "device": device,
            "names": names.get(device, []),
            "usb": _usb(machine, Path(device).name),
            "console": Path(device).name in consoles,
            "in_use_by": holders.get(device),
            **_access(machine, device, majors),
        }
        for device in devices
    ]


def meddlers(machine: Machine) -> list[str]:
    """Those of `MEDDLERS` that run."""
    running = {machine.read(f"/proc/{name}/comm") for name in _numbers(machine)}
    return [name for name in MEDDLERS if name in running]


def _numbers(machine: Machine) -> list[str]:
    return [name for name in machine.names("/proc") if name.isdigit()]


def _devices(machine: Machine, port: str) -> list[str]:
    found = []
    for name in machine.names("/sys/class/tty"):
        folder = f"/sys/class/tty/{name}"
        hardware = machine.path(f"{folder}/device").exists()
        there = machine.path(f"/dev/{name}").exists()  # in a container it may not be
        if hardware and there and machine.read(f"{folder}/type") != _NO_DRIVER:
            found.append(f"/dev/{name}")
    # In /sys are neither those of no hardware, nor one that is handed into a container.
    for pattern in _UNLISTED:
        found += [machine.shown(path) for path in machine.glob(pattern)]
    for name in ("/dev/serial0", *([port] if port.startswith("/") else [])):
        target = _target(machine, name)
        if target and machine.path(target).exists() and not machine.path(target).is_dir():
            found.append(target)
    return sorted(set(found), key=_natural)


def _natural(device: str) -> list[tuple[str, int]]:
    """A key that sorts ttyUSB2 before ttyUSB10."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", device)]


def _target(machine: Machine, name: str) -> str:
    """What a name in the end stands for, on the device."""
    real, root = os.path.realpath(machine.path(name)), os.path.realpath(machine.root).rstrip("/")
    return real[len(root) :] if real.startswith(f"{root}/") else name


def _names(machine: Machine, devices: list[str]) -> dict[str, list[str]]:
    """Device -> its other names; those by id first, which stay wherever it is plugged in."""
    found: dict[str, list[str]] = {}
    for folder in ("/dev/serial/by-id", "/dev/serial/by-path", "/dev"):
        for name in machine.names(folder):
            path = f"{folder}/{name}"
            if machine.path(path).is_symlink():
                target = _target(machine, path)
                if target in devices:
                    found.setdefault(target, []).append(path)
    return found


def _consoles(machine: Machine) -> set[str]:
    active = machine.read("/sys/class/tty/console/active").split()
    told = re.findall(r"(?:^|\s)console=(\w+)", machine.read("/proc/cmdline"))
    if "serial0" in told:
        told.append(Path(_target(machine, "/dev/serial0")).name)
    return set(active or told)


def _usb(machine: Machine, name: str) -> dict[str, str] | None:
    """What the USB device behind a port says of itself."""
    folder = Path(os.path.realpath(machine.path(f"/sys/class/tty/{name}/device")))
    for parent in (folder, *folder.parents):
        if (parent / "idVendor").exists():
            there = f"/{os.path.relpath(parent, os.path.realpath(machine.root))}"

            def said(what: str, there: str = there) -> str:
                # The device says it: nothing that would steer a terminal may pass.
                text = machine.read(f"{there}/{what}")
                return "".join(c if c.isprintable() else "?" for c in text)

            return {
                "vendor": said("idVendor").lower(),
                "product": said("idProduct").lower(),
                "serial": said("serial"),
                "manufacturer": said("manufacturer"),
                "description": said("product"),
            }
    return None


def _majors(machine: Machine) -> dict[int, list[str]]:
    """The names that the drivers of character devices have, by major number."""
    text = machine.read("/proc/devices").partition("Block devices:")[0]
    found: dict[int, list[str]] = {}
    for number, name in re.findall(r"^\s*(\d+) (\S+)$", text, re.MULTILINE):
        found.setdefault(int(number), []).append(name)
    return found


def _access(machine: Machine, device: str, majors: dict[int, list[str]]) -> dict[str, Any]:
    path = machine.path(device)
    name = Path(device).name
    spelt = re.match(r"[A-Za-z]*", name)
    driver, group, mode = spelt[0] if spelt else "", None, None
    try:
        status = path.stat()
    except OSError:
        pass
    else:
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        group = group_name(status.st_gid)
        known = majors.get(os.major(status.st_rdev), []) if status.st_rdev != _NULL else []
        fitting = [each for each in known if name.startswith(each)]
        if fitting:
            driver = max(fitting, key=len)
        elif len(known) == 1:  # such as a pseudo-terminal under the name of a port
            driver = known[0]
    return {
        "class": driver,
        "group": group,
        "mode": mode,
        "readable": os.access(path, os.R_OK),
        "writable": os.access(path, os.W_OK),
    }


def group_name(number: int) -> str:
    """The name of a group; its number when it has none."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _holders(machine: Machine, devices: list[str]) -> dict[str, dict[str, Any]]:
    """Device -> the process that has it open."""
    found: dict[str, dict[str, Any]] = {}
    if not devices:
        return found
    for number in _numbers(machine):
        if int(number) == os.getpid() and str(machine.root) == "/":
            continue
        group = machine.read(f"/proc/{number}/cgroup")
        unit = (_UNIT.findall(group) or [""])[-1]
        getty = _GETTY.match(unit)
        opened = {
            machine.link(f"/proc/{number}/fd/{fd}") for fd in machine.names(f"/proc/{number}/fd")
        }
        # What other users have open only root can see, but a login's unit has the port's name, and
        # a terminal program has it among its arguments.
        opened.update(machine.read(f"/proc/{number}/cmdline").split(" "))
        if getty:
            opened.add(f"/dev/{getty[1]}")
        for device in opened.intersection(devices):
            name = machine.read(f"/proc/{number}/comm")
            mode = "user" if "/user@" in group else "system"
            found[device] = {"pid": int(number), "name": name, "unit": unit, "mode": mode}
    return found
