"""A model drawn as a layered graph, from its inputs at the top to its outputs at the bottom.

Only the geometry: sizes are in CSS pixels, and a template turns boxes and paths into SVG.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import keras

from edgelstm_quantize.layer_graph import LayerGraph

layers = keras.layers

BOX_WIDTH = 256
BOX_HEIGHT = 46
_LANE = 18  # the room that an edge takes where it passes a rank
_GAP_X, _GAP_Y, _MARGIN = 24, 26, 6
_SWEEPS = 12
_LOOSE = 0.1  # how little an edge over several ranks pulls at the layers at its ends

_CELLS = {"LSTMCell": "LSTM", "GRUCell": "GRU", "SimpleRNNCell": "SimpleRNN"}


@dataclass(frozen=True)
class Node:
    """What a box stands for.

    Attributes:
        kind: "input", "layer", "recurrent" or "output".
        name: the user's.
        type: of the layer; "input" or "output".
        shape: of what it gives, without the batch axis: "time x 16".
        parameters: of the layer; None for what has none by nature, or for a later use of a layer.
        reads: names of the nodes that it reads.
    """

    kind: str
    name: str
    type: str
    shape: str
    parameters: int | None
    reads: tuple[str, ...]


@dataclass(frozen=True)
class Box:
    """A node and its upper left corner."""

    node: Node
    x: float
    y: float


@dataclass(frozen=True)
class Drawing:
    """A drawn model: its size, its boxes in reading order, and its arrows as SVG paths."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[str, ...]


def draw(graph: LayerGraph) -> Drawing:
    """Draws a model from top to bottom, in layers, with few crossings."""
    nodes, edges = _nodes(graph)
    net = _Net(len(nodes), edges)
    order = _untangle(net)
    centres = _place(net, order)
    left = min(x - net.width(v) / 2 for v, x in centres.items()) - _MARGIN
    right = max(x + net.width(v) / 2 for v, x in centres.items()) + _MARGIN
    pitch = BOX_HEIGHT + _GAP_Y
    boxes = {
        v: Box(nodes[v], round(centres[v] - left - BOX_WIDTH / 2, 1), _MARGIN + net.rank[v] * pitch)
        for v in range(len(nodes))
    }
    arrows = []
    for chain in net.chains:
        points = [(centres[v] - left, _MARGIN + net.rank[v] * pitch) for v in chain]
        arrows.append(_path(points))
    return Drawing(
        round(right - left, 1),
        2 * _MARGIN + len(order) * pitch - _GAP_Y,
        tuple(sorted(boxes.values(), key=lambda box: (box.y, box.x))),
        tuple(arrows),
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    """From the foot of the first point through the others to the head of the last."""
    x, top = points[0]
    y = top + BOX_HEIGHT
    parts = [f"M{x:.1f} {y:.1f}"]
    for i, (x2, y2) in enumerate(points[1:], start=2):
        end = y2 - (3 if i == len(points) else 0)  # room for the arrow's head
        middle = (y + end) / 2
        parts.append(f"C{x:.1f} {middle:.1f} {x2:.1f} {middle:.1f} {x2:.1f} {end:.1f}")
        if i < len(points):
            parts.append(f"V{y2 + BOX_HEIGHT:.1f}")
        x, y = x2, y2 + BOX_HEIGHT
    return "".join(parts)


def _nodes(graph: LayerGraph) -> tuple[list[Node], list[tuple[int, int]]]:
    """The nodes in an order in which they can be done, and who reads whom."""
    nodes: list[Node] = []
    edges: list[tuple[int, int]] = []
    makers: dict[int, int] = {}
    counted: set[int] = set()

    def add(kind: str, name: str, of: str, gives: Any, count: int | None, read: Any) -> int:
        sources = list(dict.fromkeys(makers[id(t)] for t in read if id(t) in makers))
        reads = tuple(nodes[i].name for i in sources)
        nodes.append(Node(kind, name, of, _shape(gives), count, reads))
        edges.extend((i, len(nodes) - 1) for i in sources)
        return len(nodes) - 1

    for end in graph.inputs:
        makers[id(end.tensor)] = add("input", end.name, "input", [end.tensor], None, ())
    for call in graph.calls:
        operation = call.operation
        recurrent = isinstance(operation, (layers.RNN, layers.Bidirectional))
        kind = "recurrent" if recurrent else "layer"
        count = None if id(operation) in counted else _parameters(operation)
        counted.add(id(operation))
        made = add(
            kind, str(operation.name), type_name(operation), call.outputs, count, call.inputs
        )
        makers.update((id(t), made) for t in call.outputs)
    for end in graph.outputs:
        add("output", end.name, "output", [end.tensor], None, [end.tensor])
    return nodes, edges


def type_name(operation: Any) -> str:
    """What kind of layer it is, as a user would say it: "LSTM", "Bidirectional(GRU)"."""
    kind = type(operation)
    name = kind.__name__
    if name.startswith("_"):  # one of ours, in place of the layer that it inherits from
        name = kind.__mro__[1].__name__
    if isinstance(operation, layers.Bidirectional):
        return f"{name}({type_name(operation.forward_layer)})"
    if isinstance(operation, layers.Wrapper):
        return f"{name}({type_name(operation.layer)})"
    if kind is layers.RNN:
        cell = operation.cell
        cells = [type(c).__name__ for c in getattr(cell, "cells", [cell])]
        if len(cells) == 1 and cells[0] in _CELLS:
            return _CELLS[cells[0]]
        return f"RNN({', '.join(cells)})"
    if isinstance(operation, layers.RNN):
        return name
    activation = getattr(getattr(operation, "activation", None), "__name__", "linear")
    return name if activation == "linear" else f"{name}, {activation}"


def _parameters(operation: Any) -> int | None:
    if not isinstance(operation, layers.Layer):
        return None
    return int(sum(math.prod(weight.shape) for weight in operation.weights))


def _shape(tensors: Sequence[Any]) -> str:
    # Without the batch axis; the other open one is time.
    shape = tensors[0].shape[1:]
    return " \N{MULTIPLICATION SIGN} ".join("time" if n is None else str(n) for n in shape) or "1"


class _Net:
    """Nodes in ranks; an edge over several ranks passes through a lane in each between.

    Lanes are nodes as well, numbered behind the others.
    """

    def __init__(self, count: int, edges: Sequence[tuple[int, int]]) -> None:
        self.real = count
        self.rank = _ranks(count, edges)
        self.chains: list[list[int]] = []
        for a, b in edges:
            lanes = range(len(self.rank), len(self.rank) + self.rank[b] - self.rank[a] - 1)
            self.rank += range(self.rank[a] + 1, self.rank[b])
            self.chains.append([a, *lanes, b])
        self.above: dict[int, list[int]] = defaultdict(list)
        self.below: dict[int, list[int]] = defaultdict(list)
        for chain in self.chains:
            for a, b in itertools.pairwise(chain):
                self.below[a].append(b)
                self.above[b].append(a)
        self._chain_above = _chains(range(count), self.above)
        self._chain_below = _chains(reversed(range(count)), self.below)

    def width(self, v: int) -> float:
        return BOX_WIDTH if v < self.real else _LANE

    def pull(self, v: int, u: int) -> float:
        """How much a neighbour `u` pulls at `v`.

        Lanes follow lanes, and layers hardly follow lanes. Of several layers the one with the
        longest unbroken chain behind it counts most, so that a model's trunk stands straight.
        """
        if v >= self.real or u >= self.real:
            return _LOOSE if min(v, u) < self.real else 1.0
        chain = self._chain_below if self.rank[u] > self.rank[v] else self._chain_above
        return float(chain[u]) ** 2


def _chains(order: Iterable[int], onwards: Mapping[int, Sequence[int]]) -> dict[int, int]:
    """For each layer, how many layers follow one another from it on without a lane between.

    Args:
        order: the layers, each behind those that come after it.
        onwards: the nodes that come after each.
    """
    length: dict[int, int] = {}
    for v in order:
        length[v] = 1 + max((length.get(u, 0) for u in onwards.get(v, ())), default=0)
    return length


def _ranks(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The longest way from an input; an input stands just above its first reader."""
    rank = [0] * count
    for a, b in sorted(edges, key=lambda edge: edge[1]):  # nodes are in order
        rank[b] = max(rank[b], rank[a] + 1)
    readers = defaultdict(list)
    for a, b in edges:
        readers[a].append(rank[b])
    fed = {b for _, b in edges}
    for v in range(count):
        if v not in fed and readers[v]:
            rank[v] = min(readers[v]) - 1
    return rank


def _untangle(net: _Net) -> list[list[int]]:
    """An order within each rank, by barycentres; the best of some sweeps up and down."""
    order: list[list[int]] = [[] for _ in range(max(net.rank) + 1)]
    for v in _depth_first(net):
        order[net.rank[v]].append(v)
    best, fewest = [list(row) for row in order], _crossings(net, order)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        towards = net.above if down else net.below
        position = {v: i for row in order for i, v in enumerate(row)}
        for row in order if down else reversed(order):
            mean = {
                v: fmean(position[u] for u in towards[v]) if towards[v] else position[v]
                for v in row
            }
            row.sort(key=mean.__getitem__)
            position.update((v, i) for i, v in enumerate(row))
        crossings = _crossings(net, order)
        if crossings < fewest:
            best, fewest = [list(row) for row in order], crossings
    return best


def _depth_first(net: _Net) -> Iterator[int]:
    seen: set[int] = set()
    stack = [v for v in reversed(range(net.real)) if not net.above[v]]
    while stack:
        v = stack.pop()
        if v not in seen:
            seen.add(v)
            yield v
            stack += reversed(net.below[v])


def _crossings(net: _Net, order: Sequence[Sequence[int]]) -> int:
    found = 0
    for row, after in itertools.pairwise(order):
        position = {v: i for i, v in enumerate(after)}
        seen: list[int] = []
        for v in row:
            ends = [position[u] for u in net.below[v]]
            found += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return found


def _place(net: _Net, order: Sequence[Sequence[int]]) -> dict[int, float]:
    """The centre of each node: near its neighbours, in order, without overlap."""
    x: dict[int, float] = {}
    for row in order:
        at = 0.0
        for v in row:
            x[v] = at + net.width(v) / 2
            at += net.width(v) + _GAP_X
    for sweep in range(2 * _SWEEPS):
        towards = net.above if sweep % 2 == 0 else net.below
        for row in order if sweep % 2 == 0 else reversed(order):
            wanted, weights = [], []
            for v in row:
                pulls = [(net.pull(v, u), x[u]) for u in towards[v]] or [(0.01, x[v])]
                weight = sum(pull for pull, _ in pulls)
                wanted.append(sum(pull * at for pull, at in pulls) / weight)
                weights.append(weight)
            x.update(zip(row, _spread(wanted, weights, [net.width(v) for v in row]), strict=True))
    return x


def _spread(
    wanted: Sequence[float], weights: Sequence[float], widths: Sequence[float]
) -> list[float]:
    """The places nearest to the wanted ones (least squares) that keep order and distance."""
    offsets = [0.0]
    for a, b in itertools.pairwise(widths):
        offsets.append(offsets[-1] + (a + b) / 2 + _GAP_X)
    # Pool adjacent violators: [sum of weight * place, sum of weight, members].
    pools: list[list[float]] = []
    for place, weight, offset in zip(wanted, weights, offsets, strict=True):
        pools.append([weight * (place - offset), weight, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    places = [total / weight for total, weight, members in pools for _ in range(int(members))]
    return [place + offset for place, offset in zip(places, offsets, strict=True)]
