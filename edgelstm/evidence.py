"""`Evidence`: the readings around an alert, kept so that people can see what happened."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgelstm.pipeline import Verdict


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
        """Takes verdicts in order of time; those on no reading are left out."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON; numbers are rounded to six significant digits."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Evidence:
        """What `to_dict` gave.

        Raises:
            OutboxError: it is something else.
        """
        raise NotImplementedError
