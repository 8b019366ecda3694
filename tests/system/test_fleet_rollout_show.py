"""`edgelstm deploy --inventory` with everything real: of two devices one gets no readings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from device_machine import DeviceMachine, device_machine, why_no_device
from sensor_device import Sensor, sensor, write_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(why_no_device()), reason=why_no_device() or "it can"),
]

UNIT = "edgelstm@pump.service"


@dataclass
class Site:
    """Two devices with a sensor each, and the folder of who deploys to them."""

    folder: Path
    devices: dict[str, DeviceMachine]
    sensors: dict[str, Sensor]

    def deploy(self, model: str, *hosts: str) -> subprocess.CompletedProcess[str]:
        """Deploys to hosts one after the other, by the command."""
        # Both are called "device" and are reached in ways of their own, as behind two gateways.
        lines = [
            f"{host} ansible_ssh_common_args='-F {self.devices[host].folder}/config'"
            for host in hosts
        ]
        variables = ["[all:vars]", "ansible_host=device", "edgelstm_port=/dev/ttyACM0"]
        (self.folder / "hosts.ini").write_text("\n".join([*lines, *variables]) + "\n")
        (self.folder / "pump.tflite").unlink(missing_ok=True)
        write_model(self.folder / "pump.tflite", name=model)
        options = ["--inventory", "hosts.ini", "--batch", "1", "--offline", "--grace", "3"]
        options += ["--readings-timeout", "15"]
        return subprocess.run(
            [sys.executable, "-m", "edgelstm", "deploy", "pump.tflite", "--name", "pump", *options],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )

    def serves(self, host: str) -> str:
        """What `inspect` says of the artifact that the service steps; "" when it does not run."""
        machine = self.devices[host].machine
        pid = machine.show(UNIT, "MainPID")
        if pid == "0":
            return ""
        words = machine.run("cat", f"/proc/{pid}/cmdline").stdout.split("\0")
        [configuration] = [word for word in words if word.endswith(".toml")]
        command = [str(Path(configuration).parent / "runtime/bin/edgelstm"), "inspect", "--json"]
        return machine.run(*command, str(Path(configuration).with_name("pump.tflite"))).stdout


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        made = Site(tmp_path, {}, {})
        for host in ("good", "bad"):
            made.sensors[host] = stack.enter_context(sensor())
            bind = f"--bind={made.sensors[host].port}:/dev/ttyACM0"
            machine = device_machine(tmp_path / host, [bind])
            made.devices[host] = stack.enter_context(machine)
        yield made


def test_a_device_without_readings_ends_the_rollout(site: Site) -> None:
    first = site.deploy("first", "good", "bad")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "2 of 2 hosts serve it." in first.stdout

    site.sensors["bad"].silent = True
    second = site.deploy("second", "good", "bad")
    assert second.returncode == 1, second.stdout + second.stderr
    good, bad, total = second.stdout.splitlines()
    assert good.endswith("the new release serves, and was proved")
    assert "an older release serves: " in bad
    assert "no reading" in bad
    assert total == "1 of 2 hosts serve it."
    assert '"second"' in site.serves("good")
    assert '"first"' in site.serves("bad")

    third = site.deploy("third", "bad", "good")
    assert third.returncode == 1, third.stdout + third.stderr
    assert third.stdout.splitlines()[1].endswith("not begun")
    assert '"second"' in site.serves("good")
    assert '"first"' in site.serves("bad")
