from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm import Session, load
from edgelstm.artifact import Artifact
from edgelstm.backends.refusals import explain
from edgelstm.errors import ArtifactError, BackendError, DelegateWarning
from edgelstm.manifest import Operation

TANH = 28


def with_operation(artifact: Artifact, change: Callable[[Any], None]) -> Artifact:
    """The artifact with another code for its TANH."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(artifact.flatbuffer, 0))
    for code in tree.operatorCodes:
        if code.deprecatedBuiltinCode == TANH:
            change(code)
    model = bytes(flatbuffer_utils.convert_object_to_bytearray(tree))
    return dataclasses.replace(artifact, flatbuffer=model)


def refusal(artifact: Artifact) -> str:
    with pytest.raises(BackendError) as caught:
        Session(artifact, backend="litert")
    message = str(caught.value)
    assert "\n" not in message
    return message


def custom(name: bytes) -> Callable[[Any], None]:
    def change(code: Any) -> None:
        code.builtinCode = code.deprecatedBuiltinCode = 32
        code.customCode = name

    return change


def test_a_version_that_the_runtime_does_not_know(tiny: Artifact) -> None:
    def change(code: Any) -> None:
        code.version = 99

    assert refusal(with_operation(tiny, change)) == (
        "The runtime litert does not know version 99 of the operation TANH, which this model "
        "needs: install a later release of it, or convert the model for it with --runtime."
    )


def test_an_operation_that_the_runtime_does_not_know(tiny: Artifact) -> None:
    def change(code: Any) -> None:
        code.builtinCode, code.deprecatedBuiltinCode = 250, 127

    assert "does not know an operation of this model" in refusal(with_operation(tiny, change))


def test_a_custom_operation(tiny: Artifact) -> None:
    message = refusal(with_operation(tiny, custom(b"my-op")))
    assert message.startswith("This model needs the custom operation 'my-op', which the runtime")


def test_a_model_for_the_edge_tpu(tiny: Artifact) -> None:
    message = refusal(with_operation(tiny, custom(b"edgetpu-custom-op")))
    assert message.startswith("This model is compiled for an Edge TPU and runs with one only")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tensor 7\nsomething else", "cannot run this model: tensor 7."),
        ("Trouble.", "cannot run this model: Trouble."),
        ("", "cannot run this model: <class 'ValueError'>."),
    ],
)
def test_of_other_errors_the_first_line(text: str, said: str) -> None:
    assert explain("litert", ValueError(text)) == f"The backend litert {said}"


# Compiled models


@pytest.fixture
def compiled(tiny: Artifact) -> Artifact:
    """As `quantize --device coral-usb` makes it, but for what the compiler would have made."""
    model = with_operation(tiny, custom(b"edgetpu-custom-op")).flatbuffer
    manifest = dataclasses.replace(
        tiny.manifest,
        sha256=hashlib.sha256(model).hexdigest(),
        flatbuffer_bytes=len(model),
        cpu_sha256=tiny.manifest.sha256,
        operations=(Operation("edgetpu-custom-op", 1, 1),),
    )
    return Artifact(manifest, model, tiny.golden, cpu=tiny.flatbuffer)


def test_without_a_delegate_a_compiled_model_runs_on_the_cpu(
    compiled: Artifact, tiny: Artifact, tmp_path: Path
) -> None:
    compiled.write(tmp_path / "pump_edgetpu.tflite")
    expected = Session(tiny).replay(tiny.golden.x)
    with load(tmp_path / "pump_edgetpu.tflite", verify=True) as session:
        assert np.array_equal(session.replay(tiny.golden.x), expected)


def test_a_compiled_model_goes_on_on_the_cpu_when_the_stick_is_not_there(
    compiled: Artifact, tiny: Artifact, tmp_path: Path
) -> None:
    compiled.write(tmp_path / "pump_edgetpu.tflite")
    expected = Session(tiny).replay(tiny.golden.x)
    with pytest.warns(DelegateWarning, match="the steps go on on the CPU"):
        session = load(tmp_path / "pump_edgetpu.tflite", delegate="/nowhere/libnone.so")
    with session:
        assert np.array_equal(session.replay(tiny.golden.x), expected)
        assert session.delegate_counters is not None
        assert session.delegate_counters.cpu_steps == len(expected)


def test_a_compiled_model_without_one_for_the_cpu_is_refused(
    compiled: Artifact, tmp_path: Path
) -> None:
    manifest = dataclasses.replace(compiled.manifest, cpu_sha256=None)
    alone = dataclasses.replace(compiled, manifest=manifest, cpu=None)
    alone.write(tmp_path / "pump_edgetpu.tflite")
    with pytest.raises(ArtifactError, match="carries none for the CPU to fall back on"):
        load(tmp_path / "pump_edgetpu.tflite", delegate="edgetpu")
    with pytest.raises(BackendError, match="compiled for an Edge TPU and runs with one only"):
        load(tmp_path / "pump_edgetpu.tflite")
