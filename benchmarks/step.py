"""What one reading costs: `python benchmarks/step.py [ARTIFACT]`, medians and ratios of one run.

Of a window artifact most readings run nothing when it hops; the median then is over all of them.
Peers, interleaved with what is measured so that a noisy machine treats them alike: the bare
`Invoke` of the same model, which nothing can beat, and one LSTM step of the same size in numpy.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import edgelstm
from edgelstm.pipeline import Pipeline
from edgelstm.reading import Reading

TINY = Path(__file__).parent.parent / "tests/data/tiny.tflite"
ROUNDS, STEPS = 60, 200


def main() -> None:
    """Prints the table."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else TINY
    session = edgelstm.load(path)
    manifest = session.artifact.manifest
    x = np.array([c.mean for c in manifest.channels])
    raw = session.to_raw(x)
    candidates: dict[str, Callable[[], object]] = {
        "Invoke alone": session._graph.invoke,
        "session.step_raw": lambda: session.step_raw(raw),
        "session.step": lambda: session.step(x),
    }
    if manifest.detection:
        pipeline = Pipeline(edgelstm.load(path))
        readings = iter(
            [Reading(i * manifest.sample_period, tuple(x), i) for i in range(ROUNDS * STEPS)]
        )
        candidates["pipeline.update"] = lambda: pipeline.update(next(readings))
    if manifest.states:
        units = max(pair.input.shape[-1] for pair in manifest.states)
        candidates[f"numpy LSTM({units})"] = _numpy_lstm(len(x), units)
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, call in candidates.items():
            start = time.perf_counter_ns()
            for _ in range(STEPS):
                call()
            times[name].append((time.perf_counter_ns() - start) / STEPS / 1000)
    base = float(np.median(times["Invoke alone"]))
    kept = f"{len(manifest.states)} states"
    if manifest.window:
        kept = f"window {manifest.window}, hop {manifest.hop}"
    print(f"{path.name}: {manifest.recipe}, {session.backend}, {kept}")
    print(f"{'':<20}{'median':>9}{'p99':>9}   ratio to Invoke")
    for name, values in times.items():
        median = float(np.median(values))
        p99 = float(np.quantile(values, 0.99))
        print(f"{name:<20}{median:>6.1f} us{p99:>6.1f} us{median / base:>9.1f}")


def _numpy_lstm(channels: int, units: int) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, 0.1, (channels, 4 * units)).astype(np.float32)
    recurrent = rng.normal(0, 0.1, (units, 4 * units)).astype(np.float32)
    x, h, c = (np.zeros(n, np.float32) for n in (channels, units, units))

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-z))

    def step() -> None:
        nonlocal h, c
        i, f, g, o = np.split(x @ kernel + h @ recurrent, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)

    return step


if __name__ == "__main__":
    main()
