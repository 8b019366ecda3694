"""The backend on TensorFlow's own interpreter: for a machine that has TensorFlow anyway."""

from __future__ import annotations

import warnings
from typing import Any

from edgelstm.backends.interpreter import InterpreterGraph


class TensorflowGraph(InterpreterGraph):
    """A step graph in TensorFlow's TFLite interpreter."""

    backend = "tensorflow"

    def _interpreter(self, flatbuffer: bytes, threads: int) -> Any:
        import tensorflow as tf

        with warnings.catch_warnings():
            # It announces its own removal in favour of ai-edge-litert at every use.
            warnings.simplefilter("ignore")
            return tf.lite.Interpreter(model_content=flatbuffer, num_threads=threads)
