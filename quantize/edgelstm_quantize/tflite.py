"""A TFLite model as the host looks at it: the reference interpreter and what it knows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edgelstm.backends.litert import LiteRtGraph


@dataclass(frozen=True)
class Signature:
    """Details of the tensors of the model's only signature, by name."""

    inputs: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, Any]]


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the runtime's warning that to keep all tensors is for debugging: so it is here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*preserve_all_tensors", UserWarning)
        yield


def open_reference(model: bytes, *, keep_all_tensors: bool = False) -> Any:
    """An interpreter with the plain kernels: a delegate would fuse operations.

    Args:
        model: the flatbuffer.
        keep_all_tensors: whether tensors between operations can be read after a run.
    """
    # ai-edge-quantizer depends on ai-edge-litert, so on the host it is always there.
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with quiet():
        interpreter = Interpreter(
            model_content=model,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=keep_all_tensors,
        )
    interpreter.allocate_tensors()
    return interpreter


class PlainKernels(LiteRtGraph):
    """A graph in ai-edge-litert without delegates: the kernels that tflite-runtime has as well."""

    backend = "litert-plain"

    def _open(self, flatbuffer: bytes, threads: int, delegates: list[Any]) -> Any:  # noqa: ARG002  # as its base
        return open_reference(flatbuffer)


def signature(interpreter: Any) -> Signature:
    """The signature. The runner it comes from is let go: alive, it would block `invoke`."""
    runner = interpreter.get_signature_runner()
    return Signature(runner.get_input_details(), runner.get_output_details())


def operations(interpreter: Any) -> list[dict[str, Any]]:
    """The operations in order: `op_name`, `inputs` and `outputs` (tensor indices)."""
    # There is no public list; the alternative is to parse the flatbuffer a second time.
    found: list[dict[str, Any]] = interpreter._get_ops_details()
    return found
