"""Compares two artifacts: figures from their manifests, outputs over one recording, and speed.

Pure: sessions and clocks are handed in. `a` is measured against `b`.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import ConfigurationError
from edgelstm.manifest import Fidelity, Manifest
from edgelstm.recording import same_period

Step = Callable[[NDArray[np.float64]], object]
"""Takes one reading, (channels,); None where the model did not run."""

_BLOCK = 100  # runs in a turn: a millisecond or so, shorter than most of what disturbs a machine
_UNTIMED_BLOCKS = 2  # of each, before the first that counts


@dataclass(frozen=True)
class Outputs:
    """What an artifact gave over a recording, stepped statefully from zero states.

    Attributes:
        rows: the readings after which it gave something, growing, int64 (outputs,).
        values: physical units, float64 (outputs, targets).
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Speed:
    """How long a step took that ran the model.

    Attributes:
        steps: number of steps behind the figures.
        median_us: median, in microseconds.
        p90_us: the 90 % quantile, in microseconds.
    """

    steps: int
    median_us: float
    p90_us: float


@dataclass(frozen=True)
class Side:
    """One of the two artifacts.

    Attributes:
        file: its path, as it was given.
        name: of the model.
        recipe: how it was quantised.
        mode: "stream" or "window".
        window: readings in a window; None for a stream.
        hop: readings from one run to the next; 1 for a stream.
        bytes: size of the file.
        model_bytes: size of the TFLite model in it.
        operations: how many the graph has.
        runtimes: lowest release of each runtime that computes it correctly.
        inputs: dtype of each input by its name.
        outputs: dtype of each output by its name.
        fidelity: against its Keras model, as its manifest says.
        backend: the runtime that ran it here.
        speed: measured here.
        alerts: alerts over the recording; None where one of the two has no detection.
    """

    file: str
    name: str
    recipe: str
    mode: str
    window: int | None
    hop: int
    bytes: int
    model_bytes: int
    operations: int
    runtimes: dict[str, str]
    inputs: dict[str, str]
    outputs: dict[str, str]
    fidelity: Fidelity
    backend: str
    speed: Speed
    alerts: int | None


@dataclass(frozen=True)
class LargestDifference:
    """Where two outputs differ most.

    Attributes:
        row: of the recording, counted from 0.
        timestamp: of that reading, seconds since the Unix epoch, UTC.
        target: which of the targets.
        a: what `a` gave there, physical units.
        b: what `b` gave there, physical units.
    """

    row: int
    timestamp: float
    target: str
    a: float
    b: float


@dataclass(frozen=True)
class Difference:
    """How far the outputs of `a` are from those of `b`, over the rows and targets of both.

    Errors are relative in the way of `Fidelity`, with `b` in place of the Keras model: to the root
    mean square of b's output, normalised as b's manifest says, so that an offset does not make
    them look small. Of several outputs the worst counts.

    Attributes:
        rows: at which both gave an output.
        targets: names of those compared.
        relative_error: mean |a - b| / rms(b).
        max_error: largest |a - b| / rms(b).
        correlation: of both, the lowest of the targets; None for a constant one.
        worst_target: the one with the largest mean |a - b| / rms(b).
        worst_error: that mean.
        largest: where `max_error` was found.
    """

    rows: int
    targets: tuple[str, ...]
    relative_error: float
    max_error: float
    correlation: float | None
    worst_target: str
    worst_error: float
    largest: LargestDifference


@dataclass(frozen=True)
class Comparison:
    """Two artifacts side by side.

    Attributes:
        a: the first.
        b: the second.
        speed_ratio: median step of `a` over that of `b`.
        recording: the file that both ran over.
        readings: how many readings that was.
        difference: of their outputs.
        score_change: mean relative change of the anomaly score from `b` to `a`; None where one of
            them has no detection.
        notes: what a reader must know to read the figures right.
    """

    a: Side
    b: Side
    speed_ratio: float
    recording: str
    readings: int
    difference: Difference
    score_change: float | None
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """The figures as indented JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True)


def describe_side(
    file: str, size: int, manifest: Manifest, backend: str, speed: Speed, alerts: int | None
) -> Side:
    """One side of the table, from its manifest and what was measured."""
    return Side(
        file=file,
        name=manifest.name,
        recipe=manifest.recipe,
        mode=manifest.mode,
        window=manifest.window,
        hop=manifest.hop,
        bytes=size,
        model_bytes=manifest.flatbuffer_bytes,
        operations=sum(operation.count for operation in manifest.operations),
        runtimes=manifest.runtimes,
        inputs={port.tensor.name: port.tensor.dtype for port in manifest.inputs},
        outputs={port.tensor.name: port.tensor.dtype for port in manifest.outputs},
        fidelity=manifest.fidelity,
        backend=backend,
        speed=speed,
        alerts=alerts,
    )


def check_comparable(a: Manifest, b: Manifest) -> list[str]:
    """Makes sure that two artifacts can run over one recording and have something in common.

    Returns:
        What a reader must know to read the comparison right, a sentence each.

    Raises:
        ConfigurationError: they take different channels, or have no target in common.
    """
    channels = [Counter(c.name for c in manifest.channels) for manifest in (a, b)]
    alone = [list((channels[k] - channels[1 - k]).elements()) for k in (0, 1)]
    if any(alone):
        only = [
            f"only {side} takes {_some(names)}"
            for side, names in zip("ab", alone, strict=True)
            if names
        ]
        raise ConfigurationError(
            f"The two take different channels ({'; '.join(only)}), so they cannot run over one "
            "recording; compare artifacts that take the same."
        )
    common = _common_targets(a, b)
    notes = []
    for label, manifest in (("a", a), ("b", b)):
        if lone := [t.name for t in manifest.targets if t.name not in common]:
            notes.append(f"Only {label} gives {_some(lone)}; this is not compared.")
    if (a.task, a.horizon) != (b.task, b.horizon):
        notes.append(
            f"a's outputs are {_ahead(a)}, b's are {_ahead(b)}: they are about different times."
        )
    if not same_period(a.sample_period, b.sample_period):
        notes.append(
            f"a was made for a reading every {a.sample_period:g} s, b for one every "
            f"{b.sample_period:g} s: one of them is not at home in this recording."
        )
    for label, manifest in (("a", a), ("b", b)):
        if manifest.hop > 1:
            notes.append(
                f"The time of a step of {label} is that of one that runs the model, which is one "
                f"in {manifest.hop}."
            )
    return notes


def compare_outputs(
    a: Manifest,
    b: Manifest,
    outputs: tuple[Outputs, Outputs],
    timestamps: NDArray[np.float64],
    first_row: int = 0,
) -> Difference:
    """Compares what two artifacts gave over the same readings.

    Args:
        a: what made the first of the outputs.
        b: what made the second.
        outputs: of both.
        timestamps: of the readings, seconds since the Unix epoch, (readings,).
        first_row: the row of the recording's file that the first reading was in.

    Raises:
        ConfigurationError: they have no target in common, or no row at which both gave an output.
    """
    names = _common_targets(a, b)
    rows, of_a, of_b = np.intersect1d(
        outputs[0].rows, outputs[1].rows, assume_unique=True, return_indices=True
    )
    if not len(rows):
        raise ConfigurationError(
            f"a and b have no reading in common after which both give an output, in "
            f"{len(timestamps):,} readings; give a longer recording."
        )
    y_a = outputs[0].values[of_a][:, _indices(a, names)]
    y_b = outputs[1].values[of_b][:, _indices(b, names)]
    error = np.abs(y_a - y_b) / _unit(b, names, y_b)
    per_target = error.mean(axis=0)
    worst = int(per_target.argmax())
    row, target = np.unravel_index(error.argmax(), error.shape)
    return Difference(
        rows=len(rows),
        targets=tuple(names),
        relative_error=max(float(per_target[part].mean()) for part in _by_output(b, names)),
        max_error=float(error[row, target]),
        correlation=_lowest_correlation(y_a, y_b),
        worst_target=names[worst],
        worst_error=float(per_target[worst]),
        largest=LargestDifference(
            row=first_row + int(rows[row]),
            timestamp=float(timestamps[rows[row]]),
            target=names[int(target)],
            a=float(y_a[row, target]),
            b=float(y_b[row, target]),
        ),
    )


def score_change(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """Mean |a - b| over the mean of b, over the readings that both scored.

    Args:
        a: scores of each reading, (readings,); NaN where there is none.
        b: likewise.

    Returns:
        None where there is nothing to compare: no reading that both scored, or only zeros in `b`.
    """
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any() or not (level := float(b[both].mean())):
        return None
    return float(np.abs(a[both] - b[both]).mean() / level)


def time_in_turns(
    sides: Sequence[tuple[Step, NDArray[np.float64]]],
    *,
    steps: int = 2000,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> list[Speed]:
    """Times steps in alternating blocks, so that a noisy machine hits all sides alike.

    Only steps that run the model count: others of a window only take down a reading.

    Args:
        sides: each a step and the readings for it, (readings, channels), taken again from the
            start when they end.
        steps: how many to time of each at least, after a warm-up.
        on_progress: called with the blocks done and their number.
        clock: nanoseconds that only grow.
    """
    feeds = [(step, itertools.cycle(list(readings))) for step, readings in sides]
    taken: list[list[int]] = [[] for _ in sides]
    blocks = _UNTIMED_BLOCKS + -(-steps // _BLOCK)
    for block in range(blocks):
        on_progress(block, blocks)
        for (step, feed), times in zip(feeds, taken, strict=True):
            runs = _time_block(step, feed, clock)
            if block >= _UNTIMED_BLOCKS:
                times += runs
    return [
        Speed(len(times), float(np.median(times)) / 1000, float(np.quantile(times, 0.9)) / 1000)
        for times in taken
    ]


def _time_block(
    step: Step, feed: itertools.cycle[NDArray[np.float64]], clock: Callable[[], int]
) -> list[int]:
    times: list[int] = []
    while len(times) < _BLOCK:
        reading = next(feed)
        start = clock()
        ran = step(reading) is not None
        stop = clock()
        if ran:
            times.append(stop - start)
    return times


def _common_targets(a: Manifest, b: Manifest) -> list[str]:
    """Names of the targets that both have, in b's order."""
    known = {t.name for t in a.targets}
    common = [name for name in dict.fromkeys(t.name for t in b.targets) if name in known]
    if not common:
        raise ConfigurationError(
            f"a gives {_some([t.name for t in a.targets])}, but b gives "
            f"{_some([t.name for t in b.targets])}; compare artifacts that have a target in common."
        )
    return common


def _indices(manifest: Manifest, names: Sequence[str]) -> list[int]:
    targets = [t.name for t in manifest.targets]
    return [targets.index(name) for name in names]


def _by_output(manifest: Manifest, names: Sequence[str]) -> list[list[int]]:
    """For each output that has some of these targets: which of them, as indices into `names`."""
    owner = [k for k, port in enumerate(manifest.outputs) for _ in port.channels]
    owners = [owner[i] for i in _indices(manifest, names)]
    return [[i for i, k in enumerate(owners) if k == which] for which in dict.fromkeys(owners)]


def _unit(b: Manifest, names: Sequence[str], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The difference that counts as 100 % of each target, physical units, (targets,)."""
    channels = [b.targets[i] for i in _indices(b, names)]
    mean = np.array([c.mean for c in channels], np.float64)
    std = np.array([c.std for c in channels], np.float64)
    normalised = (y - mean) / std
    unit = std.copy()  # of a silent output: its standard deviation
    for part in _by_output(b, names):
        unit[part] *= float(np.sqrt((normalised[:, part] ** 2).mean())) or 1.0
    return unit


def _lowest_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    spread = a.std(axis=0) * b.std(axis=0)
    if (spread == 0).any():
        return None
    product = (a - a.mean(axis=0)) * (b - b.mean(axis=0))
    return float((product.mean(axis=0) / spread).min())


def _ahead(manifest: Manifest) -> str:
    if manifest.task == "reconstruction":
        return "of the window itself"
    steps = "step" if manifest.horizon == 1 else "steps"
    return f"{manifest.horizon} {steps} ahead" if manifest.horizon else "no forecast"


def _some(names: Sequence[str], shown: int = 4) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
