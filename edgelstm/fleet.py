"""`Fleet`: many sensors of one kind, each with a pipeline of its own, stepped in one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgelstm.artifact import Artifact
from edgelstm.backends.graph import DelegateCounters
from edgelstm.errors import ReadingError
from edgelstm.pipeline import Pipeline
from edgelstm.reading import Reading
from edgelstm.session import SessionCounters
from edgelstm.stand_ins import Completed
from edgelstm.state import State
from edgelstm.stepped import Stepped
from edgelstm.streams import Streams
from edgelstm.verdict import Verdict


def _with_defaults(_number: int, row: Stepped) -> Pipeline:
    return Pipeline(row)


class Fleet:
    """Watches several sensors with one artifact: one run of the graph takes a step of each.

    Each sensor has a pipeline with states, scores and alerts of its own, and no sensor has a part
    in what becomes of another. What a `Pipeline` says of the same readings may differ in the last
    digits, as `Streams` says. A fleet has no delegate, and is for one thread at a time.

    Args:
        artifact: a checked artifact with a detection, or the path of one.
        n: how many sensors.
        make: makes the pipeline of a sensor from its number and what steps it; by default one
            without settings of its own.
        backend: a name from `edgelstm.backends.BACKENDS`.
        threads: threads the interpreter may use.

    Raises:
        ArtifactError: the file is no artifact or is damaged, or it has no detection.
        MissingDependencyError: no backend is installed.
        BackendError: the backend cannot run the model, or would compute it wrongly.
        ConfigurationError: a setting makes no sense.
    """

    def __init__(
        self,
        artifact: Artifact | str | Path,
        n: int,
        make: Callable[[int, Stepped], Pipeline] = _with_defaults,
        *,
        backend: str = "auto",
        threads: int = 1,
    ) -> None:
        self._streams = streams = Streams(artifact, n, backend=backend, threads=threads)
        manifest = streams.artifact.manifest
        self._channels = len(manifest.channels)
        self._window = manifest.window is not None
        try:
            self.pipelines = tuple(make(i, _Row(streams, i)) for i in range(n))
            """Of each sensor. They may be asked and set as any; readings come by `update` here."""
        except BaseException:
            streams.close()
            raise

    def __len__(self) -> int:
        """How many sensors."""
        return len(self.pipelines)

    def update(self, readings: Sequence[Reading | None]) -> list[Verdict | None]:
        """Takes a reading of each sensor and says what the pipelines made of them.

        Args:
            readings: one for each sensor; None where none has come. That pipeline stays as it is.

        Returns:
            One for each reading.

        Raises:
            ReadingError: there are not as many readings as sensors, or one has another number of
                values than the model's channels: nothing has happened. Or a token is none: then all
                of these readings have failed.
            BackendError: the runtime failed, and all of these readings with it.
        """
        self._check(readings)
        verdicts: list[Verdict | None] = [None] * len(readings)
        begun: list[tuple[int, Reading, Completed]] = []
        for i, reading in enumerate(readings):
            if reading is not None:
                beginning = self.pipelines[i].begin(reading)
                if isinstance(beginning, Verdict):
                    verdicts[i] = beginning
                else:
                    begun.append((i, reading, beginning))
        if begun:
            try:
                outputs = self._step(begun)
            except Exception:
                for i, _, _ in begun:
                    self.pipelines[i].counters.failed += 1
                raise
            for i, reading, completed in begun:
                output = outputs[i]
                due = not self._window or not np.isnan(output).all()
                verdicts[i] = self.pipelines[i].finish(reading, completed, output if due else None)
        return verdicts

    def _check(self, readings: Sequence[Reading | None]) -> None:
        if len(readings) != len(self.pipelines):
            raise ReadingError(
                f"A fleet of {len(self.pipelines)} sensors takes as many readings, and was given "
                f"{len(readings)}."
            )
        for i, reading in enumerate(readings):
            if reading is not None and len(reading.values) != self._channels:
                raise ReadingError(
                    f"The reading of sensor {i} has {len(reading.values)} values; this model takes "
                    f"{self._channels}."
                )

    def _step(self, begun: list[tuple[int, Reading, Completed]]) -> NDArray[np.float64]:
        inputs = [completed.inputs for _, _, completed in begun]
        count = len(self.pipelines)
        if len(begun) == count:
            return self._streams.step(np.array(inputs, np.float64))
        rows = [i for i, _, _ in begun]
        x, present = np.zeros((count, self._channels)), np.zeros(count, np.bool_)
        x[rows], present[rows] = inputs, True
        return self._streams.step(x, present)

    def close(self) -> None:
        """Lets go of the interpreter; may be called twice. The pipelines cannot be used again."""
        self._streams.close()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Row:
    """One of the streams, as a `Pipeline` takes a `Session`."""

    invalid = "hold"
    delegate_counters: DelegateCounters | None = None

    def __init__(self, streams: Streams, number: int) -> None:
        self.artifact = streams.artifact
        self._streams, self._number = streams, number

    @property
    def counters(self) -> SessionCounters:
        return self._streams.counters[self._number]

    @property
    def backend(self) -> str:
        return self._streams.backend

    @property
    def release(self) -> str:
        return self._streams.release

    @property
    def state(self) -> State:
        return self._streams.state(self._number)

    @state.setter
    def state(self, state: State) -> None:
        self._streams.set_state(self._number, state)

    def step(self, x: ArrayLike) -> NDArray[np.float64] | None:
        values = np.zeros((len(self._streams), len(self.artifact.manifest.channels)))
        values[self._number] = x
        present = np.arange(len(values)) == self._number
        y: NDArray[np.float64] = self._streams.step(values, present)[self._number]
        return None if np.isnan(y).all() else y

    def reset(self) -> None:
        self._streams.reset(self._number)

    def close(self) -> None:
        """The fleet closes the streams."""
