"""A device to deploy to: a machine with systemd and sshd and nothing of edgelstm.

It is an x86-64 container (see `systemd_machine`) that boots in a second. `pi` may become root
without a password, `ann` with hers, `joe` not at all; root can log in, too. What listens in it does
so on this machine's network.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sshd import SSHD, free_port, make_key, server_config, wait_for_port, write_client
from systemd_machine import Machine, booted, why_not, write

ANNS_PASSWORD = "correct horse"  # noqa: S105  # of a user who exists in the tests
_NEEDED = {SSHD: "openssh-server", "/usr/bin/sudo": "sudo", "/usr/bin/python3": "python3-minimal"}
_USERS = {"root": 0, "pi": 1000, "ann": 1001, "joe": 1002}

_SSHD_UNIT = """[Unit]
After=network.target
[Service]
ExecStart=/usr/sbin/sshd -D -f /etc/ssh/sshd_config
RuntimeDirectory=sshd
KillMode=process
"""


def why_no_device() -> str:
    """Why there can be no such machine here; "" if there can."""
    missing = [package for path, package in _NEEDED.items() if not Path(path).exists()]
    return f"run: apt-get install {' '.join(missing)}" if missing else why_not()


@dataclass(frozen=True)
class DeviceMachine:
    """A device that runs.

    Attributes:
        machine: to look into it as root.
        port: of its sshd, on 127.0.0.1.
        folder: with `config`, a configuration for ssh that has the hosts `device` (the user pi),
            `device-root`, `device-ann` and `device-joe`.
    """

    machine: Machine
    port: int
    folder: Path

    @property
    def options(self) -> tuple[str, ...]:
        """For ssh."""
        return ("-F", str(self.folder / "config"))

    def path(self, there: str) -> Path:
        """A file of the device, seen from here."""
        return self.machine.root / there.lstrip("/")

    def cut(self) -> None:
        """Ends every connection to it at once, as a pulled cable does."""
        listening = self.machine.show("ssh.service", "MainPID")
        script = f"pgrep -x sshd | grep -vx {listening} | xargs -r kill -9"
        self.machine.run("sh", "-c", script, check=False)


def make_device_root(root: Path, folder: Path, port: int) -> None:
    """Makes the root directory, and in a folder what ssh needs to get in."""
    for name in ("usr", "var/lib", "var/log/journal", "run", "tmp", "dev", "proc", "sys", "opt",
                 "opt/base", "opt/site", "opt/source"):  # fmt: skip
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    release = "ID=debian\nNAME=Debian\nVERSION_ID=12\n"
    write(root / "etc/os-release", f'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n{release}')
    settle(root, folder, port)


def settle(root: Path, folder: Path, port: int) -> None:
    """Gives a root directory its users, its sshd and its target, and writes what ssh needs."""
    write(root / "etc/machine-id", "fedcba9876543210fedcba9876543210\n")
    write(root / "etc/hostname", "device\n")
    write(root / "etc/hosts", "127.0.0.1 localhost device\n::1 localhost\n")
    write(root / "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    hashing = ["/usr/bin/openssl", "passwd", "-6", ANNS_PASSWORD]
    password = subprocess.run(hashing, capture_output=True, text=True, check=True).stdout.strip()
    homes = {name: "/root" if name == "root" else f"/home/{name}" for name in _USERS}
    write(
        root / "etc/passwd",
        "".join(f"{n}:x:{i}:{i}:{n}:{homes[n]}:/bin/bash\n" for n, i in _USERS.items())
        + "messagebus:x:989:989::/nonexistent:/usr/sbin/nologin\n"
        + "sshd:x:990:65534::/run/sshd:/usr/sbin/nologin\n"
        + "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    )
    write(
        root / "etc/group",
        "".join(f"{n}:x:{i}:\n" for n, i in _USERS.items())
        + "nogroup:x:65534:\ndialout:x:20:pi\nplugdev:x:46:\nsystemd-journal:x:991:\n"
        + "messagebus:x:989:\n",
    )
    shadow = "".join(f"{n}:{password if n == 'ann' else '*'}:19000::::::\n" for n in _USERS)
    write(root / "etc/shadow", shadow, 0o640)
    write(root / "etc/gshadow", "", 0o640)
    pam = "".join(f"{kind} sufficient pam_unix.so\n" for kind in ("auth", "account", "session"))
    for name in ("sudo", "other", "systemd-user", "sshd"):
        write(root / f"etc/pam.d/{name}", pam + "session required pam_permit.so\n")
    sudoers = "root ALL=(ALL) ALL\npi ALL=(ALL) NOPASSWD: ALL\nann ALL=(ALL) ALL\n"
    write(root / "etc/sudoers", "Defaults !lecture\n" + sudoers, 0o440)

    host_key = make_key(folder / "host_key")
    own_key = make_key(folder / "key")
    write(root / "etc/ssh/host_key", (folder / "host_key").read_text(), 0o600)
    for name, number in _USERS.items():
        home = root / homes[name][1:]
        home.mkdir(parents=True, exist_ok=True)
        shutil.chown(home, number, number)
        write(root / f"etc/ssh/keys/{name}", own_key)
    config = server_config(folder, port)
    config = config.replace(f"{folder}/authorized_keys", "/etc/ssh/keys/%u")
    write(root / "etc/ssh/sshd_config", config.replace(f"{folder}/host_key", "/etc/ssh/host_key"))
    write(root / "etc/systemd/system/ssh.service", _SSHD_UNIT)
    write(
        root / "etc/systemd/system/test.target",
        "[Unit]\nRequires=sysinit.target ssh.service\nWants=multi-user.target\n"
        "After=sysinit.target ssh.service\n",
    )
    whole = ""
    for name in _USERS:
        host = "device" if name == "pi" else f"device-{name}"
        write_client(folder, port, host_key, user=name, host=host)
        whole += (folder / "config").read_text()
    (folder / "config").write_text(whole)


@contextmanager
def device_machine(folder: Path, options: Sequence[str] = ()) -> Iterator[DeviceMachine]:
    """Boots one with everything in a folder; what is there already is booted again.

    Args:
        folder: for its root directory and its keys.
        options: for systemd-nspawn, such as "--bind=/dev/pts/7:/dev/ttyACM0".
    """
    root, keys = folder / "root", folder / "keys"
    if root.exists():
        config = (keys / "config").read_text()
        port = int(config.split("Port ")[1].split()[0])
    else:
        port = free_port()
        keys.mkdir(parents=True)
        make_device_root(root, keys, port)
    with booted(root, options=options) as machine:
        wait_for_port(port)
        yield DeviceMachine(machine, port, keys)
