"""`plan_release`: what a device gets, from what is wanted and what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from edgelstm.diagnosis.finding import Finding
from edgelstm.errors import ConfigurationError, DeploymentError, EdgelstmError
from edgelstm.keys import PublicKey
from edgelstm.signing import TrustedKeys, signed_by
from edgelstm_devices.bundle import Bundle, assemble
from edgelstm_devices.preflight import (
    Wanted,
    choose_profile,
    choose_python,
    choose_runtime,
    find_port,
    match_port,
    preflight,
)
from edgelstm_devices.profiles import Profile, find_profile, load_profiles
from edgelstm_devices.release import Mode
from edgelstm_devices.runtime_bundle import make_runtime
from edgelstm_devices.runtimes import Runtime
from edgelstm_devices.shipment import (
    CONFIGURATION,
    Options,
    Shipment,
    check_service,
    read_shipment,
    service_name,
)
from edgelstm_devices.unit import port_classes, render_unit
from edgelstm_devices.wheel_names import Target
from edgelstm_devices.wheelhouse import Progress

# A runtime of ai-edge-litert with its packages took 160 MB, and its wheels 45 MB.
_NEEDED_BYTES = 250_000_000
_SERIAL_GROUP = "dialout"
_CORAL_GROUP = "plugdev"


@dataclass(frozen=True)
class Choice:
    """What is wanted of a device.

    Attributes:
        source: a run configuration, which ends in .toml, or an artifact.
        service: its name; that of the file unless told.
        mode: of the installation.
        options: what the configuration of an artifact says; its port is None for the one that is
            plugged in.
        profile: of the device, a name or a file; "" to recognise it.
        offline: whether all wheels are sent.
        extras: more packages, see `runtime_bundle.make_runtime`.
        expect_readings: whether readings must come for it to be proved.

    Raises:
        ConfigurationError: no service can be called so.
    """

    source: Path
    service: str = ""
    mode: Mode = "system"
    options: Options = field(default_factory=Options)
    profile: str = ""
    offline: bool = False
    extras: tuple[str, ...] = ()
    expect_readings: bool = True

    def __post_init__(self) -> None:
        """Names the service."""
        if not self.service:
            object.__setattr__(self, "service", service_name(self.source))
        check_service(self.service)

    @property
    def port(self) -> str | None:
        """Where the readings come from, if it was said."""
        return self.options.port


@dataclass(frozen=True)
class ReleasePlan:
    """What a device gets.

    Attributes:
        findings: of the preflight.
        profile: of the device; None when there is none for it.
        runtime: that steps the models; likewise.
        shipment: the configuration and its artifacts; None when the port could not be told.
        groups: whose members may open the devices that the service needs.
        bundle: the release with its files; None when there is a problem.
    """

    findings: Sequence[Finding]
    profile: Profile | None = None
    runtime: Runtime | None = None
    shipment: Shipment | None = None
    groups: tuple[str, ...] = ()
    bundle: Bundle | None = None

    @property
    def problems(self) -> list[Finding]:
        """What keeps the device from getting it."""
        return [one for one in self.findings if one.level == "problem"]

    def models(self) -> list[Path]:
        """Where the artifacts are here."""
        return [self.shipment.files[name] for name in self.shipment.models] if self.shipment else []

    @property
    def ready(self) -> Bundle:
        """The release.

        Raises:
            DeploymentError: the device has problems.
        """
        if self.bundle is None:
            problems = "; ".join(f"{one.name}: {one.what.rstrip('.')}" for one in self.problems)
            raise DeploymentError(f"The device is not fit: {problems}.")
        return self.bundle


def plan_release(
    facts: Mapping[str, Any],
    choice: Choice,
    *,
    cache: Path,
    now: datetime,
    by: str,
    asked: tuple[float, float] | None = None,
    progress: Progress = lambda _line: None,
) -> ReleasePlan:
    """Judges a device, and puts together what it gets if nothing is wrong with it.

    Args:
        facts: as the agent's `facts` gives them for the mode, the service and the port.
        choice: what is wanted.
        cache: of wheels on this computer.
        now: with a time zone.
        by: who plans it.
        asked: as in `Wanted`.
        progress: takes a line for each wheel that is downloaded.

    Raises:
        EdgelstmError: something is wrong with what is to be deployed, or wheels are not to be had.
    """
    profile = _profile(facts, choice)
    options, no_port = _options(facts, choice)
    shipment = None
    if not no_port:
        shipment = read_shipment(choice.source, choice.service, mode=choice.mode, options=options)
    models = shipment.models if shipment else {}
    lowest = {name: model.manifest.runtimes for name, model in models.items()}
    runtime = choose_runtime(facts, profile, lowest, choice.mode) if profile else None
    wanted = Wanted(
        mode=choice.mode,
        service=choice.service,
        profile=profile,
        runtime=runtime,
        artifacts=lowest,
        unsigned=tuple(filter(lambda name: not _signed(shipment, name), models)),
        ports=shipment.ports if shipment else (),
        offline=choice.offline,
        needed=_NEEDED_BYTES,
        expect_readings=choice.expect_readings,
        asked=asked,
    )
    findings = [*preflight(facts, wanted), *no_port]
    plan = ReleasePlan(findings, profile, runtime, shipment)
    if plan.problems or runtime is None or shipment is None:
        return plan
    python = choose_python(facts, runtime, choice.mode)
    made = make_runtime(
        runtime,
        Target(python["version"], python["architecture"], python["libc"]["version"]),
        cache,
        offline=choice.offline,
        extras=choice.extras,
        progress=progress,
    )
    coral = bool(shipment.delegates)
    bundle = assemble(
        shipment,
        made,
        service=choice.service,
        unit=_unit(facts, choice, shipment, coral=coral),
        cache=cache,
        now=now,
        by=by,
        expect_readings=choice.expect_readings,
    )
    return replace(plan, bundle=bundle, groups=_groups(facts, shipment, coral=coral))


def keys_for_device(files: Sequence[Path]) -> TrustedKeys:
    """The public keys in some files, which a device is to trust.

    Raises:
        SignatureError: a file is no public key.
        ConfigurationError: two would have one name there.
    """
    names: dict[str, PublicKey] = {}
    for path in files:
        key = PublicKey.read(path)
        if names.setdefault(path.name.removesuffix(".pem"), key) != key:
            raise ConfigurationError(
                f"Two keys are called {path.name}, and on the device each has its name; rename one."
            )
    return TrustedKeys.of(files)


def _profile(facts: Mapping[str, Any], choice: Choice) -> Profile | None:
    if choice.profile:
        return find_profile(choice.profile)
    try:
        return choose_profile(facts, load_profiles())
    except DeploymentError:  # the preflight has more to say of such a device
        return None


def _options(facts: Mapping[str, Any], choice: Choice) -> tuple[Options, list[Finding]]:
    """With the port, for an artifact; what is wrong, when there is none to be had."""
    if choice.source.suffix == CONFIGURATION:
        return choice.options, []
    try:
        return replace(choice.options, port=find_port(facts, choice.port)), []
    except EdgelstmError as error:
        if choice.port is not None:  # the preflight says what is wrong with it
            return choice.options, []
        what, mend = str(error), "ls -l /dev/serial/by-id"
        if facts.get("ports") is None:
            what = "which there are could not be found out in time; try again, or give --port."
        return choice.options, [Finding("ports", "serial port", "problem", what, mend)]


def _signed(shipment: Shipment | None, name: str) -> bool:
    return shipment is not None and signed_by(shipment.files[name].read_bytes()) is not None


def _unit(facts: Mapping[str, Any], choice: Choice, shipment: Shipment, *, coral: bool) -> str:
    classes: list[str] = []
    for port in shipment.ports:
        entry = match_port(facts, port)
        classes += port_classes(port, entry["class"] or "" if entry else "")
    version = (facts.get("systemd") or {}).get("version") or 0
    return render_unit(choice.service, choice.mode, classes, coral=coral, systemd=version)


def _groups(facts: Mapping[str, Any], shipment: Shipment, *, coral: bool) -> tuple[str, ...]:
    found = [_SERIAL_GROUP, *([_CORAL_GROUP] if coral else [])]
    for port in shipment.ports:
        entry = match_port(facts, port)
        if entry and entry["group"] and entry["group"] != "root":
            found.append(entry["group"])
    return tuple(dict.fromkeys(found))
