"""What a reading costs on its way to a verdict: `python benchmarks/pipeline.py`, about a minute.

A forecaster of 2 x LSTM(32) on 8 channels in int8-float, trained and quantized here, watches noisy
sines at 100 Hz, on one thread. Beside `Pipeline.update` there are

- the same with all that a service does while nothing happens: the ring of verdicts, the book of
  alerts;
- the whole way: bytes of frames, as a board sends them, to verdicts;
- a fleet of 16 sensors in one run of the graph;
- what one would write oneself with numpy: an LSTM stack of the same size in float32, the residual,
  its moving average, a fixed quantile as the threshold. It knows no gap, no missing value, no
  fault of a sensor and no budget of false alarms;
- where it is installed, river's way: its scaler, its half-space trees and its quantile filter.

All are timed in turns, slice by slice, so that a busy machine slows them alike, in several fresh
processes; the median counts. Garbage is collected, and reading the clock is part of the p99. Exits
with 1 when a bar falls short.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy, too, gets one thread

import numpy as np
from bars import Bar, print_bars
from lstm_models import default_cache, made_once
from numpy.typing import NDArray
from peers import numpy_candidate

import edgelstm
from edgelstm.artifact import Artifact
from edgelstm.benchmark.lstm_stack import LstmStack
from edgelstm.benchmark.machine import cores, cpu_name
from edgelstm.benchmark.runtime import PACKAGES, version_of
from edgelstm.benchmark.timing import Timing
from edgelstm.fleet import Fleet
from edgelstm.manifest import SCHEMA_VERSION
from edgelstm.notice import AlertBook
from edgelstm.pipeline import Pipeline, PipelineCounters
from edgelstm.reading import Reading
from edgelstm.recording import Recording
from edgelstm.verdict_ring import VerdictRing
from edgelstm_bridge.codec import encode_frame
from edgelstm_bridge.frame_receiver import FrameReceiver
from edgelstm_bridge.messages import ChannelInfo, Hello, Sample, ValueType

READINGS_BAR = 40_000.0
P99_BAR_US = 100.0

CHANNELS, LAYERS, UNITS = 8, 2, 32
RECIPE = "int8-float"
SENSORS = 16
PERIOD_S = 0.01
START = 1.7e9
_BACKEND = "litert"
_ROWS = 20_000
_AT_ONCE = 64  # frames in a chunk of bytes
_SLICE = 192  # readings
_FIRST_CALLS = 5  # of a slice, untimed
_UNTIMED = 4096  # readings of each before anything is timed
_REPEATS = 5
_RING = 12_000

_UPDATE, _SERVICE = "Pipeline.update", "with ring and book"
_BYTES, _FLEET = "bytes of frames to verdicts", f"Fleet({SENSORS}).update"
_NUMPY, _RIVER = "numpy, float32", "river"


@dataclass
class Contender:
    """Something to time.

    Attributes:
        name: as the table has it.
        call: takes one of `items`.
        items: endless.
        readings: in one item.
    """

    name: str
    call: Callable[[Any], object]
    items: Iterator[Any]
    readings: int = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table and the bars; 1 when one falls short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="of timing")
    parser.add_argument("--no-bars", action="store_true", help="exit with 0 whatever falls short")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="of the artifact")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.make:
        make(options.make)
        return 0
    path = cached(options.cache)
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        repeats = [
            pool.submit(measure, path, options.seconds / _REPEATS).result() for _ in range(_REPEATS)
        ]
    print_table(repeats)
    hold = print_bars(
        [
            Bar(
                "readings a second, decoded reading to verdict",
                statistics.median(t[_UPDATE].steps_per_second for t in repeats),
                READINGS_BAR,
                True,
                "{:,.0f}",
            ),
            Bar(
                "us p99, decoded reading to verdict",
                statistics.median(t[_UPDATE].p99_us for t in repeats),
                P99_BAR_US,
                False,
                "{:.1f}",
            ),
        ]
    )
    runtime = f"{PACKAGES[_BACKEND]} {version_of(_BACKEND)}"
    print(f"\nMeasured with {runtime}, numpy {np.__version__} on {cpu_name()}, {cores()} cores.")
    return 0 if options.no_bars else int(not hold)


def print_table(repeats: list[dict[str, Timing]]) -> None:
    """Prints a row for each contender: the medians of the repeats."""
    print(f"\n{CHANNELS} channels, {LAYERS} x LSTM({UNITS}), {RECIPE} on {_BACKEND}")
    width = max(map(len, repeats[0]))
    print(
        f"{'':<{width}} {'a reading':>12} {'p99':>12} {'readings/s':>12} {'/ update':>9} "
        f"{'noise':>6}"
    )
    for name, first in repeats[0].items():
        found = [(t[name], t[_UPDATE]) for t in repeats]
        mean = statistics.median(timing.mean_us / timing.streams for timing, _ in found)
        ratio = statistics.median(timing.ratio(update) for timing, update in found)
        noise = statistics.median(timing.spread for timing, _ in found)
        # Of many readings at once the time of one call is not that of a reading.
        p99 = f"{statistics.median(timing.p99_us for timing, _ in found):>9.1f} us"
        print(
            f"{name:<{width}} {mean:>9.2f} us {p99 if first.streams == 1 else '':>12} "
            f"{1e6 / mean:>12,.0f} {ratio:>9.2f} {noise:>6.0%}"
        )
    rounds = sum(t[_UPDATE].rounds for t in repeats)
    print(
        f"{rounds} rounds in {len(repeats)} processes; noise: between the 10 % and the 90 % "
        "quantile of the slices"
    )
    if _RIVER not in repeats[0]:
        print("river is not installed, and was not measured.")


def measure(path: Path, seconds: float) -> dict[str, Timing]:
    """Times all contenders, by their names."""
    artifact = Artifact.read(path)
    pipelines = [Pipeline(edgelstm.load(path, _BACKEND)) for _ in range(3)]
    ring, book = VerdictRing(_RING), AlertBook("bench", "bench", lambda *_: "")
    receiver = FrameReceiver()
    fleet = Fleet(artifact, SENSORS, backend=_BACKEND)
    rows = values().tolist()

    def as_in_service(reading: Reading) -> None:
        verdict = pipelines[1].update(reading)
        ring.add(verdict)
        if verdict.changes:
            book.take(verdict)

    def decode(chunk: tuple[bytes, float]) -> None:
        data, now = chunk
        for event in receiver.receive(data, now, START + now):
            if type(event) is Reading:
                pipelines[2].update(event)

    ticks = ([reading] * SENSORS for reading in stream(rows))
    arrays = itertools.cycle([np.array(row) for row in rows])
    contenders = [
        Contender(_UPDATE, pipelines[0].update, stream(rows)),
        Contender(_SERVICE, as_in_service, stream(rows)),
        Contender(_BYTES, decode, frames(rows, receiver), _AT_ONCE),
        Contender(_FLEET, fleet.update, ticks, SENSORS),
        Contender(_NUMPY, NumpyPipeline().update, arrays),
    ]
    if importlib.util.find_spec("river"):
        contenders.append(Contender(_RIVER, river_update(), dicts(rows)))
    timings = time_contenders(contenders, seconds)
    for pipeline in (*pipelines, *fleet.pipelines):
        require_scored(pipeline.counters)
    return timings


def time_contenders(contenders: Sequence[Contender], seconds: float) -> dict[str, Timing]:
    """Times them in turns: a slice as a whole, then one call by call.

    No reading comes twice: a pipeline would see that time goes back.
    """
    clock = time.perf_counter_ns
    for each in contenders:
        for item in itertools.islice(each.items, _UNTIMED // each.readings):
            each.call(item)
    means: dict[str, list[float]] = {each.name: [] for each in contenders}
    singles: dict[str, list[int]] = {each.name: [] for each in contenders}
    end = clock() + int(seconds * 1e9)
    while clock() < end:
        for each in contenders:
            items, call = next_items(each, _SLICE), each.call
            start = clock()
            for item in items:
                call(item)
            means[each.name].append((clock() - start) / len(items))
        for each in contenders:
            items, call = next_items(each, _SLICE), each.call
            took = singles[each.name]
            for item in items:
                start = clock()
                call(item)
                took.append(clock() - start)
    timings = {}
    for each in contenders:
        low, mean, high = np.quantile(means[each.name], (0.1, 0.5, 0.9)).tolist()
        median, p90, p99 = np.quantile(singles[each.name], (0.5, 0.9, 0.99)).tolist()
        timings[each.name] = Timing(
            each.name,
            each.readings,
            len(means[each.name]),
            len(singles[each.name]),
            mean / 1e3,
            (high - low) / mean,
            median / 1e3,
            p90 / 1e3,
            p99 / 1e3,
        )
    return timings


def next_items(contender: Contender, readings: int) -> list[Any]:
    """Items of so many readings, after a few for the caches, which whoever ran before has taken."""
    for item in itertools.islice(contender.items, _FIRST_CALLS):
        contender.call(item)
    return list(itertools.islice(contender.items, readings // contender.readings))


def require_scored(counters: PipelineCounters) -> None:
    """Makes sure that what was timed is the whole way, and not a short one."""
    if counters.scored != counters.readings - counters.warming_up:
        sys.exit(f"Not all readings were scored: {counters}.")


# Readings


def values() -> NDArray[np.float64]:
    """Noisy sines, (rows, channels), each channel in other units."""
    t, k = np.arange(float(_ROWS))[:, np.newaxis], np.arange(CHANNELS)
    noise = np.random.default_rng(0).normal(0, 0.1, (_ROWS, CHANNELS))
    found: NDArray[np.float64] = (np.sin(t / (5 + 2 * k) + k) + noise) * (1 + k) + 10 * k
    return found


def stream(rows: list[list[float]]) -> Iterator[Reading]:
    """Endless readings of a device that counts them."""
    for number, row in enumerate(itertools.cycle(rows)):
        yield Reading(START + number * PERIOD_S, tuple(row), number)


def frames(rows: list[list[float]], receiver: FrameReceiver) -> Iterator[tuple[bytes, float]]:
    """Endless chunks of frames, each with the time at which it arrives, monotonic seconds."""
    hello = Hello(
        tuple(ChannelInfo(name) for name in names()),
        ValueType.FLOAT32,
        sample_period_us=round(PERIOD_S * 1e6),
        clock_tick_us=1,
        boot_id=1,
    )
    now = 100.0
    receiver.connected(now)
    receiver.receive(encode_frame(hello.encode()), now, START + now)
    samples = (
        Sample(number, round(number * PERIOD_S * 1e6), tuple(row))
        for number, row in enumerate(itertools.cycle(rows))
    )
    while True:
        now += _AT_ONCE * PERIOD_S
        chunk = itertools.islice(samples, _AT_ONCE)
        yield b"".join(encode_frame(sample.encode(hello)) for sample in chunk), now


def dicts(rows: list[list[float]]) -> Iterator[dict[str, float]]:
    """Readings as river takes them."""
    for row in itertools.cycle(rows):
        yield dict(zip(names(), row, strict=True))


def names() -> tuple[str, ...]:
    """Of the channels."""
    return tuple(f"c{k}" for k in range(CHANNELS))


# Peers


class NumpyPipeline:
    """Forecast, residual, moving average and a fixed threshold, in a few lines of numpy."""

    def __init__(self) -> None:
        rows = values()
        self._mean, self._std = rows.mean(axis=0), rows.std(axis=0)
        stack = LstmStack(CHANNELS, (UNITS,) * LAYERS, CHANNELS)
        self._step = numpy_candidate(stack, []).call
        self._forecast = np.zeros(CHANNELS)
        self._scale = np.ones(CHANNELS)
        self._score, self._threshold = 0.0, np.inf
        scores = [self.update(row)[0] for row in rows[:1000]]
        self._threshold = float(np.quantile(scores, 0.999))

    def update(self, x: NDArray[np.float64]) -> tuple[float, bool]:
        """Takes a reading, (channels,); gives its score, and whether it is too high."""
        z = (x - self._mean) / self._std
        residual = (z - self._forecast) / self._scale
        self._score += 2 / 21 * (float(np.mean(residual * residual)) - self._score)
        self._forecast = self._step(z)
        return self._score, self._score > self._threshold


def river_update() -> Callable[[dict[str, float]], object]:
    """What river's documentation composes: scaler, half-space trees, quantile filter."""
    from river import anomaly, preprocessing

    trees = anomaly.QuantileFilter(anomaly.HalfSpaceTrees(seed=1), q=0.999)
    model = preprocessing.StandardScaler() | trees

    def update(x: dict[str, float]) -> object:
        score = model.score_one(x)
        model.learn_one(x)
        return trees.classify(score)

    return update


# The artifact


def cached(cache: Path) -> Path:
    """The artifact, made by a process of its own if the cache does not have it."""
    path = cache / f"pipeline-{LAYERS}x{UNITS}-{CHANNELS}-schema{SCHEMA_VERSION}.tflite"
    return made_once(path, [sys.executable, __file__, "--make", str(path)])


def make(path: Path) -> None:
    """Trains the forecaster and quantizes it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from edgelstm_quantize import quantize, train

    rows = values()[:2000]
    recording = Recording("sines", names(), np.arange(len(rows)) * PERIOD_S, rows, PERIOD_S)
    trained = train(recording, model="lstm", units=UNITS, layers=LAYERS, horizon=1, iterations=60)
    quantize(trained.model, recording, recipe=RECIPE).write(path, force=True)


if __name__ == "__main__":
    sys.exit(main())
