from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from edgelstm_devices.agent import facts as module
from edgelstm_devices.agent.context import Context
from edgelstm_devices.agent.facts import disk, facts, look, os_release
from edgelstm_devices.agent.index import index, index_url
from edgelstm_devices.agent.machine import Machine, properties, run_program
from edgelstm_devices.agent.people import sudo, user
from edgelstm_devices.agent.pythons import architecture_of, pythons
from edgelstm_devices.agent.serial_ports import meddlers, serial_ports

KEYS = {
    "time", "seconds", "mode", "kernel", "machine", "os", "model", "python", "pythons", "libc",
    "libstdcxx", "memory", "cores", "throttled", "disk", "overlay", "clock", "timezone", "user",
    "sudo", "service_user", "systemd", "ports", "meddlers", "installation", "trusted", "coral",
    "index",
}  # fmt: skip


def tree(root: Path, files: dict[str, str]) -> Path:
    """A folder that looks like the root of a system; "-> x" makes a link to x."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text.removeprefix("-> "))
        else:
            path.write_text(text)
    return root


def machine(root: Path, said: dict[str, tuple[int, str]] | None = None, **more: Any) -> Machine:
    """A machine whose programs answer from a table, by the start of their command."""

    def run(*argv: str) -> tuple[int, str] | None:
        command = " ".join(argv)
        return next((a for start, a in (said or {}).items() if command.startswith(start)), None)

    return Machine(str(root), run, {"HOME": "/home/pi", "PATH": "/usr/bin"}, **more)


# All of it


def test_the_facts_of_this_machine_are_plain_and_come_soon() -> None:
    found = facts(Context(), online=False)
    assert set(found) == KEYS
    assert json.loads(json.dumps(found)) == found
    assert found["seconds"] < 5
    assert abs(found["time"] - time.time()) < 60
    assert found["machine"] == os.uname().machine
    mine = [p for p in found["pythons"] if p["executable"] == found["python"]["executable"]]
    assert mine[0]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert found["memory"]["total"] > found["memory"]["available"] > 0
    assert [d["what"] for d in found["disk"]] == ["installation", "state", "units", "temporary"]
    assert found["user"]["uid"] == os.getuid()


def test_of_an_empty_root_nothing_is_known_and_nothing_fails(tmp_path: Path) -> None:
    found = look(machine(tmp_path), name="pump", online=False)
    assert set(found) == KEYS
    for unknown in ("model", "python", "memory", "throttled", "timezone", "index"):
        assert found[unknown] is None, unknown
    assert found["pythons"] == found["ports"] == found["trusted"] == []
    assert found["systemd"]["running"] is False
    assert found["installation"]["services"] == []


def test_nothing_is_changed(tmp_path: Path) -> None:
    tree(tmp_path, {"etc/os-release": "ID=debian", "proc/meminfo": "", "opt/x": ""})
    before = sorted((str(p), p.lstat().st_mtime_ns) for p in tmp_path.rglob("*"))
    look(machine(tmp_path), name="pump", online=False)
    assert sorted((str(p), p.lstat().st_mtime_ns) for p in tmp_path.rglob("*")) == before


def test_what_breaks_or_hangs_costs_one_fact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIMIT_S", 0.3)
    hold = threading.Event()

    def run(*argv: str) -> tuple[int, str] | None:
        if argv[0] == "timedatectl":
            hold.wait(20)
        if argv[0] == "sudo":
            raise ZeroDivisionError
        return None

    started = time.monotonic()
    try:
        found = look(Machine(str(tmp_path), run, {}, user=1000), online=False)
    finally:
        hold.set()
    assert found["clock"] is None
    assert found["sudo"] is None
    assert found["disk"]
    assert time.monotonic() - started < 10


def test_programs_that_are_missing_or_fail() -> None:
    assert run_program("no-such-program") is None
    assert run_program("sh", "-c", "echo it broke >&2; exit 3") == (3, "it broke")
    assert properties("A=1\nB=x=y\n\nA=2\n") == [{"A": "1", "B": "x=y"}, {"A": "2"}]


# The system


def test_os_release_with_quotes(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {"etc/os-release": 'ID=debian\nPRETTY_NAME="Debian \\"12\\""\nODD="x\n# a comment\n'},
    )
    found = os_release(machine(root))
    assert found["PRETTY_NAME"] == 'Debian "12"'
    assert found["ODD"] == '"x'


@pytest.mark.parametrize(
    ("said", "overlay"),
    [
        ("boot=overlay root=/dev/a", True),
        ("root=/dev/a overlayroot=tmpfs", True),
        ("root=/dev/a overlayroot=disabled", False),
        ("root=/dev/a reboot=overlay", False),
    ],
)
def test_an_overlay_is_told_from_the_kernels_command_line(
    tmp_path: Path, said: str, overlay: bool
) -> None:
    root = tree(tmp_path, {"proc/cmdline": said})
    assert look(machine(root), online=False)["overlay"] is overlay


def test_a_raspberry_pi_from_a_copy_of_its_files(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
            "proc/meminfo": "MemTotal:  3884000 kB\nMemFree: 5 kB\nMemAvailable: 3400000 kB\n",
            "proc/cmdline": "console=serial0,115200 boot=overlay root=/dev/mmcblk0p2",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
            "etc/localtime": "-> /usr/share/zoneinfo/Europe/Berlin",
            "usr/lib/aarch64-linux-gnu/libstdc++.so.6": "",
            "usr/lib/aarch64-linux-gnu/libedgetpu.so.1": "",
            "sys/bus/usb/devices/1-1/idVendor": "18d1\n",
            "sys/bus/usb/devices/1-1/idProduct": "9302\n",
            "run/systemd/system/x": "",
            "etc/edgelstm/trusted/works.pem": "",
            "etc/edgelstm/trusted/README": "",
            "opt/edgelstm/services/pump/current": "-> releases/20261121-053012-3f2a9c1b",
            "opt/edgelstm/services/pump/releases/20261121-053012-3f2a9c1b/release.json": "{}",
            "opt/edgelstm/services/lost+found!/x": "",
            "run/systemd/system.control/edgelstm@pump.service": "",
        },
    )
    said = {
        "timedatectl show": (0, "Timezone=Europe/Berlin\nNTP=yes\nNTPSynchronized=no"),
        "systemctl show -p Version": (0, "Version=252 (252.39-1~deb12u2)\nSystemState=running"),
        "systemctl show -p FragmentPath": (
            0,
            "FragmentPath=/run/systemd/system.control/edgelstm@pump.service\n"
            "DropInPaths=/etc/a.conf /etc/b.conf\nActiveState=active",
        ),
    }
    found = look(machine(root, said), name="pump", online=False)
    assert found["model"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert found["memory"] == {"total": 3884000 * 1024, "available": 3400000 * 1024}
    assert found["overlay"] is True
    assert found["throttled"] == 0x50005
    assert found["timezone"] == "Europe/Berlin"
    assert found["libstdcxx"] is True
    assert found["coral"] == {
        "usb": 1, "pci": 0, "library": "/usr/lib/aarch64-linux-gnu/libedgetpu.so.1",
    }  # fmt: skip
    assert found["clock"] == {"synchronised": False, "ntp": True, "rtc": False}
    assert found["systemd"]["version"] == 252
    assert found["systemd"]["user_version"] is None
    assert found["trusted"] == ["works.pem"]
    there = found["installation"]
    assert there["services"] == [
        {
            "name": "pump",
            "current": "20261121-053012-3f2a9c1b",
            "releases": ["20261121-053012-3f2a9c1b"],
            "trial": True,
        }
    ]
    assert there["made"] is True
    assert there["drop_ins"] == ["/etc/a.conf", "/etc/b.conf"]


@pytest.mark.parametrize(
    ("kernel", "bits", "multiarch", "architecture"),
    [
        ("aarch64", 64, "aarch64-linux-gnu", "aarch64"),
        ("aarch64", 32, "arm-linux-gnueabihf", "armv7l"),
        ("armv7l", 32, "arm-linux-gnueabihf", "armv7l"),
        ("armv8l", 32, "", "armv7l"),
        ("armv7l", 32, "arm-linux-gnueabi", "armel"),
        ("armv6l", 32, "arm-linux-gnueabihf", "armv6l"),
        ("x86_64", 64, "", "x86_64"),
        ("x86_64", 32, "", "i686"),
        ("arm64", 64, "", "aarch64"),
        ("riscv64", 64, "", "riscv64"),
    ],
)
def test_the_architecture_is_that_of_the_python(
    kernel: str, bits: int, multiarch: str, architecture: str
) -> None:
    assert architecture_of(kernel, bits, multiarch) == architecture


def test_every_python_is_asked_once_and_a_broken_one_is_left_out(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "usr/bin/python3": "-> python3.11",
            "usr/bin/python3.11": "",
            "usr/bin/python3.9": "",
            "usr/bin/python3-config": "",
            "home/pi/.local/share/uv/python/cpython-3.12/bin/python3.12": "",
        },
    )

    def answer(version: str, bits: int, where: str) -> tuple[int, str]:
        said = {
            "version": version, "implementation": "CPython", "bits": bits, "multiarch": "",
            "threaded": False, "executable": where, "libc": ["glibc", "2.36"],
            "machine": "aarch64", "missing": ["venv"],
        }  # fmt: skip
        return 0, "a greeting\n" + json.dumps(said)

    uv = "/home/pi/.local/share/uv/python/cpython-3.12/bin/python3.12"
    said = {
        "/usr/bin/python3 ": answer("3.11.2", 32, "/usr/bin/python3.11"),
        "/usr/bin/python3.9 ": (1, answer("3.9.2", 64, "/usr/bin/python3.9")[1]),
        uv: answer("3.12.1", 64, uv),
    }
    found = pythons(machine(root, said))
    assert [p["executable"] for p in found] == ["/usr/bin/python3.11", uv]
    assert [p["architecture"] for p in found] == ["armv7l", "aarch64"]
    assert found[0]["libc"] == {"name": "glibc", "version": "2.36"}
    assert found[0]["missing"] == ["venv"]


def test_root_starts_no_python_that_others_could_have_put_there(tmp_path: Path) -> None:
    root = tree(tmp_path, {"usr/bin/python3.11": ""})
    (root / "usr/bin").chmod(0o777)
    started: list[str] = []
    for number in (0, 1000):
        looking = Machine(str(root), lambda *argv: started.append(argv[0]), {}, number)
        assert pythons(looking) == []
        assert started == ([] if number == 0 else ["/usr/bin/python3.11"])


def test_this_python_is_known_where_nothing_can_be_started() -> None:
    [found] = pythons(Machine("/", lambda *_: None))
    assert found["version"].split(".")[:2] == [str(n) for n in sys.version_info[:2]]
    assert found["missing"] == []
    only = {"PATH": "", "HOME": "/nonexistent"}
    started = pythons(Machine("/", environ=only))
    assert found in started  # asked as a program it says the same


def test_musl_is_told_from_its_loader(tmp_path: Path) -> None:
    root = tree(tmp_path, {"usr/bin/python3": "", "lib/ld-musl-aarch64.so.1": ""})
    said = {
        "version": "3.12.1", "implementation": "CPython", "bits": 64, "multiarch": "",
        "threaded": False, "executable": "/usr/bin/python3.12", "libc": ["", ""],
        "machine": "aarch64", "missing": [],
    }  # fmt: skip
    [found] = pythons(machine(root, {"/usr/bin/python3": (0, json.dumps(said))}))
    assert found["libc"] == {"name": "musl", "version": None}


# Disks


def test_the_last_mount_on_its_way_covers_a_folder(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "opt/my disk/x": "",
            "optional/x": "",
            "proc/self/mounts": "/dev/a / ext4 rw 0 0\n/dev/b /opt ext4 ro,noexec 0 0\n"
            "/dev/x /opt/edgelstm ext4 ro 0 0\n/dev/c /opt btrfs rw 0 0\n"
            "/dev/d /opt/my\\040disk tmpfs rw 0 0\nodd\n",
        },
    )
    wanted = {
        "a": "/opt/edgelstm/not/there",
        "b": "/opt/my disk/deep",
        "c": "/optional",
        "d": "/var/lib",
    }
    found = {d["what"]: (d["mount"], d["kind"]) for d in disk(machine(root), wanted)}
    assert found == {
        "a": ("/opt", "btrfs"),
        "b": ("/opt/my disk", "tmpfs"),
        "c": ("/", "ext4"),
        "d": ("/", "ext4"),
    }
    [only] = disk(machine(root), {"x": "/opt"})
    assert only["free"] <= only["total"]
    assert only["options"] == ["rw"]


# People


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ((0, ""), "passwordless"),
        ((1, "sudo: a password is required"), "password"),
        ((1, "Sorry, user joe may not run sudo on pump-3."), "none"),
        ((1, "joe is not in the sudoers file."), "none"),
        ((1, 'sudo: The "no new privileges" flag is set'), "none"),
        (None, "none"),
    ],
)
def test_sudo(tmp_path: Path, said: tuple[int, str] | None, expected: str) -> None:
    answers = {"sudo -n true": said} if said else {}
    assert sudo(machine(tmp_path, answers, user=1000)) == expected
    assert sudo(machine(tmp_path, answers, user=0)) == "root"


def test_a_sudo_that_does_not_answer_is_not_said_to_be_missing(tmp_path: Path) -> None:
    assert sudo(machine(tree(tmp_path, {"usr/bin/sudo": ""}), user=1000)) is None


def test_the_groups_of_a_users_systemd_are_those_of_its_start(tmp_path: Path) -> None:
    name = user(machine(tmp_path))["name"]
    status = "Name:\tsystemd\nUid:\t{0}\t{0}\t{0}\t{0}\nGid:\t0\t0\t0\t0\nGroups:\t0 4242424 \n"
    root = tree(
        tmp_path,
        {
            "proc/1/comm": "systemd\n",
            "proc/1/cmdline": "/sbin/init\0",
            "proc/1/status": status.format(os.getuid()),
            "proc/77/comm": "systemd\n",
            "proc/77/cmdline": "/lib/systemd/systemd\0--user\0",
            "proc/77/status": status.format(os.getuid()),
            f"var/lib/systemd/linger/{name}": "",
        },
    )
    found = user(machine(root))
    assert found["manager_groups"] == ["4242424", "root"]
    assert found["linger"] is True
    (root / "proc/77/status").write_text(status.format(os.getuid() + 1))
    assert user(machine(root))["manager_groups"] is None


# Ports


def a_pi(root: Path) -> Path:
    """A Raspberry Pi with an Arduino, an adapter, and a login on its pins."""
    usb = "sys/devices/usb1/1-1"
    return tree(
        root,
        {
            "dev/ttyACM0": "",
            "dev/ttyAMA0": "",
            "dev/ttyUSB10": "",
            "dev/ttyUSB2": "",
            "dev/serial0": "-> ttyAMA0",
            "dev/pump": "-> ttyACM0",
            "dev/serial/by-id/usb-Arduino_Uno_75830-if00": "-> ../../ttyACM0",
            "dev/serial/by-path/pci-0-usb-1": "-> ../../ttyACM0",
            f"{usb}/idVendor": "2341\n",
            f"{usb}/idProduct": "0043\n",
            f"{usb}/serial": "75830\n",
            f"{usb}/manufacturer": "Arduino\n",
            f"{usb}/product": "Uno \x1b[31m\n",
            f"{usb}/1-1:1.0/tty/ttyACM0/device": "-> ../..",
            "sys/class/tty/ttyACM0": "-> ../../devices/usb1/1-1/1-1:1.0/tty/ttyACM0",
            "sys/devices/platform/uart/tty/ttyAMA0/device": "-> ../..",
            "sys/devices/platform/uart/tty/ttyAMA0/type": "32\n",
            "sys/class/tty/ttyAMA0": "-> ../../devices/platform/uart/tty/ttyAMA0",
            "sys/devices/platform/8250/tty/ttyS3/device": "-> ../..",
            "sys/devices/platform/8250/tty/ttyS3/type": "0\n",
            "sys/class/tty/ttyS3": "-> ../../devices/platform/8250/tty/ttyS3",
            "dev/ttyS3": "",
            "sys/class/tty/ttyS4/device/x": "",  # of the machine around a container
            "sys/class/tty/tty1/dev": "4:1\n",
            "sys/class/tty/console/active": "tty1\n",
            "proc/cmdline": "console=serial0,115200 console=tty1",
            "proc/55/comm": "agetty\n",
            "proc/55/cgroup": "0::/system.slice/system-serial\\x2dgetty.slice/"
            "serial-getty@ttyAMA0.service\n",
            "proc/56/comm": "python\n",
            "proc/56/cgroup": "0::/system.slice/system-edgelstm.slice/edgelstm@pump.service\n",
            "proc/59/comm": "python\n",
            "proc/59/cgroup": "0::/user.slice/user-1000.slice/user@1000.service/app.slice/"
            "edgelstm@fan.service\n",
            "proc/59/fd/4": "-> /dev/ttyUSB10",
            "proc/56/fd/4": "-> /dev/ttyACM0",
            "proc/57/comm": "minicom\n",
            "proc/57/cmdline": "minicom\0-D\0/dev/ttyUSB2\0",
            "proc/57/cgroup": "0::/user.slice/user-1000.slice/session-3.scope\n",
            "proc/58/comm": "ModemManager\n",
            "proc/self/comm": "brltty\n",
        },
    )


def test_ports_with_their_names_and_who_has_them(tmp_path: Path) -> None:
    pi = machine(a_pi(tmp_path))
    found = {p["device"]: p for p in serial_ports(pi)}
    assert list(found) == ["/dev/ttyACM0", "/dev/ttyAMA0", "/dev/ttyUSB2", "/dev/ttyUSB10"]
    arduino = found["/dev/ttyACM0"]
    assert arduino["names"] == [
        "/dev/serial/by-id/usb-Arduino_Uno_75830-if00",
        "/dev/serial/by-path/pci-0-usb-1",
        "/dev/pump",
    ]
    assert arduino["usb"] == {
        "vendor": "2341", "product": "0043", "serial": "75830", "manufacturer": "Arduino",
        "description": "Uno ?[31m",
    }  # fmt: skip
    assert arduino["class"] == "ttyACM"
    assert arduino["in_use_by"] == {
        "pid": 56, "name": "python", "unit": "edgelstm@pump.service", "mode": "system",
    }  # fmt: skip
    assert found["/dev/ttyAMA0"]["in_use_by"]["unit"] == "serial-getty@ttyAMA0.service"
    assert found["/dev/ttyAMA0"]["names"] == ["/dev/serial0"]
    assert found["/dev/ttyUSB2"]["in_use_by"]["name"] == "minicom"
    users = found["/dev/ttyUSB10"]["in_use_by"]
    assert (users["unit"], users["mode"]) == ("edgelstm@fan.service", "user")
    assert meddlers(pi) == ["ModemManager"]


def test_the_active_console_counts_before_the_command_line(tmp_path: Path) -> None:
    root = a_pi(tmp_path)
    consoles = {p["device"]: p["console"] for p in serial_ports(machine(root))}
    assert not any(consoles.values())
    (root / "sys/class/tty/console/active").unlink()
    consoles = {p["device"]: p["console"] for p in serial_ports(machine(root))}
    assert [device for device, console in consoles.items() if console] == ["/dev/ttyAMA0"]


def test_a_port_by_another_name_is_looked_at_when_it_is_asked_for(tmp_path: Path) -> None:
    root = tree(tmp_path, {"dev/pts/3": "", "dev/board": "-> pts/3"})
    assert serial_ports(machine(root)) == []
    [found] = serial_ports(machine(root), "/dev/board")
    assert found["device"] == "/dev/pts/3"
    assert found["names"] == ["/dev/board"]
    assert serial_ports(machine(root), "/dev/none") == []
    assert serial_ports(machine(root), "/dev") == []


def test_the_class_of_a_port_is_its_drivers_name(tmp_path: Path) -> None:
    """As DeviceAllow= takes it, also for a pseudo-terminal under the name of a port."""
    root = tree(
        tmp_path,
        {"proc/devices": "Character devices:\n  4 tty\n  4 ttyS\n136 pts\n\nBlock devices:\n136 b"},
    )
    primary, secondary = os.openpty()
    try:
        found = serial_ports(Machine("/", lambda *_: None), os.ttyname(secondary))
        mine = next(p for p in found if p["device"] == os.ttyname(secondary))
        assert mine["class"] == "pts"
        assert mine["readable"] is True
        assert mine["mode"] == f"{stat.S_IMODE(os.fstat(secondary).st_mode):04o}"
    finally:
        os.close(primary)
        os.close(secondary)
    if os.geteuid() == 0:
        (root / "dev").mkdir()
        for name, number in (("ttyS0", (4, 64)), ("ttyUSB0", (136, 9))):
            os.mknod(root / "dev" / name, stat.S_IFCHR | 0o660, os.makedev(*number))
        classes = {p["device"]: p["class"] for p in serial_ports(machine(root), "/dev/ttyS0")}
        assert classes == {"/dev/ttyS0": "ttyS", "/dev/ttyUSB0": "pts"}


def test_who_has_a_port_open_is_seen(tmp_path: Path) -> None:
    primary, secondary = os.openpty()
    name = os.ttyname(secondary)
    try:
        with subprocess.Popen(
            [sys.executable, "-c", "print('.', flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=secondary,
        ) as holder:
            assert holder.stdout
            holder.stdout.read(1)
            found = serial_ports(Machine("/", lambda *_: None), name)
            [mine] = [p for p in found if p["device"] == name]
            assert mine["in_use_by"]["pid"] == holder.pid
            holder.communicate(b"\n")
        [mine] = [p for p in serial_ports(Machine("/"), name) if p["device"] == name]
        assert mine["in_use_by"] is None  # this process does not count
    finally:
        os.close(primary)
        os.close(secondary)


# pip's index


@pytest.fixture
def server() -> Iterator[tuple[str, list[int]]]:
    """A server of HTTP, and the code that it answers with next."""
    code = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(code[0])
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=[0.01])
        thread.start()
        yield f"127.0.0.1:{running.server_port}", code
        running.shutdown()
        thread.join()


def test_an_index_that_answers_is_reachable_whatever_it_answers(
    server: tuple[str, list[int]],
) -> None:
    host, code = server
    asked = Machine(environ={"PIP_INDEX_URL": f"http://ann:secret@{host}/simple", "HOME": "/x"})
    assert index(asked) == {"host": host, "reachable": True, "reason": ""}
    code[0] = 401
    assert index(asked)["reachable"] is True
    code[0] = 503
    found = index(asked)
    assert found["reachable"] is False
    assert "503" in found["reason"]
    assert "secret" not in json.dumps(found)


def test_an_index_that_is_not_there_is_told_with_its_reason() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = index(Machine(environ={"PIP_INDEX_URL": f"http://127.0.0.1:{port}/simple"}))
    assert found["reachable"] is False
    assert "refused" in found["reason"].lower()
    assert index(Machine(environ={"PIP_INDEX_URL": "nonsense"}))["reachable"] is False


def test_the_index_is_that_of_pips_settings(tmp_path: Path) -> None:
    here = machine(tmp_path)
    assert index_url(here) == "https://pypi.org/simple"
    tree(tmp_path, {"etc/pip.conf": "[global]\nindex-url = https://a.example/100%\n"})
    assert index_url(here) == "https://a.example/100%"
    tree(tmp_path, {"home/pi/.config/pip/pip.conf": "[install]\nindex-url = https://b.example\n"})
    assert index_url(here) == "https://b.example"
    (tmp_path / "home/pi/.config/pip/pip.conf").write_text("not a setting")
    assert index_url(here) == "https://a.example/100%"
