"""The backend on ai-edge-litert, the successor of tflite-runtime."""

from __future__ import annotations

from typing import Any

from edgelstm.backends.interpreter import InterpreterGraph


class LiteRtGraph(InterpreterGraph):
    """A step graph in ai-edge-litert."""

    backend = "litert"

    def _interpreter(self, flatbuffer: bytes, threads: int) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter(model_content=flatbuffer, num_threads=threads)
