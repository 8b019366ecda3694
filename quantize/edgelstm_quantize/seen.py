"""Calibration data as the training saw it: gaps filled, cut at long ones, texts as their codes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from edgelstm.errors import RecordingError
from edgelstm.recording import Recording, same_period
from edgelstm_quantize.calibration_data import CalibrationInput
from edgelstm_quantize.keras_files import TrainingRecord
from edgelstm_quantize.stretches import SHORTEST, cut


def like_the_training(data: CalibrationInput, record: TrainingRecord) -> CalibrationInput:
    """Recordings as `train` would have seen them; whatever else the data is stays as it is.

    Args:
        data: see `as_recordings`; the values of a `Recording` may be missing (NaN).
        record: of the model.

    Raises:
        RecordingError: a channel of the model is not there or has no value, a text was not there
            in training, or the readings come at another rate.
    """
    recordings = [data] if isinstance(data, Recording) else data
    if not isinstance(recordings, Sequence):
        return data
    if not all(isinstance(part, Recording) for part in recordings):
        return data
    return [piece for recording in recordings for piece in _pieces(recording, record)]


def _pieces(recording: Recording, record: TrainingRecord) -> Iterator[Recording]:
    """The stretches of a recording between long gaps, their missing values filled."""
    recording = _coded(recording.with_channels(record.channels), record)
    needed = record.sample_period
    if needed and not same_period(recording.sample_period, needed):
        raise RecordingError(
            f"{recording.source} has a reading every {recording.sample_period:.4g} s, but the "
            f"model was trained on one every {needed:.4g} s: give a recording at that rate, or "
            "train the model for this one."
        )
    for name, column in zip(recording.channels, recording.values.T, strict=True):
        if np.isnan(column).all():
            raise RecordingError(
                f"{recording.source}: the channel {name!r} has no value in any of its "
                f"{len(recording):,} rows; choose other rows."
            )
    pieces = list(cut(recording))
    # Training leaves out what is shorter. Where all of it is, it is better than nothing.
    for piece in [piece for piece in pieces if len(piece) >= SHORTEST] or pieces:
        rows = slice(piece.offset, piece.offset + len(piece))
        yield replace(
            recording,
            timestamps=recording.timestamps[rows],
            values=piece.values,
            filled=~piece.known,
        )


def _coded(recording: Recording, record: TrainingRecord) -> Recording:
    """The recording with the codes that the model knows."""
    values = recording.values.copy()
    for k, (name, texts) in enumerate(zip(record.channels, record.categories, strict=True)):
        own = recording.categories.get(name)
        if texts is None or own is None or own == texts:
            continue
        if unknown := [text for text in own if text not in texts]:
            raise RecordingError(
                f"{recording.source}, channel {name!r}: {unknown[0]!r} did not occur in training, "
                "so the model does not know it; leave out those rows, or train the model again."
            )
        codes = {float(code): float(texts.index(text)) for code, text in enumerate(own)}
        values[:, k] = [codes.get(code, np.nan) for code in values[:, k].tolist()]
    return replace(recording, values=values)
