"""Tells whether a model was trained on some readings, from a few excerpts that its file keeps.

Residuals on what a model was trained on are too small, and so is a threshold that is set on them
(docs/decisions/0004). A hash of all readings knows only the very same recording; the excerpts also
know a part of it, or its files in another order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

_COUNT = 64
_LENGTH = 16  # readings; what comes back by chance, as of a switch, is shorter
_ENOUGH = 2  # excerpts found: one may be chance


def take_excerpts(values: NDArray[np.float64]) -> tuple[str, ...]:
    """Hashes of excerpts of readings, (readings, channels), evenly spread; of none that rests."""
    last = len(values) - _LENGTH
    starts = np.linspace(0, max(last, 0), _COUNT).astype(int).tolist() if last >= 0 else []
    parts = (values[start : start + _LENGTH] for start in starts)
    return tuple(dict.fromkeys(_hash(part) for part in parts if (part != part[0]).any()))


def are_within(excerpts: Collection[str], values: NDArray[np.float64]) -> bool:
    """Whether excerpts come from these readings, (readings, channels), or from some of them."""
    wanted, found = set(excerpts), set()
    for start in range(len(values) - _LENGTH + 1 if wanted else 0):
        digest = _hash(values[start : start + _LENGTH])
        if digest in wanted:
            found.add(digest)
            if len(found) == _ENOUGH:
                return True
    return False


def _hash(values: NDArray[np.float64]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, np.float64).tobytes()).hexdigest()[:16]
