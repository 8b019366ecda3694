from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from edgelstm.diagnosis.finding import Finding
from edgelstm.errors import ConfigurationError, DeploymentError
from edgelstm_devices.preflight import Wanted, find_port, match_port
from edgelstm_devices.preflight.ports import is_serial, judge, lasting_url

BY_ID = "/dev/serial/by-id/usb-Arduino_Uno_75830-if00"
WANTED = Wanted(service="pump", ports=("/dev/ttyACM0",))
USER = replace(WANTED, mode="user")
Port = dict[str, Any]


def usb(vendor: str = "2341", product: str = "0043", serial: str = "75830") -> dict[str, str]:
    return {
        "vendor": vendor, "product": product, "serial": serial, "manufacturer": "Arduino",
        "description": "Uno",
    }  # fmt: skip


def port(device: str = "/dev/ttyACM0", **more: Any) -> Port:
    return {
        "device": device, "names": [], "usb": None, "console": False, "in_use_by": None,
        "class": device.removeprefix("/dev/").rstrip("0123456789"), "group": "dialout",
        "mode": "0660", "readable": True, "writable": True, **more,
    }  # fmt: skip


def arduino(**more: Any) -> Port:
    return port(**{"names": [BY_ID], "usb": usb(), **more})


def device(*ports: Port, **more: Any) -> dict[str, Any]:
    user = {
        "name": "pi", "uid": 1000, "groups": ["pi", "dialout"], "future_groups": ["pi", "dialout"],
        "manager_groups": ["pi", "dialout"],
    }  # fmt: skip
    return {
        "model": "Raspberry Pi 4 Model B", "ports": list(ports), "meddlers": [],
        "service_user": {"exists": True, "groups": ["edgelstm"], "port_group": True},
        "user": {**user, **more.pop("user", {})}, **more,
    }  # fmt: skip


def held(unit: str, name: str = "x", mode: str = "system") -> dict[str, Any]:
    return {"in_use_by": {"pid": 77, "name": name, "unit": unit, "mode": mode}}


def wrong(facts: dict[str, Any], wanted: Wanted = WANTED) -> list[Finding]:
    return [finding for finding in judge(facts, wanted) if finding.level != "ok"]


# What a port is called


@pytest.mark.parametrize(
    "name",
    [
        "/dev/ttyACM0",
        "serial:///dev/ttyACM0?baud=9600",
        "serial:/dev/ttyACM0",
        BY_ID,
        "serial:by-id/usb-Arduino_Uno_75830-if00",
        "SERIAL:by-id/usb%2DArduino_Uno_75830-if00",
        "serial:?vid=2341&pid=0043&serial=75830",
        "serial:?vid=0x2341&pid=43",
        "serial:?serial=75830",
    ],
)
def test_a_port_is_found_by_any_of_its_names(name: str) -> None:
    facts = device(port("/dev/ttyAMA0"), arduino())
    found = match_port(facts, name)
    assert found is not None
    assert found["device"] == "/dev/ttyACM0"
    assert find_port(facts, name) == name
    assert wrong(facts, replace(WANTED, ports=(name,))) == []


@pytest.mark.parametrize(
    "name",
    [
        "/dev/ttyACM1",
        "serial:?vid=2342",
        "serial:?vid=2341&pid=0043&serial=other",
        "serial:?vid=odd",
        "serial:by-id/another",
    ],
)
def test_a_port_that_is_not_there_is_told_with_those_that_are(name: str) -> None:
    facts = device(port("/dev/ttyAMA0"), arduino())
    assert match_port(facts, name) is None
    with pytest.raises(DeploymentError, match=r"/dev/ttyAMA0, /dev/ttyACM0 \(Uno\)"):
        find_port(facts, name)
    [found] = wrong(facts, replace(WANTED, ports=(name,)))
    assert (found.level, found.name) == ("problem", name)
    assert "/dev/ttyACM0 (Uno)" in found.what
    [found] = wrong(facts, replace(WANTED, ports=(name,), expect_readings=False))
    assert found.level == "note"


def test_other_sources_are_let_be() -> None:
    for url in ("mqtt://broker/pump", "socket://gateway:7000", "stdin:", "i2c:1?address=0x68"):
        assert not is_serial(url)
        assert find_port(device(), url) == url
        assert match_port(device(arduino()), url) is None
        assert wrong(device(meddlers=["ModemManager"]), replace(WANTED, ports=(url,))) == []


def test_the_only_usb_device_is_found_by_a_name_that_lasts() -> None:
    facts = device(port("/dev/ttyAMA0", names=["/dev/serial0"]), arduino())
    assert find_port(facts, None) == "serial:by-id/usb-Arduino_Uno_75830-if00"
    # One that is handed into a container has no USB device.
    handed = port("/dev/ttyUSB0", **{"class": "pts"})
    assert find_port(device(handed), None) == "/dev/ttyUSB0"


def test_none_or_several_have_to_be_chosen_from() -> None:
    with pytest.raises(DeploymentError, match=r"No serial device .* \(there are: /dev/ttyAMA0\)"):
        find_port(device(port("/dev/ttyAMA0")), None)
    with pytest.raises(DeploymentError, match="there are: none"):
        find_port(device(), None)
    two = device(arduino(), port("/dev/ttyUSB0", usb=usb("1a86", "7523", "")))
    with pytest.raises(
        ConfigurationError, match=r"2 serial devices .*by-id/usb-Ard.*; serial:\?vid=1a86&pid=7523"
    ):
        find_port(two, None)


@pytest.mark.parametrize(
    ("names", "device_of_usb", "others", "expected"),
    [
        ([BY_ID], usb(), [], "serial:by-id/usb-Arduino_Uno_75830-if00"),
        ([BY_ID], usb(serial=""), [], "serial:by-id/usb-Arduino_Uno_75830-if00"),
        ([], usb(), [], "serial:?vid=2341&pid=0043&serial=75830"),
        ([], usb(serial="a b"), [], "serial:?vid=2341&pid=0043&serial=a%20b"),
        (
            ["/dev/serial/by-id/x", "/dev/serial/by-path/y"],
            usb(serial=""),
            [port("/dev/ttyACM1", usb=usb(serial=""))],
            "serial:by-path/y",
        ),
        ([], None, [], "/dev/ttyACM0"),
        (["/dev/serial0"], None, [], "/dev/serial0"),
    ],
)
def test_names_that_last(
    names: list[str], device_of_usb: dict[str, str] | None, others: list[Port], expected: str
) -> None:
    entry = port(names=names, usb=device_of_usb)
    assert lasting_url(entry, [entry, *others]) == expected


# Who else has it

OCCUPIED: dict[str, tuple[Port, dict[str, Any], str, str]] = {
    "console of a Pi": (
        {"console": True}, {}, "console", "sudo raspi-config nonint do_serial_cons 1",
    ),
    "console": (
        {"console": True}, {"model": None}, "console", "Take console=ttyACM0 out of the kernel's",
    ),
    "a login of a Pi": (
        held("serial-getty@ttyACM0.service", "agetty"), {}, "login", "do_serial_cons 1",
    ),
    "a login": (
        held("serial-getty@ttyACM0.service", "agetty"), {"model": None}, "login",
        "sudo systemctl disable --now serial-getty@ttyACM0.service",
    ),
    "a service": (
        held("octoprint.service", "octoprint"), {}, "process 77 (octoprint)",
        "sudo systemctl disable --now octoprint.service",
    ),
    "another of edgelstm's": (
        held("edgelstm@fan.service", "edgelstm"), {}, "process 77",
        "sudo systemctl disable --now edgelstm@fan.service",
    ),
    "a program": (held("session-3.scope", "minicom"), {}, "(minicom)", "sudo kill 77"),
    "a program of a user": (
        held("user@1000.service", "minicom", "user"), {}, "minicom", "sudo kill 77",
    ),
    "a program in no unit": (held("", "screen"), {}, "screen", "sudo kill 77"),
}  # fmt: skip


@pytest.mark.parametrize("case", OCCUPIED)
def test_a_port_that_somebody_else_has_is_a_problem(case: str) -> None:
    change, more, words, mend = OCCUPIED[case]
    [found] = wrong(device(arduino(**change), **more))
    assert (found.level, found.name) == ("problem", "/dev/ttyACM0")
    assert words in found.what
    assert mend in found.mend


def test_the_service_itself_may_have_it() -> None:
    facts = device(arduino(**held("edgelstm@pump.service")))
    assert wrong(facts) == []
    assert "the service has it open" in next(iter(judge(facts, WANTED))).what
    assert wrong(device(arduino(**held("edgelstm@pump.service", mode="user"))), USER) == []


def test_one_of_the_same_name_that_is_a_users_own_is_another() -> None:
    [found] = wrong(device(arduino(**held("edgelstm@pump.service", mode="user"))))
    assert found.mend == "systemctl --user disable --now edgelstm@pump.service"
    [found] = wrong(device(arduino(**held("edgelstm@pump.service"))), USER)
    assert found.mend == "sudo systemctl disable --now edgelstm@pump.service"


def test_what_others_do_with_other_ports_does_not_matter() -> None:
    other = port("/dev/ttyAMA0", console=True, mode="0600", **held("serial-getty@ttyAMA0.service"))
    assert wrong(device(other, arduino())) == []


def test_daemons_that_open_every_port_are_noted() -> None:
    facts = device(arduino(), meddlers=["ModemManager", "brltty"])
    found = {f.name: f for f in wrong(facts)}
    assert {f.level for f in found.values()} == {"note"}
    assert "sudo systemctl disable --now ModemManager" in found["ModemManager"].mend
    assert "sudo apt-get remove brltty" in found["brltty"].mend


def test_the_pins_of_a_pi_are_turned_on_by_a_command() -> None:
    pins = replace(WANTED, ports=("/dev/serial0",))
    [found] = wrong(device(arduino()), pins)
    assert found.mend == "sudo raspi-config nonint do_serial_hw 0 && sudo reboot"
    [found] = wrong(device(arduino(), model=None), pins)
    assert "raspi-config" not in found.mend


# Who may use it

Case = tuple[Port, dict[str, Any], Wanted, str, str]
RULE = (
    'echo \'SUBSYSTEM=="tty", KERNEL=="ttyACM*", GROUP="dialout", MODE="0660"\' | sudo tee '
    "/etc/udev/rules.d/60-edgelstm-ttyACM.rules && sudo udevadm control --reload && "
    "sudo udevadm trigger"
)
RESTART = "sudo systemctl restart user@1000.service"
REFUSED: dict[str, Case] = {
    "another group": ({"group": "uucp"}, {}, WANTED, "the group uucp", RULE),
    "root's alone": ({"group": "root", "mode": "0600"}, {}, WANTED, "mode 0600", RULE),
    "the group may not write": ({"mode": "0640"}, {}, WANTED, "mode 0640", RULE),
    "a pseudo-terminal": (
        {"group": "tty", "class": "pts", "mode": "0620"}, {}, WANTED, "the group tty",
        "sudo chgrp dialout /dev/ttyACM0 && sudo chmod g+rw /dev/ttyACM0",
    ),
    "it cannot be looked at": ({"mode": None, "group": None}, {}, WANTED, "looked at", "ls -l"),
    "user: not in the group": (
        {}, {"user": {"future_groups": ["pi"], "manager_groups": ["pi"]}}, USER,
        "pi is not in it", f"sudo usermod -aG dialout pi && {RESTART}",
    ),
    "user: not in the group, no systemd yet": (
        {}, {"user": {"future_groups": ["pi"], "manager_groups": None}}, USER,
        "pi is not in it", "sudo usermod -aG dialout pi",
    ),
    "user: in the group since, but his systemd is not": (
        {}, {"user": {"manager_groups": ["pi"]}}, USER, "started before that", RESTART,
    ),
    "user: root's port": ({"group": "root"}, {}, USER, "its group root", RULE),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_port_that_the_service_may_not_use_is_a_problem(case: str) -> None:
    change, more, wanted, words, mend = REFUSED[case]
    [found] = wrong(device(arduino(**change), **more), wanted)
    assert (found.level, found.name) == ("problem", "/dev/ttyACM0")
    assert words in found.what
    assert found.mend.startswith(mend)


Allowed = tuple[Port, dict[str, Any], Wanted]
ALLOWED: dict[str, Callable[[], Allowed]] = {
    "for everybody": lambda: ({"group": "root", "mode": "0666"}, {}, WANTED),
    "a group of the service user": lambda: (
        {"group": "uucp"},
        {"service_user": {"exists": True, "groups": ["uucp"], "port_group": True}},
        WANTED,
    ),
    "system: whatever the login may": lambda: (
        {"readable": False, "writable": False},
        {"user": {"future_groups": [], "manager_groups": []}},
        WANTED,
    ),
    "user: his systemd starts with the next login": lambda: (
        {},
        {"user": {"manager_groups": None}},
        USER,
    ),
    "user: root": lambda: ({"group": "root", "mode": "0600"}, {"user": {"uid": 0}}, USER),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_a_port_that_the_service_may_use_is_fine(case: str) -> None:
    change, more, wanted = ALLOWED[case]()
    assert wrong(device(arduino(**change), **more), wanted) == []
