"""status, logs, bench, rollback and uninstall on a device, over ssh: see `device_machine`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from device_machine import DeviceMachine, device_machine, why_no_device
from systemd_machine import BASE, PROJECT, SITE, SOURCE, SOURCES, write
from test_systemd_unit import Device, free_port

pytestmark = pytest.mark.skipif(bool(why_no_device()), reason=why_no_device())

DATA = PROJECT / "tests/data"
ROOT, HOME = "/opt/edgelstm", "/home/pi"
OLD, RELEASE = "20261101-120000-0123abcd", "20261121-053012-3f2a9c1b"

# Has what the health and the outbox need of the unit that is deployed; its rest has its own tests.
UNIT = """[Unit]
Description=test
[Service]
Type=notify
User=edgelstm
ExecStart={command}
RuntimeDirectory=edgelstm/%i
StateDirectory=edgelstm/%i
StateDirectoryMode=0750
Restart=on-failure
RestartSec=60
[Install]
WantedBy=multi-user.target
"""


# The systemd of the user pi, which a login would start on a device with more than this one has.
MANAGER = """[Service]
Type=notify
User=pi
Delegate=yes
Environment=XDG_RUNTIME_DIR=/run/user/1000 HOME=/home/pi
ExecStartPre=+install -d -o pi -g pi -m 700 /run/user/1000
ExecStart=/lib/systemd/systemd --user
"""


def install(
    device: DeviceMachine, name: str, port: int, command: str = "", *, user: bool = False
) -> None:
    """Puts a service onto the device as a deployment leaves it, with this source tree."""
    root = f"{HOME}/.local/share/edgelstm" if user else ROOT
    home = f"{root}/services/{name}"
    runtime = device.path(f"{root}/runtimes/this")
    paths = [SOURCE, *(f"{SOURCE}/{part.name}" for part in SOURCES[1:]), SITE]
    python = f"{BASE}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    write(
        runtime / "bin/edgelstm",
        f"#!/bin/sh\nexport LD_LIBRARY_PATH={BASE}/lib PYTHONDONTWRITEBYTECODE=1\n"
        f'PYTHONPATH={":".join(paths)} exec {python} -m edgelstm "$@"\n',
        0o755,
    )
    command = command or f"@RELEASE@/runtime/bin/edgelstm run @RELEASE@/{name}.toml"
    unit = UNIT.format(command=command)
    if user:
        unit = unit.replace("User=edgelstm\n", "").replace("multi-user", "default")
    history = ""
    for number, release in enumerate((OLD, RELEASE)):
        folder = f"{home}/releases/{release}"
        made = {
            "service": name,
            "id": release,
            "digest": release[-8:],
            "made": "2026-11-21T05:30:12+00:00",
            "by": "ann@laptop",
            "edgelstm": "0.1.0",
            "files": {},
            "configuration": f"{name}.toml",
            "artifacts": ["tiny.tflite"],
            "runtime": {"id": "this"},
            "unit": unit,
        }
        write(device.path(f"{folder}/release.json"), json.dumps(made))
        write(
            device.path(f"{folder}/{name}.toml"),
            f'[sources.board]\nport = "socket://127.0.0.1:{port}"\n'
            f'[sensors.{name}]\nartifact = "tiny.tflite"\nrate = "any"\n',
        )
        shutil.copy(DATA / "tiny.tflite", device.path(folder))
        device.path(f"{folder}/runtime").symlink_to("../../../../runtimes/this")
        entry = {"time": 1795239012.0 + number, "what": "deploy", "release": release}
        history += json.dumps({**entry, "previous": "", "committed": True}) + "\n"
    write(device.path(f"{home}/history.jsonl"), history)
    device.path(f"{home}/current").symlink_to(f"releases/{RELEASE}")
    units = f"{HOME}/.config/systemd/user" if user else "/etc/systemd/system"
    file = device.path(f"{units}/edgelstm@{name}.service")
    write(file, unit.replace("@RELEASE@", f"{home}/current"))
    if user:
        device.machine.run("chown", "-R", "pi:pi", HOME)
    systemctl(device, "daemon-reload", user=user)
    systemctl(device, "enable", file.name, user=user)


def systemctl(device: DeviceMachine, *arguments: str, user: bool = False) -> None:
    as_pi = ["setpriv", "--reuid=pi", "--regid=pi", "--clear-groups", "env"]
    as_pi += ["XDG_RUNTIME_DIR=/run/user/1000", "systemctl", "--user"]
    device.machine.run(*(as_pi if user else ["systemctl"]), *arguments)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeviceMachine]:
    """With the service pump, that gets readings and has an alert, and fan, that cannot start."""
    port = free_port()
    with (
        device_machine(tmp_path_factory.mktemp("device")) as device,
        closing(Device(port)),
    ):
        device.machine.run("useradd", "--system", "--no-create-home", "edgelstm")
        install(device, "pump", port)
        install(device, "fan", port, "/bin/sh -c 'echo the fan is broken; exit 3'")
        device.machine.run("systemctl", "start", "edgelstm@pump.service")
        device.machine.run("systemctl", "start", "--no-block", "edgelstm@fan.service")
        device.machine.wait(
            lambda: device.machine.show("edgelstm@fan.service", "SubState") == "auto-restart",
            "the end of the fan",
        )
        device.machine.wait(lambda: alerts_in(device, "/run"), "an alert")
        yield device


def alerts_in(device: DeviceMachine, run: str) -> int:
    """Alerts that the pump has announced."""
    told = device.machine.run("cat", f"{run}/edgelstm/pump/health.json", check=False)
    if told.returncode:
        return 0
    alerts: int = json.loads(told.stdout)["sensors"]["pump"]["alerts"]
    return alerts


def edgelstm(device: DeviceMachine, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgelstm", *arguments, *device.options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def status(device: DeviceMachine, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = edgelstm(device, "status", *arguments, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_page_on_everything(device: DeviceMachine) -> None:
    done = edgelstm(device, "status", "device", "--sudo")
    assert (done.returncode, done.stderr) == (1, "")
    page = done.stdout
    assert "pump  ok\n" in page
    assert "fan  failing\n" in page
    assert f"release     {RELEASE}, edgelstm 0.1.0, made 2026-11-21 05:30 by ann@laptop" in page
    assert "active (running) for" in page
    assert " us" in page
    assert "last alerts" in page
    assert "anomaly" in page
    assert f"deploy    {RELEASE}  ok" in page
    assert "the fan is broken" in page
    assert "left out" not in page
    assert page.endswith("device: not well: fan.\n")


def test_one_service_that_is_well(device: DeviceMachine) -> None:
    code, told = status(device, "device", "--name", "pump")
    [pump] = told["services"]
    assert (code, told["ok"], pump["condition"]["word"]) == (0, True, "ok")
    assert pump["unit"]["enabled"]
    assert pump["unit"]["memory"] > 10e6
    sensor = pump["health"]["sensors"]["pump"]
    assert sensor["readings"] > 300
    assert 0 < sensor["step_microseconds"]["median"] <= sensor["step_microseconds"]["p99"]
    assert pump["health"]["age"] < 30
    assert pump["made"]["id"] == pump["release"] == RELEASE
    assert [entry["release"] for entry in pump["history"]] == [OLD, RELEASE]
    assert (pump["trial"], pump["journal"]) == ("", [])
    assert pump["data"] == ["/var/lib/edgelstm/pump"]


def test_without_rights_all_but_the_alerts_is_told(device: DeviceMachine) -> None:
    _, told = status(device, "device", "--name", "pump")
    assert told["services"][0]["alerts"] is None
    assert told["left_out"] == [
        "The alerts of pump: /var/lib/edgelstm/pump may be read by edgelstm and root only."
    ]
    page = edgelstm(device, "status", "device", "--name", "pump").stdout
    assert "With --sudo it is read as root" in page


@pytest.mark.parametrize("arguments", [("device", "--sudo"), ("device-root",)])
def test_root_sees_the_alerts_and_leaves_nothing_of_its_own(
    device: DeviceMachine, arguments: tuple[str, ...]
) -> None:
    code, told = status(device, *arguments, "--name", "pump")
    assert (code, told["left_out"]) == (0, [])
    alert = told["services"][0]["alerts"][-1]
    assert (alert["sensor"], alert["kind"]) == ("pump", "anomaly")
    owners = device.machine.run("find", "/var/lib/edgelstm/pump", "-not", "-user", "edgelstm")
    assert owners.stdout == ""


def test_a_trial_is_seen(device: DeviceMachine) -> None:
    control = "/run/systemd/system.control"
    text = f"ExecStart={ROOT}/services/pump/releases/20270101-000000-cafe/runtime/bin/edgelstm run"
    file = f"{control}/edgelstm@pump.service"
    device.machine.run("sh", "-c", f"mkdir -p {control} && echo '{text}' > {file}")
    try:
        page = edgelstm(device, "status", "device", "--name", "pump").stdout
    finally:
        device.machine.run("rm", file)
    assert "  Release 20270101-000000-cafe is on trial now.\n" in page


def test_services_that_are_not_there(device: DeviceMachine) -> None:
    done = edgelstm(device, "status", "device", "--name", "bump")
    assert done.returncode == 2
    assert "no service 'bump' on the device; it has fan, pump." in done.stderr
    done = edgelstm(device, "logs", "device")
    assert done.returncode == 2
    assert "several services; name one with --name: fan, pump." in done.stderr
    done = edgelstm(device, "status", "device", "--user")
    assert (done.returncode, done.stdout) == (
        1,
        "device has no service; 'edgelstm deploy' brings one there.\n",
    )


def test_the_log(device: DeviceMachine) -> None:
    done = edgelstm(device, "logs", "device", "--name", "fan", "--sudo", "-n", "20")
    assert done.returncode == 0, done.stderr
    assert "the fan is broken" in done.stdout
    done = edgelstm(device, "logs", "device-root", "--name", "fan", "--since", "today", "--json")
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    assert any(entry["MESSAGE"] == "the fan is broken" for entry in entries)
    done = edgelstm(device, "logs", "device", "--name", "fan")
    assert done.returncode == 2
    assert "read it as root with --sudo" in done.stderr


def test_following_the_log_ends_with_ctrl_c(device: DeviceMachine) -> None:
    command = ["logs", "device-root", "--name", "pump", "-f", "-n", "1", *device.options]
    with subprocess.Popen(
        [sys.executable, "-m", "edgelstm", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        # The terminal sends it to every process there.
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "")
    left = ["pgrep", "-f", "journalctl.*follow"]
    device.machine.wait(lambda: device.machine.run(*left, check=False).returncode == 1, "its end")


def test_measuring_there(device: DeviceMachine, tmp_path: Path) -> None:
    quick = ["--seconds", "0.1", "--no-footprint", "--json"]
    done = edgelstm(device, "bench", "--on", "device", "--name", "pump", *quick)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["file"] == "tiny.tflite"
    other = tmp_path / "my pump's.tflite"
    shutil.copy(DATA / "tiny_float.tflite", other)
    done = edgelstm(device, "bench", str(other), "--on", "device", "--name", "pump", *quick)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["file"], told["timings"][0]["median_us"] > 0) == ("my pump's.tflite", True)
    other.write_bytes(b"no model")
    done = edgelstm(device, "bench", str(other), "--on", "device", "--name", "pump", *quick)
    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert device.machine.run("sh", "-c", "ls -d /tmp/tmp.* 2>/dev/null", check=False).stdout == ""


def test_going_back(device: DeviceMachine) -> None:
    arguments = ("rollback", "device", "--name", "pump", "--grace", "1")
    done = edgelstm(device, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.startswith(
        "On device, root is needed to start an earlier release of edgelstm@pump.\n"
        "  starting it in the place of the one that runs\n  it is ready"
    )
    assert done.stdout.startswith(f"ok  device runs release {OLD} of pump; ")
    code, told = status(device, "device", "--name", "pump")
    assert (code, told["services"][0]["release"]) == (0, OLD)
    assert told["services"][0]["history"][-1]["what"] == "rollback"
    done = edgelstm(device, *arguments)
    assert done.returncode == 2
    assert "release of pump on the device" in done.stderr

    toml = device.path(f"{ROOT}/services/pump/releases/{RELEASE}/pump.toml")
    toml.write_text(toml.read_text() + "pump = = 1\n")
    done = edgelstm(device, *arguments, "--to", RELEASE)
    assert done.returncode == 1
    assert done.stdout.startswith("failed  The new release was not taken: ")
    assert done.stdout.endswith(f"device goes on with release {OLD}.\n")
    code, told = status(device, "device", "--name", "pump")
    [pump] = told["services"]
    assert (pump["release"], pump["history"][-1]["committed"]) == (OLD, False)


def test_services_of_one_user(device: DeviceMachine) -> None:
    """All of it without root."""
    write(device.path("/etc/systemd/system/manager.service"), MANAGER)
    systemctl(device, "daemon-reload")
    systemctl(device, "start", "manager")
    port = free_port()
    with closing(Device(port)):
        install(device, "pump", port, user=True)
        systemctl(device, "start", "edgelstm@pump.service", user=True)
        device.machine.wait(lambda: alerts_in(device, "/run/user/1000"), "an alert")
        arguments = ("device", "--user")
        code, told = status(device, *arguments)
        [pump] = told["services"]
        assert (code, told["left_out"], pump["condition"]["word"]) == (0, [], "ok")
        assert pump["alerts"][0]["kind"] == "anomaly"
        assert pump["unit"]["enabled"]
        done = edgelstm(device, "logs", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert "Started edgelstm@pump.service" in done.stdout
        done = edgelstm(device, "rollback", *arguments, "--grace", "1")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "root" not in done.stderr
        assert status(device, *arguments)[1]["services"][0]["release"] == OLD
    done = edgelstm(device, "uninstall", *arguments, "--yes", "--purge")
    assert done.returncode == 0, done.stderr
    assert not device.path(f"{HOME}/.local/share/edgelstm").exists()
    assert not device.path(pump["data"][0]).exists()


def test_taking_services_off(device: DeviceMachine) -> None:
    """The last of the module: nothing is left."""
    arguments = ("uninstall", "device", "--name", "fan")
    done = edgelstm(device, *arguments)
    assert done.returncode == 2
    assert "Nobody can be asked here; say that you mean it with --yes." in done.stderr
    assert status(device, "device", "--name", "fan")[0] == 1
    done = edgelstm(device, *arguments, "--yes")
    assert done.returncode == 0, done.stderr
    assert f"  {ROOT}/services/fan, with all releases\n" in done.stderr
    assert done.stdout.startswith("device has no service fan any more.\n")
    assert device.path("/var/lib/edgelstm/fan").is_dir()
    assert not device.path(f"{ROOT}/services/fan").exists()
    done = edgelstm(device, "uninstall", "device", "--purge", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kept"] == []
    assert "  /var/lib/edgelstm/pump, with states, alerts or logs\n" in done.stderr
    assert not device.path("/var/lib/edgelstm/pump").exists()
    assert not device.path(ROOT).exists()
    assert device.machine.show("edgelstm@pump.service", "LoadState") == "not-found"
    assert status(device, "device") == (
        1,
        {"host": "device", "ok": False, "services": [], "left_out": []},
    )
