"""Stateful calibration: records the range of every tensor while the step graph runs in time.

The stock calibrators run shuffled samples from zero states and smooth the ranges; a recurrent
model then meets states in service that were never seen, and clips them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm_quantize.progress import Progress, silent
from edgelstm_quantize.step_graph import INPUT, StateTensor
from edgelstm_quantize.tflite import open_reference, operations, signature

Ranges = dict[str, tuple[float, float]]
"""Tensor name -> the lowest and the highest value it took."""


def excursions(z: NDArray[np.float64], clip: float | None) -> list[NDArray[np.float64]]:
    """The sequences to calibrate on: the recording, and where it may still go.

    A model that clips its normalised input at +-clip says that it works up to there, and a
    sensor that drifts out of what was recorded is exactly what it is watched for. So for such a
    model the recording is run twice more, shifted until it touches either bound.

    Args:
        z: the recording, normalised, (steps, channels).
        clip: the bound, or None.

    Returns:
        One or three arrays like `z`.
    """
    if clip is None:
        return [z]
    z = np.clip(z, -clip, clip)
    return [z, z + (clip - z.max(axis=0)), z - (clip + z.min(axis=0))]


def record_ranges(
    float_model: bytes,
    states: Sequence[StateTensor],
    sequences: Iterable[NDArray[np.float64]],
    on_progress: Progress = silent,
) -> Ranges:
    """Runs a float step graph statefully over each sequence and records every tensor's range.

    A state's input and output get the union of their ranges, and the union holds 0: both then
    have the same scale, and a reset state is exact.

    Args:
        float_model: a TFLite model whose signature has `x` and the states.
        states: the states of the step graph.
        sequences: normalised readings (steps, channels), each run from zero states.
        on_progress: told about every hundred steps.

    Returns:
        Exact ranges of all float tensors that are computed or put in, constants left out.
    """
    interpreter = open_reference(float_model, keep_all_tensors=True)
    tensors = signature(interpreter)
    ins = {name: d["index"] for name, d in tensors.inputs.items()}
    outs = {name: d["index"] for name, d in tensors.outputs.items()}
    names = _activations(interpreter, set(ins.values()))
    views = {index: interpreter.tensor(index) for index in names}
    low = dict.fromkeys(names, np.inf)
    high = dict.fromkeys(names, -np.inf)

    sequences = list(sequences)
    total, done = sum(map(len, sequences)), 0
    for z in sequences:
        for state in states:
            views[ins[state.name]]()[...] = 0
        for row in z.astype(np.float32):
            views[ins[INPUT]]()[...] = row
            interpreter.invoke()
            _widen(views, low, high)
            for state in states:
                views[ins[state.name]]()[...] = views[outs[state.output_name]]()
            done += 1
            if done % 100 == 0:
                on_progress("calibrating", done, total)

    for state in states:
        pair = (ins[state.name], outs[state.output_name])
        both = min(0.0, *(low[i] for i in pair)), max(0.0, *(high[i] for i in pair))
        for i in pair:
            low[i], high[i] = both
    return {name: (float(low[i]), float(high[i])) for i, name in names.items()}


def _widen(views: dict[int, Any], low: dict[int, float], high: dict[int, float]) -> None:
    """Widens the ranges to the present values. No view outlives this call: see InterpreterGraph."""
    for index, view in views.items():
        value = view()
        low[index] = min(low[index], value.min())
        high[index] = max(high[index], value.max())


def _activations(interpreter: Any, inputs: set[int]) -> dict[int, str]:
    """Index and name of every float tensor that is an input or that an operation writes."""
    # A range for a constant would force per-tensor weights.
    written = {int(i) for op in operations(interpreter) for i in op["outputs"]}
    return {
        d["index"]: d["name"]
        for d in interpreter.get_tensor_details()
        if d["index"] in written | inputs and d["dtype"] == np.float32
    }
