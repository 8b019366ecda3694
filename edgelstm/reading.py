"""`Reading`: the timestamped values of all channels, as they come from a source."""

from __future__ import annotations

from typing import NamedTuple


class Reading(NamedTuple):
    """One reading of a sensor. A tuple, because a source makes thousands a second.

    Attributes:
        timestamp: seconds since the Unix epoch, UTC.
        values: one value per channel, in physical units and in the order of the channels.
        sequence_number: the device's own count, unwrapped so that it only grows; None when
            the source does not count.
        time_error: seconds; the true time lies within `timestamp` -+ `time_error`, as far as can
            be known; None where nothing is known.
    """

    timestamp: float
    values: tuple[float, ...]
    sequence_number: int | None = None
    time_error: float | None = None
