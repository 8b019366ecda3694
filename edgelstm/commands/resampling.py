"""Recordings on a regular rate, in the way that a device's readings are put on one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import click
import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm.reading import Reading
from edgelstm.recording import Recording, same_period


def resample(recording: Recording, sample_period: float, held: Sequence[str] = ()) -> Recording:
    """A recording with readings at the multiples of a sample period.

    As `Resampler` does it: means of the readings around each time where there are more than
    needed, else values on the line between two readings. A gap stays one, and a missing value
    stays missing where no other takes part in its mean.

    Args:
        recording: in time order.
        sample_period: in seconds.
        held: channels that keep their last value instead, as categories must.

    Raises:
        RecordingError: the time goes back somewhere, or nothing is left.
        ConfigurationError: the sample period is not above 0.
    """
    recording.need_order()
    rows, values = _on_grid(recording, sample_period, "auto")
    columns = [recording.channels.index(name) for name in held]
    if columns:
        steady_rows, steady = _on_grid(recording, sample_period, "hold")
        rows, ours, theirs = np.intersect1d(rows, steady_rows, return_indices=True)
        values = values[ours]
        values[:, columns] = steady[theirs][:, columns]
    if not len(rows):
        raise RecordingError(
            f"{recording.source}: no reading is left with one every {sample_period:g} s; its own "
            f"are {recording.sample_period:g} s apart, so choose a period near to that."
        )
    return replace(
        recording,
        source=f"{recording.source}, resampled to {sample_period:g} s",
        timestamps=rows.astype(np.float64) * sample_period,
        values=values,
        sample_period=sample_period,
        lines=None,
        first_row=0,
        resampled=True,
    )


def as_trained(
    recording: Recording,
    sample_period: float | None,
    held: Sequence[str] = (),
    *,
    always: bool = False,
) -> Recording:
    """A recording at the rate of a model, resampled and said so where its own is another.

    Args:
        recording: in time order.
        sample_period: of the model in seconds; None where it is not known.
        held: channels that hold categories.
        always: resample at the same rate, too, as is right for a model whose training did.

    Raises:
        RecordingError: as `resample` does.
    """
    same = sample_period is None or same_period(recording.sample_period, sample_period)
    if sample_period is None or (same and not always):
        return recording
    click.echo(
        f"Note: {recording.source} is resampled to one reading every {sample_period:g} s, as the "
        f"model was trained: {how_resampled(recording, sample_period)}.",
        err=True,
    )
    return resample(recording, sample_period, held)


def how_resampled(recording: Recording, sample_period: float) -> str:
    """What `resample` does to a recording, in words."""
    if recording.sample_period < 0.9 * sample_period:
        return "means of the readings around each time"
    return "on the line between the readings before and after each time"


def _on_grid(
    recording: Recording, sample_period: float, method: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The numbers of the times on the grid, and the values there, (rows, channels)."""
    from edgelstm_bridge.resampling import Resampler

    resampler = Resampler(sample_period, "hold" if method == "hold" else "auto")
    outputs: list[Reading] = []
    for timestamp, row in zip(
        recording.timestamps.tolist(), recording.values.tolist(), strict=True
    ):
        outputs += resampler.push(Reading(timestamp, tuple(row)))
    outputs += resampler.flush()
    # Where nothing is known of a reading, it stays out as on the device.
    outputs = [o for o in outputs if not all(map(math.isnan, o.values))]
    rows = np.array([output.sequence_number or 0 for output in outputs], np.int64)
    values = np.array([output.values for output in outputs], np.float64)
    return rows, values.reshape(len(rows), len(recording.channels))
