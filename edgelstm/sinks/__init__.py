"""Sinks: where notices of alerts go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from edgelstm.alert import Severity
from edgelstm.evidence import Evidence
from edgelstm.feed import SensorInfo
from edgelstm.health import Health
from edgelstm.notice import EVENTS, Notice


def _no_evidence(_alert_id: str) -> Evidence | None:
    return None


@dataclass(frozen=True)
class SinkOptions:
    """What every sink can be told.

    Attributes:
        type: of the sink, a name that `edgelstm.sinks.registry` knows.
        sensors: whose alerts it takes; empty for all.
        events: that it takes, of `edgelstm.notice.EVENTS`.
        minimum_severity: below which it takes none.
        quiet_hours: such as "22:00-06:00", local time: meanwhile notices wait, but for critical
            ones, which come at once, with what waits of their sensor; "" for none.
    """

    type: str
    sensors: tuple[str, ...] = field(
        default=(), metadata={"help": "Only alerts of these sensors; none named: of all."}
    )
    events: tuple[str, ...] = field(default=EVENTS, metadata={"help": "Only these events."})
    minimum_severity: Severity = field(
        default=Severity.WARNING, metadata={"help": "warning or critical."}
    )
    quiet_hours: str = field(
        default="",
        metadata={"help": '"22:00-06:00", local time: until they end only critical ones come.'},
    )


@dataclass(frozen=True)
class SinkContext:
    """What a sink may know of the service that it is part of.

    Attributes:
        gateway: name of the computer.
        version: of edgelstm.
        sensors: gives what is watched now; it may change while the service runs.
        evidence: gives the readings around an alert by its id.
        directory: what relative paths are relative to.
    """

    gateway: str = ""
    version: str = ""
    sensors: Callable[[], tuple[SensorInfo, ...]] = tuple
    evidence: Callable[[str], Evidence | None] = _no_evidence
    directory: Path = field(default_factory=Path)


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
    are str, int, float, bool, `Secret`, `Path`, enumerations, literals, tuples of texts, dicts of
    texts, and `X | None`; its `__post_init__` raises `ConfigurationError`."""

    report_every: float | None = None
    """Seconds between two calls of `report`; None for none."""

    def __init__(self, config: Any, context: SinkContext) -> None:
        self.config, self.context = config, context

    @abstractmethod
    def send(self, notice: Notice) -> None:
        """Takes one notice to the receiver, and comes back when that has it.

        Raises:
            RefusedNoticeError: the receiver will never take it.
            SinkError: it did not get there; it is tried again.
        """

    def report(self, health: Health) -> None:
        """Tells the receiver how the service is, if it cares.

        Raises:
            SinkError: it did not get there.
        """

    def close(self) -> None:
        """Lets go of what the sink holds; may be called twice."""
