"""`edgelstm deploy --inventory`: to many devices, by Ansible."""

from __future__ import annotations

import getpass
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgelstm.errors import ConfigurationError

if TYPE_CHECKING:
    from edgelstm_devices.deploying import Timing
    from edgelstm_devices.fleet import FleetResult
    from edgelstm_devices.planning import Choice


@dataclass(frozen=True)
class FleetChoice:
    """What the options say of many devices.

    Attributes:
        inventory: of Ansible.
        batch: sizes of the batches.
        limit: hosts or groups; "" for all.
        forks: how many devices at once.
        skip_unfit: whether to go on without hosts that are not fit.
        ask_become_password: whether sudo on the devices wants one.
        keep: where the bundles stay; None for nowhere.
    """

    inventory: Path
    batch: tuple[str, ...]
    limit: str
    forks: int
    skip_unfit: bool
    ask_become_password: bool
    keep: Path | None


_OPTIONS = (
    click.option(
        "--inventory",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Deploy to the hosts of an Ansible inventory instead of HOST.",
    ),
    click.option(
        "--batch",
        default="10%",
        show_default=True,
        metavar="SIZES",
        help="Hosts at once, a number or a share, or several such as 1,10%,50%; after a batch "
        "with a failure no other begins.",
    ),
    click.option("--limit", default="", metavar="HOSTS", help="Only these hosts or groups of it."),
    click.option("--forks", type=click.IntRange(min=1), default=10, show_default=True,
                 help="Devices at the same time within a batch."),
    click.option("--skip-unfit", is_flag=True, help="Go on without hosts that are not fit."),
    click.option("--ask-become-pass", "ask_become_password", is_flag=True,
                 help="Ask for the password of sudo on the devices."),
    click.option("--keep-bundles", "keep", metavar="FOLDER", type=click.Path(path_type=Path),
                 help="Keep what is sent, for playbooks of your own."),
)  # fmt: skip


def fleet_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; the command gets them as `fleet`, None without an inventory."""

    @wraps(function)
    def with_fleet(
        *args: Any,
        inventory: Path | None,
        batch: str,
        limit: str,
        forks: int,
        skip_unfit: bool,
        ask_become_password: bool,
        keep: Path | None,
        **kwargs: Any,
    ) -> Any:
        fleet = None
        if inventory is not None:
            sizes = tuple(size.strip() for size in batch.split(","))
            fleet = FleetChoice(
                inventory, sizes, limit, forks, skip_unfit, ask_become_password, keep
            )
        elif limit or skip_unfit or ask_become_password or keep:
            raise ConfigurationError(
                "--limit, --skip-unfit, --ask-become-pass and --keep-bundles are for many "
                "devices; name them with --inventory."
            )
        return function(*args, fleet=fleet, **kwargs)

    for option in reversed(_OPTIONS):
        with_fleet = option(with_fleet)
    return with_fleet


def deploy_to_fleet(
    fleet: FleetChoice,
    choice: Choice,
    timing: Timing,
    trust: Sequence[Path],
    *,
    check: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Deploys, and gives the exit code."""
    from edgelstm_devices.fleet import FleetOptions, deploy_fleet, planner
    from edgelstm_devices.wheelhouse import default_cache

    options = FleetOptions(
        batch=fleet.batch,
        limit=fleet.limit,
        forks=fleet.forks,
        mode="user" if choice.mode == "user" else "",
        become_password=_ask() if fleet.ask_become_password else None,
        trusted_keys=trust,
        check=check,
        dry_run=dry_run,
        skip_unfit=fleet.skip_unfit,
        timeouts={
            "ready_timeout": timing.ready,
            "readings_timeout": timing.readings,
            "grace": timing.grace,
        },
        keep=fleet.keep,
    )
    plan = planner(
        choice,
        cache=default_cache(),
        now=datetime.now(UTC),
        by=f"{getpass.getuser()}@{platform.node()}",
        trusted=trust,
    )
    result = deploy_fleet(fleet.inventory, plan, options, lambda line: click.echo(line, err=True))
    _show(result, as_json=as_json)
    return 0 if result.good else 1


def _ask() -> str:
    answer: str = click.prompt("Password for sudo on the devices", hide_input=True, err=True)
    return answer


def _show(result: FleetResult, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([host.to_dict() for host in result.hosts], indent=2))
        return
    for line in result.lines():
        click.echo(line)
