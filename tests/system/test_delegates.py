"""Delegates in a child process, with a stand-in for Coral's library.

The model is `tiny` with one operation more, the identity, of the kind that Coral's compiler writes:
only a delegate knows it, and the numbers stay those of `tiny`.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from delegate_process import NEVER, PATIENT, RETRYING, readings, wait_for, zero_states
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.backends import open_graph
from edgelstm.backends.delegated import (
    DelegateCounters,
    DelegatedGraph,
    Patience,
    open_delegated,
)
from edgelstm.backends.graph import Delegate, Graph, Wiring
from edgelstm.errors import BackendError, ConfigurationError, DelegateError, DelegateWarning
from edgelstm_quantize.flatbuffer import pack, read

TESTS = Path(__file__).parent.parent
TINY = TESTS / "data/tiny.tflite"
OLD_PYTHON = TESTS.parent / ".venv-tflite-runtime" / "bin" / "python"
BEATING = dataclasses.replace(PATIENT, heartbeat=0.05)
Raw = list[NDArray[Any]]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in, under the name of Coral's library."""
    path = tmp_path_factory.mktemp("standin") / "libedgetpu.so.1"
    source = TESTS / "data/standin_delegate.c"
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]
    subprocess.run([*command, str(path), str(source)], check=True)
    return path


@pytest.fixture(scope="session")
def tiny() -> Artifact:
    return Artifact.read(TINY)


@pytest.fixture(scope="session")
def wiring(tiny: Artifact) -> Wiring:
    return Wiring.of(tiny.manifest)


@pytest.fixture(scope="session")
def compiled(tiny: Artifact) -> bytes:
    """The graph of `tiny`, with an operation of Coral's compiler in front that does nothing."""
    model = read(tiny.flatbuffer)
    graph = model.subgraphs[0]
    (x,) = (t.tensorIndex for t in model.signatureDefs[0].inputs if t.name == b"x")
    result = copy.copy(graph.tensors[x])
    result.name = b"x_on_the_edge_tpu"
    for operation in graph.operators:
        operation.inputs = [len(graph.tensors) if i == x else i for i in operation.inputs]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = b"edgetpu-custom-op", 1
    operation = schema.OperatorT()
    operation.opcodeIndex = len(model.operatorCodes)
    operation.inputs, operation.outputs = [x], [len(graph.tensors)]
    model.operatorCodes.append(code)
    graph.tensors.append(result)
    graph.operators.insert(0, operation)
    return pack(model)


@dataclasses.dataclass
class StandIn:
    """The delegate of a test.

    Attributes:
        control: the file that tells it what to do.
        delegate: what to load.
    """

    control: Path
    delegate: Delegate

    def do(self, what: str) -> None:
        self.control.write_text(what)

    @property
    def loads(self) -> list[str]:
        """Of each process that loaded it, and of each that tried, the id and the device."""
        return self._noted("loads")

    @property
    def unloads(self) -> list[int]:
        """The processes that let go of it as they should."""
        return [int(line) for line in self._noted("unloads")]

    @property
    def pids(self) -> list[int]:
        return [int(line.split()[0]) for line in self.loads]

    def _noted(self, kind: str) -> list[str]:
        notes = self.control.with_name(f"{self.control.name}.{kind}")
        return notes.read_text().splitlines() if notes.exists() else []


@pytest.fixture
def standin(library: Path, tmp_path: Path) -> StandIn:
    control = tmp_path / "control"
    return StandIn(control, Delegate(str(library), {"control": str(control)}))


Opener = Callable[..., DelegatedGraph]


@pytest.fixture
def opened(compiled: bytes, tiny: Artifact, wiring: Wiring, standin: StandIn) -> Iterator[Opener]:
    """Opens graphs with zero states, and closes them after the test."""
    with contextlib.ExitStack() as stack:

        def opened(patience: Patience = PATIENT, **options: Any) -> DelegatedGraph:
            graph = open_delegated(
                compiled,
                wiring,
                standin.delegate,
                cpu_flatbuffer=tiny.flatbuffer,
                patience=patience,
                **options,
            )
            stack.callback(graph.close)
            graph.states = zero_states(wiring)
            return graph

        yield opened


@pytest.fixture
def on_cpu(tiny: Artifact, wiring: Wiring) -> Graph:
    graph = open_graph(tiny.flatbuffer, wiring)
    graph.states = zero_states(wiring)
    return graph


def run(graph: Graph, steps: list[Raw]) -> list[Raw]:
    """Outputs and next states of each step."""
    return [[*graph.run(x), *graph.states] for x in steps]


def assert_same(ours: list[Raw], theirs: list[Raw]) -> None:
    for step, wanted in zip(ours, theirs, strict=True):
        for array, other in zip(step, wanted, strict=True):
            np.testing.assert_array_equal(array, other, strict=True)


def is_there(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def zombies() -> list[str]:
    """What this process has not reaped."""
    children = Path("/proc/self/task").glob("*/children")
    pids = [pid for path in children for pid in path.read_text().split()]
    return [pid for pid in pids if not is_there(int(pid))]


def test_steps_on_the_delegate_are_those_on_the_cpu(
    opened: Opener, on_cpu: Graph, wiring: Wiring, standin: StandIn
) -> None:
    graph = opened()
    assert (graph.backend, graph.release) == (on_cpu.backend, on_cpu.release)
    assert (graph.active, graph.memory) == ("delegate", None)
    steps = readings(wiring, 50)
    assert_same(run(graph, steps), run(on_cpu, steps))
    assert_same([graph.inputs], [on_cpu.inputs])
    assert graph.counters == DelegateCounters(
        delegate_steps=50, operations=19, delegated_operations=1
    )
    assert not standin.unloads
    graph.close()
    assert len(standin.pids) == 1
    assert standin.unloads == standin.pids  # a device that is not let go of may hang the next time


def test_states_can_be_set_and_are_copies(opened: Opener, on_cpu: Graph, wiring: Wiring) -> None:
    graph, steps = opened(), readings(wiring, 20)
    run(graph, steps[:10])
    middle = graph.states
    ahead = run(graph, steps[10:])
    graph.states = middle
    for state in middle:
        state[...] = 99
    assert_same(run(graph, steps[10:]), ahead)
    run(on_cpu, steps[:10])
    assert_same(ahead, run(on_cpu, steps[10:]))


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("hang", "did not answer within 2 s"),
        ("crash", r"crashed \(SIGSEGV\): F standin.c:1 transfer failed"),
        ("exit", r"ended without an answer \(exit code 3\)"),
        ("error", "failed: .*failed to invoke"),
    ],
)
def test_a_step_that_fails_is_done_on_the_cpu(
    trouble: str, said: str, opened: Opener, on_cpu: Graph, wiring: Wiring, standin: StandIn
) -> None:
    graph, steps = opened(), readings(wiring, 60)
    found = run(graph, steps[:20])
    standin.do(trouble)
    message = rf"The delegate \S+/libedgetpu.so.1 {said}.*; the steps go on on the CPU, and it is "
    with pytest.warns(DelegateWarning, match=message) as caught:
        found += run(graph, steps[20:])
    assert len(caught) == 1
    assert_same(found, run(on_cpu, steps))
    assert graph.active == "cpu"
    assert graph.counters == DelegateCounters(20, 40, 1, 0, NEVER, 19, 1)
    wait_for(lambda: not any(map(is_there, standin.pids)))


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("hang-at-load", "was not loaded within 3 s"),
        ("crash-at-load", r"crashed \(SIGSEGV\): F standin.c:1 transfer failed"),
        ("refuse", "failed: .*Failed to open device"),
        ("hang", "was not loaded within 3 s"),  # the runtime's first run
        ("wrong", "computes other numbers than the CPU"),
    ],
)
def test_a_delegate_that_cannot_be_loaded_leaves_the_steps_to_the_cpu(
    trouble: str, said: str, opened: Opener, on_cpu: Graph, wiring: Wiring, standin: StandIn
) -> None:
    patience = dataclasses.replace(PATIENT, load=3.0 if "hang" in trouble else 60.0)
    standin.do(trouble)
    with pytest.warns(DelegateWarning, match=said) as caught:
        graph = opened(patience)
    assert len(caught) == 1
    steps = readings(wiring, 20)
    assert_same(run(graph, steps), run(on_cpu, steps))
    assert graph.counters == DelegateCounters(0, 20, 1, 0, NEVER)
    with pytest.raises(DelegateError, match=said):
        opened(patience, required=True)
    assert not any(map(is_there, standin.pids))
    assert not zombies()


def test_a_library_that_is_not_there(compiled: bytes, tiny: Artifact, wiring: Wiring) -> None:
    options: dict[str, Any] = {"cpu_flatbuffer": tiny.flatbuffer, "required": True}
    with pytest.raises(DelegateError, match=r"failed: .*libnone.so: cannot open shared object"):
        open_delegated(compiled, wiring, "libnone.so", **options)
    with pytest.raises(ConfigurationError, match="No delegate is called"):
        open_delegated(compiled, wiring, "none", **options)


def test_the_edge_tpu_is_found_by_its_name(
    compiled: bytes,
    tiny: Artifact,
    wiring: Wiring,
    library: Path,
    standin: StandIn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    monkeypatch.setenv("STANDIN_CONTROL", str(standin.control))
    graph = open_delegated(
        compiled, wiring, "edgetpu:usb:1", cpu_flatbuffer=tiny.flatbuffer, required=True
    )
    graph.close()
    assert [line.split()[1] for line in standin.loads] == ["usb:1"]


def test_a_delegate_that_takes_nothing_is_told(
    tiny: Artifact, wiring: Wiring, standin: StandIn, on_cpu: Graph
) -> None:
    with pytest.warns(DelegateWarning, match="takes none of the 18 operations of this model"):
        graph = open_delegated(tiny.flatbuffer, wiring, standin.delegate, patience=PATIENT)
    graph.states = zero_states(wiring)
    steps = readings(wiring, 20)
    assert_same(run(graph, steps), run(on_cpu, steps))
    assert graph.counters == DelegateCounters(
        delegate_steps=20, operations=18, delegated_operations=0
    )
    graph.close()


def test_it_comes_back_between_two_steps(
    opened: Opener, on_cpu: Graph, wiring: Wiring, standin: StandIn
) -> None:
    graph, steps = opened(RETRYING), readings(wiring, 60)
    found = run(graph, steps[:20])
    for start, trouble in ((20, "crash"), (40, "error")):
        standin.do(trouble)
        with pytest.warns(DelegateWarning) as caught:
            found += run(graph, steps[start : start + 10])
        assert len(caught) == 1
        # The first step of the next ten runs there again.
        standin.do("ok")
        wait_for(lambda: graph.active == "delegate")
        found += run(graph, steps[start + 10 : start + 20])
    assert_same(found, run(on_cpu, steps))
    assert graph.counters.fallbacks == 2
    assert graph.counters.delegate_steps == 40
    assert graph.counters.cpu_steps == 20
    assert graph.counters.retries >= 2


def test_tries_become_rarer(opened: Opener, wiring: Wiring, standin: StandIn) -> None:
    standin.do("refuse")
    with pytest.warns(DelegateWarning):
        graph = opened(RETRYING)
    delays: list[float] = []

    def five() -> bool:
        if (delay := graph.counters.retry_delay) not in delays:
            delays.append(delay)
        return graph.counters.retries >= 5

    wait_for(five)
    assert delays == [0.05, 0.1, 0.2, 0.4]
    assert graph.counters.fallbacks == 1
    standin.do("ok")
    wait_for(lambda: graph.active == "delegate")
    # A delegate that fails again at once is not tried at once again, one that served long is.
    for served, expected in ((0.0, 0.4), (RETRYING.last_retry, 0.05)):
        time.sleep(served)
        standin.do("error")
        with pytest.warns(DelegateWarning, match=r"\(failure \d\)"):
            graph.run(readings(wiring, 1)[0])
        assert graph.counters.retry_delay == expected
        standin.do("ok")
        wait_for(lambda: graph.active == "delegate")


@pytest.mark.parametrize("trouble", ["hang", "crash", "error"])
def test_a_failure_between_two_steps_is_found_before_the_next(
    trouble: str, opened: Opener, on_cpu: Graph, wiring: Wiring, standin: StandIn
) -> None:
    graph, steps = opened(BEATING), readings(wiring, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = run(graph, steps[:10])
        ran = graph.counters.delegate_steps
        standin.do(trouble)
        wait_for(lambda: graph.counters.fallbacks == 1)
    assert graph.active == "cpu"
    with pytest.warns(DelegateWarning) as caught:
        found += run(graph, steps[10:])
    assert len(caught) == 1
    assert graph.counters.delegate_steps == ran
    assert_same(found, run(on_cpu, steps))


def test_no_step_waits_for_a_heartbeat_that_is_late(
    opened: Opener, on_cpu: Graph, wiring: Wiring, standin: StandIn
) -> None:
    graph, steps = opened(dataclasses.replace(BEATING, step=NEVER)), readings(wiring, 20)
    found = run(graph, steps[:10])
    standin.do("hang")
    wait_for(lambda: graph.active == "cpu")  # late, and not given up for an hour
    found += run(graph, steps[10:])
    assert graph.counters.fallbacks == 0
    assert graph.counters.cpu_steps >= 10
    assert_same(found, run(on_cpu, steps))


def test_a_heartbeat_changes_nothing(opened: Opener, on_cpu: Graph, wiring: Wiring) -> None:
    graph = opened(dataclasses.replace(BEATING, heartbeat=0.001))
    found = []
    for x in readings(wiring, 20):
        found += run(graph, [x])
        time.sleep(0.02)
    assert_same(found, run(on_cpu, readings(wiring, 20)))
    assert graph.counters.fallbacks == 0


@pytest.mark.parametrize("heartbeat", [NEVER, 0.0])
def test_what_libraries_print_does_no_harm(
    heartbeat: float, opened: Opener, on_cpu: Graph, wiring: Wiring, standin: StandIn
) -> None:
    graph, steps = opened(dataclasses.replace(PATIENT, heartbeat=heartbeat)), readings(wiring, 20)
    standin.do("chatter")  # more than a pipe holds
    assert_same(run(graph, steps), run(on_cpu, steps))
    assert graph.counters.fallbacks == 0
    assert graph.counters.delegate_steps == 20 or heartbeat != NEVER


def test_a_step_that_is_interrupted_leaves_the_states(
    opened: Opener, on_cpu: Graph, wiring: Wiring, standin: StandIn
) -> None:
    graph, steps = opened(dataclasses.replace(PATIENT, step=60.0)), readings(wiring, 20)
    found = run(graph, steps[:10])
    standin.do("hang")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            graph.run(steps[10])
    finally:
        signal.signal(signal.SIGALRM, before)
    with pytest.warns(DelegateWarning, match="was interrupted in a step"):
        found += run(graph, steps[10:])
    assert_same(found, run(on_cpu, steps))


def test_a_warning_that_is_an_error_loses_no_step(
    opened: Opener, on_cpu: Graph, wiring: Wiring, standin: StandIn
) -> None:
    graph, steps = opened(), readings(wiring, 20)
    found = run(graph, steps[:10])
    standin.do("error")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DelegateWarning):
            graph.run(steps[10])
        found += run(graph, steps[10:])
    assert_same(found, run(on_cpu, steps))


def test_steps_side_by_side(tiny: Artifact, wiring: Wiring, standin: StandIn) -> None:
    rows = [[np.concatenate([x, -x, x // 2])] for (x,) in readings(wiring, 20)]
    with pytest.warns(DelegateWarning, match="takes none"):
        ours = open_delegated(tiny.flatbuffer, wiring, standin.delegate, batch=3, patience=PATIENT)
    theirs = open_graph(tiny.flatbuffer, wiring, batch=3)
    zero = [np.repeat(state, 3, axis=0) for state in zero_states(wiring)]
    ours.states = theirs.states = zero
    assert_same(run(ours, rows), run(theirs, rows))
    ours.close()


def test_nothing_is_left_behind(opened: Opener, wiring: Wiring, standin: StandIn) -> None:
    """No process and no descriptor over many failures, and no thread after closing."""
    x = readings(wiring, 1)[0]
    threads = threading.active_count()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    graph = opened(dataclasses.replace(RETRYING, first_retry=0.001, last_retry=0.001))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(15):
            standin.do("ok")
            wait_for(lambda: graph.active == "delegate")
            standin.do("crash")
            graph.run(x)
    graph.close()
    graph.close()
    assert graph.counters.fallbacks == 15
    assert len(set(standin.pids)) >= 15
    assert not any(map(is_there, standin.pids))
    assert not zombies()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert threading.active_count() == threads
    with pytest.raises(BackendError, match="closed"):
        graph.run(x)


def test_a_graph_that_is_forgotten_takes_its_process_along(
    compiled: bytes, tiny: Artifact, wiring: Wiring, standin: StandIn
) -> None:
    graph = open_delegated(
        compiled, wiring, standin.delegate, cpu_flatbuffer=tiny.flatbuffer, required=True
    )
    assert all(map(is_there, standin.pids))
    del graph
    gc.collect()
    assert not any(map(is_there, standin.pids))
    assert not zombies()


def test_closing_does_not_wait_for_a_delegate_that_loads(
    opened: Opener, wiring: Wiring, standin: StandIn
) -> None:
    graph = opened(dataclasses.replace(RETRYING, load=NEVER))
    standin.do("crash")
    with pytest.warns(DelegateWarning):
        graph.run(readings(wiring, 1)[0])
    standin.do("hang-at-load")
    wait_for(lambda: len(standin.loads) > 1)
    graph.close()  # ends; the load would take an hour
    assert not any(map(is_there, standin.pids))


@pytest.fixture
def start(
    compiled: bytes, tiny: Artifact, standin: StandIn, tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `delegate_process.py`."""
    (tmp_path / "compiled.tflite").write_bytes(compiled)
    (tmp_path / "cpu.tflite").write_bytes(tiny.flatbuffer)
    models = [str(tmp_path / "compiled.tflite"), str(tmp_path / "cpu.tflite"), str(TINY)]
    library = f"{standin.delegate.library}?control={standin.control}"
    script = str(TESTS / "system/delegate_process.py")
    with contextlib.ExitStack() as stack:

        def start(mode: str, python: str = sys.executable) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [python, "-W", "error", script, mode, *models, library],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


@pytest.mark.parametrize("trouble", ["ok", "hang-at-load"])
def test_a_parent_that_is_killed_takes_its_child_along(
    trouble: str, start: Callable[..., subprocess.Popen[str]], standin: StandIn
) -> None:
    standin.do(trouble)
    process = start("wait")
    wait_for(lambda: standin.loads)
    if trouble == "ok":
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    (child,) = standin.pids
    assert is_there(child)
    process.kill()
    process.wait()
    wait_for(lambda: not is_there(child))


def test_ctrl_c_is_for_the_parent(
    start: Callable[..., subprocess.Popen[str]], standin: StandIn
) -> None:
    process = start("interrupted")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert os.getsid(standin.pids[0]) != os.getsid(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    os.kill(standin.pids[0], signal.SIGTERM)  # as systemd does to all of a service
    out, err = process.communicate(timeout=60)
    counters = json.loads(out)
    assert (counters["delegate_steps"], counters["fallbacks"]) == (2, 0), err
    assert not is_there(standin.pids[0])


def test_a_process_that_ends_without_closing_ends_well(
    start: Callable[..., subprocess.Popen[str]], standin: StandIn
) -> None:
    process = start("forget")
    _, err = process.communicate()
    assert (process.returncode, "Traceback" in err, "Warning" in err) == (0, False, False), err
    assert not any(map(is_there, standin.pids))


def test_a_fork_leaves_the_delegate_to_its_parent(
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    out, err = start("fork").communicate()
    counters = json.loads(out)
    assert (counters["delegate_steps"], counters["fallbacks"]) == (2, 0), err


@pytest.mark.parametrize(
    ("backend", "python"),
    [
        pytest.param("litert", sys.executable, id="litert"),
        pytest.param(
            "tflite-runtime",
            str(OLD_PYTHON),
            id="tflite-runtime",
            marks=pytest.mark.skipif(
                not OLD_PYTHON.exists(),
                reason="no environment with tflite-runtime; run: make .venv-tflite-runtime/.ready",
            ),
        ),
    ],
)
def test_the_stream_outlives_the_delegate(
    backend: str,
    python: str,
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    process = start("outlive", python)
    out, err = process.communicate()
    assert process.returncode == 0, err
    found = json.loads(out)
    assert found["backend"] == backend
    assert found["outputs"] == found["expected"]
    assert len(found["warnings"]) == 1
    counters = found["counters"]
    assert (counters["operations"], counters["delegated_operations"]) == (19, 1)
    assert counters["fallbacks"] == 1
    assert counters["retries"] >= 1
    assert (counters["delegate_steps"], counters["cpu_steps"]) == (40, 20)
    assert not {"tensorflow", "keras"} & set(found["modules"])
