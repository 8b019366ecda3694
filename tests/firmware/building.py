"""Builds what the tests of the firmware need, once, in `build/firmware-tests`."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
FIRMWARE = ROOT / "firmware_bridge/firmware"
LIBRARY = FIRMWARE / "arduino/EdgeLSTM/src"
BUILD = ROOT / "build/firmware-tests"

SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]

_NEEDED = {
    "gcc": "gcc",
    "avr-gcc": "gcc-avr",
    "avr-size": "binutils-avr",
    "/usr/lib/avr/include/avr/io.h": "avr-libc",
    "/usr/share/arduino/hardware/arduino/avr/cores/arduino/Arduino.h": "arduino-core-avr",
    "/usr/include/simavr/sim_avr.h": "libsimavr-dev",
    "/usr/include/libelf.h": "libelf-dev",
}
_MISSING = [
    package
    for what, package in _NEEDED.items()
    if not (Path(what).exists() if what.startswith("/") else shutil.which(what))
]

needs_host_compiler = pytest.mark.skipif("gcc" in _MISSING, reason="apt-get install gcc libc6-dev")
needs_simulator = pytest.mark.skipif(bool(_MISSING), reason="apt-get install " + " ".join(_MISSING))


def run(*arguments: str | Path) -> str:
    """Run a compiler or the like and return what it prints; what goes wrong is the test's error."""
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def build_folder() -> Iterator[Path]:
    """Give the folder to one process at a time: tests may run in several."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield BUILD


def is_newer(target: Path, sources: list[Path]) -> bool:
    if not target.exists():
        return False
    made = target.stat().st_mtime
    return all(source.stat().st_mtime <= made for source in sources)


@cache
def host_program(name: str, *flags: str) -> Path:
    """Compile `name`.c and the firmware's portable part for this machine, with sanitizers."""
    sources = sorted(path for path in LIBRARY.glob("*.c"))
    program = HERE / f"{name}.c"
    with build_folder() as folder:
        target = folder / "-".join([name, *(flag.lstrip("-") for flag in flags)])
        if not is_newer(target, [program, HERE / "host_lines.h", *LIBRARY.iterdir()]):
            run("gcc", "-O1", "-g", *STRICT, *SANITIZERS, *flags,
                "-I", LIBRARY, program, *sources, "-o", target)  # fmt: skip
    return target


@cache
def simulator() -> Path:
    source = HERE / "simboard.c"
    with build_folder() as folder:
        target = folder / "simboard"
        if not is_newer(target, [source]):
            run("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", source,
                "-lsimavr", "-lelf", "-lm", "-o", target)  # fmt: skip
    return target


@cache
def firmware(name: str, *flags: str) -> Path:
    """Return the ELF file of `avr-analog`, `AnalogInputs` or `Accelerometer`.

    `flags` are for the compiler; only `avr-analog` takes any.
    """
    with build_folder() as folder:
        # make takes no "=" in the name of a target.
        build = folder / "".join(["avr", *flags]).replace("=", "-")
        elf = build / f"{name}.elf"
        targets = [elf] if flags else []
        run("make", "-s", "-C", FIRMWARE, f"BUILD={build}", f"CPPFLAGS={' '.join(flags)}", *targets)
        return elf
