"""Judges the machine: its system, architecture, model and memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgelstm.diagnosis.finding import Finding
from edgelstm_devices.preflight.fitting import architecture_of
from edgelstm_devices.preflight.wanted import Wanted
from edgelstm_devices.runtimes import ARCHITECTURES

SECTION = "machine"
LOW_MEMORY_MB = 64  # as the doctor has it: a session takes about 40 MB

_UNDER_VOLTAGE, _SLOWED = 0x1, 0xF  # of the firmware's flags, for now


def judge(facts: Mapping[str, Any], wanted: Wanted) -> Iterator[Finding]:
    """What the machine is like."""
    system = facts.get("os") or {}
    name = system.get("PRETTY_NAME") or system.get("NAME") or "of unknown name"
    yield Finding(SECTION, "system", "ok", f"{name}, Linux {facts.get('kernel')}", data=system)
    yield _architecture(facts, wanted)
    yield from _model(facts, wanted)
    yield from _memory(facts.get("memory"))
    yield from _throttling(facts.get("throttled") or 0)


def _architecture(facts: Mapping[str, Any], wanted: Wanted) -> Finding:
    kernel, python = facts.get("machine"), architecture_of(facts)
    data = {"kernel": kernel, "python": python}
    profile, runtime = wanted.profile, wanted.runtime
    asked = runtime.architecture if runtime else profile.architecture if profile else python
    if python not in ARCHITECTURES:
        what = f"{python}: no TFLite runtime has packages for it."
        mend = (
            "Use a Raspberry Pi 3 or later, or a Zero 2 W."
            if python.startswith("arm")
            else f"Use a device with Python for {', '.join(ARCHITECTURES)}."
        )
        return Finding(SECTION, "architecture", "problem", what, mend, data)
    if python != asked:
        said = f"the profile {profile.name}" if profile else "the runtime"
        what = f"Python is for {python}, and {said} is for {asked}."
        mend = (
            "Write the 64-bit system (Raspberry Pi OS Lite 64-bit) to its card, or choose a "
            "profile for 32 bit: edgelstm devices"
            if (python, asked) == ("armv7l", "aarch64")
            else f"Choose a profile for {python}: edgelstm devices"
        )
        return Finding(SECTION, "architecture", "problem", what, mend, data)
    if kernel in ("aarch64", "x86_64") and python != kernel:
        what = f"a 32-bit system on a 64-bit kernel: Python is for {python}."
        return Finding(SECTION, "architecture", "note", what, data=data)
    return Finding(SECTION, "architecture", "ok", python, data=data)


def _model(facts: Mapping[str, Any], wanted: Wanted) -> Iterator[Finding]:
    model, profile = facts.get("model"), wanted.profile
    data = {"model": model, "profile": profile.name if profile else None}
    if profile and profile.models and model and not model.startswith(profile.models):
        what = f"{model}, which is not what the profile {profile.name} is of."
        mend = "See what there is: edgelstm devices"
        yield Finding(SECTION, "model", "note", what, mend, data)
        return
    said = model or "not named"
    yield Finding(
        SECTION, "model", "ok", f"{said}, profile {profile.name}" if profile else said, data=data
    )


def _memory(memory: Mapping[str, int] | None) -> Iterator[Finding]:
    if memory is None:
        return
    total, available = memory["total"] >> 20, memory["available"] >> 20
    what = f"{total:,} MB, {available:,} MB available"
    data = {"total_mb": total, "available_mb": available}
    if available < LOW_MEMORY_MB:
        mend = "ps aux --sort=-rss | head  # and stop what takes the memory"
        yield Finding(SECTION, "memory", "problem", f"{what}; it needs {LOW_MEMORY_MB} MB.", mend,
                      data)  # fmt: skip
    else:
        yield Finding(SECTION, "memory", "ok", what, data=data)


def _throttling(flags: int) -> Iterator[Finding]:
    data = {"throttled": flags}
    if flags & _UNDER_VOLTAGE:
        what = "the supply voltage is too low; the device may stop at any time."
        mend = "Use the power supply made for this Raspberry Pi and a short cable."
        yield Finding(SECTION, "power", "note", what, mend, data)
    elif flags & _SLOWED:
        what = "the processor is slowed down because it is too hot."
        mend = "vcgencmd measure_temp  # and give it a heat sink or a fan"
        yield Finding(SECTION, "heat", "note", what, mend, data)
