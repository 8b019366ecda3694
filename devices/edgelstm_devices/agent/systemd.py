"""systemctl and journalctl, of the machine or of one user."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from .context import AgentError
from .layout import Layout

_PATIENCE_S = 90.0
"""For one call: a daemon-reload on a small computer that is busy takes seconds."""
_NOT_LOADED = 5
"""What systemctl answers of a unit that it does not know."""


class Systemd:
    """The systemd that has the services of an installation.

    Args:
        layout: of the installation; its mode says which one.
    """

    def __init__(self, layout: Layout) -> None:
        self._user = layout.mode == "user"
        self._scope = ["--user"] if self._user else []
        self._environment = {
            **os.environ,
            "LC_ALL": "C.UTF-8",
            "SYSTEMD_COLORS": "0",
            "SYSTEMD_PAGER": "",
        }
        if self._user:
            # A session that PAM did not open, such as one of su, lacks it.
            self._environment.setdefault("XDG_RUNTIME_DIR", str(layout.run.parent))

    def reload(self) -> None:
        """Reads all units anew."""
        self._call("daemon-reload")

    def start(self, unit: str, *, wait: bool = True) -> None:
        """Starts a unit; what cannot be started is an error only when it is waited for."""
        self._job("start", unit, wait)

    def restart(self, unit: str, *, wait: bool = True) -> None:
        """Stops it if it runs, and starts it."""
        self._job("restart", unit, wait)

    def stop(self, unit: str, *, wait: bool = True) -> None:
        """Stops a unit; one that is not there is stopped already."""
        self._job("stop", unit, wait, fine=(0, _NOT_LOADED))

    def forget_failure(self, unit: str) -> None:
        """So that neither a failed state nor counted starts are left of it."""
        self._call("reset-failed", unit, fine=None)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit, "" for what is not known; also of a unit that does not exist."""
        output = self._call("show", f"--property={','.join(properties)}", unit)
        lines = (line.partition("=") for line in output.splitlines())
        found = {name: value for name, _, value in lines}
        return {name: found.get(name, "") for name in properties}

    def run_apart(self, unit: str, command: Sequence[str], **properties: str) -> None:
        """Starts a program as a unit of its own, which outlives the caller and its session.

        Args:
            unit: its name; nothing is left of it when it has ended.
            command: the program and its arguments.
            properties: of the unit, as its file would have them.
        """
        settings = [f"--property={name}={value}" for name, value in properties.items()]
        self._run(
            ["systemd-run", *self._scope, "--quiet", "--collect", f"--unit={unit}", *settings,
             "--", *command],
        )  # fmt: skip

    def journal(
        self,
        unit: str,
        lines: int = 20,
        since: float | None = None,
        *,
        invocation: str = "",
        own: bool = False,
    ) -> list[str]:
        """The last messages of a unit, of systemd's on it as well; none if they may not be read.

        Args:
            unit: the unit.
            lines: at most so many.
            since: seconds since the Unix epoch.
            invocation: only of this start of it, an `InvocationID`.
            own: without systemd's messages; with an invocation only.
        """
        if not self._user:
            # What a process wrote just before its end may be on its way.
            self._run(["journalctl", "--sync"], fine=None)
        kind = "USER_" if self._user else ""
        if invocation:
            what = [f"_SYSTEMD_INVOCATION_ID={invocation}"]
            what += [] if own else ["+", f"{kind}INVOCATION_ID={invocation}"]
        else:
            what = [f"--{'user-' if self._user else ''}unit={unit}"]
        when = [] if since is None else [f"--since=@{since:.3f}"]
        command = ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={lines}"]
        return self._run([*command, *when, *what], fine=None).splitlines()

    def _job(self, verb: str, unit: str, wait: bool, fine: Sequence[int] = (0,)) -> None:
        self._call(verb, *([] if wait else ["--no-block"]), unit, fine=fine)

    def _call(self, verb: str, *arguments: str, fine: Sequence[int] | None = (0,)) -> str:
        return self._run(["systemctl", *self._scope, verb, *arguments], fine)

    def _run(self, command: Sequence[str], fine: Sequence[int] | None = (0,)) -> str:
        """Runs a command; gives its output. Every exit status is fine when `fine` is None."""
        try:
            done = subprocess.run(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PATIENCE_S,
                check=False,
            )
        except FileNotFoundError as error:
            raise AgentError(
                f"The device has no {command[0]}; edgelstm needs a system with systemd there."
            ) from error
        except subprocess.TimeoutExpired as error:
            raise AgentError(
                f"On the device, {' '.join(command[:3])} did not end within {_PATIENCE_S:.0f} s; "
                "reboot it and deploy again."
            ) from error
        if fine is not None and done.returncode not in fine:
            said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
            raise AgentError(f"On the device, {' '.join(command)} failed: {said}")
        return done.stdout
