"""What stands in for missing values, so that one dead sensor does not blind a whole model.

A model needs every channel at every step, and a value that is missing has no part in a score:

| channel | the model is given | it is compared |
|---|---|---|
| with a value | its value | yes |
| without one | its last value | no |
| without one from the start, for more than 10 readings | its mean in the calibration | no |
| with one again, after more than 10 readings without | its value | once its forecasts know it |

A channel of codes (categories, tokens) has no mean: as long as it never had a value the model
cannot run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edgelstm.errors import ReadingError, StateError
from edgelstm.manifest import Manifest

LONG_ABSENCE = 10
"""Readings without a value after which a channel's forecasts are no longer of this channel."""


class Completed(NamedTuple):
    """A reading as the model takes it, and as it is compared; both (channels,), physical units.

    Attributes:
        inputs: with a stand-in where a value is missing.
        observed: NaN where there is nothing to compare.
    """

    inputs: Sequence[float]
    observed: Sequence[float]


@dataclass(frozen=True)
class StandInState:
    """What `StandIns` remembers, per channel.

    Attributes:
        values: the last one; None before the first.
        absent: readings in a row without one.
        unsettled: readings for which the channel, being back, is not compared yet.
    """

    values: tuple[float | None, ...]
    absent: tuple[int, ...]
    unsettled: tuple[int, ...]


class StandIns:
    """Completes readings.

    Args:
        manifest: of a model that was calibrated for detection.
    """

    def __init__(self, manifest: Manifest) -> None:
        assert manifest.detection is not None  # noqa: S101  # the pipeline has seen to it
        means = zip(manifest.channels, manifest.detection.channel_mean, strict=True)
        self._means = [
            mean if channel.tokens is None and channel.categories is None else None
            for channel, mean in means
        ]
        # So long do the states, or the window, tell of the stand-in, and the forecasts made of it.
        self._settling = (manifest.window or manifest.warm_up) + manifest.horizon
        count = len(manifest.channels)
        self.state = StandInState((None,) * count, (0,) * count, (0,) * count)

    @property
    def state(self) -> StandInState:
        """What is remembered: a frozen value, which can be set again.

        Setting that of another model raises a StateError and changes nothing.
        """
        return StandInState(tuple(self._values), tuple(self._absent), tuple(self._unsettled))

    @state.setter
    def state(self, state: StandInState) -> None:
        if not (
            isinstance(state, StandInState)
            and len(state.values) == len(state.absent) == len(state.unsettled) == len(self._means)
            and all(value is None or math.isfinite(value) for value in state.values)
            and min(state.absent) >= 0
            and min(state.unsettled) >= 0
        ):
            raise StateError("The last values in this state are not of this model; start afresh.")
        self._values: Sequence[float | None] = state.values
        self._absent, self._unsettled = list(state.absent), list(state.unsettled)
        self._at_rest = not any(state.absent) and not any(state.unsettled)

    def complete(self, values: Sequence[float], *, whole: bool) -> Completed | None:
        """Takes a reading, (channels,), physical units; not finite values are missing ones.

        Args:
            values: the reading.
            whole: whether it has all its values.

        Returns:
            None when nothing can stand in for one of them, and the model cannot run.

        Raises:
            ReadingError: it has another number of values; nothing has happened.
        """
        if len(values) != len(self._means):
            raise ReadingError(
                f"A reading has the shape ({len(values)},); this model takes ({len(self._means)},)."
            )
        if whole and self._at_rest:  # at nearly every reading
            self._values = values
            return Completed(values, values)
        observed, inputs, held = [], [], []
        for k, (value, last) in enumerate(zip(values, self._values, strict=True)):
            known = math.isfinite(value)
            if known:
                if self._absent[k] > LONG_ABSENCE:
                    self._unsettled[k] = self._settling
                self._absent[k] = 0
            else:
                self._absent[k] += 1
            observed.append(value if known and not self._unsettled[k] else math.nan)
            if self._unsettled[k]:
                self._unsettled[k] -= 1
            held.append(value if known else last)
            stand_in = held[k]
            if stand_in is None and self._absent[k] > LONG_ABSENCE:
                stand_in = self._means[k]
            inputs.append(stand_in)
        self._values = held
        self._at_rest = not any(self._absent) and not any(self._unsettled)
        given = [value for value in inputs if value is not None]
        return Completed(given, observed) if len(given) == len(inputs) else None
