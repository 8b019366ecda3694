"""`edgelstm devices`."""

from __future__ import annotations

import click


@click.command(short_help="List the devices that are known.")
def devices() -> None:
    """List the devices that are known, the runtime that each takes, and its default recipe.

    Example: edgelstm devices
    """
    from edgelstm_devices import load_profiles

    profiles = load_profiles().values()
    names = max(len(profile.name) for profile in profiles)
    titles = max(len(profile.title) for profile in profiles)
    for profile in profiles:
        accelerator = ", Edge TPU" if profile.accelerator == "edgetpu" else ""
        click.echo(
            f"{profile.name:<{names + 2}}{profile.title:<{titles + 2}}{profile.architecture:<9}"
            f"{profile.recipe:<13}{profile.runtime}, Python {profile.python}{accelerator}"
        )
