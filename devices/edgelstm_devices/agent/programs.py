"""Programs that a deployment starts on the device: with a time limit, and ended with the caller."""

from __future__ import annotations

import grp
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .context import AgentError, Context
from .files import gone
from .layout import Layout

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_POLL_S = 0.25
_FAREWELL_S = 3.0
_NICE = 10  # what runs already is to be in time


@dataclass(frozen=True)
class Identity:
    """Whom a program runs as.

    Attributes:
        uid: the user.
        gid: its first group.
        groups: the others.
        home: its home directory, which may not be there.
        name: of the user.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    name: str


@dataclass(frozen=True)
class Done:
    """A program that has ended.

    Attributes:
        code: exit code; that of a signal is negative. None when it took too long.
        out: what it wrote to standard output.
        err: and to standard error.
    """

    code: int | None
    out: str
    err: str

    def last_lines(self, count: int = 8) -> str:
        """The end of what it said, which is where the reason is."""
        said = self.err if self.err.strip() else self.out
        lines = [line.rstrip() for line in said.splitlines() if line.strip()]
        return "\n".join(lines[-count:])


def identity(layout: Layout, groups: Sequence[str] = ("dialout",)) -> Identity | None:
    """Whom the services of an installation run as; None for the user that this process has.

    Args:
        layout: of the installation.
        groups: names of groups that their units add, where the device has them.

    Raises:
        AgentError: there is no such user yet.
    """
    if layout.mode != "system" or os.geteuid() != 0:
        return None
    try:
        user = pwd.getpwnam(layout.user)
    except KeyError:
        raise AgentError(
            f"The device has no user {layout.user}, as which services run; deploy to it, which "
            "makes one."
        ) from None
    numbers = set(os.getgrouplist(layout.user, user.pw_gid))
    for name in groups:
        with suppress(KeyError):
            numbers.add(grp.getgrnam(name).gr_gid)
    return Identity(user.pw_uid, user.pw_gid, tuple(sorted(numbers)), user.pw_dir, layout.user)


def run(
    context: Context,
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    timeout: float,
    user: Identity | None = None,
    folder: Path | None = None,
    hold: Sequence[int] = (),
    umask: int = 0o022,
) -> Done:
    """Runs a program to its end, at low priority and without input.

    Args:
        context: of the caller; the program ends when it goes away.
        command: and its arguments.
        environment: all of it.
        timeout: in seconds.
        user: None for the one that this process has.
        folder: that it starts in; None for /.
        hold: descriptors that it inherits, such as of a lock.
        umask: of files that it makes.

    Raises:
        AgentError: the caller went away, or the program cannot be started.
    """
    options = {}
    if user is not None:
        options = {"user": user.uid, "group": user.gid, "extra_groups": list(user.groups)}
    try:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=dict(environment),
            cwd=folder or "/",
            pass_fds=tuple(hold),
            start_new_session=True,
            umask=umask,
            **options,  # type: ignore[call-overload]  # a mapping of arguments
        )
    except OSError as error:
        raise AgentError(
            f"On the device, {command[0]} cannot be started: {error.strerror}."
        ) from error
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
    stop = time.monotonic() + timeout
    try:
        while True:
            try:
                out, err = process.communicate(timeout=_POLL_S)
                return Done(process.returncode, out, err)
            except subprocess.TimeoutExpired:
                if not context.alive():
                    raise gone() from None
                if time.monotonic() > stop:
                    out, err = _end(process)
                    return Done(None, out, err)
    finally:
        if process.poll() is None:
            _end(process)


def _end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Ends a program, politely first: the doctor has processes of its own, and ends them then."""
    for number, patience in ((signal.SIGINT, _FAREWELL_S), (signal.SIGKILL, _FAREWELL_S)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            return process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            pass
    return "", ""
