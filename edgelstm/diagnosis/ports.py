"""Serial ports: their names, whether they may be used, and who else uses them."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgelstm.diagnosis.finding import Finding, pip_install
from edgelstm.diagnosis.machine import is_raspberry_pi, read_text

SECTION = "ports"

# Daemons that open every new port, and how to be rid of them.
_MEDDLERS = {
    "ModemManager": (
        "talks to every new serial port for some seconds, in case it is a modem.",
        "sudo systemctl disable --now ModemManager  # unless this machine has a modem",
    ),
    "brltty": (
        "takes USB serial adapters (CH340, CP210x) for Braille displays, and they vanish.",
        "sudo apt-get remove brltty  # unless there is a Braille display",
    ),
}


@dataclass(frozen=True)
class Port:
    """A serial port as pyserial lists it.

    Attributes:
        device: its path, such as "/dev/ttyUSB0".
        description: what it says of itself, such as "USB2.0-Serial".
    """

    device: str
    description: str


def list_ports() -> list[Port] | None:
    """The serial ports of this machine; None where pyserial is not installed."""
    try:
        from serial.tools.list_ports import comports
    except ImportError:
        return None
    return sorted(
        (Port(port.device, _said(port.description)) for port in comports()), key=lambda p: p.device
    )


def _said(description: str | None) -> str:
    return "" if description in (None, "n/a") else str(description)


def ports(
    root: Path,
    listed: Sequence[Port] | None,
    access: Callable[[Path, int], bool] = os.access,
    groups: Iterable[int] | None = None,
) -> list[Finding]:
    """Looks at the serial ports.

    Args:
        root: the folder that holds dev, proc and boot.
        listed: from `list_ports`.
        access: as `os.access`: whether this user may use a file in a way.
        groups: numbers of the groups that this process is in; by default this process's own.
    """
    if listed is None:
        what = "pyserial is not installed, so no port can be read."
        return [Finding(SECTION, "pyserial", "problem", what, pip_install("pyserial"))]
    member_of = set([*os.getgroups(), os.getegid()] if groups is None else groups)
    named = _by_id(root)
    serial0 = _target(root / "dev/serial0")
    known = {port.device for port in listed}
    # pyserial leaves out platform devices, and a Raspberry Pi's mini UART is one.
    if serial0 and serial0 not in known:
        listed = [*listed, Port(serial0, "the serial port on the pins")]
    holders = _holders(root, {port.device for port in listed})
    console = _consoles(root)
    findings = [
        _port(root, port, named.get(port.device, []), holders.get(port.device), access, member_of)
        for port in listed
    ]
    findings += [_console(root, port.device) for port in listed if port.device in console]
    findings += _meddlers(root)
    if not listed:
        what = "none; plug the device in with a cable that carries data, then look again."
        findings.insert(0, Finding(SECTION, "ports", "note", what))
    return findings


def _port(
    root: Path,
    port: Port,
    names: Sequence[str],
    holder: tuple[int, str] | None,
    access: Callable[[Path, int], bool],
    member_of: set[int],
) -> Finding:
    path = root / port.device.lstrip("/")
    what = ", ".join([*([port.description] if port.description else []), *names])
    data = {
        "device": port.device,
        "by_id": list(names),
        "readable": access(path, os.R_OK),
        "writable": access(path, os.W_OK),
        "group": None,
        "used_by": holder[0] if holder else None,
    }
    try:
        status = path.stat()
    except OSError as error:
        what = f"it cannot be looked at: {error.strerror}."
        mend = "Unplug the device and plug it in again."
        return Finding(SECTION, port.device, "problem", what, mend, data)
    group = _group(status.st_gid)
    data["group"] = group
    if not (data["readable"] and data["writable"]):
        what = f"{what + '; ' if what else ''}you may not read and write it"
        return Finding(
            SECTION, port.device, "problem", *_refused(path, what, group, status, member_of), data
        )
    if holder:
        what = f"{what + '; ' if what else ''}process {holder[0]} ({holder[1]}) uses it."
        return Finding(SECTION, port.device, "note", what, data=data)
    return Finding(SECTION, port.device, "ok", what or "may be read and written", data=data)


def _refused(
    path: Path, what: str, group: str, status: os.stat_result, member_of: set[int]
) -> tuple[str, str]:
    """Why a port may not be used, and the command against it."""
    both = stat.S_IRGRP | stat.S_IWGRP
    if status.st_mode & both != both or status.st_gid == 0:
        return (
            f"{what}; its group ({group}) does not help.",
            f"sudo chmod a+rw {path}  # until it is plugged in again; for good, write a udev rule",
        )
    if status.st_gid in member_of:
        return f"{what}, although you are in its group ({group}).", f"ls -l {path}; getfacl {path}"
    if _is_member(group):
        return f"{what}: you are in its group ({group}) from the next login on.", (
            "Log in again, or restart the machine."
        )
    return (
        f"{what}: it belongs to the group {group}, and you are not in it.",
        f"sudo usermod -aG {group} $USER  # then log in again",
    )


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _is_member(group: str) -> bool:
    """Whether this user was put into a group, which counts from the next login on."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name in grp.getgrnam(group).gr_mem
    except KeyError:
        return False


def _target(link: Path) -> str | None:
    """The device that a link in /dev points to."""
    try:
        return f"/dev/{link.readlink().name}"
    except OSError:
        return None


def _by_id(root: Path) -> dict[str, list[str]]:
    """Device -> its names that stay the same wherever it is plugged in."""
    names: dict[str, list[str]] = {}
    folder = root / "dev/serial/by-id"
    for link in sorted(folder.iterdir()) if folder.is_dir() else []:
        device = _target(link)
        if device:
            names.setdefault(device, []).append(f"/dev/serial/by-id/{link.name}")
    return names


def _processes(root: Path) -> Iterator[tuple[int, str, Path]]:
    try:
        folders = [folder for folder in (root / "proc").iterdir() if folder.name.isdigit()]
    except OSError:
        return
    for folder in folders:
        yield int(folder.name), read_text(folder / "comm"), folder


def _holders(root: Path, devices: set[str]) -> dict[str, tuple[int, str]]:
    """Device -> process that has it open, as far as this user may see."""
    holders: dict[str, tuple[int, str]] = {}
    if not devices:
        return holders
    for number, name, folder in _processes(root):
        for device in devices.intersection(_opened(folder / "fd")):
            holders[device] = (number, name)
    return holders


def _opened(folder: Path) -> Iterator[str]:
    """What a process has open; nothing where it has ended or belongs to another user."""
    with contextlib.suppress(OSError):
        for link in folder.iterdir():
            with contextlib.suppress(OSError):  # closed in the meantime
                yield str(link.readlink())


def _consoles(root: Path) -> set[str]:
    """The ports that the kernel uses as its console."""
    names = re.findall(r"(?:^|\s)console=(\w+)", read_text(root / "proc/cmdline"))
    devices = {f"/dev/{name}" for name in names if name.startswith("tty")}
    if "serial0" in names:
        devices.add(_target(root / "dev/serial0") or "/dev/serial0")
    return devices


def _console(root: Path, device: str) -> Finding:
    return Finding(
        SECTION,
        "console",
        "note",
        f"{device} is the system's console: a device on it would get boot messages and a login.",
        "sudo raspi-config nonint do_serial_cons 1 && sudo reboot"
        if is_raspberry_pi(root)
        else f"Remove console={device.removeprefix('/dev/')} from the kernel's command line.",
        {"device": device},
    )


def _meddlers(root: Path) -> list[Finding]:
    running = {name for _, name, _ in _processes(root)}
    return [
        Finding(SECTION, name, "note", f"it runs; it {what}", mend)
        for name, (what, mend) in _MEDDLERS.items()
        if name in running
    ]
