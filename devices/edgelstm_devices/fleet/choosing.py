"""What each host gets: what was asked for, with what the inventory says of the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from edgelstm.errors import ConfigurationError
from edgelstm.signing import TrustedKeys
from edgelstm_devices.fleet.survey import Wish
from edgelstm_devices.planning import Choice, ReleasePlan, plan_release
from edgelstm_devices.shipment import service_name
from edgelstm_devices.wheelhouse import Progress


def planner(
    choice: Choice,
    *,
    cache: Path,
    now: datetime,
    by: str,
    trusted: Sequence[Path] = (),
    progress: Progress = lambda _line: None,
) -> Callable[[Wish], ReleasePlan]:
    """What plans a host, for `deploy_fleet`.

    Args:
        choice: what is wanted of all hosts.
        cache: of wheels on this computer.
        now: with a time zone; one for all, so that hosts that get the same get the same id.
        by: who plans it.
        trusted: files of public keys, by one of which every artifact has to be signed.
        progress: takes a line for each wheel that is downloaded.

    Raises:
        SignatureError: a file is no public key.
    """
    keys = TrustedKeys.of(trusted)

    def plan(wish: Wish) -> ReleasePlan:
        chosen = host_choice(choice, wish)
        planned = plan_release(
            wish.facts, chosen, cache=cache, now=now, by=by, asked=wish.asked, progress=progress
        )
        for path in planned.models():
            keys.check(path.read_bytes(), path)
        return planned

    return plan


def host_choice(choice: Choice, wish: Wish) -> Choice:
    """What is wanted of one host: the inventory wins over what is for all.

    Raises:
        ConfigurationError: the inventory has another mode than there is.
    """
    if wish.mode not in ("system", "user"):
        raise ConfigurationError(
            f"The inventory has edgelstm_mode={wish.mode}; write system or user."
        )
    source = Path(wish.source) if wish.source else choice.source
    # A service that was not named is called after its source.
    unnamed = choice.service == service_name(choice.source)
    return replace(
        choice,
        source=source,
        service=wish.name or (service_name(source) if unnamed else choice.service),
        mode="user" if wish.mode == "user" else "system",
        options=replace(choice.options, port=wish.port or choice.port),
        profile=wish.profile or choice.profile,
    )
