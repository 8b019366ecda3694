"""What a training sees: recordings put one after the other, their gaps filled and marked."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm.recording import SAME_PERIOD, Recording
from edgelstm_quantize.stretches import SHORTEST, cut
from edgelstm_quantize.training_remarks import what_looks_odd, what_was_done

MOST_CATEGORIES = 32


@dataclass(frozen=True)
class TrainingData:
    """Readings to train on, of one or several recordings.

    Attributes:
        channels: names of the model's inputs, in order.
        targets: the channels to forecast, some or all of them, in their order.
        categories: of each categorical channel the codes that occur, ascending.
        texts: of each categorical channel that held text, its texts: code k stands for text k.
        values: physical units, float64 (readings, channels), all finite: a missing value is
            filled with the last good one, as a session does on the device.
        known: bool (readings, channels); False where a value was filled. Such values are part of
            no loss.
        segments: contiguous stretches [start, stop) of readings, in order; together all of them.
            Neither states nor windows cross from one to the next.
        sample_period: seconds.
        remarks: sentences for people: what was filled, cut or left out, and what looks odd.
        resampled: whether the readings were put onto an even grid.
    """

    channels: tuple[str, ...]
    targets: tuple[str, ...]
    categories: dict[str, tuple[float, ...]]
    texts: dict[str, tuple[str, ...]]
    values: NDArray[np.float64]
    known: NDArray[np.bool_]
    segments: tuple[tuple[int, int], ...]
    sample_period: float
    remarks: tuple[str, ...] = ()
    resampled: bool = False

    def __len__(self) -> int:
        return len(self.values)


def prepare(
    recordings: Sequence[Recording],
    *,
    targets: Sequence[str] | None = None,
    categorical: Sequence[str] = (),
) -> TrainingData:
    """Puts recordings one after the other, for training and for what is compared with it.

    Missing values (NaN) are filled with the last good one of their channel, the first ones with
    the next. A recording is cut where no reading came for more than 10 sample periods, and where
    more than 10 readings in a row have no value at all; those are left out, and so are pieces of
    fewer than 32 readings.

    The values depend on the recordings alone: the same ones give the same, whatever the targets.

    Args:
        recordings: with the same channels, in any order; those of the first one count.
        targets: channels to forecast; by default all that are not categorical.
        categorical: channels whose values are whole numbers of at most 32 categories, beside
            those that were read as text.

    Raises:
        RecordingError: the recordings do not go together, one goes back in time, a channel is not
            there, has no value, or is no category; or all are constant.
    """
    if not recordings:
        raise RecordingError("There is no recording to train on; name at least one.")
    first = recordings[0]
    recordings, texts = _same_texts([_like(recording, first) for recording in recordings])
    categorical = [n for n in first.channels if n in texts or n in set(_known(categorical, first))]
    period = _common_period(recordings)
    _need_values(recordings)
    pieces = [piece for recording in recordings for piece in cut(recording)]
    kept = [piece for piece in pieces if len(piece) >= SHORTEST]
    if not kept:
        longest = max((len(piece) for piece in pieces), default=0)
        raise RecordingError(
            f"{_named(recordings)}: the longest stretch without a gap has {longest} readings; "
            f"training needs stretches of at least {SHORTEST}: record for longer."
        )
    values = np.concatenate([piece.values for piece in kept])
    ends = np.cumsum([len(piece) for piece in kept]).tolist()
    if (values.min(axis=0) == values.max(axis=0)).all():
        raise RecordingError(
            f"{_named(recordings)}: no channel ever changes, so there is nothing to learn; record "
            "the machine at work."
        )
    data = TrainingData(
        first.channels,
        _targets(targets, categorical, first),
        {name: _codes(values[:, first.channels.index(name)], name) for name in categorical},
        texts,
        values,
        np.concatenate([piece.known for piece in kept]),
        tuple(itertools.pairwise([0, *ends])),
        period,
        resampled=any(recording.resampled for recording in recordings),
    )
    remarks = (
        *what_was_done(recordings, pieces),
        *what_looks_odd(kept, data.targets, categorical),
    )
    return replace(data, remarks=remarks)


def _like(recording: Recording, first: Recording) -> Recording:
    """The recording with the channels in the order of the first one's, checked."""
    recording.need_order()
    if set(recording.channels) != set(first.channels):
        raise RecordingError(
            f"The recordings differ in their channels: {first.source} has "
            f"{', '.join(first.channels)}, but {recording.source} has "
            f"{', '.join(recording.channels)}; choose those that both have with --columns."
        )
    recording = recording.with_channels(first.channels)
    bad = np.isinf(recording.values)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise RecordingError(
            f"{recording.source}, row {recording.first_row + row} (counted from 0), channel "
            f"{recording.channels[column]!r}: a value is infinite; mend it, or leave it empty."
        )
    return recording


def _same_texts(
    recordings: Sequence[Recording],
) -> tuple[list[Recording], dict[str, tuple[str, ...]]]:
    """The recordings with one code for each text of a channel, in the order of the sorted texts."""
    names = {name for recording in recordings for name in recording.categories}
    found: dict[str, tuple[str, ...]] = {}
    for name in (n for n in recordings[0].channels if n in names):
        every = [_texts_of(recording, name) for recording in recordings]
        one_for_all = every[0] if all(texts == every[0] for texts in every) else None
        found[name] = one_for_all or tuple(sorted({text for texts in every for text in texts}))
    return [_recoded(recording, found) for recording in recordings], found


def _texts_of(recording: Recording, name: str) -> tuple[str, ...]:
    if name in recording.categories:
        return tuple(recording.categories[name])
    column = recording.values[:, recording.channels.index(name)]
    return tuple(f"{code:g}" for code in np.unique(column[~np.isnan(column)]).tolist())


def _recoded(recording: Recording, texts: dict[str, tuple[str, ...]]) -> Recording:
    values = recording.values.copy()
    for name, common in texts.items():
        column = values[:, recording.channels.index(name)]
        own = _texts_of(recording, name)
        numbers = np.unique(column[~np.isnan(column)]).tolist()
        old = range(len(own)) if name in recording.categories else numbers
        codes = {float(code): common.index(text) for code, text in zip(old, own, strict=True)}
        column[:] = [codes.get(code, np.nan) for code in column.tolist()]
    return replace(recording, values=values, categories=texts)


def _common_period(recordings: Sequence[Recording]) -> float:
    """The sample period of all; refuses some that differ."""
    slow = max(recordings, key=lambda recording: recording.sample_period)
    fast = min(recordings, key=lambda recording: recording.sample_period)
    if slow.sample_period > (1 + SAME_PERIOD) * fast.sample_period:
        raise RecordingError(
            f"{fast.source} has a reading every {fast.sample_period:.4g} s, but {slow.source} one "
            f"every {slow.sample_period:.4g} s; put both onto one rate with --resample "
            f"{slow.sample_period:.4g}."
        )
    return float(np.median([recording.sample_period for recording in recordings]))


def _need_values(recordings: Sequence[Recording]) -> None:
    for recording in recordings:
        for name, column in zip(recording.channels, recording.values.T, strict=True):
            if np.isnan(column).all():
                raise RecordingError(
                    f"{recording.source}: the channel {name!r} has no value in any of its "
                    f"{len(recording):,} rows; leave it out with --columns, or choose other rows."
                )


def _known(names: Sequence[str], recording: Recording) -> Sequence[str]:
    for name in names:
        if name not in recording.channels:
            raise RecordingError(
                f"{recording.source} has no channel {name!r}; it has "
                f"{', '.join(recording.channels)}."
            )
    return names


def _targets(
    wanted: Sequence[str] | None, categorical: Sequence[str], first: Recording
) -> tuple[str, ...]:
    if wanted is not None:
        chosen = set(_known(wanted, first))
        for name in categorical:
            if name in chosen:
                raise RecordingError(
                    f"The channel {name!r} is categorical, so it cannot be a target; what is "
                    "forecast is numbers."
                )
    else:
        chosen = set(first.channels) - set(categorical)
    if not chosen:
        raise RecordingError(
            f"{first.source} has no channel to forecast: all of {', '.join(first.channels)} are "
            "categorical."
        )
    return tuple(name for name in first.channels if name in chosen)


def _codes(column: NDArray[np.float64], name: str) -> tuple[float, ...]:
    codes = np.unique(column)
    odd = codes[codes != np.round(codes)]
    if len(odd):
        raise RecordingError(
            f"The categorical channel {name!r} holds {odd[0]:g}; a category is a text or a whole "
            "number: leave it out of --categorical."
        )
    if len(codes) > MOST_CATEGORIES:
        raise RecordingError(
            f"The categorical channel {name!r} has {len(codes)} different values, and at most "
            f"{MOST_CATEGORIES} are possible; leave it out of --categorical if they are numbers, "
            "and else join rare ones."
        )
    return tuple(codes.tolist())


def _named(recordings: Sequence[Recording]) -> str:
    return ", ".join(dict.fromkeys(recording.source for recording in recordings))
