"""What the three TFLite interpreters have in common: they share one Python interface.

A step takes a few microseconds, and calls through that interface cost more than the work. So the
views on the tensors are taken once, and the interpreter's inner `Invoke` is called: the outer one
refuses to run while views are alive, because a run may move tensors of unknown size. These have
fixed sizes, and that they stay where they are is checked when a graph is loaded. Where a release
has no inner `Invoke`, views are taken anew at each step: slower, and otherwise the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from edgelstm.backends.graph import Memory, Wiring
from edgelstm.errors import BackendError
from edgelstm.manifest import TensorSpec

View = Callable[[], NDArray[Any]]


class InterpreterGraph:
    """A graph in a TFLite interpreter, whichever package that comes from.

    Args:
        flatbuffer: the model.
        wiring: its tensors.
        threads: threads the interpreter may use.
        batch: how many steps side by side one run takes.
        delegates: loaded delegates of the same package.

    Raises:
        BackendError: the graph is not as the wiring says, or cannot be resized to the batch.
        ImportError, UnfitRuntimeError: the package is missing or does not fit.
        ValueError, RuntimeError: the interpreter refuses the model.
    """

    backend: ClassVar[str] = ""
    release: str = ""

    def __init__(
        self,
        flatbuffer: bytes,
        wiring: Wiring,
        threads: int,
        *,
        batch: int = 1,
        delegates: Sequence[Any] = (),
    ) -> None:
        self._interpreter: Any = self._open(flatbuffer, threads, list(delegates))
        self.nodes: Sequence[dict[str, Any]] = ()
        """What the graph is made of, where a delegate took some of it and the runtime tells.

        It is only to be seen now: when tensors are allocated the runtime hands what is left to its
        own XNNPACK, whose nodes look like any delegate's.
        """
        if delegates and (details := getattr(self._interpreter, "_get_ops_details", None)):
            self.nodes = details()
        found = self._interpreter.get_signature_list().get(wiring.signature)
        if found is None:
            raise BackendError(f"The model has no signature {wiring.signature!r}.")
        details = self._details(wiring.signature)
        pairs = wiring.states
        ins = [*wiring.inputs, *(pair.input for pair in pairs)]
        outs = [*wiring.outputs, *(pair.output for pair in pairs)]
        if {spec.name for spec in ins} != set(found["inputs"]):
            raise BackendError("The inputs of the model are not those that its manifest names.")
        if batch != 1:
            for spec in ins:
                _check(spec, details[spec.name], 1)
                index = details[spec.name]["index"]
                self._interpreter.resize_tensor_input(index, (batch, *spec.shape[1:]))
        self._interpreter.allocate_tensors()
        details = self._details(wiring.signature)  # the sizes are known only now
        for spec in (*ins, *outs):
            _check(spec, details.get(spec.name), batch)
        for pair in pairs:
            if (pair.input.shape, pair.input.dtype) != (pair.output.shape, pair.output.dtype):
                raise BackendError(
                    f"The state {pair.input.name!r} goes in and comes out in different forms."
                )
        views = {s.name: self._interpreter.tensor(details[s.name]["index"]) for s in (*ins, *outs)}
        for spec in ins:
            views[spec.name]()[...] = spec.zero_point
        self.memory: Memory | None = None
        self._invoke: Any = self._interpreter.invoke
        if inner := getattr(getattr(self._interpreter, "_interpreter", None), "Invoke", None):
            kept = _kept(views, inner)
            if kept:
                views, self._invoke = kept, inner
        self._inputs = [views[spec.name] for spec in wiring.inputs]
        self._outputs = [views[spec.name] for spec in wiring.outputs]
        self._states = [(views[pair.input.name], views[pair.output.name]) for pair in pairs]
        if self._invoke is inner:
            carries = _carries([(into(), out()) for into, out in self._states])
            if carries is not None:
                self.memory = Memory(
                    [view() for view in self._inputs],
                    [view() for view in self._outputs],
                    carries,
                    inner,
                )

    def _open(self, flatbuffer: bytes, threads: int, delegates: list[Any]) -> Any:
        """The interpreter; sets `release`."""
        raise NotImplementedError

    def _details(self, signature: str) -> dict[str, dict[str, Any]]:
        runner = self._interpreter.get_signature_runner(signature)
        details: dict[str, dict[str, Any]] = (
            runner.get_input_details() | runner.get_output_details()
        )
        return details

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """See `Graph.run`."""
        if self._interpreter is None:
            raise BackendError("This graph is closed.")
        for view, value in zip(self._inputs, inputs, strict=True):
            _write(view(), value)
        try:
            self._invoke()
        except RuntimeError as error:
            raise BackendError(f"The runtime {self.backend} failed at a step: {error}") from error
        outputs = [view().copy() for view in self._outputs]
        if self.memory:
            for target, source in self.memory.carries:
                target[:] = source
        else:
            following = [out().copy() for _, out in self._states]
            for (state, _), value in zip(self._states, following, strict=True):
                state()[...] = value
        return outputs

    @property
    def states(self) -> list[NDArray[Any]]:
        """See `Graph.states`."""
        return [state().copy() for state, _ in self._states]

    @states.setter
    def states(self, states: Sequence[NDArray[Any]]) -> None:
        for (state, _), value in zip(self._states, states, strict=True):
            state()[...] = value

    @property
    def inputs(self) -> list[NDArray[Any]]:
        """See `Graph.inputs`."""
        return [view().copy() for view in self._inputs]

    def close(self) -> None:
        """See `Graph.close`."""
        self._inputs, self._outputs, self._states = [], [], []
        self.memory = None
        self._invoke = self._interpreter = None


def _write(into: NDArray[Any], value: NDArray[Any]) -> None:
    # A function of its own: the outer `invoke` refuses to run while a local name holds a view.
    into[...] = value.reshape(into.shape)


def _check(spec: TensorSpec, details: dict[str, Any] | None, batch: int) -> None:
    """Makes sure that a tensor is what the manifest says it is."""
    if details is None:
        raise BackendError(f"The model has no tensor {spec.name!r}, which its manifest names.")
    shape, dtype = tuple(map(int, details["shape"])), np.dtype(details["dtype"]).name
    expected = (batch, *spec.shape[1:])
    if (shape, dtype) != (expected, spec.dtype):
        raise BackendError(
            f"The tensor {spec.name!r} is {dtype} {shape}, and not {spec.dtype} {expected}."
        )


def _kept(views: dict[str, View], invoke: Callable[[], None]) -> dict[str, View] | None:
    """The views, each taken once; None when a run moves the tensors."""
    arrays = {name: view() for name, view in views.items()}
    invoke()
    if any(_address(views[name]()) != _address(array) for name, array in arrays.items()):
        return None
    return {name: partial(_same, array) for name, array in arrays.items()}


def _same(array: NDArray[Any]) -> NDArray[Any]:
    return array


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _carries(
    states: Sequence[tuple[NDArray[Any], NDArray[Any]]],
) -> list[tuple[memoryview, memoryview]] | None:
    """Blocks of bytes to copy from the outputs to the inputs, in this order, as few as possible.

    The converter numbers the states so that most runtimes lay them side by side, in the same order
    on both sides: then it is one block. What comes out may be the very tensor by which another
    state goes in (a delay line): it is read before it is overwritten. None where that cannot be,
    because states change places.
    """
    blocks: list[tuple[NDArray[Any], NDArray[Any], int]] = []
    for into, out in sorted(states, key=lambda pair: _address(pair[0])):
        if blocks:
            start, source, size = blocks[-1]
            if (_address(into), _address(out)) == (_address(start) + size, _address(source) + size):
                blocks[-1] = start, source, size + into.nbytes
                continue
        blocks.append((into, out, into.nbytes))
    ordered = []
    while blocks:
        for i, (into, _, size) in enumerate(blocks):
            others = blocks[:i] + blocks[i + 1 :]
            if not any(_overlap(into, size, out, length) for _, out, length in others):
                break
        else:
            return None
        ordered.append(blocks.pop(i))
    return [(_bytes(into, size), _bytes(out, size)) for into, out, size in ordered]


def _overlap(a: NDArray[Any], size: int, b: NDArray[Any], length: int) -> bool:
    return _address(a) < _address(b) + length and _address(b) < _address(a) + size


def _bytes(first: NDArray[Any], size: int) -> memoryview:
    """`size` bytes of memory from where an array starts; they keep its owner alive."""
    return as_strided(first.reshape(-1).view(np.uint8), (size,)).data
