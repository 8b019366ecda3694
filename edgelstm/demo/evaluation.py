"""Compares alerts with labelled failures. Labels are used here only, after the alerts are made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

DATA = Path(__file__).parent / "data"
RECORDING = DATA / "machine_temperature.csv"
FAILURES = DATA / "machine_temperature_failures.json"
TRAINING_ROWS = 750  # NAB's probationary period: 15 % of a series, at most 750 rows


@dataclass(frozen=True)
class Failure:
    """A labelled failure; all times in seconds since the Unix epoch.

    Attributes:
        time: when it happened.
        start: start of the window in which an alert counts as announcing it.
        end: end of that window.
    """

    time: float
    start: float
    end: float


@dataclass(frozen=True)
class Announcement:
    """A failure and the first alert that was opened in its window, if any."""

    failure: Failure
    alert: float | None


@dataclass(frozen=True)
class Evaluation:
    """How well alerts announced failures: each failure's announcement, and the other alerts."""

    announcements: tuple[Announcement, ...]
    false_alarms: tuple[float, ...]

    @property
    def hits(self) -> int:
        """Failures that were announced."""
        return sum(a.alert is not None for a in self.announcements)

    def __str__(self) -> str:
        """The result as people say it."""
        false = len(self.false_alarms)
        return (
            f"{self.hits} of {len(self.announcements)} labelled failures announced, "
            f"{false} false {'alarm' if false == 1 else 'alarms'}"
        )


def evaluate(alerts: Sequence[float], failures: Sequence[Failure]) -> Evaluation:
    """Compares the times at which alerts were opened with the failures."""

    def first(failure: Failure) -> float | None:
        return min((a for a in alerts if failure.start <= a <= failure.end), default=None)

    return Evaluation(
        tuple(Announcement(failure, first(failure)) for failure in failures),
        tuple(a for a in alerts if not any(f.start <= a <= f.end for f in failures)),
    )


def read_failures(path: Path = FAILURES) -> tuple[Failure, ...]:
    """The labelled failures of the demonstration's recording."""

    def seconds(text: str) -> float:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()

    return tuple(
        Failure(seconds(item["time"]), *map(seconds, item["window"]))
        for item in json.loads(path.read_text())["failures"]
    )
