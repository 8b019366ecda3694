"""`deploy_fleet`: looks at all devices, makes their bundles, and rolls out in batches."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgelstm.diagnosis.finding import Finding
from edgelstm.errors import ConfigurationError, DeploymentError, EdgelstmError
from edgelstm.files import atomic_path
from edgelstm_devices.bundle import FILES, RELEASE
from edgelstm_devices.fleet.outcome import (
    FleetResult,
    HostResult,
    Progress,
    settled,
)
from edgelstm_devices.fleet.playbooks import Event, Playbooks
from edgelstm_devices.fleet.survey import Survey, Wish
from edgelstm_devices.planning import ReleasePlan

_BATCH = re.compile(r"[1-9][0-9]*|(?:100|[1-9][0-9]?)%")


Planner = Callable[[Wish], ReleasePlan]


@dataclass(frozen=True)
class FleetOptions:
    """How to roll out.

    Attributes:
        batch: sizes of the batches, such as ("1", "10%"); the last one goes on to the end.
        limit: hosts or groups of the inventory; "" for all.
        forks: how many devices at once.
        mode: wins over that of the inventory; "" leaves it alone.
        become_password: for sudo on the devices; None where it needs none.
        trusted_keys: public keys for the devices.
        check: stops after the preflight.
        dry_run: stops when everything is made that would be sent.
        skip_unfit: goes on without hosts that cannot be reached or have problems.
        timeouts: `ready_timeout`, `readings_timeout` and `grace`, in seconds; else the role's own.
        keep: where the bundles stay; None for nowhere.

    Raises:
        ConfigurationError: a batch is neither a number nor a share.
    """

    batch: Sequence[str] = ("10%",)
    limit: str = ""
    forks: int = 10
    mode: str = ""
    become_password: str | None = None
    trusted_keys: Sequence[Path] = ()
    check: bool = False
    dry_run: bool = False
    skip_unfit: bool = False
    timeouts: Mapping[str, float] = field(default_factory=dict)
    keep: Path | None = None

    def __post_init__(self) -> None:
        for size in self.batch:
            if not _BATCH.fullmatch(size):
                raise ConfigurationError(
                    f"The batch {size!r} is neither a number of hosts nor a share of them; write "
                    "for example --batch 10% or --batch 1,10%,50%."
                )
        if not self.batch:
            raise ConfigurationError("There is no size of a batch; write for example --batch 10%.")


def deploy_fleet(
    inventory: Path,
    plan: Planner,
    options: FleetOptions,
    tell: Callable[[str], None],
) -> FleetResult:
    """Deploys to the hosts of an inventory, in batches, and stops after one with a failure.

    Nothing is changed anywhere unless every host was reached and is fit, or `skip_unfit`.

    Args:
        inventory: file, script or folder, as `ansible-playbook -i` takes it.
        plan: makes what a host gets; an error of edgelstm's makes the host unfit.
        options: how.
        tell: hears lines of what happens.

    Returns:
        What became of every host.

    Raises:
        DeploymentError: Ansible cannot begin.
        MissingDependencyError: it is not installed.
    """
    playbooks = Playbooks(inventory, options.limit, options.forks, options.become_password)
    survey = Survey()
    tell("looking at the devices")
    ended = playbooks.run("facts", _mode(options), survey.hear)
    if ended.cancelled:
        return FleetResult(tuple(map(_untouched, survey.hosts)), changed=False, cancelled=True)
    plans, unfit = _plan(survey, plan, tell)
    fit = [host for host in survey.hosts if host not in unfit]
    waiting = [_untouched(host, unfit.get(host, "")) for host in survey.hosts]
    if options.check:
        return FleetResult(tuple(map(_ready, waiting)), changed=False)
    if not fit or (unfit and not options.skip_unfit):
        return FleetResult(tuple(waiting), changed=False)
    with tempfile.TemporaryDirectory(prefix="edgelstm-bundles-") as folder:
        bundles = _write(
            (options.keep or Path(folder)).absolute(), {host: plans[host] for host in fit}
        )
        for line in _planned(plans, fit):
            tell(line)
        if options.dry_run:
            return FleetResult(tuple(map(_ready, waiting)), changed=False)
        limit = Path(folder, "hosts")
        limit.write_text("".join(f"{host}\n" for host in fit), encoding="utf-8")
        progress = Progress(fit, {host: plans[host].ready.spec.id for host in fit})

        def hear(event: Event) -> None:
            for line in progress.hear(event):
                tell(line)

        variables = _mode(options) | {
            "edgelstm_bundles": {host: str(path) for host, path in bundles.items()},
            "edgelstm_host_groups": {host: list(plans[host].groups) for host in fit},
            "edgelstm_batch": list(options.batch),
            "edgelstm_trusted_keys": [str(path.absolute()) for path in options.trusted_keys],
            **{f"edgelstm_{key}": value for key, value in options.timeouts.items()},
        }
        ended = playbooks.run("rollout", variables, hear, f"@{limit}")
    results = {one.host: one for one in progress.finish()}
    asked = [host for host, one in results.items() if not one.good]
    for host, status in _ask(playbooks, options, asked).items():
        spec = plans[host].ready.spec
        results[host] = settled(results[host], status, spec.service, spec.id)
    hosts = tuple(results.get(one.host, one) for one in waiting)
    return FleetResult(hosts, cancelled=ended.cancelled)


def _plan(
    survey: Survey, plan: Planner, tell: Callable[[str], None]
) -> tuple[dict[str, ReleasePlan], dict[str, str]]:
    """What every fit host gets, and why the others do not."""
    plans: dict[str, ReleasePlan] = {}
    unfit: dict[str, str] = {}
    for host in survey.hosts:
        problems: list[Finding] = []
        try:
            planned = plan(survey.wish(host))
            problems = planned.problems
            _ = planned.ready
        except EdgelstmError as error:
            unfit[host] = str(error)
            for one in problems:
                tell(f"{host}: {one.name}: {one.what}\n    {one.mend}")
            if not problems:
                tell(f"{host}: {error}")
        else:
            plans[host] = planned
    return plans, unfit


def _ask(playbooks: Playbooks, options: FleetOptions, hosts: list[str]) -> dict[str, Any]:
    """What hosts say of themselves; those that cannot be asked are left out."""
    answers: dict[str, Any] = {}
    if not hosts:
        return answers

    def hear(event: Event) -> None:
        data = event.get("event_data") or {}
        answer = data.get("res") or {}
        if event["event"] == "runner_on_ok" and "answer" in answer:
            answers[data["host"]] = answer["answer"]

    with tempfile.NamedTemporaryFile("w", prefix="edgelstm-hosts-", suffix=".txt") as limit:
        limit.write("".join(f"{host}\n" for host in hosts))
        limit.flush()
        playbooks.run("status", _mode(options), hear, f"@{limit.name}")
    return answers


def _write(folder: Path, plans: Mapping[str, ReleasePlan]) -> dict[str, Path]:
    """Writes every bundle, and every file once, as most of them are in all bundles.

    `bundles.json` says which host gets which, for playbooks of one's own.
    """
    files, paths = folder / FILES, {}
    try:
        files.mkdir(parents=True, exist_ok=True)
        for host, plan in plans.items():
            spec = plan.ready.spec
            paths[host] = path = folder / f"{spec.service}-{spec.digest[:16]}"
            path.mkdir(exist_ok=True)
            if not (path / FILES).is_symlink():
                (path / FILES).symlink_to(Path("..", FILES))
            for sha256, source in plan.ready.sources.items():
                if not (files / sha256).exists():
                    with atomic_path(files / sha256) as temporary:
                        shutil.copyfile(source, temporary)
            text = json.dumps(spec.to_dict(), indent=2, sort_keys=True)
            (path / RELEASE).write_text(text + "\n", encoding="utf-8")
        text = json.dumps({"edgelstm_bundles": {host: str(path) for host, path in paths.items()}})
        (folder / "bundles.json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise DeploymentError(
            f"The releases cannot be written into {folder}: {error.strerror or error}."
        ) from error
    return paths


def _planned(plans: Mapping[str, ReleasePlan], hosts: list[str]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for host in hosts:
        groups.setdefault(plans[host].ready.spec.digest, []).append(host)
    lines = []
    for members in groups.values():
        spec = plans[members[0]].ready.spec
        size = sum(file.size for file in spec.stored().values()) / 1e6
        lines.append(
            f"release {spec.id} of {spec.service}, runtime {spec.runtime.id}, {size:.1f} MB: "
            f"{', '.join(members)}"
        )
    return lines


def _mode(options: FleetOptions) -> dict[str, Any]:
    return {"edgelstm_mode": options.mode} if options.mode else {}


def _untouched(host: str, reason: str = "") -> HostResult:
    return HostResult(host, "untouched", reason=reason)


def _ready(result: HostResult) -> HostResult:
    return result if result.reason else HostResult(result.host, "ready")
