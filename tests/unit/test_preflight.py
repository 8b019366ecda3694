from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from edgelstm.diagnosis.finding import Finding
from edgelstm.errors import DeploymentError
from edgelstm_devices.preflight import (
    Wanted,
    choose_profile,
    choose_python,
    choose_runtime,
    preflight,
)
from edgelstm_devices.preflight.fitting import computes, why_not
from edgelstm_devices.preflight.timing import difference
from edgelstm_devices.profiles import Profile, find_profile, load_profiles

Facts = dict[str, Any]
Change = Callable[[Facts], object]
NOW = 1_795_240_000.0
TEMPORARY = "/tmp"  # noqa: S108  # it is only named


def python(version: str = "3.11.2", **more: Any) -> dict[str, Any]:
    return {
        "executable": f"/usr/bin/python{version.rpartition('.')[0]}",
        "version": version,
        "implementation": "CPython",
        "bits": 64,
        "architecture": "aarch64",
        "threaded": False,
        "libc": {"name": "glibc", "version": "2.36"},
        "missing": [],
        **more,
    }


def a_disk(what: str, path: str, **more: Any) -> dict[str, Any]:
    return {
        "what": what, "path": path, "mount": "/", "kind": "ext4", "options": ["rw", "noatime"],
        "free": 20_000_000_000, "total": 30_000_000_000, "inodes": 1_000_000, **more,
    }  # fmt: skip


def a_port(device: str, **more: Any) -> dict[str, Any]:
    return {
        "device": device, "names": [], "usb": None, "console": False, "in_use_by": None,
        "class": "ttyACM", "group": "dialout", "mode": "0660", "readable": True, "writable": True,
        **more,
    }  # fmt: skip


def pi4() -> Facts:
    """The facts of a Raspberry Pi 4 with an Arduino, of which nothing is wrong."""
    usb = {
        "vendor": "2341", "product": "0043", "serial": "75830", "manufacturer": "Arduino",
        "description": "Uno",
    }  # fmt: skip
    return {
        "time": NOW,
        "seconds": 0.5,
        "mode": "system",
        "kernel": "6.12.47",
        "machine": "aarch64",
        "os": {
            "ID": "debian",
            "VERSION_ID": "12",
            "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)",
        },
        "model": "Raspberry Pi 4 Model B Rev 1.4",
        "python": python(),
        "pythons": [python()],
        "libc": {"name": "glibc", "version": "2.36"},
        "libstdcxx": True,
        "memory": {"total": 3792 << 20, "available": 3320 << 20},
        "cores": 4,
        "throttled": 0,
        "disk": [
            a_disk("installation", "/opt/edgelstm"),
            a_disk("state", "/var/lib"),
            a_disk("units", "/etc/systemd/system"),
            a_disk("temporary", TEMPORARY),
        ],
        "overlay": False,
        "clock": {"synchronised": True, "ntp": True, "rtc": False},
        "timezone": "Europe/Berlin",
        "user": {
            "name": "pi",
            "uid": 1000,
            "home": "/home/pi",
            "groups": ["dialout", "pi"],
            "future_groups": ["dialout", "pi"],
            "manager_groups": ["dialout", "pi"],
            "linger": True,
        },
        "sudo": "passwordless",
        "service_user": {"exists": False, "groups": [], "port_group": True},
        "systemd": {
            "running": True,
            "version": 252,
            "state": "running",
            "silent": False,
            "user_version": 252,
            "user_state": "running",
            "user_silent": False,
        },
        "ports": [
            a_port(
                "/dev/ttyACM0",
                names=["/dev/serial/by-id/usb-Arduino_Uno_75830-if00"],
                usb=usb,
            ),
            a_port("/dev/ttyAMA0", names=["/dev/serial0"], **{"class": "ttyAMA"}),
        ],
        "meddlers": [],
        "installation": {
            "root": "/opt/edgelstm",
            "services": [],
            "unit": None,
            "made": False,
            "state": "inactive",
            "drop_ins": [],
        },
        "trusted": [],
        "coral": {"usb": 0, "pci": 0, "library": None},
        "index": {"host": "pypi.org", "reachable": True, "reason": ""},
    }


WANTED = Wanted(
    service="pump",
    profile=find_profile("pi4"),
    artifacts={"pump.tflite": {"ai-edge-litert": "2.1.3", "tflite-runtime": "2.14.0"}},
    ports=("/dev/ttyACM0",),
    needed=120_000_000,
    asked=(NOW - 0.1, NOW + 0.6),
)
USER = replace(WANTED, mode="user")
ONLINE = replace(WANTED, offline=False)
ARMV7 = replace(WANTED, profile=find_profile("pi-32bit"))
LITERT = find_profile("pi4").runtimes[0]
CORAL = replace(WANTED, profile=find_profile("coral-usb"))


def put(path: str, value: object) -> Change:
    """Changes a fact, such as "memory.available" or "disk.0.free"."""

    def change(facts: Facts) -> None:
        *way, last = (int(part) if part.isdigit() else part for part in path.split("."))
        place: Any = facts
        for part in way:
            place = place[part]
        place[last] = value

    return change


def every_disk(name: str, value: object) -> Change:
    return lambda facts: [disk.__setitem__(name, value) for disk in facts["disk"]]


def pythons(*found: dict[str, Any]) -> Change:
    return lambda facts: facts.update(pythons=list(found), python=found[0] if found else None)


def both(*changes: Change) -> Change:
    return lambda facts: [change(facts) for change in changes]


def replace_profile(profile: Profile, **fields: Any) -> Profile:
    """A profile with other fields, also with those that a profile finds itself."""
    changed = copy.copy(profile)
    for name, value in fields.items():
        object.__setattr__(changed, name, value)
    return changed


def levels(findings: list[Finding]) -> dict[str, str]:
    return {f.name: f.level for f in findings if f.level != "ok"}


def named(findings: list[Finding], name: str) -> Finding:
    [found] = [finding for finding in findings if finding.name == name]
    return found


@pytest.mark.parametrize(
    "wanted",
    [
        WANTED,
        USER,
        ONLINE,
        replace(WANTED, profile=None, runtime=LITERT),
        replace(WANTED, service="", ports=(), asked=None),
        replace(WANTED, ports=("mqtt://broker/pump",)),
    ],
    ids=["system", "user", "online", "runtime", "bare", "mqtt"],
)
def test_nothing_is_wrong_with_a_device_that_is_as_it_should_be(wanted: Wanted) -> None:
    assert levels(preflight(pi4(), wanted)) == {}


def test_a_32_bit_pi_with_a_64_bit_kernel_is_told_and_fit() -> None:
    facts = pi4()
    pythons(python(architecture="armv7l", bits=32))(facts)
    found = preflight(facts, ARMV7)
    assert levels(found) == {"architecture": "note"}
    assert "tflite-runtime" in named(found, "tflite-runtime").what


UNIT = "/etc/systemd/system/edgelstm@pump.service"
OTHER_UNIT = "/usr/local/lib/systemd/system/edgelstm@.service"
DEPLOYED = {"name": "pump", "current": "r1", "releases": ["r1"], "trial": False}
OLD = python("3.9.2")

# What is changed, what is wanted, and the one finding that it must give.
CASES: dict[str, tuple[Change, Wanted, str, str, str, str]] = {
    # The machine
    "armv6": (
        both(pythons(python(architecture="armv6l")), put("machine", "armv6l")),
        replace(WANTED, profile=None),
        "architecture", "problem", "armv6l", "Zero 2 W",
    ),
    "an architecture without packages": (
        both(pythons(python(architecture="riscv64")), put("machine", "riscv64")),
        replace(WANTED, profile=None),
        "architecture", "problem", "riscv64: no TFLite runtime", "aarch64, armv7l, x86_64",
    ),
    "another model": (
        put("model", "Raspberry Pi 3 Model B"), WANTED, "model", "note", "pi4", "edgelstm devices",
    ),
    "memory": (
        put("memory.available", 60 << 20), WANTED, "memory", "problem", "60 MB available", "ps aux",
    ),
    "voltage": (put("throttled", 0x50005), WANTED, "power", "note", "voltage", "power supply"),
    "heat": (put("throttled", 0x8), WANTED, "heat", "note", "too hot", "measure_temp"),
    # Python and what is installed with it
    "no python": (
        pythons(), replace(WANTED, profile=None, runtime=LITERT),
        "python", "problem", "there is no Python 3", "sudo apt-get install python3 python3-venv",
    ),
    "too slow for its pythons": (
        put("pythons", None), WANTED, "python", "problem", "could not be found out", "try again",
    ),
    "old python": (
        pythons(OLD), WANTED, "python", "problem", "/usr/bin/python3.9 (3.9.2) is not >=3.11",
        "Raspberry Pi OS 12",
    ),
    "old python of Ubuntu": (
        both(pythons(python("3.10.12")), put("os", {"ID": "ubuntu", "VERSION_ID": "22.04"})),
        WANTED, "python", "problem", "3.10.12",
        "sudo apt-get install python3.11 python3.11-venv",
    ),
    "too new a python for 32 bit": (
        both(pythons(python("3.13.5", architecture="armv7l")), put("machine", "armv7l")), ARMV7,
        "python", "problem", "is not ==3.11", "64-bit",
    ),
    "python without sqlite3": (
        pythons(python(missing=["sqlite3", "venv"])), WANTED,
        "python", "problem", "lacks sqlite3, venv",
        "sudo apt-get install libpython3.11-stdlib python3.11-venv",
    ),
    "python in a home": (
        pythons(OLD, python(executable="/home/pi/.pyenv/versions/3.11.9/bin/python3.11")), WANTED,
        "python", "problem", "in a home", "--user",
    ),
    "pypy": (
        pythons(python(implementation="PyPy")), WANTED, "python", "problem", "is PyPy", "OS 12",
    ),
    "free-threaded": (
        pythons(python(threaded=True)), WANTED, "python", "problem", "free-threaded", "OS 12",
    ),
    "musl": (
        pythons(python(libc={"name": "musl", "version": None})), WANTED,
        "python", "problem", "musl", "glibc",
    ),
    "old glibc": (
        pythons(python(libc={"name": "glibc", "version": "2.24"})), WANTED,
        "python", "problem", f"glibc 2.24, and ai-edge-litert needs {LITERT.glibc}", "OS 12",
    ),
    "libstdc++": (
        put("libstdcxx", False), WANTED, "libstdc++", "problem", "not installed",
        "sudo apt-get install libstdc++6",
    ),
    "libstdc++ of Fedora": (
        both(put("libstdcxx", False), put("os", {"ID": "fedora"})), WANTED,
        "libstdc++", "problem", "not installed", "sudo dnf install libstdc++",
    ),
    # The artifacts
    "artifact of another tool": (
        lambda _: None, replace(WANTED, artifacts={"other.tflite": {}}),
        "other.tflite", "note", "nothing is known", "edgelstm doctor",
    ),
    "artifact for a newer runtime": (
        lambda _: None, replace(WANTED, artifacts={"new.tflite": {"ai-edge-litert": "99.1"}}),
        "new.tflite", "problem", "ai-edge-litert 99.1", "--runtime ai-edge-litert",
    ),
    "artifact for another runtime": (
        lambda _: None,
        replace(WANTED, runtime=LITERT, artifacts={"old.tflite": {"tflite-runtime": "2.14.0"}}),
        "old.tflite", "problem", "does not compute it correctly", "edgelstm quantize",
    ),
    "index": (
        put("index", {"host": "pypi.org", "reachable": False, "reason": "timed out"}), ONLINE,
        "index", "problem", "cannot reach pypi.org", "--offline",
    ),
    "slow index": (put("index", None), ONLINE, "index", "note", "nobody answered", "--offline"),
    # Edge TPUs
    "no edge tpu": (
        put("coral.library", "/usr/lib/libedgetpu.so.1"), CORAL,
        "edge tpu", "note", "run on the CPU", "lsusb",
    ),
    "no libedgetpu": (
        put("coral.usb", 1), CORAL, "library", "problem", "libedgetpu", "libedgetpu1-std",
    ),
    # Disks
    "room": (
        put("disk.0.free", 169_000_000), WANTED, "/opt/edgelstm", "problem",
        "169 MB free; it needs 170 MB", "sudo apt-get clean",
    ),
    "room of the state": (
        put("disk.1.free", 49_000_000), WANTED, "/var/lib", "problem", "49 MB", "vacuum-size",
    ),
    "room for temporary files": (
        both(put("disk.3.free", 1_000_000), put("disk.3.kind", "tmpfs"),
             put("disk.3.mount", TEMPORARY), put("os", {"ID": "arch"})), WANTED,
        TEMPORARY, "problem", "needs 20 MB", "sudo du -xhd2 /tmp",
    ),
    "inodes": (
        put("disk.0.inodes", 9_999), WANTED, "/opt/edgelstm", "problem", "9,999 more files",
        "--inodes",
    ),
    "read-only": (
        every_disk("options", ["ro", "noatime"]), WANTED, "/opt/edgelstm", "problem",
        "mounted read-only", "sudo mount -o remount,rw /  #",
    ),
    "immutable": (
        both(every_disk("options", ["ro"]), every_disk("kind", "squashfs")), WANTED,
        "/opt/edgelstm", "problem", "read-only", "can be written",
    ),
    "noexec": (
        both(put("disk.0.options", ["rw", "noexec"]), put("disk.0.mount", "/opt")), WANTED,
        "/opt/edgelstm", "problem", "noexec", "sudo mount -o remount,exec /opt",
    ),
    "in memory": (
        put("disk.0.kind", "tmpfs"), WANTED, "/opt/edgelstm", "note", "gone after a restart", "",
    ),
    "overlay of a Pi": (
        put("overlay", True), WANTED, "overlay", "problem", "gone after a restart",
        "sudo raspi-config nonint do_overlayfs 1 && sudo reboot",
    ),
    "overlay of Ubuntu": (
        both(put("overlay", True), put("model", None)), WANTED, "overlay", "problem",
        "gone after a restart", "overlayroot-chroot",
    ),
    # The clock
    "clock ahead": (
        put("time", NOW + 7200), WANTED, "time", "problem", "2 hours ahead of",
        "sudo date -u -s '2026-11-21 05:46:40'",
    ),
    "clock behind without a time server": (
        both(put("time", NOW - 400 * 86400), put("clock.ntp", False)), WANTED,
        "time", "problem", "400 days behind", "sudo timedatectl set-ntp true",
    ),
    "clock a little off": (
        put("time", NOW - 30), WANTED, "time", "note", "30 seconds behind", "sudo date",
    ),
    "not synchronised": (
        put("clock.synchronised", False), WANTED, "synchronised", "note", "no clock of its own", "",
    ),
    "synchronisation turned off": (
        both(put("clock.synchronised", False), put("clock.ntp", False)), WANTED,
        "synchronised", "note", "no", "sudo timedatectl set-ntp true",
    ),
    "synchronisation unknown": (
        both(put("clock", None), put("model", None)), WANTED, "synchronised", "note", "unknown", "",
    ),
    # Rights and systemd
    "no sudo": (
        put("sudo", "none"), WANTED, "sudo", "problem", "may not become root",
        "su -c 'usermod -aG sudo pi'",
    ),
    "sudo unknown": (put("sudo", None), WANTED, "sudo", "note", "does not answer", "sudo -v"),
    "no dialout": (
        put("service_user.port_group", False), WANTED, "dialout", "problem", "no group dialout",
        "sudo groupadd --system dialout",
    ),
    "no systemd": (
        put("systemd", {"running": False, "version": None, "state": None}), WANTED,
        "systemd", "problem", "does not run here", "Raspberry Pi OS",
    ),
    "silent systemd": (
        put("systemd.version", None), WANTED, "systemd", "problem", "does not answer", "systemctl",
    ),
    "old systemd": (
        put("systemd.version", 241), WANTED, "systemd", "problem", "241; before 247", "OS 12",
    ),
    "maintenance": (
        put("systemd.state", "maintenance"), WANTED, "systemd", "problem", "'maintenance'",
        "sudo systemctl default",
    ),
    "no systemd of the user": (
        put("systemd.user_version", None), USER, "user instance", "problem", "pi has no systemd",
        "libpam-systemd",
    ),
    "silent systemd of the user": (
        both(put("systemd.user_version", None), put("systemd.user_silent", True)), USER,
        "systemd", "problem", "could not be found out", "try again",
    ),
    "no linger": (
        put("user.linger", False), USER, "linger", "note", "end with the last login",
        "loginctl enable-linger pi",
    ),
    # What is there already
    "a unit by hand": (
        put("installation.unit", UNIT), WANTED, "edgelstm@pump", "problem", "no deployment made it",
        f"sudo systemctl disable --now edgelstm@pump && sudo mv {UNIT} {UNIT}.old",
    ),
    "a unit by hand of the user": (
        put("installation.unit", UNIT), USER, "edgelstm@pump", "problem", "no deployment made it",
        f"systemctl --user disable --now edgelstm@pump && mv {UNIT}",
    ),
    "a running template by hand": (
        both(put("installation.unit", OTHER_UNIT), put("installation.state", "active")), WANTED,
        "edgelstm@pump", "note", "is no longer used", "",
    ),
    "drop-ins": (
        put("installation.drop_ins", ["/etc/x.conf"]), WANTED, "drop-ins", "note", "/etc/x.conf",
        "systemctl cat edgelstm@pump",
    ),
    "a trial": (
        put("installation.services", [{**DEPLOYED, "trial": True}]), WANTED,
        "trial", "note", "on trial now", "edgelstm status",
    ),
    "unsigned": (
        put("trusted", ["works.pem"]), replace(WANTED, unsigned=("pump.tflite",)),
        "signatures", "problem", "works.pem, and nobody signed pump.tflite",
        "edgelstm sign pump.tflite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_thing_that_is_wrong_is_found_alone_with_what_mends_it(case: str) -> None:
    change, wanted, name, level, words, mend = CASES[case]
    facts = pi4()
    change(facts)
    findings = preflight(facts, wanted)
    found = named([f for f in findings if f.level != "ok"], name)
    assert found.level == level
    assert words in found.what
    assert mend in found.mend
    assert bool(found.mend) == bool(mend)
    assert levels(findings) == {name: level}


def test_every_problem_has_something_to_mend_it_and_a_sentence() -> None:
    for change, wanted, *_ in CASES.values():
        facts = pi4()
        change(facts)
        for finding in preflight(facts, wanted):
            if finding.level == "problem":
                assert finding.mend
                assert finding.what.endswith((".", ")"))
            assert not finding.what.endswith("..")


@pytest.mark.parametrize("fact", sorted(pi4()))
@pytest.mark.parametrize("wanted", [WANTED, USER, CORAL])
def test_a_fact_that_could_not_be_found_is_no_problem_by_itself(fact: str, wanted: Wanted) -> None:
    """But for Python and systemd, without which nothing can be deployed."""
    if fact in ("time", "seconds", "pythons", "python", "machine"):
        return
    facts = {**pi4(), fact: None}
    found = levels(preflight(facts, wanted))
    problems = {name for name, level in found.items() if level == "problem"}
    assert problems <= {fact, *(["library"] if wanted is CORAL else [])}


def test_the_same_disk_is_told_of_once() -> None:
    facts = pi4()
    every_disk("free", 1_000)(facts)
    assert [f.name for f in preflight(facts, WANTED) if f.level == "problem"] == ["/opt/edgelstm"]
    put("disk.1.mount", "/var")(facts)
    found = [f.name for f in preflight(facts, WANTED) if f.level == "problem"]
    assert found == ["/opt/edgelstm", "/var/lib"]


def test_inodes_that_are_used_up_are_no_missing_figure() -> None:
    facts = pi4()
    put("disk.0.inodes", 0)(facts)
    assert levels(preflight(facts, WANTED)) == {"/opt/edgelstm": "problem"}


def test_nothing_is_run_from_where_the_state_is() -> None:
    facts = pi4()
    put("disk.1.options", ["rw", "noexec"])(facts)
    put("disk.3.options", ["rw", "noexec"])(facts)
    assert levels(preflight(facts, WANTED)) == {}


def test_without_an_index_one_deploys_offline() -> None:
    facts = {**pi4(), "index": {"host": "pypi.org", "reachable": False, "reason": "no route"}}
    assert levels(preflight(facts, WANTED)) == {}


def test_a_btrfs_has_no_number_of_inodes() -> None:
    facts = pi4()
    every_disk("inodes", None)(facts)
    assert levels(preflight(facts, WANTED)) == {}


def test_another_profiles_architecture_is_a_problem_with_the_way_out() -> None:
    facts = pi4()
    pythons(python(architecture="armv7l", bits=32))(facts)
    found = named(preflight(facts, WANTED), "architecture")
    assert found.level == "problem"
    assert "armv7l" in found.what
    assert "64-bit" in found.mend
    facts = pi4()
    pythons(python(architecture="x86_64"))(facts)
    assert "x86_64" in named(preflight(facts, WANTED), "architecture").mend


def test_a_release_that_is_there_is_told() -> None:
    facts = pi4()
    facts["installation"].update(services=[DEPLOYED], unit=UNIT, made=True, state="active")
    found = preflight(facts, replace(WANTED, unsigned=()))
    assert levels(found) == {}
    assert "release r1 is there, active" in named(found, "edgelstm@pump").what


def test_signed_artifacts_pass_where_keys_are_trusted() -> None:
    facts = {**pi4(), "trusted": ["works.pem"]}
    assert named(preflight(facts, WANTED), "signatures").level == "ok"


def test_sudo_that_asks_or_is_not_needed_is_fine() -> None:
    for kind in ("root", "passwordless", "password"):
        assert levels(preflight({**pi4(), "sudo": kind}, WANTED)) == {}
    assert levels(preflight({**pi4(), "sudo": "none"}, USER)) == {}


# The clock


@pytest.mark.parametrize(
    ("device", "took", "asked", "ahead"),
    [
        (100.0, 1.0, (100.0, 101.0), 0.0),
        (105.0, 1.0, (100.0, 110.0), 0.0),  # the way took long, and nobody knows which
        (100.0, 1.0, (100.5, 102.0), -0.5),
        (100.0, 1.0, (98.0, 100.0), 1.0),
        (3700.0, 1.0, (100.0, 102.0), 3599.0),
        (0.0, 1.0, (100.0, 102.0), -100.0),
    ],
)
def test_the_clocks_differ_by_what_the_round_trip_cannot_explain(
    device: float, took: float, asked: tuple[float, float], ahead: float
) -> None:
    assert difference({"time": device, "seconds": took}, asked) == pytest.approx(ahead)


# What fits


@pytest.mark.parametrize(
    ("model", "architecture", "expected"),
    [
        ("Raspberry Pi 4 Model B Rev 1.4", "aarch64", "pi4"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "aarch64", "pi3"),
        ("Raspberry Pi 5 Model B Rev 1.0", "aarch64", "pi5"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "aarch64", "zero2w"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "armv7l", "zero2w-32bit"),
        ("Raspberry Pi 4 Model B Rev 1.4", "armv7l", "pi-32bit"),
        ("Orange Pi 5", "aarch64", "aarch64"),
        ("BeagleBone Black", "armv7l", "armv7"),
        (None, "x86_64", "x86-64"),
    ],
)
def test_the_profile_is_found_from_the_model(
    model: str | None, architecture: str, expected: str
) -> None:
    facts = {"model": model, "python": python(architecture=architecture)}
    assert choose_profile(facts, load_profiles({"HOME": "/nonexistent"})).name == expected


def test_the_first_of_equals_is_taken_as_the_users_own_is() -> None:
    profiles = load_profiles({"HOME": "/nonexistent"})
    own = replace_profile(profiles["pi4"], title="Our pump controller")
    facts = {"model": "Raspberry Pi 4 Model B", "python": python()}
    assert choose_profile(facts, {"own": own, **profiles}) is own


def test_no_profile_for_an_architecture_is_refused_in_a_sentence() -> None:
    with pytest.raises(DeploymentError, match="The device is riscv64, and there are profiles for"):
        choose_profile({"python": None, "machine": "riscv64"}, load_profiles())


def two_runtimes() -> Profile:
    """A profile whose second runtime is the older one."""
    older = replace(find_profile("pi-32bit").runtimes[0], architecture="aarch64")
    return replace_profile(find_profile("aarch64"), runtimes=(LITERT, older))


def test_the_first_runtime_that_fits_the_device_and_the_artifacts_is_taken() -> None:
    profile, facts = two_runtimes(), pi4()
    litert, older = profile.runtimes
    assert choose_runtime(facts, profile) is litert
    only_older = {"a.tflite": {"tflite-runtime": "2.14.0"}}
    assert choose_runtime(facts, profile, only_older) is older
    assert choose_runtime(facts, profile, {**only_older, "b.tflite": {}}) is older
    pythons(python("3.13.1"))(facts)
    assert choose_runtime(facts, profile, only_older) is litert  # nothing fits: the preferred
    assert levels(preflight(facts, replace(WANTED, profile=profile, artifacts=only_older)))


def test_the_systems_python_is_preferred_then_the_newest() -> None:
    runtime = LITERT
    local = python("3.13.1", executable="/usr/local/bin/python3.13")
    facts: Facts = {"pythons": [OLD, python("3.11.2"), local, python("3.12.10"), python("3.12.9")]}
    assert choose_python(facts, runtime)["version"] == "3.12.10"
    assert choose_python({"pythons": [OLD, local]}, runtime) is local
    with pytest.raises(DeploymentError, match="No Python of the device is fit for ai-edge-litert"):
        choose_python({"pythons": [OLD]}, runtime)


def test_pythons_that_are_not_known_are_not_said_to_be_unfit() -> None:
    with pytest.raises(DeploymentError, match="could not be found out in time; try again"):
        choose_python({"pythons": None}, LITERT)


def test_a_python_in_a_home_is_fit_for_the_services_of_a_user() -> None:
    runtime = LITERT
    own = python(executable="/home/pi/.local/bin/python3.11")
    assert why_not(own, runtime, "system")
    assert not why_not(own, runtime, "user")
    assert why_not(python(architecture="x86_64"), runtime, "user") == "is for x86_64"


def test_releases_are_compared_as_numbers() -> None:
    runtime = replace(LITERT, version="2.10.0")
    assert computes(runtime, {"ai-edge-litert": "2.9.3"})
    assert computes(runtime, {})
    assert not computes(runtime, {"ai-edge-litert": "2.11"})
