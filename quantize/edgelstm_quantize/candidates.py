"""A model on its way to an artifact: each recipe applied to it gives a candidate.

What recipes share (the reference run, the forms) is made once.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelstm.artifact import Artifact, Golden
from edgelstm.backends import Wiring
from edgelstm.errors import ConversionError, RecordingError
from edgelstm.manifest import Fidelity, Manifest
from edgelstm.recording import Recording
from edgelstm.session import Session
from edgelstm_quantize import coral, runtimes
from edgelstm_quantize.calibration import Calibration, Ranges
from edgelstm_quantize.description import Purpose, describe
from edgelstm_quantize.fidelity import compare
from edgelstm_quantize.forms import Form, Forms
from edgelstm_quantize.forward import forward, forward_windows
from edgelstm_quantize.int8 import tune
from edgelstm_quantize.layer_graph import LayerGraph
from edgelstm_quantize.memory import Memory, measure_memory
from edgelstm_quantize.progress import Progress
from edgelstm_quantize.quantization import QuantizedGraph, apply_recipe
from edgelstm_quantize.recipes import Recipe, find_recipe
from edgelstm_quantize.rim import find_rim
from edgelstm_quantize.step_graph import StepGraph
from edgelstm_quantize.tflite import PlainKernels
from edgelstm_quantize.tracing import states_of

_HELD_OUT = 0.2  # of the recordings, their end: fidelity is measured there
_GOLDEN_STEPS = 128
_GOLDEN_WINDOWS = 16


@dataclass(frozen=True)
class Target:
    """What a candidate is to run on.

    Attributes:
        runtime: "ai-edge-litert" or "tflite-runtime".
        edge_tpu: whether it is to be compiled for an Edge TPU.
    """

    runtime: str
    edge_tpu: bool

    def per_channel(self, recipe: Recipe) -> bool:
        """Whether a row of weights may have a scale of its own."""
        if self.edge_tpu:
            return False  # its compiler is older than products with such rows
        # tflite-runtime computes such products wrongly when their inputs are quantised on the fly.
        return recipe.name != "int8-float" or self.runtime != "tflite-runtime"


@dataclass(frozen=True)
class Candidate:
    """A recipe applied, and what its model gave.

    Attributes:
        recipe: the recipe.
        artifact: without a detection.
        outputs: physical units, (steps, targets) for each recording; NaN where there was no run.
        errors: of each held-out step, relative to the rms of the output, (steps,).
        calibration: what the float graph that was quantised did.
        float_bytes: size of that graph.
    """

    recipe: Recipe
    artifact: Artifact
    outputs: list[NDArray[np.float64]]
    errors: NDArray[np.float64]
    calibration: Calibration
    float_bytes: int

    @property
    def fidelity(self) -> Fidelity:
        """Of its model."""
        return self.artifact.manifest.fidelity


class Candidates:
    """Makes candidates.

    Args:
        graph: the model, laid open.
        recordings: what to calibrate and measure on, in time order; states are reset between them.
        purpose: what the model is for.
        target: what it is to run on.
        on_progress: told what is going on.

    Raises:
        RecordingError: no recording is as long as a window.
    """

    def __init__(
        self,
        graph: LayerGraph,
        recordings: list[Recording],
        purpose: Purpose,
        target: Target,
        on_progress: Progress,
    ) -> None:
        self.graph = graph
        self.recordings = recordings
        self._purpose, self._target, self._on_progress = purpose, target, on_progress
        self._held_out = int(sum(map(len, recordings)) * (1 - _HELD_OUT))
        window = purpose.window
        if window and not any(len(r) >= window for r in recordings):
            raise RecordingError(
                f"No calibration recording has the {window} readings of a window; record for "
                "longer, or choose a shorter --window."
            )
        self.forms = Forms(graph, find_rim(graph), recordings, self._held_out, purpose, on_progress)
        self._memory: list[Memory] | None = None
        on_progress("running the Keras model", 0, 1)
        self._run_keras = (
            forward_windows(graph.model, window, purpose.hop) if window else forward(graph.model)
        )
        self.reference = [self._run_keras(r.values) for r in recordings]
        """What the Keras model gives: like `Candidate.outputs`."""

    def memory(self) -> list[Memory]:
        """How long the states remember; nothing for a window."""
        if self._memory is None:
            form = self.forms.any()
            steps = form.steps
            self._memory = (
                measure_memory(steps, form.calibration) if isinstance(steps, StepGraph) else []
            )
        return self._memory

    def make(self, recipe: Recipe) -> Candidate:
        """Applies a recipe and measures what it gave.

        Raises:
            ConversionError: it cannot be applied, or the runtime would compute it wrongly.
            RecordingError: the recordings say too little.
        """
        form = self.forms.get(recipe.dtype)
        self._on_progress(f"quantizing to {recipe.name}", 0, 1)
        ranges = form.calibration.ranges
        if recipe.dtype == "int8":
            form, ranges = tune(
                self.forms,
                lambda form, ranges: self._apply(recipe, form, ranges, draft=True),
                lambda form, ranges: self._apply(find_recipe("float32"), form, ranges),
                groups=not self._target.edge_tpu,  # its compiler knows no GATHER
                on_progress=self._on_progress,
            )
        quantized = self._apply(recipe, form, ranges)
        runtimes.require(quantized.flatbuffer, self._target.runtime)
        if self._target.edge_tpu:
            refused = coral.check_operations(quantized.flatbuffer)
            if refused := refused + coral.check_weights(quantized.flatbuffer):
                raise ConversionError(f"The Edge TPU cannot run this model: {refused[0]}")
        return self._measure(recipe, form, quantized)

    def _apply(
        self, recipe: Recipe, form: Form, ranges: Ranges, *, draft: bool = False
    ) -> QuantizedGraph:
        per_channel = self._target.per_channel(recipe)
        plain = recipe.name == "float32"
        return apply_recipe(
            recipe,
            form.float_model if plain else form.rounded(per_channel=per_channel),
            states_of(form.steps),
            ranges,
            ([end.name for end in self.graph.inputs], [end.name for end in self.graph.outputs]),
            per_channel=per_channel,
            draft=draft,
        )

    def _measure(self, recipe: Recipe, form: Form, quantized: QuantizedGraph) -> Candidate:
        rim = self.forms.rim(recipe.dtype)
        manifest = describe(recipe, quantized, self.graph, rim, self._purpose)
        nothing = Golden(np.empty(0, np.float32), np.empty(0))
        draft = Artifact(manifest, quantized.flatbuffer, nothing)
        with Session(draft) as session:
            golden = self._golden(session)
            outputs = self._run(session, f"measuring fidelity of {recipe.name}")
        fidelity, errors = self._compare(outputs, manifest)
        manifest = dataclasses.replace(
            manifest,
            fidelity=fidelity,
            golden_tolerance=self._tolerance(recipe, golden, draft),
        )
        artifact = Artifact(manifest, quantized.flatbuffer, golden)
        size = len(form.float_model)
        return Candidate(recipe, artifact, outputs, errors, form.calibration, size)

    def _run(self, session: Session, stage: str) -> list[NDArray[np.float64]]:
        total, done = sum(map(len, self.recordings)), 0
        outputs = []
        for recording in self.recordings:
            session.reset()
            rows = np.full((len(recording), len(session.artifact.manifest.targets)), np.nan)
            for i, x in enumerate(recording.values):
                y = session.step(x)
                if y is not None:
                    rows[i] = y
                done += 1
                if done % 500 == 0:
                    self._on_progress(stage, done, total)
            outputs.append(rows)
        return outputs

    def _golden(self, session: Session) -> Golden:
        window = self._purpose.window
        steps = window + _GOLDEN_WINDOWS * self._purpose.hop if window else _GOLDEN_STEPS
        x = max(self.recordings, key=len).values[-steps:].astype(np.float32)
        return Golden(x, np.array(session.replay(x)))

    def _tolerance(self, recipe: Recipe, golden: Golden, draft: Artifact) -> tuple[float, ...]:
        """By how many raw units of each target another correct runtime may differ.

        Twice as much as the plain kernels differ from those of XNNPACK, over the golden steps:
        both are right, and round differently (docs/decisions/0005).
        """
        graph = PlainKernels(draft.flatbuffer, Wiring.of(draft.manifest), 1)
        with Session(draft, graph=graph) as session:
            other = np.array(session.replay(golden.x), np.float64)
        difference = 2 * np.abs(other - golden.y).max(axis=0)
        if recipe.integer:
            return tuple(np.maximum(recipe.rounding, difference).tolist())
        level = np.sqrt((_core(golden.y, draft.manifest) ** 2).mean(axis=0))
        rounding = recipe.rounding * level * _stds(draft.manifest)
        least = np.finfo(np.float32).tiny
        return tuple(np.maximum(np.maximum(rounding, difference), least).tolist())

    def _compare(
        self, outputs: list[NDArray[np.float64]], manifest: Manifest
    ) -> tuple[Fidelity, NDArray[np.float64]]:
        """Of the held-out steps: the figures, and the error of each step."""
        ours, exact = (
            _core(np.concatenate(run)[self._held_out :], manifest)
            for run in (outputs, self.reference)
        )
        known = np.isfinite(exact).all(axis=1)
        if not known.any():
            raise RecordingError(
                "No window lies in the last fifth of the calibration recordings, where fidelity "
                "is measured; record for longer, or choose a shorter --window."
            )
        ours, exact = ours[known], exact[known]
        if not np.isfinite(ours).all():
            raise ConversionError(
                f"The {manifest.recipe} model gives values that are not finite; try another recipe."
            )
        level = math.sqrt((exact**2).mean()) or 1.0
        fidelity = compare(ours, exact, _columns(manifest))
        return fidelity, np.abs(ours - exact).mean(axis=1) / level


def _core(y: NDArray[np.float64], manifest: Manifest) -> NDArray[np.float64]:
    """Outputs without the scaling at the end of the model."""
    mean = np.array([target.mean for target in manifest.targets])
    core: NDArray[np.float64] = (y - mean) / _stds(manifest)
    return core


def _stds(manifest: Manifest) -> NDArray[np.float64]:
    return np.array([target.std for target in manifest.targets])


def _columns(manifest: Manifest) -> list[slice]:
    """Where the targets of each output lie."""
    ends = np.cumsum([0, *(len(port.channels) for port in manifest.outputs)]).tolist()
    return [slice(start, stop) for start, stop in itertools.pairwise(ends)]
