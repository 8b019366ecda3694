"""`edgelstm rollback`."""

from __future__ import annotations

import json

import click

from edgelstm.commands.host_options import HostChoice, Seconds, host_options
from edgelstm.commands.on_device import tell_of_root, the_service
from edgelstm.commands.trial_lines import outcome, step


@click.command(short_help="Go back to an earlier release on a device.")
@click.argument("host")
@host_options
@click.option("--to", default="", metavar="ID", help="That release; by default the last good one.")
@click.option(
    "--grace",
    type=Seconds(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long it has to stay healthy.",
)
@click.option("--json", "as_json", is_flag=True, help="Print how it ended as JSON.")
@click.pass_context
def rollback(ctx: click.Context, chosen: HostChoice, to: str, grace: float, as_json: bool) -> None:
    """Go back to an earlier release on a device, which is proved there as a new one is.

    When it does not do, the release that runs now goes on.

    Exit code: 0 when the earlier release runs, 1 when it does not.

    Example: edgelstm rollback pi@pump-3
    """
    with chosen.connect() as remote:
        name = the_service(remote, chosen)["name"]
        tell_of_root(remote, f"to start an earlier release of edgelstm@{name}")
        answer = remote.call(
            "rollback",
            root=True,
            on_event=lambda event: click.echo(step(event), err=True),
            layout=remote.layout,
            service=name,
            to=to,
            grace=grace,
        )
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        for line in outcome(chosen.host, name, answer):
            click.echo(line)
    ctx.exit(0 if answer["committed"] else 1)
