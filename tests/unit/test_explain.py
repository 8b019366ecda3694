from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from edgelstm import Session
from edgelstm.artifact import Artifact
from edgelstm.backends.refusals import explain
from edgelstm.errors import BackendError

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
