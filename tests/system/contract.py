"""The contract of every backend, run by the Python that has it: contract.py BACKEND ARTIFACT.

Prints the outputs of 200 readings as JSON. Needs no pytest, so that it runs where only the runtime
is installed.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from numpy.typing import NDArray

import edgelstm
from edgelstm.session import Session

Readings = NDArray[np.float64]


def outputs(session: Session, readings: Readings) -> list[list[float]]:
    """The raw outputs of every run."""
    found = []
    for x in readings:
        raw = session.step_raw(session.to_raw(x))
        if raw is not None:
            found.append(np.concatenate(raw).tolist())
    return found


def physical(session: Session, readings: Readings) -> list[list[float] | None]:
    """What every reading gives, in physical units."""
    given = [session.step(x) for x in readings]
    return [None if y is None else y.tolist() for y in given]


def main() -> None:
    name, path = sys.argv[1:]
    x = edgelstm.load(path, backend=name).artifact.golden.x.astype(np.float64)
    readings = np.concatenate([x] * (200 // len(x) + 1))[:200]
    with edgelstm.load(path, backend=name) as session:
        assert session.backend == name
        first_broken = session.verify()
        raw = outputs(session, readings)
        middle = session.state
        ahead = physical(session, readings[:20])
        session.state = middle
        assert physical(session, readings[:20]) == ahead
        session.reset()
        assert outputs(session, readings) == raw
        assert first_broken is None, first_broken
    print(json.dumps({"outputs": raw, "modules": sorted(sys.modules)}))  # noqa: T201


if __name__ == "__main__":
    main()
