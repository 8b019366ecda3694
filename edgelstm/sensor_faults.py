"""`SensorFaults`: says which sensor is at fault, from the readings alone, apart from anomalies.

A fault opens one alert and closes it once; what opens and what closes it lie apart, so that a
sensor on the boundary does not flap:

| reason | opens after | closes after |
|---|---|---|
| flat | `ChannelLimits.flat` readings in a row with the very same value | 10 changes |
| out of range | 3 readings in a row outside the stated limits | 10 in a row inside |
| missing | 11 readings in a row without this value | 10 in a row with it |
| missing, of all channels | silence for 10 sample periods, at least 5 s | the next reading |
| wrong rate | 50 intervals off by more than 20 % | few of them are, or their mean is right |

"Off" are intervals when their median and their mean are, both too long or both too short: of
readings that come in bursts the mean is right, and of readings some of which are missing the
median. Few are 12 of 50, and right is a mean within 10 %. Intervals over a gap that the sequence
numbers tell of do not count. A fault is a warning; only that all channels are missing is critical:
nothing is watched then.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgelstm.alert import (
    Alert,
    AlertChange,
    AlertEvent,
    AlertKind,
    Channels,
    ChannelShare,
    Severity,
)
from edgelstm.errors import ConfigurationError, StateError
from edgelstm.manifest import ChannelLimits
from edgelstm.reading import Reading

FLAT = "flat"
OUT_OF_RANGE = "out of range"
MISSING = "missing"
WRONG_RATE = "wrong rate"

_OUTSIDE = 3  # readings in a row
_ABSENT = 11
_RECOVERED = 10
_SILENT_PERIODS, _SILENT_S = 10, 5.0
_INTERVALS = 50
_RATE_ERROR, _RATE_RECOVERED = 0.2, 0.1
_OFF_TO_CLOSE = _INTERVALS // 4
# So that one comparison also finds what is not finite.
_LARGEST = sys.float_info.max


@dataclass(frozen=True)
class OpenFault:
    """An open fault in a form that JSON can hold: its alert's number, and when it opened."""

    number: int
    opened: float


@dataclass(frozen=True)
class ChannelState:
    """What is remembered of one channel.

    Attributes:
        value: the last one; None before the first.
        same: for how many readings in a row it was that.
        changes: readings that changed the value, since it was last flat.
        outside: readings in a row outside the limits.
        inside: readings in a row inside them.
        absent: readings in a row without a value.
        present: readings in a row with one.
        flat: the open fault of that reason, if any; so the others.
        out_of_range: see `flat`.
        missing: see `flat`.
    """

    value: float | None = None
    same: int = 0
    changes: int = 0
    outside: int = 0
    inside: int = 0
    absent: int = 0
    present: int = 0
    flat: OpenFault | None = None
    out_of_range: OpenFault | None = None
    missing: OpenFault | None = None


@dataclass(frozen=True)
class FaultsState:
    """What `SensorFaults` remembers.

    Attributes:
        opened: how many faults were opened.
        channels: of each channel.
        timestamp: of the last reading.
        waiting: since when the first reading is waited for, if there was silence before it.
        sequence_number: of the last reading.
        intervals: between readings, the latest 50, seconds; none over a known gap.
        silent: the open fault of all channels, if any.
        wrong_rate: the open fault of the rate, if any.
    """

    opened: int
    channels: tuple[ChannelState, ...]
    timestamp: float | None = None
    waiting: float | None = None
    sequence_number: int | None = None
    intervals: tuple[float, ...] = ()
    silent: OpenFault | None = None
    wrong_rate: OpenFault | None = None


class _Channel:
    """One channel. `troubled` is set while there is more to do than the short way does."""

    def __init__(self, name: str, limits: ChannelLimits, *, alone: bool) -> None:
        self.shares = (ChannelShare(name, 1.0),)
        self.alone = alone
        self.low = -_LARGEST if limits.low is None else limits.low
        self.high = _LARGEST if limits.high is None else limits.high
        self.flat_after = math.inf if limits.flat is None else limits.flat
        self.open: dict[str, Alert] = {}
        self.put(ChannelState())

    def put(self, state: ChannelState) -> None:
        self.value = math.nan if state.value is None else state.value
        self.same, self.changes = state.same, state.changes
        self.outside, self.inside = state.outside, state.inside
        self.absent, self.present = state.absent, state.present
        held = {FLAT: state.flat, OUT_OF_RANGE: state.out_of_range, MISSING: state.missing}
        self.open = {
            reason: _alert(fault, reason, self.shares, everything=self.alone)
            for reason, fault in held.items()
            if fault is not None
        }
        self.troubled = bool(self.open or self.outside or self.absent)

    def get(self) -> ChannelState:
        return ChannelState(
            None if math.isnan(self.value) else self.value,
            self.same,
            self.changes,
            self.outside,
            self.inside,
            self.absent,
            self.present,
            _fault(self.open.get(FLAT)),
            _fault(self.open.get(OUT_OF_RANGE)),
            _fault(self.open.get(MISSING)),
        )

    def take(self, value: float) -> list[tuple[str, bool]]:
        """The long way: counts everything.

        Returns:
            The reason of each fault that begins (True) or ends (False).
        """
        if math.isfinite(value):
            self.absent, self.present = 0, self.present + 1
            self._compare(value)
            if self.low <= value <= self.high:
                self.outside, self.inside = 0, self.inside + 1
            else:
                self.outside, self.inside = self.outside + 1, 0
        else:
            self.absent, self.present = self.absent + 1, 0
        news = []
        for reason, begins, ends in (
            (MISSING, self.absent >= _ABSENT, self.present >= _RECOVERED),
            (OUT_OF_RANGE, self.outside >= _OUTSIDE, self.inside >= _RECOVERED),
            (FLAT, self.same >= self.flat_after, self.changes >= _RECOVERED),
        ):
            is_open = reason in self.open
            if ends if is_open else begins:
                news.append((reason, not is_open))
        return news

    def _compare(self, value: float) -> None:
        if value == self.value:
            self.same += 1
            if self.same >= self.flat_after:
                self.changes = 0
        else:
            self.value, self.same, self.changes = value, 1, self.changes + 1


class SensorFaults:
    """Watches the sensors themselves: one alert for each channel and reason.

    Faults are numbered from 1, apart from anomalies.

    Args:
        channels: their names, in the order of a reading's values.
        limits: what a working sensor gives on each.
        sample_period: seconds.
        any_rate: whether no rate is wrong.

    Raises:
        ConfigurationError: there are not as many limits as channels, or the sample period is not
            positive.
    """

    def __init__(
        self,
        channels: Sequence[str],
        limits: Sequence[ChannelLimits],
        sample_period: float,
        *,
        any_rate: bool = False,
    ) -> None:
        if len(channels) != len(limits):
            raise ConfigurationError(
                f"There are limits for {len(limits)} channels, and {len(channels)} channels."
            )
        if not 0 < sample_period < math.inf:
            raise ConfigurationError(f"The sample period is {sample_period} s; it must be above 0.")
        alone = len(channels) == 1
        self._channels = [
            _Channel(*pair, alone=alone) for pair in zip(channels, limits, strict=True)
        ]
        self._all = tuple(ChannelShare(name, 1 / len(channels)) for name in channels)
        self._patience = max(_SILENT_PERIODS * sample_period, _SILENT_S)
        self._period = sample_period
        self._shortest = (1 - _RATE_ERROR) * sample_period
        self._longest = (1 + _RATE_ERROR) * sample_period
        if any_rate:
            self._shortest, self._longest = -math.inf, math.inf
        self.opened = 0
        """How many faults were opened so far."""
        self._timestamp: float | None = None
        self._waiting: float | None = None
        self._sequence_number: int | None = None
        self._intervals: deque[float] = deque(maxlen=_INTERVALS)
        self._short = self._long = 0
        self._silent: Alert | None = None
        self._wrong_rate: Alert | None = None

    @property
    def open(self) -> tuple[Alert, ...]:
        """The faults that are open now, by number."""
        # Lists first: another thread may ask while a reading is taken.
        alerts = [alert for channel in self._channels for alert in list(channel.open.values())]
        alerts += [alert for alert in (self._silent, self._wrong_rate) if alert is not None]
        return tuple(sorted(alerts, key=lambda alert: alert.number))

    @property
    def state(self) -> FaultsState:
        """What it remembers, as a value that can be set again."""
        return FaultsState(
            self.opened,
            tuple(channel.get() for channel in self._channels),
            self._timestamp,
            self._waiting,
            self._sequence_number,
            tuple(self._intervals),
            _fault(self._silent),
            _fault(self._wrong_rate),
        )

    @state.setter
    def state(self, state: FaultsState) -> None:
        if not (
            isinstance(state, FaultsState)
            and len(state.channels) == len(self._channels)
            and _possible(state)
        ):
            raise StateError(
                f"This is no state of the sensor faults of {len(self._channels)} channels; start "
                "afresh."
            )
        for channel, held in zip(self._channels, state.channels, strict=True):
            channel.put(held)
        self.opened = state.opened
        self._timestamp, self._waiting = state.timestamp, state.waiting
        self._sequence_number = state.sequence_number
        self._intervals = deque(state.intervals, maxlen=_INTERVALS)
        self._short = sum(interval < self._shortest for interval in self._intervals)
        self._long = sum(interval > self._longest for interval in self._intervals)
        self._silent = self._wrong_rate = None
        if state.silent is not None:
            self._silent = _alert(state.silent, MISSING, self._all, everything=True)
        if state.wrong_rate is not None:
            self._wrong_rate = _alert(state.wrong_rate, WRONG_RATE, self._all, everything=True)

    def update(self, reading: Reading) -> tuple[AlertChange, ...]:
        """Takes one reading; not finite values are missing ones, and without any it is none.

        Returns:
            The faults that opened or closed.
        """
        timestamp = reading.timestamp
        values = reading.values
        if len(values) > 1 and not math.isfinite(values[0]) and not any(map(math.isfinite, values)):
            return self.silent(timestamp)  # one fault of all channels, not one of each
        changes: list[AlertChange] = []
        if self._mind_the_rate(timestamp, reading.sequence_number):
            changes += self._judge_time(timestamp)
        # The session refuses a reading with another number of values.
        for channel, value in zip(self._channels, reading.values):  # noqa: B905
            if channel.troubled or not channel.low <= value <= channel.high:
                changes += self._trouble(channel, timestamp, value)
            elif value != channel.value:
                channel.value = value
                channel.same = 1
            elif channel.same + 1 < channel.flat_after:
                channel.same += 1
            else:
                changes += self._trouble(channel, timestamp, value)
        return tuple(changes)

    def silent(self, timestamp: float) -> tuple[AlertChange, ...]:
        """Takes note that no reading has come until now.

        Args:
            timestamp: now, seconds since the Unix epoch.

        Returns:
            The fault of all channels, if it opened.
        """
        since = self._waiting if self._timestamp is None else self._timestamp
        if since is None:
            self._waiting = since = timestamp
        if self._silent is not None or timestamp - since < self._patience:
            return ()
        self._silent = self._new(timestamp, MISSING, self._all, everything=True)
        return (AlertChange(AlertEvent.OPENED, self._silent),)

    def renumber(self) -> None:
        """Forgets the last sequence number: the next reading may have any."""
        self._sequence_number = None

    def resume(self) -> None:
        """Forgets when the last reading was: silence counts from now on."""
        self._sequence_number = self._timestamp = self._waiting = None

    def _mind_the_rate(self, timestamp: float, sequence_number: int | None) -> bool:
        """Takes the interval since the last reading; says whether there is something to judge."""
        last, self._timestamp = self._timestamp, timestamp
        before, self._sequence_number = self._sequence_number, sequence_number
        if self._silent is not None:
            return True
        if last is None or (
            before is not None and sequence_number is not None and sequence_number != before + 1
        ):
            return False
        interval = timestamp - last
        intervals = self._intervals
        if len(intervals) == _INTERVALS:
            leaving = intervals[0]
            if leaving < self._shortest:
                self._short -= 1
            elif leaving > self._longest:
                self._long -= 1
        intervals.append(interval)
        if interval < self._shortest:
            self._short += 1
        elif interval > self._longest:
            self._long += 1
        half = _INTERVALS // 2
        return self._wrong_rate is not None or self._short > half or self._long > half

    def _judge_time(self, timestamp: float) -> list[AlertChange]:
        if self._silent is not None:
            silent, self._silent = self._silent, None
            return [_close(silent, timestamp)]
        if len(self._intervals) < _INTERVALS:
            return []
        error = sum(self._intervals) / _INTERVALS / self._period - 1
        half = _INTERVALS // 2
        if self._wrong_rate is None:
            if (self._short > half and error < -_RATE_ERROR) or (
                self._long > half and error > _RATE_ERROR
            ):
                self._wrong_rate = self._new(timestamp, WRONG_RATE, self._all, everything=True)
                return [AlertChange(AlertEvent.OPENED, self._wrong_rate)]
        elif max(self._short, self._long) <= _OFF_TO_CLOSE or abs(error) <= _RATE_RECOVERED:
            wrong_rate, self._wrong_rate = self._wrong_rate, None
            return [_close(wrong_rate, timestamp)]
        return []

    def _trouble(self, channel: _Channel, timestamp: float, value: float) -> list[AlertChange]:
        changes = []
        for reason, begins in channel.take(value):
            if begins:
                alert = channel.open[reason] = self._new(
                    timestamp, reason, channel.shares, everything=channel.alone
                )
                changes.append(AlertChange(AlertEvent.OPENED, alert))
            else:
                changes.append(_close(channel.open.pop(reason), timestamp))
        channel.troubled = bool(channel.open or channel.outside or channel.absent)
        return changes

    def _new(self, timestamp: float, reason: str, channels: Channels, *, everything: bool) -> Alert:
        self.opened += 1
        return _alert(OpenFault(self.opened, timestamp), reason, channels, everything=everything)


def _alert(fault: OpenFault, reason: str, channels: Channels, *, everything: bool) -> Alert:
    """The alert of a fault, which may be of all channels."""
    blind = everything and reason == MISSING
    return Alert(
        fault.number,
        AlertKind.SENSOR_FAULT,
        fault.opened,
        channels=channels,
        reason=reason,
        severity=Severity.CRITICAL if blind else Severity.WARNING,
    )


def _fault(alert: Alert | None) -> OpenFault | None:
    return None if alert is None else OpenFault(alert.number, alert.opened)


def _close(alert: Alert, timestamp: float) -> AlertChange:
    return AlertChange(AlertEvent.CLOSED, replace(alert, closed=timestamp))


def _possible(state: FaultsState) -> bool:
    faults = [state.silent, state.wrong_rate]
    counts, numbers = [state.opened], [state.timestamp, state.waiting, *state.intervals]
    for channel in state.channels:
        faults += [channel.flat, channel.out_of_range, channel.missing]
        counts += [channel.same, channel.changes, channel.outside, channel.inside]
        counts += [channel.absent, channel.present]
        numbers.append(channel.value)
    numbers += [fault.opened for fault in faults if fault is not None]
    return (
        all(fault is None or 1 <= fault.number <= state.opened for fault in faults)
        and min(counts) >= 0
        and all(number is None or math.isfinite(number) for number in numbers)
        and len(state.intervals) <= _INTERVALS
    )
