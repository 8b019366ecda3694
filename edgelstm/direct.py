"""The shortest way from a reading to an output, for graphs that take and give physical units.

Of what a step costs, little is the graph's own work: each call of NumPy costs as much as a small
layer. So a reading goes through plain Python floats, which are checked, written and carried in as
few calls as possible, and the only array that is made is the output.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import hypot
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelstm.backends.graph import Memory
from edgelstm.errors import BackendError

Step = Callable[[ArrayLike], "NDArray[np.float64] | None"]

_WIDEST = 16  # channels; from about here on, calls that take whole arrays are faster
_F64 = np.dtype(np.float64)


def closer_look(_: ArrayLike) -> None:
    """A step that takes nothing: every reading needs a closer look."""


def direct_step(memory: Memory, bound: float) -> Step | None:
    """A step on the memory of a graph, from one reading to its outputs.

    Args:
        memory: of a graph that takes and gives physical units.
        bound: it takes readings whose values are all below this.

    Returns:
        A function of a reading, (channels,), an array, list or tuple, that gives the outputs,
        float64 (targets,), or None for a reading that needs a closer look: then nothing has
        happened. None where there is no such way: several inputs or outputs, or other types.

    Raises:
        BackendError: by that function, when the runtime fails; the states are as before.
    """
    if len(memory.inputs) != 1 or len(memory.outputs) != 1:
        return None
    into, out = memory.inputs[0], memory.outputs[0]
    if into.dtype != np.float32 or out.dtype != np.float32 or into.size > _WIDEST:
        return None
    target = into.reshape(-1).view(np.uint8).data
    pack = struct.Struct(f"{into.size}f").pack_into
    read = out.reshape(-1).astype
    invoke = memory.invoke
    nothing = memoryview(bytearray())
    (state, following), *others = memory.carries or [(nothing, nothing)]
    odd = (TypeError, OverflowError, struct.error)  # not numbers, or not as many

    def step(x: ArrayLike) -> NDArray[np.float64] | None:
        kind: Any = type(x)
        if kind is np.ndarray:
            values: Any = x.tolist()  # type: ignore[union-attr]  # mypy does not follow `kind`
        elif kind is list or kind is tuple:
            values = x
        else:
            return None
        try:
            # At least the largest |value|; NaN and infinity are not below anything.
            if not hypot(*values) < bound:
                return None
            pack(target, 0, *values)
        except odd:
            return None
        try:
            invoke()
        except RuntimeError as error:
            raise BackendError(f"The runtime failed at a step: {error}") from error
        state[:] = following
        for more, source in others:
            more[:] = source
        return read(_F64)

    return step
