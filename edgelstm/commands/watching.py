"""What the commands that watch share: opening an artifact, the loop, and what came of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgelstm.calibration_file import calibration_path, with_calibration
from edgelstm.commands.console import format_budget, quiet_runtime
from edgelstm.errors import ConfigurationError
from edgelstm.latency import LatencyHistogram
from edgelstm.loading import load
from edgelstm.manifest import Manifest
from edgelstm.pipeline import Achieved, Pipeline, Verdict
from edgelstm.reading import Reading
from edgelstm.session import Session
from edgelstm.sinks.log import format_duration

if TYPE_CHECKING:
    from edgelstm_bridge.rate import RateMismatch


_TICK_S = 1.0
_DAY_S = 86_400.0


def open_verified(
    artifact: Path,
    backend: str = "auto",
    delegate: str | None = None,
    *,
    calibration: bool = True,
) -> Session:
    """Loads an artifact and makes sure that it computes here what it computed when made.

    Args:
        artifact: the file.
        backend: the TFLite runtime.
        delegate: what else is to compute, if anything.
        calibration: whether a calibration that lies beside it is taken, and said so.

    Raises:
        ArtifactError: it is no artifact, is damaged, or its golden vectors do not hold here; or
            the calibration beside it is damaged or another model's.
        MissingDependencyError: no backend is installed.
        BackendError: the backend cannot run the model.
    """
    with quiet_runtime():
        session = load(artifact, backend, delegate, verify=True)
    if calibration:
        try:
            calibrated = with_calibration(session.artifact, artifact)
        except BaseException:
            session.close()
            raise
        if calibrated is not session.artifact:
            session.artifact = calibrated
            click.echo(f"Using the calibration in {calibration_path(artifact)}.", err=True)
    return session


def in_model_order(
    readings: Iterable[Reading], device: Sequence[str], model: Sequence[str]
) -> Iterable[Reading]:
    """The readings with their values in the order of the model's channels.

    Args:
        readings: from the device.
        device: names of the device's channels.
        model: names of the model's channels; the device may have more.

    Raises:
        ConfigurationError: the device lacks a channel.
    """
    missing = [name for name in model if name not in device]
    if missing:
        raise ConfigurationError(
            f"The device has the channels {', '.join(device)}, but the model also needs "
            f"{', '.join(missing)}: this model was made for another device."
        )
    if list(device) == list(model):
        return readings
    order = [device.index(name) for name in model]
    return (r._replace(values=tuple(r.values[i] for i in order)) for r in readings)


class RateGuard:
    """Refuses readings that come at another rate than the model was made for.

    Args:
        manifest: of the model.
        tolerate: only warn.
        warn: takes the warning.
    """

    def __init__(self, manifest: Manifest, tolerate: bool, warn: Callable[[str], None]) -> None:
        from edgelstm_bridge.rate import RateMonitor

        self._monitor = RateMonitor(manifest.sample_period)
        self._tolerate = tolerate
        self._warn = warn

    def announced(self, sample_period: float | None) -> None:
        """Takes what the device says, in seconds; None when it says nothing.

        Raises:
            ConfigurationError: it is another rate.
        """
        mismatch = self._monitor.compare(sample_period) if sample_period else None
        if mismatch is not None:
            self._refuse(mismatch)

    def watch(self, readings: Iterable[Reading]) -> Iterator[Reading]:
        """Gives the readings on, and measures their rate.

        Raises:
            ConfigurationError: it is another rate.
        """
        update = self._monitor.update
        for reading in readings:
            mismatch = update(reading)
            if mismatch is not None:
                self._refuse(mismatch)
            yield reading

    def _refuse(self, mismatch: RateMismatch) -> None:
        if not self._tolerate:
            raise ConfigurationError(str(mismatch))
        self._warn(str(mismatch))


def resampled(readings: Iterable[Reading], sample_period: float) -> Iterator[Reading]:
    """The readings as they would have been, had they come with this period in seconds."""
    from edgelstm_bridge.resampling import Resampler

    resampler = Resampler(sample_period)
    for reading in readings:
        yield from resampler.push(reading)
    yield from resampler.flush()


def watch(
    pipeline: Pipeline, readings: Iterable[Reading], latency: LatencyHistogram
) -> Iterator[Verdict]:
    """Puts each reading through the pipeline, and times it from the reading to the verdict."""
    for reading in readings:
        start = time.perf_counter_ns()
        verdict = pipeline.update(reading)
        latency.add(time.perf_counter_ns() - start)
        yield verdict


class SilenceClock:
    """Lets time go on while nothing comes: readings are what else tells the time.

    Args:
        tick: takes how long nothing has come, in seconds, every second; in a thread of its own.
    """

    def __init__(self, tick: Callable[[float], None]) -> None:
        self._tick = tick
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def start(self, seconds: float) -> None:
        """Begins to tick, unless it does already.

        Args:
            seconds: how long nothing has come.
        """
        if self._thread is None:
            self._end.clear()
            began = time.monotonic() - seconds
            self._thread = threading.Thread(target=self._run, args=(began,), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends it; afterwards no tick is under way. May be called without a start.

        Raises:
            Exception: what a tick raised.
        """
        if self._thread is None:
            return
        self._end.set()
        self._thread.join()
        self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, began: float) -> None:
        try:
            while True:
                self._tick(time.monotonic() - began)
                if self._end.wait(_TICK_S):
                    return
        except Exception as error:  # raised where readings are taken
            self._error = error


def format_achieved(achieved: Achieved, budget: float) -> str:
    """A line that sets the alerts that there were beside the budget.

    Args:
        achieved: see `Pipeline.achieved`.
        budget: false alarms per day.
    """
    time_scored = format_duration(achieved.days * _DAY_S)
    granted = f"the budget is {format_budget(budget)}"
    if not achieved.alerts or achieved.per_day is None:
        return f"No alert in {time_scored} of scored readings; {granted}."
    return (
        f"{_count(achieved.alerts, 'alert')} in {time_scored} of scored readings "
        f"({achieved.per_day:.2g} a day), true ones and false ones; {granted}."
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
