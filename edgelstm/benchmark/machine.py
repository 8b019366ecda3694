"""What a figure was measured on, in words to put beside it."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cpu_name(root: Path = Path("/")) -> str:
    """What the processor, or on a small board the board, calls itself; else its architecture."""
    try:
        # A board with a device tree, such as a Raspberry Pi; the text ends with a null byte.
        return (root / "proc/device-tree/model").read_text().strip("\0\n ")
    except OSError:
        pass
    try:
        lines = (root / "proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(filter(None, names), "") or platform.processor() or platform.machine()


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
