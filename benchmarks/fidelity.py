"""How far quantised models are from their Keras models: `python benchmarks/fidelity.py`.

Every model of `models.py` is converted with every recipe and stepped statefully, by the
`Session` that a device uses, over readings that calibration has not seen. Keras runs over the
same readings as one sequence. The error is mean |quantised - Keras| / rms Keras, over all outputs
of 10,000 steps; where a model scales its outputs to physical units, it is taken before that. The
drift is the error of the last tenth of 100,000 steps over that of the first. Nothing of the
converter's own measurement is used; what it says stands beside.

Prints Markdown and exits with 1 when a limit does not hold.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from models import MODELS, VERSION, Benchmark, default_cache, load
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.errors import ConfigurationError, ConversionError
from edgelstm.recording import Recording
from edgelstm.session import Session
from edgelstm_quantize import quantize
from edgelstm_quantize.forward import forward

RECIPES = ("int8-weight", "int16x8", "int8-float", "int8", "float32")
STEPS = 10_000
LARGEST_DRIFT = 1.2
_FOR_DRIFT = ("int8-float", "int8")  # the others only with --full


@dataclass(frozen=True)
class Result:
    """What one model came to with one recipe.

    Attributes:
        model: its name.
        recipe: its name.
        error: mean |error| / rms output; NaN where there is none.
        limit: what the error may be; None when the recipe has to be refused.
        drift: last tenth over first, or None when it was not measured.
        said: what the converter says of itself: its own error, or why it refused.
    """

    model: str
    recipe: str
    error: float
    limit: float | None
    drift: float | None
    said: str

    @property
    def refused(self) -> bool:
        """Whether the converter gave no artifact."""
        return bool(np.isnan(self.error))

    @property
    def error_holds(self) -> bool:
        """Whether the error is within its limit, or the model was refused as it has to be."""
        return self.refused if self.limit is None else self.error <= self.limit

    @property
    def drift_holds(self) -> bool:
        """Whether the drift, where it was measured, is within its limit."""
        return self.drift is None or self.drift <= LARGEST_DRIFT


def measure(benchmark: Benchmark, recipe: str, reference: NDArray[np.float64]) -> Result:
    """Converts a model and measures it.

    Args:
        benchmark: the model and its readings.
        recipe: a name from `RECIPES`.
        reference: what Keras gives over the test readings, (steps, targets); the drift is
            measured when there are more than 10,000 steps.
    """
    limit = benchmark.limits.get(recipe)
    try:
        artifact = _convert(benchmark, recipe)
    except ConversionError as error:
        return Result(benchmark.name, recipe, np.nan, limit, None, f"refused: {error}")
    ours = _step(artifact, benchmark.test[: len(reference)])
    mean, scale = _output_scaling(benchmark)
    q, f = (ours - mean) / scale, (reference - mean) / scale
    first = _error(q[:STEPS], f[:STEPS])
    drift = None
    if len(reference) > STEPS:
        drift = _error(q[-STEPS:], f[-STEPS:]) / max(first, 1e-9)
    own = artifact.manifest.fidelity.relative_error
    return Result(benchmark.name, recipe, first, limit, drift, f"{own:.2%}")


def _error(q: NDArray[np.float64], f: NDArray[np.float64]) -> float:
    return float(np.abs(q - f).mean() / np.sqrt(np.mean(f**2)))


def _output_scaling(benchmark: Benchmark) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation that the model's last layer scales its outputs back by."""
    last = benchmark.model.layers[-1]
    if not isinstance(last, keras.layers.Normalization):
        return np.zeros(1), np.ones(1)
    return np.ravel(last.mean), np.sqrt(np.ravel(last.variance))


def _convert(benchmark: Benchmark, recipe: str) -> Artifact:
    values = benchmark.calibration
    channels = tuple(f"channel_{i}" for i in range(values.shape[1]))
    times = np.arange(len(values), dtype=np.float64)
    recording = Recording(benchmark.name, channels, times, values, 1.0)
    # Low fidelity is for the limits here to find. So a refusal can only come from the check that
    # keeps a long memory away from an integer cell state.
    return quantize(benchmark.model, recording, recipe=recipe, horizon=0, allow_low_fidelity=True)


def _step(artifact: Artifact, readings: NDArray[np.float64]) -> NDArray[np.float64]:
    with Session(artifact) as session:
        return np.array([session.step(x) for x in readings])


def keras_reference(benchmark: Benchmark, cache: Path) -> NDArray[np.float64]:
    """What the Keras model gives over all test readings, as one sequence; kept in the cache."""
    weights = b"".join(w.tobytes() for w in benchmark.model.get_weights())
    digest = hashlib.sha256(weights + benchmark.test.tobytes()).hexdigest()[:16]
    path = cache / f"{benchmark.name}-v{VERSION}-reference-{digest}.npy"
    if not path.exists():
        np.save(path, forward(benchmark.model)(benchmark.test))
    reference: NDArray[np.float64] = np.load(path)
    return reference


def main() -> int:
    """Prints the tables; 1 when something failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--full", action="store_true", help="the drift of every recipe")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="of trained models")
    options = parser.parse_args()
    results: list[Result] = []
    unknown: set[str] = set()  # recipes that the converter does not have
    about: list[str] = []
    for name in options.models:
        benchmark = load(name, options.cache)
        about.append(f"- {name}: {'; '.join(filter(None, (benchmark.task, benchmark.notes)))}")
        reference = keras_reference(benchmark, options.cache)
        for recipe in options.recipes:
            whole = options.full or recipe in _FOR_DRIFT
            try:
                result = measure(benchmark, recipe, reference if whole else reference[:STEPS])
            except ConfigurationError as error:
                unknown.add(str(error))
                continue
            results.append(result)
            print(f"{name} {recipe}: error {result.error:.2%}", file=sys.stderr)
    print("\n".join(about))
    _print_errors(results)
    _print_drift(results)
    for refusal in (r for r in results if r.refused):
        print(f"\n{refusal.model} in {refusal.recipe} is {refusal.said}")
    for sentence in sorted(unknown):
        print(f"\nFAIL: {sentence}")
    return int(bool(unknown) or not all(r.error_holds and r.drift_holds for r in results))


def _print_errors(results: list[Result]) -> None:
    print("\n| model | recipe | error | limit | | the converter's own figure |")
    print("|---|---|---|---|---|---|")
    for r in results:
        error, said = ("refused", "-") if r.refused else (f"{r.error:.3%}", r.said)
        limit = "refuse" if r.limit is None else f"{r.limit:.2%}"
        verdict = _verdict(r.error_holds)
        print(f"| {r.model} | {r.recipe} | {error} | {limit} | {verdict} | {said} |")


def _print_drift(results: list[Result]) -> None:
    print("\n| model | recipe | error, last / first tenth of 100,000 steps | limit | |")
    print("|---|---|---|---|---|")
    for r in results:
        if r.drift is not None:
            verdict = _verdict(r.drift_holds)
            print(f"| {r.model} | {r.recipe} | {r.drift:.2f} | {LARGEST_DRIFT} | {verdict} |")


def _verdict(holds: bool) -> str:
    return "PASS" if holds else "FAIL"


if __name__ == "__main__":
    sys.exit(main())
