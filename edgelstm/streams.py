"""`Streams`: many sensors of one kind, stepped together in one run of the graph."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelstm.artifact import Artifact
from edgelstm.backends import Graph, Wiring
from edgelstm.backends.batch import LoopedGraph, open_batch
from edgelstm.backends.fitness import require_right_numbers
from edgelstm.backends.graph import Memory
from edgelstm.errors import BackendError, ConfigurationError, ReadingError
from edgelstm.model_file import read_model
from edgelstm.scaling import Units
from edgelstm.session import SessionCounters, check_policy
from edgelstm.state import State, StateLayout
from edgelstm.windows import Windows

Rows = NDArray[np.bool_]

_CLOSED = "These streams are closed; load the artifact again."


class Streams:
    """Steps many streams of one artifact together: one run of the graph takes a step of each.

    Each stream has states of its own, and what one is given never changes another. Streams are
    numbered; a number is a row in what `step` takes and gives. They may leave, and others may take
    their places; they need not all have a reading at each tick.

    The graph is resized to the number of streams. Where it cannot be, it is run once for each:
    slower, and otherwise the same. Results may differ from those of a `Session` in the last digits,
    or by a rounding step, because a runtime may compute a batch with other kernels. As for a
    `Session`, one thread at a time may use them, and after Ctrl-C within a step the states are not
    certain.

    Args:
        artifact: a checked artifact, or the path of one.
        n: how many streams to begin with, numbered from 0.
        backend: a name from `edgelstm.backends.BACKENDS`.
        threads: threads the interpreter may use.
        invalid: what becomes of a reading with a value that is not finite: see `Session`.
        hold_limit: see `Session`.

    Raises:
        ArtifactError: the file is no artifact or is damaged.
        MissingDependencyError: no backend is installed.
        BackendError: the backend cannot run the model, or would compute it wrongly.
        ConfigurationError: a setting makes no sense.
    """

    def __init__(
        self,
        artifact: Artifact | str | Path,
        n: int,
        *,
        backend: str = "auto",
        threads: int = 1,
        invalid: str = "hold",
        hold_limit: int = 10,
    ) -> None:
        check_policy(invalid, hold_limit)
        if not isinstance(n, int) or n < 1:
            raise ConfigurationError(f"Streams of {n!r}: their number is 1 or more.")
        self.artifact = artifact if isinstance(artifact, Artifact) else read_model(artifact)
        self.counters: list[SessionCounters] = []
        """Of each stream, what became of readings with values that are not finite."""
        manifest = self.artifact.manifest
        self._units, self._layout = Units(manifest), StateLayout(manifest)
        self._channels, self._targets = len(manifest.channels), len(manifest.targets)
        self._options = backend, threads
        self._invalid, self._hold_limit = invalid, hold_limit
        # Below this readings go straight into the graph's memory; 0 where they never do.
        self._bound = 0.0
        scalings = self._units.inputs, self._units.outputs
        if all(len(each) == 1 and each[0].plain for each in scalings):
            self._bound = self._units.inputs[0].plain
        self._active = np.zeros(0, np.bool_)
        self._seen = np.zeros(0, np.bool_)
        self._held = np.zeros(0, np.int64)
        self._last = [np.zeros((0, len(p.channels)), p.tensor.dtype) for p in manifest.inputs]
        self._windows: list[Windows] = []
        self._graph: Graph | None = None
        self._capacity = 0
        # While every stream has good readings, the last ones are in the graph's memory: views on
        # the rows of its input and its output.
        self._way: tuple[NDArray[Any], NDArray[Any], Memory] | None = None
        self._make_room(n)
        self._add_rows(n)
        self._active[:] = True
        self.reset()

    def __len__(self) -> int:
        """How many rows `step` takes: one for each stream, those that left included."""
        return len(self._active)

    @property
    def active(self) -> Rows:
        """Which rows are streams, (rows,): a copy. The others have left."""
        return self._active.copy()

    @property
    def backend(self) -> str:
        """The name of the backend in use."""
        return "closed" if self._graph is None else self._graph.backend

    @property
    def release(self) -> str:
        """The release of that backend's package."""
        return "" if self._graph is None else self._graph.release

    @property
    def batched(self) -> bool:
        """Whether one run of the graph takes a step of every stream."""
        return not isinstance(self._graph, LoopedGraph)

    def step(self, x: ArrayLike, present: ArrayLike | None = None) -> NDArray[np.float64]:
        """Takes a reading of each stream, and runs a step of each.

        Args:
            x: physical units, (rows, channels). Rows without a reading may hold anything.
            present: which rows have a reading at this tick, bool (rows,); by default all. The
                others stay as they are.

        Returns:
            The outputs, (rows, targets), physical units. A row is NaN where there is none: no
            reading, a reading that was skipped, a window that is not full or not due, or a stream
            that left.

        Raises:
            ReadingError: `x` has another shape or is not of numbers, or a token is none; or a value
                is not finite, and the policy is "raise". Nothing has happened.
            BackendError: the runtime failed. The states are as before.
        """
        graph = self._graph
        if graph is None:
            raise ConfigurationError(_CLOSED)
        values = self._readings(x)
        if self._way and present is None:
            into, out, memory = self._way
            # At least the square of the largest |value|; NaN is not below anything. `vdot` is the
            # one product that says nothing of an overflow, to infinity, which is right here.
            if np.vdot(values, values) < self._bound * self._bound:
                into[...] = values
                try:
                    memory.invoke()
                except RuntimeError as error:
                    raise BackendError(f"The runtime failed at a step: {error}") from error
                y: NDArray[np.float64] = out.astype(np.float64)  # first: it may be an old state
                for state, following in memory.carries:
                    state[:] = following
                return y
        return self._step(graph, values, self._rows(present))

    def _readings(self, x: ArrayLike) -> NDArray[np.float64]:
        try:
            values = np.asarray(x)
        except ValueError:  # rows of several lengths
            values = np.empty(0, object)
        if values.dtype.kind not in "fiub":
            raise ReadingError("The readings are not numbers; use NaN for a value that is missing.")
        shape = (len(self._active), self._channels)
        if values.shape != shape:
            raise ReadingError(f"The readings have the shape {values.shape}; give {shape}.")
        return values.astype(np.float64, copy=False)

    def _rows(self, present: ArrayLike | None) -> Rows:
        if present is None:
            return self.active
        rows: NDArray[Any] = np.asarray(present)
        if rows.shape != self._active.shape or rows.dtype != np.bool_:
            raise ReadingError(
                f"`present` is {rows.dtype} {rows.shape}; give bool {self._active.shape}."
            )
        both: Rows = self._active & rows
        return both

    def _step(self, graph: Graph, values: NDArray[np.float64], rows: Rows) -> NDArray[np.float64]:
        """Like `step`, for any rows and values."""
        finite = np.isfinite(values)
        bad = rows & ~finite.all(axis=1)
        if self._invalid == "raise" and bad.any():
            i = int(bad.argmax())
            raise ReadingError(
                f"The reading of stream {i} has a value that is not finite: {values[i].tolist()}."
            )
        holds = self._invalid == "hold"
        last = self._last_readings()
        held = bad & self._seen & (self._held < self._hold_limit) if holds else np.zeros_like(bad)
        worn = bad & self._seen & ~held if holds else np.zeros_like(bad)
        stepped = rows & (held | ~bad)
        raw = self._units.to_raw(np.where(finite & stepped[:, None], values, 0))
        for new, old, columns in zip(raw, last, self._units.columns, strict=True):
            np.copyto(new, old, where=~finite[:, columns] & held[:, None])
        # From here on nothing about the readings can be wrong.
        y = self._run(graph, raw, stepped)
        for i in np.flatnonzero(worn).tolist():
            self.reset(i)
        for i in np.flatnonzero(bad).tolist():
            self.counters[i].resets += bool(worn[i])
            self.counters[i].held += bool(held[i])
            self.counters[i].skipped += not held[i]
        for old, new in zip(last, raw, strict=True):
            old[stepped] = new[stepped]
        self._last = last
        self._held[stepped] = np.where(held, self._held + 1, 0)[stepped]
        self._seen |= stepped
        self._way = None
        memory, count = graph.memory, len(stepped)
        if memory and self._bound > 0 and not self._windows and (stepped & ~held).all():
            into, out = memory.inputs[0], memory.outputs[0]
            rows_in, rows_out = (v.reshape(self._capacity, -1)[:count] for v in (into, out))
            self._way = rows_in, rows_out, memory
        return y

    def _run(self, graph: Graph, raw: list[NDArray[Any]], stepped: Rows) -> NDArray[np.float64]:
        """Runs a step of some rows; of the others the states stay as they are."""
        y = np.full((len(stepped), self._targets), np.nan)
        if self._windows:
            kept = {i: self._windows[i].state for i in np.flatnonzero(stepped).tolist()}
            due = np.zeros_like(stepped)
            for i in kept:
                due[i] = self._windows[i].push([value[i] for value in raw])
            if due.any():
                try:
                    y[due] = self._outputs(_run_rows(graph, self._batch, due))[due]
                except BaseException:  # Ctrl-C too
                    for i, state in kept.items():
                        self._windows[i].state = state
                    raise
            return y
        for whole, value in zip(self._batch, raw, strict=True):
            whole[: len(value)] = value.reshape(-1, *whole.shape[1:])
        waiting = np.flatnonzero(self._active & ~stepped)
        before = graph.states if len(waiting) else []
        outputs = self._outputs(graph.run(self._batch))
        if len(waiting):
            after = graph.states
            for new, old in zip(after, before, strict=True):
                new[waiting] = old[waiting]
            graph.states = after
        y[stepped] = outputs[stepped]
        return y

    def _outputs(self, raw: list[NDArray[Any]]) -> NDArray[np.float64]:
        rows = len(self._active)
        return self._units.from_raw([part.reshape(self._capacity, -1)[:rows] for part in raw])

    def _last_readings(self) -> list[NDArray[Any]]:
        if self._way and self._graph:
            rows = len(self._active)
            return [v.reshape(self._capacity, -1)[:rows] for v in self._graph.inputs]
        return self._last

    def join(self) -> int:
        """A new stream, with states of zero.

        Returns:
            Its number: the lowest that is free.
        """
        if self._graph is None:
            raise ConfigurationError(_CLOSED)
        free = np.flatnonzero(~self._active)
        if not len(free):
            rows = len(self._active)
            if rows == self._capacity:
                self._make_room(rows + max(1, rows // 2))
            self._add_rows(1)
        i = int(np.flatnonzero(~self._active)[0])
        self._active[i] = True
        self.counters[i] = SessionCounters()
        self.reset(i)
        return i

    def leave(self, stream: int) -> None:
        """Ends a stream; its row stays, and another stream may take it.

        Raises:
            ConfigurationError: there is no such stream.
        """
        self._require(stream)
        self._leave_memory()
        self._active[stream] = False

    def reset(self, stream: int | None = None) -> None:
        """Sets the states of a stream to zero and empties its window; by default of all.

        Raises:
            ConfigurationError: there is no such stream.
        """
        if stream is not None:
            self._require(stream)
        if self._graph is None:
            raise ConfigurationError(_CLOSED)
        rows = np.flatnonzero(self._active).tolist() if stream is None else [stream]
        self._leave_memory()
        states = self._graph.states
        for state, zero in zip(states, self._layout.zero().values(), strict=True):
            state[rows] = zero
        self._graph.states = states
        for i in rows if self._windows else ():
            self._windows[i].state = self._windows[i].empty()
        self._seen[rows], self._held[rows] = False, 0

    def state(self, stream: int) -> State:
        """What a stream remembers: a copy. A `Session` of the artifact takes it too.

        Raises:
            ConfigurationError: there is no such stream.
        """
        graph = self._require(stream)
        states = [state[stream : stream + 1] for state in graph.states]
        window = self._windows[stream].state if self._windows else {}
        last = [value[stream] for value in self._last_readings()]
        seen = self._way is not None or self._seen[stream]
        return self._layout.pack(states, window, last if seen else None, int(self._held[stream]))

    def set_state(self, stream: int, state: State) -> None:
        """Sets what a stream remembers, such as to the state of a `Session`.

        Raises:
            ConfigurationError: there is no such stream.
            StateError: it is of another model; nothing has happened.
        """
        graph = self._require(stream)
        kept, last = self._layout.unpack(state)
        if self._windows:
            self._windows[stream].state = state
        self._leave_memory()
        states = graph.states
        for whole, row in zip(states, kept, strict=True):
            whole[stream] = row[0]
        graph.states = states
        self._seen[stream] = last is not None
        self._held[stream] = state.held
        for whole, value in zip(self._last, last or [], strict=False):
            whole[stream] = value

    def _require(self, stream: int) -> Graph:
        if self._graph is None:
            raise ConfigurationError(_CLOSED)
        if not (0 <= stream < len(self._active) and self._active[stream]):
            raise ConfigurationError(f"There is no stream {stream}.")
        return self._graph

    def _leave_memory(self) -> None:
        """Takes the last readings out of the graph's memory."""
        self._last = self._last_readings()
        self._way = None

    def _add_rows(self, count: int) -> None:
        """Makes rows for streams that are to come."""
        self._leave_memory()
        before = len(self._active)
        self._active, self._seen, self._held = (
            np.append(known, np.zeros(count, known.dtype))
            for known in (self._active, self._seen, self._held)
        )
        self._last = [np.append(v, np.zeros((count, v.shape[1]), v.dtype), 0) for v in self._last]
        for i in range(before, before + count):
            self.counters.append(SessionCounters())
            self._add_window(i)

    def _make_room(self, capacity: int) -> None:
        """Opens the graph for more streams, and moves those that are there."""
        states = self._graph.states if self._graph else []
        self._leave_memory()
        manifest, (backend, threads) = self.artifact.manifest, self._options
        wiring = Wiring.of(manifest)
        graph = open_batch(
            self.artifact.cpu or self.artifact.flatbuffer, wiring, backend, threads, capacity
        )
        require_right_numbers(manifest, graph)
        fresh = graph.states
        for new, old in zip(fresh, states, strict=False):
            new[: len(old)] = old
        graph.states = fresh
        if self._graph:
            self._graph.close()
        self._graph, self._capacity = graph, capacity
        before = [window.state for window in self._windows]
        self._windows = []
        self._batch = [np.zeros((capacity, *s.shape[1:]), s.dtype) for s in wiring.inputs]
        for i, state in enumerate(before):
            self._add_window(i)
            self._windows[i].state = state

    def _add_window(self, i: int) -> None:
        manifest = self.artifact.manifest
        if manifest.window:
            rows = [whole[i : i + 1] for whole in self._batch]
            self._windows.append(Windows(manifest.inputs, manifest.window, manifest.hop, rows))

    def close(self) -> None:
        """Lets go of the interpreter; may be called twice. The streams cannot be used again."""
        if self._graph:
            self._graph.close()
        self._graph = self._way = None

    def __enter__(self) -> Streams:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _run_rows(graph: Graph, inputs: list[NDArray[Any]], rows: Rows) -> list[NDArray[Any]]:
    """Runs a graph of windows for some rows; what it gives for the others is of no meaning."""
    if isinstance(graph, LoopedGraph):
        return graph.run(inputs, np.flatnonzero(rows).tolist())
    return graph.run(inputs)
