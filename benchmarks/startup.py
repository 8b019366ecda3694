"""What a start costs in time and memory: `python benchmarks/startup.py`.

Fresh processes in turns: one imports edgelstm, loads an artifact and steps it; one imports numpy
and the bare runtime, builds an interpreter and runs it. Medians; exits with 1 when a bar falls
short.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bars import Bar, print_bars
from lstm_models import LAYERS, default_cache, lstm_artifact

import edgelstm
from edgelstm.benchmark.footprint import measure_footprint
from edgelstm.benchmark.machine import cores, cpu_name
from edgelstm.benchmark.runtime import PACKAGES, version_of

UNITS = 64
SECONDS_MORE = 0.1
MEGABYTES_MORE = 15.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table and the bars; 1 when one falls short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=15, help="of each kind")
    parser.add_argument("--no-bars", action="store_true", help="exit with 0 whatever falls short")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="of the artifacts")
    options = parser.parse_args(arguments)
    path = lstm_artifact(UNITS, options.cache)
    with edgelstm.load(path) as session:
        backend, flatbuffer = session.backend, session.artifact.flatbuffer
    found = measure_footprint(path, flatbuffer, backend, processes=options.processes)
    print(f"LSTM({UNITS}) x {LAYERS} on {PACKAGES[backend]} {version_of(backend)}")
    print(f"{'':<32} {'first result':>12} {'resident':>10}")
    rows = (
        ("edgelstm", f"{1000 * found.session_s:.0f} ms", found.session_bytes),
        ("bare runtime", f"{1000 * found.bare_s:.0f} ms", found.bare_bytes),
        ("numpy and the runtime, imported", "", found.runtime_bytes),
    )
    for name, took, size in rows:
        print(f"{name:<32} {took:>12} {size / 1e6:>7.1f} MB")
    bars = [
        Bar(
            "seconds more to the first step",
            found.session_s - found.bare_s,
            SECONDS_MORE,
            at_least=False,
            form="{:.3f}",
        ),
        Bar("MB more", (found.session_bytes - found.bare_bytes) / 1e6, MEGABYTES_MORE, False),
    ]
    hold = print_bars(bars)
    print(
        f"\nMedians of {found.processes} processes of each kind on {cpu_name()}, {cores()} cores."
    )
    return 0 if options.no_bars else int(not hold)


if __name__ == "__main__":
    sys.exit(main())
