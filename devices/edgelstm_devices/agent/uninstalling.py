"""Removing a service from the device."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from .context import AgentError, Context
from .files import in_words, locked, make_folder, remove_at_once, remove_tree, sync
from .layout import Layout, Service
from .runtimes import LOCK
from .switching import claimed, dismiss_guards
from .systemd import Systemd


def uninstall(
    context: Context, *, layout: Layout, service: str, purge: bool = False
) -> dict[str, Any]:
    """Stops a service and removes it from the device.

    Args:
        context: of the caller.
        layout: of the installation.
        service: its name.
        purge: whether its states, alerts and logs go, too.

    Returns:
        The paths that were `removed`, and those that were `kept` although they are of the service.

    Raises:
        AgentError: there is no such service, or it cannot be stopped; what was not done yet can be
            done by calling again.
    """
    place = layout.service(service)
    units = [place.trial_unit_file, place.unit_file]
    known = place.folder.is_dir() or any(map(os.path.lexists, units))
    if not known and not (purge and data_of(layout, service)):
        there = ", ".join(layout.names()) or "none"
        raise AgentError(f"The device has no service {service}; there are: {there}.")
    removed: list[str] = []
    with in_words(layout.root):
        make_folder(place.folder)
        with locked(layout.root / LOCK, context), claimed(place):
            _remove_units(layout, place, removed)
            remove_at_once(place.folder)
            removed.append(str(place.folder))
            if purge:
                for path in data_of(layout, service):
                    remove_tree(path)
                    removed.append(str(path))
            if not layout.names():
                # Not the root as a whole: an installation by hand may have its files there, too.
                for path in (layout.services, layout.runtimes, layout.store):
                    remove_tree(path)
                (layout.root / LOCK).unlink()
                with suppress(OSError):
                    layout.root.rmdir()
                removed.append(str(layout.root))
    dropins = place.unit_file.with_name(f"{place.unit}.d")
    kept = [*data_of(layout, service), *([dropins] if dropins.is_dir() else [])]
    return {"removed": removed, "kept": [str(path) for path in kept]}


def _remove_units(layout: Layout, place: Service, removed: list[str]) -> None:
    units = [place.trial_unit_file, place.unit_file]
    there = [path for path in units if os.path.lexists(path)]
    systemd = Systemd(layout)
    if there:
        dismiss_guards(place, systemd)
        systemd.stop(place.unit)
    # Also where a call before this one removed the unit and came no further: glob would not find a
    # link that leads nowhere.
    wanted = [folder / place.unit for folder in layout.units.glob("*.wants")]
    for path in [*(path for path in wanted if os.path.lexists(path)), *there]:
        path.unlink()
        sync(path.parent)
        removed.append(str(path))
    if there:
        systemd.reload()
        systemd.forget_failure(place.unit)


def data_of(layout: Layout, service: str) -> list[Path]:
    """What systemd made for a service to write to, and is there."""
    if layout.mode == "system":
        paths = [Path("/var/lib/edgelstm"), Path("/var/log/edgelstm")]
    else:
        home = layout.units.parents[2]
        # Before systemd 254 in the folder of configurations (systemd.exec(5)).
        paths = [home / ".local/state/edgelstm", home / ".local/state/log/edgelstm"]
        paths += [home / ".config/log/edgelstm"]
        if service not in ("devices", "trusted"):  # the user's own device profiles, and keys
            paths += [home / ".config/edgelstm"]
    return [path / service for path in paths if (path / service).is_dir()]
