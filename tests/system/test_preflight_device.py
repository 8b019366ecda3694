"""The facts of devices that run, and that what the preflight says to paste mends what it found."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from device_machine import DeviceMachine, device_machine, why_no_device
from sshd import sshd

from edgelstm.diagnosis.finding import Finding
from edgelstm_devices.preflight import (
    Wanted,
    choose_profile,
    find_port,
    preflight,
)
from edgelstm_devices.profiles import load_profiles
from edgelstm_devices.release import Mode
from edgelstm_devices.remote import connect

PORT = "/dev/ttyACM0"
Facts = dict[str, Any]

needs_machine = pytest.mark.skipif(bool(why_no_device()), reason=why_no_device())


@pytest.fixture(scope="module")
def pty() -> Iterator[str]:
    """A pseudo-terminal that the device has as its serial port."""
    primary, secondary = os.openpty()
    yield os.ttyname(secondary)
    os.close(primary)
    os.close(secondary)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, pty: str) -> Iterator[DeviceMachine]:
    options = [f"--bind={pty}:{PORT}"]
    with device_machine(tmp_path_factory.mktemp("preflight"), options) as machine:
        yield machine


def look(device: DeviceMachine, host: str = "device", mode: Mode = "system") -> Facts:
    with connect(host, mode=mode, ssh_options=device.options) as remote:
        return remote.facts(name="pump", port=PORT, online=False)


def wanted(facts: Facts, **more: Any) -> Wanted:
    profile = choose_profile(facts, load_profiles({"HOME": "/nonexistent"}))
    return Wanted(**{"service": "pump", "profile": profile, "ports": (PORT,), **more})


def problems(facts: Facts, **more: Any) -> dict[str, Finding]:
    found = preflight(facts, wanted(facts, **more))
    return {finding.name: finding for finding in found if finding.level == "problem"}


def paste(device: DeviceMachine, command: str) -> None:
    """As its user would do who may use sudo."""
    setpriv = ("/usr/bin/setpriv", "--reuid=1000", "--regid=1000", "--init-groups")
    device.machine.run(*setpriv, "/bin/sh", "-c", command)


def test_facts_of_a_plain_host_over_ssh(tmp_path: Path) -> None:
    with (
        sshd(tmp_path) as server,
        connect(server.host, mode="user", ssh_options=server.options) as remote,
    ):
        asked = time.time()
        facts = remote.facts(name="pump", online=False)
        came = time.time()
    assert facts["seconds"] < 5
    assert facts["user"]["uid"] == os.getuid()
    found = preflight(facts, wanted(facts, mode="user", ports=(), asked=(asked, came)))
    [clock] = [finding for finding in found if finding.name == "time"]
    assert (clock.level, clock.data["ahead_seconds"]) == ("ok", 0.0)


@needs_machine
def test_a_new_device_and_what_it_takes_to_be_fit(device: DeviceMachine) -> None:
    facts = look(device)
    assert facts["seconds"] < 5
    assert facts["sudo"] == "passwordless"
    assert facts["systemd"]["running"] is True
    assert facts["systemd"]["version"] >= 247
    assert facts["service_user"]["exists"] is False
    assert facts["user"]["future_groups"] == ["dialout", "pi"]
    assert facts["installation"]["services"] == []
    assert choose_profile(facts, load_profiles()).name == "x86-64"
    assert find_port(facts, None) == PORT
    [port] = [each for each in facts["ports"] if each["device"] == PORT]
    assert port["class"] == "pts"
    device.machine.run("chown", "root:tty", PORT)
    device.machine.run("chmod", "0620", PORT)
    found = problems(look(device))
    assert list(found) == [PORT]
    paste(device, found[PORT].mend)
    assert problems(look(device)) == {}


@needs_machine
@pytest.mark.parametrize(
    ("name", "breaking"),
    [
        ("/opt/edgelstm", "mount -t tmpfs -o noexec tmpfs /opt"),
        ("/opt/edgelstm", "mount -t tmpfs tmpfs /opt; mount -o remount,ro /opt"),
        ("dialout", "cp /etc/group /etc/group.old; groupdel -f dialout"),
        (
            "edgelstm@pump",
            "mkdir -p /etc/systemd/system; printf '[Service]\\nExecStart=/bin/sleep 999\\n' "
            "> /etc/systemd/system/edgelstm@pump.service; systemctl daemon-reload; "
            "systemctl start edgelstm@pump",
        ),
        (
            PORT,
            f"systemd-run --unit=other -p Restart=always sh -c 'exec sleep 999 <{PORT}'; sleep 0.5",
        ),
    ],
    ids=["noexec", "read-only", "group", "unit", "holder"],
)
def test_what_is_broken_is_found_and_the_command_mends_it(
    device: DeviceMachine, name: str, breaking: str
) -> None:
    device.machine.run("chgrp", "dialout", PORT)
    device.machine.run("chmod", "0660", PORT)
    device.machine.run("/bin/sh", "-c", breaking)
    try:
        # As root: who has a port open is not told to everybody.
        facts = look(device, "device-root")
        found = problems(facts)
        assert name in found
        if name != "dialout":  # without the group the port is another's, too
            assert list(found) == [name]
        paste(device, found[name].mend.replace("groupadd", "groupadd -g 20"))
        assert problems(look(device, "device-root")) == {}
    finally:
        undo = "umount -q /opt; systemctl stop other; systemctl reset-failed other; true"
        device.machine.run("/bin/sh", "-c", undo, check=False)


@needs_machine
def test_users_who_may_less(device: DeviceMachine) -> None:
    assert look(device, "device-root")["sudo"] == "root"
    assert look(device, "device-ann")["sudo"] == "password"
    facts = look(device, "device-joe", "user")
    assert facts["user"]["future_groups"] == ["joe"]
    found = problems(facts, mode="user")
    assert "joe is not in it" in found[PORT].what
    assert found[PORT].mend.startswith("sudo usermod -aG dialout joe")
