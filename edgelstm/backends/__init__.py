"""Backends: the TFLite interpreters that can run a step graph, behind one small interface.

The registry names the module and the class of each backend, so that importing edgelstm loads
none of them.
"""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

from edgelstm.backends.graph import Delegate, Graph, Wiring
from edgelstm.backends.refusals import explain
from edgelstm.errors import (
    BackendError,
    ConfigurationError,
    DelegateError,
    MissingDependencyError,
    UnfitRuntimeError,
)


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

__all__ = [
    "BACKENDS",
    "RUNTIME_PACKAGES",
    "Delegate",
    "Graph",
    "Wiring",
    "backend_module",
    "open_graph",
]

BACKENDS = ("auto", *_REGISTRY)

RUNTIME_PACKAGES = {"litert": "ai-edge-litert", "tflite-runtime": "tflite-runtime"}
"""Backend -> the package whose releases a manifest names."""


def open_graph(
    flatbuffer: bytes,
    wiring: Wiring,
    backend: str = "auto",
    threads: int = 1,
    *,
    batch: int = 1,
    delegate: Delegate | None = None,
) -> Graph:
    """Loads a TFLite model into a backend.

    Args:
        flatbuffer: the model.
        wiring: its tensors.
        backend: a name from `BACKENDS`; "auto" takes the first that is installed.
        threads: threads the interpreter may use; one is best for small recurrent models.
        batch: how many steps side by side one run takes.
        delegate: what the backend hands operations to, in this process.

    Raises:
        ConfigurationError: there is no backend of that name, or not one thread.
        MissingDependencyError: the backend, or with "auto" any backend, is not installed.
        UnfitRuntimeError: it is installed, but not with what it needs.
        DelegateError: the delegate cannot be loaded, or refuses the model.
        BackendError: the backend cannot run this model.
    """
    if backend not in BACKENDS:
        raise ConfigurationError(f"No backend is called {backend!r}; try {', '.join(BACKENDS)}.")
    if not isinstance(threads, int) or threads < 1:
        raise ConfigurationError(f"The number of threads is {threads!r}; take 1 or more.")
    reasons: list[Exception] = []
    for name in _REGISTRY if backend == "auto" else (backend,):
        entry = _REGISTRY[name]
        module = backend_module(name)
        cls = getattr(module, entry.cls)
        try:
            delegates = [_load_delegate(module, delegate)] if delegate else []
            graph: Graph = cls(flatbuffer, wiring, threads, batch=batch, delegates=delegates)
        except (ImportError, UnfitRuntimeError) as error:
            reasons.append(error)
            continue
        except BackendError:
            raise
        except (ValueError, RuntimeError) as error:
            kind = DelegateError if delegate else BackendError
            raise kind(explain(name, error)) from error
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


def _load_delegate(module: ModuleType, delegate: Delegate) -> object:
    try:
        return module.load_delegate(delegate.library, dict(delegate.options))
    except (OSError, ValueError) as error:
        raise DelegateError(f"The delegate {delegate.library} cannot be loaded: {error}") from error


def backend_module(backend: str) -> ModuleType:
    """The module of a backend: its graph class, and `load_delegate`."""
    return importlib.import_module(_REGISTRY[backend].module)


def _usual_backend() -> str:
    """The backend that has wheels for this Python."""
    # A 32-bit Raspberry Pi OS runs on a 64-bit kernel, which calls the machine aarch64.
    narrow = platform.machine().startswith("arm") or sys.maxsize < 2**32
    return "tflite-runtime" if narrow else "litert"
