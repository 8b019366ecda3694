"""An sshd on this machine that lets in whoever runs the tests, with a key and files of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

SSHD = "/usr/sbin/sshd"
_START_S = 20.0


@dataclass(frozen=True)
class Sshd:
    """An sshd that listens.

    Attributes:
        folder: its files: `config` is a configuration for ssh, `key` and `known_hosts` are in it.
        port: on 127.0.0.1.
        process_id: of the sshd.
        host: by which the configuration knows it.
    """

    folder: Path
    port: int
    process_id: int
    host: str = "device"

    @property
    def options(self) -> tuple[str, ...]:
        """For ssh."""
        return ("-F", str(self.folder / "config"))


def free_port() -> int:
    """A port that nobody listens at just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_key(path: Path) -> str:
    """Makes a key without a passphrase; its public half is the answer."""
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(keygen, check=True)
    return path.with_suffix(".pub").read_text()


def write_client(
    folder: Path, port: int, host_key: str, *, user: str = "", host: str = "device"
) -> None:
    """Writes `config` and `known_hosts` into a folder that has `key`."""
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    (folder / "config").write_text(
        f"Host {host}\n"
        "  HostName 127.0.0.1\n"
        f"  Port {port}\n"
        f"  User {user or getuser()}\n"
        f"  IdentityFile {folder}/key\n"
        "  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder}/known_hosts\n"
        "  GlobalKnownHostsFile /dev/null\n"
        "  StrictHostKeyChecking yes\n"
        "  BatchMode yes\n"
    )


def server_config(folder: Path, port: int) -> str:
    """The lines of an sshd's configuration that every one here has."""
    return (
        f"Port {port}\n"
        "ListenAddress 127.0.0.1\n"
        f"HostKey {folder}/host_key\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\n"
        "PidFile none\n"
        "UsePAM no\n"
        "PasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\n"
        "PermitRootLogin prohibit-password\n"
        "StrictModes no\n"
        "Subsystem sftp internal-sftp\n"
    )


def wait_for_port(port: int, seconds: float = _START_S) -> None:
    """Waits until something greets at a port."""
    stop = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                connection.settimeout(5)
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        assert time.monotonic() < stop, f"no sshd at port {port}"
        time.sleep(0.05)


@contextmanager
def sshd(folder: Path) -> Iterator[Sshd]:
    """Starts one with its files in a folder, and ends it with every connection afterwards."""
    install = "run: apt-get install openssh-server openssh-client"
    assert Path(SSHD).exists(), install
    assert shutil.which("ssh"), install
    if os.geteuid() == 0:  # it wants a folder to be nobody in
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port = free_port()
    host_key = make_key(folder / "host_key")
    (folder / "authorized_keys").write_text(make_key(folder / "key"))
    write_client(folder, port, host_key)
    (folder / "sshd_config").write_text(server_config(folder, port))
    command = [SSHD, "-D", "-f", str(folder / "sshd_config"), "-E", str(folder / "log")]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for_port(port)
        yield Sshd(folder, port, server.pid)
    finally:
        cut(server.pid)
        server.terminate()
        server.wait(10)


def cut(process_id: int) -> None:
    """Ends every connection of an sshd at once, as a pulled cable does; it listens on."""
    for one in _children(process_id):
        # With root there is a process with the user's rights below it, which holds the connection.
        for victim in [*_children(one), one]:
            with suppress(OSError):
                if Path(f"/proc/{victim}/comm").read_text().startswith("sshd"):
                    os.kill(victim, signal.SIGKILL)


def _children(process_id: int) -> list[int]:
    try:
        text = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    except OSError:
        return []
    return [int(number) for number in text.split()]
