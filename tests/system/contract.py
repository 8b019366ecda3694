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
from edgelstm.direct import closer_look
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


def check_direct_way(session: Session, readings: Readings) -> None:
    """The shortest way through a step gives what the careful one gives."""
    assert session._graph.memory is not None  # every runtime has its inner Invoke
    session.reset()
    expected = physical(session, readings[:50])
    way, session._open_way = session._open_way, closer_look
    session.reset()
    assert physical(session, readings[:50]) == expected
    session._open_way = way


def check_saved_state(session: Session, path: str, name: str, readings: Readings) -> None:
    """Another session goes on from the bytes of this one's state."""
    saved = session.state.save()
    with edgelstm.load(path, backend=name) as other:
        other.state = edgelstm.State.load(saved)
        assert physical(other, readings[:20]) == physical(session, readings[:20])


def check_streams(path: str, name: str, readings: Readings) -> None:
    """Streams give what sessions give, whatever tick they begin at."""
    starts = (0, 3, 11)
    with edgelstm.Streams(path, len(starts), backend=name) as streams:
        sessions = [edgelstm.load(path, backend=name) for _ in starts]
        # A batch may be computed by other kernels, which round otherwise.
        unit = np.concatenate([scaling.unit for scaling in sessions[0]._units.outputs])
        tolerance = 2 * unit * sessions[0].artifact.manifest.golden_tolerance
        for t in range(len(readings) - max(starts)):
            x = np.array([readings[t + start] for start in starts])
            y = streams.step(x)
            for row, session, own in zip(y, sessions, x, strict=True):
                expected = session.step(own)
                if expected is None:
                    assert np.isnan(row).all()
                else:
                    assert (np.abs(row - expected) <= tolerance).all(), (row, expected, tolerance)


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
        check_direct_way(session, readings)
        check_saved_state(session, path, name, readings)
    check_streams(path, name, readings[:40])
    print(json.dumps({"outputs": raw, "modules": sorted(sys.modules)}))  # noqa: T201


if __name__ == "__main__":
    main()
