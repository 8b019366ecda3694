"""Which profile, runtime and Python fit a device."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgelstm.errors import DeploymentError
from edgelstm_devices.profiles import Profile
from edgelstm_devices.release import Mode
from edgelstm_devices.runtimes import Runtime

# The unit has ProtectHome: what is in a home the service cannot start.
_HOMES = ("/home/", "/root/", "/run/user/")


def architecture_of(facts: Mapping[str, Any]) -> str:
    """The architecture that a device's Python takes wheels for."""
    python = facts.get("python")
    return str(python["architecture"] if python else facts.get("machine") or "unknown")


def choose_profile(facts: Mapping[str, Any], profiles: Mapping[str, Profile]) -> Profile:
    """The profile that is most like a device; of equals the first, as the user's own are.

    An accelerator that can be plugged in anywhere is not seen: its profile has to be asked for.

    Raises:
        DeploymentError: none is for its architecture.
    """
    model, architecture = facts.get("model") or "", architecture_of(facts)

    def likeness(profile: Profile) -> int:
        return profile.likeness(model, architecture)

    best = max(profiles.values(), key=likeness, default=None)
    if best is None or likeness(best) < 0:
        known = sorted({profile.architecture for profile in profiles.values()})
        raise DeploymentError(
            f"The device is {architecture}, and there are profiles for {', '.join(known)} only; "
            "use a device of one of these."
        )
    return best


def choose_runtime(
    facts: Mapping[str, Any],
    profile: Profile,
    artifacts: Mapping[str, Mapping[str, str]] | None = None,
    mode: Mode = "system",
) -> Runtime:
    """The first runtime of a profile that a device and the artifacts fit.

    Where none does it is the profile's first, and the preflight says what is wrong with it.

    Args:
        facts: of the device.
        profile: of the device.
        artifacts: as in `Wanted`.
        mode: of the installation.
    """
    for runtime in profile.runtimes:
        fits = any(not why_not(python, runtime, mode) for python in facts.get("pythons") or [])
        if fits and all(computes(runtime, lowest) for lowest in (artifacts or {}).values()):
            return runtime
    return profile.runtimes[0]


def choose_python(
    facts: Mapping[str, Any], runtime: Runtime, mode: Mode = "system"
) -> Mapping[str, Any]:
    """The best Python of a device for a runtime: the system's before others, then the newest.

    Raises:
        DeploymentError: none is fit for it.
    """
    if facts.get("pythons") is None:
        raise DeploymentError(
            "Which Pythons the device has could not be found out in time; try again when it is "
            "less busy."
        )
    fitting = [p for p in facts["pythons"] if not why_not(p, runtime, mode)]
    if not fitting:
        raise DeploymentError(
            f"No Python of the device is fit for {runtime.package}; "
            "see what is wrong with: edgelstm deploy --check."
        )
    return max(fitting, key=_goodness)


def _goodness(python: Mapping[str, Any]) -> tuple[bool, tuple[int, ...]]:
    version = tuple(int(number) for number in re.findall(r"\d+", python["version"])[:3])
    return python["executable"].startswith("/usr/bin/"), version


def why_not(python: Mapping[str, Any], runtime: Runtime, mode: Mode) -> str:
    """Why a Python cannot be used, as what follows "it"; "" if it can.

    Args:
        python: an entry of the fact `pythons`.
        runtime: that it is for.
        mode: of the installation.
    """
    libc = python["libc"]
    if python["architecture"] != runtime.architecture:
        return f"is for {python['architecture']}"
    if libc["name"] == "musl":
        return "is of a system with musl, for which no runtime has packages"
    if libc["version"] and libc["name"] == "glibc" and not runtime.takes_glibc(libc["version"]):
        return f"has glibc {libc['version']}, and {runtime.package} needs {runtime.glibc}"
    if python["implementation"] != "CPython" or python["threaded"]:
        kind = "free-threaded" if python["threaded"] else python["implementation"]
        return f"is {kind}, for which {runtime.package} has no packages"
    if not runtime.takes_python(python["version"]):
        return f"is not {runtime.python}"
    if mode == "system" and python["executable"].startswith(_HOMES):
        return "is in a home, where a service of the system cannot look"
    if python["missing"]:
        return f"lacks {', '.join(python['missing'])} of the standard library"
    return ""


def computes(runtime: Runtime, lowest: Mapping[str, str]) -> bool:
    """Whether a runtime computes an artifact correctly; unknown ones are given a chance.

    Args:
        runtime: its release is that which will be installed.
        lowest: of the artifact's manifest: the lowest release of each package.
    """
    return not lowest or (
        runtime.package in lowest and release(runtime.version) >= release(lowest[runtime.package])
    )


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, to compare it by."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
