"""Runs the collection's playbooks through ansible-runner, and tells of their events."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelstm.errors import DeploymentError, MissingDependencyError

COLLECTIONS = Path(__file__).parents[1] / "ansible"
"""For ANSIBLE_COLLECTIONS_PATH: has the collection edgelstm.edgelstm."""

Event = Mapping[str, Any]
OnEvent = Callable[[Event], None]
_CONTROL_PATH = (
    "%(directory)s/edgelstm-{{ ([inventory_hostname, ansible_host | default(''), "
    "ansible_port | default(''), ansible_user | default(''), "
    "ansible_ssh_common_args | default(''), ansible_ssh_extra_args | default('')] "
    "| join(' ') | hash('sha1'))[:20] }}"
)
"""Of ssh's shared connections. Ansible's own tells hosts apart by address, port and user only: two
devices of the same address behind two jump hosts would be taken for one."""

_SETTINGS = {"pexpect_timeout": 1, "suppress_ansible_output": True}  # how late Ctrl-C is seen


@dataclass(frozen=True)
class Ended:
    """How a playbook ended.

    Attributes:
        code: exit code of ansible-playbook.
        cancelled: whether the user ended it.
        said: the last of what it printed, for when no host was reached by it.
    """

    code: int
    cancelled: bool
    said: str


class Playbooks:
    """Ansible, with the user's inventory, configuration, ssh and working directory.

    Args:
        inventory: file, script or folder, as `ansible-playbook -i` takes it.
        limit: hosts or groups of it; "" for all.
        forks: how many devices at once.
        become_password: for sudo on the devices; None where it needs none, or where the inventory
            has it.

    Raises:
        MissingDependencyError: Ansible is not installed.
        DeploymentError: there is no such inventory.
    """

    def __init__(
        self, inventory: Path, limit: str = "", forks: int = 10, become_password: str | None = None
    ) -> None:
        if any(importlib.util.find_spec(name) is None for name in ("ansible", "ansible_runner")):
            raise MissingDependencyError(
                "Rollouts to an inventory are Ansible's; install it with: "
                f"{sys.executable} -m pip install 'edgelstm[fleet]'"
            )
        if not inventory.exists():
            raise DeploymentError(f"There is no inventory {inventory}; name a file that there is.")
        self._inventory, self._limit, self._forks = inventory.absolute(), limit, forks
        self._password = become_password

    def run(
        self, name: str, variables: Mapping[str, Any], on_event: OnEvent, limit: str = ""
    ) -> Ended:
        """Runs a playbook of the collection.

        Args:
            name: such as "facts".
            variables: that win over those of the inventory.
            on_event: hears the events as ansible-runner has them.
            limit: other than the usual one.

        Raises:
            DeploymentError: Ansible could not begin, or has no host.
        """
        import ansible_runner

        seen: list[str] = []
        failure: list[BaseException] = []

        def hear(event: dict[str, Any]) -> bool:
            seen.append(event["event"])
            try:
                on_event(event)
            except BaseException as error:  # ansible-runner swallows what a handler raises
                failure.append(error)
            return False  # the runner need not write it to a file

        # Only this user may look into it. It has no password, but all of the environment.
        with tempfile.TemporaryDirectory(prefix="edgelstm-fleet-") as folder, _interrupt() as stop:
            _write(Path(folder, "env/settings"), _SETTINGS)
            everything = {**variables, "ansible_control_path": _CONTROL_PATH}
            _write(Path(folder, "variables.json"), everything)
            ran = ansible_runner.run(
                private_data_dir=folder,
                # Relative paths of the inventory and ./ansible.cfg mean what they mean to Ansible.
                project_dir=str(Path.cwd()),
                playbook=f"edgelstm.edgelstm.{name}",
                inventory=[str(self._inventory)],
                limit=limit or self._limit or None,
                forks=self._forks,
                cmdline=shlex.join(["-e", f"@{folder}/variables.json", *self._ask()]),
                envvars=environment(os.environ),
                # Else passwords would be written to a file.
                suppress_env_files=True,
                passwords={r"(?i)become password[^:]*:\s*$": self._password or ""},
                quiet=True,
                event_handler=hear,
                cancel_callback=lambda: stop.is_set() or bool(failure),
            )
            said = _tail(Path(ran.config.artifact_dir, "stdout"))
        if failure:
            raise failure[0]
        if not any(event.startswith("runner_") for event in seen) and not stop.is_set():
            raise DeploymentError(_why_none(seen, said, self._inventory, limit or self._limit))
        return Ended(int(ran.rc or 0), stop.is_set(), said)

    def _ask(self) -> list[str]:
        return [] if self._password is None else ["--ask-become-pass"]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What the environment of Ansible has that is not the user's.

    ansible-runner turns the checking of host keys off unless it is told otherwise. Nobody sits at
    its terminal: ssh must fail where it would ask, and a password for it comes from the inventory.

    Args:
        environ: the user's.
    """
    collections = environ.get("ANSIBLE_COLLECTIONS_PATH")
    default = "~/.ansible/collections:/usr/share/ansible/collections"
    programs = f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', os.defpath)}"
    return {
        "ANSIBLE_COLLECTIONS_PATH": f"{COLLECTIONS}:{collections or default}",
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_NOCOLOR": "True",
        "ANSIBLE_FORCE_COLOR": "False",
        # Else a mistake in the inventory is a warning, and then it has no hosts.
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
        "PATH": programs,
        "SSH_ASKPASS": "/bin/false",
        "SSH_ASKPASS_REQUIRE": "force",
    }


@contextmanager
def _interrupt() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM as an event; ansible-runner's own handlers would stay for good."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in old:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _tail(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[-10000:].strip()
    except OSError:
        return ""


def _why_none(events: list[str], said: str, inventory: Path, limit: str) -> str:
    """One sentence on a run in which no task was begun."""
    none = "playbook_on_no_hosts_matched" in events or "no hosts to target" in said
    if none:
        among = f" that {limit} names" if limit else ""
        return f"{inventory.name} has no host{among}; see: ansible-inventory -i {inventory} --graph"
    # Ansible tries every kind of inventory, and tells what each of them does not like.
    kind = "yaml" if inventory.suffix in (".yml", ".yaml", ".json") else "ini"
    if unread := re.search(rf"inventory with '{kind}' plugin: (.+)", said):
        return (
            f"Ansible cannot read the inventory {inventory}: {unread[1].strip().rstrip('.')}; mend "
            f"it and see: ansible-inventory -i {inventory} --graph"
        )
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line] or lines
    why = errors[0].replace("[ERROR]: ", "").strip().rstrip(".") if errors else "it said nothing"
    return f"Ansible did not begin: {why}; mend the inventory {inventory} or Ansible's settings."
