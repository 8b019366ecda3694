"""Verdicts as columns of numbers, thinned where there are more than a page can show, and as bytes.

A message is `<header length: uint32> <header: JSON> <zeros up to a multiple of 8> <times: float64>
<columns: float32, one after the other>`, little-endian, so that a browser reads it without a copy.
NaN is a value that is not there.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.feed import SensorInfo
from edgelstm.pipeline import Verdict

_HEADER_LENGTH = struct.Struct("<I")
_ALIGNED = 8


@dataclass(frozen=True)
class Columns:
    """Rows in order of arrival.

    Attributes:
        times: seconds since the Unix epoch, (rows,).
        values: (columns, rows); first a column per channel, then one of predictions per compared
            channel, then the score and the threshold. NaN where there is none.
    """

    times: NDArray[np.float64]
    values: NDArray[np.float32]

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.times)


def columns_of(verdicts: Sequence[Verdict], sensor: SensorInfo) -> Columns:
    """The columns of these verdicts of a sensor.

    Of a window that the model gives back the last reading is taken. Verdicts of other channels than
    the sensor's, as they are while an artifact is changed, and those on no reading have only NaN.
    """
    channels, compared = len(sensor.channels), len(sensor.compared)
    rows = len(verdicts)
    values = np.full((channels + compared + 2, rows), np.nan, np.float32)
    no_values, no_prediction = (np.nan,) * channels, np.full(compared, np.nan)
    readings: list[Sequence[float]] = []
    predictions: list[NDArray[np.float64]] = []
    for verdict in verdicts:
        given, predicted = verdict.reading.values, verdict.predicted
        readings.append(given if len(given) == channels else no_values)
        if predicted is None or len(predicted) < compared:
            predicted = no_prediction
        predictions.append(predicted[len(predicted) - compared :])
    if rows:
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and is not drawn
            values[:channels] = np.array(readings, np.float64).T
            values[channels:-2] = np.array(predictions, np.float64).T
            values[-2] = [np.nan if one.score is None else one.score for one in verdicts]
            values[-1] = [np.nan if one.threshold is None else one.threshold for one in verdicts]
    return Columns(np.array([one.reading.timestamp for one in verdicts], np.float64), values)


def thin(columns: Columns, factor: int) -> Columns:
    """Puts the lowest and the highest value of each column in the place of every `factor` rows.

    They come in the order in which they were, at the times of the first and the last of these rows:
    no spike is lost. The rows that remain at the end are put together likewise.

    Args:
        columns: what is thinned.
        factor: rows that become two; with 2 or less nothing is done.
    """
    if factor <= 2 or columns.rows <= 2:
        return columns
    whole = columns.rows - columns.rows % factor
    parts = [_extremes(columns.times[:whole], columns.values[:, :whole], factor)] if whole else []
    rest = columns.rows - whole
    if rest:
        parts.append(_extremes(columns.times[whole:], columns.values[:, whole:], rest))
    return Columns(
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.values for part in parts], axis=1),
    )


def _extremes(times: NDArray[np.float64], values: NDArray[np.float32], factor: int) -> Columns:
    if factor == 1:
        return Columns(times, values)
    buckets = len(times) // factor
    split = values.reshape(len(values), buckets, factor)
    absent = np.isnan(split)
    lowest = np.where(absent, np.inf, split).argmin(axis=2)
    highest = np.where(absent, -np.inf, split).argmax(axis=2)
    places = np.stack([np.minimum(lowest, highest), np.maximum(lowest, highest)], axis=2)
    kept = np.take_along_axis(split, places, axis=2)
    # A column of which all is missing keeps its NaN; of one with a single value both are that.
    ends = times.reshape(buckets, factor)[:, [0, -1]]
    return Columns(ends.reshape(-1), kept.reshape(len(values), -1))


def pack(header: dict[str, Any], columns: Columns) -> bytes:
    """A message; the number of rows is added to the header. See above."""
    text = json.dumps(header | {"rows": columns.rows}, separators=(",", ":")).encode()
    padding = -(_HEADER_LENGTH.size + len(text)) % _ALIGNED
    return b"".join(
        (
            _HEADER_LENGTH.pack(len(text)),
            text,
            bytes(padding),
            columns.times.astype("<f8", copy=False).tobytes(),
            columns.values.astype("<f4", copy=False).tobytes(),
        )
    )


def unpack(message: bytes) -> tuple[dict[str, Any], Columns]:
    """What `pack` was given, for tests and for other clients than the page."""
    (length,) = _HEADER_LENGTH.unpack_from(message)
    header = json.loads(message[_HEADER_LENGTH.size : _HEADER_LENGTH.size + length])
    rows = int(header["rows"])
    start = _HEADER_LENGTH.size + length
    start += -start % _ALIGNED
    times = np.frombuffer(message, "<f8", rows, start)
    numbers = np.frombuffer(message, "<f4", offset=start + times.nbytes)
    return header, Columns(times, numbers.reshape(-1, rows) if rows else numbers.reshape(0, 0))
