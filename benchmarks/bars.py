"""Bars: figures that have to hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """One figure and its limit.

    Attributes:
        what: is measured.
        figure: what it came to; None when it was not measured.
        limit: what it is held to.
        at_least: whether the limit is the least that holds, or the most.
        form: how figure and limit are written.
    """

    what: str
    figure: float | None
    limit: float
    at_least: bool
    form: str = "{:.2f}"

    @property
    def holds(self) -> bool:
        """Whether it was measured and is within its limit."""
        if self.figure is None:
            return False
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit

    def __str__(self) -> str:
        bound = f"{'at least' if self.at_least else 'at most'} {self.form.format(self.limit)}"
        if self.figure is None:
            return f"{self.what}: not measured ({bound})"
        verdict = "holds" if self.holds else "FALLS SHORT"
        return f"{self.what}: {self.form.format(self.figure)} ({bound}): {verdict}"


def print_bars(bars: Sequence[Bar]) -> bool:
    """Prints each bar on a line; returns whether all hold."""
    print("\nBars")
    for bar in bars:
        print(f"  {bar}")
    return all(bar.holds for bar in bars)
