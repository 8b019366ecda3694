"""A deployment to one device, step by step: look, plan, carry out.

Nothing is changed on the device before `Deployment.carry_out`, and that leaves the release
that runs alone until the new one is proved (`agent.trial`).
"""

from __future__ import annotations

import getpass
import io
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from edgelstm.errors import DeploymentError
from edgelstm_devices.condition import condition_of
from edgelstm_devices.planning import Choice, ReleasePlan, keys_for_device, plan_release
from edgelstm_devices.remote import Remote
from edgelstm_devices.wheelhouse import default_cache

KEPT_RELEASES = 3


class Audience(Protocol):
    """Who follows a deployment."""

    def step(self, title: str, text: str) -> None:
        """Something is done; `title` is one word."""
        ...

    def progress(self, what: str, done: int, total: int) -> None:
        """Something goes on; `done` of `total`, or of 0 for what cannot be measured."""
        ...

    def hear(self, event: Mapping[str, Any]) -> None:
        """The device tells something; its calls say what."""
        ...


@dataclass(frozen=True)
class Timing:
    """How long the device waits, in seconds.

    Attributes:
        ready: for the service to get ready.
        readings: for a reading of every sensor, after that.
        grace: that it has to stay healthy, after that.
    """

    ready: float = 120.0
    readings: float = 60.0
    grace: float = 30.0


@dataclass(frozen=True)
class Sending:
    """What has to be sent.

    Attributes:
        files: as the agent's `missing` gives them.
        whole: bytes of the release with all its wheels.
    """

    files: Sequence[Mapping[str, Any]]
    whole: int

    @property
    def counted(self) -> str:
        """How many files, as people say it."""
        return "1 file" if len(self.files) == 1 else f"{len(self.files)} files"

    @property
    def bytes(self) -> int:
        """That are sent, without what came before."""
        return sum(file["size"] - file["have"] for file in self.files)


@dataclass(frozen=True)
class Proof:
    """One thing that was tried on the device before the switch.

    Attributes:
        what: it was.
        ok: whether it went well.
        text: the last lines of what it said.
    """

    what: str
    ok: bool
    text: str


@dataclass(frozen=True)
class Outcome:
    """How a deployment ended.

    Attributes:
        release: the id of the new release; of the one that runs already, with `nothing_to_do`.
        proofs: of before the switch.
        trial: what the agent's `trial` gave; None when a proof failed, or nothing was to be done.
        nothing_to_do: whether the device runs just that already.
        seconds: that it took.
    """

    release: str
    proofs: Sequence[Proof] = ()
    trial: Mapping[str, Any] | None = None
    nothing_to_do: bool = False
    seconds: float = 0.0

    @property
    def committed(self) -> bool:
        """Whether the device runs what was deployed."""
        return self.nothing_to_do or bool(self.trial and self.trial["committed"])

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "committed": self.committed}


@dataclass
class Deployment:
    """A deployment to one device.

    Attributes:
        remote: the device.
        choice: what is wanted of it.
        audience: hears of what goes on.
        timing: how long the device waits.
        trusted: files of public keys for the device.
        cache: of wheels, on this computer.
    """

    remote: Remote
    choice: Choice
    audience: Audience
    timing: Timing = field(default_factory=Timing)
    trusted: Sequence[Path] = ()
    cache: Path = field(default_factory=default_cache)
    _asked: tuple[float, float] | None = field(default=None, init=False)

    def look(self) -> dict[str, Any]:
        """The facts of the device, which has not changed.

        Raises:
            DeploymentError: it cannot be reached.
        """
        began = time.time()
        facts = self.remote.facts(
            name=self.choice.service, port=self.choice.port or "", online=not self.choice.offline
        )
        self._asked = began, time.time()
        return facts

    def plan(self, facts: Mapping[str, Any]) -> ReleasePlan:
        """What would be deployed, and what speaks against it; the device has not changed.

        Raises:
            EdgelstmError: something is wrong with what is to be deployed.
        """
        keys = keys_for_device(self.trusted)
        plan = plan_release(
            facts,
            self.choice,
            cache=self.cache,
            now=datetime.now(UTC),
            asked=self._asked,
            by=f"{getpass.getuser()}@{platform.node()}",
            progress=lambda line: self.audience.progress(line, 0, 0),
        )
        for path in plan.models():
            keys.check(path.read_bytes(), path)
        return plan

    def sending(self, plan: ReleasePlan) -> Sending:
        """What the device lacks of it; it has not changed.

        Raises:
            DeploymentError: its disk has no room for that.
        """
        stored = plan.ready.spec.stored()
        files = [asdict(file) for file in stored.values()]
        lacking = self.remote.call("missing", layout=self.remote.layout, files=files)
        return Sending(lacking, sum(file.size for file in stored.values()))

    def as_root(self, plan: ReleasePlan, facts: Mapping[str, Any]) -> list[str]:
        """What needs root on the device, each a few words."""
        if self.remote.layout["mode"] == "user":
            return []
        name = plan.ready.spec.service
        steps = [f"write into {self.remote.layout['root'] or '/opt/edgelstm'}"]
        if not (facts.get("service_user") or {}).get("exists"):
            steps.insert(0, "make the user edgelstm")
        if self.trusted:
            steps.append("write into /etc/edgelstm/trusted, at the end")
        return [*steps, f"install and start the unit edgelstm@{name}"]

    def runs_already(self, plan: ReleasePlan) -> str:
        """The id of the release there that is just that, if it runs, and well; else ""."""
        spec = plan.ready.spec
        answer = self.remote.call("status", layout=self.remote.layout)
        for service in answer["services"]:
            if (
                service["name"] == spec.service
                and (service["made"] or {}).get("digest") == spec.digest
                and not service["trial"]
                and condition_of(service).word in ("ok", "degraded")
            ):
                return str(service["release"])
        return ""

    def carry_out(self, plan: ReleasePlan) -> Outcome:
        """Deploys.

        Raises:
            DeploymentError: something could not be done; the device runs what it ran, unless the
                message says that the new release serves.
            ConnectionLostError: the connection ended; the device goes back by itself.
        """
        began = time.monotonic()
        spec = plan.ready.spec
        if release := self.runs_already(plan):
            self._trust()
            return Outcome(release, nothing_to_do=True, seconds=time.monotonic() - began)
        document = spec.to_dict()
        self._change("prepare", service=spec.service, groups=list(plan.groups))
        self._send(plan)
        made = self._change("install_runtime", runtime=document["runtime"])["made"]
        self.audience.step("Runtime", f"{spec.runtime.id}, {'made' if made else 'there already'}")
        self._change("stage", spec=document)
        proofs = [
            Proof(one["what"], one["ok"], one["text"])
            for one in self._change("prove", spec=document)
        ]
        for one in proofs:
            self.audience.step("Proved" if one.ok else "FAILED", one.what)
        trial = None
        if all(one.ok for one in proofs):
            trial = self._change(
                "trial",
                spec=document,
                ready_timeout=self.timing.ready,
                readings_timeout=self.timing.readings,
                grace=self.timing.grace,
            )
            if trial["committed"]:
                # Not before: the release of before may be signed by nobody, and had to be able to
                # start again.
                self._trust()
                self._prune(spec.service)
        return Outcome(spec.id, proofs, trial, seconds=time.monotonic() - began)

    def _trust(self) -> None:
        if self.trusted:
            # A comment in such a file may be in any encoding.
            keys = {path.name: path.read_text("utf-8", "replace") for path in self.trusted}
            try:
                added = self._change("trust", keys=keys)["added"]
            except DeploymentError as error:
                raise DeploymentError(
                    f"The release serves, but the device does not trust the keys yet: {error}"
                ) from error
            self.audience.step("Trusts", ", ".join(added) or "these keys already")

    def _prune(self, service: str) -> None:
        """Removes what is old. The new release serves in any case; the next one tries again."""
        try:
            self._change("prune", service=service, keep=KEPT_RELEASES)
        except DeploymentError as error:
            self.audience.step("Note", f"old releases were not removed: {error}")

    def _change(self, name: str, **arguments: Any) -> Any:
        return self.remote.call(
            name, root=True, on_event=self.audience.hear, layout=self.remote.layout, **arguments
        )

    def _send(self, plan: ReleasePlan) -> None:
        sending = self.sending(plan)
        done, total = 0, sending.bytes
        for file in sending.files:
            with plan.ready.sources[file["sha256"]].open("rb") as source:
                source.seek(file["have"])
                body = cast("BinaryIO", _Followed(source, self.audience, done, total))
                self._send_one(file, body)
            done += file["size"] - file["have"]
        self.audience.step(
            "Sent",
            f"{sending.counted}, {_megabytes(total)} of {_megabytes(sending.whole)}"
            if sending.files
            else "nothing; the device has every file",
        )

    def _send_one(self, file: Mapping[str, Any], body: BinaryIO) -> None:
        self.remote.call(
            "receive",
            root=True,
            body=body,
            layout=self.remote.layout,
            sha256=file["sha256"],
            size=file["size"],
            offset=file["have"],
        )


class _Followed(io.RawIOBase):
    """A file that tells how far it was read."""

    def __init__(self, file: BinaryIO, audience: Audience, done: int, total: int) -> None:
        self._file, self._audience, self._done, self._total = file, audience, done, total

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        self._done += len(content)
        self._audience.progress("sending", self._done, self._total)
        return len(content)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


__all__ = [
    "Audience",
    "Choice",
    "Deployment",
    "Outcome",
    "Proof",
    "Sending",
    "Timing",
]
