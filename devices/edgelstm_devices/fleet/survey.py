"""What the first playbook finds out: the facts of every host, and what is wanted of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgelstm.errors import DeploymentError
from edgelstm_devices.fleet.outcome import failure, unreachable
from edgelstm_devices.fleet.playbooks import Event


@dataclass(frozen=True)
class Wish:
    """A host, and what the inventory wants of it; "" for what it leaves open.

    Attributes:
        host: its name in the inventory.
        facts: of the device, as the agent's `facts` gives them.
        asked: when they were asked for and when they came, epoch seconds of this computer.
        name: of the service (`edgelstm_name`).
        mode: "system" or "user" (`edgelstm_mode`).
        root: folder of everything there (`edgelstm_root`).
        port: of its readings (`edgelstm_port`).
        profile: of the device (`edgelstm_profile`).
        source: artifact or run configuration that is for it alone (`edgelstm_source`).
    """

    host: str
    facts: Mapping[str, Any]
    asked: tuple[float, float]
    name: str = ""
    mode: str = "system"
    root: str = ""
    port: str = ""
    profile: str = ""
    source: str = ""


class Survey:
    """Follows the events of the playbook `facts`.

    Attributes:
        hosts: all of them, in the order of the inventory.
        failed: why hosts could not be looked at.
    """

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.failed: dict[str, str] = {}
        self._began: dict[str, float] = {}
        self._facts: dict[str, tuple[Mapping[str, Any], float]] = {}
        self._wanted: dict[str, Mapping[str, str]] = {}

    def hear(self, event: Event) -> None:
        """Takes an event in."""
        kind, data = event["event"], event.get("event_data") or {}
        host, answer = data.get("host"), data.get("res") or {}
        if not host:
            return
        if host not in self.hosts:
            self.hosts.append(host)
        if kind == "runner_on_start" and host not in self._facts:
            self._began[host] = time.time()
        elif kind == "runner_on_unreachable":
            self.failed[host] = unreachable(answer)
        elif kind == "runner_on_failed":
            self.failed[host] = failure(answer)
        elif kind == "runner_on_ok" and "facts" in answer:
            self._facts[host] = answer["facts"], time.time()
        elif kind == "runner_on_ok" and "edgelstm_wanted" in answer.get("ansible_facts", {}):
            self._wanted[host] = answer["ansible_facts"]["edgelstm_wanted"]

    def wish(self, host: str) -> Wish:
        """What is wanted of a host.

        Raises:
            DeploymentError: it failed, or Ansible ended before it was looked at.
        """
        if host in self.failed or host not in self._wanted or host not in self._facts:
            raise DeploymentError(self.failed.get(host, "Ansible ended before it was looked at"))
        facts, answered = self._facts[host]
        wanted = {key: str(value) for key, value in self._wanted[host].items()}
        return Wish(host, facts, (self._began[host], answered), **wanted)
