"""`Mailbox`: how other threads reach the run of a virtual device."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto

from edgelstm.errors import EdgelstmError, SourceError

_READ_SIZE = 4096


class Action(Enum):
    """What another thread may ask a run to do."""

    PLUG = auto()
    UNPLUG = auto()
    RESTART = auto()
    HANG = auto()


@dataclass
class Request:
    """One such wish.

    Attributes:
        action: what to do.
        drain: unplug only once the reader has taken everything.
        seconds: how long to hang.
        done: set when it is done, or will not be.
        error: why it was not done.
        abandoned: nobody waits for it any more.
    """

    action: Action
    drain: bool = False
    seconds: float = 0.0
    done: threading.Event = field(default_factory=threading.Event)
    error: EdgelstmError | None = None
    abandoned: bool = False

    def finish(self, error: EdgelstmError | None = None) -> None:
        """Tells whoever waits."""
        self.error = error
        self.done.set()


class Mailbox:
    """Wakes a run up: for requests of other threads, and because the device is closed."""

    def __init__(self) -> None:
        self.closed = False
        self.requests: deque[Request] = deque()
        self.receiver, self._sender = os.pipe()
        os.set_blocking(self.receiver, False)
        os.set_blocking(self._sender, False)

    def post(self, request: Request) -> None:
        """Leaves a request for the run."""
        self.requests.append(request)
        self.wake()

    def wake(self) -> None:
        """Ends the wait that the run is in, or else its next one."""
        with contextlib.suppress(BlockingIOError):  # full: it will wake up in any case
            os.write(self._sender, b"\0")

    def clear(self) -> None:
        """Takes the calls that were heard."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.receiver, _READ_SIZE)

    def refuse_all(self, why: str) -> None:
        """Ends all requests with an error."""
        while self.requests:
            self.requests.popleft().finish(SourceError(why))

    def close(self) -> None:
        """Closes the pipe."""
        os.close(self.receiver)
        os.close(self._sender)
