"""A machine with systemd as its first process: a container whose /usr is this one's.

It boots in about a second and shares the network and the kernel. Needs root, and the Debian
packages systemd, systemd-container and util-linux.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SOURCES = [PROJECT / folder for folder in (".", "quantize", "firmware_bridge", "devices")]
NEEDED = ("systemd-nspawn", "nsenter", "journalctl", "systemctl")
BASE, SITE, SOURCE = "/opt/base", "/opt/site", "/opt/source"
_BOOT_S = 60.0


def why_not() -> str:
    """Why there can be no such machine here; "" if there can."""
    if os.geteuid() != 0:
        return "a container with systemd needs root"
    missing = [name for name in NEEDED if shutil.which(name) is None]
    return f"run: apt-get install systemd systemd-container ({missing[0]})" if missing else ""


class Machine:
    """A container that runs.

    Args:
        root: its root directory; /usr in it is this machine's.
        leader: the process id, on this machine, of its systemd.
    """

    def __init__(self, root: Path, leader: int) -> None:
        self.root, self._leader = root, leader

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command in it, as root."""
        namespaces = ["-m", "-u", "-i", "-p", "-r", "-w"]
        done = subprocess.run(
            ["/usr/bin/nsenter", "-t", str(self._leader), *namespaces, "--", *command],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_COLORS": "0"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"{' '.join(command)}: {done.stdout}{done.stderr}{self.log()[-5000:]}"
            )
        return done

    def cut_power(self) -> None:
        """Ends it with everything in it, at once."""
        os.kill(self._leader, signal.SIGKILL)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def log(self, *matches: str) -> str:
        """The journal, or the entries in it that match, one in JSON a line."""
        form = ["-o", "json", "--all"] if matches else []
        return self.run("journalctl", "--no-pager", "-q", *form, *matches, check=False).stdout

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
        """Waits until something is so."""
        stop = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < stop, f"{what} never came: {self.log()[-5000:]}"
            time.sleep(0.05)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Writes a file, with the folders that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def make_root(root: Path) -> None:
    """Makes the root directory: a system of nothing but systemd, and edgelstm in /opt/edgelstm."""
    for folder in ("usr", "var/lib", "var/log/journal", "run", "tmp", "dev", "proc", "sys", "root",
                   "home", BASE[1:], SITE[1:], SOURCE[1:]):  # fmt: skip
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for folder in ("bin", "sbin", "lib", "lib64"):
        (root / folder).symlink_to(f"usr/{folder}")
    write(root / "etc/os-release", "ID=test\nNAME=test\n")
    write(root / "etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    write(root / "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    write(root / "etc/group", "root:x:0:\nnogroup:x:65534:\ndialout:x:20:\n")
    write(root / "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    write(root / "etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
    paths = [SOURCE, *(f"{SOURCE}/{folder.name}" for folder in SOURCES[1:]), SITE]
    python = f"{BASE}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    write(
        root / "opt/edgelstm/bin/python",
        f"#!/bin/sh\nexport LD_LIBRARY_PATH={BASE}/lib PYTHONDONTWRITEBYTECODE=1\n"
        f'PYTHONPATH={":".join(paths)} exec {python} "$@"\n',
        0o755,
    )
    write(
        root / "opt/edgelstm/bin/edgelstm",
        '#!/bin/sh\nexec /opt/edgelstm/bin/python -m edgelstm "$@"\n',
        0o755,
    )
    write(root / "etc/systemd/system/test.target", "[Unit]\nRequires=sysinit.target\n")


@contextmanager
def booted(root: Path, *, foreign: bool = False, options: Sequence[str] = ()) -> Iterator[Machine]:
    """Boots the system of a root directory, and ends it afterwards.

    Args:
        root: its root directory.
        foreign: whether it has a /usr of its own; else it gets this machine's, and edgelstm.
        options: for systemd-nspawn.
    """
    [site] = [path for path in sys.path if path.endswith("site-packages")][:1]
    ours = {"/usr": "/usr", sys.base_prefix: BASE, site: SITE, str(PROJECT): SOURCE}
    binds = {} if foreign else ours
    command = [
        "/usr/bin/systemd-nspawn",
        "--register=no",
        "--keep-unit",
        "--quiet",
        "--boot",
        f"--directory={root}",
        f"--machine=edgelstm-{os.getpid()}",
        "--console=pipe",
        *(f"--bind-ro={ours}:{theirs}" for ours, theirs in binds.items()),
        *options,
        "systemd.unit=test.target",
    ]
    with (root.parent / "console").open("w+") as console:
        container = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            machine = Machine(root, _leader(container, console.name))
            try:
                machine.wait(
                    lambda: machine.show("test.target", "ActiveState") == "active", "the system"
                )
                yield machine
            finally:
                # qemu has other numbers for the signals by which systemd is asked to end.
                if foreign:
                    machine.cut_power()
        finally:
            container.send_signal(signal.SIGTERM)
            try:
                container.wait(30)
            except subprocess.TimeoutExpired:
                container.kill()
                container.wait()


def _leader(container: subprocess.Popen[bytes], console: str) -> int:
    """The process id of the systemd in a container that was just started."""
    children = Path(f"/proc/{container.pid}/task/{container.pid}/children")
    stop = time.monotonic() + _BOOT_S
    while time.monotonic() < stop and container.poll() is None:
        for child in map(int, children.read_text().split()):
            private = Path(f"/proc/{child}/root/run/systemd/private")
            if private.exists():
                return child
        time.sleep(0.02)
    raise AssertionError(f"the container did not boot: {Path(console).read_text()}")
