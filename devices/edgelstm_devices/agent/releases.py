"""Releases of a service, side by side on the device: made ready, listed, tidied up, removed.

A release is a folder that is never written to again. Which one runs is up to `trial`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .context import AgentError, Context
from .files import (
    FIXED_FILE,
    in_words,
    locked,
    make_folder,
    remove_at_once,
    remove_tree,
    sync,
    write_file,
)
from .layout import Layout, Service
from .runtimes import COMPLETE, LOCK, is_complete, remove_unfinished_runtimes
from .store import intact
from .switching import claimed, release_spec
from .trial import previous_good

SPEC = "release.json"
RUNTIME = "runtime"

_FIXED_FOLDER = 0o555
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+ -]{0,199}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
# What nobody needs may be of a deployment that is going on, or was cut off and will be resumed.
_RECENT_S, _RECENT_PART_S = 3600.0, 86_400.0


def stage(context: Context, *, layout: Layout, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Makes the folder of a release from files of the store; it appears as a whole.

    Args:
        context: of the caller.
        layout: of the installation.
        spec: a `ReleaseSpec`; its files are in the store, and its runtime is installed.

    Returns:
        `release`: the folder.

    Raises:
        AgentError: something is lacking or damaged, there is another release of that id, or the
            disk is full; nothing of it is left.
    """
    place = layout.service(spec["service"])
    folder = place.release(spec["id"])
    new = folder.with_name(f".{folder.name}.new")
    with in_words(place.folder):
        make_folder(layout.root)
        with locked(layout.root / LOCK, context):
            make_folder(place.releases)
            _remove_unfinished(place)
            runtime = spec["runtime"]["id"]
            if not is_complete(layout, runtime):
                raise AgentError(f"The device has no runtime {runtime}; deploy again.")
            if folder.is_dir():
                if release_spec(place, spec["id"]) != json.loads(json.dumps(spec)):
                    raise AgentError(
                        f"The device has another release {spec['id']}; deploy again, and it gets a "
                        "name of its own."
                    )
                return {"release": str(folder)}
            try:
                _fill(layout, new, spec)
                new.rename(folder)
            except BaseException:
                remove_tree(new)
                raise
            sync(place.releases)
    return {"release": str(folder)}


def release_ids(place: Service) -> list[str]:
    """The ids of the releases that are there, oldest first."""
    try:
        names = sorted(path.name for path in place.releases.iterdir())
    except FileNotFoundError:
        return []
    return [name for name in names if not name.startswith(".")]


def releases(
    context: Context,  # noqa: ARG001  # as every call
    *,
    layout: Layout,
    service: str,
) -> list[dict[str, Any]]:
    """The releases of a service, oldest first.

    Args:
        context: of the caller.
        layout: of the installation.
        service: its name.

    Returns:
        Of each its `id`, `made`, `by`, `edgelstm`, `digest`, `configuration`, `artifacts`,
        `runtime` (the id), and whether it is the `current` one or the `previous` good one, to
        which a rollback goes.
    """
    place = layout.service(service)
    current, previous = place.current_release(), previous_good(place)
    answer = []
    for identifier in release_ids(place):
        spec = release_spec(place, identifier)
        told = {name: spec[name] for name in ("id", "made", "by", "edgelstm", "digest",
                                             "configuration", "artifacts")}  # fmt: skip
        told["runtime"] = spec["runtime"]["id"]
        told["current"], told["previous"] = identifier == current, identifier == previous
        answer.append(told)
    return answer


def prune(context: Context, *, layout: Layout, service: str, keep: int = 3) -> dict[str, Any]:
    """Removes releases that are old, and runtimes and files that no release needs any more.

    The current release, the previous good one, the one that a unit names and everything of other
    services stay, and what came within the last hour: it may be of a deployment that is going on.

    Args:
        context: of the caller.
        layout: of the installation.
        service: whose releases.
        keep: so many of the newest stay in any case.

    Returns:
        The ids of `releases` and `runtimes` that were removed, and how many `files`.

    Raises:
        AgentError: one of the service is on trial.
    """
    place = layout.service(service)
    removed: dict[str, Any] = {"releases": [], "runtimes": [], "files": 0}
    with in_words(layout.root):
        if not place.releases.is_dir():
            return removed
        with locked(layout.root / LOCK, context), claimed(place):
            _remove_unfinished(place)
            there = release_ids(place)
            stay = {*there[max(len(there) - keep, 0) :], place.current_release()}
            stay |= {previous_good(place), *_named_in_units(place)}
            for identifier in there:
                if identifier not in stay:
                    remove_at_once(place.release(identifier))
                    removed["releases"].append(identifier)
            removed["runtimes"], removed["files"] = _remove_unneeded(layout)
    return removed


def _fill(layout: Layout, new: Path, spec: Mapping[str, Any]) -> None:
    """Makes the folder of a release under another name, and has it reach the disk."""
    remove_tree(new)
    new.mkdir()
    files = spec["files"]
    for name in (spec["configuration"], *spec["artifacts"]):
        if name not in files:
            raise AgentError(f"The release has no file {name!r}, which it needs; deploy again.")
    for name, file in files.items():
        if not _FILE_NAME.match(name) or name in (SPEC, RUNTIME):
            raise AgentError(f"{name!r} is no name for a file of a release; rename it.")
        # Copies: whoever edits one does not change what the store has.
        write_file(new / name, intact(layout, file["sha256"]).read_bytes(), FIXED_FILE)
    write_file(new / SPEC, json.dumps(spec, indent=1).encode(), FIXED_FILE)
    (new / RUNTIME).symlink_to(Path("../../../..", layout.runtimes.name, spec["runtime"]["id"]))
    sync(new)
    new.chmod(_FIXED_FOLDER)


def _remove_unfinished(place: Service) -> None:
    """Removes what was being made, or removed, when the power went; the caller has the lock."""
    for path in place.releases.iterdir():
        if path.name.startswith("."):
            remove_tree(path)
    for path in place.folder.parent.glob(".*.gone"):
        remove_tree(path)


def _named_in_units(place: Service) -> list[str]:
    """Releases that a unit starts: the next boot needs them, whatever `current` says."""
    names = []
    for path in (place.unit_file, place.trial_unit_file):
        with suppress(OSError):
            text = path.read_text(encoding="utf-8", errors="replace")
            names += [name for name in release_ids(place) if f"/releases/{name}/" in text]
    return names


def _remove_unneeded(layout: Layout) -> tuple[list[str], int]:
    """Removes runtimes and files of the store that no release of any service has.

    Nothing goes while it cannot be told what a release needs.
    """
    runtimes, needed = set(), set()
    for name in layout.names():
        place = layout.service(name)
        for identifier in release_ids(place):
            try:
                spec = release_spec(place, identifier)
            except AgentError:  # damaged; what was just deployed is taken all the same
                return [], 0
            runtimes.add(spec["runtime"]["id"])
            # Wheels stay with the runtime: the next one differs in a few, and only those are sent.
            for file in (*spec["files"].values(), *spec["runtime"]["wheels"].values()):
                needed.add(file["sha256"])
    remove_unfinished_runtimes(layout)
    gone = []
    for folder in sorted(layout.runtimes.iterdir()):
        if folder.name not in runtimes and not _is_recent(folder / COMPLETE, _RECENT_S):
            # Without its mark first: it never looks whole and is not.
            (folder / COMPLETE).unlink()
            remove_tree(folder)
            gone.append(folder.name)
    files = 0
    for path in layout.store.iterdir():
        recent = _RECENT_S if _DIGEST.match(path.name) else _RECENT_PART_S
        if path.name not in needed and not _is_recent(path, recent):
            path.unlink()
            files += 1
    return gone, files


def _is_recent(path: Path, seconds: float) -> bool:
    """Whether a file was written lately, by a clock that may have jumped since, either way."""
    return abs(time.time() - path.stat().st_mtime) < seconds
