"""The legacy fused LSTM operation as a peer, run by the bare runtime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgelstm.benchmark.runtime import bare_interpreter, inner_invoke

Step = Callable[[NDArray[np.float64]], NDArray[np.float32]]
"""Takes a reading, (channels,), gives the outputs, (targets,), and keeps the states."""


def fused_step(flatbuffer: bytes, backend: str) -> Step:
    """Steps a model made by `edgelstm_quantize.fused`, in the fastest way Python has.

    Its arrays are written and read in place, and the runtime's inner `Invoke` is called.
    """
    interpreter = bare_interpreter(flatbuffer, backend)
    (x,), (y,) = interpreter.get_input_details(), interpreter.get_output_details()
    invoke = inner_invoke(interpreter)
    inputs: NDArray[np.float32] = interpreter.tensor(x["index"])()[0, 0]
    outputs: NDArray[np.float32] = interpreter.tensor(y["index"])()[0, 0]

    def step(reading: NDArray[np.float64]) -> NDArray[np.float32]:
        inputs[:] = reading
        invoke()
        return outputs.copy()

    return step
