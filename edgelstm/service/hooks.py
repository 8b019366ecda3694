"""What whoever runs a service may add to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from edgelstm.service.lane import Lane
from edgelstm.sinks import Sink, SinkContext, SinkOptions
from edgelstm_bridge.events import Event


class Page(Protocol):
    """What serves the service's state to others: metrics, the dashboard."""

    @property
    def url(self) -> str:
        """Where it is."""

    def start(self) -> None:
        """Begins to serve."""

    def close(self) -> None:
        """Ends it."""


@dataclass(frozen=True)
class ExtraSink:
    """A sink that is none of the configuration, such as the terminal.

    Attributes:
        name: of the sink.
        options: see `SinkOptions`.
        make: makes it.
    """

    name: str
    options: SinkOptions
    make: Callable[[SinkContext], Sink]


@dataclass(frozen=True)
class Hooks:
    """Who is told what; each is called from a thread of the service.

    Attributes:
        event: of a source by its name, but for readings.
        connected: a source is open, with its sensors, before the first reading.
        tick: twice a second.
        ended: everything was taken, saved and sent, as far as it could be.
    """

    event: Callable[[str, Event], None] = field(default=lambda _name, _event: None)
    connected: Callable[[Lane], None] = field(default=lambda _lane: None)
    tick: Callable[[], None] = field(default=lambda: None)
    ended: Callable[[], None] = field(default=lambda: None)
