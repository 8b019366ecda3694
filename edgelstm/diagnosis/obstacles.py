"""What gets in the way of serial ports: other programs, consoles, adapters without a driver."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from edgelstm.diagnosis.finding import Finding
from edgelstm.diagnosis.machine import is_raspberry_pi, read_text

SECTION = "ports"

# The usual chips: adapter and the kernel's driver.
_CHIPS = {
    "0403:6001": ("FTDI FT232R", "ftdi_sio"),
    "0403:6010": ("FTDI FT2232", "ftdi_sio"),
    "0403:6014": ("FTDI FT232H", "ftdi_sio"),
    "0403:6015": ("FTDI FT231X", "ftdi_sio"),
    "067b:2303": ("PL2303", "pl2303"),
    "10c4:ea60": ("CP210x", "cp210x"),
    "1a86:5523": ("CH341", "ch341"),
    "1a86:7522": ("CH340", "ch341"),
    "1a86:7523": ("CH340", "ch341"),
    "1a86:55d4": ("CH9102", "cdc_acm"),
}

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


def obstacles(root: Path, devices: set[str], usb_ids: set[str]) -> list[Finding]:
    """Looks at what gets in the way.

    Args:
        root: the folder that holds dev, proc and sys.
        devices: the ports that are there.
        usb_ids: vendor and product of each, such as "2341:0043".
    """
    own = [_console(root, device) for device in sorted(devices & consoles(root))]
    return own + _meddlers(root) + _portless(root, usb_ids)


def link_target(link: Path) -> str | None:
    """The device that a link in /dev points to; None where there is no such link."""
    try:
        return f"/dev/{link.readlink().name}"
    except OSError:
        return None


def _processes(root: Path) -> Iterator[tuple[int, str, Path]]:
    try:
        folders = [folder for folder in (root / "proc").iterdir() if folder.name.isdigit()]
    except OSError:
        return
    for folder in folders:
        yield int(folder.name), read_text(folder / "comm"), folder


def holders(root: Path, devices: set[str]) -> dict[str, tuple[int, str]]:
    """Device -> process that has it open, as far as this user may see."""
    found: dict[str, tuple[int, str]] = {}
    if not devices:
        return found
    for number, name, folder in _processes(root):
        for device in devices.intersection(_opened(folder / "fd")):
            found[device] = (number, name)
    return found


def _opened(folder: Path) -> Iterator[str]:
    """What a process has open; nothing where it has ended or belongs to another user."""
    with contextlib.suppress(OSError):
        for link in folder.iterdir():
            with contextlib.suppress(OSError):  # closed in the meantime
                yield str(link.readlink())


def consoles(root: Path) -> set[str]:
    """The ports that the kernel uses as its console."""
    names = re.findall(r"(?:^|\s)console=(\w+)", read_text(root / "proc/cmdline"))
    devices = {f"/dev/{name}" for name in names if name.startswith("tty")}
    if "serial0" in names:
        devices.add(link_target(root / "dev/serial0") or "/dev/serial0")
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


def _portless(root: Path, known: set[str]) -> list[Finding]:
    """Serial adapters on USB that no port belongs to."""
    try:
        devices = sorted((root / "sys/bus/usb/devices").iterdir())
    except OSError:
        return []
    findings = []
    for device in devices:
        usb_id = f"{read_text(device / 'idVendor')}:{read_text(device / 'idProduct')}".lower()
        chip = _CHIPS.get(usb_id)
        if chip and usb_id not in known:
            driver = chip[1]
            what = f"a {chip[0]} ({usb_id}) is plugged in, but has no port."
            mend = f"sudo modprobe {driver} && sudo dmesg | tail  # brltty may have taken it, too"
            findings.append(Finding(SECTION, chip[0], "note", what, mend, {"usb_id": usb_id}))
    return findings
