"""Virtual environments on the device, which releases share.

One is made where it stays, for the scripts in it begin with its path. It counts once it has the
file `.complete`, which is written when all the rest has reached the disk.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .context import AgentError, Context
from .files import full, in_words, locked, make_folder, remove_tree, write_file
from .layout import Layout
from .machine import Machine
from .programs import PATH, Done, run
from .pythons import pythons
from .store import intact

COMPLETE = ".complete"
LOCK = ".lock"
"""Of the root: whoever makes or removes runtimes and releases has it."""

_WHEELS, _TEMPORARY = ".wheels", ".tmp"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+!-]{0,199}\Z")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*==[A-Za-z0-9_.+!]+\Z")
_INSTALLING_S = 3600.0  # over a slow network to a slow memory card
_MAKING_S = 300.0
_FULL = ("No space left on device", "Disk quota exceeded")
_HIDDEN = ("/root/", "/home/", "/run/user/")  # from services of the system: ProtectHome=
_NETWORK = (
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
)  # fmt: skip


def install_runtime(
    context: Context, *, layout: Layout, runtime: Mapping[str, Any]
) -> dict[str, Any]:
    """Makes a virtual environment, unless it is there.

    Args:
        context: of the caller, who hears of what is going on.
        layout: of the installation.
        runtime: a `RuntimeSpec`; its wheels are in the store.

    Returns:
        `id`, and `made`, whether it was not there yet.

    Raises:
        AgentError: the device lacks that Python or a file, pip failed, the disk is full, or the
            caller went away; nothing of it is left.
    """
    identifier = runtime["id"]
    if not _NAME.match(identifier):
        raise AgentError(f"{identifier!r} is no id of a runtime.")
    folder = layout.runtimes / identifier
    with in_words(layout.runtimes):
        make_folder(layout.runtimes)
        with locked(layout.root / LOCK, context) as lock:
            if is_complete(layout, identifier):
                (folder / COMPLETE).touch()  # for `prune` of another service: it is wanted again
                return {"id": identifier, "made": False}
            remove_unfinished_runtimes(layout)
            remove_tree(folder)  # that of a Python that is gone
            try:
                _make(context, layout, folder, runtime, lock)
            except BaseException:
                remove_tree(folder)
                raise
    return {"id": identifier, "made": True}


def is_complete(layout: Layout, identifier: str) -> bool:
    """Whether a runtime can be used: it was made to its end, and its Python is still there."""
    folder = layout.runtimes / identifier
    return (folder / COMPLETE).is_file() and (folder / "bin/python").exists()


def damaged_file(layout: Layout, identifier: str) -> str:
    """The first file of a runtime that is not as pip put it there; "" when there is none.

    What pip installed it wrote down, with a digest of each file (PEP 376). Compiled modules have
    none: Python makes them from the others.

    Raises:
        OSError: a file cannot be read.
    """
    for record in sorted((layout.runtimes / identifier).glob("lib/python*/*/*.dist-info/RECORD")):
        with record.open(encoding="utf-8", newline="") as lines:
            for name, digest, _size in csv.reader(lines):
                path = record.parents[1] / name
                if digest and (not path.is_file() or _recorded_digest(path) != digest):
                    return os.path.normpath(path)
    return ""


def _recorded_digest(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def remove_unfinished_runtimes(layout: Layout) -> None:
    """Removes what was being made when the power went; the caller has the lock."""
    for folder in layout.runtimes.iterdir():
        if not (folder / COMPLETE).is_file():
            remove_tree(folder)


def _make(
    context: Context, layout: Layout, folder: Path, runtime: Mapping[str, Any], lock: int
) -> None:
    python = _find_python(layout, runtime["python"])
    context.event(what="installing", runtime=runtime["id"], python=python)
    plain = {"PATH": PATH, "LANG": "C.UTF-8"}
    made = run(
        context,
        [python, "-I", "-m", "venv", "--without-pip", folder],
        environment=plain,
        timeout=_MAKING_S,
        hold=[lock],
    )
    _expect(made, folder, "made no virtual environment", "install its package python3-venv")
    _link_wheels(layout, folder, runtime["wheels"])
    _pip(context, folder, runtime, lock)
    if not (folder / "bin/edgelstm").is_file():
        raise AgentError(f"The runtime {runtime['id']} has no edgelstm in it; deploy again.")
    for name in (_WHEELS, _TEMPORARY):
        remove_tree(folder / name)
    folder.chmod(0o755)
    # Thousands of files: one by one it would take minutes on a memory card.
    os.sync()
    write_file(folder / COMPLETE, json.dumps(runtime, indent=1).encode())


def _find_python(layout: Layout, version: str) -> str:
    """A Python of that version that the service's user may run.

    Rather the system's own, for that gets the updates.

    Raises:
        AgentError: there is none.
    """
    fitting = [
        str(one["executable"])
        for one in pythons(Machine())
        if one["version"].startswith(f"{version}.") and "venv" not in one["missing"]
    ]
    fitting.sort(key=lambda path: not path.startswith("/usr/bin/"))
    for path in fitting:
        if layout.mode == "user" or not path.startswith(_HIDDEN):
            return path
    but = f" but {fitting[0]}, which services may not use (ProtectHome)" if fitting else ""
    raise AgentError(
        f"The device has no Python {version} with its module venv{but}; run there: "
        f"sudo apt-get install python{version} python{version}-venv"
    )


def _link_wheels(layout: Layout, folder: Path, wheels: Mapping[str, Mapping[str, Any]]) -> None:
    """Gives the files of the store the names by which pip knows what they are."""
    (folder / _WHEELS).mkdir()
    for name, file in wheels.items():
        if not (_NAME.match(name) and name.endswith(".whl")):
            raise AgentError(f"{name!r} is no name of a wheel.")
        (folder / _WHEELS / name).symlink_to(intact(layout, file["sha256"]))


def _pip(context: Context, folder: Path, runtime: Mapping[str, Any], lock: int) -> None:
    wheels = folder / _WHEELS
    temporary = folder / _TEMPORARY  # /tmp may be in memory, of which there is little
    temporary.mkdir()
    environment = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": str(temporary)}
    environment.update(TMPDIR=str(temporary), PYTHONNOUSERSITE="1")
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--quiet",
               "--disable-pip-version-check", "--no-warn-script-location",
               "--root-user-action=ignore"]  # fmt: skip
    if runtime["offline"]:
        environment["PIP_CONFIG_FILE"] = os.devnull
        options += ["--no-index", f"--find-links={wheels}"]
    else:
        # The device's own settings: its index, a proxy.
        inherited = {name: os.environ[name] for name in _NETWORK if name in os.environ}
        inherited.update({k: v for k, v in os.environ.items() if k.startswith("PIP_")})
        environment.update(inherited, HOME=os.environ.get("HOME", str(temporary)))
        options += ["--retries=2", "--timeout=20"]
    for requirement in runtime["requirements"]:
        if not _REQUIREMENT.match(requirement):
            raise AgentError(f"{requirement!r} is no package with its version.")
    if runtime["installer"] not in runtime["wheels"]:
        raise AgentError("The runtime came without pip; deploy again.")
    given = [wheels / name for name in sorted(runtime["wheels"]) if name != runtime["installer"]]
    done = run(
        context,
        [folder / "bin/python", "-I", wheels / runtime["installer"] / "pip", "install", *options,
         *given, *runtime["requirements"]],
        environment=environment,
        timeout=_INSTALLING_S,
        hold=[lock],
    )  # fmt: skip
    advice = "deploy again" if runtime["offline"] else "deploy with --offline if it has no internet"
    _expect(done, folder, "could not install the packages", advice)


def _expect(done: Done, folder: Path, what: str, advice: str) -> None:
    """Raises an `AgentError` when a program failed."""
    if done.code == 0:
        return
    if any(text in done.err + done.out for text in _FULL):
        raise full(folder)
    if done.code is None:
        raise AgentError(f"The device {what} in time; look at its load and deploy again.")
    lines = (done.err + done.out).splitlines()
    errors = [line[7:].strip() for line in lines if line.startswith("ERROR: ")]
    # Of pip's the first says what, and the last that there was an error.
    reason = errors[0] if errors else done.last_lines(1) or f"exit code {done.code}"
    raise AgentError(f"The device {what}: {reason.rstrip('.')}; {advice}.")
