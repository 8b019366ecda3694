"""The backend on tflite-runtime: armv7, and devices that have it already."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgelstm.backends.interpreter import InterpreterGraph
from edgelstm.errors import UnfitRuntimeError


class TfliteRuntimeGraph(InterpreterGraph):
    """A graph in tflite-runtime."""

    backend = "tflite-runtime"

    def _open(self, flatbuffer: bytes, threads: int, delegates: list[Any]) -> Any:
        import tflite_runtime
        from tflite_runtime.interpreter import Interpreter

        self.release = getattr(tflite_runtime, "__version__", "")
        # With numpy 2 the import passes and the first interpreter fails with an obscure message.
        if int(np.__version__.split(".")[0]) >= 2:
            raise UnfitRuntimeError(
                f"tflite-runtime needs numpy 1, and numpy {np.__version__} is installed; "
                "run: pip install 'numpy<2'"
            )
        return Interpreter(
            model_content=flatbuffer, num_threads=threads, experimental_delegates=delegates
        )


def load_delegate(library: str, options: dict[str, str]) -> Any:
    """Loads a delegate. Raises ValueError when it says no, OSError when there is no library."""
    from tflite_runtime import interpreter

    return interpreter.load_delegate(library, options)
