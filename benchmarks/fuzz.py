"""A long fuzz run of the bridge: `python benchmarks/fuzz.py --megabytes 100`.

Noise and mutated streams, so much of them, through the frame decoder and through every text parser;
the same generators as in the test suite. Prints what it took and how much memory the process had
at a tenth of the way and at its end. Anything but the documented errors ends it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/bridge"))

import test_frame_fuzz
import test_text_fuzz

SLACK_MB = 8.0


def main() -> int:
    """Prints a row for each parser; 1 when one's memory grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=100, help="through each parser")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    size = options.megabytes * 1_000_000
    runs: dict[str, Callable[[int, int], int]] = {
        kind: partial(test_frame_fuzz.fuzz, kind) for kind in test_frame_fuzz.RECEIVERS
    }
    for option in test_text_fuzz.STREAMS:
        runs[option.split(",columns")[0][:40]] = partial(test_text_fuzz.fuzz, option)
    print(f"{f'{options.megabytes} MB each':<42}{'readings':>12}{'MB/s':>8}{'resident, MB':>16}")
    grew = False
    for name, run in runs.items():
        run(options.seed + 1, size // 10)
        before = resident_mb()
        began = time.monotonic()
        readings = run(options.seed, size)
        took = time.monotonic() - began
        after = resident_mb()
        grew = grew or after - before > SLACK_MB
        print(
            f"{name:<42}{readings:>12,}{size / 1e6 / took:>8.1f}{before:>8.1f}{after:>8.1f}",
            flush=True,
        )
    print("Memory grew." if grew else "Memory stayed flat; nothing but documented errors.")
    return int(grew)


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    sys.exit(main())
