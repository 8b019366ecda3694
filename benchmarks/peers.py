"""The peers of the speed benchmarks, each stepping an LSTM stack one reading at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgelstm.benchmark.fused_peer import fused_step
from edgelstm.benchmark.lstm_stack import LstmStack
from edgelstm.benchmark.onnx_peer import PRECISIONS, onnx_steps
from edgelstm.benchmark.timing import Candidate
from edgelstm_quantize.fused import fused_lstm

Readings = Sequence[NDArray[np.float64]]


def onnx_candidates(stack: LstmStack, readings: Readings) -> list[Candidate]:
    """Each precision in each way of ONNX Runtime's Python interface."""
    return [
        Candidate(f"ONNX Runtime {precision}, {way}", step, readings)
        for precision in PRECISIONS
        for way, step in onnx_steps(stack, precision).items()
    ]


def fused_model(stack: LstmStack) -> bytes:
    """A model with the fused operation of older converters, in int8."""
    return fused_lstm(stack.channels, stack.units, stack.targets)


def fused_candidate(model: bytes, readings: Readings, backend: str) -> Candidate:
    """The fused operation of older converters, in int8."""
    return Candidate("fused int8", fused_step(model, backend), readings)


def numpy_candidate(stack: LstmStack, readings: Readings) -> Candidate:
    """What one would write oneself, in float32: one product for each layer, arrays used again."""
    return Candidate("numpy float32", _NumpyStack(stack).step, readings)


class _NumpyStack:
    """LSTM layers and a Dense layer, random weights."""

    def __init__(self, stack: LstmStack) -> None:
        rng = np.random.default_rng(0)
        self._layers = []
        size = stack.channels
        for n in stack.units:
            kernel = rng.uniform(-0.2, 0.2, (size + n, 4 * n)).astype(np.float32)
            bias = rng.uniform(-0.2, 0.2, 4 * n).astype(np.float32)
            # sigmoid(z) = (1 + tanh(z / 2)) / 2: one tanh does for all gates.
            kernel[:, : 3 * n] /= 2
            bias[: 3 * n] /= 2
            both, cell = np.zeros(size + n, np.float32), np.zeros(n, np.float32)
            self._layers.append((kernel, bias, both, cell, np.zeros(4 * n, np.float32), size, n))
            size = n
        self._kernel = rng.uniform(-0.2, 0.2, (size, stack.targets)).astype(np.float32)

    def step(self, x: NDArray[np.float64]) -> NDArray[np.float32]:
        """One reading, (channels,), to the outputs, (targets,)."""
        value: NDArray[np.float64] | NDArray[np.float32] = x
        for kernel, bias, both, cell, gates, size, n in self._layers:
            both[:size] = value
            np.dot(both, kernel, out=gates)
            gates += bias
            np.tanh(gates, out=gates)
            sigmoids = gates[: 3 * n]
            sigmoids += 1
            sigmoids *= 0.5
            cell *= gates[n : 2 * n]
            cell += gates[:n] * gates[3 * n :]
            np.multiply(gates[2 * n : 3 * n], np.tanh(cell), out=both[size:])
            value = both[size:]
        result: NDArray[np.float32] = value @ self._kernel
        return result
