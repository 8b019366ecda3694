"""From a device's wrapping counts to readings on one time axis. No I/O."""

from __future__ import annotations

from edgelstm.reading import Reading
from edgelstm_bridge.messages import Hello, Sample

_SEQUENCE_RANGE = 2**16
_CLOCK_RANGE = 2**32

MAX_SEQUENCE_STEP = _SEQUENCE_RANGE // 2
"""A sequence step longer than this is an older sample or a repeated one, not a gap."""

MAX_CLOCK_STEP = _CLOCK_RANGE // 2
"""The device clock must move by less than this many ticks from one sample to the next."""


def sequence_step(previous: int, current: int) -> int:
    """Return how far the sequence number went on, from 1 to 2^16; a repeat gives 2^16."""
    return (current - previous) % _SEQUENCE_RANGE or _SEQUENCE_RANGE


def clock_step(previous: int, current: int) -> int:
    """Return how far the device clock went on, in ticks.

    Negative when it went back, as a wall clock does when somebody sets it.
    """
    return (current - previous + MAX_CLOCK_STEP) % _CLOCK_RANGE - MAX_CLOCK_STEP


class Timeline:
    """Gives the samples of one device their timestamps and unwrapped sequence numbers.

    The sequence number of a reading always grows and stays equal to the device's own modulo
    2^16, so that a restarted or repeated count shows as a gap. The clock counts anew from
    each hello, because a restarted device counts from another epoch.
    """

    def __init__(self, hello: Hello) -> None:
        self._sequence: int | None = None
        self.restart(hello)

    def restart(self, hello: Hello) -> None:
        """Take the clock from a new hello."""
        self._tick_us = hello.clock_tick_us
        self._epoch_us = hello.clock_epoch_ms * 1000
        self._clock: int | None = None

    def reading(self, sample: Sample, decoded_at: float) -> Reading:
        """Return the reading of a sample.

        Args:
            sample: the next sample that came in.
            decoded_at: the host's time in seconds since the Unix epoch, which dates the
                samples of a device without a wall clock.
        """
        if self._sequence is None:
            self._sequence = sample.sequence_number
        else:
            self._sequence += sequence_step(self._sequence, sample.sequence_number)
        return Reading(self._timestamp(sample, decoded_at), sample.values, self._sequence)

    def _timestamp(self, sample: Sample, decoded_at: float) -> float:
        if not self._epoch_us:
            return decoded_at
        if self._clock is None:
            self._clock = sample.device_clock
        else:
            self._clock += clock_step(self._clock, sample.device_clock)
        # Whole microseconds until the one division: no rounding adds up.
        return (self._epoch_us + self._clock * self._tick_us) / 1_000_000
