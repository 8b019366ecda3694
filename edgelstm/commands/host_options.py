"""The host that a command is for, and how to get there."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from edgelstm.errors import ConfigurationError

if TYPE_CHECKING:
    from edgelstm_devices.remote import Remote


@dataclass(frozen=True)
class HostChoice:
    """What the options say of a host.

    Attributes:
        host: as ssh takes it.
        mode: "system" or "user".
        name: of the service; "" for the only one.
        ssh_options: for ssh.
    """

    host: str
    mode: str
    name: str
    ssh_options: tuple[str, ...]

    @contextmanager
    def connect(self) -> Iterator[Remote]:
        """Connects to it.

        Raises:
            DeploymentError: it cannot be reached.
        """
        from edgelstm_devices.remote import connect

        with connect(
            self.host,
            mode="user" if self.mode == "user" else "system",
            ssh_options=self.ssh_options,
            ask_password=ask_password if sys.stdin.isatty() else None,
        ) as remote:
            yield remote


class Seconds(click.FloatRange):
    """A time that a device waits, which has an end."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parses the option."""
        seconds: float = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return seconds


def ask_password(host: str) -> str:
    """Asks at the terminal for the password of sudo."""
    answer: str = click.prompt(f"Password for sudo on {host}", hide_input=True, err=True)
    return answer


_OPTIONS = (
    click.option("--name", default="", help="Of the service on the device.", metavar="NAME"),
    click.option(
        "--user",
        "for_user",
        is_flag=True,
        help="A service of the user who logs in, without root.",
    ),
    click.option("-p", "--ssh-port", type=click.IntRange(1, 65535), help="Of the device's sshd."),
    click.option("-i", "--identity", type=click.Path(), help="A private key for ssh."),
    click.option("-F", "--ssh-config", type=click.Path(), help="A configuration for ssh."),
    click.option(
        "-o",
        "--ssh-option",
        multiple=True,
        metavar="NAME=VALUE",
        help="Anything else that ssh's -o takes; your ssh configuration applies by itself.",
    ),
)


def host_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options; the command gets them with its argument `host` as `chosen`."""

    @wraps(function)
    def with_host(
        *args: Any,
        host: str | None,
        name: str,
        for_user: bool,
        ssh_port: int | None,
        identity: str | None,
        ssh_config: str | None,
        ssh_option: tuple[str, ...],
        **kwargs: Any,
    ) -> Any:
        if host is not None and not host.strip():  # such as "$PI" that is not set
            raise ConfigurationError("The HOST is empty; name a device, such as pi@pump-3.")
        options = [word for each in ssh_option for word in ("-o", each)]
        for letter, value in (("-p", ssh_port), ("-i", identity), ("-F", ssh_config)):
            if value is not None:
                options += [letter, str(value)]
        mode = "user" if for_user else "system"
        chosen = HostChoice(host or "", mode, name, tuple(options))
        return function(*args, chosen=chosen, **kwargs)

    command: Callable[..., Any] = with_host
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
