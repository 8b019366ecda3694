"""The shortest way from a reading to an output.

Of what a step costs, little is the graph's own work: each call of NumPy costs as much as a small
layer. So a reading goes through plain Python floats, which are checked, scaled, written and carried
in as few calls as possible, and the only array that is made is the output. A call with a fixed
number of arguments is the cheapest, so the function is written for the number of channels at hand,
as `dataclasses` and `namedtuple` write theirs. It gives the same numbers as `edgelstm.scaling`,
which says what they mean: the same operations on the same doubles.
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
from edgelstm.scaling import InputScaling, OutputScaling

Step = Callable[[ArrayLike], "NDArray[np.float64] | None"]

_WIDEST = 32  # channels; at 64 calls that take whole arrays are as fast or faster
_FORMATS = {"float32": "f", "int8": "b", "uint8": "B", "int16": "h"}


def closer_look(_: ArrayLike) -> None:
    """A step that takes nothing: every reading needs a closer look."""


def direct_step(memory: Memory, scale_in: InputScaling, scale_out: OutputScaling) -> Step | None:
    """A step on the memory of a graph of one input and one output.

    Args:
        memory: of the graph.
        scale_in: from physical units to the input's raw values.
        scale_out: from the output's raw values to physical units.

    Returns:
        A function of a reading, (channels,), an array, list or tuple, that gives the outputs,
        float64 (targets,), or None for a reading that needs a closer look: then nothing has
        happened. It raises BackendError when the runtime fails: the states are as before.
        None where there is no such way: too many channels, or tokens.
    """
    into, out = memory.inputs[0].reshape(-1), memory.outputs[0].reshape(-1)
    if into.size > _WIDEST or scale_in.affine is None:
        return None
    # What every step touches are local names (defaults), what few do are global ones: a name costs
    # a look into memory, and a large model has pushed all of it out of the nearest caches.
    local: dict[str, Any] = {
        "array": np.ndarray,
        "float64": np.dtype(np.float64),
        "pack": struct.Struct(f"{into.size}{_FORMATS[into.dtype.name]}").pack_into,
        "target": into.view(np.uint8).data,
        "invoke": memory.invoke,
        "read": out.astype,
    }
    scope: dict[str, Any] = {
        # Not numbers, not as many, or too large.
        "odd": (TypeError, ValueError, ArithmeticError, struct.error),
        "failed": _failed,
        "hypot": hypot,
        # As numbers are written below that a manifest out of all bounds leads to.
        "inf": np.inf,
        "nan": np.nan,
    }
    names = [f"x{i}" for i in range(into.size)]
    # Within these there is nothing to bound and nothing to scale; NaN is within no bounds.
    bound = repr(float(scale_in.plain)) if scale_in.plain else "inf"
    within = " and ".join(f"-{bound} < {name} < {bound}" for name in names)
    lines = [
        "kind = type(x)",
        "try:",
        "    if kind is array:",
        # As a list, dates are whole numbers and objects are anything.
        "        if x.dtype is not float64 and x.dtype.kind not in 'fiub': return None",
        "        x = x.tolist()",
        "    elif kind is list or kind is tuple: hypot(*x)",  # TypeError for what is no number
        "    else: return None",
        f"    {', '.join(names)}, = x",
        f"    if not ({within}): return None",
    ]
    if not scale_in.plain:
        parts = zip(*(part.tolist() for part in scale_in.affine), strict=True)
        for name, (gain, offset, low, high) in zip(names, parts, strict=True):
            lines += [
                # float(): a NumPy scalar of its own accord would compute in its own type.
                f"    {name} = float({name}) * {gain!r} + {offset!r}",
                f"    if {name} < {low!r}: {name} = {low!r}",
                f"    elif {name} > {high!r}: {name} = {high!r}",
            ]
        if into.dtype.kind in "iu":
            names = [f"round({name})" for name in names]  # half to even, as np.rint
    lines += [
        f"    pack(target, 0, {', '.join(names)})",
        "except odd: return None",
        "try: invoke()",
        "except RuntimeError as error: failed(error)",
    ]
    lines.append("y = read(float64)")  # first: an output may be a state as it went in
    for k, (state, following) in enumerate(memory.carries):
        local |= {f"state{k}": state, f"following{k}": following}
        lines.append(f"state{k}[:] = following{k}")
    if not scale_out.plain:
        local |= {"unit": scale_out.unit, "offset": scale_out.offset}
        lines += ["y *= unit", "y += offset"]
    lines.append("return y")
    known = "".join(f", {name}={name}" for name in local)
    source = f"def step(x{known}):\n" + "".join(f"    {line}\n" for line in lines)
    scope |= local
    exec(source, scope)  # noqa: S102  # of names and numbers that are made above
    step: Step = scope.pop("step")  # or it would hold itself, and with it the graph's memory
    return step


def _failed(error: RuntimeError) -> None:
    raise BackendError(f"The runtime failed at a step: {error}") from error
