"""The collection over a plain sshd of this machine, as far as nothing is switched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_release import make_release
from sshd import Sshd, free_port, sshd

from edgelstm.errors import DeploymentError
from edgelstm_devices.bundle import Bundle
from edgelstm_devices.fleet import COLLECTIONS, FleetOptions, FleetResult, Wish, deploy_fleet
from edgelstm_devices.fleet.playbooks import Playbooks, environment
from edgelstm_devices.planning import ReleasePlan

ROLES = ("main", "facts", "status", "rollback", "uninstall")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


def inventory(folder: Path, server: Sshd, *hosts: str) -> Path:
    """One for this machine, in which nothing but a folder of its own is looked at."""
    path = folder / "hosts.ini"
    path.write_text(
        "\n".join(hosts) + "\n[all:vars]\nansible_host=device\nedgelstm_mode=user\n"
        f"edgelstm_root={folder}/root\nansible_python_interpreter={sys.executable}\n"
        f"ansible_ssh_common_args='-F {server.folder}/config'\n"
    )
    return path


def refused(wish: Wish) -> ReleasePlan:
    raise DeploymentError(f"{wish.host} is not for this.")


def deploy(path: Path, **options: Any) -> tuple[FleetResult, list[str]]:
    lines: list[str] = []
    return deploy_fleet(path, refused, FleetOptions(**options), lines.append), lines


def ansible(*command: str) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, **environment(os.environ)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_playbooks_of_the_collection_are_understood() -> None:
    names = [f"edgelstm.edgelstm.{name}" for name in ("facts", "rollout", "status")]
    ansible("ansible-playbook", "--syntax-check", "-i", "localhost,", *names)


def test_the_documentation_of_the_module_has_its_options() -> None:
    name = "edgelstm.edgelstm.release"
    told = json.loads(ansible("ansible-doc", "--json", name))[name]["doc"]["options"]
    source = COLLECTIONS / "ansible_collections/edgelstm/edgelstm/plugins/modules/release.py"
    taken = [name for name in told if f'            "{name}": {{"type"' in source.read_text()]
    assert sorted(told) == sorted(taken)
    assert len(told) == source.read_text().count('": {"type"')


def test_the_role_says_what_it_takes() -> None:
    told = json.loads(ansible("ansible-doc", "--json", "-t", "role", "edgelstm.edgelstm.edgelstm"))
    assert sorted(told["edgelstm.edgelstm.edgelstm"]["entry_points"]) == sorted(ROLES)


def test_what_is_found_out_about_a_host(tmp_path: Path, server: Sshd) -> None:
    wishes: list[Wish] = []

    def look(wish: Wish) -> ReleasePlan:
        wishes.append(wish)
        raise DeploymentError("That will do.")

    path = inventory(tmp_path, server, "pump-1 edgelstm_name=pump edgelstm_port=/dev/ttyX")
    deploy_fleet(path, look, FleetOptions(check=True), lambda _line: None)
    [wish] = wishes
    assert (wish.host, wish.name, wish.mode, wish.port) == ("pump-1", "pump", "user", "/dev/ttyX")
    assert wish.root == f"{tmp_path}/root"
    assert wish.facts["machine"] == os.uname().machine
    assert wish.asked[0] < wish.facts["time"] < wish.asked[1]
    assert not Path(wish.root).exists()


def test_nothing_begins_while_a_host_is_unfit(tmp_path: Path, server: Sshd) -> None:
    gone = f"pump-2 ansible_port={free_port()}"
    result, lines = deploy(inventory(tmp_path, server, "pump-1", gone))
    assert not result.changed
    assert [host.state for host in result.hosts] == ["untouched", "untouched"]
    assert result.hosts[0].reason == "pump-1 is not for this."
    assert "cannot be reached" in result.hosts[1].reason
    assert "Connection refused" in result.hosts[1].reason
    assert any(line.startswith("pump-2: it cannot be reached") for line in lines)
    assert not (tmp_path / "root").exists()


def test_neither_settings_of_ansible_nor_a_folder_with_a_space_are_in_the_way(
    tmp_path: Path, server: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("ANSIBLE_ANY_ERRORS_FATAL", "true")
    gone = f"pump-2 ansible_port={free_port()}"
    result, _ = deploy(inventory(tmp_path, server, "pump-1", gone))
    assert result.hosts[0].reason == "pump-1 is not for this."
    assert "Connection refused" in result.hosts[1].reason


def test_a_host_that_is_fit_waits_for_those_that_are_not(tmp_path: Path, server: Sshd) -> None:
    bundle = make_release(tmp_path / "made", "pump", "a model")
    path = inventory(tmp_path, server, "pump-1", f"pump-2 ansible_port={free_port()}")
    lines: list[str] = []
    result = deploy_fleet(
        path, lambda _wish: ReleasePlan((), bundle=bundle), FleetOptions(), lines.append
    )
    assert not result.changed
    assert [(host.state, bool(host.reason)) for host in result.hosts] == [
        ("untouched", False),
        ("untouched", True),
    ]
    assert not any(line.startswith("Batch") for line in lines)
    assert not (tmp_path / "root").exists()


def test_bundles_that_are_kept_for_playbooks_of_ones_own(tmp_path: Path, server: Sshd) -> None:
    bundle = make_release(tmp_path / "made", "pump", "a model")
    keep = tmp_path / "bundles"
    result = deploy_fleet(
        inventory(tmp_path, server, "pump-1"),
        lambda _wish: ReleasePlan((), bundle=bundle),
        FleetOptions(dry_run=True, keep=keep),
        lambda _line: None,
    )
    assert [host.state for host in result.hosts] == ["ready"]
    folder = json.loads((keep / "bundles.json").read_text())["edgelstm_bundles"]["pump-1"]
    assert Bundle.read(Path(folder)).spec == bundle.spec
    assert not (tmp_path / "root").exists()


def test_a_host_whose_key_is_not_known_is_not_reached(
    tmp_path: Path, server: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ansible-runner would skip the key, and ssh would ask at a terminal where nobody is."""
    config = (server.folder / "config").read_text()
    config = config.replace(f"{server.folder}/known_hosts", str(tmp_path / "nobody"))
    config = config.replace("StrictHostKeyChecking yes", "StrictHostKeyChecking ask")
    (tmp_path / "config").write_text(config.replace("BatchMode yes", "BatchMode no"))
    path = inventory(tmp_path, server, "pump-1")
    path.write_text(path.read_text().replace(f"{server.folder}/config", f"{tmp_path}/config"))
    monkeypatch.setenv("ANSIBLE_HOST_KEY_CHECKING", "False")
    result, _ = deploy(path)
    assert "Host key verification failed" in result.hosts[0].reason


def test_an_agent_that_has_no_python_there(tmp_path: Path, server: Sshd) -> None:
    path = inventory(tmp_path, server, "pump-1")
    path.write_text(path.read_text().replace(sys.executable, "/usr/bin/no-python"))
    result, _ = deploy(path)
    assert "no-python" in result.hosts[0].reason


@pytest.mark.parametrize(
    ("name", "text", "limit", "message"),
    [
        ("hosts.ini", "", "", r"hosts\.ini has no host; see: ansible-inventory"),
        ("hosts.ini", "pump-1\n", "fans", r"hosts\.ini has no host that fans names"),
        ("hosts.yml", "all: [\n", "", r"Ansible cannot read the inventory .*YAML"),
        ("hosts.ini", "[pumps\n", "", r"Ansible cannot read the inventory .*"),
    ],
)
def test_inventories_that_will_not_do(
    tmp_path: Path, name: str, text: str, limit: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DeploymentError, match=message):
        deploy(tmp_path / name, limit=limit)


def test_ctrl_c_ends_it_and_leaves_no_files(
    tmp_path: Path, server: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    before = signal.getsignal(signal.SIGINT)
    path = inventory(tmp_path, server, *(f"pump-{n}" for n in range(20)))
    pressed: list[threading.Timer] = []

    def press(_event: object) -> None:
        if not pressed:
            pressed.append(threading.Timer(0, os.kill, (os.getpid(), signal.SIGINT)))
            pressed[0].start()

    ended = Playbooks(path, forks=1).run("facts", {}, press)
    pressed[0].join()
    assert ended.cancelled
    assert signal.getsignal(signal.SIGINT) is before
    assert not list(folder.iterdir())


def test_what_a_listener_raises_is_raised(tmp_path: Path, server: Sshd) -> None:
    def fail(_event: object) -> None:
        raise RuntimeError("a mistake of ours")

    with pytest.raises(RuntimeError, match="a mistake of ours"):
        Playbooks(inventory(tmp_path, server, "pump-1")).run("facts", {}, fail)
