"""Coral's Edge TPU: whether there is one, its library, its driver and the right to use it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from edgelstm.diagnosis.finding import Finding
from edgelstm.diagnosis.machine import read_text

SECTION = "edge-tpu"
LIBRARY = "libedgetpu.so.1"

# A stick changes its name when libedgetpu loads its firmware, at the first use.
_USB = {("1a6e", "089a"): "USB, before its first use", ("18d1", "9302"): "USB, with firmware"}
_PCI = ("0x1ac1", "0x089a")
_FOLDERS = (
    "usr/lib/*-linux-gnu*",
    "usr/lib",
    "usr/lib64",
    "usr/local/lib",
    "lib",
    "lib/*-linux-gnu*",
)
_COMMAND = (
    "sudo apt-get install {}  # from Coral's repository: https://coral.ai/docs/{}/get-started"
)


def edge_tpu(
    root: Path, library: str | None = None, access: Callable[[Path, int], bool] = os.access
) -> list[Finding]:
    """Looks for Edge TPUs on USB and PCI, and at what they need. Loads no library.

    Args:
        root: the folder that holds dev, sys and usr.
        library: where the loader finds libedgetpu, if it does.
        access: as `os.access`.
    """
    usb, pci = _usb(root), _pci(root)
    apex = sorted((root / "dev").glob("apex_*"))
    found = library or _library(root)
    data = {"usb": len(usb), "pci": pci, "library": found}
    if not (usb or pci or apex):
        what = "none; models run on the CPU"
        return [Finding(SECTION, "edge tpu", "ok", what, data=data)]
    nodes = [(node, kind, "usb", "plugdev") for node, kind in usb]
    nodes += [(node, "PCI", "pci", "apex") for node in apex]
    findings = []
    for node, kind, bus, group in nodes:
        device = f"/{node.relative_to(root)}"
        seen = {"bus": bus, "device": device, "usable": access(node, os.R_OK | os.W_OK)}
        # The udev rule that gives the stick its group comes with the library.
        refused = not seen["usable"] and (found is not None or bus == "pci")
        what = f"an Edge TPU ({kind})" + (" that you may not read and write." if refused else "")
        mend = f"sudo usermod -aG {group} $USER  # then log in again, and plug a stick in again"
        findings.append(
            Finding(SECTION, device, "problem", what, mend, seen)
            if refused
            else Finding(SECTION, device, "ok", what, data=seen)
        )
    page = "accelerator" if usb else "m2"
    if pci > len(apex):
        what = "an Edge TPU on PCI has no driver: there is no /dev/apex_0."
        mend = _COMMAND.format("gasket-dkms", "m2")
        findings.append(Finding(SECTION, "driver", "problem", what, mend, data))
    if found:
        findings.append(Finding(SECTION, "library", "ok", found, data=data))
    else:
        what = f"{LIBRARY}, which the runtimes need to use it, is not installed."
        mend = _COMMAND.format("libedgetpu1-std", page)
        findings.append(Finding(SECTION, "library", "problem", what, mend, data))
    return findings


def _usb(root: Path) -> list[tuple[Path, str]]:
    """The device node and the kind of every Edge TPU on USB."""
    found = []
    for folder in sorted((root / "sys/bus/usb/devices").glob("*")):
        key = (read_text(folder / "idVendor"), read_text(folder / "idProduct"))
        if key in _USB:
            bus, number = read_text(folder / "busnum"), read_text(folder / "devnum")
            node = root / f"dev/bus/usb/{bus.zfill(3)}/{number.zfill(3)}"
            found.append((node, _USB[key]))
    return found


def _pci(root: Path) -> int:
    """How many Edge TPUs there are on PCI."""
    folders = (root / "sys/bus/pci/devices").glob("*")
    return sum((read_text(f / "vendor"), read_text(f / "device")) == _PCI for f in folders)


def _library(root: Path) -> str | None:
    for pattern in _FOLDERS:
        for path in sorted(root.glob(f"{pattern}/{LIBRARY}")):
            return f"/{path.relative_to(root)}"
    return None
