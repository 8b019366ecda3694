"""What the commands for a device share: which service is meant, and what needs root there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgelstm.errors import DeploymentError

if TYPE_CHECKING:
    from edgelstm.commands.host_options import HostChoice
    from edgelstm_devices.remote import Remote


def the_service(remote: Remote, chosen: HostChoice) -> dict[str, Any]:
    """The service that is meant, as the agent's `services` gives it.

    Raises:
        DeploymentError: there is none, none of that name, or it cannot be told which.
    """
    found: list[dict[str, Any]] = remote.call("services", layout=remote.layout)
    names = ", ".join(service["name"] for service in found)
    if chosen.name:
        found = [service for service in found if service["name"] == chosen.name]
        if not found:
            known = f"it has {names}" if names else "it has none"
            raise DeploymentError(f"{chosen.host} has no service {chosen.name!r}; {known}.")
    if not found:
        other = "without --user" if chosen.mode == "user" else "with --user for one user's own"
        raise DeploymentError(
            f"{chosen.host} has no service; look {other}, or bring one there with 'edgelstm "
            "deploy'."
        )
    if len(found) > 1:
        raise DeploymentError(f"{chosen.host} has several services; name one with --name: {names}.")
    return found[0]


def tell_of_root(remote: Remote, what: str) -> None:
    """Says beforehand what root is needed for.

    Args:
        remote: the device.
        what: an infinitive, such as "to stop edgelstm@pump".
    """
    if remote.layout["mode"] == "system":
        click.echo(f"On {remote.host}, root is needed {what}.", err=True)
