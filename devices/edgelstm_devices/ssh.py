"""A connection through the system's OpenSSH client: its configuration, keys and hosts apply."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from edgelstm.errors import DeploymentError

CONNECTION_FAILED = 255
"""The exit code of ssh that tells of itself, not of the program."""

# A dead connection is noticed in 15 seconds.
_ALIVE = ("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3")
# What a user's configuration does when the user logs in, and is in the way here.
_PLAIN = ("-o", "RemoteCommand=none", "-o", "ClearAllForwardings=yes")
_LONGEST_FOLDER = 60  # of the 107 bytes that a socket's path may have, with what ssh puts behind it
# What ssh says at the end when a host on the way was not reached, about which it said more before.
_CONSEQUENCE = re.compile(r"kex_exchange_identification: |Connection closed by UNKNOWN ")


class Ssh:
    """A host that answers; `open_ssh` makes it.

    Args:
        host: as ssh takes it: an alias of its configuration, user@host or ssh://user@host:port.
        options: for ssh, such as ("-p", "2222").
        control: socket of the connection that all commands share.
    """

    def __init__(self, host: str, options: Sequence[str], control: Path) -> None:
        self.host = host
        self._given = tuple(options)
        # Not ControlPath=, which would be taken apart at a blank.
        socket = str(control).replace("%", "%%")
        self._alone = [*options, *_ALIVE, *_PLAIN]
        self._options = [*self._alone, "-S", socket]

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
        if code.returncode == CONNECTION_FAILED:
            if _CONSEQUENCE.search(text):
                text = self._ask_again() or text
            raise DeploymentError(why(self.host, text, self._given))

    def _ask_again(self) -> str:
        """What ssh says of a host on the way; of a connection that is to stay it says nothing."""
        command = ["ssh", "-T", *self._alone, "-o", "ControlPath=none", "-o", "BatchMode=yes"]
        command += ["--", self.host, "true"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True
        )
        return done.stderr

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
    short = len(tempfile.gettempdir().encode()) <= _LONGEST_FOLDER
    place = None if short else "/tmp"  # noqa: S108  # a folder of one's own in there
    with tempfile.TemporaryDirectory(prefix="edgelstm-", dir=place) as folder:
        ssh = Ssh(host, options, Path(folder, "ssh"))
        try:
            # A connection may stay behind when this is interrupted.
            ssh._log_in()
            yield ssh
        finally:
            ssh._log_out()


def why(host: str, text: str, options: Sequence[str] = ()) -> str:
    """What ssh's complaint means, in a sentence with what to do.

    Args:
        host: as ssh was given it.
        text: that ssh said.
        options: that it was given.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if not _CONSEQUENCE.match(line)] or lines
    last = telling[-1].rstrip(".") if telling else "ssh did not say why"
    way = shlex.join([*options, host])
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in text:
        forget = re.search(r"ssh-keygen -f .+ -R .+", text)
        return (
            f"{host} has another host key than it had: it was set up anew, or it is another "
            "computer; if you know why, forget the old key with: "
            f"{forget[0].strip() if forget else 'ssh-keygen -R HOST'}"
        )
    if "Host key verification failed" in text:
        whose = f"of {host}" if telling == lines else f"of a host on the way to {host}"
        return (
            f"The host key {whose} is not known; log in once by hand to check and accept it: "
            f"ssh {way}"
        )
    if "Too many authentication failures" in text:
        return (
            f"{host} does not let you in, because too many wrong keys were tried; name the right "
            "one with: -i KEY -o IdentitiesOnly=yes"
        )
    if "Permission denied" in text:
        return (
            f"{host} does not let you in ({last}); try: ssh {way}, and copy your key there with: "
            f"ssh-copy-id {way}"
        )
    return f"{host} cannot be reached ({last}); try: ssh {way}"
