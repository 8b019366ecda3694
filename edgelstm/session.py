"""`Session`: steps an artifact, one reading at a time, and keeps its states."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelstm.artifact import Artifact
from edgelstm.backends import Graph, Wiring, open_graph
from edgelstm.backends.fitness import require_right_numbers
from edgelstm.backends.graph import DelegateCounters
from edgelstm.direct import Step, closer_look, direct_step
from edgelstm.errors import (
    ConfigurationError,
    ReadingError,
)
from edgelstm.golden import GoldenCheck, check_golden
from edgelstm.scaling import Units
from edgelstm.state import State, StateLayout
from edgelstm.windows import Windows

INVALID_POLICIES = ("hold", "skip", "raise")
"""What becomes of a reading with a value that is not finite; see `Session`."""

_CLOSED = "This session is closed; load the artifact again."


@dataclass
class SessionCounters:
    """What became of readings with values that are not finite.

    Attributes:
        held: steps in which earlier values stood in.
        skipped: readings that were not stepped.
        resets: how often the states were reset because of too many in a row.
    """

    held: int = 0
    skipped: int = 0
    resets: int = 0


class Session:
    """Steps an artifact, one reading at a time, and keeps what it remembers.

    A streaming artifact has states, which are zero at the start and after `reset`. Between two
    steps the raw states are copied from the graph's outputs to its inputs: they share their
    quantisation, so nothing is rounded a second time. A window artifact remembers its last
    readings, and runs when they fill its window, then every `hop` readings.

    A value that is not finite (NaN, infinite) would spoil the states for ever. What becomes of a
    reading that has one is for `invalid` to say:

    - "hold": the channel's last good value stands in. After `hold_limit` such readings in a row
      the states are reset, and until a good reading comes none is stepped;
    - "skip": the reading is not stepped;
    - "raise": `ReadingError`, and nothing has happened.

    A session is for one thread at a time: a run lets other threads go on, and two in one graph mix
    their numbers. A step that Ctrl-C interrupts may leave the states between those before and
    after it: set a state that was got before, or reset.

    Args:
        artifact: a checked artifact, see `Artifact.read`.
        backend: a name from `edgelstm.backends.BACKENDS`.
        threads: threads the interpreter may use.
        invalid: a name from `INVALID_POLICIES`.
        hold_limit: see above; 0 or more.
        graph: the artifact's graph, loaded already, to be used instead of a backend; the session
            closes it.

    Raises:
        MissingDependencyError: no backend is installed.
        BackendError: the backend cannot run the model, or would compute it wrongly.
        ConfigurationError: there is no such policy, or the limit is negative.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        backend: str = "auto",
        threads: int = 1,
        invalid: str = "hold",
        hold_limit: int = 10,
        graph: Graph | None = None,
    ) -> None:
        check_policy(invalid, hold_limit)
        self.artifact = artifact
        self.counters = SessionCounters()
        manifest = artifact.manifest
        self._units = Units(manifest)
        self._layout = StateLayout(manifest)
        self._inputs = [port.tensor for port in manifest.inputs]
        self._outputs = [port.tensor.name for port in manifest.outputs]
        self._shape = (len(manifest.channels),)
        self._invalid, self._hold_limit = invalid, hold_limit
        self._windows = (
            Windows(manifest.inputs, manifest.window, manifest.hop) if manifest.window else None
        )
        self._graph: Graph | _Closed = graph or open_graph(
            artifact.cpu or artifact.flatbuffer, Wiring.of(manifest), backend, threads
        )
        require_right_numbers(manifest, self._graph)
        # The direct way is open from a good reading to the next that needs a closer look. While
        # it is, the last reading is in the graph's memory; otherwise it is here.
        self._open_way = self._find_direct_way()
        self._direct: Step = closer_look
        self._last: list[NDArray[Any]] | None = None
        self._held = 0
        self.reset()

    def _find_direct_way(self) -> Step:
        scale_in, scale_out = self._units.inputs, self._units.outputs
        memory = None if self._windows else self._graph.memory
        if memory is None or len(scale_in) != 1 or len(scale_out) != 1:
            return closer_look
        return direct_step(memory, scale_in[0], scale_out[0]) or closer_look

    @property
    def invalid(self) -> str:
        """What becomes of a reading with a value that is not finite; see above."""
        return self._invalid

    @property
    def backend(self) -> str:
        """The name of the backend in use."""
        return self._graph.backend

    @property
    def release(self) -> str:
        """The release of that backend's package."""
        return self._graph.release

    @property
    def delegate_counters(self) -> DelegateCounters | None:
        """What ran on the delegate and what on the CPU; None without a delegate."""
        counters: DelegateCounters | None = getattr(self._graph, "counters", None)
        return counters

    def step(self, x: ArrayLike) -> NDArray[np.float64] | None:
        """Takes one reading and runs one step.

        Args:
            x: one reading, shape (channels,), physical units; the channels of several inputs one
                after the other.

        Returns:
            The outputs after this reading, shape (targets,), physical units, those of several
            outputs one after the other. None where a window is not full, or not yet due again,
            and for a reading that was skipped.

        Raises:
            ReadingError: `x` has another shape, is not of numbers, or has a token that is none; or
                a value is not finite, and the policy is "raise". Nothing has happened.
            BackendError: the runtime failed. The states are as before.
        """
        y = self._direct(x)
        if y is not None:
            return y
        raw = self._take(self._reading(x, self._shape, "A reading"))
        return None if raw is None else self._units.from_raw(raw)

    def step_named(self, x: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.float64]] | None:
        """Like `step`, for models of several inputs or outputs.

        Args:
            x: the values of each input by its name, each of shape (channels,), physical units.

        Returns:
            The values of each output by its name; None where `step` gives None.

        Raises:
            ReadingError: an input is missing or unknown, or as for `step`.
            BackendError: as for `step`.
        """
        names = [tensor.name for tensor in self._inputs]
        if not isinstance(x, Mapping):
            raise ReadingError(f"This model takes its inputs by name, and was given {_short(x)}.")
        if x.keys() != set(names):
            raise ReadingError(
                f"This model has the inputs {', '.join(names)}, and was given "
                f"{', '.join(map(repr, x)) or 'none'}."
            )
        parts = []
        for name, columns in zip(names, self._units.columns, strict=True):
            shape = (columns.stop - columns.start,)
            value = x[name]
            if shape == (1,) and np.isscalar(value):
                value = np.array([value])
            parts.append(self._reading(value, shape, f"A reading of {name}"))
        raw = self._take(np.concatenate(parts))
        if raw is None:
            return None
        scaled = zip(self._outputs, self._units.outputs, raw, strict=True)
        return {name: f(y) for name, f, y in scaled}

    def step_raw(self, x: Sequence[NDArray[Any]]) -> list[NDArray[Any]] | None:
        """Runs one step on the graph's own values: raw (quantised) in, raw out.

        Args:
            x: for each input an array of shape (channels,), of the tensor's dtype.

        Returns:
            For each output an array of shape (targets,), of the tensor's dtype; None where a window
            is not full, or not yet due again.

        Raises:
            ReadingError: an array is missing, or of another dtype or shape, or a value is not
                finite, whatever the policy. Nothing has happened.
            BackendError: as for `step`.
        """
        if len(x) != len(self._inputs):
            raise ReadingError(
                f"A raw reading has {len(x)} arrays; this model takes {len(self._inputs)}."
            )
        x = [np.asarray(value) for value in x]
        for value, tensor, columns in zip(x, self._inputs, self._units.columns, strict=True):
            shape = (columns.stop - columns.start,)
            if value.dtype != tensor.dtype or value.shape != shape:
                raise ReadingError(
                    f"A raw reading of {tensor.name} is {value.dtype} {value.shape}; this model "
                    f"takes {tensor.dtype} {shape}."
                )
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise ReadingError(f"A raw reading of {tensor.name} is not finite.")
        return self._run([value.copy() for value in x])  # kept as the last reading

    def to_raw(self, x: ArrayLike) -> list[NDArray[Any]]:
        """One reading, (channels,), physical units, as the graph's own values for each input.

        Raises:
            ReadingError: as for `step`, and when a value is not finite, whatever the policy.
        """
        values = self._reading(x, self._shape, "A reading")
        if not np.isfinite(values).all():
            raise _not_finite(values)
        return self._units.to_raw(values)

    def warm_up(self, xs: Iterable[ArrayLike]) -> NDArray[np.float64] | None:
        """Steps readings for the sake of the states, such as the last ones before a restart.

        Args:
            xs: readings in time order, each as `step` takes them.

        Returns:
            What the last one gave.

        Raises:
            ReadingError, BackendError: as for `step`; those before it have been stepped.
        """
        y = None
        for x in xs:
            y = self.step(x)
        return y

    def _reading(self, x: ArrayLike, shape: tuple[int, ...], what: str) -> NDArray[np.float64]:
        try:
            values = np.asarray(x)
        except ValueError:  # rows of several lengths
            values = np.empty(0, object)
        if values.dtype == object and isinstance(x, list | tuple):  # Decimal, Fraction, large int
            with contextlib.suppress(TypeError, OverflowError):
                values = np.array([math.fsum((value,)) for value in values])
        if values.dtype.kind not in "fiub":
            raise ReadingError(f"{what} has to be {shape[0]} numbers, and is {_short(x)}.")
        if values.shape != shape:
            raise ReadingError(f"{what} has the shape {values.shape}; this model takes {shape}.")
        return values.astype(np.float64, copy=False)

    def _take(self, values: NDArray[np.float64]) -> list[NDArray[Any]] | None:
        """One step from physical units, (channels,), to raw outputs, by the policy."""
        finite = np.isfinite(values)
        if finite.all():
            return self._run(self._units.to_raw(values))
        if isinstance(self._graph, _Closed):
            raise ConfigurationError(_CLOSED)
        if self._invalid == "raise":
            raise _not_finite(values)
        raw = self._stand_in(values, finite) if self._invalid == "hold" else None
        if raw is None:
            self.counters.skipped += 1
            return None
        held = self._held + 1
        outputs = self._run(raw)
        self._direct, self._held = closer_look, held
        self.counters.held += 1
        return outputs

    def _stand_in(
        self, values: NDArray[np.float64], finite: NDArray[np.bool_]
    ) -> list[NDArray[Any]] | None:
        """The raw reading with the last good values where it has none; None if none may be had."""
        last = self._last_reading()
        if last is None:
            return None
        if self._held >= self._hold_limit:
            self.reset()
            self.counters.resets += 1
            return None
        raw = self._units.to_raw(np.where(finite, values, 0))
        for new, old, columns in zip(raw, last, self._units.columns, strict=True):
            np.copyto(new, old, where=~finite[columns])
        return raw

    def _last_reading(self) -> list[NDArray[Any]] | None:
        if self._direct is closer_look:
            return self._last
        return [value.reshape(-1) for value in self._graph.inputs]

    def _run(self, raw: list[NDArray[Any]]) -> list[NDArray[Any]] | None:
        """One step on a raw reading, (channels,) for each input, that has all its values."""
        if self._windows is None:
            outputs: list[NDArray[Any]] | None = self._graph.run(raw)
        elif self._windows.last_missing:
            before = self._windows.state
            self._windows.push(raw)
            try:
                outputs = self._graph.run(self._windows.arrays)
            except BaseException:  # Ctrl-C too
                self._windows.state = before
                raise
        else:
            self._windows.push(raw)
            outputs = None
        self._last, self._held = raw, 0
        self._direct = self._open_way
        return outputs and [y.reshape(-1) for y in outputs]

    def reset(self) -> None:
        """Sets every state to zero and empties the window, as at the start."""
        kept = self._layout.zero() | (self._windows.empty() if self._windows else {})
        self.state = State(kept, self.artifact.manifest.sha256, None, 0)

    @property
    def state(self) -> State:
        """What is remembered after the last step: a copy, which can be set again later.

        Setting the state of another model raises `StateError` and changes nothing.
        """
        window = self._windows.state if self._windows else {}
        return self._layout.pack(self._graph.states, window, self._last_reading(), self._held)

    @state.setter
    def state(self, state: State) -> None:
        states, last = self._layout.unpack(state)
        if self._windows:
            self._windows.state = state
        self._graph.states = states
        self._last, self._held = last, state.held
        self._direct = closer_look

    def replay(self, readings: NDArray[np.floating[Any]]) -> list[NDArray[Any]]:
        """Steps readings from zero states; the states are as before afterwards.

        Args:
            readings: physical units, (steps, channels), finite.

        Returns:
            The raw outputs of every run, each (targets,), of the output tensors' dtype.

        Raises:
            ReadingError: a value is not finite.
            BackendError: as for `step`.
        """
        before = self.state
        self.reset()
        try:
            runs = (self.step_raw(self.to_raw(x)) for x in readings)
            return [np.concatenate(raw) for raw in runs if raw is not None]
        finally:
            self.state = before

    def verify(self) -> int | None:
        """Replays the artifact's golden vectors; the states are as before afterwards.

        Returns:
            The first run whose output differs by more than the manifest's tolerance; None when
            all hold.
        """
        first = self.check().first
        return first.run if first else None

    def check(self) -> GoldenCheck:
        """Like `verify`, and says how far the outputs are from the golden vectors."""
        return check_golden(self.artifact, self.replay(self.artifact.golden.x))

    def close(self) -> None:
        """Lets go of the interpreter; may be called twice. The session cannot be used again."""
        self._graph.close()
        self._graph, self._windows = _Closed(), None
        self._direct = self._open_way = closer_look

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def check_policy(invalid: str, hold_limit: int) -> None:
    """Refuses a policy for invalid readings that makes no sense, with a ConfigurationError."""
    if invalid not in INVALID_POLICIES:
        known = ", ".join(INVALID_POLICIES)
        raise ConfigurationError(f"No policy is called {invalid!r}; try {known}.")
    if hold_limit < 0:
        raise ConfigurationError(f"The hold limit is {hold_limit}; take 0 or more.")


def _not_finite(values: NDArray[np.float64]) -> ReadingError:
    return ReadingError(f"A reading has a value that is not finite: {values.tolist()}.")


def _short(x: object) -> str:
    text = repr(x)
    return text if len(text) <= 60 else f"{text[:57]}..."


class _Closed:
    """Stands in for the graph of a closed session."""

    backend = "closed"

    def close(self) -> None:
        """There is nothing to let go of."""

    def __getattr__(self, name: str) -> Any:
        raise ConfigurationError(_CLOSED)

    def __setattr__(self, name: str, value: Any) -> None:
        raise ConfigurationError(_CLOSED)
