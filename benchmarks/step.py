"""What a step costs, beside its peers: `python benchmarks/step.py`, all of it in one run.

LSTM x 2 + Dense(3) of several sizes in int8-float, on one thread, fed a float64 reading at a time.
All candidates of a size are timed in turns, slice by slice of a millisecond, so that a busy machine
slows them alike. A figure is the median over all slices of a slice's mean; a ratio is one of two
such figures of one run. The peers are in the extra `peers`.

ONNX Runtime is stepped in both ways that its Python interface has. The bars are held against
`run()`, the usual one; what `run_with_iobinding()` on fixed arrays gives is printed beside it.
Exits with 1 when a bar falls short or was not measured.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy, too, gets one thread

import numpy as np
from bars import Bar, print_bars
from lstm_models import default_cache, lstm_artifact, recording
from numpy.typing import NDArray
from peers import fused_candidate, numpy_candidate, onnx_candidates

import edgelstm
from edgelstm.benchmark.lstm_stack import lstm_stack
from edgelstm.benchmark.machine import cores, cpu_name
from edgelstm.benchmark.runtime import PACKAGES, bare_interpreter, inner_invoke, version_of
from edgelstm.benchmark.timing import Candidate, Timing, time_in_turns
from edgelstm.errors import MissingDependencyError

SIZES = (32, 128, 256)
STREAMS = 64
FASTER_THAN_ONNX = {32: 5.0, 128: 4.2, 256: 2.6}
OVER_INVOKE = {32: 1.9, 256: 1.2}
FASTER_THAN_FUSED = 7.0
STREAM_STEPS = 2e6
_SMALLEST = SIZES[0]  # where the fused operation and the streams are measured
_STEP, _INVOKE, _MANY = "Session.step", "raw Invoke", f"Streams({STREAMS}).step"
_ONNX_INT8, _FUSED = "ONNX Runtime int8", "fused int8"

# Python keeps some memory of its own; a leak of one byte a step would be a million.
_GROWTH_TRACED, _GROWTH_RESIDENT = 4096, 500_000
_SETTLING_STEPS = 20_000

Timings = dict[str, Timing]


def measure(units: int, cache: Path, seconds: float) -> Timings:
    """Times everything there is to time at one size."""
    path = lstm_artifact(units, cache)
    session = edgelstm.load(path)
    artifact = session.artifact
    stack = lstm_stack(artifact.manifest)
    readings: list[NDArray[np.float64]] = list(recording().values)
    invoke = inner_invoke(bare_interpreter(artifact.flatbuffer, session.backend))
    candidates = [
        Candidate(_INVOKE, invoke),
        Candidate(_STEP, session.step, readings),
        *_optional(lambda: onnx_candidates(stack, readings)),
        numpy_candidate(stack, readings),
    ]
    if units == _SMALLEST:
        candidates += _optional(lambda: [fused_candidate(stack, readings, session.backend)])
        group = edgelstm.Streams(path, STREAMS)
        rows = [
            np.array([readings[(i + k) % len(readings)] for k in range(STREAMS)])
            for i in range(len(readings))
        ]
        candidates.append(Candidate(_MANY, group.step, rows, STREAMS))
    print(f"\n{stack} on {session.backend}")
    timings = {timing.name: timing for timing in time_in_turns(candidates, seconds)}
    _print(timings)
    return timings


def _optional(make: Callable[[], list[Candidate]]) -> list[Candidate]:
    """What can be made; a peer that is not installed is named and left out."""
    try:
        return make()
    except MissingDependencyError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return []


def _print(timings: Timings) -> None:
    invoke, step = timings[_INVOKE], timings[_STEP]
    width = max(map(len, timings))
    print(
        f"{'':<{width}} {'time':>11} {'p99':>11} {'steps/s':>11} "
        f"{'/ Invoke':>9} {'/ step':>7} {'noise':>6}"
    )
    for name, timing in timings.items():
        print(
            f"{name:<{width}} {timing.mean_us:>8.2f} us {timing.p99_us:>8.2f} us "
            f"{timing.steps_per_second:>11,.0f} {timing.ratio(invoke):>9.2f} "
            f"{timing.ratio(step):>7.2f} {timing.spread:>6.0%}"
        )
    print(f"{invoke.rounds} rounds; noise: between the 10 % and the 90 % quantile of the slices")


def speed_bars(of_size: dict[int, Timings]) -> list[Bar]:
    """The bars on speed, from the timings of each size."""
    bars = []
    for units, timings in of_size.items():
        size, step = f"at 2 x {units}", timings[_STEP]
        if units in FASTER_THAN_ONNX:
            run, bound = (timings.get(f"{_ONNX_INT8}, {way}") for way in ("run", "IOBinding"))
            what = f"times as fast as ONNX Runtime's dynamic int8 {size}"
            if bound:
                what += f" (as IOBinding: {bound.ratio(step):.2f})"
            figure = run.ratio(step) if run else None
            bars.append(Bar(what, figure, FASTER_THAN_ONNX[units], True))
        if units in OVER_INVOKE:
            what = f"Session.step over raw Invoke {size}"
            bars.append(Bar(what, step.ratio(timings[_INVOKE]), OVER_INVOKE[units], False))
        if units == _SMALLEST:
            fused = timings[_FUSED].ratio(step) if _FUSED in timings else None
            what = f"times as fast as the fused operation {size}"
            bars.append(Bar(what, fused, FASTER_THAN_FUSED, True))
            what = f"steps a second of Streams({STREAMS}) on one core {size}"
            figure = timings[_MANY].steps_per_second
            bars.append(Bar(what, figure, STREAM_STEPS, True, "{:,.0f}"))
    return bars


def growth_bars(path: Path, steps: int) -> list[Bar]:
    """The bars on memory: how much it grew over so many steps."""
    session = edgelstm.load(path)
    readings = list(recording().values)

    def run(count: int) -> None:
        for x in itertools.islice(itertools.cycle(readings), count):
            session.step(x)
        gc.collect()

    run(_SETTLING_STEPS)
    before = _resident()
    run(steps)
    resident = _resident() - before
    tracemalloc.start()
    run(_SETTLING_STEPS)
    before, _ = tracemalloc.get_traced_memory()
    run(steps)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    over = f"over {steps:,} steps"
    return [
        Bar(f"bytes more in Python {over}", after - before, _GROWTH_TRACED, False, "{:,.0f}"),
        Bar(f"bytes more resident {over}", resident, _GROWTH_RESIDENT, False, "{:,.0f}"),
    ]


def _resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables and the bars; 1 when one falls short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, choices=SIZES, default=list(SIZES))
    parser.add_argument("--seconds", type=float, default=8.0, help="of timing at each size")
    parser.add_argument("--steps", type=int, default=1_000_000, help="to watch memory over")
    parser.add_argument("--no-bars", action="store_true", help="exit with 0 whatever falls short")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="of the artifacts")
    options = parser.parse_args(arguments)
    found = {units: measure(units, options.cache, options.seconds) for units in options.sizes}
    bars = speed_bars(found)
    bars += growth_bars(lstm_artifact(_SMALLEST, options.cache), options.steps)
    hold = print_bars(bars)
    runtime = f"{PACKAGES['litert']} {version_of('litert')}"
    print(f"\nMeasured with {runtime}, numpy {np.__version__} on {cpu_name()}, {cores()} cores.")
    return 0 if options.no_bars else int(not hold)


if __name__ == "__main__":
    sys.exit(main())
