"""The bare runtime: a TFLite interpreter without anything of edgelstm around it."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np

PACKAGES = {
    "litert": "ai-edge-litert",
    "tflite-runtime": "tflite-runtime",
    "tensorflow": "tensorflow",
}
"""Backend -> the package that it comes from."""

MODULES = {
    "litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
}
"""Backend -> the module of its `Interpreter`; loaded by name, so that none is needed."""


def bare_interpreter(flatbuffer: bytes, backend: str) -> Any:
    """An interpreter of the backend's own package, one thread, its inputs zero."""
    with warnings.catch_warnings():
        # TensorFlow announces its interpreter's removal at every use.
        warnings.simplefilter("ignore")
        cls = importlib.import_module(MODULES[backend]).Interpreter
        interpreter = cls(model_content=flatbuffer, num_threads=1)
    interpreter.allocate_tensors()
    for tensor in interpreter.get_input_details():
        # Memory as it comes may hold NaN or denormal numbers, which take other times.
        interpreter.set_tensor(tensor["index"], np.zeros(tensor["shape"], tensor["dtype"]))
    return interpreter


def inner_invoke(interpreter: Any) -> Callable[[], object]:
    """The interpreter's own `Invoke`, below its Python class: nothing can be faster."""
    invoke: Callable[[], object] = interpreter._interpreter.Invoke
    return invoke


def version_of(backend: str) -> str:
    """The version of a backend's package; "?" for one that was installed without saying so."""
    try:
        return metadata.version(PACKAGES[backend])
    except metadata.PackageNotFoundError:
        return "?"
