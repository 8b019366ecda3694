"""The parent's hold on a child process that runs a delegate, see `edgelstm.backends.child`."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import IO, cast

from edgelstm.backends.child import (
    ANSWER,
    BEAT,
    FAILED,
    HEADER,
    READY,
    TEXT_LIMIT,
    Block,
    receive,
    text_message,
)

_LAST_WORDS = 4096  # bytes of its standard error that are kept
_PATIENCE = 1.0  # seconds for a process that was told to end, or was killed


_undead: list[subprocess.Popen[bytes]] = []
# Processes that the kernel cannot kill yet, because they wait for a device.


def bury() -> None:
    """Takes leave of processes that were not to be killed before."""
    _undead[:] = [process for process in _undead if process.poll() is None]


class ChildError(Exception):
    """A child process failed. The message is what to say after "The delegate ..."."""


class ChildProcess:
    """A process with a delegate in it.

    One thread alone may `listen`, `wait`, `hear` and `close`; any thread may do the rest, one at a
    time.

    Args:
        load: the message LOAD.
        timeout: seconds that an answer may take.
        load_timeout: seconds that starting and loading may take.
        interrupt: a descriptor; when there is something to read, starting is given up.

    Attributes:
        operations: how many operations the graph has; None where the runtime does not tell.
        delegated: how many of them the delegate took; None likewise.

    Raises:
        ChildError: it did not start.
    """

    def __init__(
        self, load: bytes, timeout: float, load_timeout: float, interrupt: int | None = None
    ) -> None:
        self._timeout = timeout
        self._said, self._deaf = b"", False
        try:
            self._socket, theirs = socket.socketpair()
        except OSError as error:
            raise ChildError(f"has no process to run in ({error})") from error
        self._socket.settimeout(timeout)
        # `-P`: as the parent, it takes modules from the parent's path and from nowhere else.
        arguments = [sys.executable, "-P", "-m", "edgelstm.backends.child", str(theirs.fileno())]
        path = os.pathsep.join(entry or str(os.getcwd()) for entry in sys.path)  # noqa: PTH109
        try:
            with theirs:
                self._process = subprocess.Popen(
                    arguments,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, "PYTHONPATH": path},
                    # A session of its own: Ctrl-C in a terminal is for the parent.
                    start_new_session=True,
                )
        except OSError as error:
            self._socket.close()
            raise ChildError(f"has no process to run in ({error})") from error
        self._errors = cast(IO[bytes], self._process.stderr)
        self._lifeline = cast(IO[bytes], self._process.stdin)
        os.set_blocking(self._errors.fileno(), False)
        try:
            self._start(load, load_timeout, interrupt)
        except BaseException:
            self.close()
            raise

    def _start(self, load: bytes, load_timeout: float, interrupt: int | None) -> None:
        end = time.monotonic() + load_timeout
        hello, ready = bytearray(HEADER.size), bytearray(HEADER.size + TEXT_LIMIT)
        for message, into in ((b"", hello), (load, ready)):
            self._send(message)
            if not self.wait(end - time.monotonic(), interrupt):
                raise ChildError(f"was not loaded within {load_timeout:g} s")
            self._receive(memoryview(into), READY, None)
        counts: Mapping[str, int | None] = json.loads(ready[HEADER.size :].rstrip(b"\0"))
        self.operations, self.delegated = counts["operations"], counts["delegated"]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def step(self, request: Block, answer: Block) -> None:
        """Runs a step.

        Args:
            request: inputs and states.
            answer: where outputs and next states go.

        Raises:
            ChildError: it failed, or did not answer in time.
        """
        self._send(request.message)
        self._receive(answer.message_space, ANSWER, answer.size)

    def first_step(
        self, request: Block, answer: Block, timeout: float, interrupt: int | None
    ) -> None:
        """Runs a step that may take longer, as the first on a device does.

        Args:
            request: as for `step`.
            answer: as for `step`.
            timeout: seconds.
            interrupt: a descriptor; it is given up when there is something to read.

        Raises:
            ChildError: as for `step`.
        """
        self._send(request.message)
        if not self.wait(timeout, interrupt):
            raise ChildError(f"did not answer its first step within {timeout:g} s")
        self._receive(answer.message_space, ANSWER, answer.size)

    def send_beat(self) -> None:
        """Asks it to run its last step again, for `receive_beat`.

        Raises:
            ChildError: it is gone.
        """
        self._send(text_message(BEAT, ""))

    def receive_beat(self) -> None:
        """Takes the answer to `send_beat`.

        Raises:
            ChildError: it failed, or did not answer in time.
        """
        self._receive(memoryview(bytearray(HEADER.size + TEXT_LIMIT)), ANSWER, 0)

    def wait(self, seconds: float, interrupt: int | None = None) -> bool:
        """Waits until it answers; what it writes to its standard error is kept meanwhile.

        Args:
            seconds: at most.
            interrupt: a descriptor; the wait ends when there is something to read.

        Returns:
            Whether it did, or is gone.
        """
        return self._wait(seconds, self._socket.fileno(), interrupt) == self._socket.fileno()

    def listen(self, seconds: float, interrupt: int) -> None:
        """Keeps what it writes to its standard error.

        Args:
            seconds: at most; it ends sooner when that is closed, as it is at its end.
            interrupt: as for `wait`.
        """
        self._wait(seconds, interrupt)

    def _wait(self, seconds: float, *wanted: int | None) -> int | None:
        """Waits for one of some descriptors, or the end of standard error; None when time is up."""
        end = time.monotonic() + seconds
        poll = select.poll()
        for descriptor in wanted:
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        if not self._deaf:
            poll.register(self._errors, select.POLLIN)
        while (left := end - time.monotonic()) > 0:
            ready = [descriptor for descriptor, _ in poll.poll(left * 1000)]
            if self._errors.fileno() in ready:
                self.hear()
                if self._deaf:
                    poll.unregister(self._errors)
                    if self._socket.fileno() not in wanted:
                        return None
            for descriptor in wanted:
                if descriptor in ready:
                    return descriptor
        return None

    def hear(self) -> None:
        """Takes what it has written to its standard error."""
        try:
            data = os.read(self._errors.fileno(), 1 << 16)  # not all, which may never end
        except BlockingIOError:
            return
        self._said = (self._said + data)[-_LAST_WORDS:]
        self._deaf = not data

    def close(self, *, gently: bool = False) -> None:
        """Kills it, and what it started.

        Args:
            gently: it runs: let it end by itself, so that its library lets go of the device.
        """
        self._socket.close()
        if gently:
            self._reaped(_PATIENCE)
        self._kill()
        self._errors.close()
        self._lifeline.close()
        if not self._reaped(_PATIENCE):
            _undead.append(self._process)

    def _kill(self) -> None:
        """Kills it and what it started; does not wait for its end."""
        # Its id names a group until it is reaped, and only `_reaped` reaps.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _reaped(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _send(self, message: bytes | memoryview) -> None:
        try:
            self._socket.sendall(message)
        except OSError as error:
            raise self._failure(error) from None

    def _receive(self, into: memoryview, kind: int, size: int | None) -> None:
        """Receives a message of a kind, and of a size where one is named."""
        try:
            got, length = receive(self._socket, into)
        except (EOFError, OSError, ValueError) as error:
            raise self._failure(error) from None
        if got == FAILED:
            text = bytes(into[HEADER.size : HEADER.size + length]).decode(errors="replace")
            raise ChildError(f"failed: {text}")
        if got != kind or size not in (None, length):
            raise ChildError(f"gave no sensible answer (a message of kind {got})")

    def _failure(self, error: Exception) -> ChildError:
        """What an error at the socket means."""
        if isinstance(error, TimeoutError):
            return ChildError(f"did not answer within {self._timeout:g} s")
        if isinstance(error, ValueError):
            return ChildError(f"gave no sensible answer ({error})")
        return ChildError(self._how_it_ended())

    def _how_it_ended(self) -> str:
        if not self._reaped(_PATIENCE):
            self._kill()  # it has closed its socket, and lives on
            return "ended without an answer"
        self.hear()
        code = self._process.returncode
        how = f"ended without an answer (exit code {code})"
        if code < 0:
            names = {number.value: number.name for number in signal.Signals}
            how = f"crashed ({names.get(-code, f'signal {-code}')})"
        lines = self._said.decode(errors="replace").splitlines()
        words = [line.strip() for line in lines if line.strip() and not line.startswith("INFO:")]
        return f"{how}: {words[-1]}" if words else how
