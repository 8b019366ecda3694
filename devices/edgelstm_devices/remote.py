"""`Remote`: calls on a device, which its agent answers.

Nothing has to be installed there but Python, and nothing is left behind: the agent's modules are
sent each time (see `sending`). What changes something needs root, unless it is for one user: then a
second agent is started with sudo.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from edgelstm.errors import DeploymentError
from edgelstm_devices.calling import Agent, ConnectionLostError, OnEvent, Starter, ignore
from edgelstm_devices.release import Mode
from edgelstm_devices.ssh import open_ssh

__all__ = ["AskPassword", "ConnectionLostError", "OnEvent", "Remote", "connect", "ignore"]

AskPassword = Callable[[str], str]


class _Local:
    """This computer, as a device."""

    host = "this computer"

    def start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, process_group=0)

    def run(self, argv: Sequence[str], stdin: BinaryIO | None = None) -> int:
        return subprocess.run(argv, stdin=stdin, check=False).returncode


class Remote:
    """A device that answers calls; `connect` makes it.

    Args:
        starter: starts programs there.
        mode: "system" for the whole machine, "user" for the user who logs in.
        root: folder of everything; None for the mode's own.
        ask_password: asks for the password of sudo, given the host; None when nobody can be asked.

    Attributes:
        host: as the user named it.
        layout: what every call that has a `layout` gets.
    """

    def __init__(
        self,
        starter: Starter,
        mode: Mode,
        root: str | None = None,
        ask_password: AskPassword | None = None,
        python: str = "python3",
    ) -> None:
        self.host = starter.host
        self.layout = {"mode": mode, "root": root}
        self._starter, self._ask, self._python = starter, ask_password, python
        self._agents: dict[bool, Agent] = {}
        self._sudo: str | None = None
        self._password: str | None = None

    @classmethod
    @contextlib.contextmanager
    def local(
        cls, root: Path | None = None, mode: Mode = "user", python: str = sys.executable
    ) -> Iterator[Remote]:
        """This computer as a device, without ssh: for tests, and to try things.

        Args:
            root: folder of everything.
            mode: as above; "system" must be run as root.
            python: that runs the agent.
        """
        remote = cls(_Local(), mode, str(root) if root else None, python=python)
        try:
            yield remote
        finally:
            remote.close()

    def facts(self, *, name: str = "", port: str = "", online: bool = True) -> dict[str, Any]:
        """What the device is, as the agent's `facts` gives it for this mode.

        Args:
            name: of the service to be.
            port: a path of a serial port to look at in any case.
            online: whether to try if it reaches an index of packages.

        Raises:
            DeploymentError: it cannot be reached.
        """
        arguments = {**self.layout, "name": name, "port": port, "online": online}
        found: dict[str, Any] = self._agent(False).call("facts", arguments, ignore, None)
        self._sudo = found["sudo"] or "password"
        return found

    def call(
        self,
        name: str,
        /,
        *,
        root: bool = False,
        on_event: OnEvent = ignore,
        body: BinaryIO | None = None,
        **arguments: Any,
    ) -> Any:
        """Makes a call on the device.

        Args:
            name: one of `edgelstm_devices.agent.serve.CALLS`.
            root: whether it changes something, and so needs root in system mode.
            on_event: hears what it tells while it runs.
            body: what it reads, from where it stands to its end.
            arguments: plain data.

        Returns:
            Plain data.

        Raises:
            DeploymentError: it could not be done there; the message says why.
            ConnectionLostError: the connection ended; what was begun there is finished or undone
                there.
        """
        return self._agent(root).call(name, arguments, on_event, body)

    def run(self, *argv: str, root: bool = False, stdin: BinaryIO | None = None) -> int:
        """Runs a program there with this program's input and output.

        Args:
            argv: program and arguments.
            root: whether it needs root.
            stdin: a file that it reads instead, from its beginning.

        Returns:
            Its exit code.

        Raises:
            DeploymentError: root needs a password, which cannot be passed on here.
        """
        prefix = self._prefix() if root else []
        if "-S" in prefix:
            raise DeploymentError(
                f"sudo on {self.host} wants a password, which this command cannot pass on; log in "
                f"and run: sudo {' '.join(argv)}"
            )
        return self._starter.run([*prefix, *argv], stdin)

    def close(self) -> None:
        """Ends the agents."""
        for agent in self._agents.values():
            agent.close()
        self._agents.clear()

    def needs_password(self) -> bool:
        """Whether becoming root there takes a password."""
        return self.layout["mode"] == "system" and self._how_root() == "password"

    def _agent(self, root: bool) -> Agent:
        prefix = self._prefix() if root else []
        privileged = bool(prefix)
        if privileged not in self._agents:
            password = self._password if "-S" in prefix else None
            self._agents[privileged] = Agent(self._starter, prefix, self._python, password)
        return self._agents[privileged]

    def _prefix(self) -> list[str]:
        """What stands before a program that needs root."""
        if self.layout["mode"] == "user":
            return []
        how = self._how_root()
        if how == "root":
            return []
        if how == "passwordless":
            return ["sudo", "-n", "--"]
        if how == "none":
            raise DeploymentError(
                f"The user on {self.host} may not become root; use one who may use sudo, or "
                "install for one user only with --user."
            )
        # -k: it takes the password in any case, else its line would be taken for something else.
        prefix = ["sudo", "-k", "-S", "-p", "", "--"]
        if self._password is None:
            self._password = self._learn(prefix)
        return prefix

    def _learn(self, prefix: Sequence[str]) -> str:
        if self._ask is None:
            raise DeploymentError(
                f"sudo on {self.host} wants a password, and nobody can be asked here; run this in "
                "a terminal."
            )
        password = self._ask(self.host)
        with self._starter.start([*prefix, "true"]) as process:
            process.communicate(password.encode() + b"\n")
        if process.returncode != 0:
            raise DeploymentError(f"That is not the password for sudo on {self.host}; try again.")
        return password

    def _how_root(self) -> str:
        if self._sudo is None:
            self.facts(online=False)
        return str(self._sudo)


@contextlib.contextmanager
def connect(
    host: str,
    *,
    mode: Mode = "system",
    ssh_options: Sequence[str] = (),
    root: str | None = None,
    ask_password: AskPassword | None = None,
) -> Iterator[Remote]:
    """Connects to a device.

    Args:
        host: as ssh takes it.
        mode: as `Remote` has it.
        ssh_options: for ssh, such as ("-p", "2222").
        root: as `Remote` has it.
        ask_password: likewise.

    Raises:
        DeploymentError: it cannot be reached.
    """
    with open_ssh(host, ssh_options) as ssh:
        remote = Remote(ssh, mode, root, ask_password)
        try:
            yield remote
        finally:
            remote.close()
