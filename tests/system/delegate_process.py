"""A process with a delegate, for tests: delegate_process.py MODE MODEL CPU_MODEL ARTIFACT LIBRARY.

MODEL is the graph of ARTIFACT as it would be compiled for the delegate of
`tests/data/standin_delegate.c`, CPU_MODEL the same for the CPU. LIBRARY may have options; that
named `control` is the file that tells the delegate what to do.

- `outlive`: steps 60 readings on the CPU and on the delegate, which hangs at reading 20 and comes
  back at reading 40; prints as JSON what was found. Needs no pytest, so that it runs where only the
  runtime is installed.
- `wait`: prints the child's process id once it is there, and waits to be killed.
- `interrupted`: the same, and steps on after Ctrl-C; then prints what ran where.
- `fork`: steps, forks a process that ends at once, and steps again; then prints what ran where.
- `forget`: ends without closing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.backends import open_graph
from edgelstm.backends.delegated import DelegatedGraph, Patience, open_delegated
from edgelstm.backends.delegates import parse_delegate
from edgelstm.backends.graph import Wiring

NEVER = 3600.0
PATIENT = Patience(step=2.0, load=60.0, heartbeat=NEVER, first_retry=NEVER, last_retry=NEVER)
RETRYING = dataclasses.replace(PATIENT, first_retry=0.05, last_retry=0.4)


def readings(wiring: Wiring, count: int) -> list[list[NDArray[Any]]]:
    """Raw inputs that wander."""
    rng = np.random.default_rng(1)
    (spec,) = wiring.inputs
    walk = np.cumsum(rng.normal(0, 10, (count, *spec.shape)), axis=0)
    return [[np.clip(x, -128, 127).astype(spec.dtype)] for x in walk]


def zero_states(wiring: Wiring) -> list[NDArray[Any]]:
    specs = [pair.input for pair in wiring.states]
    return [np.full(spec.shape, spec.zero_point, spec.dtype) for spec in specs]


def wait_for(what: Any) -> None:
    """Waits until something is so; a test that waits in vain fails by its time limit."""
    while not what():
        time.sleep(0.01)


def outlive(graph: DelegatedGraph, model: bytes, wiring: Wiring, control: Path) -> None:
    on_cpu = open_graph(model, wiring)
    on_cpu.states = graph.states = zero_states(wiring)
    found: dict[str, Any] = {"backend": graph.backend, "expected": [], "outputs": []}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i, x in enumerate(readings(wiring, 60)):
            if i == 20:
                control.write_text("hang")
            if i == 40:
                control.write_text("ok")
                wait_for(lambda: graph.active == "delegate")
            found["expected"].append([y.tolist() for y in (*on_cpu.run(x), *on_cpu.states)])
            found["outputs"].append([y.tolist() for y in (*graph.run(x), *graph.states)])
    found["warnings"] = [str(warning.message) for warning in caught]
    found["counters"] = dataclasses.asdict(graph.counters)
    found["modules"] = sorted(sys.modules)
    graph.close()
    print(json.dumps(found))  # noqa: T201


def interrupted(graph: DelegatedGraph, wiring: Wiring) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    x = readings(wiring, 1)[0]
    graph.run(x)
    try:
        print("ready", flush=True)  # noqa: T201
        time.sleep(NEVER)
    except KeyboardInterrupt:
        graph.run(x)
        print(json.dumps(dataclasses.asdict(graph.counters)))  # noqa: T201


def fork(graph: DelegatedGraph, wiring: Wiring) -> None:
    x = readings(wiring, 1)[0]
    graph.run(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of forks with threads
        pid = os.fork()
    if pid == 0:
        sys.exit()
    os.waitpid(pid, 0)
    graph.run(x)
    print(json.dumps(dataclasses.asdict(graph.counters)))  # noqa: T201


def main() -> None:
    mode, model, cpu_model, artifact, library = sys.argv[1:]
    delegate = parse_delegate(library)
    wiring = Wiring.of(Artifact.read(artifact).manifest)
    cpu = Path(cpu_model).read_bytes()
    patience = RETRYING if mode == "outlive" else PATIENT
    graph = open_delegated(
        Path(model).read_bytes(), wiring, delegate, cpu_flatbuffer=cpu, patience=patience
    )
    if mode == "outlive":
        outlive(graph, cpu, wiring, Path(delegate.options["control"]))
    elif mode == "interrupted":
        interrupted(graph, wiring)
    elif mode == "fork":
        fork(graph, wiring)
    elif mode == "wait":
        print("ready", flush=True)  # noqa: T201
        time.sleep(NEVER)


if __name__ == "__main__":
    main()
