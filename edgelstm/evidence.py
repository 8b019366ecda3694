"""`Evidence`: the readings around an alert, kept so that people can see what happened."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.errors import OutboxError
from edgelstm.verdict import Verdict

_DIGITS = 6
_MOST_PLACES = 300  # after the point; below, a number is as good as 0
_POWERS = np.array([float(f"1e{k}") for k in range(_MOST_PLACES + 1)])


@dataclass(frozen=True)
class Evidence:
    """The readings around an alert; columns of equal length, in order of time.

    Attributes:
        channels: names of the values, in order.
        compared: names of the channels that have predictions, in order.
        times: seconds since the Unix epoch.
        values: of each reading one per channel, physical units; None where one is missing.
        predicted: of each reading one per compared channel, physical units; None without one.
        scores: None without one.
        thresholds: None without one.
    """

    channels: tuple[str, ...]
    compared: tuple[str, ...]
    times: tuple[float, ...]
    values: tuple[tuple[float | None, ...], ...]
    predicted: tuple[tuple[float, ...] | None, ...]
    scores: tuple[float | None, ...]
    thresholds: tuple[float | None, ...]

    @classmethod
    def of(
        cls, verdicts: Iterable[Verdict], channels: Sequence[str], compared: Sequence[str]
    ) -> Evidence:
        """Takes verdicts in order of time; those on no reading are left out.

        Args:
            verdicts: such as `VerdictRing.last` gives.
            channels: names of the values of a reading.
            compared: names of the channels that are predicted, see `Pipeline.compared`. Of a window
                that the model gives back its last reading is kept.
        """
        kept = [verdict for verdict in verdicts if verdict.reading.values]
        count = len(compared)
        return cls(
            tuple(channels),
            tuple(compared),
            tuple(verdict.reading.timestamp for verdict in kept),
            tuple(_known(verdict.reading.values) for verdict in kept),
            tuple(
                None if verdict.predicted is None else _whole(verdict.predicted[-count:].tolist())
                for verdict in kept
            ),
            tuple(verdict.score for verdict in kept),
            tuple(verdict.threshold for verdict in kept),
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON; numbers are rounded to six significant digits.

        Times are rounded to microseconds.
        """
        count = len(self.compared)
        unknown = (math.nan,) * count
        predicted = _rounded([row or unknown for row in self.predicted], count)
        return {
            "channels": list(self.channels),
            "compared": list(self.compared),
            "times": [round(time, 6) for time in self.times],
            "values": _rounded(self.values, len(self.channels)),
            "predicted": [
                None if row is None else rounded
                for row, rounded in zip(self.predicted, predicted, strict=True)
            ],
            "scores": _rounded(self.scores),
            "thresholds": _rounded(self.thresholds),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Evidence:
        """What `to_dict` gave.

        Raises:
            OutboxError: it is something else.
        """
        try:
            channels, compared = (_names(data[name]) for name in ("channels", "compared"))
            times, scores, thresholds = (
                _numbers(data[name]) for name in ("times", "scores", "thresholds")
            )
            values = tuple(_numbers(row) for row in data["values"])
            predicted = tuple(row if row is None else _numbers(row) for row in data["predicted"])
            lengths = {len(part) for part in (times, values, predicted, scores, thresholds)}
            if (
                len(lengths) != 1
                or None in times
                or any(len(row) != len(channels) for row in values)
                or any(
                    row is not None and (len(row) != len(compared) or None in row)
                    for row in predicted
                )
            ):
                raise ValueError("its columns do not fit one another")
            return cls(channels, compared, times, values, predicted, scores, thresholds)  # type: ignore[arg-type]  # there is no None where it may not be
        except (KeyError, TypeError, ValueError) as error:
            raise OutboxError(
                f"This is no evidence of an alert, or that of another edgelstm: {error}."
            ) from error


def _known(values: Sequence[float]) -> tuple[float | None, ...]:
    """The values of a reading, None for those that are not finite: JSON has no others."""
    if all(map(math.isfinite, values)):
        return tuple(values)
    return tuple(value if math.isfinite(value) else None for value in values)


def _whole(values: list[float]) -> tuple[float, ...] | None:
    return tuple(values) if all(map(math.isfinite, values)) else None


def _rounded(numbers: Any, columns: int | None = None) -> list[Any]:
    """Numbers, or rows of them, to six significant digits; None stays.

    Whole columns at once: this must not hold the interpreter from the thread that watches.
    """
    shape = (len(numbers),) if columns is None else (len(numbers), columns)
    x = np.array(numbers, np.float64).reshape(shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        exponents = np.floor(np.log10(np.abs(x)))
    places = _DIGITS - 1 - np.nan_to_num(exponents, neginf=0.0).astype(np.int64)
    # Dividing a whole number by a power of ten gives the double next to the decimal, which is
    # written in few digits; multiplying by 0.001 does not.
    up, down = _POWERS[places.clip(0, _MOST_PLACES)], _POWERS[(-places).clip(0, _MOST_PLACES)]
    plain: list[Any] = (np.rint(x * up / down) / up * down).tolist()
    if np.isnan(x).any():
        plain = [_without_nan(item) for item in plain]
    return plain


def _without_nan(item: Any) -> Any:
    if isinstance(item, list):
        return [_without_nan(one) for one in item]
    return None if math.isnan(item) else item


def _names(data: Any) -> tuple[str, ...]:
    if not isinstance(data, list) or not all(isinstance(name, str) for name in data):
        raise TypeError(f"{data!r} are no names")
    return tuple(data)


def _numbers(data: Any) -> tuple[float | None, ...]:
    for number in data:
        if number is not None and type(number) not in (int, float):
            raise TypeError(f"{number!r} is no number")
    return tuple(data)
