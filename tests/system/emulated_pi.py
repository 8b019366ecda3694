"""A 64-bit Raspberry Pi to deploy to: an emulated one, with Debian's systemd, sshd and Python.

Its processor is qemu's, some ten times slower than a real one; it boots in ten seconds. It shares
this machine's network. Needs root, what `tests/debian-packages.txt` has, and `build/aarch64`.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from device_machine import DeviceMachine, settle, why_no_device
from sshd import free_port, wait_for_port
from systemd_machine import PROJECT, booted, write

BUILD = PROJECT / "build/aarch64"
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_REGISTRATION = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
# The default model of qemu 7 computes some int8 kernels wrongly.
_CPU = "QEMU_CPU=cortex-a72"
_CPUINFO_UNIT = """[Unit]
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/mount --bind /opt/cpuinfo /proc/cpuinfo
"""
_FOLDERS = "root tmp proc sys dev run opt var/log/journal var/tmp home etc/ssh"


def why_no_pi() -> str:
    """Why there can be no such machine here; "" if there can."""
    if not (BUILD / ".ready").exists() or not _REGISTRATION.exists():
        return "run: apt-get install qemu-user-static && make build/aarch64/.ready"
    if why := why_no_device():
        return why
    try:
        _register()
    except OSError as error:
        return f"the kernel does not take another binary format: {error}"
    return ""


def _register() -> None:
    """Has the kernel start programs for aarch64 with qemu."""
    if not (_BINFMT / "register").exists():
        subprocess.run(
            ["/usr/bin/mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT)],
            check=False,
            capture_output=True,
        )
    if not (_BINFMT / "qemu-aarch64").exists():
        lines = _REGISTRATION.read_text().splitlines()
        [line] = [line for line in lines if line.startswith(":")]
        (_BINFMT / "register").write_text(line)


def _make_root(root: Path, keys: Path, port: int) -> None:
    subprocess.run(["/usr/bin/cp", "-a", str(BUILD / "root"), str(root)], check=True)
    for name in _FOLDERS.split():
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "var/tmp").chmod(0o1777)
    (root / "bin/sh").unlink(missing_ok=True)
    (root / "bin/sh").symlink_to("dash")
    cpuinfo = (root / "proc/cpuinfo").read_text() * 4
    (root / "proc/cpuinfo").unlink()
    write(root / "opt/cpuinfo", f"{cpuinfo}Model\t\t: Raspberry Pi 4 Model B Rev 1.1\n")
    units = root / "etc/systemd/system"
    write(units / "cpuinfo.service", _CPUINFO_UNIT)
    write(root / "etc/systemd/system.conf.d/cpu.conf", f"[Manager]\nDefaultEnvironment={_CPU}\n")
    # ProtectProc= gives services another /proc. This one has the drop-in of a user, too.
    write(
        units / "edgelstm@.service.d/cpuinfo.conf",
        "[Service]\nBindReadOnlyPaths=/opt/cpuinfo:/proc/cpuinfo\n",
    )
    with suppress(FileNotFoundError):
        shutil.rmtree(root / "etc/pam.d")
    settle(root, keys, port)
    with (root / "etc/ssh/sshd_config").open("a") as config:
        config.write(f"SetEnv {_CPU}\n")
    target = units / "test.target"
    target.write_text(target.read_text().replace("ssh.service", "ssh.service cpuinfo.service"))
    # Logging in must not wait for what a container has no use for.
    for name in ("systemd-sysusers", "systemd-tmpfiles-setup-dev", "systemd-logind"):
        (units / f"{name}.service").symlink_to("/dev/null")


@contextmanager
def emulated_pi(folder: Path, options: Sequence[str] = ()) -> Iterator[DeviceMachine]:
    """Boots one with everything in a folder; what is there already is booted again.

    Args:
        folder: for its root directory (350 MB) and its keys.
        options: for systemd-nspawn, such as "--bind=/dev/pts/7:/dev/ttyACM0".
    """
    _register()
    root, keys = folder / "root", folder / "keys"
    if root.exists():
        port = int((keys / "config").read_text().split("Port ")[1].split()[0])
    else:
        port = free_port()
        keys.mkdir(parents=True)
        _make_root(root, keys, port)
    with booted(root, foreign=True, options=[f"--setenv={_CPU}", *options]) as machine:
        wait_for_port(port, 60)
        yield DeviceMachine(machine, port, keys)
