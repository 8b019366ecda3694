"""Rollouts to a real systemd: one machine that three hosts of an inventory stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import made_release
import pytest
from device_machine import ANNS_PASSWORD, DeviceMachine, device_machine, why_no_device

from edgelstm_devices.fleet import FleetOptions, FleetResult, Wish, deploy_fleet
from edgelstm_devices.planning import ReleasePlan

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_no_device()), reason=why_no_device() or "it can"),
]

TIMEOUTS = {"ready_timeout": 20.0, "readings_timeout": 3.0, "grace": 1.0}
Tell = Callable[[str], None]


class Fleet:
    """Three hosts that are services of one machine."""

    def __init__(self, device: DeviceMachine, folder: Path) -> None:
        self.device, self._folder = device, folder
        self.lines: list[str] = []

    def inventory(self, hosts: int = 3, host: str = "device") -> Path:
        path = self._folder / "hosts.ini"
        path.write_text(
            "".join(f"pump-{n} edgelstm_name=pump-{n}\n" for n in range(1, hosts + 1))
            + f"[all:vars]\nansible_host={host}\nansible_python_interpreter=/usr/bin/python3\n"
            + f"ansible_ssh_common_args='-F {self.device.folder}/config'\n"
        )
        return path

    def deploy(
        self,
        models: Mapping[str, str],
        tell: Tell = lambda _line: None,
        *,
        host: str = "device",
        batch: tuple[str, ...] = ("100%",),
        become_password: str | None = None,
    ) -> FleetResult:
        """Deploys to the hosts of `models` what those are."""
        self.lines.clear()

        def plan(wish: Wish) -> ReleasePlan:
            model = models[wish.host]
            folder = self._folder / "made" / f"{wish.host}-{model.replace(' ', '-')}"
            bundle = made_release.make_release(folder, wish.name, model)
            return ReleasePlan((), bundle=bundle)

        def hear(line: str) -> None:
            self.lines.append(line)
            tell(line)

        options = FleetOptions(batch=batch, become_password=become_password, timeouts=TIMEOUTS)
        return deploy_fleet(self.inventory(len(models), host), plan, options, hear)

    def model(self, host: str) -> str:
        """What serves there; "" when nothing does."""
        pid = self.device.machine.show(f"edgelstm@{host}.service", "MainPID")
        if pid == "0":
            return ""
        command = self.device.machine.run("cat", f"/proc/{pid}/cmdline").stdout.split("\0")
        return self.device.path(str(Path(command[-2]).parent / "pump.tflite")).read_text()

    def invocations(self) -> list[str]:
        units = [f"edgelstm@pump-{n}.service" for n in (1, 2, 3)]
        return [self.device.machine.show(unit, "InvocationID") for unit in units]


def all_of(model: str) -> dict[str, str]:
    return {f"pump-{n}": model for n in (1, 2, 3)}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with device_machine(folder / "device") as device:
        yield Fleet(device, folder)


@pytest.fixture
def served(fleet: Fleet) -> Fleet:
    """All three hosts serve "first"."""
    if [fleet.model(host) for host in all_of("")] == ["first"] * 3:
        return fleet
    result = fleet.deploy(all_of("first"))
    assert result.good, result.lines()
    return fleet


def test_all_hosts_serve_what_was_proved_and_the_same_again_changes_nothing(fleet: Fleet) -> None:
    result = fleet.deploy(all_of("first"), batch=("1", "2"))
    assert [host.state for host in result.hosts] == ["new"] * 3, result.lines()
    assert [line for line in fleet.lines if line.startswith("Batch")] == ["Batch 1:", "Batch 2:"]
    assert [fleet.model(host) for host in all_of("")] == ["first"] * 3
    before = fleet.invocations()

    again = fleet.deploy(all_of("first"))
    assert [host.state for host in again.hosts] == ["same"] * 3, again.lines()
    assert fleet.invocations() == before


def test_golden_vectors_that_are_not_met_end_it_and_the_old_one_never_stopped(
    served: Fleet,
) -> None:
    before = served.invocations()
    models = all_of("second") | {"pump-2": made_release.BROKEN}
    result = served.deploy(models, batch=("2", "1"))
    assert [host.state for host in result.hosts] == ["new", "old", "untouched"], result.lines()
    assert "golden runs do not hold" in result.hosts[1].reason
    assert [served.model(host) for host in models] == ["second", "first", "first"]
    assert served.invocations()[1:] == before[1:]
    assert not result.good


def test_a_release_without_readings_goes_back_by_itself(served: Fleet) -> None:
    models = all_of("third") | {"pump-1": made_release.SILENT}
    result = served.deploy(models, batch=("1",))
    assert [host.state for host in result.hosts] == ["old", "untouched", "untouched"]
    assert "no reading" in result.hosts[0].reason
    assert (
        result.hosts[0].release
        == served.device.path("/opt/edgelstm/services/pump-1/current").readlink().name
    )
    assert [served.model(host) for host in models] == ["first"] * 3


def test_connections_that_are_cut_while_it_is_proved_leave_it_to_the_device(
    served: Fleet,
) -> None:
    def cut(line: str) -> None:
        if line.endswith("it is proved there"):
            served.device.cut()

    result = served.deploy({"pump-1": "fourth"}, cut)
    served.device.machine.wait(lambda: served.model("pump-1") == "fourth", "the new release")
    assert result.hosts[0].state in ("new", "unknown"), result.lines()
    trial = "/run/systemd/system.control/edgelstm@pump-1.service"
    served.device.machine.wait(
        lambda: served.device.machine.run("test", "-e", trial, check=False).returncode,
        "the end of the trial",
    )
    assert served.deploy({"pump-1": "fourth"}).hosts[0].state == "same"


def test_a_password_for_sudo_reaches_the_device_and_no_file(
    served: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found: list[Path] = []

    def look(_line: str) -> None:
        found.extend(
            path
            for path in tmp_path.rglob("*")
            if path.is_file() and ANNS_PASSWORD.encode() in path.read_bytes()
        )

    result = served.deploy(
        {"pump-1": "fifth"}, look, host="device-ann", become_password=ANNS_PASSWORD
    )
    assert result.good, result.lines()
    assert not found
    assert not list(tmp_path.iterdir())


def test_without_the_password_nothing_is_changed(served: Fleet) -> None:
    before = served.invocations()
    result = served.deploy({"pump-1": "sixth"}, host="device-ann")
    assert result.hosts[0].state == "old"
    assert "password" in result.hosts[0].reason
    assert served.invocations() == before
