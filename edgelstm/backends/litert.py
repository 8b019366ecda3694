"""The backend on ai-edge-litert, the successor of tflite-runtime."""

from __future__ import annotations

from typing import Any

from edgelstm.backends.interpreter import InterpreterGraph


class LiteRtGraph(InterpreterGraph):
    """A graph in ai-edge-litert."""

    backend = "litert"

    def _open(self, flatbuffer: bytes, threads: int, delegates: list[Any]) -> Any:
        import ai_edge_litert
        from ai_edge_litert.interpreter import Interpreter

        self.release = getattr(ai_edge_litert, "__version__", "")
        return Interpreter(
            model_content=flatbuffer, num_threads=threads, experimental_delegates=delegates
        )


def load_delegate(library: str, options: dict[str, str]) -> Any:
    """Loads a delegate. Raises ValueError when it says no, OSError when there is no library."""
    from ai_edge_litert import interpreter

    return interpreter.load_delegate(library, options)
