"""`edgelstm ports`: the table, what to mend and the udev rules."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import serial.tools.list_ports
from click.testing import CliRunner, Result

from edgelstm.commands import ports as command
from edgelstm.diagnosis.obstacles import obstacles
from edgelstm.diagnosis.ports import Port, PortState, list_ports, look
from edgelstm.diagnosis.udev import INSTALL, RULES_FILE, link_name, rules
from edgelstm.errors import MissingDependencyError
from edgelstm_bridge.urls import parse_url

UNO = Port("/dev/ttyACM0", "Arduino Uno", 0x2341, 0x0043, "7573 X&1", "Arduino")
CH340 = Port("/dev/ttyUSB0", "USB2.0-Serial", 0x1A86, 0x7523)
BUILT_IN = Port("/dev/ttyS0")
RULE = re.compile(r'(SUBSYSTEM|(ATTRS|ENV)\{\w+\}|MODE|GROUP|TAG|SYMLINK)(==|\+?=)"[^"]*"')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system with the nodes of all three ports."""
    (tmp_path / "dev/serial/by-id").mkdir(parents=True)
    (tmp_path / "dev/serial/by-path").mkdir()
    for port in (UNO, CH340, BUILT_IN, Port("/dev/ttyUSB1")):
        (tmp_path / port.device.lstrip("/")).touch()
    return tmp_path


def link(root: Path, name: str, device: str) -> None:
    (root / "dev/serial" / name).symlink_to(f"../../{Path(device).name}")


def urls(states: list[PortState]) -> list[str]:
    return [state.url for state in states]


def allowed(path: Path, mode: int) -> bool:
    return True


def only_the_uno(path: Path, mode: int) -> bool:
    return path.name == Path(UNO.device).name


@pytest.fixture
def run(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command on that system, with the ports given."""

    def invoke(*options: str, ports: list[Port] | None) -> Result:
        monkeypatch.setattr(command, "_ROOT", root)
        monkeypatch.setattr(command, "list_ports", lambda: ports)
        return CliRunner().invoke(command.ports, options)

    return invoke


# A value of --port that lasts


def test_a_name_by_id_lasts(root: Path) -> None:
    link(root, "by-id/usb-Arduino_Uno_7573-if00", UNO.device)
    assert urls(look(root, [UNO], allowed)) == ["serial:by-id/usb-Arduino_Uno_7573-if00"]


def test_the_numbers_of_a_usb_device_last(root: Path) -> None:
    found = urls(look(root, [UNO, CH340], allowed))
    assert found == ["serial:?vid=2341&pid=0043&serial=7573%20X%261", "serial:?vid=1a86&pid=7523"]


def test_two_of_a_kind_are_told_apart_by_their_sockets(root: Path) -> None:
    """Both claim one name by id, and only one of them gets it."""
    twin = Port("/dev/ttyUSB1", "USB2.0-Serial", 0x1A86, 0x7523)
    link(root, "by-id/usb-1a86_USB2.0-Serial-if00-port0", twin.device)
    link(root, "by-path/pci-0000:00:14.0-usb-0:1:1.0-port0", CH340.device)
    assert urls(look(root, [CH340, twin], allowed)) == [
        "serial:by-path/pci-0000:00:14.0-usb-0:1:1.0-port0",
        "/dev/ttyUSB1",  # nothing better is known
    ]


def test_two_ports_of_one_device_have_names_of_their_own(root: Path) -> None:
    second = Port("/dev/ttyUSB1", "Arduino Uno", 0x2341, 0x0043, UNO.serial_number)
    link(root, "by-id/usb-Arduino_Uno_7573-if00", UNO.device)
    link(root, "by-id/usb-Arduino_Uno_7573-if02", second.device)
    assert urls(look(root, [UNO, second], allowed)) == [
        "serial:by-id/usb-Arduino_Uno_7573-if00",
        "serial:by-id/usb-Arduino_Uno_7573-if02",
    ]


def test_the_serial_port_on_the_pins_has_a_name_of_its_own(root: Path) -> None:
    (root / "dev/serial0").symlink_to("ttyS0")
    assert urls(look(root, [], allowed)) == ["/dev/serial0"]


def test_what_lasts_can_be_opened(root: Path) -> None:
    for number, port in enumerate((UNO, CH340)):
        url = parse_url(look(root, [port], allowed)[0].url)
        assert url.usb
        assert (url.usb.vendor, url.usb.product) == (port.vendor_id, port.product_id)
        assert url.usb.serial_number == (port.serial_number or None)
        link(root, f"by-id/usb-{number}-if00", port.device)
        by_id = parse_url(look(root, [port], allowed)[0].url)
        assert by_id.path == f"/dev/serial/by-id/usb-{number}-if00"


# What cannot be looked at


def test_a_port_that_vanishes_meanwhile_costs_no_more_than_its_details(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def comports() -> list[object]:
        raise TypeError("int() can't convert non-string with explicit base")  # as pyserial does

    monkeypatch.setattr(serial.tools.list_ports, "comports", comports)
    assert list_ports() == sorted(
        (Port(str(path)) for path in Path("/dev").glob("tty[UA][SC][BM]*")),
        key=lambda port: port.device,
    )


def test_real_ports_are_listed_as_pyserial_lists_them() -> None:
    listed = list_ports()
    assert listed is not None
    assert {port.device for port in listed} == {
        port.device for port in serial.tools.list_ports.comports()
    }
    assert [state.port for state in look(Path("/"), listed)][: len(listed)] == listed


def test_ports_are_sorted_by_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Info:
        vid = pid = serial_number = manufacturer = None
        description = "n/a"

        def __init__(self, device: str) -> None:
            self.device = device

    devices = ["/dev/ttyUSB10", "/dev/ttyUSB2", "/dev/ttyACM3"]
    monkeypatch.setattr(serial.tools.list_ports, "comports", lambda: map(Info, devices))
    listed = list_ports() or []
    assert [port.device for port in listed] == ["/dev/ttyACM3", "/dev/ttyUSB2", "/dev/ttyUSB10"]
    assert {port.description for port in listed} == {""}


def test_an_odd_dev_and_sys_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/serial").write_text("a file where a folder should be")
    (tmp_path / "sys/bus/usb").mkdir(parents=True)
    (tmp_path / "sys/bus/usb/devices").write_text("")
    (tmp_path / "proc").write_text("")
    (state,) = look(tmp_path, [UNO])
    assert state.trouble.startswith("it cannot be looked at")
    assert not state.is_refused
    assert obstacles(tmp_path, {UNO.device}, {UNO.usb_id}) == []


def test_an_adapter_without_a_port_is_told_of(root: Path) -> None:
    device = root / "sys/bus/usb/devices/1-2"
    device.mkdir(parents=True)
    (device / "idVendor").write_text("1a86\n")
    (device / "idProduct").write_text("7523\n")
    (found,) = obstacles(root, set(), set())
    assert found.what == "a CH340 (1a86:7523) is plugged in, but has no port."
    assert "ch341" in found.mend
    assert obstacles(root, set(), {CH340.usb_id}) == []


# The command


def test_the_table(root: Path, run: Callable[..., Result]) -> None:
    link(root, "by-id/usb-Arduino_Uno_7573-if00", UNO.device)
    result = run(ports=[UNO, CH340])
    header, uno, uno_url, ch340, ch340_url = result.stdout.splitlines()[:5]
    assert re.split("  +", header) == ["port", "what it is", "vid:pid", "serial number", "state"]
    assert re.split("  +", uno)[:2] == ["/dev/ttyACM0", "Arduino Uno"]
    assert "2341:0043  7573 X&1" in uno
    assert uno.endswith("free")
    assert uno_url.strip() == "--port 'serial:by-id/usb-Arduino_Uno_7573-if00'"
    assert ch340.index("1a86:7523") == uno.index("2341:0043") == header.index("vid:pid")
    assert ch340_url.strip() == "--port 'serial:?vid=1a86&pid=7523'"
    assert result.exit_code == 0
    assert "udev" not in result.stdout


def test_who_uses_a_port_is_said(root: Path, run: Callable[..., Result]) -> None:
    (root / "proc/42/fd").mkdir(parents=True)
    (root / "proc/42/comm").write_text("minicom\n")
    (root / "proc/42/fd/3").symlink_to("/dev/ttyACM0")
    assert "used by process 42 (minicom)" in run(ports=[UNO]).stdout


def test_daemons_are_told_of(root: Path, run: Callable[..., Result]) -> None:
    (root / "proc/42").mkdir(parents=True)
    (root / "proc/42/comm").write_text("ModemManager\n")
    result = run(ports=[UNO])
    assert "ModemManager: it runs; it talks to every new serial port" in result.stdout
    assert "systemctl disable --now ModemManager" in result.stdout


def test_a_refused_port_comes_with_its_reason_its_command_and_the_rules(root: Path) -> None:
    states = look(root, [UNO, CH340], only_the_uno, ())
    text = list(command.page(states, [], rules([UNO, CH340])))
    (row,) = [line for line in text if line.startswith("/dev/ttyUSB0 ")]
    assert row.endswith("PROBLEM, see below")
    (reason,) = [line for line in text if line.startswith("/dev/ttyUSB0: ")]
    assert "you may not read and write it" in reason
    assert text[text.index(reason) + 1].strip().startswith("sudo ")
    for line in (*rules([UNO, CH340]), *INSTALL):
        assert f"  {line}" in text
    assert not any("udevadm" in line for line in command.page(states[:1], [], rules([UNO])))


def test_no_port_at_all(run: Callable[..., Result]) -> None:
    result = run(ports=[])
    assert result.exit_code == 0
    assert "No serial port is here" in result.stdout
    assert "dmesg" in result.stdout
    assert "many only charge" in result.stdout


def test_without_pyserial(run: Callable[..., Result]) -> None:
    assert isinstance(run(ports=None).exception, MissingDependencyError)


def test_json(root: Path, run: Callable[..., Result]) -> None:
    answer = json.loads(run("--json", ports=[UNO, BUILT_IN]).stdout)
    uno, built_in = answer["ports"]
    assert uno.keys() == built_in.keys()
    assert (uno["usb_id"], uno["serial_number"]) == ("2341:0043", "7573 X&1")
    assert (built_in["usb_id"], built_in["url"]) == (None, "/dev/ttyS0")
    assert uno["writable"] is (os.access(root / "dev/ttyACM0", os.W_OK))
    assert answer["udev_rules"] == rules([UNO])
    assert answer["notes"] == []


def test_udev_prints_nothing_but_the_rules(run: Callable[..., Result]) -> None:
    result = run("--udev", ports=[UNO, BUILT_IN])
    assert result.stdout.splitlines() == rules([UNO], command._group())
    assert "Error" not in result.output
    nothing = run("--udev", ports=[BUILT_IN])
    assert "plug it in" in str(nothing.exception)
    assert nothing.stdout == ""


# The rules


def is_rule(line: str) -> bool:
    return all(RULE.fullmatch(part) for part in line.split(", "))


def test_rules_open_a_port_and_name_it() -> None:
    comment, access, name = rules([UNO])
    assert comment == "# Arduino Uno (Arduino)"
    assert access.startswith('SUBSYSTEM=="tty", ATTRS{idVendor}=="2341", ATTRS{idProduct}=="0043"')
    assert access.endswith('MODE="0660", GROUP="dialout", TAG+="uaccess"')
    assert name.endswith('ATTRS{serial}=="7573?X?1", SYMLINK+="edgelstm-arduino-uno-7573-x-1"')
    assert is_rule(access)
    assert is_rule(name)
    assert RULES_FILE < "/etc/udev/rules.d/73-seat-late.rules"  # which reads the tag


def test_a_kind_has_one_rule_and_a_device_without_a_number_no_name() -> None:
    twin = Port("/dev/ttyUSB1", "USB2.0-Serial", 0x1A86, 0x7523)
    assert sum(line.startswith("SUBSYSTEM") for line in rules([CH340, twin])) == 1
    assert "SYMLINK" not in "".join(rules([CH340, twin]))
    # Two ports of one device would fight for the name.
    second = Port("/dev/ttyACM1", "Arduino Uno", 0x2341, 0x0043, UNO.serial_number)
    assert "SYMLINK" not in "".join(rules([UNO, second]))
    assert rules([BUILT_IN]) == []


def test_what_a_device_says_cannot_become_a_rule_or_steer_the_terminal() -> None:
    said = '1", RUN+="/bin/evil\nSUBSYSTEM=="tty", RUN+="/bin/evil'
    hostile = Port("/dev/ttyACM0", said, 0x2341, 0x43, said, "\x1b[2J")
    lines = "\n".join(rules([hostile])).splitlines()
    assert [line.startswith("#") for line in lines] == [True, False, False]
    assert all(is_rule(line) for line in lines[1:])
    # Within the quotes, where it matches itself and does nothing.
    assert "RUN+=" not in "".join(lines[1:])
    assert "\x1b" not in "".join(lines)
    assert re.fullmatch("[a-z0-9-]+", link_name(hostile))
