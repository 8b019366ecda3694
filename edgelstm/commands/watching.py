"""The loop that `run` and `demo` share: readings of a device through a pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgelstm.commands.console import quiet_runtime
from edgelstm.errors import ConfigurationError
from edgelstm.latency import LatencyHistogram
from edgelstm.loading import load
from edgelstm.manifest import Manifest
from edgelstm.pipeline import Pipeline, Verdict
from edgelstm.reading import Reading
from edgelstm.session import Session

if TYPE_CHECKING:
    from edgelstm_bridge.rate import RateMismatch


def open_verified(artifact: Path, backend: str = "auto", delegate: str | None = None) -> Session:
    """Loads an artifact and makes sure that it computes here what it computed when made.

    Raises:
        ArtifactError: it is no artifact, is damaged, or its golden vectors do not hold here.
        MissingDependencyError: no backend is installed.
        BackendError: the backend cannot run the model.
    """
    with quiet_runtime():
        return load(artifact, backend, delegate, verify=True)


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
