"""`Agent`: the process on a device that answers calls, seen from here (see `agent.serve`)."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, Protocol

from edgelstm.errors import DeploymentError
from edgelstm_devices import sending
from edgelstm_devices.ssh import CONNECTION_FAILED, why

OnEvent = Callable[[Mapping[str, Any]], None]
_CHUNK = 1 << 16
_HEARTBEAT_S = 2.0
_NOT_FOUND = 127


def ignore(event: Mapping[str, Any]) -> None:
    """Hears an event and does nothing."""
    del event


class ConnectionLostError(DeploymentError):
    """The connection to a device ended in the middle."""


class Starter(Protocol):
    """What starts programs on the device."""

    host: str

    def start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """With pipes."""
        ...

    def run(self, argv: Sequence[str], stdin: BinaryIO | None = None) -> int:
        """With this program's input, or another one, and its output."""
        ...


class Agent:
    """An agent's process, seen from here.

    Args:
        starter: starts it.
        prefix: what stands before it, such as ["sudo", "-n", "--"].
        python: of the device.
        password: the line that comes first, for sudo.

    Raises:
        DeploymentError: it does not start.
    """

    def __init__(
        self, starter: Starter, prefix: Sequence[str], python: str, password: str | None
    ) -> None:
        self._host = starter.host
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._complaints: deque[str] = deque(maxlen=50)
        self._lock = threading.Lock()
        self._calls = self._answered = 0
        self._torn = False
        self._closed = threading.Event()
        self._process = starter.start([*prefix, *sending.command(python)])
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        if not (stdin and stdout and stderr):
            raise AssertionError("they are pipes")
        self._stdin: Any = stdin
        self._threads = [
            threading.Thread(target=run, args=arguments, daemon=True)
            for run, arguments in (
                (self._complain, (stderr,)),
                (self._read, (stdout,)),
                (self._beat, ()),
            )
        ]
        self._threads[0].start()
        try:
            if password is not None:
                self._write(password.encode() + b"\n")
            self._greet(stdout, privileged=bool(prefix))
            self._write(sending.payload())
        except BaseException:
            self.close()
            raise
        for thread in self._threads[1:]:
            thread.start()

    def call(
        self, name: str, arguments: Mapping[str, Any], on_event: OnEvent, body: BinaryIO | None
    ) -> Any:
        """Makes a call and waits for its answer."""
        self._calls += 1
        number = self._calls
        self._send({"id": number, "call": name, "arguments": arguments, "body": body is not None})
        if body is not None:
            self._send_body(body, number)
        interrupted = False
        while True:
            try:
                answer = self._answers.get()
                if answer is None:
                    self._answers.put(None)  # for the next call, too
                    raise self._lost()
                if answer.get("id") != number:
                    continue
                if "event" not in answer:
                    break
                on_event(answer["event"])
            except KeyboardInterrupt:
                # The device goes back by itself, and says so.
                interrupted = True
                self._send({"cancel": True})
        if "error" in answer:
            raise DeploymentError(answer["error"])
        if interrupted and not answer["heeded"]:
            raise KeyboardInterrupt
        return answer["result"]

    def _send_body(self, body: BinaryIO, number: int) -> None:
        """Sends the bytes of a call, or as many as it wants to have."""
        try:
            while self._answered < number and (chunk := body.read(_CHUNK)):
                self._send({"chunk": len(chunk)}, chunk)
        except BaseException:
            # The device waits for the rest, and would take whatever comes next for it.
            self.close()
            raise
        self._send({"chunk": 0})

    def close(self) -> None:
        """Ends it; a call that is running there is finished there."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(1)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()

    def _greet(self, stdout: Any, *, privileged: bool) -> None:
        said = ""
        for line in iter(stdout.readline, b""):
            # A shell that greeted before need not have ended its line.
            _, hello, version = line.partition(sending.HELLO)
            if hello:
                self._check_version(version.decode().strip())
                return
            said = line.decode(errors="replace").strip() or said
        code = self._process.wait()
        self._threads[0].join(1)
        if code == _NOT_FOUND:
            raise DeploymentError(
                f"{self._host} has no python3; log in there and run: sudo apt-get install python3"
            )
        if code == CONNECTION_FAILED:
            raise DeploymentError(why(self._host, "\n".join(self._complaints)))
        last = self._complaints[-1] if self._complaints else said or f"exit code {code}"
        if privileged:
            raise DeploymentError(
                f"{self._host} does not let you become root ({last.rstrip('.')}); use a user who "
                "may use sudo, or install for one user only with --user."
            )
        raise DeploymentError(
            f"python3 does not start on {self._host} ({last.rstrip('.')}); log in there and see "
            "why."
        )

    def _check_version(self, version: str) -> None:
        if tuple(map(int, version.split("."))) < sending.OLDEST:
            raise DeploymentError(
                f"{self._host} has Python {version}, and edgelstm needs 3.11; install a newer "
                "system there (Raspberry Pi OS of 2023, Debian 12)."
            )

    def _send(self, message: Mapping[str, Any], raw: bytes = b"") -> None:
        self._write(json.dumps(message).encode() + b"\n" + raw)

    def _write(self, content: bytes) -> None:
        with self._lock:
            if self._torn:
                raise self._lost()
            # Until all of it is written, for Ctrl-C may come in between: a sign of life after half
            # of a chunk would be taken for its other half.
            self._torn = True
            try:
                self._stdin.write(content)
                self._stdin.flush()
            except (OSError, ValueError):
                raise self._lost() from None
            self._torn = False

    def _lost(self) -> ConnectionLostError:
        said = f" ({self._complaints[-1].rstrip('.')})" if self._complaints else ""
        return ConnectionLostError(f"The connection to {self._host} ended in the middle{said}.")

    def _read(self, stdout: Any) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in iter(stdout.readline, b""):
                answer = json.loads(line)
                if "event" not in answer:
                    self._answered = answer["id"]
                self._answers.put(answer)
        self._answers.put(None)

    def _complain(self, stderr: Any) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in iter(stderr.readline, b""):
                if text := line.decode(errors="replace").strip():
                    self._complaints.append(text)

    def _beat(self) -> None:
        with contextlib.suppress(ConnectionLostError):
            while not self._closed.wait(_HEARTBEAT_S):
                self._send({"alive": True})
