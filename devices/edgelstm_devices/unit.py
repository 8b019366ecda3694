"""The systemd unit of a release, made from those in `devices/setup`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources

from edgelstm_devices.release import RELEASE_MARK, Mode

_TEMPLATES = {"system": "edgelstm@.service", "user": "edgelstm-user@.service"}
_HEAD = """# Written by `edgelstm deploy`, which replaces it. What is yours belongs into a drop-in:
# {edit}
"""
_EDIT = {
    "system": "sudo systemctl edit edgelstm@{name}",
    "user": "systemctl --user edit edgelstm@{name}",
}
_SERIAL = ("char-ttyACM", "char-ttyUSB", "char-ttyS", "char-ttyAMA")
_DRIVERS = {"char-ttyACM": "cdc_acm", "char-ttyUSB": "usbserial"}
"""Modules that have to be there before systemd can tell which numbers the devices have."""
_BACK_OFF = (
    "# The longer it fails the less often it is tried: after 10 s, and in the end every 5 minutes.",
    "RestartSteps=6",
    "RestartMaxDelaySec=300",
)
_BACK_OFF_SINCE = 254
_CORAL = {
    "system": "SupplementaryGroups=plugdev\nRestrictAddressFamilies=AF_NETLINK",
    # Groups are not for a user to give; the user has to be in plugdev.
    "user": "RestrictAddressFamilies=AF_NETLINK",
}
_ABOUT_CORAL = "# A Coral comes and goes on the USB bus, of which the kernel tells by netlink."
_CORAL_CLASSES = ("char-usb_device", "char-apex")


def port_classes(port: str, driver: str = "") -> tuple[str, ...]:
    """The kinds of devices that a service needs to open a port, as `DeviceAllow=` names them.

    A kind and not the path: systemd looks a path up once, when it starts the service, and a device
    that is plugged in again is another one (docs/decisions/0025).

    Args:
        port: as in a run configuration.
        driver: the kind that the device says it is, such as "ttyACM"; "" when nobody knows.

    Returns:
        One for a device, all kinds of serial ports for one that cannot be told, none for what is no
        device, such as "socket://10.0.0.7:7000".
    """
    if driver:
        return (f"char-{driver}",)
    if "://" in port:
        return ()
    if re.match(r"/dev/pts/\d+\Z", port):
        return ("char-pts",)
    found = re.match(r"/dev/(tty[A-Za-z]+|rfcomm)\d+\Z", port)
    return (f"char-{found[1]}",) if found else _SERIAL


def render_unit(
    service: str,
    mode: Mode,
    port_classes: Sequence[str],
    *,
    coral: bool = False,
    systemd: int = 0,
) -> str:
    """The unit of a service, with `RELEASE_MARK` for the folder of its release.

    Args:
        service: its name.
        mode: whose it is.
        port_classes: what it may open, of `port_classes`; of several ports all of them.
        coral: whether it runs on a Coral accelerator.
        systemd: the version on the device; 0 if nobody knows.

    Returns:
        The text; the same for the same arguments.
    """
    template = resources.files("edgelstm_devices") / "setup" / _TEMPLATES[mode]
    lines = template.read_text(encoding="utf-8").splitlines()
    classes = [*dict.fromkeys([*port_classes, *(_CORAL_CLASSES if coral else ())])]
    modules = " ".join(f"modprobe@{_DRIVERS[one]}.service" for one in classes if one in _DRIVERS)
    start = f"ExecStart={RELEASE_MARK}/runtime/bin/edgelstm run {RELEASE_MARK}/{service}.toml"
    back_off = _BACK_OFF if systemd >= _BACK_OFF_SINCE else ()
    about_coral = (_ABOUT_CORAL, *_CORAL[mode].splitlines(), "") if coral else ()
    changes: dict[str, Callable[[str], Sequence[str]]] = {
        "ExecStart=": lambda _: (start,),
        "RestartSec=": lambda line: (line, *back_off),
        "SupplementaryGroups=": lambda line: (line,) if port_classes else (),
        "DevicePolicy=": lambda line: (line, *(f"DeviceAllow={one} rw" for one in classes)),
        "DeviceAllow=": lambda _: (),
        "Wants=modprobe@": lambda _: (f"Wants={modules}",) if modules else (),
        "After=modprobe@": lambda _: (f"After={modules}",) if modules else (),
        "[Install]": lambda line: (*about_coral, line),
    }
    head = _HEAD.format(edit=_EDIT[mode].format(name=service)).splitlines()
    body = _changed(lines[lines.index("[Unit]") :], changes)
    return "\n".join([*head, "", *body]) + "\n"


def _changed(
    lines: Sequence[str], changes: Mapping[str, Callable[[str], Sequence[str]]]
) -> Iterator[str]:
    """Lines of a unit with some of them changed; a comment goes with the line after it."""
    comment: list[str] = []
    for line in lines:
        if line.startswith("#"):
            comment.append(line)
            continue
        found = (change for start, change in changes.items() if line.startswith(start))
        change = next(found, None)
        new = [line] if change is None else change(line)
        if new:
            yield from comment
            yield from new
        comment = []
