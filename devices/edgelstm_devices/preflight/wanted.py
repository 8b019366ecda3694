"""`Wanted`: what is to be deployed, as far as a device has to fit it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgelstm_devices.profiles import Profile
from edgelstm_devices.release import Mode
from edgelstm_devices.runtimes import Runtime


@dataclass(frozen=True)
class Wanted:
    """What is to be deployed.

    Attributes:
        mode: of the installation.
        service: its name; "" where there is none yet.
        profile: of the device; None when it is not known.
        runtime: to be installed; None for the first of the profile that fits.
        artifacts: by file name, the lowest release of each runtime that computes it correctly, as
            its manifest has it; empty for a file of another tool, of which nothing is known.
        unsigned: file names of artifacts that nobody signed.
        ports: source URLs that the service reads; others than serial ports are let be.
        offline: whether the device needs no index of packages.
        needed: bytes that a release and its runtime take there.
        expect_readings: whether readings must come for the deployment to be proved.
        asked: when the facts were asked for and when they came, seconds since the epoch by the
            laptop's clock; None to not compare the clocks.
    """

    mode: Mode = "system"
    service: str = ""
    profile: Profile | None = None
    runtime: Runtime | None = None
    artifacts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unsigned: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    offline: bool = True
    needed: int = 0
    expect_readings: bool = True
    asked: tuple[float, float] | None = None
