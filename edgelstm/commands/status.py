"""`edgelstm status`."""

from __future__ import annotations

import json

import click

from edgelstm.commands.host_options import HostChoice, host_options

_SUDO_HINT = "With --sudo it is read as root on the device."


@click.command(short_help="Show how the services of a device are.")
@click.argument("host")
@host_options
@click.option("--sudo", is_flag=True, help="Read as root what others may not, such as the alerts.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_context
def status(ctx: click.Context, chosen: HostChoice, sudo: bool, as_json: bool) -> None:
    """Show how the services of a device are: release, health, figures, alerts, deployments.

    The step is measured there: from a decoded reading to its verdict, since the service started.
    It changes nothing, and needs no root but for the alerts.

    Exit code: 0 when every service is well, 1 when one is not or when there is none.

    Example: edgelstm status pi@pump-3
    """
    from edgelstm.commands import status_lines
    from edgelstm_devices.condition import condition_of

    with chosen.connect() as remote:
        told = remote.call("status", root=sudo, layout=remote.layout, service=chosen.name)
    services = [(service, condition_of(service)) for service in told["services"]]
    well = bool(services) and all(condition.ok for _, condition in services)
    if as_json:
        answer = {
            "host": chosen.host,
            "ok": well,
            "services": [
                {
                    "condition": {"word": condition.word, "reasons": list(condition.reasons)},
                    **service,
                }
                for service, condition in services
            ],
            "left_out": told["left_out"],
        }
        click.echo(json.dumps(answer, indent=2))
    else:
        left_out = told["left_out"]
        if left_out and not sudo and chosen.mode == "system":
            left_out = [*left_out, _SUDO_HINT]
        for line in status_lines.page(chosen.host, services, left_out):
            click.echo(line)
    ctx.exit(0 if well else 1)
