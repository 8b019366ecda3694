"""What a device needs before the first release of a service: folders, and the user it runs as."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .context import AgentError, Context
from .files import in_words, make_folder
from .layout import Layout
from .programs import PATH

_BOOTED = Path("/run/systemd/system")


def prepare(
    context: Context,  # noqa: ARG001  # as every call
    *,
    layout: Layout,
    service: str,
    groups: Sequence[str] = ("dialout",),
) -> dict[str, Any]:
    """Makes the folders of a service and, for the whole machine, the user that services run as.

    Args:
        context: of the caller.
        layout: of the installation.
        service: its name.
        groups: that the user has to be in, for the devices; those that the device lacks are left
            out.

    Returns:
        `user`: whom the service will run as.

    Raises:
        AgentError: this may not be done, there is no systemd that could run services, or a folder
            of root's may be changed by others.
    """
    place = layout.service(service)
    with in_words(layout.root):
        make_folder(place.releases)
        make_folder(layout.store)
        make_folder(layout.runtimes)
        if layout.mode == "system" and os.geteuid() == 0:
            below = (layout.store, layout.runtimes, layout.services, place.folder, place.releases)
            for folder in (layout.root, *below):
                _require_roots_own(folder)
    if layout.mode == "system":
        _make_user(layout.user, groups)
    else:
        _let_linger()
    return {"user": layout.user or pwd.getpwuid(os.geteuid()).pw_name}


def _require_roots_own(folder: Path) -> None:
    """Refuses a folder where somebody else could change what root starts."""
    status = folder.stat()
    others = stat.S_IWOTH | (stat.S_IWGRP if status.st_gid else 0)
    if status.st_uid or status.st_mode & others:
        raise AgentError(
            f"On the device {folder} may be changed by others than root, who starts programs "
            f"there; run there: sudo chown root: {folder} && sudo chmod go-w {folder}"
        )


def _make_user(name: str, groups: Sequence[str]) -> None:
    """Makes the user that services run as, or puts one that is there into groups."""
    known = [group for group in groups if _has_group(group)]
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        user = None
    if user is not None:
        inside = set(os.getgrouplist(name, user.pw_gid))
        known = [group for group in known if grp.getgrnam(group).gr_gid not in inside]
        if not known:
            return
    if not _BOOTED.is_dir():
        raise AgentError(
            "systemd does not run on this device, and services need it; use a system that has it, "
            "such as Raspberry Pi OS."
        )
    home = f"/var/lib/{name}"
    if user is None:
        text = f'u {name} - "{name}" {home}\n' + "".join(f"m {name} {g}\n" for g in known)
        if _command(["systemd-sysusers", "-"], text):
            return
        _command_or_raise(
            ["useradd", "--system", "--user-group", "--no-create-home", f"--home-dir={home}",
             "--shell=/usr/sbin/nologin", f"--comment={name}", name]
        )  # fmt: skip
    for group in known:
        _command_or_raise(["usermod", "--append", f"--groups={group}", name])


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _let_linger() -> None:
    """Has the user's services run while nobody is logged in.

    Where that may not be, preflight has said so: it is no reason to stop.
    """
    if _BOOTED.is_dir() and not Path("/var/lib/systemd/linger", _login()).exists():
        _command(["loginctl", "--no-ask-password", "enable-linger"])


def _login() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _command(command: Sequence[str], text: str = "") -> str | None:
    """What a program printed, "ok" where that was nothing; None when it failed."""
    with suppress(AgentError):
        return _command_or_raise(command, text) or "ok"
    return None


def _command_or_raise(command: Sequence[str], text: str = "") -> str:
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            env={"PATH": PATH, "LANG": "C.UTF-8"},
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AgentError(f"On the device, {command[0]} failed: {error}.") from error
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise AgentError(f"On the device, {' '.join(command)} failed: {said}")
    return done.stdout.strip()
