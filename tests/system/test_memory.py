"""Memory over many steps: it does not grow, and nothing is used after it was freed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[1] / "data"

# Runs a way of stepping many times in a process of its own; prints by how many bytes its memory
# grew, as the system has it and, in a shorter run, as Python has it.
GROWTH = """
import gc, json, os, sys, tracemalloc
import numpy as np
import edgelstm
from edgelstm import EdgelstmError, State, Streams

path, way, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
session = edgelstm.load(path)
x = session.artifact.golden.x.astype(np.float64)
rows = [x.tolist(), x][way == "array"]
n = len(rows)
if way == "careful":
    from edgelstm.direct import closer_look
    session._open_way = closer_look
streams = Streams(path, 8) if way == "streams" else None

def run(count):
    step = session.step
    if way in ("list", "array", "careful", "step"):
        for i in range(count):
            step(rows[i % n])
    elif way == "hold":
        missing = [float("nan")] * len(rows[0])
        for i in range(count):
            step(missing if i % 17 < 12 else rows[i % n])
    elif way == "refused":
        for i in range(count):
            try:
                step([*rows[0], 1.0] if i % 2 else "none")
            except EdgelstmError:
                step(rows[i % n])
    elif way == "state":
        for i in range(count):
            session.state = State.load(session.state.save()) if i % 8 == 0 else session.state
            step(rows[i % n])
    elif way == "streams":
        for i in range(count):
            streams.step(x[(i + np.arange(8)) % n])
    elif way == "open":
        for i in range(count):
            with edgelstm.load(path) as other:
                kept = [other.step(rows[0]), other.state]

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

run(steps // 10)
before = resident()
run(steps - steps // 10)
grown = resident() - before
tracemalloc.start()
run(steps // 50)
gc.collect()
traced = tracemalloc.get_traced_memory()[0]
run(steps // 20)
gc.collect()
print(json.dumps({"resident": grown, "traced": tracemalloc.get_traced_memory()[0] - traced}))
"""


def python(script: str, *arguments: object, **environment: str) -> Any:
    """What a script prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux knows what is resident")
@pytest.mark.parametrize(
    ("name", "way", "steps"),
    [
        ("tiny_float", "list", 1_000_000),
        ("tiny_float32", "array", 1_000_000),
        ("tiny_float", "careful", 60_000),
        ("tiny", "step", 60_000),
        ("tiny_ports", "step", 40_000),
        ("tiny_tokens", "step", 40_000),
        ("tiny_window", "step", 60_000),
        ("tiny_float", "hold", 60_000),
        ("tiny_float", "refused", 40_000),
        ("tiny_float", "state", 20_000),
        ("tiny_window", "state", 20_000),
        ("tiny_float", "streams", 40_000),
    ],
)
def test_memory_does_not_grow_with_the_steps(name: str, way: str, steps: int) -> None:
    grown = python(GROWTH, DATA / f"{name}.tflite", way, steps)
    # Less than the smallest object for each step: the allocator may take some pages once.
    assert grown["resident"] < 256 * 1024 < 16 * steps
    assert grown["traced"] < 2048


def test_sessions_that_are_closed_give_their_memory_back() -> None:
    grown = python(GROWTH, DATA / "tiny_float.tflite", "open", 300)
    assert grown["resident"] < 2 * 1024 * 1024  # 270 interpreters, of about 100 kB each
    assert grown["traced"] < 8192


# Steps in all ways, with outputs and states that outlive their session; prints what was given.
USE = """
import gc, hashlib, json, sys
import numpy as np
import edgelstm

given = []
for path in sys.argv[1:]:
    kept = []
    for policy in ("hold", "skip"):
        session = edgelstm.load(path, invalid=policy)
        rows = session.artifact.golden.x.astype(np.float64)
        for i, x in enumerate(rows):
            kept.append(session.step(x if i % 3 else x.tolist()))
            if i % 5 == 0:
                kept.append(session.step([float("nan")] * len(x)))
            if i % 7 == 0:
                kept += session.step_raw(session.to_raw(x)) or []
            state = session.state
            kept += [*state.values(), *(state.last or {}).values()]
            if i % 11 == 0:
                session.state = edgelstm.State.load(state.save())
            if i % 30 == 29:
                session.close()
                del session
                gc.collect()
                session = edgelstm.load(path, invalid=policy)
                session.state = state
        assert session.verify() is None
        session.close()
        del session, state
        gc.collect()
    streams = edgelstm.Streams(path, 3)
    for i in range(len(rows)):
        kept.append(streams.step(rows[(i + 7 * np.arange(len(streams))) % len(rows)]))
        if i % 20 == 19:
            streams.join()
        kept += streams.state(0).values()
    streams.close()
    del streams
    gc.collect()
    digest = hashlib.sha256()
    for value in kept:
        digest.update(b"none" if value is None else value.tobytes())
    given.append([len(kept), digest.hexdigest()])
print(json.dumps(given))
"""


def test_nothing_is_used_after_it_was_freed() -> None:
    """Freed memory is overwritten: what still reads it gives other numbers, or dies."""
    paths = sorted(DATA.glob("tiny*.tflite"))
    plain = python(USE, *paths)
    assert len(plain) == len(paths)
    assert all(count > 400 for count, _ in plain)
    assert python(USE, *paths) == plain
    for perturb in ("85", "170"):
        assert python(USE, *paths, PYTHONMALLOC="malloc", MALLOC_PERTURB_=perturb) == plain
    assert python(USE, *paths, PYTHONMALLOC="debug", MALLOC_PERTURB_="85") == plain
    assert python(USE, *paths, PYTHONMALLOC="malloc_debug", MALLOC_CHECK_="3") == plain
