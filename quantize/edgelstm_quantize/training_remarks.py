"""What people are told about the recordings of a training."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from edgelstm.recording import Recording, format_time
from edgelstm_quantize.limits import FEW_TRAINING_READINGS
from edgelstm_quantize.stretches import LONG_GAP, SHORTEST, Stretch
from edgelstm_quantize.training_checks import (
    find_odd_stretch,
    has_few_values,
    is_switch,
    level_change,
    looks_like_labels,
)

_WORSE = 1.05  # times the error of a linear model
_UNEVEN = 0.2  # of the steps may be half a period off before it is said


def what_was_done(recordings: Sequence[Recording], pieces: Sequence[Stretch]) -> Iterator[str]:
    """Sentences on what was filled, cut and left out of each recording."""
    for recording in recordings:
        own = [piece for piece in pieces if piece.recording is recording]
        kept = [piece for piece in own if len(piece) >= SHORTEST]
        counts = sum((~piece.known).sum(axis=0) for piece in kept)
        gaps = {n: int(c) for n, c in zip(recording.channels, np.ravel(counts), strict=False) if c}
        if gaps:
            each = ", ".join(f"{name} {count:,}" for name, count in gaps.items())
            yield (
                f"{recording.source}: {sum(gaps.values()):,} missing values are filled with the "
                f"last good one ({each}); no forecast is judged by them."
            )
        empty = len(recording) - sum(len(piece) for piece in own)
        if empty:
            yield f"{recording.source}: {empty:,} readings without any value are left out."
        if len(own) > 1:
            yield (
                f"{recording.source} is cut into {len(own)} stretches at gaps of more than "
                f"{LONG_GAP} readings; nothing is learnt across them."
            )
        short = len(own) - len(kept)
        if short:
            lost = sum(len(piece) for piece in own) - sum(len(p) for p in kept)
            yield (
                f"{recording.source}: {short} of its stretches ({lost:,} readings) are shorter "
                f"than {SHORTEST} readings and left out."
            )
        steps = np.diff(recording.timestamps) / recording.sample_period
        if len(steps) and np.mean(np.abs(steps - 1) > 0.5) > _UNEVEN:
            yield (
                f"{recording.source}: its readings are not evenly {recording.sample_period:.4g} s "
                "apart; --resample puts them onto a regular rate."
            )


def what_looks_odd(
    pieces: Sequence[Stretch], targets: Sequence[str], categorical: Sequence[str]
) -> Iterator[str]:
    """Sentences on what hardly belongs into a recording of normal operation.

    Args:
        pieces: of all recordings, one after the other; all have the same channels.
        targets: channels that are forecast.
        categorical: channels that hold categories.
    """
    channels = pieces[0].recording.channels
    values = np.concatenate([piece.values for piece in pieces])
    constant = values.min(axis=0) == values.max(axis=0)
    names = [channels[k] for k in np.flatnonzero(constant)]
    if names:
        yield (
            f"{', '.join(names)} never {'change' if len(names) > 1 else 'changes'} here, so any "
            "change will look odd to the model; leave out with --columns what does not matter."
        )
    plain = [k for k, name in enumerate(channels) if name not in categorical]
    labels = looks_like_labels([channels[k] for k in plain], values[:, plain])
    if labels:
        rest = ",".join(name for name in channels if name not in labels)
        yield (
            f"{', '.join(labels)} {'look' if len(labels) > 1 else 'looks'} like labels, not like "
            f"sensors; leave out what is none, such as with --columns '{rest}'."
        )
    switches = [
        channels[k]
        for k in plain
        if channels[k] in targets and channels[k] not in labels and is_switch(values[:, k])
    ]
    if switches:
        yield (
            f"{', '.join(switches)} {'are' if len(switches) > 1 else 'is'} only ever 0 or 1: if "
            "that is a command, name the other channels with --target; if it is a label, leave it "
            "out with --columns."
        )
    # A mode may explain what a sensor does, but is no sensor itself.
    checked = [
        k
        for k, name in enumerate(channels)
        if name not in labels and (k in plain or has_few_values(values[:, k]))
    ]
    for recording in {id(piece.recording): piece.recording for piece in pieces}.values():
        own = [piece for piece in pieces if piece.recording is recording]
        yield from _odd_stretches(recording, own, checked)


def few_readings(count: int) -> tuple[str, ...]:
    """What to say of so few readings, if they are few."""
    if count >= FEW_TRAINING_READINGS:
        return ()
    return (
        f"{count} readings tell little of what is normal, and the threshold will be coarse; record "
        f"{FEW_TRAINING_READINGS} or more.",
    )


def worse_than_linear(kind: str, error: float, linear: float) -> str | None:
    """What to say of a model that does worse than a linear one, if it does.

    Args:
        kind: of the model.
        error: out-of-fold rms error, normalised.
        linear: the same of a linear model.
    """
    if error <= _WORSE * linear:
        return None
    other = "--model hybrid" if kind != "autoencoder" else "a forecaster such as --model hybrid"
    return (
        f"A linear model is better ({linear:.3f} standard deviations, this one {error:.3f}): take "
        f"{other}, or train for longer with --iterations."
    )


def _odd_stretches(
    recording: Recording, pieces: Sequence[Stretch], columns: Sequence[int]
) -> Iterator[str]:
    """Sentences on stretches of one recording that differ from the rest of it."""
    if not columns:
        return
    values = np.concatenate([piece.values[:, columns] for piece in pieces])
    known = np.concatenate([piece.known[:, columns] for piece in pieces])
    rows = np.concatenate([piece.offset + np.arange(len(piece)) for piece in pieces])
    names = [recording.channels[k] for k in columns]
    cut = 0
    for before, after in itertools.pairwise(pieces):
        cut += len(before)
        change = level_change(values, known, cut)
        if change:
            k, old, new = change
            yield (
                f"{recording.source}: after the gap before row {after.row}"
                f"{_at(recording, after.offset)}, {names[k]} is at another level ({new:.4g}, "
                f"before it {old:.4g}); if only one side is normal operation, train on that"
                f"{_with_rows(recording, f':{after.row}', f'{after.row}:')}."
            )
            return
    odd = find_odd_stretch(values)
    if odd:
        first, last = int(rows[odd.start]), int(rows[odd.stop - 1])
        how = "moves far more than" if odd.livelier else "is far from where it is"
        a, b = recording.first_row + first, recording.first_row + last + 1
        yield (
            f"{recording.source}, rows {a}:{b}{_at(recording, first)}: {names[odd.channel]} {how} "
            f"in the rest; if that is no normal operation, train on other rows"
            f"{_with_rows(recording, f':{a}' if first > len(recording) - last else f'{b}:')}."
        )


def _with_rows(recording: Recording, *rows: str) -> str:
    """The option to choose some rows with; nothing where the readings are no rows of a file."""
    if recording.resampled:
        return ""
    return f" with {' or '.join(f'--rows {part}' for part in rows)}"


def _at(recording: Recording, row: int) -> str:
    """When a row was, in brackets; nothing for a recording without times."""
    if recording.timestamps[0] == 0:
        return ""
    return f" ({format_time(float(recording.timestamps[row]))})"
