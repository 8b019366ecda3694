"""`Reading`: the timestamped values of all channels, as they come from a source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a sensor.

    Attributes:
        timestamp: seconds since the Unix epoch, UTC. Where the device has no wall clock,
            the time at which the reading was decoded.
        values: one value per channel, in physical units and in the order of the channels.
        sequence_number: the device's own count, unwrapped so that it only grows; None when
            the source does not count.
    """

    timestamp: float
    values: tuple[float, ...]
    sequence_number: int | None = None
