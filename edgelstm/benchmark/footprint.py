"""Start-up time and resident memory, of fresh processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgelstm.benchmark.runtime import MODULES
from edgelstm.errors import BackendError

KINDS = ("runtime", "bare", "session")
_PROBE = Path(__file__).with_name("probe.py")
_PATIENCE_S = 120


@dataclass(frozen=True)
class Footprint:
    """What fresh processes took, each the median of several.

    Attributes:
        processes: how many of each kind there were.
        session_s: seconds to import edgelstm, load the artifact and make the first step.
        bare_s: seconds to import numpy and the runtime, build an interpreter and run it once.
        session_bytes: resident memory of a process that loaded the artifact and steps it.
        bare_bytes: of one that runs the model with the bare runtime.
        runtime_bytes: of one that only imports numpy and the runtime.
    """

    processes: int
    session_s: float
    bare_s: float
    session_bytes: int
    bare_bytes: int
    runtime_bytes: int


def measure_footprint(
    path: Path,
    flatbuffer: bytes,
    backend: str,
    *,
    processes: int = 3,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Footprint:
    """Starts fresh processes of each kind in turns and asks each what it took.

    The time counts from the first statement of a process, after Python itself has started.

    Args:
        path: the artifact.
        flatbuffer: its model, as the backend runs it; for the bare runtime.
        backend: a backend's name, not "auto".
        processes: how many of each kind count; one more goes first, to fill the disk's cache.
        on_progress: called with the processes done and their number.

    Raises:
        BackendError: such a process fails.
    """
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    resident: dict[str, list[int]] = {kind: [] for kind in KINDS}
    total = (1 + processes) * len(KINDS)
    with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
        model = Path(folder, path.name)
        model.write_bytes(flatbuffer)
        for i in range(total):
            kind = KINDS[i % len(KINDS)]
            on_progress(i, total)
            took, size = _probe(kind, path if kind == "session" else model, backend)
            if i >= len(KINDS):
                seconds[kind].append(took)
                resident[kind].append(size)
    return Footprint(
        processes=processes,
        session_s=statistics.median(seconds["session"]),
        bare_s=statistics.median(seconds["bare"]),
        session_bytes=round(statistics.median(resident["session"])),
        bare_bytes=round(statistics.median(resident["bare"])),
        runtime_bytes=round(statistics.median(resident["runtime"])),
    )


def _probe(kind: str, path: Path, backend: str) -> tuple[float, int]:
    """Seconds and bytes of one process."""
    # -P: the folder of the script is no place to import from.
    command = [sys.executable, "-P", str(_PROBE), kind, str(path), backend, MODULES[backend]]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BackendError(
            f"A fresh process that runs {path.name} did not end within {_PATIENCE_S} s; "
            "leave start-up and memory out with --no-footprint."
        ) from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise BackendError(
            f"A fresh process that runs {path.name} failed ({reason}); "
            "leave start-up and memory out with --no-footprint."
        )
    took, size = done.stdout.split()[-2:]
    return float(took), int(size)
