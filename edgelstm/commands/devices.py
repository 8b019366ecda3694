"""`edgelstm devices`."""

from __future__ import annotations

import click


@click.command(short_help="List the devices that are known.")
def devices() -> None:
    """List the devices that are known, and the runtime that each takes.

    Example: edgelstm devices
    """
    from edgelstm_devices import load_profiles

    profiles = load_profiles().values()
    width = max(len(profile.title) for profile in profiles)
    for profile in profiles:
        click.echo(
            f"{profile.name:<10}{profile.title:<{width + 2}}{profile.architecture:<9}"
            f"{profile.runtime}, Python {profile.python}"
        )
