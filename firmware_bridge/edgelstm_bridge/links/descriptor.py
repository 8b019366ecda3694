"""`DescriptorLink`: a link over an open file descriptor (a terminal, a socket, a pipe)."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable

from edgelstm_bridge.links.link import Chunk, Link, LinkEnded, LinkLost, arrived, is_closed

_READ_SIZE = 8_192
# One read for each frame of a fast stream would cost more than decoding it: after a read, bytes
# may gather for so long. A reading that comes alone waits for nothing.
_GATHER_S = 0.0015
# So much at once means that we are behind: the next read does not wait.
_BEHIND_SIZE = 2_048
_WRITE_TIMEOUT_S = 1.0


class DescriptorLink(Link):
    """Reads and writes a file descriptor that `select.poll` can wait for.

    Attributes:
        is_stuck: whether the other side did not take what was written last.

    Args:
        descriptor: where the bytes come from; non-blocking, if it is written to.
        description: what messages call it.
        close: closes the descriptor; called once, when nobody uses it any more.
        can_write: whether `descriptor` is written to as well.
        can_wait: as in `Link`.
        has_end: whether the end of the bytes is an end, or the loss of the other side.
        advice: what to ask when it is lost, the end of a sentence.
    """

    def __init__(
        self,
        descriptor: int,
        description: str,
        *,
        close: Callable[[], None],
        can_write: bool = False,
        can_wait: bool = False,
        has_end: bool = False,
        advice: str = "was the device unplugged?",
    ) -> None:
        self.description = description
        self.can_write = can_write
        self.can_wait = can_wait
        self._descriptor = descriptor
        self._close = close
        self._has_end = has_end
        self._advice = advice
        self._gathered_at = 0.0
        self._closing = False
        self.is_stuck = False
        # Whoever holds one of these uses the descriptor, so its number cannot become another's.
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._ending = threading.Lock()
        self._awake, self._wake = os.pipe()
        self._readable = select.poll()
        self._readable.register(descriptor, select.POLLIN)
        self._readable.register(self._awake, select.POLLIN)

    def read(self, timeout: float) -> Chunk | None:
        """Waits for bytes and returns all that are there; see `Link.read`."""
        with self._reading:
            wait = self._gathered_at - time.monotonic()
            if 0 < wait <= timeout:
                time.sleep(wait)
                timeout -= wait
            events = [] if self._closing else self._readable.poll(timeout * 1000)
            if self._closing:
                raise is_closed(self.description)
            if not events:
                return None
            try:
                data = os.read(self._descriptor, _READ_SIZE)
            except BlockingIOError:
                return None
            except OSError as error:
                raise self._lost(error) from error
            if not data:
                raise self._at_end()
            chunk = arrived(data)
            self._gathered_at = chunk.arrived_at + (_GATHER_S if len(data) < _BEHIND_SIZE else 0)
            return chunk

    def write(self, data: bytes) -> None:
        """Sends bytes; see `Link.write`."""
        if not self.can_write:
            return
        with self._writing:
            # A device that took nothing for a whole second is not waited for again.
            deadline = time.monotonic() + (0 if self.is_stuck else _WRITE_TIMEOUT_S)
            rest = memoryview(data)
            while rest:
                if self._closing:
                    raise is_closed(self.description)
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                    self.is_stuck = False
                except BlockingIOError:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        self.is_stuck = True
                        return
                    self._wait_to_write(left)
                except OSError as error:
                    raise self._lost(error) from error

    def close(self) -> None:
        """Closes the descriptor, once nobody uses it any more."""
        with self._ending:
            if self._closing:
                return
            self._closing = True
        os.write(self._wake, b"\0")
        with self._reading, self._writing:
            os.close(self._wake)
            os.close(self._awake)
            with contextlib.suppress(OSError):
                self._close()

    def _wait_to_write(self, timeout: float) -> None:
        writable = select.poll()
        writable.register(self._descriptor, select.POLLOUT)
        writable.register(self._awake, select.POLLIN)
        writable.poll(timeout * 1000)

    def _at_end(self) -> LinkLost | LinkEnded:
        if self._has_end:
            return LinkEnded(f"{self.description} has come to its end.")
        return LinkLost(f"Lost {self.description}: {self._advice}")

    def _lost(self, error: OSError) -> LinkLost:
        reason = error.strerror or error
        return LinkLost(f"Lost {self.description} ({reason}): {self._advice}")
