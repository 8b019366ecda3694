from __future__ import annotations

import re

import pytest

from edgelstm_devices.release import RELEASE_MARK
from edgelstm_devices.unit import port_classes, render_unit


def settings(text: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", text, re.M)


@pytest.mark.parametrize(
    ("port", "driver", "expected"),
    [
        ("/dev/ttyACM0", "", ("char-ttyACM",)),
        ("/dev/ttyUSB12", "", ("char-ttyUSB",)),
        ("/dev/ttymxc0", "", ("char-ttymxc",)),
        ("/dev/rfcomm0", "", ("char-rfcomm",)),
        ("/dev/pts/3", "", ("char-pts",)),
        ("/dev/serial/by-id/usb-Arduino-if00", "ttyACM", ("char-ttyACM",)),
        ("/dev/pump", "", ("char-ttyACM", "char-ttyUSB", "char-ttyS", "char-ttyAMA")),
        ("socket://10.0.0.7:7000", "", ()),
        ("mqtt://broker/pump", "", ()),
    ],
)
def test_port_classes(port: str, driver: str, expected: tuple[str, ...]) -> None:
    assert port_classes(port, driver) == expected


@pytest.mark.parametrize("mode", ["system", "user"])
def test_what_runs_is_in_the_release(mode: str) -> None:
    text = render_unit("pump", mode, ("char-ttyACM",))  # type: ignore[arg-type]
    assert settings(text, "ExecStart") == [
        f"{RELEASE_MARK}/runtime/bin/edgelstm run {RELEASE_MARK}/pump.toml"
    ]
    assert settings(text, "RuntimeDirectory") == ["edgelstm/%i"]
    assert settings(text, "WatchdogSec") == ["30"]
    assert settings(text, "ProtectSystem") == ["strict"]
    assert settings(text, "RestartSec") == ["10"]
    assert "/etc/edgelstm" not in text
    assert text == render_unit("pump", mode, ("char-ttyACM",))  # type: ignore[arg-type]


def test_no_device_but_the_port() -> None:
    text = render_unit("pump", "system", ("char-ttyACM",))
    assert settings(text, "DeviceAllow") == ["char-ttyACM rw"]
    assert settings(text, "DevicePolicy") == ["closed"]
    assert settings(text, "Wants") == ["modprobe@cdc_acm.service"]
    assert settings(text, "User") == ["edgelstm"]
    assert settings(text, "SupplementaryGroups") == ["dialout"]


def test_no_device_at_all_where_there_is_no_port() -> None:
    text = render_unit("pump", "system", ())
    assert settings(text, "DeviceAllow") == []
    assert settings(text, "DevicePolicy") == ["closed"]
    assert settings(text, "SupplementaryGroups") == []
    assert "modprobe" not in text


def test_several_ports() -> None:
    text = render_unit("pump", "system", ("char-ttyACM", "char-ttyUSB", "char-ttyACM"))
    assert settings(text, "DeviceAllow") == ["char-ttyACM rw", "char-ttyUSB rw"]
    assert settings(text, "Wants") == ["modprobe@cdc_acm.service modprobe@usbserial.service"]


def test_a_coral() -> None:
    text = render_unit("pump", "system", ("char-ttyACM",), coral=True)
    assert "char-usb_device rw" in settings(text, "DeviceAllow")
    assert settings(text, "SupplementaryGroups") == ["dialout", "plugdev"]
    assert "AF_NETLINK" in settings(text, "RestrictAddressFamilies")
    # A user can give no groups: such a unit would not start.
    assert settings(render_unit("pump", "user", (), coral=True), "SupplementaryGroups") == []


def test_restarts_become_rare_where_systemd_can_do_that() -> None:
    """An older one would complain of the setting at each start."""
    assert settings(render_unit("pump", "system", (), systemd=252), "RestartSteps") == []
    text = render_unit("pump", "system", (), systemd=257)
    assert settings(text, "RestartMaxDelaySec") == ["300"]
