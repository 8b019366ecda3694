from __future__ import annotations

import grp
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.diagnosis import edge_tpu, machine, ports, probe, software, system
from edgelstm.diagnosis.finding import Finding
from edgelstm.diagnosis.ports import Port
from edgelstm.diagnosis.runtimes import (
    FILE,
    IMPORT,
    PER_TENSOR,
    PROBES,
    RUNTIMES,
    Examined,
    Result,
    Trial,
    artifact,
    examine,
    find,
    install_command,
    runtimes,
    unfit,
)

LITERT, TFLITE, TENSORFLOW = RUNTIMES
PI4 = "Raspberry Pi 4 Model B Rev 1.4\0"
PI_CPU = (
    "processor : 0\nFeatures : fp asimd evtstrm crc32 cpuid\n\nModel : Raspberry Pi 4 Model B\n"
)
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


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


def named(findings: list[Finding], name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.level for finding in findings}


def refused(path: Path, mode: int) -> bool:
    """Stands for `os.access` of a user who may do nothing."""
    return False


# The machine


def test_a_raspberry_pi_is_named_with_what_its_processor_can(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/device-tree/model": PI4,
            "proc/cpuinfo": PI_CPU,
            "proc/meminfo": "MemTotal: 3884000 kB\nMemAvailable: 3400000 kB\n",
        },
    )
    found = machine.machine(root, "aarch64", 64, 4)
    assert set(levels(found).values()) == {"ok"}
    assert named(found, "model").what == "Raspberry Pi 4 Model B Rev 1.4"
    assert named(found, "cpu").what == "Raspberry Pi 4 Model B, 4 cores, asimd"
    assert named(found, "cpu").data["features"] == ["asimd"]
    assert named(found, "memory").data == {"total_mb": 3792, "available_mb": 3320}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t: fpu sse4_2 avx avx2 avx_vnni", ["sse4_2", "avx", "avx2", "avx_vnni"]),
        ("Features\t: fp asimd asimddp i8mm", ["asimd", "asimddp", "i8mm"]),
        ("Features\t: half thumb neon vfpv4", ["neon", "vfpv4"]),
        ("", []),
    ],
)
def test_processor_features(tmp_path: Path, flags: str, expected: list[str]) -> None:
    root = tree(tmp_path, {"proc/cpuinfo": f"processor\t: 0\n{flags}\n"})
    assert named(machine.machine(root, "x86_64", 64, 1), "cpu").data["features"] == expected


def test_a_processor_without_neon_is_noted(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/cpuinfo": "Features : half thumb fastmult vfp edsp\n"})
    cpu = named(machine.machine(root, "armv6l", 32, 1), "cpu")
    assert cpu.level == "note"
    assert "NEON" in cpu.what


def test_a_32_bit_python_on_a_64_bit_kernel_is_explained(tmp_path: Path) -> None:
    found = named(machine.machine(tmp_path, "aarch64", 32, 4), "architecture")
    assert found.level == "note"
    assert "32-bit packages" in found.what
    assert "64-bit" in found.mend
    assert levels(machine.machine(tmp_path, "armv7l", 32, 4))["architecture"] == "ok"
    assert levels(machine.machine(tmp_path, "aarch64", 64, 4))["architecture"] == "ok"


def test_little_memory_is_a_problem(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/meminfo": "MemTotal: 500000 kB\nMemAvailable: 20000 kB\n"})
    assert named(machine.machine(root, "aarch64", 64, 4), "memory").level == "problem"


@pytest.mark.parametrize(
    ("flags", "level", "words"),
    [
        (0, "ok", "none"),
        (0x50005, "problem", "voltage"),
        (0x8, "problem", "hot"),
        (0x50000, "note", "low supply voltage"),
        (0x80000, "note", "heat"),
    ],
)
def test_throttling(tmp_path: Path, flags: int, level: str, words: str) -> None:
    found = named(machine.machine(tmp_path, "aarch64", 64, 4, flags), "throttling")
    assert found.level == level
    assert words in found.what
    assert bool(found.mend) == (level == "problem")


# Ports


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def as_nobody(work: Callable[[], Any]) -> Any:
    """Calls `work` as a user who is in no group; root would be refused nothing."""
    if os.getuid() != 0:
        return work()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writing, pickle.dumps(work()))
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        return pickle.loads(pipe.read())  # noqa: S301  # our own


def give_to_a_group(node: Path) -> str:
    """Gives a file to a group that is not root's, and returns its name."""
    mine = os.getgid()
    group = next(g for g in grp.getgrall() if g.gr_gid and (g.gr_gid == mine or os.getuid() == 0))
    os.chown(node, -1, group.gr_gid)
    return group.gr_name


def test_a_port_is_named_as_it_stays(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "dev/ttyACM0": "",
            "dev/serial/by-id/usb-Arduino_Uno_7573-if00": "-> ../../ttyACM0",
            "dev/serial/by-id/usb-Other-if00": "-> ../../ttyUSB7",
        },
    )
    (port,) = ports.ports(root, [Port("/dev/ttyACM0", "Arduino Uno")])
    assert port.level == "ok"
    assert port.what == "Arduino Uno, /dev/serial/by-id/usb-Arduino_Uno_7573-if00"
    assert port.data["by_id"] == ["/dev/serial/by-id/usb-Arduino_Uno_7573-if00"]
    assert port.data["writable"] is True


def test_a_terminal_that_this_process_has_open() -> None:
    master, slave = os.openpty()
    try:
        device = os.ttyname(slave)
        (port,) = [f for f in ports.ports(Path("/"), [Port(device, "")]) if f.name == device]
    finally:
        os.close(master)
        os.close(slave)
    assert port.level == "note"
    assert port.what.startswith(f"process {os.getpid()} (")
    assert port.data["used_by"] == os.getpid()


def test_a_port_of_a_group_that_one_is_not_in(open_folder: Path) -> None:
    root = tree(open_folder, {"dev/ttyUSB0": ""})
    node = root / "dev/ttyUSB0"
    group = give_to_a_group(node)
    node.chmod(0o060)
    (port,) = as_nobody(lambda: ports.ports(root, [Port("/dev/ttyUSB0", "CH340")], groups=()))
    assert port.level == "problem"
    assert port.mend == f"sudo usermod -aG {group} $USER  # then log in again"
    assert port.what.startswith("CH340; you may not read and write it")
    assert (port.data["readable"], port.data["group"]) == (False, group)
    node.chmod(0o666)
    (port,) = as_nobody(lambda: ports.ports(root, [Port("/dev/ttyUSB0", "CH340")], groups=()))
    assert port.level == "ok"


def test_a_port_whose_group_may_not_use_it_either(tmp_path: Path) -> None:
    root = tree(tmp_path, {"dev/ttyUSB0": ""})
    give_to_a_group(root / "dev/ttyUSB0")
    (root / "dev/ttyUSB0").chmod(0o600)
    (port,) = ports.ports(root, [Port("/dev/ttyUSB0", "")], refused)
    assert port.level == "problem"
    assert port.mend.startswith("sudo chmod a+rw")


def test_the_port_on_the_pins_of_a_raspberry_pi_and_its_console(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/device-tree/model": PI4,
            "proc/cmdline": "console=ttyS0,115200 console=tty1 root=PARTUUID=1",
            "dev/serial0": "-> ttyS0",
            "dev/ttyS0": "",
        },
    )
    found = ports.ports(root, [])  # pyserial does not list it
    assert levels(found) == {"/dev/ttyS0": "ok", "console": "note"}
    assert "raspi-config" in named(found, "console").mend
    (root / "proc/cmdline").write_text("console=tty1 root=PARTUUID=1")
    assert "console" not in levels(ports.ports(root, []))


@pytest.mark.parametrize("daemon", ["ModemManager", "brltty"])
def test_daemons_that_meddle_with_ports(tmp_path: Path, daemon: str) -> None:
    root = tree(tmp_path, {"proc/1/comm": "systemd\n", "proc/567/comm": f"{daemon}\n"})
    found = named(ports.ports(root, []), daemon)
    assert found.level == "note"
    assert daemon in found.mend


def test_who_uses_a_port(tmp_path: Path) -> None:
    files = {"dev/ttyUSB0": "", "proc/42/comm": "minicom\n", "proc/42/fd/3": "-> /dev/ttyUSB0"}
    (port,) = ports.ports(tree(tmp_path, files), [Port("/dev/ttyUSB0", "")])
    assert port.level == "note"
    assert port.what == "process 42 (minicom) uses it."


def test_no_ports_and_no_pyserial(tmp_path: Path) -> None:
    assert levels(ports.ports(tmp_path, [])) == {"ports": "note"}
    assert levels(ports.ports(tmp_path, [Port("/dev/gone", "")])) == {"/dev/gone": "problem"}
    (found,) = ports.ports(tmp_path, None)
    assert found.level == "problem"
    assert found.mend == f"{sys.executable} -m pip install pyserial"


# Edge TPU

STICK = {
    "sys/bus/usb/devices/1-2/idVendor": "1a6e\n",
    "sys/bus/usb/devices/1-2/idProduct": "089a\n",
    "sys/bus/usb/devices/1-2/busnum": "1\n",
    "sys/bus/usb/devices/1-2/devnum": "5\n",
    "dev/bus/usb/001/005": "",
}
CARD = {
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x1ac1\n",
    "sys/bus/pci/devices/0000:01:00.0/device": "0x089a\n",
}
LIBRARY = {"usr/lib/aarch64-linux-gnu/libedgetpu.so.1": ""}
NODE = "/dev/bus/usb/001/005"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, {"edge tpu": "ok"}),
        (STICK, {NODE: "ok", "library": "problem"}),
        (STICK | LIBRARY, {NODE: "ok", "library": "ok"}),
        (CARD | LIBRARY, {"driver": "problem", "library": "ok"}),
        (CARD | LIBRARY | {"dev/apex_0": ""}, {"/dev/apex_0": "ok", "library": "ok"}),
    ],
)
def test_edge_tpus(tmp_path: Path, files: dict[str, str], expected: dict[str, str]) -> None:
    found = edge_tpu.edge_tpu(tree(tmp_path, files))
    assert levels(found) == expected
    assert all(finding.mend for finding in found if finding.level == "problem")


def test_a_stick_with_its_firmware(tmp_path: Path) -> None:
    files = STICK | LIBRARY
    files["sys/bus/usb/devices/1-2/idVendor"] = "18d1"
    files["sys/bus/usb/devices/1-2/idProduct"] = "9302"
    assert named(edge_tpu.edge_tpu(tree(tmp_path, files)), NODE).what.endswith("with firmware)")


def test_an_edge_tpu_that_may_not_be_used(tmp_path: Path) -> None:
    root = tree(tmp_path, STICK | CARD | LIBRARY | {"dev/apex_0": ""})
    found = edge_tpu.edge_tpu(root, None, refused)
    assert "usermod -aG plugdev" in named(found, NODE).mend
    assert "usermod -aG apex" in named(found, "/dev/apex_0").mend
    # The library brings the rule that gives the stick its group.
    (root / "usr/lib/aarch64-linux-gnu/libedgetpu.so.1").unlink()
    found = edge_tpu.edge_tpu(root, None, refused)
    assert named(found, NODE).level == "ok"
    assert "apt-get install libedgetpu1-std" in named(found, "library").mend
    assert named(edge_tpu.edge_tpu(root, "libedgetpu.so.1", refused), NODE).level == "problem"


# Disk, clock, services


def test_little_room_is_a_problem(tmp_path: Path) -> None:
    found = system.disk(tmp_path, {"/": (99_999_999, True), "/home": (100_000_000, True)})
    assert levels(found) == {"/": "problem", "/home": "ok"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/mounts": "/dev/sda / ext4 rw,ro_really 0 0\n/dev/sdb /x ext4 ro 0 0"}, set()),
        ({"proc/mounts": "rootfs / rootfs rw 0 0\n/dev/sda / ext4 ro,noatime 0 0"}, {"read-only"}),
        ({"proc/cmdline": "boot=overlay root=PARTUUID=1"}, {"overlay"}),
    ],
)
def test_a_root_that_keeps_nothing(
    tmp_path: Path, files: dict[str, str], expected: set[str]
) -> None:
    found = system.disk(tree(tmp_path, files), {})
    assert set(levels(found)) == expected
    assert set(levels(found).values()) <= {"note"}


def test_a_clock_in_the_past_is_wrong(tmp_path: Path) -> None:
    (found,) = system.clock(tmp_path, NOW.replace(year=1970), True)
    assert found.level == "problem"
    assert "chrony" in found.mend
    tree(tmp_path, {"run/systemd/system/x": ""})
    (found,) = system.clock(tmp_path, NOW.replace(year=2025), True)
    assert found.mend == "sudo timedatectl set-ntp true"


def test_a_clock_that_nothing_keeps_right(tmp_path: Path) -> None:
    assert levels(system.clock(tmp_path, NOW, True)) == {"time": "ok", "synchronised": "ok"}
    assert levels(system.clock(tmp_path, NOW, False))["synchronised"] == "note"
    assert levels(system.clock(tmp_path, NOW, None))["synchronised"] == "note"
    tree(tmp_path, {"proc/device-tree/model": PI4})
    found = levels(system.clock(tmp_path, NOW, False))
    assert (found["synchronised"], found["rtc"]) == ("problem", "note")
    tree(tmp_path, {"dev/rtc0": ""})
    assert levels(system.clock(tmp_path, NOW, False)) == {"time": "ok", "synchronised": "note"}
    tree(tmp_path, {"run/systemd/timesync/synchronized": ""})
    assert levels(system.clock(tmp_path, NOW, None))["synchronised"] == "ok"


def test_systemd(tmp_path: Path) -> None:
    assert levels(system.services(tmp_path)) == {"systemd": "note"}
    assert levels(system.services(tree(tmp_path, {"run/systemd/system/x": ""}))) == {
        "systemd": "ok"
    }


# Python


def test_python_and_its_packages() -> None:
    assert software.this_python().level == "ok"
    assert software.python((3, 10, 4), "CPython", "/usr", False).level == "problem"
    installed = {"edgelstm": "0.1.0", "numpy": "1.26.4", "click": "8.1.7", "pyserial": "3.5"}
    assert set(levels(software.packages(installed)).values()) == {"ok"}
    assert levels(software.packages(installed | {"numpy": "1.21.5"}))["numpy"] == "problem"
    found = named(software.packages(installed | {"pyserial": None}), "pyserial")
    assert found.mend.endswith("-m pip install pyserial")
    assert software.versions()["numpy"] == np.__version__


# Runtimes


def trials(
    results: dict[str, Result] | None = None, started: Result = "right", detail: str = "bad"
) -> tuple[Trial, ...]:
    first = Trial(IMPORT, started, detail)
    if started != "right":
        return (first,)
    given = dict.fromkeys(PROBES, "right") | (results or {})
    return (first, *(Trial(name, result, detail) for name, result in given.items()))  # type: ignore[arg-type]


ABSENT = [Examined(runtime, False, None) for runtime in RUNTIMES]
GOOD = Examined(LITERT, True, "2.3.0", trials())
OLD = Examined(
    TFLITE, True, "2.14.0", trials({"int8-float": "wrong"}, detail="off by 23% of the output")
)


def judged(*examined: Examined, numpy: str = "1.26.4") -> list[Finding]:
    found = runtimes(examined, numpy, "x86_64", 64, (3, 11))
    assert all(finding.mend for finding in found if finding.level == "problem")
    return found


def test_a_runtime_that_works() -> None:
    found = judged(GOOD, *ABSENT[1:])
    assert set(levels(found).values()) == {"ok"}
    first = named(found, "ai-edge-litert")
    assert first.what == (
        "2.3.0 computes int8, int8-float, int8-weight, int16x8 and float32 correctly"
    )
    assert first.data["recipes"]["int16x8"] == "right"
    assert PER_TENSOR not in first.data["recipes"]
    assert named(found, "default").data == {"backend": "litert"}


def test_no_runtime_is_a_problem_with_its_command() -> None:
    found = judged(*ABSENT)
    assert levels(found)["default"] == "problem"
    assert named(found, "default").mend.endswith("-m pip install ai-edge-litert")


@pytest.mark.parametrize(
    ("architecture", "bits", "python", "words"),
    [
        ("aarch64", 64, (3, 13), "install ai-edge-litert"),
        ("armv7l", 32, (3, 11), "install tflite-runtime 'numpy<2'"),
        ("aarch64", 32, (3, 11), "install tflite-runtime 'numpy<2'"),
        ("armv7l", 32, (3, 13), "Use Python 3.11"),
        ("armv6l", 32, (3, 11), "No runtime has packages for armv6l"),
        ("riscv64", 64, (3, 11), "No runtime has packages for riscv64"),
    ],
)
def test_how_to_get_a_runtime(
    architecture: str, bits: int, python: tuple[int, int], words: str
) -> None:
    assert words in install_command(architecture, bits, python)


def test_tflite_runtime_needs_another_form_of_int8_float() -> None:
    found = named(judged(ABSENT[0], OLD, ABSENT[2]), "tflite-runtime")
    assert found.level == "note"
    assert "int8-float only as converted for it" in found.what
    assert "--runtime tflite-runtime" in found.mend
    worse = Examined(TFLITE, True, "2.14.0", trials({"int8-float": "wrong", "int8": "crashed"}))
    found = named(judged(ABSENT[0], worse, ABSENT[2]), "tflite-runtime")
    assert "but not int8-float (bad), int8 (crashed (bad))" in found.what or (
        "but not int8 (crashed (bad)), int8-float (bad)" in found.what
    )


def test_tflite_runtime_needs_numpy_1() -> None:
    found = Examined(TFLITE, True, "2.14.0")
    assert unfit(found, "2.0.0")
    assert not unfit(found, "1.26.4")
    assert not unfit(Examined(LITERT, True, "2.3.0"), "2.0.0")
    alone = judged(ABSENT[0], found, ABSENT[2], numpy="2.4.6")
    assert levels(alone)["tflite-runtime"] == "problem"
    assert named(alone, "tflite-runtime").mend.endswith("pip install 'numpy<2'")
    assert levels(alone)["default"] == "note"  # the problem is said once
    assert levels(judged(GOOD, found, ABSENT[2], numpy="2.4.6"))["tflite-runtime"] == "note"


def test_a_crash_at_the_import_stays_a_problem_beside_a_runtime_that_works() -> None:
    crash = Examined(LITERT, True, "2.3.0", trials(None, "crashed", "SIGILL: this processor"))
    found = named(judged(crash, OLD, ABSENT[2]), "ai-edge-litert")
    assert found.level == "problem"
    assert found.what == "2.3.0 crashed at its import (SIGILL): this processor."
    assert found.mend.endswith("pip uninstall -y ai-edge-litert")
    alone = named(judged(crash, *ABSENT[1:]), "ai-edge-litert")
    assert "install --force-reinstall" in alone.mend


def test_a_runtime_that_cannot_be_imported_or_computes_nothing() -> None:
    old = trials(None, "refused", "ImportError: libm.so.6: version `GLIBC_2.29' not found")
    found = judged(Examined(LITERT, True, "2.3.0", old), *ABSENT[1:])
    assert levels(found)["ai-edge-litert"] == "problem"
    assert "too old" in named(found, "ai-edge-litert").mend
    nothing: dict[str, Result] = dict.fromkeys(PROBES, "wrong")
    found = judged(Examined(LITERT, True, "2.3.0", trials(nothing)), *ABSENT[1:])
    assert levels(found)["ai-edge-litert"] == "problem"
    assert not Examined(LITERT, True, "2.3.0", trials(nothing)).works
    found = judged(Examined(LITERT, False, "2.3.0"), *ABSENT[1:])
    assert "--force-reinstall" in named(found, "ai-edge-litert").mend


def test_which_runtimes_run_a_file() -> None:
    def tried(examined: Examined, result: Result, detail: str = "") -> Examined:
        trial = Trial(f"{FILE}p.tflite", result, detail)
        return Examined(examined.runtime, True, examined.version, (*examined.trials, trial))

    both = [
        tried(GOOD, "right", "its golden vectors hold"),
        tried(OLD, "refused", "It computes this wrongly."),
    ]
    found = artifact("p.tflite", "pump", "", both)
    assert levels(found) == {"p.tflite": "ok", "ai-edge-litert": "ok", "tflite-runtime": "note"}
    assert named(found, "ai-edge-litert").what == "runs it, and its golden vectors hold"
    found = artifact("p.tflite", "pump", "", both[1:])
    assert levels(found)["tflite-runtime"] == "problem"
    crashed = artifact("p.tflite", "pump", "", [tried(GOOD, "crashed", "SIGSEGV")])
    assert named(crashed, "ai-edge-litert").what == "crashed (SIGSEGV)."
    assert levels(artifact("p.tflite", "pump", "", [GOOD]))["runtimes"] == "problem"
    assert levels(artifact("p.tflite", "", "It is damaged.", both)) == {"p.tflite": "problem"}


# Trying them: real processes


def nothing() -> None:
    pass


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Examined]:
    """Puts a package in the place of tflite-runtime, which is not in this environment."""

    def make(code: str) -> Examined:
        folder = tmp_path / "tflite_runtime"
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        (folder / "interpreter.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        found = find(TFLITE)
        assert found.installed
        return found

    return make


def test_the_installed_runtime_computes_every_probe(tiny_path: Path, tmp_path: Path) -> None:
    stages = [*PROBES, f"{FILE}{tiny_path}", f"{FILE}{tmp_path}/none.tflite"]
    examined = examine(find(LITERT), stages, 60, nothing)
    results = {trial.stage: trial.result for trial in examined.trials}
    assert results.pop(stages[-1]) == "refused"
    assert results == dict.fromkeys([IMPORT, *stages[:-1]], "right")
    assert examined.version
    assert examined.works


@pytest.mark.parametrize(
    ("code", "result", "words"),
    [
        ("import os; os.abort()", "crashed", "SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "crashed", "SIGILL: this proc"),
        ("import ctypes; ctypes.string_at(0)", "crashed", "SIGSEGV"),
        ("import os; os._exit(3)", "crashed", "exit code 3"),
        ("import time; time.sleep(60)", "hung", "no answer within 0.7 s"),
        ("raise SystemExit('bye')", "refused", "SystemExit: bye"),
        ("import no_such_library", "refused", "ModuleNotFoundError: No module"),
        ("", "refused", "AttributeError"),
    ],
)
def test_a_runtime_that_does_not_start(
    fake: Callable[[str], Examined], code: str, result: str, words: str
) -> None:
    examined = examine(fake(code), PROBES, 0.7 if result == "hung" else 30, nothing)
    (trial,) = examined.trials
    assert (trial.stage, trial.result) == (IMPORT, result)
    assert words in trial.detail
    assert not examined.started
    found = judged(ABSENT[0], examined, ABSENT[2])
    assert levels(found)["tflite-runtime"] == "problem"


def test_what_a_runtime_says_before_it_dies_is_told(fake: Callable[[str], Examined]) -> None:
    code = (
        "import os, sys\nprint('noise')\nsys.stderr.write('INFO: hi\\nno AVX here\\n')\nos.abort()"
    )
    (trial,) = examine(fake(code), PROBES, 30, nothing).trials
    # Standard output comes after, as it was not flushed; it is no event in any case.
    assert trial.detail == "SIGABRT: no AVX here"


def test_a_crash_in_one_recipe_does_not_hide_the_others(fake: Callable[[str], Examined]) -> None:
    size = len(probe.read_probes()["int8"].model)
    code = (
        "import os\nfrom ai_edge_litert.interpreter import Interpreter as Real\n"
        "def Interpreter(model_content, num_threads):\n"
        f"    if len(model_content) == {size}: os.abort()\n"
        "    return Real(model_content=model_content, num_threads=num_threads)\n"
    )
    examined = examine(fake(code), PROBES, 60, nothing)
    results = {trial.stage: trial.result for trial in examined.probes}
    assert results == dict.fromkeys(PROBES, "right") | {"int8": "crashed"}
    assert (
        "but not int8 (crashed (SIGABRT))"
        in named(judged(ABSENT[0], examined, ABSENT[2]), "tflite-runtime").what
    )


def test_a_runtime_that_crashes_at_its_end(fake: Callable[[str], Examined]) -> None:
    code = (
        "import atexit, os\nfrom ai_edge_litert.interpreter import Interpreter\n"
        "atexit.register(os.abort)\n"
    )
    examined = examine(fake(code), ["float32"], 60, nothing)
    assert [t.stage for t in examined.trials] == [IMPORT, "float32", "exit"]
    assert (
        "exit (crashed (SIGABRT))"
        in named(judged(ABSENT[0], examined, ABSENT[2]), "tflite-runtime").what
    )


def test_a_runtime_that_computes_no_numbers(fake: Callable[[str], Examined]) -> None:
    code = (
        "from ai_edge_litert.interpreter import Interpreter as Real\n"
        "class Interpreter(Real):\n"
        "    def get_signature_runner(self, name):\n"
        "        step = super().get_signature_runner(name)\n"
        "        class Step:\n"
        "            get_input_details = step.get_input_details\n"
        "            get_output_details = step.get_output_details\n"
        "            def __call__(self, **given):\n"
        "                return {k: y * float('nan') for k, y in step(**given).items()}\n"
        "        return Step()\n"
    )
    examined = examine(fake(code), ["float32"], 60, nothing)
    assert [(t.stage, t.result) for t in examined.probes] == [("float32", "wrong")]
    assert not examined.works


def test_what_a_runtime_prints_is_no_event(fake: Callable[[str], Examined]) -> None:
    code = (
        "import os\nfrom ai_edge_litert.interpreter import Interpreter\n"
        'os.write(1, b\'["done", "import", "refused", "x"]\\nnoise\\n\')\n'
    )
    examined = examine(fake(code), ["float32"], 60, nothing)
    assert {t.stage: t.result for t in examined.trials} == {IMPORT: "right", "float32": "right"}


def test_a_slow_runtime_is_told_of(fake: Callable[[str], Examined]) -> None:
    told: list[int] = []
    examine(fake("import time; time.sleep(60)"), [], 0.3, lambda: told.append(1))
    assert told == [1]


# The probes


def test_probes_agree_with_the_float_model() -> None:
    """What they expect is right: every recipe gives what the float graph gives."""
    interpreter: Any = probe._interpreter("litert")
    probes = probe.read_probes()
    assert set(probes) == set(PROBES)
    reference = probes["float32"].y
    assert np.abs(np.diff(reference, axis=0)).mean() > 0.02  # it is not stuck
    for name, one in probes.items():
        step = interpreter(model_content=one.model).get_signature_runner("step")
        scale, zero_point = step.get_output_details()[one.wiring[0][1]]["quantization"]
        scale = scale or 1.0
        values = (one.y.astype(np.float64) - zero_point) * scale
        assert probe.relative_error(values, reference, 0) < 0.02, name


def test_the_error_counts_from_the_zero_point_and_nan_is_never_right() -> None:
    expected = np.array([[10], [30]], np.int8)
    assert probe.relative_error(expected, expected, 20) == 0
    assert probe.relative_error(expected + 5, expected, 20) == 0.5
    wrong = np.array([[np.nan], [1.0]])
    assert not probe.relative_error(wrong, np.ones((2, 1)), 0) <= probe.LARGEST_ERROR


def test_every_recipe_of_the_converter_is_tried() -> None:
    from edgelstm_devices.profiles import RECIPES

    assert set(RECIPES) == set(PROBES) - {PER_TENSOR}


def test_probes_are_small() -> None:
    assert Path(probe.__file__).with_name("probes.npz").stat().st_size < 40_000
