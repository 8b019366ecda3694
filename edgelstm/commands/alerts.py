"""`edgelstm alerts`."""

from __future__ import annotations

import getpass
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from edgelstm.commands import alert_lines
from edgelstm.errors import ConfigurationError
from edgelstm.files import check_output
from edgelstm.notice import Notice
from edgelstm.outbox import FILE, Archive
from edgelstm.tables import parse_time

F = TypeVar("F", bound=Callable[..., Any])

_SYSTEM = Path("/var/lib/edgelstm")
"""Where systemd makes state directories; see `devices/setup`."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class _Filter:
    """Which alerts are meant."""

    open_only: bool
    sensor: str | None
    since: float | None
    limit: int | None

    def read(self, archive: Archive) -> list[Notice]:
        """Those alerts, the newest first."""
        return archive.alerts(
            self.limit, open_only=self.open_only, sensor=self.sensor, since=self.since
        )


def _place_options(command: F) -> F:
    command = click.option(
        "--config",
        type=click.Path(path_type=Path),
        help="The configuration of the service, such as pump.toml: it says where the alerts are.",
    )(command)
    return click.option(
        "--state",
        type=click.Path(path_type=Path),
        help="The state directory of the service; by default the only one there is.",
    )(command)


def _filter_options(limit: int | None) -> Callable[[F], F]:
    def add(command: F) -> F:
        for option in (
            click.option(
                "--limit",
                type=click.IntRange(min=1),
                default=limit,
                show_default=limit is not None,
                help="Only so many, the newest ones.",
            ),
            click.option(
                "--since",
                help="Only alerts that opened since then: 2013-12-10 08:00 (UTC), or 12h, 7d ago.",
            ),
            click.option("--sensor", help="Only alerts of this sensor."),
            click.option("--open", "open_only", is_flag=True, help="Only alerts that are open."),
        ):
            command = option(command)
        return command

    return add


@click.group(short_help="List, show, acknowledge and export the alerts of a service.")
def alerts() -> None:
    """List, show, acknowledge and export the alerts that edgelstm run keeps.

    It works beside the running service, and without one. Times are UTC. An alert is named by its
    id, or by the beginning or the end of it.

    Example: edgelstm alerts list --open
    """


@alerts.command("list", short_help="List alerts, the newest first.")
@_filter_options(50)
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@_place_options
def list_(
    open_only: bool,
    sensor: str | None,
    since: str | None,
    limit: int,
    as_json: bool,
    state: Path | None,
    config: Path | None,
) -> None:
    """List alerts, the newest first.

    Example: edgelstm alerts list --open --since 7d
    """
    wanted = _Filter(open_only, sensor, _since(since), limit)
    with _archive(state, config) as archive:
        found = wanted.read(archive)
    if as_json:
        click.echo(json.dumps([one.to_dict() for one in found], indent=2))
    elif found:
        for line in alert_lines.table(found):
            click.echo(line)
    else:
        click.echo("No alerts.")


@alerts.command(short_help="Show everything about an alert.")
@click.argument("id")
@click.option(
    "--evidence",
    "evidence_path",
    type=click.Path(path_type=Path),
    help="Write the readings around it to this CSV file.",
)
@click.option("--force", is_flag=True, help="Replace that file if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@_place_options
def show(
    id: str,  # noqa: A002  # as click names it in the help
    evidence_path: Path | None,
    force: bool,
    as_json: bool,
    state: Path | None,
    config: Path | None,
) -> None:
    """Show an alert: its channels, its notices, what each sink did with them, and its readings.

    Example: edgelstm alerts show 3f9k2a --evidence alert.csv
    """
    if evidence_path is not None:
        check_output(evidence_path, force=force, suffix=".csv")
    with _archive(state, config) as archive:
        last = archive.alert(id)
        history = archive.history(last.alert_id)
        deliveries = archive.deliveries(last.alert_id)
        evidence = archive.evidence(last.alert_id)
    if evidence_path is not None:
        if evidence is None:
            raise ConfigurationError(
                f"No evidence of alert {alert_lines.short_id(last.alert_id)} is kept; leave "
                "--evidence out."
            )
        alert_lines.write_evidence(evidence, evidence_path)
    if as_json:
        click.echo(json.dumps(alert_lines.as_data(last, history, deliveries), indent=2))
        return
    unicode = (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
    for line in alert_lines.page(last, history, deliveries, evidence, unicode=unicode):
        click.echo(line)


@alerts.command(short_help="Take note that somebody has seen alerts.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All open alerts that nobody has seen.")
@click.option("--by", help="Who has seen them; the user who runs this by default.")
@click.option("--note", default="", help="What there is to say of it.")
@_place_options
def ack(
    ids: tuple[str, ...],
    every: bool,
    by: str | None,
    note: str,
    state: Path | None,
    config: Path | None,
) -> None:
    """Take note that somebody has seen alerts. The sinks are told, and get no more peaks of them.

    Example: edgelstm alerts ack 3f9k2a --note "bearing ordered"
    """
    if bool(ids) == every:
        raise ConfigurationError("Name the alerts that were seen, or take --all.")
    name = by or _user()
    with _archive(state, config) as archive:
        if every:
            found = [n for n in archive.alerts(None, open_only=True) if n.acknowledged is None]
        else:
            found = list({(n := archive.alert(part)).alert_id: n for part in ids}.values())
        for one in found:
            archive.check_unseen(one)  # all of them, before any is written down
        for one in found:
            archive.acknowledge(one.alert_id, name, note)
            click.echo(f"{alert_lines.short_id(one.alert_id)}  acknowledged by {name}")
    if not found:
        click.echo("No alerts.")


@alerts.command(short_help="Write alerts to a CSV file, or as JSON lines.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The file, .csv or .jsonl.",
)
@click.option("--force", is_flag=True, help="Replace it if it exists.")
@_filter_options(None)
@_place_options
def export(
    output: Path,
    force: bool,
    open_only: bool,
    sensor: str | None,
    since: str | None,
    limit: int | None,
    state: Path | None,
    config: Path | None,
) -> None:
    """Write alerts, one a line, the newest first, to a CSV file or as JSON lines.

    Example: edgelstm alerts export -o alerts.csv --since 2013-12-01
    """
    check_output(output, force=force, suffix=".jsonl" if output.suffix == ".jsonl" else ".csv")
    wanted = _Filter(open_only, sensor, _since(since), limit)
    with _archive(state, config) as archive:
        found = wanted.read(archive)
    alert_lines.export(found, output)
    click.echo(f"{output}: {len(found):,} alert{'' if len(found) == 1 else 's'}")


@contextmanager
def _archive(state: Path | None, config: Path | None) -> Iterator[Archive]:
    """The alerts of the service that is meant.

    Raises:
        ConfigurationError: it cannot be told which, or there are none.
        OutboxError: they cannot be read.
    """
    if state is not None and config is not None:
        raise ConfigurationError("Give --state or --config, not both.")
    if config is not None:
        from edgelstm.configuration import read_state_directory

        state = read_state_directory(config)
    directory = _only_directory() if state is None else state
    if not (directory / FILE).is_file():
        raise ConfigurationError(
            f"There are no alerts in {directory}: it has no {FILE}; name the state directory of "
            "edgelstm run with --state or --config."
        )
    with Archive(directory / FILE) as archive:
        yield archive


def _only_directory() -> Path:
    """The state directory, when there is one only.

    Raises:
        ConfigurationError: there is none, or more than one.
    """
    from edgelstm.configuration.places import state_home

    if given := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    found = [
        file.parent
        for folder in (state_home(os.environ), _SYSTEM)
        for file in sorted(folder.glob(f"*/{FILE}"))
    ]
    if not found:
        raise ConfigurationError(
            "No service has kept alerts here that you may read; name its state directory with "
            "--state, or its configuration with --config."
        )
    if len(found) > 1:
        names = ", ".join(map(str, found))
        raise ConfigurationError(
            f"Several services have kept alerts here ({names}); name one of these directories "
            "with --state."
        )
    return found[0]


def _since(text: str | None) -> float | None:
    """A time, or how long ago, as seconds since the Unix epoch.

    Raises:
        ConfigurationError: it is neither.
    """
    if text is None:
        return None
    if ago := re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip()):
        return time.time() - float(ago[1]) * _UNITS[ago[2]]
    seconds = parse_time(text.strip())
    if math.isnan(seconds):
        raise ConfigurationError(
            f"{text!r} is no time; say 2013-12-10, 2013-12-10 08:00, or how long ago: 12h, 7d."
        )
    return seconds


def _user() -> str:
    """The name of the user who runs this, also through sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
