"""`Session`: steps an artifact, one reading at a time, and keeps its states."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelstm.artifact import Artifact
from edgelstm.backends import RUNTIME_PACKAGES, Graph, open_graph
from edgelstm.errors import BackendError, ConfigurationError
from edgelstm.manifest import Manifest
from edgelstm.scaling import InputScaling, OutputScaling
from edgelstm.windows import ANOTHER_MODEL, Windows

_CLOSED = "This session is closed; load the artifact again."


class Session:
    """Steps an artifact, one reading at a time, and keeps what it remembers.

    A streaming artifact has states, which are zero at the start and after `reset`. Between two
    steps the raw states are copied from the graph's outputs to its inputs: they share their
    quantisation, so nothing is rounded a second time. A window artifact remembers its last
    readings, and runs when they fill its window, then every `hop` readings.

    Args:
        artifact: a checked artifact, see `Artifact.read`.
        backend: a name from `edgelstm.backends.BACKENDS`.
        threads: threads the interpreter may use.
        graph: the artifact's graph, loaded already, to be used instead of a backend.

    Raises:
        MissingDependencyError: no backend is installed.
        BackendError: the backend cannot run the model, or would compute it wrongly.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        backend: str = "auto",
        threads: int = 1,
        graph: Graph | None = None,
    ) -> None:
        self.artifact = artifact
        manifest = artifact.manifest
        self._graph: Graph = graph or open_graph(artifact.flatbuffer, backend, threads)
        _require_right_numbers(manifest, self._graph.backend)
        self._pairs = [(pair.output.name, pair.input.name) for pair in manifest.states]
        self._states = [pair.input for pair in manifest.states]
        self._inputs = [port.tensor.name for port in manifest.inputs]
        self._outputs = [port.tensor.name for port in manifest.outputs]
        self._scale_inputs = [InputScaling(port) for port in manifest.inputs]
        self._scale_outputs = [OutputScaling(port) for port in manifest.outputs]
        self._shape = (len(manifest.channels),)
        self._columns = _columns([port.channels for port in manifest.inputs])
        self._windows: Windows | _Closed | None = (
            Windows(manifest.inputs, manifest.window, manifest.hop) if manifest.window else None
        )
        self._initial: dict[str, NDArray[Any]] = {}
        self._fresh = True
        self.reset()

    @property
    def backend(self) -> str:
        """The name of the backend in use."""
        return self._graph.backend

    def step(self, x: ArrayLike) -> NDArray[np.float64] | None:
        """Takes one reading and runs one step.

        Args:
            x: one reading, shape (channels,), physical units; the channels of several inputs one
                after the other.

        Returns:
            The outputs after this reading, shape (targets,), physical units, those of several
            outputs one after the other. None where a window is not full, or not yet due again.

        Raises:
            ConfigurationError: `x` has another shape, or a value is not finite. The states are
                as before.
        """
        raw = self.step_raw(self.to_raw(np.asarray(x, np.float64)))
        if raw is None:
            return None
        if len(raw) == 1:
            return self._scale_outputs[0](raw[0])
        return np.concatenate([f(y) for f, y in zip(self._scale_outputs, raw, strict=True)])

    def step_named(self, x: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float64]] | None:
        """Like `step`, for models of several inputs or outputs.

        Args:
            x: the values of each input by its name, each of shape (channels,), physical units.

        Returns:
            The values of each output by its name; None where `step` gives None.

        Raises:
            ConfigurationError: an input is missing or unknown, or as for `step`.
        """
        if x.keys() != set(self._inputs):
            raise ConfigurationError(
                f"This model has the inputs {', '.join(self._inputs)}, and was given "
                f"{', '.join(map(repr, x)) or 'none'}."
            )
        parts = [np.atleast_1d(np.asarray(x[name], np.float64)) for name in self._inputs]
        for name, part, columns in zip(self._inputs, parts, self._columns, strict=True):
            shape = (columns.stop - columns.start,)
            if part.shape != shape:
                raise ConfigurationError(
                    f"A reading of {name} has the shape {part.shape}; this model takes {shape}."
                )
        raw = self.step_raw(self.to_raw(np.concatenate(parts)))
        if raw is None:
            return None
        return {
            name: f(y) for name, f, y in zip(self._outputs, self._scale_outputs, raw, strict=True)
        }

    def step_raw(self, x: Sequence[NDArray[Any]]) -> list[NDArray[Any]] | None:
        """Runs one step on the graph's own values: raw (quantised) in, raw out.

        Args:
            x: for each input an array of shape (channels,), of the tensor's dtype.

        Returns:
            For each output an array of shape (targets,), of the tensor's dtype; None where `step`
            gives None.
        """
        graph = self._graph
        if self._windows:
            if not self._windows.push(x):
                return None
            x = self._windows.arrays
        if self._fresh:
            self._fresh = False
        else:
            for output, name in self._pairs:
                graph.carry(output, name)
        for name, value in zip(self._inputs, x, strict=True):
            graph.write(name, value)
        graph.invoke()
        return [graph.read(name).reshape(-1) for name in self._outputs]

    def to_raw(self, x: NDArray[np.float64]) -> list[NDArray[Any]]:
        """One reading, (channels,), physical units, as the graph's own values for each input.

        Raises:
            ConfigurationError: `x` has another shape, or a value is not finite.
        """
        if x.shape != self._shape:
            raise ConfigurationError(
                f"A reading has the shape {x.shape}; this model takes {self._shape}."
            )
        if not np.isfinite(x).all():
            raise ConfigurationError(f"A reading has a value that is not finite: {x.tolist()}.")
        return [f(x[part]) for f, part in zip(self._scale_inputs, self._columns, strict=True)]

    def reset(self) -> None:
        """Sets every state to zero and empties the window, as at the start."""
        zero = {
            s.name: np.full(s.shape, s.zero_point, s.dtype)  # the raw value that stands for 0
            for s in self._states
        }
        self.state = zero | (self._windows.empty() if self._windows else {})

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """What is remembered after the last step, by name: a copy, which can be set again later.

        The raw states of a stream; of a window the raw readings in it, and under "due" in how many
        readings it runs.
        """
        if self._windows:
            return self._windows.state
        if self._fresh:
            return {name: value.copy() for name, value in self._initial.items()}
        return {
            name: self._graph.read(output).reshape(spec.shape)
            for (output, name), spec in zip(self._pairs, self._states, strict=True)
        }

    @state.setter
    def state(self, state: Mapping[str, NDArray[Any]]) -> None:
        if self._windows:
            self._windows.state = dict(state)
            return
        if state.keys() != {s.name for s in self._states} or any(
            state[s.name].shape != s.shape or state[s.name].dtype != s.dtype for s in self._states
        ):
            raise ConfigurationError(ANOTHER_MODEL)
        self._initial = {name: value.copy() for name, value in state.items()}
        for name, value in self._initial.items():
            self._graph.write(name, value)
        self._fresh = True  # the next step starts from the inputs as they are now

    def replay(self, readings: NDArray[np.floating[Any]]) -> list[NDArray[Any]]:
        """Steps readings from zero states; the states are as before afterwards.

        Args:
            readings: physical units, (steps, channels).

        Returns:
            The raw outputs of every run, each (targets,), of the output tensors' dtype.
        """
        before = self.state
        self.reset()
        try:
            runs = (self.step_raw(self.to_raw(x.astype(np.float64))) for x in readings)
            return [np.concatenate(raw) for raw in runs if raw is not None]
        finally:
            self.state = before

    def verify(self) -> int | None:
        """Replays the artifact's golden vectors; the states are as before afterwards.

        Returns:
            The first run whose output differs by more than the manifest's tolerance; None when
            all hold.
        """
        golden = self.artifact.golden
        tolerance = np.array(self.artifact.manifest.golden_tolerance)
        for i, (raw, y) in enumerate(zip(self.replay(golden.x), golden.y, strict=True)):
            if not (np.abs(raw.astype(np.float64) - y) <= tolerance).all():  # NaN is neither
                return i
        return None

    def close(self) -> None:
        """Lets go of the interpreter; may be called twice. The session cannot be used again."""
        self._graph = self._windows = _Closed()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _columns(groups: Sequence[Sequence[Any]]) -> list[slice]:
    """Where the channels of each input lie in a reading."""
    ends = np.cumsum([0, *map(len, groups)]).tolist()
    return [slice(start, stop) for start, stop in itertools.pairwise(ends)]


def _require_right_numbers(manifest: Manifest, backend: str) -> None:
    """Refuses a runtime that would load the model and compute it wrongly."""
    package = RUNTIME_PACKAGES.get(backend)
    if package and package not in manifest.runtimes:
        known = ", ".join(f"{name} {version}" for name, version in manifest.runtimes.items())
        raise BackendError(
            f"{package} loads this model ({manifest.recipe}) but computes it wrongly; run it with "
            f"{known or 'another runtime'}, or convert it with --runtime {package}."
        )


class _Closed:
    """Stands in for the graph and the windows of a closed session."""

    backend = "closed"

    def __getattr__(self, name: str) -> Any:
        raise ConfigurationError(_CLOSED)

    def __setattr__(self, name: str, value: Any) -> None:
        raise ConfigurationError(_CLOSED)


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
