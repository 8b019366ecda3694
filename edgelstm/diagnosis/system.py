"""The system: room on the disk, the clock, and what keeps a program running."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from edgelstm.diagnosis.finding import Finding
from edgelstm.diagnosis.machine import is_raspberry_pi, read_text

LOW_DISK_MB = 100
WRITTEN_IN = 2026
"""The year in which this was written: no clock that is right shows an earlier one."""


def disk(root: Path, free: Mapping[str, tuple[int, bool]]) -> list[Finding]:
    """Looks at the room on the disks.

    Args:
        root: the folder that holds proc.
        free: for each folder the bytes that this user may still write, and whether he may write
            there at all.
    """
    findings = []
    for folder, (size, writable) in free.items():
        megabytes = size // 1_000_000
        data = {"folder": folder, "free_mb": megabytes, "writable": writable}
        what = f"{megabytes:,} MB free"
        if megabytes < LOW_DISK_MB:
            mend = "sudo apt-get clean && sudo journalctl --vacuum-size=50M"
            findings.append(Finding("disk", folder, "problem", what, mend, data))
        else:
            findings.append(Finding("disk", folder, "ok", what, data=data))
    options = _root_options(read_text(root / "proc/mounts"))
    if "ro" in options:
        what = "the root is mounted read-only: nothing is kept there."
        mend = "sudo mount -o remount,rw /  # until the next start, if it is not meant to be so"
        findings.append(Finding("disk", "read-only", "note", what, mend))
    if re.search(r"\b(boot=overlay|overlayroot=)", read_text(root / "proc/cmdline")):
        what = "the root is an overlay in memory: what is written is gone after a restart."
        findings.append(Finding("disk", "overlay", "note", what))
    return findings


def _root_options(mounts: str) -> list[str]:
    """The options of what is mounted on /; the last line counts."""
    options: list[str] = []
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[1] == "/":
            options = fields[3].split(",")
    return options


def clock(root: Path, now: datetime, synchronised: bool | None) -> list[Finding]:
    """Looks at the clock.

    Args:
        root: the folder that holds dev, proc and run.
        now: the time it shows, with its time zone.
        synchronised: whether the kernel says that something keeps it right; None if unknown.
    """
    rtc = any((root / "dev").glob("rtc*"))
    follows = bool(synchronised) or (root / "run/systemd/timesync/synchronized").exists()
    shown = now.isoformat(sep=" ", timespec="seconds")
    data = {"time": now.isoformat(timespec="seconds"), "synchronised": follows, "rtc": rtc}
    set_ntp = (
        "sudo timedatectl set-ntp true"
        if _has_systemd(root)
        else "sudo apt-get install chrony  # or whatever keeps the clock of this system right"
    )
    if now.year < WRITTEN_IN:
        what = f"{shown} is in the past: this program is newer."
        return [Finding("clock", "time", "problem", what, set_ntp, data)]
    zone = f" ({now.tzname()})" if now.tzname() else ""
    findings = [Finding("clock", "time", "ok", f"{shown}{zone}", data=data)]
    if follows:
        findings.append(Finding("clock", "synchronised", "ok", "with a time server"))
    elif is_raspberry_pi(root) and not rtc:
        what = "no, and this Raspberry Pi has no clock of its own: after a restart it is wrong."
        findings.append(Finding("clock", "synchronised", "problem", what, set_ntp))
    else:
        what = "no, as far as the kernel knows."
        findings.append(Finding("clock", "synchronised", "note", what, set_ntp))
    if not rtc and (root / "proc/device-tree").exists():  # elsewhere it is a virtual machine
        what = "no battery-backed clock (/dev/rtc0): the time is wrong until it is synchronised."
        findings.append(Finding("clock", "rtc", "note", what))
    return findings


def services(root: Path) -> list[Finding]:
    """Looks for systemd, which would start edgelstm with the machine."""
    data = {"systemd": _has_systemd(root)}
    if data["systemd"]:
        return [Finding("machine", "systemd", "ok", "it runs", data=data)]
    what = "it does not run here: something else must start edgelstm with the machine."
    return [Finding("machine", "systemd", "note", what, data=data)]


def _has_systemd(root: Path) -> bool:
    return (root / "run/systemd/system").is_dir()
