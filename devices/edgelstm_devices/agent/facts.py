"""`facts`: what a device is, which the laptop judges (`edgelstm_devices.preflight`).

It changes nothing, needs no root, and never fails: what cannot be found out is None.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import threading
import time
from collections.abc import Callable
from typing import Any

from .context import Context
from .index import index
from .installation import installation, trusted
from .machine import Machine, properties
from .people import service_user, sudo, user
from .pythons import pythons
from .serial_ports import meddlers, serial_ports

LIMIT_S = 30.0
"""How long all of it may take. It takes half a second, and more where the device is busy."""

_LIBSTDCXX = ("/usr/lib/*/libstdc++.so.6", "/usr/lib*/libstdc++.so.6", "/lib*/libstdc++.so.6")
_LIBRARIES = ("/usr/lib/*/{}", "/usr/lib*/{}", "/usr/local/lib/{}", "/lib/{}")
_EDGE_TPUS = (("1a6e", "089a"), ("18d1", "9302"))  # before and after its first use
_TIME_ERROR = 5  # of adjtimex: nothing keeps the clock right


def facts(
    context: Context,
    *,
    mode: str = "system",
    name: str = "",
    root: str | None = None,
    port: str = "",
    online: bool = True,
) -> dict[str, Any]:
    """Everything about the device that a deployment depends on.

    Args:
        context: of the caller.
        mode: of the installation, "system" or "user".
        name: of the service to be.
        root: of the installation; None for the mode's own.
        port: a path of a serial port to look at, whether or not it looks like one.
        online: whether to try if pip's index can be reached.

    Returns:
        Plain data: `time` (seconds since the epoch, when it began), `seconds` (that it took),
        `mode`, `kernel` (its release), `machine` (as `uname -m` has it), `os` (see `os_release`),
        `model` (of the device tree), `pythons` (see there), `python` (the one that runs this) and
        its `libc`, `libstdcxx` (whether there is one), `memory` (bytes: total, available), `cores`,
        `throttled` (a Raspberry Pi's flags), `disk` (see there), `overlay` (whether the root is
        gone after a restart), `clock`, `timezone`, `user`, `sudo`, `service_user`, `systemd`,
        `ports` (see `serial_ports`), `meddlers`, `installation`, `trusted`, `coral`, `index`.
    """
    del context
    return look(Machine(), mode, name, root, port, online)


def look(
    machine: Machine,
    mode: str = "system",
    name: str = "",
    root: str | None = None,
    port: str = "",
    online: bool = True,
) -> dict[str, Any]:
    """`facts` of a machine, or of a copy of its files."""
    started, clock = time.monotonic(), time.time()
    pieces: dict[str, Callable[[], Any]] = {
        "os": lambda: os_release(machine),
        "model": lambda: machine.read("/proc/device-tree/model") or None,
        "pythons": lambda: pythons(machine),
        "libstdcxx": lambda: any(machine.glob(pattern) for pattern in _LIBSTDCXX),
        "memory": lambda: _memory(machine),
        "cores": lambda: len(os.sched_getaffinity(0)),
        "throttled": lambda: _throttled(machine),
        "disk": lambda: disk(machine, folders(mode, root, machine)),
        "overlay": lambda: bool(
            re.search(r"\b(boot=overlay|overlayroot=(?!disabled))", machine.read("/proc/cmdline"))
        ),
        "clock": lambda: _clock(machine),
        "timezone": lambda: machine.link("/etc/localtime").partition("zoneinfo/")[2] or None,
        "user": lambda: user(machine),
        "sudo": lambda: sudo(machine),
        "service_user": service_user,
        "systemd": lambda: _systemd(machine),
        "ports": lambda: serial_ports(machine, port),
        "meddlers": lambda: meddlers(machine),
        "installation": lambda: installation(machine, mode, root, name),
        "trusted": lambda: trusted(machine),
        "coral": lambda: _coral(machine),
        "index": (lambda: index(machine)) if online else (lambda: None),
    }
    found = {
        "time": clock,
        "mode": mode,
        "kernel": platform.release(),
        "machine": platform.machine(),
        **_all_at_once(pieces),
    }
    every = found["pythons"] or []
    # The one that runs this is the first, and the system's.
    found["python"] = every[0] if every else None
    found["libc"] = every[0]["libc"] if every else None
    found["seconds"] = time.monotonic() - started
    return found


def _all_at_once(pieces: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """The answers of all that answer in time, None of the others.

    A disk of the network that is gone holds whoever looks at it, for ever: so they are threads that
    nobody waits for.
    """
    found: dict[str, Any] = dict.fromkeys(pieces)

    def answer(piece: str) -> None:
        try:
            found[piece] = pieces[piece]()
        except Exception:  # whatever is odd there, the other facts are worth having
            found[piece] = None

    threads = [threading.Thread(target=answer, args=[piece], daemon=True) for piece in pieces]
    stop = time.monotonic() + LIMIT_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, stop - time.monotonic()))
    return dict(found)


def os_release(machine: Machine) -> dict[str, str]:
    """The fields of /etc/os-release, such as ID and VERSION_ID."""
    text = machine.read("/etc/os-release") or machine.read("/usr/lib/os-release")
    fields = {}
    for name, value in re.findall(r"^([A-Z_0-9]+)=(.*)$", text, re.MULTILINE):
        try:
            fields[name] = " ".join(shlex.split(value))
        except ValueError:
            fields[name] = value
    return fields


def _memory(machine: Machine) -> dict[str, int]:
    sizes: dict[str, str] = dict(
        re.findall(r"^(\w+):\s*(\d+) kB", machine.read("/proc/meminfo"), re.MULTILINE)
    )
    available = sizes.get("MemAvailable") or sizes["MemFree"]
    return {"total": int(sizes["MemTotal"]) * 1024, "available": int(available) * 1024}


def _throttled(machine: Machine) -> int | None:
    """The flags of a Raspberry Pi's firmware, as `vcgencmd get_throttled` has them."""
    text = machine.read("/sys/devices/platform/soc/soc:firmware/get_throttled")
    return int(text, 16) if text else None


def folders(mode: str, root: str | None, machine: Machine) -> dict[str, str]:
    """What is written to, by what it is for."""
    home = machine.environ.get("HOME", "/root")
    if mode == "user":
        return {
            "installation": root or f"{home}/.local/share/edgelstm",
            "state": f"{home}/.config",
            "units": f"{home}/.config/systemd/user",
            "temporary": "/tmp",  # noqa: S108  # looked at, not written to
        }
    return {
        "installation": root or "/opt/edgelstm",
        "state": "/var/lib",
        "units": "/etc/systemd/system",
        "temporary": "/tmp",  # noqa: S108
    }


def disk(machine: Machine, wanted: dict[str, str]) -> list[dict[str, Any]]:
    """The file systems of some folders, one entry each.

    Of each `what` it is for, `path`, `mount` (the folder it is mounted on), `kind` (such as
    "ext4"), `options`, `free` and `total` (bytes), `inodes` (free; None where there is no limit).
    """
    mounts = _mounts(machine)
    return [_disk(machine, mounts, what, path) for what, path in wanted.items()]


def _mounts(machine: Machine) -> list[tuple[str, str, list[str]]]:
    """Folder, kind and options of each mount, in their order: later ones cover earlier ones."""
    found = []
    text = machine.read("/proc/self/mounts") or machine.read("/proc/mounts")
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) > 3:
            # Blanks in names are written as octal numbers.
            folder = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[1])
            found.append((folder, fields[2], fields[3].split(",")))
    return found


def _disk(
    machine: Machine, mounts: list[tuple[str, str, list[str]]], what: str, path: str
) -> dict[str, Any]:
    there = machine.path(path)
    while not there.exists() and there != there.parent:
        there = there.parent
    status = os.statvfs(there)
    real, root = os.path.realpath(there), os.path.realpath(machine.root).rstrip("/")
    real = real[len(root) :] or "/" if real.startswith(root) else path
    covering: tuple[str, str, list[str]] = ("/", "", [])
    for mount in mounts:
        if real == mount[0] or real.startswith(f"{mount[0].rstrip('/')}/"):
            covering = mount  # of two on one way the later one covers the other
    return {
        "what": what,
        "path": path,
        "mount": covering[0],
        "kind": covering[1],
        "options": covering[2],
        "free": status.f_bavail * status.f_frsize,
        "total": status.f_blocks * status.f_frsize,
        "inodes": status.f_favail if status.f_files else None,
    }


def _clock(machine: Machine) -> dict[str, Any]:
    """Whether something keeps it right (`synchronised`) or would (`ntp`), and `rtc`."""
    done = machine.run("timedatectl", "show")
    said = (properties(done[1]) or [{}])[0] if done and done[0] == 0 else {}
    yes = {"yes": True, "no": False}
    synchronised = yes.get(said.get("NTPSynchronized", ""))
    if synchronised is None:
        synchronised = _kernel_follows() if str(machine.root) == "/" else None
    if machine.path("/run/systemd/timesync/synchronized").exists():
        synchronised = True
    return {
        "synchronised": synchronised,
        "ntp": yes.get(said.get("NTP", "")),
        "rtc": bool(machine.glob("/dev/rtc*")),
    }


def _kernel_follows() -> bool | None:
    try:
        import ctypes

        adjtimex = ctypes.CDLL(None).adjtimex
    except (ImportError, OSError, AttributeError):
        return None
    # A timex of zeros asks and changes nothing.
    state = int(adjtimex(ctypes.create_string_buffer(512)))
    return None if state < 0 else state != _TIME_ERROR


def _systemd(machine: Machine) -> dict[str, Any]:
    """Whether it is `running`, `version`, `state`, `silent` (no answer), and of the user's own."""
    found: dict[str, Any] = {"running": machine.path("/run/systemd/system").is_dir()}
    for key, scope in (("", []), ("user_", ["--user"])):
        done = machine.run("systemctl", *scope, "show", "-p", "Version", "-p", "SystemState")
        said = (properties(done[1]) or [{}])[0] if done and done[0] == 0 else {}
        number = re.match(r"\d+", said.get("Version", ""))
        found[f"{key}version"] = int(number[0]) if number else None
        found[f"{key}state"] = said.get("SystemState") or None
        found[f"{key}silent"] = done is None
    return found


def _coral(machine: Machine) -> dict[str, Any]:
    """How many Edge TPUs there are on USB and PCI, and where libedgetpu is."""
    on_usb = 0
    for name in machine.names("/sys/bus/usb/devices"):
        folder = f"/sys/bus/usb/devices/{name}"
        key = (machine.read(f"{folder}/idVendor"), machine.read(f"{folder}/idProduct"))
        on_usb += key in _EDGE_TPUS
    libraries = [
        machine.shown(path)
        for pattern in _LIBRARIES
        for path in machine.glob(pattern.format("libedgetpu.so.1"))
    ]
    return {
        "usb": on_usb,
        "pci": len(machine.glob("/dev/apex_*")),
        "library": libraries[0] if libraries else None,
    }
