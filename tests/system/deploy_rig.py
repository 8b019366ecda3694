"""What the tests of `edgelstm deploy` share: a device that watches a sensor and tells a broker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from broker import Broker, Watcher, wait_until
from device_machine import DeviceMachine
from sensor_device import Sensor, sensor, write_model

SERVICE = "pump"
UNIT = f"edgelstm@{SERVICE}"
HOME = f"/opt/edgelstm/services/{SERVICE}"
_HEALTH = f"/run/edgelstm/{SERVICE}/health.json"

Completed = subprocess.CompletedProcess[str]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edgelstm", *map(str, arguments)]


def edgelstm(*arguments: object, environment: dict[str, str] | None = None) -> Completed:
    """Runs the command line to its end."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        env={**os.environ, "COLUMNS": "100", **(environment or {})},
    )


@dataclass
class Deploying:
    """A device, and what is deployed to it.

    Attributes:
        device: it.
        host: by which ssh finds it.
        folder: with `pump.toml` and `pump.tflite`.
        sensor: at its serial port.
        watcher: of what the broker gets.
        options: for every deployment.
        grace: seconds.
    """

    device: DeviceMachine
    host: str
    folder: Path
    sensor: Sensor
    watcher: Watcher
    options: tuple[object, ...] = ("--offline",)
    grace: float = 2.0

    @property
    def configuration(self) -> Path:
        return self.folder / "pump.toml"

    def write(self, **model: object) -> None:
        """Writes the model, as `write_model` does."""
        write_model(self.folder / "pump.tflite", **model)  # type: ignore[arg-type]

    def arguments(self, *options: object, source: Path | None = None) -> list[object]:
        """Of a deployment."""
        return ["deploy", source or self.configuration, self.host, *self.device.options,
                *self.options, "--grace", self.grace, *options]  # fmt: skip

    def deploy(self, *options: object, source: Path | None = None) -> Completed:
        return edgelstm(*self.arguments(*options, source=source))

    def on(self, name: str, *options: object) -> Completed:
        """Runs another command for the device."""
        return edgelstm(name, self.host, *self.device.options, *options)

    def show(self, name: str) -> str:
        return self.device.machine.show(UNIT, name)

    def current(self) -> str:
        """The id of the release that `current` leads to."""
        link = self.device.machine.run("readlink", f"{HOME}/current", check=False).stdout
        return link.strip().rpartition("/")[2]

    def running(self) -> str:
        """The id of the release whose process runs, as its command line has it."""
        pid = self.show("MainPID")
        line = self.device.machine.run("cat", f"/proc/{pid}/cmdline", check=False).stdout
        if f"{HOME}/current/" in line:
            return self.current()
        return line.partition(f"{HOME}/releases/")[2].partition("/")[0]

    def readings(self) -> int:
        """How many came to the service that runs; -1 while it does not say."""
        text = self.device.machine.run("cat", _HEALTH, check=False).stdout
        if not text:
            return -1
        health = json.loads(text)
        if str(health["pid"]) != self.show("MainPID"):
            return -1
        return int(health["sensors"][SERVICE]["readings"])

    def traces(self) -> list[str]:
        """Units of trials and of their guards that are there."""
        script = (
            "ls /run/systemd/system.control 2>/dev/null; "
            "systemctl list-units --all --plain --no-legend 'edgelstm-*'"
        )
        return self.device.machine.run("sh", "-c", script).stdout.splitlines()

    def assert_serving(self, release: str) -> None:
        """The device serves that release, which takes readings, and nothing is left of a trial."""
        machine = self.device.machine
        machine.wait(lambda: not self.traces(), "the end of the trial")
        machine.wait(lambda: self.show("ActiveState") == "active", "the service")
        assert (self.current(), self.running()) == (release, release)
        machine.wait(lambda: self.readings() > 0, "readings")
        before = self.readings()
        machine.wait(lambda: self.readings() > before, "more readings")

    def assert_alert(self) -> None:
        """A disturbance of the sensor comes to the broker as an alert."""
        topic = f"edgelstm/device/{SERVICE}/alert"

        def last() -> str:
            return str(json.loads(self.watcher.last.get(topic, b"{}")).get("state"))

        wait_until(lambda: last() == "OFF")
        self.sensor.disturbed = True
        try:
            wait_until(lambda: last() == "ON")
        finally:
            self.sensor.disturbed = False

    def interrupted(
        self, cut: Callable[[subprocess.Popen[str]], None], *options: object, until: str
    ) -> tuple[int, str]:
        """Begins a deployment, and does something to it when it has told something.

        Args:
            cut: what is done.
            options: of the deployment.
            until: the text; "" for at once.

        Returns:
            Its exit code and what it told.
        """
        process = subprocess.Popen(
            command(*self.arguments(*options)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout
        told = ""
        with process:
            for line in process.stdout:
                told += line
                if until in line:
                    cut(process)
                    break
            told += process.stdout.read()
        assert until in told, told
        return process.returncode, told

    def cut_cable(self, _: subprocess.Popen[str]) -> None:
        """Ends every connection to the device at once."""
        self.device.cut()

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Kills the laptop's side."""
        process.kill()

    def press_ctrl_c(self, process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGINT)


def refuse_broken_golden_vectors(pump: Deploying, good: str) -> None:
    pump.write(broken=True)
    done = pump.deploy()
    assert done.returncode == 1
    assert "the golden runs do not hold, first in" in done.stdout
    assert "Nothing was switched" in done.stdout
    pump.assert_serving(good)


def go_back_from_what_never_gets_ready(pump: Deploying, good: str) -> None:
    pump.write()
    before = pump.configuration.read_text()
    with socket.create_server(("127.0.0.1", 0)) as taken:  # the device shares the network
        metrics = f"\n[metrics]\nport = {taken.getsockname()[1]}\n"
        pump.configuration.write_text(before + metrics)
        done = pump.deploy()
    pump.configuration.write_text(before)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "in use" in done.stdout, done.stdout
    pump.assert_serving(good)


def stop_at_a_full_disk(pump: Deploying, good: str) -> None:
    pump.write(name="another")
    machine, store = pump.device.machine, "/opt/edgelstm/store"
    machine.run("mount", "-t", "tmpfs", "-o", "size=20M", "tmpfs", store)
    try:
        done = pump.deploy()
    finally:
        machine.run("umount", store)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "full" in done.stderr or "room" in done.stderr, done.stderr
    pump.assert_serving(good)


def go_back_when_cut(pump: Deploying, good: str, until: str) -> None:
    pump.write(name=f"cut at {until}")
    code, told = pump.interrupted(pump.cut_cable, "--grace", "30", until=until)
    assert code == 2, told
    assert "Traceback" not in told
    pump.assert_serving(good)


@contextmanager
def deploying(
    folder: Path,
    machine: Callable[[Path, list[str]], object],
    host: str,
) -> Iterator[Deploying]:
    """A device with a sensor at /dev/ttyACM0, a broker here, and a configuration for it.

    Args:
        folder: for all files.
        machine: `device_machine` or `emulated_pi`.
        host: by which ssh finds it.
    """
    files = folder / "laptop"
    files.mkdir()
    (folder / "broker").mkdir()
    with (
        Broker(folder / "broker") as broker,
        closing(Watcher(broker)) as watcher,
        sensor() as one,
        machine(folder / "device", [f"--bind={one.port}:/dev/ttyACM0"]) as device,  # type: ignore[attr-defined]
    ):
        (files / "pump.toml").write_text(
            '# A pump, watched.\nname = "device"\n\n'
            '[sources.board]\nport = "/dev/ttyACM0"\n\n'
            f'[sensors.{SERVICE}]\nartifact = "pump.tflite"\n\n'
            f'[sinks.broker]\ntype = "mqtt"\nhost = "127.0.0.1"\nport = {broker.port}\n'
        )
        write_model(files / "pump.tflite")
        yield Deploying(device, host, files, one, watcher)
