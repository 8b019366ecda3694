"""What the three TFLite interpreters have in common: they share one Python interface."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from edgelstm.errors import BackendError

SIGNATURE = "step"


class InterpreterGraph:
    """A step graph in a TFLite interpreter, whichever package that comes from."""

    backend = ""

    def __init__(self, flatbuffer: bytes, threads: int) -> None:
        interpreter = self._interpreter(flatbuffer, threads)
        if SIGNATURE not in interpreter.get_signature_list():
            raise BackendError(f"The model has no signature {SIGNATURE!r}.")
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner(SIGNATURE)
        details = runner.get_input_details() | runner.get_output_details()
        # `tensor(index)` gives a function that gives a view on the tensor's memory. Taken anew
        # for each access, because no view may be alive while the interpreter runs.
        self._views = {name: interpreter.tensor(d["index"]) for name, d in details.items()}
        self._interpreter_ = interpreter
        self.invoke = interpreter.invoke

    def _interpreter(self, flatbuffer: bytes, threads: int) -> Any:
        raise NotImplementedError

    def write(self, name: str, value: NDArray[Any]) -> None:
        """Copies a value into an input tensor."""
        self._views[name]()[...] = value

    def read(self, name: str) -> NDArray[Any]:
        """Returns a copy of an output tensor."""
        value: NDArray[Any] = self._views[name]().copy()
        return value

    def carry(self, output: str, input: str) -> None:  # noqa: A002  # as in Graph
        """Copies an output tensor into an input tensor of the same type."""
        self._views[input]()[...] = self._views[output]()
