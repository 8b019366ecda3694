"""Judges the serial ports that a service reads, and finds the one that it should."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from edgelstm.diagnosis.finding import Finding
from edgelstm.errors import ConfigurationError, DeploymentError
from edgelstm_devices.preflight.wanted import Wanted

SECTION = "ports"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_PINS = "/dev/serial0"
_USB_NAME = re.compile(r"/dev/tty(USB|ACM)\d")
_PLUGGED = ("/dev/ttyACM", "/dev/ttyUSB")
_GROUP_RW, _OTHERS_RW = 0o060, 0o006
_GETTY = re.compile(r"(?:serial-)?getty@.+\.service\Z")
_MEDDLERS = {
    "ModemManager": (
        "it talks to every new serial port for some seconds, in case it is a modem.",
        "sudo systemctl disable --now ModemManager  # unless this device has a modem",
    ),
    "brltty": (
        "it takes USB serial adapters (CH340, CP210x) for Braille displays, and they vanish.",
        "sudo apt-get remove brltty  # unless there is a Braille display",
    ),
}

Port = Mapping[str, Any]


def is_serial(port: str) -> bool:
    """Whether a source URL names a serial port of the device."""
    match = _SCHEME.fullmatch(port)
    return match is None or match[1].lower() == "serial"


def match_port(facts: Mapping[str, Any], port: str) -> Port | None:
    """The entry of the fact `ports` that a source URL names; None when it is not there.

    A path, a name by id, or vendor, product and serial number find it. Of several the first.
    """
    if not is_serial(port):
        return None
    path, options = _parts(port)
    for entry in facts.get("ports") or []:
        if path:
            if path in (entry["device"], *entry["names"]):
                return dict(entry)
        elif _is_device(entry["usb"], options):
            return dict(entry)
    return None


def _parts(port: str) -> tuple[str, dict[str, str]]:
    match = _SCHEME.fullmatch(port)
    path, _, query = (match[2] if match else port).partition("?")
    path = unquote(path)
    if path.startswith("//"):
        path = path[2:]
    if path.startswith(("by-id/", "by-path/")):
        path = f"/dev/serial/{path}"
    return path, dict(parse_qsl(query))


def _is_device(usb: Mapping[str, str] | None, options: Mapping[str, str]) -> bool:
    if usb is None:
        return False
    numbers = {"vid": "vendor", "pid": "product"}
    try:
        fits = all(
            int(options[key], 16) == int(usb[name], 16)
            for key, name in numbers.items()
            if key in options
        )
    except ValueError:
        return False
    asked = options.get("serial")
    return fits and (asked is None or asked.casefold() == usb["serial"].casefold())


def find_port(facts: Mapping[str, Any], port: str | None) -> str:
    """The source URL for a service.

    Args:
        facts: of the device.
        port: as the user gave it; None for the one USB serial device that is plugged in.

    Returns:
        What was given, or a URL that finds the device again whatever number its port gets.

    Raises:
        DeploymentError: the port is not there, or none is plugged in.
        ConfigurationError: more than one is plugged in.
    """
    every = facts.get("ports") or []
    there = ", ".join(_described(entry) for entry in every) or "none"
    if port is not None:
        if is_serial(port) and match_port(facts, port) is None:
            raise DeploymentError(
                f"The device has no port {port}; it has: {there}. Plug it in, or give another."
            )
        return port
    # One that is handed into a container has nothing of USB but its name.
    pluggable = [e for e in every if e["usb"] or e["device"].startswith(_PLUGGED)]
    if not pluggable:
        raise DeploymentError(
            "No serial device is plugged into its USB; plug it in, or give --port (there are: "
            f"{there})."
        )
    if len(pluggable) > 1:
        names = "; ".join(lasting_url(entry, every) for entry in pluggable)
        raise ConfigurationError(
            f"{len(pluggable)} serial devices are plugged in; choose one with --port: {names}."
        )
    return lasting_url(pluggable[0], every)


def lasting_url(entry: Port, every: Sequence[Port]) -> str:
    """What finds a port again: its name by id, USB numbers, or place, in this order."""
    usb, names = entry["usb"], entry["names"]
    by_id = [n for n in names if n.startswith("/dev/serial/by-id/")]
    by_path = [n for n in names if n.startswith("/dev/serial/by-path/")]
    alike = [e for e in every if usb and e["usb"] and _same(e["usb"], usb)]
    # Without serial numbers, two of a kind fight for one name by id.
    if by_id and usb and (usb["serial"] or len(alike) == 1):
        return f"serial:{by_id[0].removeprefix('/dev/serial/')}"
    if usb and len(alike) == 1:
        serial = f"&serial={quote(usb['serial'], safe='')}" if usb["serial"] else ""
        return f"serial:?vid={usb['vendor']}&pid={usb['product']}{serial}"
    if by_path:
        return f"serial:{by_path[0].removeprefix('/dev/serial/')}"
    return _PINS if _PINS in names else str(entry["device"])


def _same(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return all(one[key] == other[key] for key in ("vendor", "product", "serial"))


def _described(entry: Port) -> str:
    said = entry["usb"]["description"] if entry["usb"] else ""
    return f"{entry['device']} ({said})" if said else str(entry["device"])


def judge(facts: Mapping[str, Any], wanted: Wanted) -> Iterator[Finding]:
    """What the ports of the service are like."""
    if facts.get("ports") is None:
        return
    wanted_ports = [port for port in wanted.ports if is_serial(port)]
    for port in wanted_ports:
        entry = match_port(facts, port)
        yield _missing(facts, port, wanted) if entry is None else _judged(entry, facts, wanted)
    if wanted_ports:
        for name in facts.get("meddlers") or []:
            what, mend = _MEDDLERS[name]
            yield Finding(SECTION, name, "note", what, mend)


def _missing(facts: Mapping[str, Any], port: str, wanted: Wanted) -> Finding:
    there = ", ".join(_described(entry) for entry in facts["ports"]) or "none"
    raspberry = (facts.get("model") or "").startswith("Raspberry Pi")
    mend = "ls -l /dev/serial/by-id  # after plugging it in, with a cable that carries data"
    if raspberry and _parts(port)[0] == _PINS:
        mend = "sudo raspi-config nonint do_serial_hw 0 && sudo reboot"
    level = "problem" if wanted.expect_readings else "note"
    what = f"it is not there; ports: {there}."
    return Finding(SECTION, port, level, what, mend, {"port": port})  # type: ignore[arg-type]


def _judged(entry: Port, facts: Mapping[str, Any], wanted: Wanted) -> Finding:
    device = str(entry["device"])
    trouble = _occupied(entry, facts, wanted) or _refused(entry, facts, wanted)
    if trouble:
        return Finding(SECTION, device, "problem", *trouble, entry)
    said = [entry["usb"]["description"]] if entry["usb"] and entry["usb"]["description"] else []
    holder = entry["in_use_by"]
    if holder and _is_own(holder, wanted):
        said.append("the service has it open")
    elif holder:
        said.append(f"{holder['name']} has it open")
    return Finding(SECTION, device, "ok", ", ".join(said) or "may be used", data=entry)


def _is_own(holder: Mapping[str, Any], wanted: Wanted) -> bool:
    """Whether a process is the service that is to be replaced."""
    own = f"edgelstm@{wanted.service}.service", wanted.mode
    return (holder["unit"], holder["mode"]) == own


def _occupied(entry: Port, facts: Mapping[str, Any], wanted: Wanted) -> tuple[str, str] | None:
    """Who else has a port, and the command against it."""
    device, holder = str(entry["device"]), entry["in_use_by"]
    name = device.removeprefix("/dev/")
    unit = holder["unit"] if holder else ""
    raspberry = (facts.get("model") or "").startswith("Raspberry Pi")
    if entry["console"] or _GETTY.match(unit):
        what = "the system's console is on it: the device there would get boot messages or a login."
        if raspberry:
            return what, "sudo raspi-config nonint do_serial_cons 1 && sudo reboot"
        if entry["console"]:
            return what, (
                f"Take console={name} out of the kernel's command line and restart; see: "
                "cat /proc/cmdline"
            )
        return what, f"sudo systemctl disable --now {unit}"
    if not holder or _is_own(holder, wanted):
        return None
    what = f"process {holder['pid']} ({holder['name']}) has it open."
    if unit.endswith(".service") and not unit.startswith("user@"):
        scope = "systemctl --user" if holder["mode"] == "user" else "sudo systemctl"
        return what, f"{scope} disable --now {unit}"
    return what, f"sudo kill {holder['pid']}  # {holder['name']}"


def _refused(entry: Port, facts: Mapping[str, Any], wanted: Wanted) -> tuple[str, str] | None:
    """Why the service may not use a port, and the command against it."""
    mode, group, device = entry["mode"], entry["group"], str(entry["device"])
    if mode is None:
        return "it cannot be looked at.", f"ls -l {device}"
    bits = int(mode, 8)
    user = facts.get("user") or {}
    if bits & _OTHERS_RW == _OTHERS_RW or (wanted.mode == "user" and user.get("uid") == 0):
        return None
    helps = bits & _GROUP_RW == _GROUP_RW
    if wanted.mode == "system":
        service_user = facts.get("service_user") or {"groups": []}
        if helps and group in ("dialout", *service_user["groups"]):
            return None
        what = f"the service may not use it: it belongs to the group {group} (mode {mode})."
        return what, _give_to_dialout(entry)
    if not helps or group == "root":
        what = f"its group {group} (mode {mode}) may not use it."
        return what, _give_to_dialout(entry)
    if not user:
        return None
    name, number = user["name"], user["uid"]
    future, manager = user["future_groups"], user["manager_groups"]
    if group in (future if manager is None else manager):
        return None
    again = f"sudo systemctl restart user@{number}.service  # ends what {name} runs there"
    if group in future:
        what = f"{name} is in its group {group}, but his systemd was started before that."
        return what, again
    what = f"it belongs to the group {group}, and {name} is not in it."
    return what, f"sudo usermod -aG {group} {name} && {again}"


def _give_to_dialout(entry: Port) -> str:
    device = str(entry["device"])
    name = device.removeprefix("/dev/")
    now = f"sudo chgrp dialout {device} && sudo chmod g+rw {device}"
    if not str(entry["class"]).startswith("tty"):
        return now
    kind = re.sub(r"\d+\Z", "*", name)
    rule = f'SUBSYSTEM=="tty", KERNEL=="{kind}", GROUP="dialout", MODE="0660"'
    file = f"/etc/udev/rules.d/60-edgelstm-{kind.rstrip('*')}.rules"
    return (
        f"echo '{rule}' | sudo tee {file} && sudo udevadm control --reload && sudo udevadm trigger"
    )
