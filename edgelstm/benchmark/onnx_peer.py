"""ONNX Runtime as a peer: an LSTM stack of an artifact's sizes, stepped one reading at a time.

Its weights are random: they do not change its speed. One thread, as for the artifact.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.benchmark.lstm_stack import LstmStack
from edgelstm.errors import MissingDependencyError

Step = Callable[[NDArray[np.float64]], NDArray[np.float32]]
"""Takes a reading, (channels,), gives the outputs, (targets,), and keeps the states."""

PRECISIONS = ("float32", "int8")
"""int8 is what `onnxruntime.quantization.quantize_dynamic` makes of the LSTM layers."""

# Old enough for any ONNX Runtime of the last years, new enough for all that is used.
_OPSET, _IR_VERSION = 17, 8


def onnx_steps(stack: LstmStack, precision: str) -> dict[str, Step]:
    """The ways in which ONNX Runtime's Python interface steps a model.

    Args:
        stack: the sizes.
        precision: one of `PRECISIONS`.

    Returns:
        "run": `InferenceSession.run` with the states passed from call to call; "IOBinding":
        `run_with_iobinding` on arrays that stay where they are. Each has a state of its own.

    Raises:
        MissingDependencyError: onnxruntime or onnx is not installed.
    """
    onnx, runtime = _import("onnx"), _import("onnxruntime")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lstm.onnx")
        onnx.save(_model(stack, onnx), str(path))
        if precision == "int8":
            path = _quantised(path, folder)
        data = path.read_bytes()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    sessions = [
        runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        for _ in range(2)
    ]
    return {"run": _Run(sessions[0]).step, "IOBinding": _Binding(sessions[1]).step}


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"--against onnxruntime needs {name}; run: pip install 'edgelstm[peers]'"
        ) from error


def _model(stack: LstmStack, onnx: Any) -> Any:
    """LSTM and Gemm nodes; inputs x, h0, c0, h1, ..., outputs y and the next states."""
    helper, float_type = onnx.helper, onnx.TensorProto.FLOAT
    rng = np.random.default_rng(0)
    constants = []

    def constant(name: str, *shape: int) -> str:
        values = rng.uniform(-0.2, 0.2, shape).astype(np.float32)
        constants.append(onnx.numpy_helper.from_array(values, name))
        return name

    def port(name: str, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, float_type, list(shape))

    inputs = [port("x", 1, 1, stack.channels)]
    outputs = [port("y", 1, stack.targets)]
    nodes = []
    source, size = "x", stack.channels
    for i, n in enumerate(stack.units):
        weights = constant(f"w{i}", 1, 4 * n, size)
        recurrent = constant(f"r{i}", 1, 4 * n, n)
        bias = constant(f"b{i}", 1, 8 * n)
        states = [f"h{i}", f"c{i}"]
        following = [f"h{i}_out", f"c{i}_out"]
        # The hidden state of the only step is what the layer above reads: (1, 1, units).
        nodes.append(
            helper.make_node(
                "LSTM",
                [source, weights, recurrent, bias, "", *states],
                ["", *following],
                hidden_size=n,
            )
        )
        inputs += [port(name, 1, 1, n) for name in states]
        outputs += [port(name, 1, 1, n) for name in following]
        source, size = following[0], n
    kernel, bias = constant("kernel", size, stack.targets), constant("bias", stack.targets)
    row = onnx.numpy_helper.from_array(np.array([1, size], np.int64), "row")
    nodes.append(helper.make_node("Reshape", [source, "row"], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", kernel, bias], ["y"]))
    graph = helper.make_graph(nodes, "lstm", inputs, outputs, [*constants, row])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = _IR_VERSION
    return model


def _quantised(path: Path, folder: str) -> Path:
    """The model with its LSTM layers in dynamic int8; the small Dense layer is faster in float."""
    quantization = _import("onnxruntime.quantization")
    target = Path(folder, "int8.onnx")
    with _without_warnings():
        quantization.quantize_dynamic(
            path,
            target,
            op_types_to_quantize=["LSTM"],
            weight_type=quantization.QuantType.QInt8,
        )
    return target


@contextmanager
def _without_warnings() -> Iterator[None]:
    """It recommends a preparation that makes no difference to this model."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class _Run:
    """Steps with `run`, the states handed from one call to the next."""

    def __init__(self, session: Any) -> None:
        x, *states = session.get_inputs()
        self._run = session.run
        self._outputs = [output.name for output in session.get_outputs()]
        self._x = np.zeros(x.shape, np.float32)
        self._feed = {x.name: self._x} | {s.name: np.zeros(s.shape, np.float32) for s in states}
        self._states = [state.name for state in states]

    def step(self, x: NDArray[np.float64]) -> NDArray[np.float32]:
        self._x[0, 0] = x
        y, *states = self._run(self._outputs, self._feed)
        self._feed.update(zip(self._states, states, strict=True))
        result: NDArray[np.float32] = y[0]
        return result


class _Binding:
    """Steps with `run_with_iobinding`: two sets of states, each the other's successor."""

    def __init__(self, session: Any) -> None:
        x, *states = session.get_inputs()
        y, *following = session.get_outputs()
        self._x, self._y = (np.zeros(port.shape, np.float32) for port in (x, y))
        # The bindings hold bare addresses: the arrays must live as long.
        self._arrays = [[np.zeros(s.shape, np.float32) for s in states] for _ in range(2)]
        bindings = []
        for now, then in (self._arrays, self._arrays[::-1]):
            binding = session.io_binding()
            for port, array in zip([x, *states], [self._x, *now], strict=True):
                address = array.ctypes.data
                binding.bind_input(port.name, "cpu", 0, np.float32, array.shape, address)
            for port, array in zip([y, *following], [self._y, *then], strict=True):
                address = array.ctypes.data
                binding.bind_output(port.name, "cpu", 0, np.float32, array.shape, address)
            bindings.append(binding)
        self._run = session.run_with_iobinding
        self._next = itertools.cycle(bindings).__next__

    def step(self, x: NDArray[np.float64]) -> NDArray[np.float32]:
        self._x[0, 0] = x
        self._run(self._next())
        result: NDArray[np.float32] = self._y[0].copy()
        return result
