"""Sinks: where notices of alerts go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from edgelstm.alert import AlertEvent, Severity
from edgelstm.errors import ConfigurationError, SinkError
from edgelstm.evidence import Evidence
from edgelstm.feed import SensorInfo
from edgelstm.health import Health
from edgelstm.notice import EVENTS, Notice
from edgelstm.sinks.quiet import QuietHours


def _no_evidence(_alert_id: str) -> Evidence | None:
    return None


@dataclass(frozen=True)
class SinkOptions:
    """What every sink can be told.

    Attributes:
        type: of the sink, a name that `edgelstm.sinks.registry` knows.
        sensors: whose alerts it takes; empty for all. Faults of the service itself always pass.
        events: that it takes, of `edgelstm.notice.EVENTS`; by default all but "updated", so that
            people hear of an alert once.
        minimum_severity: below which it takes none.
        quiet_hours: such as "22:00-06:00", local time: meanwhile notices wait, but for critical
            ones, which come at once, with what waits of their sensor; "" for none.

    Raises:
        ConfigurationError: an event is unknown, the quiet hours are of another form, or an alert
            that becomes critical later would never be told.
    """

    type: str = field(
        metadata={"help": "What it is; docs/alerts.md has the types.", "example": "mqtt"}
    )
    sensors: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "Only alerts of these sensors; none named: of all.",
            "example": ("pump",),
        },
    )
    events: tuple[str, ...] = field(
        default=tuple(event for event in EVENTS if event != AlertEvent.UPDATED.value),
        metadata={"help": 'What it hears of; also "updated": the peak is clearly higher.'},
    )
    minimum_severity: Severity = field(
        default=Severity.WARNING, metadata={"help": "warning or critical."}
    )
    quiet_hours: str = field(
        default="",
        metadata={
            "help": "Local time: until they end only critical ones come.",
            "example": "22:00-06:00",
        },
    )

    def __post_init__(self) -> None:
        if unknown := [event for event in self.events if event not in EVENTS]:
            raise ConfigurationError(
                f"'events' has {unknown[0]!r}, which no alert has; there are {', '.join(EVENTS)}."
            )
        if not self.events:
            raise ConfigurationError(
                "A sink without 'events' would take none; leave them out for the usual ones."
            )
        opened, escalated = AlertEvent.OPENED.value, AlertEvent.ESCALATED.value
        if (
            self.minimum_severity is Severity.CRITICAL
            and opened in self.events
            and escalated not in self.events
        ):
            raise ConfigurationError(
                f"'events' has {opened} without {escalated}; an alert may become critical after it "
                "was opened, and a sink of critical ones only would never hear of it."
            )
        QuietHours.parse(self.quiet_hours)

    def takes(self, notice: Notice) -> bool:
        """Whether a notice is for this sink."""
        return notice.event in self.events and self.concerns(notice)

    def concerns(self, notice: Notice) -> bool:
        """Whether the alert of a notice is one that this sink tells of."""
        return (not self.sensors or not notice.sensor or notice.sensor in self.sensors) and (
            self.minimum_severity is Severity.WARNING or notice.alert.severity is Severity.CRITICAL
        )


@dataclass(frozen=True)
class SinkContext:
    """What a sink may know of the service that it is part of.

    Attributes:
        gateway: name of the computer.
        version: of edgelstm.
        sensors: gives what is watched now, of the `sensors` that the sink takes; it may change
            while the service runs.
        evidence: gives the readings around an alert by its id.
        directory: what relative paths are relative to.
    """

    gateway: str = ""
    version: str = ""
    sensors: Callable[[], tuple[SensorInfo, ...]] = tuple
    evidence: Callable[[str], Evidence | None] = _no_evidence
    directory: Path = field(default_factory=Path)


class BusySinkError(SinkError):
    """The receiver asks to be left alone for a while.

    Args:
        message: the sentence.
        retry_after: seconds.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Sink(ABC):
    """Takes notices to a receiver, one after the other, in a thread of its own: it may block.

    Making one does no I/O, so that a receiver that is away stops nothing; `send` opens what it
    needs. A third party's sink is an entry point of the group `edgelstm.sinks`.

    Args:
        config: an instance of `Config`.
        context: what else it may know.
    """

    Config: ClassVar[type[Any]]
    """A frozen dataclass of the sink's own options, each with a `help` in its metadata. Its types
    are str, int, float, bool, `Secret`, `str | Secret`, `Path`, enumerations, literals, tuples of
    texts, mappings of texts to texts or `str | Secret`, and `X | None`; its `__post_init__` raises
    `ConfigurationError`."""

    report_every: float | None = None
    """Seconds between two calls of `report`; None for none."""

    def __init__(self, config: Any, context: SinkContext) -> None:
        self.config, self.context = config, context
        self.standing: Callable[[], tuple[Notice, ...]] = tuple
        """Gives the last notice of each alert that is open and whose opening was sent here, also
        before a restart: what a receiver that forgets is to be told again."""

    @abstractmethod
    def send(self, notice: Notice) -> None:
        """Takes one notice to the receiver, and comes back when that has it.

        Raises:
            RefusedNoticeError: the receiver will never take it.
            SinkError: it did not get there; it is tried again.
        """

    def report(self, health: Health) -> None:  # noqa: B027  # most receivers do not care
        """Tells the receiver how the service is, if it cares.

        Raises:
            SinkError: it did not get there.
        """

    def close(self) -> None:  # noqa: B027  # many hold nothing
        """Lets go of what the sink holds; may be called twice."""
