"""`Session`: steps an artifact, one reading at a time, and keeps its states."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelstm.artifact import Artifact
from edgelstm.backends import Graph, open_graph
from edgelstm.errors import ArtifactError, ConfigurationError
from edgelstm.scaling import InputScaling, OutputScaling


class Session:
    """Steps an artifact statefully.

    States are zero at the start and after `reset`. Between two steps the raw states are copied
    from the graph's outputs to its inputs: they share their quantisation, so nothing is rounded
    a second time.

    Args:
        artifact: a checked artifact, see `Artifact.read`.
        backend: a name from `edgelstm.backends.BACKENDS`.
        threads: threads the interpreter may use.

    Raises:
        MissingDependencyError: no backend is installed.
        BackendError: the backend cannot run the model.
    """

    def __init__(self, artifact: Artifact, *, backend: str = "auto", threads: int = 1) -> None:
        self.artifact = artifact
        manifest = artifact.manifest
        if manifest.mode != "stream":
            raise ArtifactError(f"This edgelstm runs stream artifacts, not mode {manifest.mode!r}.")
        self._graph: Graph = open_graph(artifact.flatbuffer, backend, threads)
        self._pairs = [(pair.output.name, pair.input.name) for pair in manifest.states]
        self._states = [pair.input for pair in manifest.states]
        self._input, self._output = manifest.input.name, manifest.output.name
        self._scale_input = InputScaling(manifest.channels, manifest.clip, manifest.input)
        self._scale_output = OutputScaling(manifest.targets, manifest.output)
        self._shape = (len(manifest.channels),)
        self._initial: dict[str, NDArray[Any]] = {}
        self._fresh = True
        self.reset()

    @property
    def backend(self) -> str:
        """The name of the backend in use."""
        return self._graph.backend

    def step(self, x: ArrayLike) -> NDArray[np.float64]:
        """Runs one step.

        Args:
            x: one reading, shape (channels,), physical units.

        Returns:
            The outputs after this reading, shape (targets,), physical units.

        Raises:
            ConfigurationError: `x` has another shape, or a value is not finite. The states are
                as before.
        """
        return self._scale_output(self.step_raw(self.to_raw(np.asarray(x, np.float64))))

    def step_raw(self, x: NDArray[Any]) -> NDArray[Any]:
        """Runs one step on the graph's own values: raw (quantised) in, raw out.

        Args:
            x: shape (channels,), of the input tensor's dtype.

        Returns:
            shape (targets,), of the output tensor's dtype.
        """
        graph = self._graph
        if self._fresh:
            self._fresh = False
        else:
            for output, name in self._pairs:
                graph.carry(output, name)
        graph.write(self._input, x)
        graph.invoke()
        return graph.read(self._output).reshape(-1)

    def to_raw(self, x: NDArray[np.float64]) -> NDArray[Any]:
        """One reading, (channels,), physical units, as the graph's own values.

        Raises:
            ConfigurationError: `x` has another shape, or a value is not finite.
        """
        if x.shape != self._shape:
            raise ConfigurationError(
                f"A reading has the shape {x.shape}; this model takes {self._shape}."
            )
        if not np.isfinite(x).all():
            raise ConfigurationError(f"A reading has a value that is not finite: {x.tolist()}.")
        return self._scale_input(x)

    def reset(self) -> None:
        """Sets every state to zero, as at the start."""
        self.state = {
            s.name: np.full(s.shape, s.zero_point, s.dtype)  # the raw value that stands for 0
            for s in self._states
        }

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """The raw states after the last step, by name: a copy, which can be set again later."""
        if self._fresh:
            return {name: value.copy() for name, value in self._initial.items()}
        return {
            name: self._graph.read(output).reshape(spec.shape)
            for (output, name), spec in zip(self._pairs, self._states, strict=True)
        }

    @state.setter
    def state(self, state: Mapping[str, NDArray[Any]]) -> None:
        if state.keys() != {s.name for s in self._states} or any(
            state[s.name].shape != s.shape or state[s.name].dtype != s.dtype for s in self._states
        ):
            raise ConfigurationError("This state belongs to another model.")
        self._initial = {name: value.copy() for name, value in state.items()}
        for name, value in self._initial.items():
            self._graph.write(name, value)
        self._fresh = True  # the next step starts from the inputs as they are now

    def replay(self, readings: NDArray[np.floating[Any]]) -> list[NDArray[Any]]:
        """Steps readings from zero states; the states are as before afterwards.

        Args:
            readings: physical units, (steps, channels).

        Returns:
            The raw outputs, each (targets,), of the output tensor's dtype.
        """
        before = self.state
        self.reset()
        try:
            return [self.step_raw(self.to_raw(x.astype(np.float64))) for x in readings]
        finally:
            self.state = before

    def verify(self) -> int | None:
        """Replays the artifact's golden vectors; the states are as before afterwards.

        Returns:
            The first step whose output differs by more than the manifest's tolerance; None when
            all hold.
        """
        golden, tolerance = self.artifact.golden, self.artifact.manifest.golden_tolerance
        for i, (raw, y) in enumerate(zip(self.replay(golden.x), golden.y, strict=True)):
            if not (np.abs(raw.astype(np.float64) - y) <= tolerance).all():  # NaN is neither
                return i
        return None

    def close(self) -> None:
        """Lets go of the interpreter; may be called twice. The session cannot be used again."""
        self._graph = _Closed()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Closed:
    """Stands in for the graph of a closed session."""

    backend = "closed"

    def __getattr__(self, name: str) -> Any:
        raise ConfigurationError("This session is closed; load the artifact again.")


def load(path: str | Path, *, backend: str = "auto", threads: int = 1) -> Session:
    """Opens an artifact for stepping.

    Args:
        path: a file made by `edgelstm quantize`.
        backend: "auto", "litert", "tflite-runtime" or "tensorflow".
        threads: threads the interpreter may use.

    Raises:
        ArtifactError: the file is no artifact or is damaged.
        MissingDependencyError: no backend is installed.
        BackendError: the backend cannot run the model.
    """
    return Session(Artifact.read(path), backend=backend, threads=threads)
