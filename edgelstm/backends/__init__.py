"""Backends: the TFLite interpreters that can run a step graph, behind one small interface.

The registry names the module and the class of each backend, so that importing edgelstm loads
none of them.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from edgelstm.errors import (
    BackendError,
    ConfigurationError,
    MissingDependencyError,
    UnfitRuntimeError,
)


class Graph(Protocol):
    """A loaded step graph. Tensors are addressed by their names in the signature.

    Raw values go in and come out: int8 tensors hold quantised values.
    """

    backend: str

    def write(self, name: str, value: NDArray[Any]) -> None:
        """Copies a value into an input tensor."""

    def read(self, name: str) -> NDArray[Any]:
        """Returns a copy of an output tensor."""

    def carry(self, output: str, input: str) -> None:  # noqa: A002  # the word of the field
        """Copies an output tensor into an input tensor of the same type, as it is."""

    def invoke(self) -> None:
        """Runs the graph once."""


@dataclass(frozen=True)
class _Entry:
    module: str
    cls: str
    requirement: str


# In the order in which "auto" tries them.
_REGISTRY: Mapping[str, _Entry] = {
    "litert": _Entry("edgelstm.backends.litert", "LiteRtGraph", "ai-edge-litert"),
    "tflite-runtime": _Entry(
        "edgelstm.backends.tflite_runtime", "TfliteRuntimeGraph", "'edgelstm[tflite-runtime]'"
    ),
    "tensorflow": _Entry("edgelstm.backends.tensorflow", "TensorflowGraph", "tensorflow"),
}

BACKENDS = ("auto", *_REGISTRY)

RUNTIME_PACKAGES = {"litert": "ai-edge-litert", "tflite-runtime": "tflite-runtime"}
"""Backend -> the package whose releases a manifest names."""


def open_graph(flatbuffer: bytes, backend: str = "auto", threads: int = 1) -> Graph:
    """Loads a TFLite model into a backend.

    Args:
        flatbuffer: the model.
        backend: a name from `BACKENDS`; "auto" takes the first that is installed.
        threads: threads the interpreter may use; one is best for small recurrent models.

    Raises:
        ConfigurationError: there is no backend of that name.
        MissingDependencyError: the backend, or with "auto" any backend, is not installed.
        UnfitRuntimeError: it is installed, but not with what it needs.
        BackendError: the backend cannot run this model.
    """
    if backend not in BACKENDS:
        raise ConfigurationError(f"No backend is called {backend!r}; try {', '.join(BACKENDS)}.")
    reasons: list[Exception] = []
    for name in _REGISTRY if backend == "auto" else (backend,):
        entry = _REGISTRY[name]
        cls = getattr(importlib.import_module(entry.module), entry.cls)
        try:
            graph: Graph = cls(flatbuffer, threads)
        except (ImportError, UnfitRuntimeError) as error:
            reasons.append(error)
            continue
        except (ValueError, RuntimeError) as error:
            raise BackendError(f"The backend {name} cannot run this model: {error}") from error
        return graph
    # A runtime that is there and does not fit is closer to working than one that is not there.
    for reason in reasons:
        if isinstance(reason, UnfitRuntimeError):
            raise reason
    wanted = _usual_backend() if backend == "auto" else backend
    what = "No TFLite runtime is" if backend == "auto" else f"The backend {backend} is not"
    raise MissingDependencyError(
        f"{what} installed for this Python; run: pip install {_REGISTRY[wanted].requirement}"
    ) from reasons[0]


def _usual_backend() -> str:
    """The backend that has wheels for this machine."""
    return "tflite-runtime" if platform.machine() in ("armv7l", "armv6l") else "litert"
