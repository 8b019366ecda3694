"""What a step costs, beside its peers: `python benchmarks/step.py`, all of it in one run.

LSTM x 2 + Dense(3) of several sizes in int8-float, on one thread, fed a float64 reading at a time.
All candidates of a size are timed in turns, slice by slice of a millisecond, so that a busy machine
slows them alike. A figure is the median over all slices of a slice's mean; a ratio is one of two
such figures. Where memory happens to lie matters by a few percent, so all of it is done in several
fresh processes, one after the other, and the median counts. The peers are in the extra `peers`.

ONNX Runtime is stepped in both ways that its Python interface has. The bars are held against
`run()`, the usual one; what `run_with_iobinding()` on fixed arrays gives is printed beside it.
Exits with 1 when a bar falls short or was not measured.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import statistics
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy, too, gets one thread

import numpy as np
from bars import Bar, print_bars
from lstm_models import default_cache, lstm_artifact, recording
from numpy.typing import NDArray
from peers import fused_candidate, fused_model, numpy_candidate, onnx_candidates

import edgelstm
from edgelstm.artifact import Artifact
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
_BACKEND = "litert"
_SMALLEST = SIZES[0]  # where the fused operation and the streams are measured
_STEP, _INVOKE, _MANY = "Session.step", "raw Invoke", f"Streams({STREAMS}).step"
_ONNX_INT8, _FUSED = "ONNX Runtime int8", "fused int8"

# Python keeps some memory of its own; a leak of one byte a step would be a million.
_GROWTH_TRACED, _GROWTH_RESIDENT = 4096, 500_000
_SETTLING_STEPS = 20_000

_REPEATS = 5

T = TypeVar("T")

Timings = dict[str, Timing]


def measure(units: int, cache: Path, seconds: float) -> list[Timings]:
    """Times everything there is to time at one size, in several fresh processes."""
    path = lstm_artifact(units, cache)
    stack = lstm_stack(Artifact.read(path).manifest)
    print(f"\n{stack} on {_BACKEND}")
    fused = _optional(lambda: [fused_model(stack)]) if units == _SMALLEST else []
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        repeats = [
            pool.submit(_measure_once, path, seconds / _REPEATS, fused).result()
            for _ in range(_REPEATS)
        ]
    _print(repeats)
    return repeats


def _measure_once(path: Path, seconds: float, fused: list[bytes]) -> Timings:
    session = edgelstm.load(path, _BACKEND)
    artifact = session.artifact
    stack = lstm_stack(artifact.manifest)
    readings: list[NDArray[np.float64]] = list(recording().values)
    invoke = inner_invoke(bare_interpreter(artifact.flatbuffer, _BACKEND))
    candidates = [Candidate(_INVOKE, invoke), Candidate(_STEP, session.step, readings)]
    if max(stack.units) == _SMALLEST:
        many = edgelstm.Streams(artifact, STREAMS, backend=_BACKEND)
        rows = [
            np.array([readings[(i + k) % len(readings)] for k in range(STREAMS)])
            for i in range(len(readings))
        ]
        candidates.append(Candidate(_MANY, many.step, rows, STREAMS))
    candidates += _optional(lambda: onnx_candidates(stack, readings))
    candidates.append(numpy_candidate(stack, readings))
    candidates += [fused_candidate(model, readings, _BACKEND) for model in fused]
    return {timing.name: timing for timing in time_in_turns(candidates, seconds)}


def ratio(repeats: list[Timings], of: str, to: str) -> float:
    """How many times as long one takes as the other: the median of the repeats."""
    return statistics.median(timings[of].ratio(timings[to]) for timings in repeats)


def _optional(make: Callable[[], list[T]]) -> list[T]:
    """What can be made; a peer that is not installed is named and left out."""
    try:
        return make()
    except MissingDependencyError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return []


def _print(repeats: list[Timings]) -> None:
    width = max(map(len, repeats[0]))
    print(
        f"{'':<{width}} {'time':>11} {'p99':>11} {'steps/s':>11} "
        f"{'/ Invoke':>9} {'/ step':>7} {'noise':>6}"
    )
    for name in repeats[0]:
        timing = sorted((t[name] for t in repeats), key=lambda t: t.mean_us)[len(repeats) // 2]
        print(
            f"{name:<{width}} {timing.mean_us:>8.2f} us {timing.p99_us:>8.2f} us "
            f"{timing.steps_per_second:>11,.0f} {ratio(repeats, name, _INVOKE):>9.2f} "
            f"{ratio(repeats, name, _STEP):>7.2f} {timing.spread:>6.0%}"
        )
    rounds = sum(timings[_INVOKE].rounds for timings in repeats)
    print(
        f"{rounds} rounds in {len(repeats)} processes; noise: between the 10 % and the 90 % "
        "quantile of the slices"
    )


def speed_bars(of_size: dict[int, list[Timings]]) -> list[Bar]:
    """The bars on speed, from the timings of each size."""
    bars = []
    for units, repeats in of_size.items():
        size, found = f"at 2 x {units}", repeats[0].keys()
        if units in FASTER_THAN_ONNX:
            run, bound = (f"{_ONNX_INT8}, {way}" for way in ("run", "IOBinding"))
            what = f"times as fast as ONNX Runtime's dynamic int8 {size}"
            if bound in found:
                what += f" (as IOBinding: {ratio(repeats, bound, _STEP):.2f})"
            figure = ratio(repeats, run, _STEP) if run in found else None
            bars.append(Bar(what, figure, FASTER_THAN_ONNX[units], True))
        if units in OVER_INVOKE:
            each = [timings[_STEP].ratio(timings[_INVOKE]) for timings in repeats]
            what = f"Session.step over raw Invoke {size} ({min(each):.2f} to {max(each):.2f})"
            bars.append(Bar(what, statistics.median(each), OVER_INVOKE[units], False))
        if units == _SMALLEST:
            fused = ratio(repeats, _FUSED, _STEP) if _FUSED in found else None
            what = f"times as fast as the fused operation {size}"
            bars.append(Bar(what, fused, FASTER_THAN_FUSED, True))
            what = f"steps a second of Streams({STREAMS}) on one core {size}"
            figure = statistics.median(timings[_MANY].steps_per_second for timings in repeats)
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
    parser.add_argument("--seconds", type=float, default=10.0, help="of timing at each size")
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
