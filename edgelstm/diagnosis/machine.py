"""The machine: its name, processor, memory, and what holds it back."""

from __future__ import annotations

import re
from pathlib import Path

from edgelstm.diagnosis.finding import Finding

SECTION = "machine"
LOW_MEMORY_MB = 64  # a session takes about 40 MB, most of it Python and numpy

# What the kernels of the TFLite runtimes look for, as /proc/cpuinfo spells it.
_FEATURES = (
    *("sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl"),
    *("avx512_vnni", "avx_vnni", "amx_int8"),
    *("neon", "vfpv4", "asimd", "asimddp", "i8mm", "fphp", "asimdhp", "bf16", "sve", "sve2"),
)
_64_BIT = ("aarch64", "arm64", "x86_64")
_THROTTLED_NOW, _THROTTLED_BEFORE = 0xF, 0xF0000  # of `vcgencmd get_throttled`
_UNDER_VOLTAGE, _UNDER_VOLTAGE_BEFORE = 0x1, 0x10000


def machine(
    root: Path, architecture: str, bits: int, cores: int, throttled: int | None = None
) -> list[Finding]:
    """Looks at the machine.

    Args:
        root: the folder that holds proc and sys.
        architecture: as `uname -m` prints it.
        bits: of this Python, 32 or 64.
        cores: that this process may use.
        throttled: the flags of a Raspberry Pi's `vcgencmd get_throttled`; None elsewhere.
    """
    cpuinfo = read_text(root / "proc/cpuinfo")
    findings = [_model(root), _architecture(architecture, bits), _cpu(cpuinfo, architecture, cores)]
    memory = _memory(read_text(root / "proc/meminfo"))
    if memory:
        findings.append(memory)
    if throttled is not None:
        findings.append(_throttling(throttled))
    return findings


def read_text(path: Path) -> str:
    """The text of a file of the kernel; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").replace("\0", " ").strip()
    except OSError:
        return ""


def is_raspberry_pi(root: Path) -> bool:
    """Whether the device tree says so."""
    return read_text(root / "proc/device-tree/model").startswith("Raspberry Pi")


def _model(root: Path) -> Finding:
    name = read_text(root / "proc/device-tree/model")
    if not name:
        dmi = root / "sys/class/dmi/id"
        parts = (read_text(dmi / "sys_vendor"), read_text(dmi / "product_name"))
        name = " ".join(part for part in parts if part)
    return Finding(SECTION, "model", "ok", name or "not named", data={"model": name or None})


def _architecture(architecture: str, bits: int) -> Finding:
    data = {"architecture": architecture, "bits": bits}
    if bits == 32 and architecture in _64_BIT:
        return Finding(
            SECTION,
            "architecture",
            "note",
            f"{architecture}, but this Python is 32-bit: the kernel is 64-bit and the system on it "
            "is not, so pip takes 32-bit packages, and ai-edge-litert has none.",
            "Install the 64-bit system (Raspberry Pi OS 64-bit) to have ai-edge-litert.",
            data,
        )
    return Finding(SECTION, "architecture", "ok", f"{architecture}, {bits}-bit Python", data=data)


def _cpu(cpuinfo: str, architecture: str, cores: int) -> Finding:
    fields: dict[str, str] = dict(re.findall(r"^([^:\n]*?)\s*:[ \t]*(.*)$", cpuinfo, re.M))
    present = set(fields.get("flags", fields.get("Features", "")).split())
    features = [name for name in _FEATURES if name in present]
    name = fields.get("model name", fields.get("Model", ""))
    data = {"cpu": name or None, "cores": cores, "features": features}
    what = ", ".join([*([name] if name else []), f"{cores} core{'s' * (cores != 1)}", *features])
    if present and architecture.startswith("arm") and not {"neon", "asimd"} & present:
        return Finding(
            SECTION,
            "cpu",
            "note",
            f"{what}; it has no NEON, which the TFLite runtimes are built for.",
            "Use a Raspberry Pi 2 or later, or a Zero 2.",
            data,
        )
    return Finding(SECTION, "cpu", "ok", what, data=data)


def _memory(meminfo: str) -> Finding | None:
    kilobytes = {name: int(n) for name, n in re.findall(r"^(\w+):\s*(\d+) kB", meminfo, re.M)}
    if "MemTotal" not in kilobytes:
        return None
    total = kilobytes["MemTotal"] // 1024
    available = kilobytes.get("MemAvailable", kilobytes.get("MemFree", 0)) // 1024
    data = {"total_mb": total, "available_mb": available}
    what = f"{total:,} MB, {available:,} MB available"
    if available < LOW_MEMORY_MB:
        mend = "Stop what takes the memory: ps aux --sort=-rss | head"
        return Finding(SECTION, "memory", "problem", what, mend, data)
    return Finding(SECTION, "memory", "ok", what, data=data)


def _throttling(flags: int) -> Finding:
    data = {"throttled": flags}
    if flags & _THROTTLED_NOW:
        volts = flags & _UNDER_VOLTAGE
        return Finding(
            SECTION,
            "throttling",
            "problem",
            "the supply voltage is too low, so the processor is slowed down."
            if volts
            else "the processor is slowed down because it is too hot.",
            "Use the power supply made for this Raspberry Pi and a short cable."
            if volts
            else "Give it a heat sink or a fan; see the temperature with: vcgencmd measure_temp",
            data,
        )
    if flags & _THROTTLED_BEFORE:
        why = "low supply voltage" if flags & _UNDER_VOLTAGE_BEFORE else "heat"
        what = f"the processor was slowed down since the start by {why}; it is not now."
        return Finding(SECTION, "throttling", "note", what, data=data)
    return Finding(SECTION, "throttling", "ok", "none since the start", data=data)
