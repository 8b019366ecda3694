from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgelstm.artifact import GOLDEN, MANIFEST, Artifact
from edgelstm.errors import ArtifactError
from edgelstm.flatbuffer import read_flatbuffer
from edgelstm.model_file import is_plain, read_model
from edgelstm.plain import read_plain
from edgelstm.session import Session
from edgelstm_quantize.flatbuffer import pack, read

FORMS = [
    {"state_{}": "next_state_{}"},
    {"h{}": "next_h{}"},
    {"h{}": "new_h{}"},
    {"h{}": "h{}_next"},
    {"h{}": "h{}_out"},
    {"h{}": "h{}:out"},
    {"h{}_in": "h{}_out"},
    {"h{}_in": "next_h{}"},
    {"h{}_in": "h{}_in_next"},
]


def another(artifact: Artifact, change: Callable[[Any], object] | None = None) -> bytes:
    """The artifact's model as another tool would have made it, with something else in it."""
    tree = read(artifact.flatbuffer)
    tree.description = b"another tool"
    if change:
        change(tree)
    return pack(tree)


def rename(names: Mapping[str, str]) -> Callable[[Any], None]:
    """Changes names of the signature."""

    def change(tree: Any) -> None:
        for signature in tree.signatureDefs:
            for entry in (*signature.inputs, *signature.outputs):
                entry.name = names.get(entry.name.decode(), entry.name)

    return change


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pump.tflite"


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def refusal(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        read_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert message.endswith(".")
    return message.removeprefix(f"{path}: ")


def tensor(tree: Any, name: str) -> Any:
    """The tensor of a name of the signature."""
    (signature,) = tree.signatureDefs
    entries = (*signature.inputs, *signature.outputs)
    index = next(e.tensorIndex for e in entries if e.name.decode() == name)
    return tree.subgraphs[0].tensors[index]


# Running them


def raw_steps(session: Session, raw: list[list[NDArray[Any]]]) -> list[NDArray[Any]]:
    outputs = [session.step_raw(x) for x in raw]
    return [y[0] for y in outputs if y is not None]


@pytest.mark.parametrize("form", FORMS, ids=lambda f: "-".join(*f.items()))
@pytest.mark.parametrize("name", ["tiny", "tiny_float", "tiny_float32"])
def test_steps_like_the_artifact(
    name: str, form: dict[str, str], path: Path, request: pytest.FixtureRequest
) -> None:
    artifact: Artifact = request.getfixturevalue(name)
    ((into, out),) = form.items()
    names = {f"state_{i}": into.format(i) for i in range(2)}
    names |= {f"next_state_{i}": out.format(i) for i in range(2)}
    plain = read_model(written(path, another(artifact, rename(names))))
    assert [(s.input.name, s.output.name) for s in plain.manifest.states] == [
        (into.format(i), out.format(i)) for i in range(2)
    ]
    with Session(artifact) as expected, Session(plain) as session:
        raw = [expected.to_raw(x.astype(np.float64)) for x in artifact.golden.x]
        first = raw_steps(expected, raw)
        assert len(first) == 128
        np.testing.assert_array_equal(raw_steps(session, raw), first)
        assert not np.array_equal(raw_steps(session, raw), first)  # it remembers
        session.reset()
        np.testing.assert_array_equal(raw_steps(session, raw), first)
        assert session.verify() is None


def test_readings_and_results_are_in_the_units_of_the_model(tiny: Artifact, path: Path) -> None:
    plain = read_model(written(path, another(tiny)))
    spec = tiny.manifest.inputs[0].tensor
    with Session(plain) as session:
        x = np.array([0.5, -0.25])
        (raw,) = session.to_raw(x)
        np.testing.assert_array_equal(raw, np.rint(x / spec.scale) + spec.zero_point)
        y = session.step(x)
        session.reset()
        outputs = session.step_raw([raw])
    assert y is not None
    assert outputs is not None
    output = tiny.manifest.outputs[0].tensor
    np.testing.assert_allclose(y, (np.float64(outputs[0]) - output.zero_point) * output.scale)


@pytest.mark.parametrize("name", ["tiny", "tiny_float", "tiny_float32", "tiny_tokens"])
def test_manifest(name: str, path: Path, request: pytest.FixtureRequest) -> None:
    artifact: Artifact = request.getfixturevalue(name)
    data = another(artifact)
    plain = read_plain(written(path, data))
    manifest, original = plain.manifest, artifact.manifest
    assert plain.flatbuffer == data
    assert manifest.plain
    assert manifest.name == "pump"
    assert manifest.recipe == original.recipe
    assert manifest.states == original.states
    assert manifest.operations == original.operations
    assert [p.tensor for p in manifest.inputs] == [p.tensor for p in original.inputs]
    assert [p.tensor for p in manifest.outputs] == [p.tensor for p in original.outputs]
    assert [c.tokens for c in manifest.channels] == [c.tokens for c in original.channels]
    assert manifest.detection is None
    assert len(plain.golden.x) == len(plain.golden.y) == 0


def test_channels_are_named_like_their_tensors(
    tiny: Artifact, tiny_tokens: Artifact, path: Path
) -> None:
    manifest = read_plain(written(path, another(tiny))).manifest
    assert [c.name for c in manifest.channels] == ["x_0", "x_1"]
    assert [c.name for c in manifest.targets] == ["y_0", "y_1"]
    manifest = read_plain(written(path, another(tiny_tokens))).manifest
    assert [c.name for c in manifest.channels] == ["token"]


def test_several_inputs_and_outputs(tiny_ports: Artifact, path: Path) -> None:
    names = {"next_load": "forecast"}  # else it would be taken for the state `load`
    plain = read_plain(written(path, another(tiny_ports, rename(names))))
    assert [c.name for c in plain.manifest.channels] == ["load", "vibration_0", "vibration_1"]
    assert [c.name for c in plain.manifest.targets] == ["higher_0", "higher_1", "forecast"]
    with Session(plain) as session:
        y = session.step([0.1, 0.2, 0.3])
    assert y is not None
    assert np.sum(y[:2]) == pytest.approx(1, abs=0.02)  # probabilities


def test_recipe_of_int16_and_of_mixtures(tiny: Artifact, path: Path) -> None:
    def to_int16(tree: Any) -> None:
        for one in tree.subgraphs[0].tensors:
            if one.type == schema.TensorType.INT8 and tree.buffers[one.buffer].data is None:
                one.type = schema.TensorType.INT16

    assert read_plain(written(path, another(tiny, to_int16))).manifest.recipe == "int16x8"

    def to_float(tree: Any) -> None:
        tensor(tree, "y").type = schema.TensorType.FLOAT32

    assert read_plain(written(path, another(tiny, to_float))).manifest.recipe == "unknown"


# Signatures


def named(name: bytes) -> Callable[[Any], None]:
    def change(tree: Any) -> None:
        tree.signatureDefs[0].signatureKey = name

    return change


def test_signature_of_any_name(tiny: Artifact, path: Path) -> None:
    plain = read_plain(written(path, another(tiny, named(b"serving_default"))))
    assert plain.manifest.signature == "serving_default"
    with Session(plain) as session:
        assert session.step([0.0, 0.0]) is not None


def with_second(name: bytes, subgraph: int = 0) -> Callable[[Any], None]:
    def change(tree: Any) -> None:
        (first,) = tree.signatureDefs
        second = schema.SignatureDefT()
        second.signatureKey, second.subgraphIndex = name, subgraph
        second.inputs, second.outputs = first.inputs, first.outputs
        tree.signatureDefs.insert(0, second)
        if subgraph:
            tree.subgraphs.append(tree.subgraphs[0])

    return change


def test_of_several_signatures_step_is_taken(tiny: Artifact, path: Path) -> None:
    plain = read_plain(written(path, another(tiny, with_second(b"reset"))))
    assert plain.manifest.signature == "step"


def test_several_signatures_and_none_is_step(tiny: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        named(b"train")(tree)
        with_second(b"infer")(tree)

    message = refusal(path, another(tiny, change))
    assert "has the signatures 'infer', 'train', and none is named 'step'" in message


def test_no_signature(tiny: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        tree.signatureDefs = None

    assert "has no signature" in refusal(path, another(tiny, change))


def test_signature_of_another_subgraph(tiny: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        with_second(b"step", 1)(tree)
        tree.signatureDefs.pop()

    assert "'step' is of subgraph 1" in refusal(path, another(tiny, change))


def test_signature_that_does_not_name_the_outputs_of_its_graph(tiny: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        tree.subgraphs[0].outputs = tree.subgraphs[0].outputs[:-1]

    assert "does not name the inputs and outputs" in refusal(path, another(tiny, change))


# States


def test_states_of_different_scales(tiny: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        tensor(tree, "next_state_1").quantization.scale = np.array([0.5], np.float32)

    message = refusal(path, another(tiny, change))
    assert message.startswith("The state 'state_1' goes in with scale 0.0")
    assert "comes out as 'next_state_1' with 0.5" in message


def test_states_of_different_zero_points(tiny: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        tensor(tree, "next_state_1").quantization.zeroPoint = np.array([3], np.int64)

    message = refusal(path, another(tiny, change))
    assert "'state_1' goes in with zero point" in message


def test_states_of_different_types(tiny_float32: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        one = tensor(tree, "next_state_0")
        one.type, one.quantization = schema.TensorType.INT8, schema.QuantizationParametersT()
        one.quantization.scale = np.array([0.5], np.float32)
        one.quantization.zeroPoint = np.array([0], np.int64)

    message = refusal(path, another(tiny_float32, change))
    assert (
        "'state_0' goes in with dtype float32 and comes out as 'next_state_0' with int8" in message
    )


def test_states_of_different_shapes(tiny_float32: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        tensor(tree, "next_state_0").shape = np.array([1, 4], np.int32)

    message = refusal(path, another(tiny_float32, change))
    assert "with shape (1, 8) and comes out as 'next_state_0' with (1, 4)" in message


def test_forecast_that_is_called_like_a_state(tiny_ports: Artifact, path: Path) -> None:
    message = refusal(path, another(tiny_ports))
    assert "The state 'load' goes in with scale" in message
    assert "or rename the output, if it is no state" in message


@pytest.mark.parametrize(
    "names",
    [
        {"state_0": "h", "next_state_0": "next_h", "next_state_1": "h_out"},
        {"state_0": "h", "state_1": "h_in", "next_state_0": "h_out"},
    ],
)
def test_names_that_leave_open_which_state_is_which(
    tiny: Artifact, path: Path, names: dict[str, str]
) -> None:
    message = refusal(path, another(tiny, rename(names)))
    assert "leave open which state becomes which: 'h', " in message


@pytest.mark.parametrize("names", [{"x": "a", "y": "a_out"}, {"x": "a_in", "y": "a_out"}])
def test_no_input_beside_the_states(
    tiny_float32: Artifact, path: Path, names: dict[str, str]
) -> None:
    message = refusal(path, another(tiny_float32, rename(names)))
    assert f"has no input beside its states ('{names['x']}', 'state_0', 'state_1')" in message


def test_no_output_beside_the_states(tiny_float32: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        (signature,) = tree.signatureDefs
        signature.outputs = [e for e in signature.outputs if e.name != b"y"]

    message = refusal(path, another(tiny_float32, change))
    assert "has no output beside its states ('state_0', 'state_1')" in message


def test_output_that_is_another_state_as_it_came_in(tiny_float32: Artifact, path: Path) -> None:
    """Carrying the one over would overwrite the other before it is read."""

    def change(tree: Any) -> None:
        (signature,) = tree.signatureDefs
        by_name = {e.name.decode(): e for e in (*signature.inputs, *signature.outputs)}
        by_name["next_state_0"].tensorIndex = by_name["state_1"].tensorIndex
        graph = tree.subgraphs[0]
        graph.outputs = np.array([e.tensorIndex for e in signature.outputs], np.int32)

    message = refusal(path, another(tiny_float32, change))
    assert "The output 'next_state_0' is the state 'state_1' as it came in" in message


def test_variables(tiny_float32: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        tensor(tree, "state_0").isVariable = True

    message = refusal(path, another(tiny_float32, change))
    assert "keeps its states in variables, where" in message
    assert "'edgelstm quantize'" in message


@pytest.mark.parametrize("code", ["READ_VARIABLE", "UNIDIRECTIONAL_SEQUENCE_LSTM"])
def test_operations_that_remember(tiny_float32: Artifact, path: Path, code: str) -> None:
    def change(tree: Any) -> None:
        tree.operatorCodes[0].builtinCode = getattr(schema.BuiltinOperator, code)

    assert f"in variables ('{code}')" in refusal(path, another(tiny_float32, change))


# Tensors


def test_window(tiny_window: Artifact, path: Path) -> None:
    message = refusal(path, another(tiny_window))
    assert "The input 'x' (1x8x2) takes several readings at once" in message


@pytest.mark.parametrize(
    ("shape", "free"),
    [((2, 1), (2, 1)), ((1, 2), (-1, -1)), ((), ()), ((1, 1, 2), (-1, -1, 2))],
)
def test_input_that_is_not_one_step(
    tiny_float32: Artifact, path: Path, shape: tuple[int, ...], free: tuple[int, ...]
) -> None:
    def change(tree: Any) -> None:
        x = tensor(tree, "x")
        x.shape, x.shapeSignature = np.array(shape, np.int32), np.array(free, np.int32)

    assert "does not hold one step" in refusal(path, another(tiny_float32, change))


def test_free_batch_axis(tiny_float32: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        tensor(tree, "x").shapeSignature = np.array([-1, 2], np.int32)

    assert read_plain(written(path, another(tiny_float32, change))).manifest.channels


def test_time_axis_of_one_reading(tiny_float32: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        tensor(tree, "x").shape = np.array([1, 1, 2], np.int32)

    manifest = read_plain(written(path, another(tiny_float32, change))).manifest
    assert [c.name for c in manifest.channels] == ["x_0", "x_1"]


def test_input_of_nothing(tiny_float32: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        tensor(tree, "x").shape = np.array([1, 0], np.int32)

    assert "'x' (float32 1x0) holds nothing" in refusal(path, another(tiny_float32, change))


def test_whole_numbers_that_are_no_tokens(tiny_float32: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        tensor(tree, "x").type = schema.TensorType.INT32

    assert "takes whole numbers (int32)" in refusal(path, another(tiny_float32, change))


@pytest.mark.parametrize("kind", ["BOOL", "STRING", "FLOAT64", "COMPLEX64"])
def test_types_that_are_not_stepped(tiny_float32: Artifact, path: Path, kind: str) -> None:
    def change(tree: Any) -> None:
        tensor(tree, "y").type = getattr(schema.TensorType, kind)

    message = refusal(path, another(tiny_float32, change))
    assert f"'y' ({kind.lower()} 1x2) is of a type" in message


def test_int8_without_a_scale(tiny: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        tensor(tree, "y").quantization = None

    assert "'y' (int8 1x2) does not say" in refusal(path, another(tiny, change))


def test_a_scale_per_channel(tiny: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        quantization = tensor(tree, "y").quantization
        quantization.scale = np.array([0.1, 0.2], np.float32)
        quantization.zeroPoint = np.array([0, 0], np.int64)
        quantization.quantizedDimension = 1

    assert "'y' (int8 1x2) has a scale per channel" in refusal(path, another(tiny, change))


# Operations


def test_custom_operations(tiny_float32: Artifact, path: Path) -> None:
    def custom(name: str) -> bytes:
        def change(tree: Any) -> None:
            code = tree.operatorCodes[0]
            code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
            code.customCode = name

        return another(tiny_float32, change)

    assert "custom operations ('FlexErf')" in refusal(path, custom("FlexErf"))
    # With its delegate this one runs.
    assert read_plain(written(path, custom("edgetpu-custom-op"))).manifest.states


def test_sparse_weights(tiny_float32: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        one = tree.subgraphs[0].tensors[-1]
        one.sparsity = schema.SparsityParametersT()

    assert "keeps weights sparse" in refusal(path, another(tiny_float32, change))


# Damage


def test_operation_that_reads_what_none_wrote(tiny: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        tree.subgraphs[0].operators.reverse()

    assert "an operation reads what none before it wrote" in refusal(path, another(tiny, change))


def test_output_that_none_wrote(tiny: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        tree.subgraphs[0].operators.pop()

    assert "none before it wrote" in refusal(path, another(tiny, change))


@pytest.mark.parametrize("scale", [0.0, -0.5, np.nan, np.inf])
def test_scale_that_is_none(tiny: Artifact, path: Path, scale: float) -> None:
    def change(tree: Any) -> None:
        inner = tree.subgraphs[0].operators[0].outputs[0]
        quantization = tree.subgraphs[0].tensors[inner].quantization
        quantization.scale = np.array([scale], np.float32)

    assert "is damaged (the scale of " in refusal(path, another(tiny, change))


def test_zero_point_beyond_its_type(tiny: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        inner = tree.subgraphs[0].operators[0].outputs[0]
        tree.subgraphs[0].tensors[inner].quantization.zeroPoint = np.array([128], np.int64)

    assert "is damaged (the scale of " in refusal(path, another(tiny, change))


def test_shape_of_more_than_all_memory(tiny: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        inner = tree.subgraphs[0].operators[0].outputs[0]
        tree.subgraphs[0].tensors[inner].shape = np.array([2**20, 2**20], np.int32)

    assert "bytes of memory, which is no step" in refusal(path, another(tiny, change))


def test_flipped_bits_are_refused_or_give_an_artifact(tiny: Artifact, path: Path) -> None:
    data = another(tiny)
    rng = random.Random(1)  # noqa: S311  # no secret
    fine = 0
    for _ in range(600):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 1, 3))):
            bit = rng.randrange(64, 8 * len(damaged))
            damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            fine += bool(read_model(path).manifest)
        except ArtifactError as error:
            assert "\n" not in str(error)  # noqa: PT017
    assert 100 < fine < 500


# Which files are plain


def test_artifact_is_read_as_one(tiny: Artifact, tiny_path: Path) -> None:
    assert not is_plain(tiny_path.read_bytes())
    assert read_model(tiny_path).manifest == tiny.manifest


@pytest.mark.parametrize("cut", [1, 50, 500, 1500])
def test_artifact_without_its_end_is_not_taken_for_plain(
    tiny_path: Path, path: Path, cut: int
) -> None:
    data = tiny_path.read_bytes()[:-cut]
    assert not is_plain(data)
    with pytest.raises(ArtifactError, match=r"damaged.*edgelstm quantize|is damaged: bytes"):
        read_model(written(path, data))


def test_artifact_without_its_manifest_is_refused(tiny: Artifact, path: Path) -> None:
    assert is_plain(tiny.flatbuffer)
    assert "has lost its manifest" in refusal(path, tiny.flatbuffer)


@pytest.mark.parametrize("member", [MANIFEST, GOLDEN])
def test_archive_with_a_part_of_an_artifact(tiny: Artifact, path: Path, member: str) -> None:
    path.write_bytes(another(tiny))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, b"")
    with pytest.raises(ArtifactError, match="without a readable edgelstm manifest"):
        read_model(path)


def test_archive_of_another_tool(tiny: Artifact, path: Path) -> None:
    buffer = io.BytesIO(another(tiny))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("labels.txt", "calm\nstorm\n")
    with Session(read_model(written(path, buffer.getvalue()))) as session:
        assert session.step([0.0, 0.0]) is not None


def test_other_files(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read: No such file"):
        read_model(path)
    with pytest.raises(ArtifactError, match="cannot be read: Is a directory"):
        read_plain(tmp_path)
    with pytest.raises(ArtifactError, match="is not an edgelstm artifact"):
        read_model(written(path, b"time,flow\n"))
    with pytest.raises(ArtifactError, match="the mark TFL3 is missing"):
        read_plain(path)


def test_unchanged_copy_is_what_it_was(tiny: Artifact) -> None:
    """What these tests build on: a model that is taken apart and put together is the same."""
    model, copy = read_flatbuffer(tiny.flatbuffer), read_flatbuffer(another(tiny))
    assert copy.subgraphs == model.subgraphs
    assert copy.signatures == model.signatures
