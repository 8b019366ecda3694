"""A graph on a delegate in a child process, with the CPU to fall back on.

Libraries of delegates hang, crash and lose their device, so a delegate is loaded in a process of
its own, see `edgelstm.backends.child`.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from edgelstm.backends import open_graph
from edgelstm.backends.child import blocks, load_message
from edgelstm.backends.delegates import parse_delegate
from edgelstm.backends.graph import Delegate, DelegateCounters, Graph, Memory, Wiring
from edgelstm.backends.supervisor import Patience, Supervisor

__all__ = ["DelegateCounters", "DelegatedGraph", "Patience", "open_delegated"]


class DelegatedGraph:
    """A graph on a delegate, or on the CPU while the delegate fails.

    Args:
        flatbuffer: the model for the delegate.
        wiring: its tensors, which are those of the CPU's model.
        delegate: what is loaded in the child process.
        cpu: the graph on the CPU; it is closed with this one.
        threads: threads the interpreter of the child process may use.
        batch: how many steps side by side one run takes.
        patience: how long the delegate is waited for.
        required: fail when the delegate cannot be loaded now, instead of trying again later.

    Warns:
        DelegateWarning: once for each time that the delegate fails, here or at the next step; and
            when it takes no operation of the graph.

    Raises:
        DelegateError: the delegate cannot be loaded, and is required.
    """

    memory: Memory | None = None

    def __init__(
        self,
        flatbuffer: bytes,
        wiring: Wiring,
        delegate: Delegate,
        *,
        cpu: Graph,
        threads: int = 1,
        batch: int = 1,
        patience: Patience | None = None,
        required: bool = False,
    ) -> None:
        self.backend = cpu.backend
        self.release = cpu.release
        load = load_message(flatbuffer, wiring, delegate, cpu.backend, threads, batch)
        messages, trial = blocks(wiring, batch), blocks(wiring, batch)
        for request, _ in (messages, trial):
            specs = (wiring.inputs, [pair.input for pair in wiring.states])
            for group, arrays in zip(specs, request.groups, strict=True):
                for spec, array in zip(group, arrays, strict=True):
                    array[...] = spec.zero_point
        self._supervisor = Supervisor(
            load, delegate.library, cpu, messages, trial, patience or Patience()
        )
        # The thread knows the supervisor alone, so that a graph that is forgotten is closed.
        self._closed = weakref.finalize(self, self._supervisor.close)
        try:
            self._supervisor.begin(required)
        except BaseException:
            self._closed()
            raise

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """See `Graph.run`."""
        return self._supervisor.run(inputs)

    @property
    def states(self) -> list[NDArray[Any]]:
        """See `Graph.states`."""
        with self._supervisor.lock:
            return [state.copy() for state in self._supervisor.states]

    @states.setter
    def states(self, states: Sequence[NDArray[Any]]) -> None:
        with self._supervisor.lock:
            for state, value in zip(self._supervisor.states, states, strict=True):
                state[...] = value

    @property
    def inputs(self) -> list[NDArray[Any]]:
        """See `Graph.inputs`."""
        with self._supervisor.lock:
            return [value.copy() for value in self._supervisor.inputs]

    @property
    def active(self) -> str:
        """Where the next step is going to run, as far as is known: "delegate" or "cpu"."""
        return "delegate" if self._supervisor.serving else "cpu"

    @property
    def counters(self) -> DelegateCounters:
        """What ran where, up to now."""
        return dataclasses.replace(self._supervisor.counters)

    def close(self) -> None:
        """See `Graph.close`. Ends the child process."""
        self._closed()


def open_delegated(
    flatbuffer: bytes,
    wiring: Wiring,
    delegate: str | Delegate,
    backend: str = "auto",
    threads: int = 1,
    *,
    cpu_flatbuffer: bytes | None = None,
    batch: int = 1,
    patience: Patience | None = None,
    required: bool = False,
) -> DelegatedGraph:
    """Loads a model into a backend with a delegate, and once more without to fall back on.

    Args:
        flatbuffer: the model.
        wiring: its tensors.
        delegate: see `parse_delegate`.
        backend: a name from `BACKENDS`.
        threads: threads each interpreter may use.
        cpu_flatbuffer: the same model for the CPU, when the other is compiled for the delegate.
        batch: how many steps side by side one run takes.
        patience: how long the delegate is waited for.
        required: fail when the delegate cannot be loaded now, instead of trying again later.

    Raises:
        ConfigurationError: there is no such backend, or no such delegate.
        DelegateError: the delegate cannot be loaded, and is required.
        EdgelstmError: the CPU cannot run the model, see `open_graph`.
    """
    wanted = parse_delegate(delegate)
    cpu = open_graph(cpu_flatbuffer or flatbuffer, wiring, backend, threads, batch=batch)
    return DelegatedGraph(
        flatbuffer,
        wiring,
        wanted,
        cpu=cpu,
        threads=threads,
        batch=batch,
        patience=patience,
        required=required,
    )
