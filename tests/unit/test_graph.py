"""A graph in an interpreter: its wiring, its memory, and what is carried from step to step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.backends import Wiring, interpreter, open_graph
from edgelstm.backends.batch import LoopedGraph, open_batch
from edgelstm.backends.fitness import require_right_numbers
from edgelstm.backends.interpreter import _carries, _kept
from edgelstm.backends.litert import LiteRtGraph
from edgelstm.errors import BackendError
from edgelstm.manifest import Manifest, StatePair, TensorSpec
from edgelstm.session import Session

pytest.importorskip("ai_edge_litert")

Arrays = list[NDArray[Any]]
ALL = ["tiny", "tiny_float", "tiny_float32", "tiny_window", "tiny_ports", "tiny_tokens"]
BATCH = 5


class Outer:
    """An interpreter without an inner one, as another release may have it."""

    def __init__(self, inner: Any) -> None:
        self._hidden = inner

    def __getattr__(self, name: str) -> Any:
        if name == "_interpreter":
            raise AttributeError(name)
        return getattr(self._hidden, name)


class Plainly(LiteRtGraph):
    """Takes its views anew at each step."""

    def _open(self, flatbuffer: bytes, threads: int, delegates: list[Any]) -> Any:
        return Outer(super()._open(flatbuffer, threads, delegates))


@pytest.fixture(params=ALL)
def artifact(request: pytest.FixtureRequest) -> Artifact:
    found: Artifact = request.getfixturevalue(request.param)
    return found


def graph_of(artifact: Artifact, cls: type[LiteRtGraph] = LiteRtGraph) -> LiteRtGraph:
    return cls(artifact.flatbuffer, Wiring.of(artifact.manifest), 1)


def inputs_of(artifact: Artifact, steps: int, batch: int = 1, seed: int = 0) -> list[Arrays]:
    """Raw inputs for some steps of a graph, unlike one another."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(steps):
        row = []
        for port in artifact.manifest.inputs:
            shape = (batch, *port.tensor.shape[1:])
            if port.channels[0].tokens:
                row.append(rng.integers(0, port.channels[0].tokens, shape).astype(np.int32))
            elif port.tensor.dtype == "float32":
                means = [channel.mean for channel in port.channels]
                row.append((rng.normal(0, 2, shape) + means).astype(np.float32))
            else:
                row.append(rng.integers(-100, 100, shape).astype(port.tensor.dtype))
        rows.append(row)
    return rows


def zero(graph: Any, artifact: Artifact) -> None:
    graph.states = [
        np.full_like(state, pair.input.zero_point)
        for state, pair in zip(graph.states, artifact.manifest.states, strict=True)
    ]


def equal(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(map(np.array_equal, a, b))


# Steps


def test_views_kept_and_views_taken_anew_give_the_same(artifact: Artifact) -> None:
    kept, plainly = graph_of(artifact), graph_of(artifact, Plainly)
    assert kept.memory is not None
    assert plainly.memory is None
    zero(kept, artifact)
    zero(plainly, artifact)
    for inputs in inputs_of(artifact, 60):
        assert equal(kept.run(inputs), plainly.run(inputs))
        assert equal(kept.states, plainly.states)
        assert equal(kept.inputs, plainly.inputs)
        assert equal(kept.inputs, inputs)


def test_a_session_without_an_inner_invoke_gives_the_same(artifact: Artifact) -> None:
    with (
        Session(artifact) as session,
        Session(artifact, graph=graph_of(artifact, Plainly)) as plainly,
    ):
        golden = artifact.golden.x
        assert equal(session.replay(golden), plainly.replay(golden))
        for x in golden[:30].astype(np.float64):
            y, other = session.step(x), plainly.step(x)
            if y is None:
                assert other is None
            else:
                assert other is not None
                assert np.array_equal(y, other)
        assert session.state.save() == plainly.state.save()


def test_the_states_that_come_out_go_in_again(artifact: Artifact) -> None:
    """By the public calls of an interpreter, one tensor after the other."""
    graph, wiring = graph_of(artifact), Wiring.of(artifact.manifest)
    zero(graph, artifact)
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=artifact.flatbuffer).get_signature_runner("step")
    states = {
        p.input.name: np.full(p.input.shape, p.input.zero_point, p.input.dtype)
        for p in wiring.states
    }
    for inputs in inputs_of(artifact, 60):
        values = dict(zip((spec.name for spec in wiring.inputs), inputs, strict=True))
        outputs = runner(**values, **states)
        assert equal(graph.run(inputs), [outputs[spec.name] for spec in wiring.outputs])
        states = {pair.input.name: outputs[pair.output.name] for pair in wiring.states}
        assert equal(graph.states, list(states.values()))


def test_inputs_may_have_any_shape_of_their_size(artifact: Artifact) -> None:
    graph, other = graph_of(artifact), graph_of(artifact)
    for inputs in inputs_of(artifact, 5):
        flat = [x.reshape(-1) for x in inputs]
        assert equal(graph.run(flat), other.run(inputs))
        with pytest.raises(ValueError, match="reshape"):
            graph.run([np.append(x, x) for x in flat])
        with pytest.raises(ValueError, match="zip"):
            graph.run([*inputs, inputs[0]])


@pytest.mark.parametrize("cls", [LiteRtGraph, Plainly])
def test_a_run_that_fails_leaves_the_states(
    tiny: Artifact, cls: type[LiteRtGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_of(tiny, cls)
    inputs = inputs_of(tiny, 3)
    graph.run(inputs[0])
    before = graph.states

    def fail() -> None:
        raise RuntimeError("node 3 failed")

    with monkeypatch.context() as patched:
        patched.setattr(graph, "_invoke", fail)
        with pytest.raises(BackendError, match="The runtime litert failed at a step: node 3"):
            graph.run(inputs[1])
    assert equal(graph.states, before)
    graph.run(inputs[1])
    assert not equal(graph.states, before)


def test_a_closed_graph_says_so(artifact: Artifact) -> None:
    graph = graph_of(artifact)
    (inputs,) = inputs_of(artifact, 1)
    graph.run(inputs)
    graph.close()
    graph.close()
    with pytest.raises(BackendError, match="This graph is closed"):
        graph.run(inputs)


# Views that may be kept


def test_a_run_that_moves_tensors_is_noticed() -> None:
    places = [np.zeros(4), np.ones(4)]
    runs: list[int] = []
    views: dict[str, Callable[[], NDArray[Any]]] = {
        "still": lambda: places[0],
        "moves": lambda: places[len(runs)],
    }
    assert _kept(views, lambda: runs.append(1)) is None
    runs.clear()
    kept = _kept({"still": views["still"]}, lambda: runs.append(1))
    assert kept is not None
    assert kept["still"]() is places[0]


def test_a_graph_whose_tensors_move_is_run_by_its_outer_invoke(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = graph_of(artifact)
    with monkeypatch.context() as patched:
        patched.setattr(interpreter, "_kept", lambda _views, _invoke: None)
        moving = graph_of(artifact)
    assert moving.memory is None
    for graph in (still, moving):
        zero(graph, artifact)
    for inputs in inputs_of(artifact, 20):
        assert equal(still.run(inputs), moving.run(inputs))
    assert equal(still.states, moving.states)


# Batches


@pytest.mark.parametrize("name", ALL)
def test_each_row_of_a_batch_is_a_stream_of_its_own(
    name: str, request: pytest.FixtureRequest
) -> None:
    artifact: Artifact = request.getfixturevalue(name)
    whole = open_batch(artifact.flatbuffer, Wiring.of(artifact.manifest), "litert", 1, BATCH)
    # The window's graph has its batch baked in: resized, it would mix the rows.
    assert isinstance(whole, LoopedGraph if name == "tiny_window" else LiteRtGraph)
    single = [graph_of(artifact) for _ in range(BATCH)]
    for graph in (whole, *single):
        zero(graph, artifact)
    integer = artifact.manifest.recipe == "int8"
    for inputs in inputs_of(artifact, 20, BATCH):
        outputs = whole.run(inputs)
        for i, graph in enumerate(single):
            row = slice(i, i + 1)
            alone = [*graph.run([x[row] for x in inputs]), *graph.states]
            together = [y[row] for y in (*outputs, *whole.states)]
            if integer:
                assert equal(together, alone)
            else:
                for a, b in zip(together, alone, strict=True):
                    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    assert all(len(state) == BATCH for state in whole.states)
    assert [x.shape[0] for x in whole.inputs] == [BATCH] * len(artifact.manifest.inputs)


# What the manifest says and the model does not


def with_input(manifest: Manifest, **changes: Any) -> Wiring:
    wiring = Wiring.of(manifest)
    return dataclasses.replace(
        wiring, inputs=(dataclasses.replace(wiring.inputs[0], **changes), *wiring.inputs[1:])
    )


def with_output(manifest: Manifest, **changes: Any) -> Wiring:
    wiring = Wiring.of(manifest)
    return dataclasses.replace(wiring, outputs=(dataclasses.replace(wiring.outputs[0], **changes),))


def with_pair(manifest: Manifest, side: str, **changes: Any) -> Wiring:
    wiring = Wiring.of(manifest)
    first, *others = wiring.states
    tensor: TensorSpec = getattr(first, side)
    pair = dataclasses.replace(first, **{side: dataclasses.replace(tensor, **changes)})
    return dataclasses.replace(wiring, states=(pair, *others))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: with_input(m, name="z"), "The inputs of the model are not those"),
        (lambda m: with_input(m, name="y"), "The inputs of the model are not those"),
        (lambda m: with_input(m, shape=(1, 3)), r"'x' is int8 \(1, 2\), and not int8 \(1, 3\)"),
        (lambda m: with_input(m, shape=(1, 2, 1)), r"'x' is int8 \(1, 2\)"),
        (lambda m: with_input(m, shape=()), r"'x' is int8 \(1, 2\), and not int8 \(1,\)"),
        (lambda m: with_input(m, dtype="float32"), r"'x' is int8 \(1, 2\), and not float32"),
        (lambda m: with_input(m, dtype="uint8"), "and not uint8"),
        (lambda m: with_output(m, name="z"), "The model has no tensor 'z', which its manifest"),
        (lambda m: with_output(m, shape=(1, 200)), r"'y' is int8 \(1, 2\), and not int8 \(1, 200"),
        (lambda m: with_output(m, dtype="int16"), "'y' is int8"),
        (lambda m: with_pair(m, "input", name="s"), "The inputs of the model are not those"),
        (lambda m: with_pair(m, "input", shape=(1, 9)), "'state_0' is int8"),
        (lambda m: with_pair(m, "output", name="s"), "The model has no tensor 's'"),
        (lambda m: with_pair(m, "output", shape=(1, 80)), "'next_state_0' is int8"),
        (lambda m: with_pair(m, "output", dtype="float32"), "'next_state_0' is int8"),
        # Of the model, but another's size: carrying it would read beyond its end.
        (
            lambda m: with_pair(m, "output", name="y", shape=(1, 2)),
            "The state 'state_0' goes in and comes out in different forms",
        ),
        (lambda m: dataclasses.replace(Wiring.of(m), states=()), "The inputs of the model are"),
        (lambda m: dataclasses.replace(Wiring.of(m), inputs=()), "The inputs of the model are"),
        (lambda m: dataclasses.replace(Wiring.of(m), signature="main"), "has no signature 'main'"),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_another_wiring_is_refused(
    tiny: Artifact, change: Callable[[Manifest], Wiring], message: str, batch: int
) -> None:
    if batch != 1 and ("'y'" in message or "'next_" in message):
        message = message.replace("(1,", f"({batch},")  # they follow from the inputs
    with pytest.raises(BackendError, match=message) as caught:
        LiteRtGraph(tiny.flatbuffer, change(tiny.manifest), 1, batch=batch)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("data", [b"", b"TFL3", bytes(64), b"\x1c\0\0\0TFL3" + bytes(200)])
def test_what_is_no_model_is_refused(tiny: Artifact, data: bytes) -> None:
    with pytest.raises(BackendError, match="The backend litert cannot run this model"):
        open_graph(data, Wiring.of(tiny.manifest), "litert")


# What is carried


def cut(*places: tuple[int, int]) -> Arrays:
    """Arrays out of one piece of memory, each from an offset on, of a length."""
    memory = np.arange(200, dtype=np.uint8)
    return [memory[start : start + size][None] for start, size in places]


def blocks(into: Arrays, out: Arrays) -> list[tuple[list[int], int]] | None:
    """What is carried: the bytes that go in, and where they come from."""
    found = _carries(list(zip(into, out, strict=True)))
    if found is None:
        return None
    return [(list(target), source[0]) for target, source in found]


def test_states_that_lie_side_by_side_are_one_block() -> None:
    ins, outs = cut((0, 4), (4, 8), (12, 1)), cut((100, 4), (104, 8), (112, 1))
    assert blocks(ins, outs) == [(list(range(13)), 100)]
    assert blocks(ins[::-1], outs[::-1]) == [(list(range(13)), 100)]


def test_states_apart_are_blocks_of_their_own() -> None:
    # A gap going in, a gap coming out, another order, an overlap.
    for ins, outs in (
        (cut((0, 4), (5, 4)), cut((100, 4), (104, 4))),
        (cut((0, 4), (4, 4)), cut((100, 4), (105, 4))),
        (cut((0, 4), (4, 4)), cut((104, 4), (100, 4))),
        (cut((0, 4), (4, 4)), cut((100, 4), (103, 4))),
    ):
        found = blocks(ins, outs)
        assert found is not None
        assert [len(target) for target, _ in found] == [4, 4]
        assert {target[0]: source for target, source in found} == {
            int(i[0, 0]): int(o[0, 0]) for i, o in zip(ins, outs, strict=True)
        }


def test_some_are_merged_and_some_are_not() -> None:
    ins = cut((0, 4), (4, 4), (8, 4), (20, 4))
    outs = cut((100, 4), (104, 4), (120, 4), (124, 4))
    assert blocks(ins, outs) == [
        ([0, 1, 2, 3, 4, 5, 6, 7], 100),
        ([8, 9, 10, 11], 120),
        ([20, 21, 22, 23], 124),
    ]


def test_no_states_are_no_blocks() -> None:
    assert _carries([]) == []


def test_blocks_are_of_bytes_whatever_the_type() -> None:
    memory = np.zeros(32, np.float32)
    pairs = [(memory[None, 0:4], memory[None, 16:20]), (memory[None, 4:8], memory[None, 20:24])]
    memory[16:24] = range(1, 9)
    carries = _carries(pairs)
    assert carries is not None
    ((target, source),) = carries
    assert (target.nbytes, source.nbytes) == (32, 32)
    target[:] = source
    assert memory[:9].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 0]


def carried(into: Arrays, out: Arrays) -> list[list[int]]:
    """The states after a carry."""
    found = _carries(list(zip(into, out, strict=True)))
    assert found is not None
    for target, source in found:
        target[:] = source
    return [array.ravel().tolist() for array in into]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
@pytest.mark.parametrize("places", [(0, 10, 20), (20, 10, 0), (0, 2, 4), (4, 2, 0), (10, 0, 2)])
def test_a_delay_line_is_carried_from_its_end(
    places: tuple[int, ...], order: tuple[int, ...]
) -> None:
    """What comes out for the second is the first as it went in, and so on."""
    ins, (new,) = cut(*((place, 2) for place in places)), cut((100, 2))
    new = ins[0].base[100:102][None] if ins[0].base is not None else new
    outs = [new, ins[0], ins[1]]
    expected = [array.ravel().tolist() for array in outs]
    after = carried([ins[i] for i in order], [outs[i] for i in order])
    assert after == [expected[i] for i in order]


def test_states_that_change_places_have_no_order() -> None:
    a, b, c = cut((0, 4), (10, 4), (20, 4))
    assert _carries([(a, b), (b, a)]) is None
    assert _carries([(a, b), (b, c), (c, a)]) is None


def test_states_that_change_places_are_carried_without_blocks(tiny: Artifact) -> None:
    graph = graph_of(tiny, Plainly)
    a, b = graph._states
    # As a model has it whose states come out by the tensors through which the others went in.
    graph._states = [(a[0], b[0]), (b[0], a[0])]
    first, second = graph.states
    first[...], second[...] = 1, 2
    graph.states = [first, second]
    (inputs,) = inputs_of(tiny, 1)
    graph.run(inputs)
    assert equal(graph.states, [second, first])


def test_a_state_that_stays_as_it_is_needs_no_order() -> None:
    (a, b), (new,) = cut((0, 4), (10, 4)), cut((100, 4))
    found = _carries([(a, a), (b, new)])
    assert found is not None
    assert len(found) == 2


# The release of a runtime


def needing(artifact: Artifact, lowest: str) -> Manifest:
    return dataclasses.replace(artifact.manifest, runtimes={"ai-edge-litert": lowest})


@pytest.mark.parametrize(
    ("lowest", "installed"),
    [
        ("2.3.0", "2.3.0"),
        ("2.3.0", "2.3.1"),
        ("2.3.0", "2.10.0"),
        ("2.3.0", "10.0"),
        ("2.3.0", "2.4.0.dev20261120"),
        ("2.3.0", "2.3.0.dev20261120"),
        ("2.3.0", "2.3.0+local"),
        ("2.3.0", "2.4.0rc1"),
        ("2.3.0", "2.3"),
        ("2.3", "2.3.0"),
        ("2.3.0", ""),  # unknown
    ],
)
def test_a_runtime_that_is_new_enough_is_taken(tiny: Artifact, lowest: str, installed: str) -> None:
    graph = graph_of(tiny)
    graph.release = installed
    require_right_numbers(needing(tiny, lowest), graph)


@pytest.mark.parametrize(
    ("lowest", "installed"),
    [
        ("2.3.0", "2.2.9"),
        ("2.3.0", "1.10.0"),
        ("2.10.0", "2.9.0"),
        ("2.3.1", "2.3"),
        ("2.3.0", "2.2.0.dev20261120"),
    ],
)
def test_a_runtime_that_is_too_old_is_refused(tiny: Artifact, lowest: str, installed: str) -> None:
    graph = graph_of(tiny)
    graph.release = installed
    with pytest.raises(BackendError) as caught:
        require_right_numbers(needing(tiny, lowest), graph)
    assert str(caught.value) == (
        f"This model (int8) needs ai-edge-litert {lowest} or later, and {installed} is installed; "
        f"run: pip install 'ai-edge-litert>={lowest}'"
    )


def test_the_release_of_the_installed_runtime_is_known(tiny: Artifact) -> None:
    release = graph_of(tiny).release
    assert release.split(".")[0].isdigit()
    with pytest.raises(BackendError, match=f"999 or later, and {release} is installed"):
        Session(dataclasses.replace(tiny, manifest=needing(tiny, "999")), backend="litert")


def test_of_a_plain_file_any_runtime_is_taken(tiny: Artifact) -> None:
    manifest = dataclasses.replace(tiny.manifest, versions={}, runtimes={})
    assert manifest.plain
    require_right_numbers(manifest, graph_of(tiny))


def test_wiring_is_what_the_manifest_says(tiny_ports: Artifact) -> None:
    wiring = Wiring.of(tiny_ports.manifest)
    assert [spec.name for spec in wiring.inputs] == ["vibration", "load"]
    assert [spec.name for spec in wiring.outputs] == ["higher", "next_load"]
    assert wiring.states == tiny_ports.manifest.states
    assert all(isinstance(pair, StatePair) for pair in wiring.states)
    assert wiring.signature == "step"


@pytest.mark.parametrize("cls", [LiteRtGraph, Plainly])
def test_an_output_that_is_a_state_as_it_came_in_is_read_before_the_states_move(
    tiny: Artifact, cls: type[LiteRtGraph]
) -> None:
    graph = graph_of(tiny, cls)
    graph._outputs = [graph._states[0][0]]  # as a model has it that gives what it remembered
    for inputs in inputs_of(tiny, 5):
        before = graph.states[0]
        assert equal(graph.run(inputs), [before])
        assert not equal(graph.states[:1], [before])
