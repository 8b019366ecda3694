"""`Link`: the bytes of a source, whatever they come over."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from edgelstm.errors import EdgelstmError, SourceError


class LinkLost(SourceError):  # noqa: N818 - what has happened, as the events say it
    """The other side of a link went away, or the link was closed; opening again may help."""


class LinkEnded(EdgelstmError, EOFError):  # noqa: N818 - nothing went wrong
    """A stream that has an end (a pipe, a file, a capture) has come to it: no error."""


class Chunk(NamedTuple):
    """Bytes that were taken from a link at once.

    Attributes:
        data: never empty.
        arrived_at: when they were there, in seconds of `time.monotonic()`; never before the last
            of them came.
        wall_offset: what makes Unix seconds of `arrived_at` when added to it.
    """

    data: bytes
    arrived_at: float
    wall_offset: float


class Link(ABC):
    """Bytes to and from a device.

    One thread reads; another one may write, and any thread may close.

    Attributes:
        description: what messages call it, such as `/dev/ttyACM0`; it holds no password.
        can_write: whether the other side hears what is written.
        is_live: False for what was recorded before: nobody has to wait for anything then.
        can_wait: whether the other side can be made to wait, because no sensor is behind it: a
            file, a pipe, a pseudo-terminal.
        on_sent: where set, a replay calls it with what had been sent, and when (monotonic), in
            order with what is read.
    """

    description: str
    can_write: bool = False
    is_live: bool = True
    can_wait: bool = False
    on_sent: Callable[[bytes, float], None] | None = None

    @abstractmethod
    def read(self, timeout: float) -> Chunk | None:
        """Waits for bytes and returns all that are there; None when none came in time.

        Args:
            timeout: in seconds; 0 takes what is there.

        Raises:
            LinkLost: the other side went away, or the link is closed.
            LinkEnded: the stream has come to its end.
        """

    def write(self, data: bytes) -> None:  # noqa: B027 - the default for those who cannot
        """Sends bytes; on a link that cannot, nothing happens.

        What the other side does not take within a second is dropped: a device that listens to
        no command may still send good samples.

        Raises:
            LinkLost: the other side went away, or the link is closed.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes the link; a read in another thread raises `LinkLost` soon.

        May be called more than once, and from any thread.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


Opener = Callable[[], Link]
"""Opens a link anew each time it is called, and looks for it anew (a port may be renumbered).

It raises `SourceError` when that fails now, and `LinkEnded` when there is nothing more to open.
"""


def arrived(data: bytes) -> Chunk:
    """Returns the chunk of bytes that have just been taken."""
    now = time.monotonic()
    return Chunk(data, now, time.time() - now)


def is_closed(description: str) -> LinkLost:
    """What a link raises that was closed on this side."""
    return LinkLost(f"{description} is closed.")
