"""The contract of every backend, run by the Python that has it: contract.py BACKEND ARTIFACT.

Prints the outputs of 200 steps as JSON. Needs no pytest, so that it runs where only the runtime
is installed.
"""

from __future__ import annotations

import json
import sys

import numpy as np

import edgelstm


def main() -> None:
    name, path = sys.argv[1:]
    x = edgelstm.load(path, backend=name).artifact.golden.x
    readings = np.concatenate([x, x])[:200]
    with edgelstm.load(path, backend=name) as session:
        assert session.backend == name
        first_broken = session.verify()
        raw = [session.step_raw(session.to_raw(row.astype(np.float64))) for row in readings]
        middle = session.state
        ahead = [session.step(row).tolist() for row in readings[:20]]
        session.state = middle
        assert [session.step(row).tolist() for row in readings[:20]] == ahead
        session.reset()
        again = [session.step_raw(session.to_raw(row.astype(np.float64))) for row in readings]
        assert np.array_equal(raw, again)
        assert first_broken is None, first_broken
    outputs = np.array(raw, np.float64).tolist()
    print(json.dumps({"outputs": outputs, "modules": sorted(sys.modules)}))  # noqa: T201


if __name__ == "__main__":
    main()
