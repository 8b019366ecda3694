"""What became of every host of a rollout: pure, from the events of Ansible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["new", "same", "old", "none", "unknown", "untouched", "ready"]
"""What serves: the new release, which did so before as well, an older one, none, nobody knows;
`untouched` for a host that the rollout did not come to, `ready` for one that was only looked at."""

PROVE = "Prove and switch"
"""The role's last task."""
COMPARE = "Compare"
_NO_ANSWER = ("MODULE FAILURE", "Module result deserialization failed")
_CLOSED = "Shared connection to"
_SERVES = ("new", "same")
_SAID = {
    "new": "the new release serves, and was proved",
    "same": "the release serves already",
    "old": "an older release serves",
    "none": "nothing serves",
    "unknown": "it is not known what serves",
    "untouched": "not begun",
    "ready": "ready for it",
}


@dataclass(frozen=True)
class HostResult:
    """What became of a host.

    Attributes:
        host: its name in the inventory.
        state: what serves there.
        release: id of the release that serves; "" when none does, or none is known.
        reason: what failed; "" where nothing did, and where it was not begun.
    """

    host: str
    state: State
    release: str = ""
    reason: str = ""

    @property
    def good(self) -> bool:
        """Whether it serves what it was to serve, or could, where it was only looked at.

        Not when something failed besides: a connection that ended, or a key that it does not trust.
        """
        return self.state in ("new", "same", "ready") and not self.reason

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "host": self.host,
            "state": self.state,
            "release": self.release,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class FleetResult:
    """What became of all of them.

    Attributes:
        hosts: in the order of the inventory.
        changed: whether anything was begun on any of them.
        cancelled: whether the user ended it.
    """

    hosts: tuple[HostResult, ...]
    changed: bool = True
    cancelled: bool = False

    @property
    def good(self) -> bool:
        """Whether every host is good."""
        return bool(self.hosts) and all(host.good for host in self.hosts)

    def lines(self) -> list[str]:
        """A table, and the sum of it."""
        names = max((len(one.host) for one in self.hosts), default=0)
        releases = max((len(one.release or "-") for one in self.hosts), default=0)
        lines = []
        for one in self.hosts:
            said = _SAID[one.state] + (f": {one.reason}" if one.reason else "")
            lines.append(f"{one.host:<{names}}  {one.release or '-':<{releases}}  {said}".rstrip())
        of = f"of {len(self.hosts)} hosts"
        ready = sum(one.state == "ready" for one in self.hosts)
        if ready:
            lines.append(f"{ready} {of} are ready for it.")
        elif not self.changed:
            lines.append("Nothing was changed on any host.")
        else:
            lines.append(f"{sum(one.state in _SERVES for one in self.hosts)} {of} serve it.")
        return lines


@dataclass
class Progress:
    """Follows the events of a rollout.

    Attributes:
        hosts: all of them, in the order of the inventory.
        releases: id of the release that each host is to get.
        results: what is known of hosts by now.
        begun: hosts on which something was changed, or may have been.
        batches: how many were begun.
    """

    hosts: Sequence[str]
    releases: Mapping[str, str]
    results: dict[str, HostResult] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    batches: int = 0
    _in_batch: set[str] = field(default_factory=set)

    def hear(self, event: Mapping[str, Any]) -> list[str]:
        """Takes an event in.

        Returns:
            Lines to tell the user.
        """
        kind, data = event["event"], event.get("event_data") or {}
        if kind == "playbook_on_play_start":
            self.batches += 1
            self._in_batch = set()
            return []
        host, task = str(data.get("host", "")), data.get("task")
        if host not in self.releases:
            return []
        if kind == "runner_on_start":
            return self._start(host, task)
        answer = data.get("res") or {}
        if kind == "runner_on_unreachable":
            return self._ends(host, "unknown", unreachable(answer))
        if kind == "runner_on_failed" and not data.get("ignore_errors"):
            return self._ends(host, "unknown", failure(answer))
        if kind == "runner_on_ok" and task == PROVE:
            return self._ends(host, "new", "")
        if kind == "runner_on_ok" and task == COMPARE and answer.get("serves"):
            return self._ends(host, "same", "", str(answer.get("release") or ""))
        if kind == "runner_on_ok" and task == COMPARE:
            missing = len(answer.get("missing", ()))
            return [f"{host}: {missing} files to send"] if missing else []
        return []

    def finish(self) -> list[HostResult]:
        """What became of every host, as far as it was seen from here."""
        return [self.results.get(host) or self._left(host) for host in self.hosts]

    def _start(self, host: str, task: str | None) -> list[str]:
        lines = []
        if host not in self._in_batch:
            if not self._in_batch:
                lines.append(f"Batch {self.batches}:")
            self._in_batch.add(host)
            self.begun.add(host)
        if task == PROVE and host not in self.results:
            lines.append(f"{host}: it is proved there")
        return lines

    def _ends(self, host: str, state: State, reason: str, release: str = "") -> list[str]:
        if host in self.results and not reason:
            return []
        if state == "new":
            release = self.releases[host]
        self.results[host] = HostResult(host, state, release, reason)
        return [f"{host}: {reason or _SAID[state]}"]

    def _left(self, host: str) -> HostResult:
        if host not in self.begun:
            return HostResult(host, "untouched")
        return HostResult(host, "unknown", reason="it was interrupted")


def settled(
    result: HostResult, status: Mapping[str, Any] | None, service: str, wanted: str
) -> HostResult:
    """A result with what the device says of itself afterwards.

    Args:
        result: as it was seen from here.
        status: what `status` answers there; None when it cannot be asked.
        service: name of the service.
        wanted: id of the release that it was to get.
    """
    if status is None:
        return result
    told = next((one for one in status["services"] if one["name"] == service), None)
    release = told["release"] if told else ""
    untouched = result.state == "untouched"
    if told and told["trial"]:
        reason = f"{result.reason}; the release {told['trial']} is on trial there"
        return HostResult(result.host, "unknown", release, reason.removeprefix("; "))
    serves = bool(told and (told["unit"] or {}).get("active") == "active")
    if untouched:
        return HostResult(result.host, "untouched", release if serves else "", result.reason)
    if not serves:
        return HostResult(result.host, "none", "", result.reason)
    # It may have finished by itself after the connection ended.
    state: State = "new" if release == wanted else "old"
    return HostResult(result.host, state, release, result.reason)


def failure(answer: Mapping[str, Any]) -> str:
    """Why a task failed, in one line."""
    for one in answer.get("results") or ():  # of a loop
        if one.get("failed"):
            return failure({key: value for key, value in one.items() if key != "results"})
    text = str(answer.get("msg") or "").strip()
    if not text or text.startswith(_NO_ANSWER):
        # The module did not get as far as an answer: what the device's Python or shell said.
        printed = f"{answer.get('module_stderr') or ''}\n{answer.get('module_stdout') or ''}"
        lines = [line for line in printed.splitlines() if line.strip() and _CLOSED not in line]
        text = lines[-1 if "Traceback" in printed else 0] if lines else text
    return _one_line(text.removeprefix("Task failed: ")) or "Ansible does not say why"


def unreachable(answer: Mapping[str, Any]) -> str:
    """Why a host was not reached, in one line."""
    text = _one_line(str(answer.get("msg") or ""))
    # Ansible puts its own words before those of ssh.
    for words in (
        "Failed to connect to the host via ssh:",
        "Data could not be sent to remote host",
    ):
        text = text.split(words)[-1].strip()
    return f"it cannot be reached: {text}" if text else "it cannot be reached"


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
