"""`condition_of`: how well a service does, from what its device tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Word = Literal[
    "ok", "degraded", "failing", "starting", "stopping", "stopped", "unknown", "no release"
]

_STALE_S = 10.0  # the file is written every two seconds
_SOON_S = 10.0  # after which a service that is ready has written it


@dataclass(frozen=True)
class Condition:
    """How well a service does.

    Attributes:
        word: for how it is.
        reasons: why it is not "ok", a sentence each.
    """

    word: Word
    reasons: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it is as it should be."""
        return self.word == "ok"


def condition_of(service: Mapping[str, Any]) -> Condition:
    """How well a service does.

    Args:
        service: one of `services` in what the agent's `status` gives.
    """
    if not service["release"]:
        return Condition("no release", ("No release of it was ever proved.",))
    unit, health = service["unit"], service["health"]
    if unit is None:
        return Condition("unknown", ("The device's systemd could not be asked.",))
    active, sub = unit["active"], unit["sub"]
    if active != "active":
        return _not_running(unit)
    if sub != "running":
        return Condition("failing", (f"Its process has ended ({sub}).",))
    if health is None:
        return _says_nothing(unit)
    if health["age"] > _STALE_S:
        return Condition("failing", (f"It has said nothing for {health['age']:.0f} s.",))
    if health["status"] == "ok":
        return Condition("ok")
    word: Word = "degraded" if health["status"] == "degraded" else "failing"
    return Condition(word, tuple(health["problems"]))


def _not_running(unit: Mapping[str, Any]) -> Condition:
    active, sub = unit["active"], unit["sub"]
    if active == "activating" and sub != "auto-restart":
        return Condition("starting", ("It is not ready yet.",))
    if active == "reloading":
        return Condition("starting", ("It reads its configuration anew.",))
    if active == "deactivating":
        return Condition("stopping", ("It is being stopped.",))
    why = f" ({unit['result']})" if unit["result"] not in ("", "success") else ""
    if sub == "auto-restart":
        number = unit["restarts"]
        again = f", as it was {number} x before" if number else ""
        return Condition("failing", (f"It ended{why} and is started again{again}.",))
    if active == "failed":
        return Condition("failing", (f"It ended{why} and is not started again.",))
    if unit["load"] not in ("", "loaded"):
        return Condition("stopped", (f"systemd cannot load its unit ({unit['load']}).",))
    return Condition("stopped", ("It was stopped.",))


def _says_nothing(unit: Mapping[str, Any]) -> Condition:
    if unit["seconds"] is not None and unit["seconds"] < _SOON_S:
        return Condition("starting", ("It has not said yet how it is.",))
    return Condition("unknown", ("It runs, and does not say how it is.",))
