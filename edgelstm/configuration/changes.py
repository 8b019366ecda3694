"""What a new configuration changes, so that the service touches nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from edgelstm.configuration.settings import RunSettings

_TABLES = ("sources", "sensors", "sinks")
_ELSEWHERE = (*_TABLES, "path")  # where it was read from changes nothing


@dataclass(frozen=True)
class Names:
    """Names of one kind of table.

    Attributes:
        added: that are new.
        removed: that are gone.
        changed: that are there as before, with other settings.
    """

    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()

    @property
    def all(self) -> frozenset[str]:
        """All of them."""
        return self.added | self.removed | self.changed


@dataclass(frozen=True)
class Changes:
    """What differs between two configurations.

    Attributes:
        sources: that differ. A sensor whose source differs, or is another, is not changed by the
            former, and is by the latter.
        sensors: that differ.
        sinks: that differ.
        rest: the other fields of `RunSettings` that differ, in order.
    """

    sources: Names = Names()
    sensors: Names = Names()
    sinks: Names = Names()
    rest: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self != Changes()


def changed(old: RunSettings, new: RunSettings) -> Changes:
    """What differs. Other contents of a file that both name, such as an artifact, do not count."""
    sources, sensors, sinks = (_compare(getattr(old, t), getattr(new, t)) for t in _TABLES)
    rest = (each.name for each in fields(RunSettings) if each.name not in _ELSEWHERE)
    return Changes(
        sources,
        sensors,
        sinks,
        tuple(name for name in rest if getattr(old, name) != getattr(new, name)),
    )


def _compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Names:
    both = old.keys() & new.keys()
    return Names(
        frozenset(new.keys() - both),
        frozenset(old.keys() - both),
        frozenset(name for name in both if old[name] != new[name]),
    )
