"""A connection through the system's OpenSSH client: its configuration, keys and hosts apply."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from edgelstm.errors import DeploymentError

_CONNECTION_FAILED = 255
# A dead connection is noticed in 15 seconds.
_ALIVE = ("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3")


class Ssh:
    """A host that answers; `open_ssh` makes it.

    Args:
        host: as ssh takes it: an alias of its configuration, user@host or ssh://user@host:port.
        options: for ssh, such as ("-p", "2222").
        control: socket of the connection that all commands share.
    """

    def __init__(self, host: str, options: Sequence[str], control: Path) -> None:
        self.host = host
        self._options = [*options, *_ALIVE, "-o", f"ControlPath={control}"]

    def command(self, argv: Sequence[str]) -> list[str]:
        """What runs a program there; arguments arrive as they are."""
        return ["ssh", "-T", *self._options, "--", self.host, shlex.join(argv)]

    def start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Starts a program there, with pipes; Ctrl-C here does not reach it."""
        return subprocess.Popen(
            self.command(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )

    def run(self, argv: Sequence[str], stdin: BinaryIO | None = None) -> int:
        """Runs a program there with this one's input, or another one, and output; its exit code."""
        return subprocess.run(self.command(argv), stdin=stdin, check=False).returncode

    def _log_in(self) -> None:
        """Asks for what there is to ask, and leaves a connection for the others."""
        command = ["ssh", "-T", *self._options, "-o", "ControlMaster=auto"]
        command += ["-o", "ControlPersist=60", "--", self.host, "true"]
        # On a file: the connection that stays behind would hold a pipe open.
        with tempfile.TemporaryFile() as said:
            code = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=said, check=False)
            said.seek(0)
            text = said.read().decode(errors="replace")
        if code.returncode == _CONNECTION_FAILED:
            raise DeploymentError(why(self.host, text))

    def _log_out(self) -> None:
        command = ["ssh", *self._options, "-O", "exit", "--", self.host]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


@contextlib.contextmanager
def open_ssh(host: str, options: Sequence[str] = ()) -> Iterator[Ssh]:
    """Logs in, once for all commands.

    Raises:
        DeploymentError: there is no ssh, or the host cannot be reached or does not let in.
    """
    if host.startswith("-"):
        raise DeploymentError(f"{host!r} is no name of a host.")
    if shutil.which("ssh") is None:
        raise DeploymentError(
            "There is no ssh on this computer; install it: sudo apt-get install openssh-client"
        )
    # The path of a socket is short: hence not below the user's cache.
    with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
        ssh = Ssh(host, options, Path(folder, "%C"))
        ssh._log_in()
        try:
            yield ssh
        finally:
            ssh._log_out()


def why(host: str, text: str) -> str:
    """What ssh's complaint means, in a sentence with what to do."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1].rstrip(".") if lines else "ssh did not say why"
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in text:
        return (
            f"{host} has another host key than it had: it was set up anew, or it is another "
            "computer; if you know why, forget the old key with: ssh-keygen -R HOST"
        )
    if "Host key verification failed" in text:
        return (
            f"The host key of {host} is not known; log in once by hand to check and accept it: "
            f"ssh {host}"
        )
    if "Permission denied" in text:
        return (
            f"{host} does not let you in ({last}); try: ssh {host}, and copy your key there with: "
            f"ssh-copy-id {host}"
        )
    return f"{host} cannot be reached ({last}); try: ssh {host}"
