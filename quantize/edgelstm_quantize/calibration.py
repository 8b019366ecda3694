"""Stateful calibration: records what every tensor does while the float graph runs in time.

The stock calibrators run shuffled samples from zero states and smooth the ranges; a recurrent
model then meets states in service that were never seen, and clips them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm_quantize.progress import Progress, silent
from edgelstm_quantize.tflite import open_reference, operations, signature
from edgelstm_quantize.tracing import StateTensor

Ranges = dict[str, tuple[float, float]]
"""Tensor name -> the lowest and the highest value it may take."""
Feed = Mapping[str, NDArray[Any]]
"""Input name -> what it is given, run after run: (runs, *shape without the batch axis)."""

_LARGEST_CHUNK = 500  # runs whose tensors are held in memory at once, and how much they may take
_FLOATS_IN_MEMORY = 2**24
_SAMPLES = 256
_FURTHEST = 4.0  # standard deviations
_ACTIVATIONS = 2000  # at most so many runs are kept of a watched tensor


@dataclass(frozen=True)
class Calibration:
    """What a calibration run saw.

    Attributes:
        ranges: of all float tensors that are computed or put in, constants left out. A state's
            input and output share theirs, and it holds 0.
        unit_ranges: for each state the largest |value| of each of its units, (*shape,).
        samples: inputs at evenly spread steps, (samples, *shape) each.
        sample_states: the states going into those steps, (samples, *shape) each, in order.
        activations: what the watched tensors held at evenly spread steps, (rows, features) each.
        steps: number of runs.
    """

    ranges: Ranges
    unit_ranges: tuple[NDArray[np.float32], ...]
    samples: Feed
    sample_states: tuple[NDArray[np.float32], ...]
    activations: Mapping[str, NDArray[np.float32]]
    steps: int

    def merged(self, other: Calibration) -> Calibration:
        """What both runs of the same graph saw."""
        return Calibration(
            {
                name: (min(low, other.ranges[name][0]), max(high, other.ranges[name][1]))
                for name, (low, high) in self.ranges.items()
            },
            tuple(map(np.maximum, self.unit_ranges, other.unit_ranges)),
            {n: np.concatenate([v, other.samples[n]]) for n, v in self.samples.items()},
            tuple(
                np.concatenate(both)
                for both in zip(self.sample_states, other.sample_states, strict=True)
            ),
            {n: np.concatenate([v, other.activations[n]]) for n, v in self.activations.items()},
            self.steps + other.steps,
        )


def with_excursions(feed: Feed, clips: Mapping[str, float | None]) -> list[Feed]:
    """What to calibrate on: the recording, and where it may still go.

    A model that clips its normalised input at +-clip says that it works up to there, and a
    sensor that drifts out of what was recorded is exactly what it is watched for. So for such a
    model the recording is run twice more, shifted until it touches either bound, or 4 standard
    deviations: headroom costs precision, and what is further out is carried on outside the graph
    (`edgelstm.reach`).

    Args:
        feed: normalised.
        clips: the bound of each input, or None.

    Returns:
        One feed or three.
    """
    if not any(clips.values()):
        return [feed]

    def shifted(name: str, sign: int) -> NDArray[Any]:
        z, clip = feed[name], clips[name]
        if clip is None:
            return z
        clip = max(min(clip, _FURTHEST), float(np.abs(z).max(initial=0.0)))
        over = tuple(range(z.ndim - 1))  # every axis but the channels
        moved: NDArray[Any] = z + (
            clip - z.max(axis=over) if sign > 0 else -clip - z.min(axis=over)
        )
        return moved

    return [feed, *({name: shifted(name, sign) for name in feed} for sign in (1, -1))]


def calibrate(
    float_model: bytes,
    states: Sequence[StateTensor],
    feeds: Sequence[Feed],
    on_progress: Progress = silent,
    watched: Collection[str] = (),
) -> Calibration:
    """Runs a float graph over each feed, from zero states, and records every tensor.

    Args:
        float_model: a TFLite model whose signature has the inputs and the states.
        states: the states of the graph.
        feeds: in time order.
        on_progress: told how far it is.
        watched: names of tensors to keep.
    """
    total, done = sum(map(_runs, feeds)), 0
    recorder = _Recorder(float_model, states, watched, -(-total // _ACTIVATIONS))
    wanted = set(np.linspace(0, total - 1, min(total, _SAMPLES)).astype(int).tolist())
    for feed in feeds:
        recorder.restart()
        for i in range(_runs(feed)):
            recorder.run({name: values[i] for name, values in feed.items()}, done in wanted)
            done += 1
            if done % 100 == 0:
                on_progress("calibrating", done, total)
    return recorder.finish(done)


def require_states(calibration: Calibration) -> None:
    """Refuses a recording that says nothing about the states.

    Raises:
        RecordingError: the states never leave zero.
    """
    if calibration.unit_ranges and not any(units.any() for units in calibration.unit_ranges):
        raise RecordingError(
            "The states of the model never leave zero over the calibration recording, so it says "
            "nothing about them; check that the recording has the units that the model takes."
        )


def _runs(feed: Feed) -> int:
    return len(next(iter(feed.values())))


class _Recorder:
    """The float graph at work, with an eye on every tensor."""

    def __init__(
        self,
        float_model: bytes,
        states: Sequence[StateTensor],
        watched: Collection[str],
        every: int,
    ) -> None:
        self._interpreter = open_reference(float_model, keep_all_tensors=True)
        tensors = signature(self._interpreter)
        self._in = {name: d["index"] for name, d in tensors.inputs.items()}
        self._out = {name: d["index"] for name, d in tensors.outputs.items()}
        self._pairs = [(self._in[s.name], self._out[s.output_name]) for s in states]
        self._names = _activations(self._interpreter, set(self._in.values()))
        everything = set(self._names) | set(self._in.values())
        # Each gives a view on a tensor's memory; none outlives a statement: see InterpreterGraph.
        self._views = {index: self._interpreter.tensor(index) for index in everything}
        shapes = {index: _without_batch(self._views[index]().shape) for index in self._names}
        floats = sum(math.prod(shape) for shape in shapes.values())
        self._chunk = max(1, min(_LARGEST_CHUNK, _FLOATS_IN_MEMORY // max(1, floats)))
        self._seen = {
            index: np.empty((self._chunk, *shape), np.float32) for index, shape in shapes.items()
        }
        self._watched = [index for index, name in self._names.items() if name in watched]
        self._kept: dict[int, list[NDArray[np.float32]]] = {index: [] for index in self._watched}
        self._every = every
        self._passed = 0  # runs of earlier chunks
        self._count = 0  # and of this one
        self._low = dict.fromkeys(self._names, np.inf)
        self._high = dict.fromkeys(self._names, -np.inf)
        self._units = [np.zeros(state.shape, np.float32) for state in states]
        self._samples: dict[str, list[NDArray[Any]]] = {
            name: [] for name in self._in if name not in {s.name for s in states}
        }
        self._sample_states: list[list[NDArray[np.float32]]] = [[] for _ in states]

    def restart(self) -> None:
        """Sets the states to zero."""
        for index, _ in self._pairs:
            self._views[index]()[...] = 0

    def run(self, inputs: Feed, sample: bool) -> None:
        """Runs once and carries the states on."""
        for name, value in inputs.items():
            self._views[self._in[name]]()[...] = value
        if sample:
            for name, kept in self._samples.items():
                kept.append(self._views[self._in[name]]()[0].copy())
            for values, (index, _) in zip(self._sample_states, self._pairs, strict=True):
                values.append(self._views[index]()[0].copy())
        self._interpreter.invoke()
        for index, seen in self._seen.items():
            seen[self._count] = self._views[index]()
        self._count += 1
        if self._count == self._chunk:
            self._widen()
        for index, source in self._pairs:
            self._views[index]()[...] = self._views[source]()

    def _widen(self) -> None:
        """Takes the chunk into the ranges."""
        if not self._count:
            return
        for index, seen in self._seen.items():
            part = seen[: self._count]
            self._low[index] = min(self._low[index], part.min())
            self._high[index] = max(self._high[index], part.max())
        first = -self._passed % self._every
        for index in self._watched:
            part = self._seen[index][first : self._count : self._every]
            self._kept[index].append(part.reshape(-1, part.shape[-1]).copy())
        for units, (_, source) in zip(self._units, self._pairs, strict=True):
            part = np.abs(self._seen[source][: self._count]).max(axis=0)
            np.maximum(units, part.reshape(units.shape), out=units)
        self._passed += self._count
        self._count = 0

    def finish(self, steps: int) -> Calibration:
        self._widen()
        for pair in self._pairs:
            both = min(0.0, *(self._low[i] for i in pair)), max(0.0, *(self._high[i] for i in pair))
            for i in pair:
                self._low[i], self._high[i] = both
        return Calibration(
            {name: (float(self._low[i]), float(self._high[i])) for i, name in self._names.items()},
            tuple(self._units),
            {name: np.array(kept) for name, kept in self._samples.items()},
            tuple(np.array(values) for values in self._sample_states),
            {self._names[i]: np.concatenate(parts) for i, parts in self._kept.items()},
            steps,
        )


def _without_batch(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:] if shape[:1] == (1,) else shape


def _activations(interpreter: Any, inputs: set[int]) -> dict[int, str]:
    """Index and name of every float tensor that is an input or that an operation writes."""
    # A range for a constant would force per-tensor weights.
    written = {int(i) for op in operations(interpreter) for i in op["outputs"]}
    return {
        d["index"]: d["name"]
        for d in interpreter.get_tensor_details()
        if d["index"] in written | inputs and d["dtype"] == np.float32
    }
