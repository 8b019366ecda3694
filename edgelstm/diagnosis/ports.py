"""Serial ports: their names, whether they may be used, and who else uses them."""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgelstm.diagnosis.finding import Finding, pip_install
from edgelstm.diagnosis.obstacles import consoles, holders, link_target, obstacles

SECTION = "ports"

_USB_PORTS = ("ttyUSB*", "ttyACM*")


@dataclass(frozen=True)
class Port:
    """A serial port as pyserial lists it; what is not known is empty or None.

    Attributes:
        device: its path, such as "/dev/ttyUSB0".
        description: what it says of itself, such as "USB2.0-Serial".
        vendor_id: of its USB device.
        product_id: of its USB device.
        serial_number: of its USB device.
        manufacturer: of its USB device, such as "Arduino".
    """

    device: str
    description: str = ""
    vendor_id: int | None = None
    product_id: int | None = None
    serial_number: str = ""
    manufacturer: str = ""

    @property
    def usb_id(self) -> str:
        """Vendor and product as lsusb writes them, "2341:0043"; empty where it is not on USB."""
        if self.vendor_id is None or self.product_id is None:
            return ""
        return f"{self.vendor_id:04x}:{self.product_id:04x}"


@dataclass(frozen=True)
class PortState:
    """A serial port, what it may be called and whether it may be used.

    Attributes:
        port: as it was listed.
        by_id: its names that stay the same wherever it is plugged in.
        url: what `--port` takes to find it again, whatever number it gets.
        readable: whether this user may read it.
        writable: whether this user may write it.
        group: that it belongs to; None where it cannot be looked at.
        holder: the process that has it open, as far as this user may see: number and name.
        is_console: whether the kernel writes its messages to it.
        trouble: why it cannot be used, as the end of a sentence; empty where it can.
        mend: what to do about the trouble.
    """

    port: Port
    by_id: tuple[str, ...]
    url: str
    readable: bool
    writable: bool
    group: str | None
    holder: tuple[int, str] | None
    is_console: bool
    trouble: str = ""
    mend: str = ""

    @property
    def is_refused(self) -> bool:
        """Whether it is there, and this user may not use it."""
        return bool(self.trouble) and self.group is not None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; every port has the same keys."""
        return {
            "device": self.port.device,
            "description": self.port.description,
            "manufacturer": self.port.manufacturer or None,
            "usb_id": self.port.usb_id or None,
            "serial_number": self.port.serial_number or None,
            "by_id": list(self.by_id),
            "url": self.url,
            "readable": self.readable,
            "writable": self.writable,
            "group": self.group,
            "used_by": self.holder[0] if self.holder else None,
            "is_console": self.is_console,
            "trouble": self.trouble or None,
            "mend": self.mend or None,
        }


def list_ports() -> list[Port] | None:
    """The serial ports of this machine; None where pyserial is not installed."""
    try:
        from serial.tools.list_ports import comports
    except ImportError:
        return None
    try:
        found = [
            Port(
                port.device,
                _said(port.description),
                port.vid,
                port.pid,
                _said(port.serial_number),
                _said(port.manufacturer),
            )
            for port in comports()
        ]
    except (OSError, TypeError, ValueError):
        # pyserial stumbles over a device that is unplugged while it looks, and over odd sysfs.
        names = chain.from_iterable(Path("/dev").glob(pattern) for pattern in _USB_PORTS)
        found = [Port(str(name)) for name in names]
    return sorted(found, key=lambda port: _natural(port.device))


def _natural(device: str) -> list[tuple[str, int]]:
    """A key that sorts ttyUSB2 before ttyUSB10."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", device)]


def _said(text: str | None) -> str:
    """What a device says of itself, without what would steer a terminal."""
    said = "" if text in (None, "n/a") else str(text)
    return "".join(c if c.isprintable() else "?" for c in said).strip()


def look(
    root: Path,
    listed: Sequence[Port],
    access: Callable[[Path, int], bool] = os.access,
    groups: Iterable[int] | None = None,
) -> list[PortState]:
    """Looks at the serial ports one by one.

    Args:
        root: the folder that holds dev, proc and boot.
        listed: from `list_ports`.
        access: as `os.access`: whether this user may use a file in a way.
        groups: numbers of the groups that this process is in; by default this process's own.
    """
    member_of = set([*os.getgroups(), os.getegid()] if groups is None else groups)
    serial0 = link_target(root / "dev/serial0")
    # pyserial leaves out platform devices, and a Raspberry Pi's mini UART is one.
    if serial0 and serial0 not in {port.device for port in listed}:
        listed = [*listed, Port(serial0, "the serial port on the pins")]
    by_id, by_path = _links(root, "by-id"), _links(root, "by-path")
    held = holders(root, {port.device for port in listed})
    kernels = consoles(root)
    states = []
    for port in listed:
        path = root / port.device.lstrip("/")
        readable, writable = access(path, os.R_OK), access(path, os.W_OK)
        group, trouble, mend = None, "", ""
        try:
            status = path.stat()
        except OSError as error:
            trouble = f"it cannot be looked at: {error.strerror}."
            mend = "Unplug the device and plug it in again."
        else:
            group = _group(status.st_gid)
            if not (readable and writable):
                trouble, mend = _refused(port.device, group, status, member_of)
        names = by_id.get(port.device, [])
        if port.device == serial0:
            url = "/dev/serial0"
        else:
            url = _lasting(port, listed, names, by_path.get(port.device, []))
        states.append(
            PortState(
                port,
                tuple(names),
                url,
                readable,
                writable,
                group,
                held.get(port.device),
                port.device in kernels,
                trouble,
                mend,
            )
        )
    return states


def _lasting(
    port: Port, listed: Sequence[Port], by_id: Sequence[str], by_path: Sequence[str]
) -> str:
    """What `--port` takes to find a port again."""
    alike = [
        other
        for other in listed
        if other.usb_id == port.usb_id and other.serial_number == port.serial_number
    ]
    # Without serial numbers, two of a kind fight for one name by id.
    own_name = bool(port.serial_number) or len(alike) == 1
    if by_id and own_name:
        return f"serial:{by_id[0].removeprefix('/dev/serial/')}"
    if port.usb_id and len(alike) == 1:
        vendor_id, _, product_id = port.usb_id.partition(":")
        serial = f"&serial={quote(port.serial_number, safe='')}" if port.serial_number else ""
        return f"serial:?vid={vendor_id}&pid={product_id}{serial}"
    return f"serial:{by_path[0].removeprefix('/dev/serial/')}" if by_path else port.device


def ports(
    root: Path,
    listed: Sequence[Port] | None,
    access: Callable[[Path, int], bool] = os.access,
    groups: Iterable[int] | None = None,
) -> list[Finding]:
    """Looks at the serial ports, and at what gets in their way.

    Args:
        root: as for `look`.
        listed: from `list_ports`.
        access: as for `look`.
        groups: as for `look`.
    """
    if listed is None:
        what = "pyserial is not installed, so no port can be read."
        return [Finding(SECTION, "pyserial", "problem", what, pip_install("pyserial"))]
    states = look(root, listed, access, groups)
    findings = [_port(state) for state in states]
    findings += obstacles(
        root,
        {state.port.device for state in states},
        {state.port.usb_id for state in states},
    )
    if not states:
        what = "none; plug the device in with a cable that carries data, then look again."
        findings.insert(0, Finding(SECTION, "ports", "note", what))
    return findings


def _port(state: PortState) -> Finding:
    device, data = state.port.device, state.to_dict()
    named = [state.port.description] if state.port.description else []
    said = ", ".join([*named, *state.by_id])
    if state.trouble:
        what = f"{said}; {state.trouble}" if said and state.is_refused else state.trouble
        return Finding(SECTION, device, "problem", what, state.mend, data)
    if state.holder:
        what = f"process {state.holder[0]} ({state.holder[1]}) uses it."
        return Finding(SECTION, device, "note", f"{said}; {what}" if said else what, data=data)
    return Finding(SECTION, device, "ok", said or "may be read and written", data=data)


def _refused(
    device: str, group: str, status: os.stat_result, member_of: set[int]
) -> tuple[str, str]:
    """Why a port may not be used, and the command against it."""
    what = "you may not read and write it"
    both = stat.S_IRGRP | stat.S_IWGRP
    if status.st_mode & both != both or status.st_gid == 0:
        mode = stat.filemode(status.st_mode)
        return (
            f"{what}; its group ({group}, {mode}) does not help.",
            f"sudo chmod a+rw {device}  # until it is plugged in again; or: edgelstm ports --udev",
        )
    if status.st_gid in member_of:
        return (
            f"{what}, although you are in its group ({group}).",
            f"ls -l {device}; getfacl {device}",
        )
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


def _links(root: Path, kind: str) -> dict[str, list[str]]:
    """Device -> its names in a folder of links, `by-id` or `by-path`."""
    names: dict[str, list[str]] = {}
    try:
        links = sorted((root / "dev/serial" / kind).iterdir())
    except OSError:
        return names
    for link in links:
        device = link_target(link)
        if device:
            names.setdefault(device, []).append(f"/dev/serial/{kind}/{link.name}")
    return names
