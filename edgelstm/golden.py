"""The self-test of an artifact: what a replay of its golden vectors gave, against what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.artifact import Artifact


@dataclass(frozen=True)
class Difference:
    """Where a replay first left the golden vectors.

    Attributes:
        run: which run, from 0; of a stream every reading is one.
        target: name of the target that is furthest off there.
        got: its raw value.
        expected: what it should have been.
        tolerance: by how much it may differ.
    """

    run: int
    target: str
    got: float
    expected: float
    tolerance: float

    def __str__(self) -> str:
        return (
            f"run {self.run}, target {self.target!r}: {self.got:.6g} instead of "
            f"{self.expected:.6g} (tolerance {self.tolerance:.3g})"
        )


@dataclass(frozen=True)
class GoldenCheck:
    """What a replay of the golden vectors showed.

    Attributes:
        runs: how many there are.
        worst: the largest difference, as a share of what is tolerated.
        first: the first difference that is not tolerated; None when all hold.
    """

    runs: int
    worst: float
    first: Difference | None


def check_golden(artifact: Artifact, replayed: Sequence[NDArray[Any]]) -> GoldenCheck:
    """Compares a replay with the golden vectors.

    Args:
        artifact: that was replayed.
        replayed: the raw outputs of each run, (targets,).
    """
    expected = artifact.golden.y.astype(np.float64)
    if not len(expected):
        return GoldenCheck(0, 0.0, None)
    tolerance = np.array(artifact.manifest.golden_tolerance)
    got = np.array(replayed, np.float64)
    # A tolerance of 0 is a tolerance too, and NaN agrees with nothing.
    share = np.abs(got - expected) / np.maximum(tolerance, np.finfo(np.float64).tiny)
    share[np.isnan(share)] = np.inf
    broken = np.flatnonzero((share > 1).any(axis=1))
    first = None
    if len(broken):
        i = int(broken[0])
        k = int(share[i].argmax())
        name = artifact.manifest.targets[k].name
        values = (float(v) for v in (got[i, k], expected[i, k], tolerance[k]))
        first = Difference(i, name, *values)
    return GoldenCheck(len(expected), float(share.max()), first)
