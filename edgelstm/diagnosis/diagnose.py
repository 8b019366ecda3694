"""`diagnose`: gives the pieces of the doctor what they look at on this machine."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from edgelstm.diagnosis import edge_tpu, machine, ports, runtimes, software, system
from edgelstm.diagnosis.finding import Finding
from edgelstm.errors import ArtifactError
from edgelstm.model_file import read_model

Progress = Callable[[str, int, int], None]

_TIME_ERROR = 5  # of adjtimex: nothing keeps the clock right


def diagnose(artifact: Path | None, timeout: float, on_progress: Progress) -> list[Finding]:
    """Looks at everything on this machine.

    Args:
        artifact: a file to try in every runtime.
        timeout: seconds that a runtime may take.
        on_progress: told which runtime is slow.

    Returns:
        Findings by section. A section that cannot be looked at has one that says so.
    """
    root, bits = Path("/"), 64 if sys.maxsize > 2**32 else 32
    installed = software.versions()
    architecture = platform.machine()
    sections: list[tuple[str, Callable[[], list[Finding]]]] = [
        (software.SECTION, lambda: [software.this_python(), *software.packages(installed)]),
        (
            machine.SECTION,
            lambda: (
                machine.machine(root, architecture, bits, _cores(), _throttled())
                + system.services(root)
            ),
        ),
        (
            runtimes.SECTION,
            lambda: _runtimes(
                artifact, installed.get("numpy") or "0", architecture, bits, timeout, on_progress
            ),
        ),
        (ports.SECTION, lambda: ports.ports(root, ports.list_ports())),
        (
            edge_tpu.SECTION,
            lambda: edge_tpu.edge_tpu(root, ctypes.util.find_library("edgetpu")),
        ),
        ("disk", lambda: system.disk(root, _free("/", str(Path.cwd())))),
        ("clock", lambda: system.clock(root, datetime.now(UTC).astimezone(), _synchronised())),
    ]
    findings: list[Finding] = []
    for name, look in sections:
        try:
            findings += look()
        except Exception as error:  # the doctor is for where something is broken
            what = f"it could not be looked at: {type(error).__name__}: {error}."
            findings.append(Finding(name, name, "note", what))
    return findings


def _runtimes(
    artifact: Path | None,
    numpy: str,
    architecture: str,
    bits: int,
    timeout: float,
    on_progress: Progress,
) -> list[Finding]:
    stages: list[str] = list(runtimes.PROBES)
    described, damage = "", ""
    if artifact is not None:
        try:
            manifest = read_model(artifact).manifest
        except ArtifactError as error:
            damage = str(error)
        else:
            made = "made by another tool" if manifest.plain else f"made {manifest.created}"
            described = f"{manifest.name}, {manifest.recipe}, {made}"
            stages.append(f"{runtimes.FILE}{artifact}")
    examined = [runtimes.find(runtime) for runtime in runtimes.RUNTIMES]
    for i, found in enumerate(examined):
        # TensorFlow takes seconds to start, and is only used where nothing else is.
        spare = found.runtime.backend == "tensorflow" and any(e.works for e in examined)
        if found.installed and not spare and not runtimes.unfit(found, numpy):
            title = found.runtime.title

            def on_slow(title: str = title, done: int = i) -> None:
                on_progress(f"trying {title}", done, len(examined))

            examined[i] = runtimes.examine(found, stages, timeout, on_slow)
    findings = runtimes.runtimes(examined, numpy, architecture, bits, sys.version_info[:2])
    if artifact is not None:
        findings += runtimes.artifact(artifact.name, described, damage, examined)
    return findings


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _throttled() -> int | None:
    """The flags of a Raspberry Pi's firmware; None where it has none."""
    command = shutil.which("vcgencmd")
    if command is None:
        return None
    try:
        done = subprocess.run(
            [command, "get_throttled"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"throttled=(0x[0-9a-fA-F]+)", done.stdout)
    return int(match[1], 16) if match else None


def _free(*folders: str) -> dict[str, tuple[int, bool]]:
    """What may still be written in each folder, in bytes, and whether there may be anything."""
    free = {}
    for folder in dict.fromkeys(folders):
        status = os.statvfs(folder)
        free[folder] = (status.f_bavail * status.f_frsize, os.access(folder, os.W_OK))
    return free


def _synchronised() -> bool | None:
    """Whether the kernel says that its clock is kept right; None where it does not say."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    answer = ctypes.create_string_buffer(512)  # a timex of zeros asks and changes nothing
    state = adjtimex(answer)
    return None if state < 0 else bool(state != _TIME_ERROR)
