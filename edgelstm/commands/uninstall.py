"""`edgelstm uninstall`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from edgelstm.commands.alert_lines import printable
from edgelstm.commands.host_options import HostChoice, host_options
from edgelstm.commands.on_device import tell_of_root, the_service
from edgelstm.errors import ConfigurationError


@click.command(short_help="Take a service off a device.")
@click.argument("host")
@host_options
@click.option("--purge", is_flag=True, help="Remove its states, alerts and logs as well.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def uninstall(chosen: HostChoice, purge: bool, yes: bool, as_json: bool) -> None:
    """Take a service off a device: it is stopped, and its unit and its releases are removed.

    Its states, alerts and logs are kept unless --purge is given. With the last service goes
    everything else that edgelstm put there.

    Example: edgelstm uninstall pi@pump-3
    """
    with chosen.connect() as remote:
        service = the_service(remote, chosen)
        for line in _plan(chosen.host, service, purge=purge):
            click.echo(line, err=True)
        tell_of_root(remote, "for that")
        if not yes and not _agreed():
            click.echo("Nothing was changed.", err=True)
            return
        done = remote.call(
            "uninstall", root=True, layout=remote.layout, service=service["name"], purge=purge
        )
    if as_json:
        click.echo(json.dumps(done, indent=2))
    else:
        click.echo(f"{chosen.host} has no service {service['name']} any more.")
        for path in done["kept"]:
            click.echo(f"  kept: {printable(path)}")


def _plan(host: str, service: dict[str, Any], *, purge: bool) -> Iterator[str]:
    """What will be removed, and what will be kept."""
    data = [printable(path) for path in service["data"]]
    yield f"On {host}, this stops edgelstm@{service['name']} and removes"
    yield "  its unit"
    yield f"  {printable(service['home'])}, with all releases"
    if purge:
        yield from (f"  {path}, with states, alerts or logs" for path in data)
    elif data:
        yield "and keeps"
        yield from (f"  {path}, with states, alerts or logs (--purge)" for path in data)


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise ConfigurationError("Nobody can be asked here; say that you mean it with --yes.")
    agreed: bool = click.confirm("Remove it?", err=True)
    return agreed
