"""Judges the disks: room, and whether what is written stays and may be run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgelstm.diagnosis.finding import Finding
from edgelstm_devices.preflight.software import is_debian
from edgelstm_devices.preflight.wanted import Wanted

SECTION = "disk"
_MB = 1_000_000
# What has to stay free beside what is sent: a journal, the outbox, updates of the system.
LEAST_FREE_MB = {"installation": 50, "state": 50, "units": 1, "temporary": 20}
LEAST_INODES = 10_000  # a runtime with its packages is some 5,000 files
_IN_MEMORY = ("tmpfs", "ramfs")
_IMMUTABLE = ("squashfs", "erofs", "iso9660")


def judge(facts: Mapping[str, Any], wanted: Wanted) -> Iterator[Finding]:
    """What the disks are like; what is wrong with one is told once."""
    told: set[tuple[str, str]] = set()
    for disk in facts.get("disk") or []:
        findings = list(_disk(disk, facts, wanted))
        for finding in findings:
            key = (finding.data["mount"], finding.data["wrong"])
            if key not in told:
                told.add(key)
                yield finding
    if facts.get("overlay"):
        what = "the root is an overlay in memory: what is deployed is gone after a restart."
        if (facts.get("model") or "").startswith("Raspberry Pi"):
            mend = "sudo raspi-config nonint do_overlayfs 1 && sudo reboot"
        else:
            mend = (
                "sudo overlayroot-chroot sed -i 's/^overlayroot=.*/overlayroot=\"\"/' "
                "/etc/overlayroot.conf && sudo reboot"
            )
        yield Finding(SECTION, "overlay", "problem", what, mend)


def _disk(disk: Mapping[str, Any], facts: Mapping[str, Any], wanted: Wanted) -> Iterator[Finding]:
    what, path, mount = disk["what"], disk["path"], disk["mount"]
    needed = LEAST_FREE_MB[what] * _MB + (wanted.needed if what == "installation" else 0)
    wrong = {}
    if "ro" in disk["options"]:
        wrong["read-only"] = (
            f"{mount} is mounted read-only.",
            "Use a system whose root can be written."
            if disk["kind"] in _IMMUTABLE
            else f"sudo mount -o remount,rw {mount}  # and for good in /etc/fstab",
        )
    if what == "installation" and "noexec" in disk["options"]:
        wrong["noexec"] = (
            f"{mount} is mounted with noexec: no Python could be started there.",
            f"sudo mount -o remount,exec {mount}  # and for good in /etc/fstab",
        )
    if disk["free"] < needed:
        wrong["room"] = (
            f"{disk['free'] // _MB:,} MB free; it needs {-(-needed // _MB):,} MB.",
            "sudo apt-get clean && sudo journalctl --vacuum-size=50M"
            if is_debian(facts)
            else f"sudo du -xhd2 {mount} | sort -h | tail  # and delete what is not needed",
        )
    if what == "installation" and disk["inodes"] is not None and disk["inodes"] < LEAST_INODES:
        wrong["inodes"] = (
            f"room for {disk['inodes']:,} more files; it needs {LEAST_INODES:,}.",
            f"sudo du --inodes -xd2 {mount} | sort -n | tail  # and delete what is not needed",
        )
    for name, (sentence, mend) in wrong.items():
        data = {**disk, "wrong": name}
        yield Finding(SECTION, path, "problem", sentence, mend, data)
    if what != "temporary" and disk["kind"] in _IN_MEMORY:
        sentence = f"{mount} is in memory: what is deployed there is gone after a restart."
        yield Finding(SECTION, path, "note", sentence, data={**disk, "wrong": "memory"})
    elif not wrong:
        yield Finding(SECTION, path, "ok", f"{disk['free'] // _MB:,} MB free",
                      data={**disk, "wrong": ""})  # fmt: skip
