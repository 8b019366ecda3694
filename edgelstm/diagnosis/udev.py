"""udev rules that let people use serial ports, and give each device a name of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgelstm.diagnosis.ports import Port

RULES_FILE = "/etc/udev/rules.d/60-edgelstm-serial.rules"
"""Before 73-seat-late.rules, which gives a device to whoever sits at the machine."""

INSTALL = (
    f"edgelstm ports --udev | sudo tee {RULES_FILE}",
    "sudo udevadm control --reload",
    "sudo udevadm trigger",
)
"""The commands that put the rules in force, also for what is plugged in already."""


def rules(ports: Sequence[Port], group: str = "dialout") -> list[str]:
    """Rules for the devices behind these ports, as lines; none for ports that are not on USB.

    Each kind of device is opened to the group and to whoever sits at the machine, and kept from
    ModemManager; each device with a serial number gets a link in /dev that is its own.

    Args:
        ports: from `list_ports`; two of them may belong to one device.
        group: that the ports are given to.
    """
    lines = []
    kinds: set[str] = set()
    for port in ports:
        if not port.usb_id:
            continue
        if port.usb_id not in kinds:
            kinds.add(port.usb_id)
            lines.append(f"# {_comment(port)}")
            lines.append(
                f'{_match(port)}, ENV{{ID_MM_DEVICE_IGNORE}}="1", '
                f'MODE="0660", GROUP="{group}", TAG+="uaccess"'
            )
        alone = sum(_device(other) == _device(port) for other in ports) == 1
        if port.serial_number and alone:
            serial = _pattern(port.serial_number)
            lines.append(
                f'{_match(port)}, ATTRS{{serial}}=="{serial}", SYMLINK+="{link_name(port)}"'
            )
    return lines


def link_name(port: Port) -> str:
    """The name below /dev that the rules give to the device behind a port."""
    return _slug(f"edgelstm {port.description} {port.serial_number}")


def _device(port: Port) -> tuple[str, str]:
    return port.usb_id, port.serial_number


def _match(port: Port) -> str:
    vendor_id, _, product_id = port.usb_id.partition(":")
    return f'SUBSYSTEM=="tty", ATTRS{{idVendor}}=="{vendor_id}", ATTRS{{idProduct}}=="{product_id}"'


def _comment(port: Port) -> str:
    """What is said of a device, on one line, whatever it says of itself."""
    said = f"{port.description} ({port.manufacturer})" if port.manufacturer else port.description
    return "".join(c if c.isprintable() else "?" for c in said) or port.usb_id


def _pattern(text: str) -> str:
    """Text as udev matches it; what could end the quotes or mean something else matches anything.

    The text comes from the device, and the rule is run by root.
    """
    return re.sub(r"[^A-Za-z0-9_.:-]", "?", text)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
