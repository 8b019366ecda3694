"""`edgelstm logs`."""

from __future__ import annotations

import click

from edgelstm.commands.host_options import HostChoice, host_options
from edgelstm.commands.on_device import the_service
from edgelstm.errors import DeploymentError


@click.command(short_help="Show the log of a service on a device.")
@click.argument("host")
@host_options
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    help="Only so many lines, the last ones; without --since 50.",
)
@click.option("--since", help="Only since then, as journalctl takes it: today, -1h, 2013-12-10.")
@click.option("--json", "as_json", is_flag=True, help="Print the journal's entries as JSON.")
@click.option("--sudo", is_flag=True, help="Read the journal as root.")
def logs(
    chosen: HostChoice,
    follow: bool,
    lines: int | None,
    since: str | None,
    as_json: bool,
    sudo: bool,
) -> None:
    """Show the log of a service on a device, by its journalctl.

    Root, and users in the groups adm and systemd-journal, may read it; others with --sudo.

    Example: edgelstm logs pi@pump-3 -f
    """
    if lines is None and since is None:
        lines = 50
    with chosen.connect() as remote:
        service = the_service(remote, chosen)
        name = service["name"]
        if not (sudo or service["log"]):
            raise DeploymentError(
                f"The user on {chosen.host} may not read its log; read it as root with --sudo, or "
                "let the user read it: sudo usermod -aG systemd-journal USER"
            )
        # --quiet: it would speak of the system's messages, which nobody asked for.
        which = ["--quiet", "--user-unit"] if chosen.mode == "user" else ["--unit"]
        command = ["journalctl", "--no-pager", *which, f"edgelstm@{name}.service"]
        command += [f"--lines={lines}"] if lines is not None else []
        command += [f"--since={since}"] if since is not None else []
        command += ["--output=json"] if as_json else []
        command += ["--follow"] if follow else []
        try:
            code = remote.run(*command, root=sudo)
        except KeyboardInterrupt:
            if not follow:
                raise
            return  # that is how it ends
    if code:
        raise DeploymentError(f"journalctl on {chosen.host} failed; what it printed says why.")
