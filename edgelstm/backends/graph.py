"""What a session needs of a loaded graph, whoever runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from edgelstm.manifest import Manifest, StatePair, TensorSpec


@dataclass(frozen=True)
class Wiring:
    """Which tensors of a graph's signature are what, in the manifest's order.

    Attributes:
        inputs: what a step takes.
        outputs: what a step gives.
        states: what is carried from one step to the next.
        signature: its name.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StatePair, ...]
    signature: str

    @classmethod
    def of(cls, manifest: Manifest) -> Wiring:
        """The wiring that a manifest describes."""
        return cls(
            tuple(port.tensor for port in manifest.inputs),
            tuple(port.tensor for port in manifest.outputs),
            manifest.states,
            manifest.signature,
        )


@dataclass(frozen=True)
class Delegate:
    """A TFLite delegate: a library to which the interpreter hands operations.

    Attributes:
        library: its file name, or its path.
        options: what it is told when it is loaded.
    """

    library: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass
class DelegateCounters:
    """What ran where.

    Attributes:
        delegate_steps: steps that the delegate's process ran.
        cpu_steps: steps that ran on the CPU, because it could not.
        fallbacks: how often the delegate failed.
        retries: how often it was started again, with success or without.
        retry_delay: seconds between the last failure and the next try.
        operations: operations of the graph; None where the runtime does not tell, or none was
            loaded yet.
        delegated_operations: how many of them the delegate took; None likewise. The others run
            on the CPU of its process.
    """

    delegate_steps: int = 0
    cpu_steps: int = 0
    fallbacks: int = 0
    retries: int = 0
    retry_delay: float = 0.0
    operations: int | None = None
    delegated_operations: int | None = None


@dataclass(frozen=True)
class Memory:
    """Views into a graph's own memory, for the shortest way through it.

    They are valid as long as they live: each keeps the interpreter alive, and an interpreter with
    living views is never resized. They are for the session that owns the graph, and never leave it.

    Attributes:
        inputs: the input tensors, (batch, ...).
        outputs: the output tensors, (batch, ...).
        carries: the states as blocks of bytes, (into, out of); those that lie side by side are one
            block.
        invoke: runs the graph once.
    """

    inputs: Sequence[NDArray[Any]]
    outputs: Sequence[NDArray[Any]]
    carries: Sequence[tuple[memoryview, memoryview]]
    invoke: Callable[[], None]


class Graph(Protocol):
    """A loaded graph and its states. Values are raw: int8 tensors hold quantised values.

    The states are of no meaning until they are set.
    """

    @property
    def backend(self) -> str:
        """The name of the backend that runs it."""

    @property
    def release(self) -> str:
        """The release of that backend's package."""

    @property
    def memory(self) -> Memory | None:
        """Its own memory, where it can be reached."""

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Runs one step, which takes the states as they are and leaves the next ones.

        Args:
            inputs: for each input an array of the tensor's dtype and size, in any shape.

        Returns:
            For each output a copy, in the tensor's shape.

        Raises:
            BackendError: it failed; the states are as before.
        """

    @property
    def states(self) -> list[NDArray[Any]]:
        """A copy of each state, in the tensor's shape; set to replace them."""

    @states.setter
    def states(self, states: Sequence[NDArray[Any]]) -> None: ...

    @property
    def inputs(self) -> list[NDArray[Any]]:
        """A copy of what the last step was given."""

    def close(self) -> None:
        """Lets go of what it holds; may be called twice."""
