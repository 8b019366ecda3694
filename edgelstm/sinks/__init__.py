"""Sinks: where alerts go. Each takes the verdicts of a pipeline and picks what it tells of."""

from __future__ import annotations

from typing import Protocol

from edgelstm.pipeline import Verdict


class Sink(Protocol):
    """Takes every verdict of a pipeline, in order.

    What a silent sensor brings about comes as a verdict on a reading without values.
    """

    def take(self, verdict: Verdict) -> bool:
        """Tells of the verdict, if it is news to this sink.

        Returns:
            Whether it told.

        Raises:
            OSError: it cannot be told.
        """

    def close(self) -> None:
        """Lets go of what the sink holds; may be called twice."""
