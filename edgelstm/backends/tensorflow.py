"""The backend on TensorFlow's own interpreter: for a machine that has TensorFlow anyway."""

from __future__ import annotations

import warnings
from typing import Any

from edgelstm.backends.interpreter import InterpreterGraph


class TensorflowGraph(InterpreterGraph):
    """A graph in TensorFlow's TFLite interpreter."""

    backend = "tensorflow"

    def _open(self, flatbuffer: bytes, threads: int, delegates: list[Any]) -> Any:
        import tensorflow as tf

        self.release = getattr(tf, "__version__", "")
        with warnings.catch_warnings():
            # It announces its own removal in favour of ai-edge-litert at every use.
            warnings.simplefilter("ignore")
            return tf.lite.Interpreter(
                model_content=flatbuffer, num_threads=threads, experimental_delegates=delegates
            )


def load_delegate(library: str, options: dict[str, str]) -> Any:
    """Loads a delegate. Raises ValueError when it says no, OSError when there is no library."""
    import tensorflow as tf

    return tf.lite.experimental.load_delegate(library, options)
