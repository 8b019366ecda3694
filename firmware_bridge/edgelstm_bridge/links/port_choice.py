"""Which serial port a URL means, and which ones there are."""

from __future__ import annotations

from collections.abc import Sequence

from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from edgelstm.errors import SourceError
from edgelstm_bridge.urls import UsbDevice


def find_usb_port(device: UsbDevice) -> str:
    """Returns the path of the one port of a USB device, whatever its number is now.

    Raises:
        SourceError: no port or more than one fits; the message lists them.
    """
    ports = sorted(_list(), key=_path)
    fitting = [port for port in ports if _fits(port, device)]
    if not fitting:
        there = _listed(ports) or "none"
        raise SourceError(
            f"No serial port has {device}: is the device plugged in? "
            f"(serial ports present: {there})"
        )
    if len(fitting) > 1:
        raise SourceError(
            f"More than one serial port has {device}: {_listed(fitting)}; choose one by its "
            "serial number or its path."
        )
    return _path(fitting[0])


def present_ports() -> str:
    """The paths of the serial ports that are there, for a message; empty when there is none."""
    return ", ".join(sorted(map(_path, _list())))


def _list() -> list[ListPortInfo]:
    """The ports, none where a device is going away at this moment: it is looked for again."""
    try:
        return list(list_ports.comports())
    except (OSError, TypeError, ValueError):  # pyserial reads files that have just gone
        return []


def _path(port: ListPortInfo) -> str:
    return str(port.device)


def _fits(port: ListPortInfo, device: UsbDevice) -> bool:
    serial_number = (port.serial_number or "").casefold()
    return (
        port.vid is not None
        and device.vendor in (None, port.vid)
        and device.product in (None, port.pid)
        and (device.serial_number is None or device.serial_number.casefold() == serial_number)
    )


def _listed(ports: Sequence[ListPortInfo]) -> str:
    return ", ".join(f"{_path(port)}{_identity(port)}" for port in ports)


def _identity(port: ListPortInfo) -> str:
    if port.vid is None:
        return ""
    return f" ({UsbDevice(port.vid, port.pid, port.serial_number)})"
