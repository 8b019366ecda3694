"""Readings through the pipeline for the sake of their residuals, which a calibration is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import ArtifactError
from edgelstm.manifest import ChannelLimits, Detection, Manifest, Tail
from edgelstm.pipeline import Pipeline
from edgelstm.reading import Reading
from edgelstm.residuals import make_residuals
from edgelstm.session import Session

_MOST_BYTES = 400_000_000
"""Of residuals and values: a Raspberry Pi has not much more to spare."""


class Collected:
    """Values and residuals, a row for each reading that came.

    Args:
        channels: how many values a reading has.
        targets: how many residuals.
    """

    def __init__(self, channels: int, targets: int) -> None:
        self._channels = channels
        self._rows = np.empty((1024, channels + targets))
        self._count = 0
        self.room = _MOST_BYTES // (8 * (channels + targets))
        """How many readings there may be."""

    def __len__(self) -> int:
        return self._count

    def add(self, values: tuple[float, ...], residual: NDArray[np.float64] | None) -> None:
        """Takes a reading and its residual, where it has one."""
        if self._count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        row = self._rows[self._count]
        row[: self._channels] = values
        row[self._channels :] = np.nan if residual is None else residual
        self._count += 1

    @property
    def values(self) -> NDArray[np.float64]:
        """Physical units, (readings, channels)."""
        return self._rows[: self._count, : self._channels]

    @property
    def residuals(self) -> NDArray[np.float64]:
        """Observed - predicted, physical units, (readings, targets); NaN where there is none."""
        return self._rows[: self._count, self._channels :]


def need_task(manifest: Manifest) -> None:
    """Refuses a model that has no residuals, with an ArtifactError."""
    if manifest.task == "none":
        raise ArtifactError(
            f"The model {manifest.name!r} neither forecasts its channels nor reconstructs its "
            "window, so it has no residuals to calibrate on; convert it with 'edgelstm quantize' "
            "and --horizon or --task reconstruction, if it does."
        )


def target_columns(manifest: Manifest) -> tuple[tuple[str, ...], list[int], NDArray[np.intp]]:
    """The channels that have residuals, and of each target its column and its place in these."""
    compared = make_residuals(manifest)
    channels = [channel.name for channel in manifest.channels]
    columns = [channels.index(name) for name in compared.names]
    return compared.names, [columns[k] for k in compared.shares_of], compared.shares_of


def collect(
    session: Session, readings: Iterable[Reading], on_progress: Callable[[Collected, float], bool]
) -> tuple[Collected, Pipeline]:
    """Puts readings through the pipeline that `run` has, from zero states.

    Residuals count once the model has warmed up, and never across a gap.

    Args:
        session: of a model with a task.
        readings: with the model's channels in its order.
        on_progress: takes what there is and the seconds from the first reading to the last, after
            each reading; tells whether to go on.

    Returns:
        What there is at the end, also when the user ends it with Ctrl-C, and the pipeline.
    """
    manifest = session.artifact.manifest
    given = session.artifact
    session.artifact = dataclasses.replace(given, manifest=blank(manifest))
    try:
        pipeline = Pipeline(session)
    finally:
        session.artifact = given
    session.reset()
    found = Collected(len(manifest.channels), len(manifest.targets))
    first = None
    try:
        for reading in readings:
            verdict = pipeline.update(reading)
            found.add(reading.values, None if verdict.score is None else verdict.residual)
            first = reading.timestamp if first is None else first
            if not on_progress(found, reading.timestamp - first) or len(found) >= found.room:
                break
    except KeyboardInterrupt:
        pass
    return found, pipeline


def blank(manifest: Manifest) -> Manifest:
    """The manifest with a detection that judges nothing: only the residuals are wanted."""
    count = len(manifest.channels)
    before = manifest.detection
    means = before.channel_mean if before else tuple(c.mean for c in manifest.channels)
    return dataclasses.replace(
        manifest,
        detection=Detection(
            scorer="ewma",
            residual_scale=(1.0,) * len(manifest.targets),
            span=1,
            threshold="adaptive-tail",
            tail=Tail(1.0, 1.0),
            score_body=(),
            score_peaks=(),
            channel_mean=means,
            channel_std=(1.0,) * count,
            limits=(ChannelLimits(),) * count,
            readings=0,
            residuals="recording",
            # Any that a threshold can keep, at whatever rate.
            false_alarms_per_day=86_400 / (manifest.sample_period * manifest.hop) / 1e6,
        ),
    )
