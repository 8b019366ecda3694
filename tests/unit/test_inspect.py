from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner, Result

from edgelstm.artifact import Artifact
from edgelstm.cli import main
from edgelstm_quantize.flatbuffer import pack, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pump.tflite"


def another(artifact: Artifact, path: Path, change: Callable[[Any], object] | None = None) -> Path:
    """The artifact's model as another tool would have made it, with something else in it."""
    tree = read(artifact.flatbuffer)
    tree.description = b"another tool"
    if change:
        change(tree)
    path.write_bytes(pack(tree))
    return path


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["inspect", *(str(a) for a in arguments)])


def page_of(path: Path) -> list[tuple[str, str]]:
    result = invoke(path)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return [(line[:11].rstrip(), line[11:]) for line in result.stdout.splitlines()]


def data_of(path: Path) -> dict[str, Any]:
    result = invoke(path, "--json")
    assert result.exit_code == 0, result.output
    data: dict[str, Any] = json.loads(result.stdout)
    return data


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    messages = set()
    for options in ([], ["--json"]):
        result = invoke(path, *options)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        messages.add(line.removeprefix("Error: "))
    (message,) = messages
    return message


# An artifact; tests/unit/test_cli.py has the rest of its page


def test_memory_and_operations_of_an_artifact(tiny_path: Path, tiny: Artifact) -> None:
    page = dict(page_of(tiny_path))
    # LSTM(8) and Dense(2), int8: two states of 8 bytes.
    assert page["memory"].endswith(" bytes, states 16 bytes per stream")
    weights = int(page["memory"].split()[1])
    assert 2 * 32 + 8 * 32 + 8 * 2 < weights < 1000
    operations = page["operations"].split(", ")
    assert "FULLY_CONNECTED v1 x5" in operations
    assert "SPLIT v1" in operations
    assert len(operations) == len(tiny.manifest.operations)


def test_memory_of_other_artifacts(tiny_path: Path) -> None:
    def memory(name: str) -> str:
        return dict(page_of(tiny_path.with_name(f"{name}.tflite")))["memory"]

    assert memory("tiny_float32").endswith("states 64 bytes per stream")
    assert memory("tiny_window").endswith(" bytes, window 16 bytes per stream")


def test_a_compiled_artifact_carries_the_model_for_the_cpu(tiny: Artifact, path: Path) -> None:
    manifest = dataclasses.replace(tiny.manifest, cpu_sha256=tiny.manifest.sha256)
    dataclasses.replace(tiny, manifest=manifest, cpu=tiny.flatbuffer).write(path)
    size = f"{len(tiny.flatbuffer):,}"
    row = ("compiled", f"for an Edge TPU; carries the model for the CPU, {size} bytes")
    assert row in page_of(path)
    tiny.write(path, force=True)
    assert "compiled" not in dict(page_of(path))


def test_damaged_artifact_is_no_plain_file(tiny_path: Path, path: Path) -> None:
    content = tiny_path.read_bytes()
    assert "is damaged" in refusal(path, content[:-1])
    damaged = bytearray(content)
    damaged[content.rindex(b"edgelstm/golden.npz")] ^= 1
    assert "damaged" in refusal(path, bytes(damaged))


# A file of another tool


def test_page_of_a_plain_file(tiny: Artifact, path: Path) -> None:
    page = page_of(another(tiny, path))
    labels = [label for label, _ in page]
    assert labels == [
        *("file", "format", "made", "types", "signature"),
        *(["  input"] * 3 + ["  output"] * 3 + ["state"] * 2),
        *("memory", "operations", "metadata", "sha256", "runs here"),
    ]
    size = path.stat().st_size
    assert page[:5] == [
        ("file", f"pump.tflite, {size:,} bytes, without a manifest of edgelstm"),
        ("format", "TFLite version 3, needs TFLite 1.14.0"),
        ("made", "another tool"),
        ("types", "int8"),
        ("signature", "step"),
    ]
    spec = tiny.manifest.inputs[0].tensor
    x = f"x int8 (1 x 2), scale {spec.scale:.4g}, zero point {spec.zero_point}"
    assert ("  input", x) in page
    assert ("state", "state_1 -> next_state_1") in page
    assert dict(page)["operations"].startswith("ADD v1 x3, FULLY_CONNECTED v1 x5, ")
    assert page[-1] == ("runs here", "edgelstm.load() can step it: yes")


def test_data_of_a_plain_file(tiny: Artifact, path: Path) -> None:
    data = data_of(another(tiny, path))
    page = dict(page_of(path))
    assert "schema_version" not in data
    assert (data["file"], data["bytes"]) == ("pump.tflite", path.stat().st_size)
    assert data["sha256"] == page["sha256"]
    assert (data["tflite_version"], data["minimum_runtime"]) == (3, "1.14.0")
    assert (data["description"], data["recipe"]) == ("another tool", "int8")
    (signature,) = data["signatures"]
    assert signature["name"] == "step"
    x = next(t for t in signature["inputs"] if t["name"] == "x")
    spec = tiny.manifest.inputs[0].tensor
    assert x == {
        "name": "x",
        "dtype": "int8",
        "shape": [1, 2],
        "scales": [spec.scale],
        "zero_points": [spec.zero_point],
    }
    assert [t["name"] for t in signature["outputs"]] == ["next_state_0", "next_state_1", "y"]
    assert len(data["inputs"]) == len(data["outputs"]) == 3
    assert data["states"][1] == {"input": "state_1", "output": "next_state_1"}
    assert {"name": "FULLY_CONNECTED", "version": 1, "count": 5} in data["operations"]
    assert (data["steps"], data["reason"]) == (True, None)


def test_plain_file_that_cannot_be_stepped(tiny_window: Artifact, path: Path) -> None:
    label, verdict = page_of(another(tiny_window, path))[-1]
    assert label == "runs here"
    assert verdict.startswith("edgelstm.load() can step it: no: The input 'x' (1x8x2) takes ")
    data = data_of(path)
    assert data["steps"] is False
    assert verdict.endswith(f"no: {data['reason']}")
    assert data["states"] == []


def test_plain_file_without_signatures(tiny_float32: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        tree.signatureDefs = tree.metadata = None
        tree.description = None

    page = page_of(another(tiny_float32, path, change))
    assert ("signature", "none") in page
    found = [value for label, value in page if label == "  input"]
    assert len(found) == 3
    assert all("float32 (1 x " in value for value in found)
    assert ("format", "TFLite version 3") in page
    assert {"made", "metadata", "state"}.isdisjoint(dict(page))
    assert "no: The model has no signature" in page[-1][1]
    assert data_of(path)["signatures"] == []


def test_file_compiled_for_the_edge_tpu(tiny: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        code = tree.operatorCodes[0]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = "edgetpu-custom-op"

    page = page_of(another(tiny, path, change))
    assert ("custom", "edgetpu-custom-op (compiled for the Edge TPU)") in page
    assert page[-1][1].endswith("yes, with the delegate of an Edge TPU")
    assert data_of(path)["custom_operations"] == ["edgetpu-custom-op"]


def test_file_with_other_custom_operations(tiny: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        tree.operatorCodes[0].builtinCode = schema.BuiltinOperator.CUSTOM
        tree.operatorCodes[0].customCode = "FlexErf"

    page = page_of(another(tiny, path, change))
    assert ("custom", "FlexErf") in page
    assert "no: The model uses custom operations ('FlexErf')" in page[-1][1]


def test_several_graphs_free_axes_and_scales_per_channel(tiny: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        one = tree.subgraphs[0].tensors[int(tree.signatureDefs[0].inputs[2].tensorIndex)]
        one.shapeSignature = np.array([-1, 2], np.int32)
        one.quantization.scale = np.array([0.1, 0.2], np.float32)
        one.quantization.zeroPoint = np.array([0, 0], np.int64)
        one.quantization.quantizedDimension = 1
        tree.subgraphs.append(tree.subgraphs[0])

    page = page_of(another(tiny, path, change))
    assert ("graphs", "2") in page
    assert ("  input", "x int8 (? x 2), 2 scales") in page


def test_artifact_that_lost_its_manifest(tiny: Artifact, path: Path) -> None:
    path.write_bytes(tiny.flatbuffer)
    assert "no: This is the model of an edgelstm artifact that has lost" in page_of(path)[-1][1]


def test_names_cannot_command_the_terminal(tiny: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        tree.description = b"\x1b[2J\x1b]0;gone\x07 made\nstate      h -> next_h"
        tree.signatureDefs[0].signatureKey = b"a\x1bb"

    another(tiny, path, change)
    result = invoke(path)
    assert "\x1b" not in result.stdout
    assert r"\x1b[2J\x1b]0;gone\x07 made\nstate" in result.stdout
    assert ("signature", r"a\x1bb") in page_of(path)
    assert "\x1b" not in invoke(path, "--json").stdout


def test_scale_that_json_does_not_know(tiny: Artifact, path: Path) -> None:
    def change(tree: Any) -> None:
        one = tree.subgraphs[0].tensors[int(tree.signatureDefs[0].inputs[0].tensorIndex)]
        one.quantization.scale = np.array([np.nan], np.float32)

    result = invoke(another(tiny, path, change), "--json")
    assert "NaN" not in result.stdout
    assert json.loads(result.stdout)["signatures"][0]["inputs"][0]["scales"] == [None]


def test_damaged_plain_file(tiny: Artifact, path: Path) -> None:
    content = another(tiny, path).read_bytes()
    message = refusal(path, content[: len(content) // 2])
    assert message == (
        f"{path}: The TFLite model is damaged (an offset leads out of the file): "
        "copy it again from where it was made."
    )


def test_other_files(path: Path) -> None:
    assert "is not an edgelstm artifact" in refusal(path, b"time,flow\n")
    assert "looks like a Keras model" in refusal(path, b"\x89HDF" + bytes(100))


def test_no_file(path: Path, tmp_path: Path) -> None:
    result = invoke(path)
    assert result.exit_code == 2
    assert result.stderr == f"Error: {path} cannot be read: No such file or directory.\n"
    assert "cannot be read: Is a directory." in invoke(tmp_path).stderr
