"""What users calibrate with, in any of its usual forms, as recordings of the model's channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm.recording import Recording, need_finite, to_numbers
from edgelstm_quantize.limits import FEW_STEPS, MIN_STEPS

CalibrationInput: TypeAlias = (
    Recording
    | NDArray[Any]
    | Mapping[str, NDArray[Any]]
    | Sequence[Recording]
    | Iterable[NDArray[Any]]
)
"""Readings in time order, as the model takes them: see `as_recordings`."""


def as_recordings(data: CalibrationInput, *, inputs: Mapping[str, int]) -> list[Recording]:
    """Recordings of all channels of a model, whose states are to be reset between them.

    The data is one of

    - a `Recording`,
    - an array (steps, channels), which is one recording, or (steps,) of a single channel,
    - an array (windows, steps, channels), each window of which is a recording of its own,
    - for each input, by name, an array of one of these shapes; all of the same length,
    - an iterable of `Recording`s or of arrays (steps, channels), which may differ in length. It is
      gone through once, and may reuse its array: each is copied before the next is asked for.

    Whatever has `__array__` counts as an array, such as tensors and data frames. The channels of
    several inputs lie side by side, in the model's order.

    Args:
        data: as above, in time order.
        inputs: the number of channels of each input, in the model's order.

    Returns:
        At least one recording, each of at least one step. All have the channels of the first
        `Recording` in its order; those of arrays are called `channel_0` and so on, or
        `<input>_0` and so on where there are several inputs, and are 1 s apart.

    Raises:
        RecordingError: the data is not of such a form, shape or type, has no steps or has values
            that are not finite; the message names the recording, the input and the row.
    """
    found: list[Recording]
    if isinstance(data, Recording):
        found = [_checked(data, data.source, inputs)]
    elif isinstance(data, Mapping):
        found = _from_mapping(data, inputs)
    elif hasattr(data, "__array__"):
        found = _recordings(_split(data, "array", inputs, _channels(inputs)), inputs)
    elif isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        found = [_from_item(item, i, inputs) for i, item in enumerate(data)]
    else:
        raise RecordingError(
            "Calibration data is a Recording, an array, an array for each input, or an iterable "
            f"of recordings or arrays, but this is of type {type(data).__name__}; read a file with "
            "edgelstm.parquet.read_recording, and call a function that yields arrays."
        )
    if not found:
        raise RecordingError("The calibration data is empty: there is no recording in it.")
    return [_like(recording, found[0]) for recording in found]


def check_length(recordings: Sequence[Recording]) -> list[str]:
    """Looks whether there are enough steps, in all recordings together.

    Returns:
        Sentences to warn with; none when there are enough.

    Raises:
        RecordingError: there are too few to calibrate anything.
    """
    steps = sum(len(recording) for recording in recordings)
    if steps < MIN_STEPS:
        raise RecordingError(
            f"The calibration has {steps} steps; it needs at least {MIN_STEPS}, and better "
            f"{FEW_STEPS} or more: record for longer."
        )
    if steps < FEW_STEPS:
        return [
            f"The calibration has {steps} steps; with fewer than {FEW_STEPS} the ranges of a "
            "recurrent model are not known well: record for longer."
        ]
    return []


def _from_mapping(data: Mapping[str, Any], inputs: Mapping[str, int]) -> list[Recording]:
    if set(data) != set(inputs):
        raise RecordingError(
            f"The calibration data is for {_listed(data)}, but the model has {_listed(inputs)}."
        )
    names = iter(_channels(inputs))
    parts = {
        name: _split(data[name], "array", {name: width}, [next(names) for _ in range(width)])
        for name, width in inputs.items()
    }
    first, *others = parts
    for name in others:
        if _extent(parts[name]) != _extent(parts[first]):
            raise RecordingError(
                f"The input {name!r} has {_extent(parts[name])}, but {first!r} has "
                f"{_extent(parts[first])}; give every input the same, taken at the same times."
            )
    joined = [np.concatenate(window, axis=1) for window in zip(*parts.values(), strict=True)]
    return _recordings(joined, inputs)


def _from_item(item: Any, i: int, inputs: Mapping[str, int]) -> Recording:
    """Item i of an iterable."""
    if isinstance(item, Recording):
        return _checked(item, f"recording {i} ({item.source})", inputs)
    where = f"window {i}"
    (window,) = _split(item, where, inputs, _channels(inputs), windows=False)
    return Recording.from_array(window, channels=_channels(inputs), source=where)


def _checked(recording: Recording, where: str, inputs: Mapping[str, int]) -> Recording:
    names, width = recording.channels, sum(inputs.values())
    if len(names) != width:
        raise RecordingError(
            f"{where} has {len(names)} channels ({', '.join(names)}), but the model takes {width} "
            f"({_listed(inputs)}); choose as many, with Recording.with_channels or --columns."
        )
    if len(set(names)) != len(names):
        raise RecordingError(f"{where} has two channels of one name: {', '.join(names)}.")
    values = to_numbers(recording.values, where)
    if values.ndim != 2 or values.shape[1] != width or not len(values):
        raise RecordingError(
            f"{where} has values of the shape {values.shape}; (steps, {width}) is expected, with "
            "at least one step."
        )
    need_finite(values, where, names)
    return replace(recording, values=values)


def _split(
    data: Any,
    where: str,
    inputs: Mapping[str, int],
    channels: Sequence[str],
    *,
    windows: bool = True,
) -> list[NDArray[np.float64]]:
    """A copy of an array as its recordings, each (steps, channels), with at least one step.

    Args:
        data: an array-like with the channels of these inputs, side by side.
        where: what messages call it.
        inputs: the number of channels of each.
        channels: names of the channels.
        windows: whether it may be three-dimensional.

    Raises:
        RecordingError: as for `as_recordings`.
    """
    label = f"{where}, {_listed(inputs)}"
    values = to_numbers(data, label)
    if values.ndim == 1 and len(channels) == 1:
        values = values[:, np.newaxis]
    several = windows and values.ndim == 3
    if (values.ndim != 2 and not several) or values.shape[-1] != len(channels):
        shapes = ["steps", "windows, steps"] if windows else ["steps"]
        expected = " or ".join(f"({shape}, {len(channels)})" for shape in shapes)
        raise RecordingError(f"{label}: the shape is {values.shape}, but {expected} is expected.")
    if not values.shape[-2]:
        raise RecordingError(f"{label}: there are no steps in it, its shape is {values.shape}.")
    if not several:
        need_finite(values, label, channels)
        return [values]
    for i, window in enumerate(values):
        need_finite(window, f"window {i}, {_listed(inputs)}", channels)
    return list(values)


def _recordings(
    windows: Sequence[NDArray[np.float64]], inputs: Mapping[str, int]
) -> list[Recording]:
    sources = ["array"] if len(windows) == 1 else [f"window {i}" for i in range(len(windows))]
    return [
        Recording.from_array(window, channels=_channels(inputs), source=source)
        for window, source in zip(windows, sources, strict=True)
    ]


def _like(recording: Recording, first: Recording) -> Recording:
    """The recording with its channels in the order of the first one's."""
    if recording.channels == first.channels:
        return recording
    if set(recording.channels) != set(first.channels):
        raise RecordingError(
            f"The recordings differ in their channels: {first.source} has "
            f"{', '.join(first.channels)}, but {recording.source} has "
            f"{', '.join(recording.channels)}; give all the same names."
        )
    return recording.with_channels(first.channels)


def _channels(inputs: Mapping[str, int]) -> list[str]:
    """Names for the channels of arrays."""
    return [
        f"{'channel' if len(inputs) == 1 else name}_{k}"
        for name, width in inputs.items()
        for k in range(width)
    ]


def _listed(inputs: Iterable[str]) -> str:
    """Inputs as a message names them: `input 'x'`, or `inputs 'vibration', 'load'`."""
    names = [repr(name) for name in inputs]
    return f"{'input' if len(names) == 1 else 'inputs'} {', '.join(names)}"


def _extent(windows: Sequence[NDArray[np.float64]]) -> str:
    if len(windows) == 1:
        return f"{len(windows[0])} steps"
    return f"{len(windows)} windows of {len(windows[0]) if windows else 0} steps"
