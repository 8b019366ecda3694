"""The backend on tflite-runtime: armv7, and devices that have it already."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgelstm.backends.interpreter import InterpreterGraph
from edgelstm.errors import UnfitRuntimeError


class TfliteRuntimeGraph(InterpreterGraph):
    """A step graph in tflite-runtime."""

    backend = "tflite-runtime"

    def _interpreter(self, flatbuffer: bytes, threads: int) -> Any:
        from tflite_runtime.interpreter import Interpreter

        # With numpy 2 the import passes and the first interpreter fails with an obscure message.
        if int(np.__version__.split(".")[0]) >= 2:
            raise UnfitRuntimeError(
                f"tflite-runtime needs numpy 1, and numpy {np.__version__} is installed; "
                "run: pip install 'numpy<2'"
            )
        return Interpreter(model_content=flatbuffer, num_threads=threads)
