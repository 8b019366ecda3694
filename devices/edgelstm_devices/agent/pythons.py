"""The Pythons of a device, the architecture that they are for, and their C library."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import threading
from pathlib import Path
from typing import Any

from .machine import Machine

_MOST = 12
_NAME = re.compile(r"python3(\.\d+)?\Z")
_FOLDERS = ("/usr/bin", "/usr/local/bin")
# Where pyenv and uv put theirs: for a user's own services they will do.
_HOMES = (
    "{home}/.local/bin/python3*",
    "{home}/.local/share/uv/python/*/bin/python3*",
    "{home}/.pyenv/versions/*/bin/python3*",
    "/opt/*/bin/python3*",
    "/root/.local/share/uv/python/*/bin/python3*",
)

# Of the standard library, what some distributions pack apart and edgelstm cannot do without.
MODULES = ("ctypes", "json", "sqlite3", "ssl", "venv", "zlib")

# Run by every Python that is found, the oldest, too. Imported, not looked for: a module may be
# there whose library is not.
_QUESTION = """
import json, os, platform, struct, sys, sysconfig
missing = []
for name in {modules!r}:
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
print(json.dumps({{
    "version": platform.python_version(),
    "implementation": platform.python_implementation(),
    "bits": struct.calcsize("P") * 8,
    "multiarch": sysconfig.get_config_var("MULTIARCH") or "",
    "threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "executable": os.path.realpath(getattr(sys, "_base_executable", sys.executable)),
    "libc": list(platform.libc_ver()),
    "machine": os.uname()[4],
    "missing": missing,
}}))
"""


def pythons(machine: Machine) -> list[dict[str, Any]]:
    """Every Python 3 that is found, one entry each; the one that runs this comes first.

    Each is started, so root leaves out those that somebody else could have put there.

    Each has `executable` (no link; of a virtual environment the one that made it), `version`,
    `implementation`, `bits`, `architecture` (see `architecture_of`), `threaded` (built without the
    lock), `libc` (name and version) and `missing` (what it lacks of `MODULES`).
    """
    paths = _candidates(machine)
    answers: list[Any] = [None] * len(paths)

    def ask(index: int) -> None:
        answers[index] = _ask(machine, paths[index])

    threads = [threading.Thread(target=ask, args=[i], daemon=True) for i in range(len(paths))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found: dict[str, dict[str, Any]] = {}
    for answer in answers:
        if answer is not None:
            found.setdefault(answer["executable"], answer)
    return list(found.values())


def _candidates(machine: Machine) -> list[str]:
    home = machine.environ.get("HOME", "/root")
    folders = [*_FOLDERS, *machine.environ.get("PATH", "").split(":")]
    names = [
        f"{folder}/{name}"
        for folder in dict.fromkeys(folders)
        if folder.startswith("/")
        for name in machine.names(folder)
        if _NAME.match(name)
    ]
    for pattern in _HOMES:
        found = machine.glob(pattern.format(home=home))
        names += [machine.shown(path) for path in found if _NAME.match(path.name)]
    own = [sys.executable] if str(machine.root) == "/" and sys.executable else []
    # A link and what it points to are one Python, which is asked once.
    distinct: dict[str, str] = {}
    for name in [*own, *names]:
        path = os.path.realpath(machine.path(name))
        if name in own or machine.user != 0 or is_roots_own(path):
            distinct.setdefault(path, name)
    return list(distinct.values())[:_MOST]


def is_roots_own(path: str) -> bool:
    """Whether nobody but root can put another program in the place of one; root runs no others."""
    parts = [Path(path), *Path(path).parents]
    try:
        found = [part.stat() for part in parts]
    except OSError:
        return False
    # A folder like /tmp is everybody's, but what is in it stays with its owner. Groups that may
    # write, such as staff in /usr/local, are of the administrator's choice.
    sticky = [stat.S_ISDIR(one.st_mode) and one.st_mode & stat.S_ISVTX for one in found]
    return all(
        one.st_uid == 0 and (own or not one.st_mode & stat.S_IWOTH)
        for one, own in zip(found, sticky)  # noqa: B905  # Python 3.9 has no strict=
    )


def _ask(machine: Machine, path: str) -> dict[str, Any] | None:
    question = _QUESTION.format(modules=MODULES)
    lines: list[str] = []
    if path == sys.executable and str(machine.root) == "/":
        exec(question, {"print": lines.append})  # noqa: S102  # on a busy device a start is long
    else:
        done = machine.run(path, "-IB", "-c", question)
        lines = done[1].splitlines() if done and done[0] == 0 else []
    try:
        said = json.loads(lines[-1])
    except (IndexError, ValueError):
        return None
    libc, version = said["libc"]
    kernel, multiarch = said.pop("machine"), said.pop("multiarch")
    return {
        **said,
        "architecture": architecture_of(kernel, said["bits"], multiarch),
        "libc": _libc(machine, libc, version),
    }


def _libc(machine: Machine, name: str, version: str) -> dict[str, str | None]:
    if not name and machine.glob("/lib/ld-musl-*"):
        name = "musl"
    return {"name": name or None, "version": version or None}


def architecture_of(kernel: str, bits: int, multiarch: str) -> str:
    """The architecture that a Python takes wheels for.

    A 64-bit kernel runs 32-bit systems, too, as 32-bit Raspberry Pi OS has it, and `uname -m` is
    the kernel's.

    Args:
        kernel: as `uname -m` prints it.
        bits: of the Python.
        multiarch: such as "arm-linux-gnueabihf"; "" where it is not known.
    """
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(kernel, kernel)
    if machine in ("aarch64", "armv7l", "armv8l") and bits == 32:
        # Without hardware floating point there are no wheels.
        return "armel" if multiarch == "arm-linux-gnueabi" else "armv7l"
    if machine == "x86_64" and bits == 32:
        return "i686"
    return machine
