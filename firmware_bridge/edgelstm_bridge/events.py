"""Events: what a source tells beside its readings, as values."""

from __future__ import annotations

from dataclasses import dataclass

from edgelstm.reading import Reading
from edgelstm_bridge.messages import LogLevel, Statistics


@dataclass(frozen=True, slots=True)
class Connected:
    """The link is open and the device is understood.

    Attributes:
        description: the port and the device, for people.
        again: whether it had been before.
    """

    description: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The link went away; it is tried again unless the source was told not to.

    Attributes:
        reason: one sentence.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """The device has restarted: what it had taken and not yet sent is lost, uncounted."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Readings are missing before the one that comes next.

    Attributes:
        missing: how many, at least 1.
        exact: whether the device's numbers say so; False: judged by the time that passed.
        timestamp: of the next reading.
        seconds: between the reading before and the next.
    """

    missing: int
    exact: bool
    timestamp: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Silence:
    """The link is open, and nothing of use has come for long; said once until something does.

    Attributes:
        seconds: since the last event.
        damaged: frames or lines that came meanwhile and could not be used.
    """

    seconds: float
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class Log:
    """A line for people: from a device with the frame protocol, or among lines of text.

    Attributes:
        level: how much it matters.
        text: the line.
    """

    level: LogLevel
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The device, or the file, has sent everything."""


Event = Reading | Gap | Restarted | Connected | Disconnected | Silence | Log | Statistics | Ended
