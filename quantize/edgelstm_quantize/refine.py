"""Makes full int8 lose less: cell states in groups, and ranges that clip a little.

Both are tried on windows of the calibration recording that gave no ranges, and kept only where
they help there (docs/decisions/0011).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from edgelstm.backends import Wiring, open_graph
from edgelstm.manifest import SIGNATURE
from edgelstm_quantize.calibration import Calibration, Feed, Ranges
from edgelstm_quantize.layer_graph import LayerGraph
from edgelstm_quantize.quantization import QuantizedGraph
from edgelstm_quantize.step_graph import Groups

_GROUPS = 4
_FEWEST_UNITS = 16  # in fewer, a group is a unit or two, and one that was quiet so far clips
_FACTORS = (0.9, 0.8, 0.7, 0.6)
_WORTH = 0.05  # less is luck: on readings of another day such a gain often is a loss


def groups_of_units(graph: LayerGraph, owners: Sequence[str], calibration: Calibration) -> Groups:
    """The units of each LSTM layer in groups of alike size of their cell state.

    Args:
        graph: the layers.
        owners: the layer of each state.
        calibration: of the graph without groups.
    """
    lstms = {
        call.operation.name
        for call in graph.calls
        if isinstance(call.operation, keras.layers.RNN)
        and type(call.operation.cell) is keras.layers.LSTMCell
    }
    groups: dict[str, list[NDArray[np.intp]]] = {}
    for i, owner in enumerate(owners):
        # The states of an LSTM are the hidden state and the cell state, in this order.
        if owner in lstms and i and owners[i - 1] == owner:
            units = calibration.unit_ranges[i]
            if len(units) >= _FEWEST_UNITS:
                groups[owner] = _split(units)
    return groups


def _split(largest: NDArray[np.float32]) -> list[NDArray[np.intp]]:
    """Splits units into groups, sorted by size, with the least sum of count * size^2.

    The noise of a group's state grows with the square of its largest unit, for each of its units.
    """
    order = np.argsort(largest, kind="stable")
    sizes = largest[order].astype(np.float64) ** 2
    count = len(order)
    starts = np.arange(count)
    # least[j]: for the first j units in the groups so far.
    least = np.concatenate([[0.0], np.full(count, np.inf)])
    cuts: list[NDArray[np.intp]] = []
    for _ in range(min(_GROUPS, count)):
        cut = np.zeros(count + 1, np.intp)
        after = np.full(count + 1, np.inf)
        for stop in range(1, count + 1):
            costs = least[:stop] + (stop - starts[:stop]) * sizes[stop - 1]
            cut[stop] = int(np.argmin(costs))
            after[stop] = costs[cut[stop]]
        cuts.append(cut)
        least = after
    groups = []
    stop = count
    for cut in reversed(cuts):
        groups.append(order[cut[stop] : stop])
        stop = int(cut[stop])
    return [np.sort(group) for group in reversed(groups) if len(group)]


@dataclass(frozen=True)
class Loss:
    """How far a quantised graph is from the float graph, relative to the rms of its output.

    Attributes:
        mean: mean |error|.
        worst: largest |error|.
    """

    mean: float
    worst: float

    def improves(self, other: Loss, by: float) -> bool:
        """Whether the mean is less by a share, and the worst no more than a quarter more."""
        return self.mean < other.mean * (1 - by) and self.worst <= other.worst * 1.25


@dataclass(frozen=True)
class Judge:
    """Rolls quantised graphs out and says how far they are from the float graph.

    Attributes:
        feeds: normalised inputs, each run from zero states.
        expected: what the float graph gives for each, (steps, targets).
    """

    feeds: Sequence[Feed]
    expected: Sequence[NDArray[np.float64]]

    def __call__(self, quantized: QuantizedGraph) -> Loss:
        """The loss, the mean of it over the feeds."""
        errors = [
            np.abs(rollout(quantized, feed) - y) / (np.sqrt((y**2).mean()) or 1.0)
            for feed, y in zip(self.feeds, self.expected, strict=True)
        ]
        return Loss(
            float(np.mean([error.mean() for error in errors])),
            float(max(error.max() for error in errors)),
        )


def rollout(quantized: QuantizedGraph, feed: Feed) -> NDArray[np.float64]:
    """Steps a graph from zero states; gives its outputs side by side, (steps, targets)."""
    wiring = Wiring(quantized.inputs, quantized.outputs, quantized.states, SIGNATURE)
    graph = open_graph(quantized.flatbuffer, wiring, "litert")
    graph.states = [
        np.full(pair.input.shape, pair.input.zero_point, pair.input.dtype)
        for pair in quantized.states
    ]
    inputs = []
    for spec in quantized.inputs:
        values = feed[spec.name]
        if spec.scale:
            limits = np.iinfo(spec.dtype)
            values = np.rint(values / spec.scale) + spec.zero_point
            values = np.clip(values, limits.min, limits.max)
        inputs.append(values.astype(spec.dtype))
    rows = [
        [y.reshape(-1) for y in graph.run([values[i] for values in inputs])]
        for i in range(len(inputs[0]))
    ]
    outputs = []
    for k, spec in enumerate(quantized.outputs):
        y = np.array([row[k] for row in rows], np.float64)
        outputs.append((y - spec.zero_point) * spec.scale if spec.scale else y)
    return np.concatenate(outputs, axis=1)


def search_clips(
    make: Callable[[Ranges], QuantizedGraph],
    judge: Callable[[QuantizedGraph], Loss],
    ranges: Ranges,
    tensors: Sequence[Sequence[str]],
    on_trial: Callable[[int, int], None],
) -> Ranges:
    """Shrinks the ranges of some tensors where that helps, one after the other.

    Args:
        make: quantises with ranges.
        judge: says how wrong the result is.
        ranges: to start from.
        tensors: names of tensors that shrink together, the most important first.
        on_trial: told how many of the tensors are done.

    Returns:
        The ranges.
    """
    best, least = dict(ranges), judge(make(ranges))
    for i, names in enumerate(tensors):
        on_trial(i, len(tensors))
        for factor in _FACTORS:
            tried = best | {
                name: (ranges[name][0] * factor, ranges[name][1] * factor) for name in names
            }
            loss = judge(make(tried))
            if not loss.improves(least, _WORTH):
                break
            best, least = tried, loss
    return best
