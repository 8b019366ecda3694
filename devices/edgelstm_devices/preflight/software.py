"""Judges Python, the C and C++ libraries, and which runtime fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgelstm.diagnosis.finding import Finding
from edgelstm_devices.preflight.fitting import choose_python, choose_runtime, computes, why_not
from edgelstm_devices.preflight.wanted import Wanted
from edgelstm_devices.runtimes import Runtime

SECTION = "python"
_AGAIN = "uptime  # and try again when it is less busy"
_DEBIANS = ("debian", "raspbian", "ubuntu")
_MODULES_PACKAGE = "libpython{0}-stdlib python{0}-venv"
# Ubuntu 22.04 has 3.10 as its Python, and this beside it.
_UBUNTU_WITH_311 = "22.04"


def judge(facts: Mapping[str, Any], wanted: Wanted) -> Iterator[Finding]:
    """What the software is like."""
    runtime = wanted.runtime
    if runtime is None and wanted.profile:
        runtime = choose_runtime(facts, wanted.profile, wanted.artifacts, wanted.mode)
    if runtime is not None:
        yield from _python(facts, runtime, wanted)
        yield from _artifacts(runtime, wanted)
    if facts.get("libstdcxx") is False:
        what = "libstdc++, which the runtimes need, is not installed."
        mend = (
            "sudo apt-get install libstdc++6" if is_debian(facts) else "sudo dnf install libstdc++"
        )
        yield Finding("runtime", "libstdc++", "problem", what, mend)
    yield from _index(facts.get("index"), wanted)
    yield from _coral(facts, wanted)


def is_debian(facts: Mapping[str, Any]) -> bool:
    """Whether it has Debian's packages."""
    system = facts.get("os") or {}
    names = [system.get("ID", ""), *system.get("ID_LIKE", "").split()]
    return any(name in _DEBIANS for name in names)


def _python(facts: Mapping[str, Any], runtime: Runtime, wanted: Wanted) -> Iterator[Finding]:
    pythons = facts.get("pythons")
    if pythons is None:
        what = "which there are could not be found out in time."
        yield Finding(SECTION, "python", "problem", what, _AGAIN, {"runtime": runtime.package})
        return
    reasons = {p["executable"]: why_not(p, runtime, wanted.mode) for p in pythons}
    data = {"pythons": reasons, "runtime": runtime.package}
    if any(not reason for reason in reasons.values()):
        chosen = choose_python(facts, runtime, wanted.mode)
        libc = chosen["libc"]
        what = f"{chosen['version']}, {chosen['executable']}"
        yield Finding(SECTION, "python", "ok", what, data=data)
        fit = f"{runtime.package} {runtime.version} fits ({runtime.architecture}, Python "
        fit += f"{runtime.python}, numpy {runtime.numpy}, {libc['name']} {libc['version']})"
        yield Finding("runtime", runtime.package, "ok", fit, data=data)
        return
    told = "; ".join(
        f"{p['executable']} ({p['version']}) {reasons[p['executable']]}" for p in pythons
    )
    what = f"none is fit for {runtime.package}: {told or 'there is no Python 3'}."
    yield Finding(SECTION, "python", "problem", what, _mend_python(facts, runtime), data)


def _mend_python(facts: Mapping[str, Any], runtime: Runtime) -> str:
    pythons = facts.get("pythons") or []
    system = facts.get("os") or {}
    debian = is_debian(facts)
    for python in pythons:  # what lacks only a part of itself is mended soonest
        version = ".".join(python["version"].split(".")[:2])
        whole = {**python, "missing": []}
        if python["missing"] and not why_not(whole, runtime, "user") and debian:
            return f"sudo apt-get install {_MODULES_PACKAGE.format(version)}"
    if any(not why_not(python, runtime, "user") for python in pythons):
        return "Deploy with --user, or install that Python for the whole machine, in /usr/local."
    if any(python["libc"]["name"] == "musl" for python in pythons):
        return "Use a system with glibc, such as Raspberry Pi OS Lite or Debian 12."
    if all(python["architecture"] != runtime.architecture for python in pythons) and pythons:
        return f"Choose a profile for {pythons[0]['architecture']}: edgelstm devices"
    if (system.get("ID"), system.get("VERSION_ID")) == ("ubuntu", _UBUNTU_WITH_311):
        return "sudo apt-get install python3.11 python3.11-venv"
    if debian and not pythons:
        return "sudo apt-get install python3 python3-venv"
    if runtime.takes_python("3.13"):
        return "Write Raspberry Pi OS 12 (bookworm) or later to its card, or Ubuntu 24.04."
    return (
        "Write Raspberry Pi OS 12 (bookworm) to its card, which has Python 3.11; or the 64-bit "
        "system, for which ai-edge-litert has packages."
    )


def _artifacts(runtime: Runtime, wanted: Wanted) -> Iterator[Finding]:
    for name, lowest in wanted.artifacts.items():
        data = {"runtimes": dict(lowest), "runtime": runtime.package, "version": runtime.version}
        if not lowest:
            what = f"nothing is known of how {runtime.package} computes it."
            yield Finding("runtime", name, "note", what, "edgelstm doctor FILE", data)
        elif not computes(runtime, lowest):
            other = ", ".join(f"{package} {version}" for package, version in lowest.items())
            what = (
                f"{runtime.package} {runtime.version}, which is for this device, does not compute "
                f"it correctly (but {other} and later)."
            )
            mend = f"Convert it for that: edgelstm quantize MODEL --runtime {runtime.package}"
            yield Finding("runtime", name, "problem", what, mend, data)
        else:
            yield Finding("runtime", name, "ok", f"{runtime.package} computes it", data=data)


def _index(index: Mapping[str, Any] | None, wanted: Wanted) -> Iterator[Finding]:
    if wanted.offline:
        return
    if index is None:
        yield Finding("network", "index", "note", "nobody answered in time.", "Use --offline.")
    elif not index["reachable"]:
        what = f"the device cannot reach {index['host']}, from which pip would install: "
        mend = "Deploy with --offline: then everything comes from here."
        reason = str(index["reason"]).rstrip(".")
        yield Finding("network", "index", "problem", f"{what}{reason}.", mend, index)
    else:
        yield Finding("network", "index", "ok", f"{index['host']} answers", data=index)


def _coral(facts: Mapping[str, Any], wanted: Wanted) -> Iterator[Finding]:
    coral = facts.get("coral")
    if coral is None or wanted.profile is None or wanted.profile.accelerator != "edgetpu":
        return
    if not coral["usb"] and not coral["pci"]:
        what = "none is there, and the profile has one; models would run on the CPU."
        mend = "lsusb; ls /dev/apex_*  # and plug it in"
        yield Finding("edge tpu", "edge tpu", "note", what, mend, coral)
    else:
        yield Finding("edge tpu", "edge tpu", "ok", "it is there", data=coral)
    if not coral["library"]:
        what = "libedgetpu.so.1, which the runtimes need to use it, is not installed."
        mend = (
            "sudo apt-get install libedgetpu1-std"
            "  # from Coral's repository: https://coral.ai/docs/accelerator/get-started"
        )
        yield Finding("edge tpu", "library", "problem", what, mend, coral)
