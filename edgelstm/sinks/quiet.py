"""`QuietHours`: a part of the day in which people are not to be disturbed."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from edgelstm.errors import ConfigurationError

_FORM = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class QuietHours:
    """A part of each day, by the clock on the wall.

    It is asked anew each time, and nothing is computed ahead: so a clock that is set, and daylight
    saving, need no case of their own.

    Attributes:
        start: minutes after midnight, the first that is quiet.
        end: minutes after midnight, the first that is not; before `start` when midnight lies
            between.
    """

    start: int
    end: int

    @classmethod
    def parse(cls, text: str) -> QuietHours | None:
        """Reads `22:00-06:00`; None for an empty text.

        Raises:
            ConfigurationError: it is something else.
        """
        if not text:
            return None
        match = _FORM.fullmatch(text)
        if match is None:
            raise ConfigurationError(
                f"'quiet_hours' are {text!r}, not of the form 22:00-06:00; hours are from 00 to 23."
            )
        hour, minute, end_hour, end_minute = map(int, match.groups())
        start, end = 60 * hour + minute, 60 * end_hour + end_minute
        if start == end:
            raise ConfigurationError(
                f"'quiet_hours' are {text!r}, which begin when they end; for a sink that takes "
                'only critical alerts say minimum_severity = "critical".'
            )
        return cls(start, end)

    def hold(self, timestamp: float) -> bool:
        """Whether it is quiet at a time, seconds since the Unix epoch."""
        local = time.localtime(timestamp)
        minute = 60 * local.tm_hour + local.tm_min
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end
