"""The loop that `run` and `demo` share: readings of a device through a pipeline."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from edgelstm.commands.console import quiet_runtime
from edgelstm.errors import ConfigurationError
from edgelstm.latency import LatencyHistogram
from edgelstm.loading import load
from edgelstm.manifest import Manifest
from edgelstm.pipeline import Pipeline, Verdict
from edgelstm.reading import Reading
from edgelstm.session import Session


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
    return (replace(r, values=tuple(r.values[i] for i in order)) for r in readings)


def period_warning(manifest: Manifest, sample_period: float) -> str | None:
    """A sentence when a device samples at another pace than the model was made for."""
    if not sample_period or abs(sample_period / manifest.sample_period - 1) < 0.1:
        return None
    return (
        f"The device takes a reading every {sample_period:g} s, but the model was made for one "
        f"every {manifest.sample_period:g} s; its scores will mean little."
    )


def watch(
    pipeline: Pipeline, readings: Iterable[Reading], latency: LatencyHistogram
) -> Iterator[Verdict]:
    """Puts each reading through the pipeline, and times it from the reading to the verdict."""
    for reading in readings:
        start = time.perf_counter_ns()
        verdict = pipeline.update(reading)
        latency.add(time.perf_counter_ns() - start)
        yield verdict
