"""`edgelstm deploy` to a device with systemd, from nothing to an alert, and back: see `deploy_rig`.

The tests of this file are one story, in the order in which they stand.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from deploy_rig import (
    HOME,
    SERVICE,
    UNIT,
    Deploying,
    command,
    deploying,
    edgelstm,
    go_back_from_what_never_gets_ready,
    go_back_when_cut,
    refuse_broken_golden_vectors,
    stop_at_a_full_disk,
)
from device_machine import ANNS_PASSWORD, device_machine, why_no_device

pytestmark = pytest.mark.skipif(bool(why_no_device()), reason=why_no_device())

FOLDERS = "/etc /home /root /var/lib /usr/local /opt/edgelstm"
LISTING = f"ls /opt; find {FOLDERS} -printf '%p %s %T@\n' 2>/dev/null | sort"


@pytest.fixture(scope="module")
def pump(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deploying]:
    with deploying(tmp_path_factory.mktemp("deploy"), device_machine, "device") as one:
        yield one


@pytest.fixture(scope="module")
def good(pump: Deploying) -> str:
    """The id of the release that serves since the first deployment."""
    done = pump.deploy()
    assert done.returncode == 0, done.stdout + done.stderr
    return pump.current()


def test_check_and_dry_run_change_nothing(pump: Deploying) -> None:
    def listing() -> str:
        return pump.device.machine.run("sh", "-c", LISTING).stdout

    before = listing()
    checked = pump.deploy("--check")
    assert checked.returncode == 0, checked.stdout
    assert "No problem." in checked.stdout
    assert "/dev/ttyACM0" in checked.stdout
    planned = pump.deploy("--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert f"of {SERVICE}: pump.tflite (int8)" in planned.stdout
    assert (
        "As root   make the user edgelstm, write into /opt/edgelstm, install and start the unit "
        f"{UNIT}"
    ) in planned.stdout
    found = json.loads(pump.deploy("--dry-run", "--json").stdout)
    assert (found["service"], found["artifacts"]) == (SERVICE, ["pump.tflite"])
    assert listing() == before


def test_from_nothing(pump: Deploying, good: str) -> None:
    pump.assert_serving(good)
    machine = pump.device.machine
    assert machine.run("systemctl", "is-enabled", UNIT).stdout == "enabled\n"
    assert pump.show("User") == "edgelstm"
    assert pump.show("ProtectSystem") == "strict"
    unit = f"/etc/systemd/system/{UNIT}.service"
    assert machine.run("systemd-analyze", "verify", unit).stderr == ""
    text = machine.run("cat", f"{HOME}/current/pump.toml").stdout
    assert text.startswith("# A pump, watched.\n")
    assert "trial" not in "".join(pump.traces())


def test_an_alert_reaches_the_broker(pump: Deploying, good: str) -> None:
    pump.assert_alert()


def test_again_does_nothing(pump: Deploying, good: str) -> None:
    process = pump.show("MainPID")
    done = pump.deploy()
    assert done.returncode == 0, done.stderr
    assert f"runs this release of {SERVICE} already" in done.stdout
    again = json.loads(pump.deploy("--json").stdout)
    assert (again["release"], again["nothing_to_do"]) == (good, True)
    assert (pump.current(), pump.show("MainPID")) == (good, process)


def test_what_the_other_commands_say(pump: Deploying, good: str) -> None:
    status = json.loads(pump.on("status", "--json", "--sudo").stdout)
    [service] = status["services"]
    assert service["release"] == good
    assert service["health"]["sensors"][SERVICE]["step_microseconds"]["median"] > 0
    assert service["alerts"]
    logs = pump.on("logs", "-n", "20", "--sudo")
    assert logs.returncode == 0, logs.stderr
    assert "ALERT" in logs.stdout or "Watching" in logs.stdout
    bench = edgelstm("bench", pump.folder / "pump.tflite", "--on", pump.host, *pump.device.options)
    assert bench.returncode == 0, bench.stderr
    assert "session.step" in bench.stdout


def test_golden_vectors_that_do_not_hold(pump: Deploying, good: str) -> None:
    refuse_broken_golden_vectors(pump, good)


def test_a_service_that_never_gets_ready(pump: Deploying, good: str) -> None:
    go_back_from_what_never_gets_ready(pump, good)


def test_a_sensor_that_says_nothing(pump: Deploying, good: str) -> None:
    before = pump.configuration.read_text()
    # A terminal of the device that nobody writes to.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = f"socket://127.0.0.1:{silent.getsockname()[1]}"
        pump.configuration.write_text(before.replace("/dev/ttyACM0", port))
        done = pump.deploy("--readings-timeout", "3")
    pump.configuration.write_text(before)
    assert done.returncode == 1
    assert "no reading" in done.stdout, done.stdout
    pump.assert_serving(good)


def test_a_disk_that_is_full(pump: Deploying, good: str) -> None:
    stop_at_a_full_disk(pump, good)


# More moments are in `test_deploy_pi` and, of the device's own doing, in `test_trial_interrupted`.
@pytest.mark.parametrize("until", ["Sent", "it is ready"])
def test_a_connection_that_is_cut(pump: Deploying, good: str, until: str) -> None:
    go_back_when_cut(pump, good, until)


@pytest.mark.parametrize("until", ["Sent", "it is ready"])
def test_a_laptop_that_dies(pump: Deploying, good: str, until: str) -> None:
    pump.write(name=f"killed at {until}")
    code, _ = pump.interrupted(pump.kill, "--grace", "30", until=until)
    assert code == -9
    pump.assert_serving(good)


def test_ctrl_c_on_trial_goes_back_and_says_so(pump: Deploying, good: str) -> None:
    pump.write(name="cancelled")
    code, told = pump.interrupted(pump.press_ctrl_c, "--grace", "30", until="it is ready")
    assert code == 1, told
    assert "cancelled" in told
    assert f"goes on with release {good}" in told
    pump.assert_serving(good)


def test_a_power_cut_on_trial(pump: Deploying, good: str) -> None:
    """See `test_trial_interrupted` for the boot; here: nothing of it is left on the disk."""
    pump.write(name="powerless")

    def look(process: subprocess.Popen[str]) -> None:
        link = pump.device.path(f"{HOME}/current").readlink()
        unit = pump.device.path(f"/etc/systemd/system/{UNIT}.service").read_text()
        assert (link.name, f"{HOME}/current/" in unit) == (good, True)
        pump.device.cut()

    pump.interrupted(look, "--grace", "30", until="readings come")
    pump.assert_serving(good)


def test_a_good_update_and_the_way_back(pump: Deploying, good: str) -> None:
    pump.write(model="tiny_again")
    done = pump.deploy()
    assert done.returncode == 0, done.stdout + done.stderr
    new = pump.current()
    assert new != good
    assert "Sent      1 file, " in done.stderr
    pump.assert_serving(new)
    pump.assert_alert()
    back = pump.on("rollback", "--grace", "2")
    assert back.returncode == 0, back.stdout + back.stderr
    pump.assert_serving(good)


def test_a_user_who_may_not_become_root(pump: Deploying, good: str) -> None:
    pump.write(name="for joe")
    done = edgelstm("deploy", pump.configuration, "device-joe", *pump.device.options, "--offline")
    assert done.returncode == 2
    assert "sudo on device-joe wants a password, and nobody can be asked here" in done.stderr
    pump.assert_serving(good)


def test_only_signed_artifacts_from_now_on(pump: Deploying, good: str, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    assert edgelstm("sign", "--new-key", key).returncode == 0
    public = next(path for path in tmp_path.iterdir() if path != key)
    pump.write(name="signed")
    refused = pump.deploy("--trust", public)
    assert refused.returncode == 2
    assert "not signed" in refused.stderr
    assert edgelstm("sign", pump.folder / "pump.tflite", "--key", key).returncode == 0
    done = pump.deploy("--trust", public)
    assert done.returncode == 0, done.stdout + done.stderr
    signed = pump.current()
    pump.write(name="unsigned")
    refused = pump.deploy()
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert "nobody signed pump.tflite" in refused.stderr
    pump.assert_serving(signed)


def test_a_password_for_sudo(pump: Deploying) -> None:
    pump.write(name="with a password")
    arguments = ["uninstall", "device-ann", *pump.device.options, "--yes"]
    child = pexpect.spawn(sys.executable, command(*arguments)[1:], encoding="utf-8", timeout=60)
    child.expect("Password for sudo on device-ann")
    child.sendline(ANNS_PASSWORD)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    machine = pump.device.machine
    assert "edgelstm" not in machine.run("ls", "/etc/systemd/system").stdout
    assert pump.show("ActiveState") == "inactive"
