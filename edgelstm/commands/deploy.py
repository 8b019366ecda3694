"""`edgelstm deploy`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgelstm.commands.deploy_fleet import (
    FleetChoice,
    deploy_to_fleet,
    fleet_options,
)
from edgelstm.commands.deploy_lines import (
    Narrator,
    about_device,
    findings_page,
    outcome_lines,
    plan_data,
    plan_lines,
    troubles,
)
from edgelstm.commands.host_options import HostChoice, Seconds, host_options
from edgelstm.commands.trial_lines import outcome as trial_outcome
from edgelstm.errors import ConfigurationError

if TYPE_CHECKING:
    from edgelstm_devices.deploying import Outcome, Timing
    from edgelstm_devices.planning import Choice

_SECONDS = Seconds(min=0)
_POSITIVE = Seconds(min=0, min_open=True)


@click.command(short_help="Bring an artifact to a device, prove it there, and run it.")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("host", required=False)
@host_options
@click.option(
    "--port",
    metavar="PORT",
    help="The device's serial port, or another source of readings; by default the one USB serial "
    "device that is plugged in.",
)
@click.option("--baud-rate", type=click.IntRange(min=1), help="Of the port.")
@click.option("--format", "format_", default="auto", metavar="NAME", help="As 'run' takes it.")
@click.option(
    "--rate",
    type=click.Choice(["refuse", "resample", "any", "set"]),
    default="refuse",
    show_default=True,
    help="What to do when readings come at another rate than the model's.",
)
@click.option("--delegate", default="", metavar="NAME", help="Such as edgetpu, for a Coral.")
@click.option(
    "--profile", default="", metavar="NAME", help="Of the device (see: edgelstm devices)."
)
@click.option("--offline", is_flag=True, help="Send all wheels: the device has no internet.")
@click.option(
    "--with",
    "extras",
    multiple=True,
    metavar="PACKAGE",
    help="One more package for the device: NAME==VERSION, or a wheel.",
)
@click.option(
    "--trust",
    multiple=True,
    metavar="KEY",
    type=click.Path(path_type=Path),
    help="A public key: from now on the device runs only what is signed with it.",
)
@click.option(
    "--without-readings", is_flag=True, help="Take it although no readings come; no device yet."
)
@click.option(
    "--ready-timeout", type=_POSITIVE, default=120.0, show_default=True, metavar="SECONDS",
    help="For the service to get ready.",
)  # fmt: skip
@click.option(
    "--readings-timeout", type=_POSITIVE, default=60.0, show_default=True, metavar="SECONDS",
    help="For its first readings, after that.",
)  # fmt: skip
@click.option(
    "--grace", type=_SECONDS, default=30.0, show_default=True, metavar="SECONDS",
    help="That it has to stay healthy, after that.",
)  # fmt: skip
@fleet_options
@click.option("--check", is_flag=True, help="Look whether the device is fit, and change nothing.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print how it ended as JSON; with --check or --dry-run what was found.",
)
def deploy(
    chosen: HostChoice,
    fleet: FleetChoice | None,
    *,
    source: Path,
    trust: tuple[Path, ...],
    ready_timeout: float,
    readings_timeout: float,
    grace: float,
    check: bool,
    dry_run: bool,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Bring SOURCE to HOST, prove it there, and run it as a service.

    SOURCE is an artifact, or a run configuration with all artifacts that it names. HOST is what
    ssh takes. The new release is tried on the device; unless it gets ready, receives readings and
    stays healthy, the one of before goes on. Doing it again does nothing that is done.

    Exit code: 0 when the device runs the release, 1 when it does not, 2 for a mistake.

    Example: edgelstm deploy pump.tflite pi@pump-3

    Many devices: edgelstm deploy pump.toml --inventory hosts.ini --batch 10%
    """
    from edgelstm_devices.deploying import Timing
    from edgelstm_devices.planning import keys_for_device

    choice = _choice(source, chosen, wanted)
    keys_for_device(trust)
    timing = Timing(ready_timeout, readings_timeout, grace)
    if fleet is not None:
        if chosen.host or chosen.ssh_options:
            raise ConfigurationError(
                "With --inventory the hosts and how to get there are in the inventory; leave out "
                "HOST and the options for ssh."
            )
        code = deploy_to_fleet(
            fleet, choice, timing, trust, check=check, dry_run=dry_run, as_json=as_json
        )
    elif not chosen.host:
        raise ConfigurationError(
            "Name the device, such as pi@pump-3, or many of them with --inventory hosts.ini."
        )
    else:
        code = _to_one(chosen, choice, timing, trust, check=check, dry_run=dry_run, as_json=as_json)
    click.get_current_context().exit(code)


def _choice(source: Path, chosen: HostChoice, wanted: dict[str, Any]) -> Choice:
    from edgelstm_devices.planning import Choice
    from edgelstm_devices.shipment import Options

    if not source.is_file():
        raise ConfigurationError(f"There is no file {source}.")
    return Choice(
        source=source,
        service=chosen.name,
        mode="user" if chosen.mode == "user" else "system",
        options=Options(
            port=wanted["port"],
            baud_rate=wanted["baud_rate"],
            format=wanted["format_"],
            rate=wanted["rate"],
            delegate=wanted["delegate"],
        ),
        profile=wanted["profile"],
        offline=wanted["offline"],
        extras=wanted["extras"],
        expect_readings=not wanted["without_readings"],
    )


def _to_one(
    chosen: HostChoice,
    choice: Choice,
    timing: Timing,
    trust: Sequence[Path],
    *,
    check: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    from edgelstm_devices.deploying import Deployment

    narrator = Narrator()
    try:
        narrator.progress(f"connecting to {chosen.host}", 0, 0)
        with chosen.connect() as remote:
            deployment = Deployment(remote, choice, narrator, timing, trust)
            narrator.progress("looking at the device", 0, 0)
            facts = deployment.look()
            narrator.step("Device", f"{chosen.host}: {about_device(facts)}")
            plan = deployment.plan(facts)
            narrator.done()
            if as_json and (check or plan.problems):
                found = [one.to_dict() for one in plan.findings]
                click.echo(json.dumps({"ok": not plan.problems, "findings": found}, indent=2))
            if not (as_json and check):
                for line in (findings_page if check else troubles)(plan.findings):
                    click.echo(line, err=not check)
            if check or plan.problems:
                return 1 if plan.problems else 0
            sending = deployment.sending(plan)
            as_root = deployment.as_root(plan, facts)
            if as_json and dry_run:
                click.echo(json.dumps(plan_data(plan, sending, as_root), indent=2))
                return 0
            for line in plan_lines(plan, sending, as_root):
                click.echo(line, err=not dry_run)
            if dry_run:
                return 0
            outcome = deployment.carry_out(plan)
    finally:
        narrator.done()
    _show(outcome, chosen.host, choice.service, as_json=as_json)
    return 0 if outcome.committed else 1


def _show(outcome: Outcome, host: str, service: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(outcome.to_dict(), indent=2))
        return
    for line in outcome_lines(outcome, host, service):
        click.echo(line)
    if outcome.trial is not None:
        for line in trial_outcome(host, service, outcome.trial):
            click.echo(line)
