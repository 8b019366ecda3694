"""How far quantised models are from their Keras models: `python benchmarks/fidelity.py`.

Every model of `models.py` is converted with every recipe and stepped statefully, by the
`Session` that a device uses, over readings that calibration has not seen. Keras runs over the
same readings as one sequence. The error is mean |quantised - Keras| / rms Keras, over all outputs
of 10,000 steps; where a model scales its outputs to physical units, it is taken before that. The
drift is the error of the last tenth of 100,000 steps over that of the first. Nothing of the
converter's own measurement is used.

Prints Markdown and exits with 1 when a limit does not hold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

# First, because it settles how TensorFlow is set up.
from models import EXTRA, LIMITS, MODELS, VERSION, Benchmark, default_cache, load  # isort: skip

import keras
import numpy as np
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.errors import ConversionError
from edgelstm.recording import Recording
from edgelstm.session import Session
from edgelstm_quantize import quantize
from edgelstm_quantize.forward import forward

RECIPES = ("int8-weight", "int16x8", "int8-float", "int8", "float32")
STEPS = 10_000
LARGEST_DRIFT = 1.2
_MEMORY_GUARD = "time constant"  # in the sentence of the check that refuses a long memory
_MARK = "!"


@dataclass(frozen=True)
class Result:
    """What one model came to with one recipe.

    Attributes:
        model: its name.
        recipe: its name.
        error: mean |error| / rms output; None when even a forced conversion gave no artifact.
        drift: error of the last tenth over that of the first; None when it was not measured.
        refusal: what the converter said when it refused; the figures are of a forced conversion
            then.
        converter_error: the converter's own figure.
    """

    model: str
    recipe: str
    error: float | None
    drift: float | None
    refusal: str | None
    converter_error: float | None

    @property
    def judged(self) -> bool:
        """Whether anything is asked of the model."""
        return self.model in LIMITS

    @property
    def limit(self) -> float | None:
        """What the error may be; None when the model is to be refused, or is not judged."""
        return LIMITS.get(self.model, {}).get(self.recipe)

    @property
    def error_holds(self) -> bool:
        """Whether the error is within its limit, or the model was refused as it has to be."""
        if not self.judged:
            return True
        if self.limit is None:
            return self.refusal is not None and _MEMORY_GUARD in self.refusal
        return self.refusal is None and self.error is not None and self.error <= self.limit

    @property
    def drift_holds(self) -> bool:
        """Whether the drift is within its limit, where it was measured and counts."""
        counts = self.judged and self.limit is not None
        return not counts or self.drift is None or self.drift <= LARGEST_DRIFT


def measure(benchmark: Benchmark, recipe: str, reference: NDArray[np.float64]) -> Result:
    """Converts a model and measures it.

    Args:
        benchmark: the model and its readings.
        recipe: a name from `RECIPES`.
        reference: what Keras gives over the test readings, (steps, targets); the drift is
            measured when there are more than 10,000 steps.
    """
    refusal = None
    try:
        artifact = _convert(benchmark, recipe, force_recipe=False)
    except ConversionError as error:
        refusal = str(error)
        if _MEMORY_GUARD not in refusal:
            return Result(benchmark.name, recipe, None, None, refusal, None)
        artifact = _convert(benchmark, recipe, force_recipe=True)
    ours = _step(artifact, benchmark.test[: len(reference)])
    mean, scale = _output_scaling(benchmark)
    q, f = (ours - mean) / scale, (reference - mean) / scale
    first, drift = _error(q[:STEPS], f[:STEPS]), None
    if len(reference) > STEPS:
        drift = _error(q[-STEPS:], f[-STEPS:]) / first
    own = artifact.manifest.fidelity.relative_error
    return Result(benchmark.name, recipe, first, drift, refusal, own)


def _error(q: NDArray[np.float64], f: NDArray[np.float64]) -> float:
    return float(np.abs(q - f).mean() / np.sqrt(np.mean(f**2)))


def _output_scaling(benchmark: Benchmark) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation that the model's last layer scales its outputs back by."""
    last = benchmark.model.layers[-1]
    if not isinstance(last, keras.layers.Normalization):
        return np.zeros(1), np.ones(1)
    return np.ravel(last.mean), np.sqrt(np.ravel(last.variance))


def _convert(benchmark: Benchmark, recipe: str, *, force_recipe: bool) -> Artifact:
    # Low fidelity is for the limits here to find.
    return quantize(
        benchmark.model,
        Recording.from_array(benchmark.calibration, source=benchmark.name),
        recipe=recipe,
        horizon=0,
        allow_low_fidelity=True,
        force_recipe=force_recipe,
    )


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
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(LIMITS))
    parser.add_argument("--all", action="store_true", help="the models without a limit, too")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--quick", action="store_true", help="10,000 steps only, without drift")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="of trained models")
    options = parser.parse_args()
    benchmarks: list[Benchmark] = []
    results: list[Result] = []
    for name in MODELS if options.all else options.models:
        benchmark = load(name, options.cache)
        benchmarks.append(benchmark)
        reference = keras_reference(benchmark, options.cache)
        for recipe in options.recipes:
            # Without quantisation there is only the rounding of floats, whose drift says nothing.
            short = options.quick or recipe == "float32"
            results.append(measure(benchmark, recipe, reference[:STEPS] if short else reference))
            print(f"{name} {recipe}: {_error_cell(results[-1])}", file=sys.stderr)
    _print_models(benchmarks)
    _print_table(results, options.recipes, _error_cell)
    _print_limits(results, options.recipes)
    drifting = [recipe for recipe in options.recipes if recipe != "float32"]
    if drifting and not options.quick:
        print("\nError of the last tenth of 100,000 steps over that of the first:")
        _print_table(results, drifting, _drift_cell)
        print(f"| limit |{f' {LARGEST_DRIFT:.2f} |' * len(drifting)}")
    for r in results:
        if r.refusal:
            print(f"\n{r.model} in {r.recipe} is refused: {r.refusal}")
    print(f"\n{_MARK} does not hold its limit. {_made_with()}")
    if options.json:
        options.json.write_text(json.dumps(_as_json(benchmarks, results), indent=2) + "\n")
    return int(not all(r.error_holds and r.drift_holds for r in results))


def _print_models(benchmarks: Iterable[Benchmark]) -> None:
    print("| model | task | |")
    print("|---|---|---|")
    for benchmark in benchmarks:
        notes = benchmark.notes.replace("|", r"\|")
        print(f"| {_label(benchmark.name)} | {benchmark.task} | {notes} |")


def _print_table(results: list[Result], recipes: list[str], cell: Callable[[Result], str]) -> None:
    """A row for each model, a column for each recipe."""
    print(f"\n| | {' | '.join(recipes)} |")
    print("|---" * (len(recipes) + 1) + "|")
    for model in dict.fromkeys(r.model for r in results):
        cells = {r.recipe: cell(r) for r in results if r.model == model}
        print(f"| {_label(model)} | {' | '.join(cells[recipe] for recipe in recipes)} |")


def _print_limits(results: list[Result], recipes: list[str]) -> None:
    """Rows below the errors: models with the same limits share one."""
    rows: dict[str, list[str]] = {}
    for model in dict.fromkeys(r.model for r in results if r.judged):
        limits = (LIMITS[model].get(recipe) for recipe in recipes)
        row = " | ".join("refuse" if limit is None else _percent(limit) for limit in limits)
        rows.setdefault(row, []).append(model)
    for row, models in rows.items():
        print(f"| limit: {', '.join(models)} | {row} |")


def _error_cell(r: Result) -> str:
    if r.error is None:
        text = "failed"
    elif r.refusal:
        text = f"refused ({_percent(r.error)})"
    else:
        text = _percent(r.error)
    return text if r.error_holds else f"**{text} {_MARK}**"


def _drift_cell(r: Result) -> str:
    if r.drift is None:
        return "-"
    text = f"({r.drift:.2f})" if r.refusal else f"{r.drift:.2f}"
    return text if r.drift_holds else f"**{text} {_MARK}**"


def _percent(share: float) -> str:
    return "< 0.01 %" if share < 1e-4 else f"{100 * share:.2f} %"


def _label(model: str) -> str:
    return f"{model} (no limit)" if model in EXTRA else model


def _versions() -> dict[str, str]:
    names = ("tensorflow", "ai-edge-litert", "ai-edge-quantizer")
    return {name: version(name) for name in names}


def _cpu() -> str:
    """What the CPU calls itself, and its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
    return f"{name} ({platform.machine()})" if name else platform.machine()


def _made_with() -> str:
    versions = ", ".join(f"{name} {number}" for name, number in _versions().items())
    return f"Measured with {versions} on {_cpu()}."


def _as_json(benchmarks: Iterable[Benchmark], results: Iterable[Result]) -> dict[str, Any]:
    return {
        "versions": _versions(),
        "cpu": _cpu(),
        "steps": STEPS,
        "largest_drift": LARGEST_DRIFT,
        "models": {b.name: {"task": b.task, "notes": b.notes} for b in benchmarks},
        "results": [
            asdict(r)
            | {
                "judged": r.judged,
                "limit": r.limit,
                "error_holds": r.error_holds,
                "drift_holds": r.drift_holds,
            }
            for r in results
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
