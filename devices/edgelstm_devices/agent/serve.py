"""Answers the calls of a laptop that come over standard input, until it ends.

Lines of JSON: to the device `{"id": 1, "call": "facts", "arguments": {}}`, a sign of life
`{"alive": true}` every two seconds, `{"cancel": true}`, and after a call with a body any number of
`{"chunk": N}` with N bytes behind each, of which the last has none. Back come `{"id": 1, "event":
{}}` while a call runs and `{"id": 1, "result": {}, "heeded": false}` or `{"id": 1, "error": "one
sentence"}` at its end; `heeded` is whether the call saw that it was to be given up.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import queue
import sys
import threading
import time
import traceback
from typing import Any, BinaryIO, cast

from .context import AgentError, Context
from .layout import Layout

SILENCE_S = 20.0
CALLS = {
    "facts": "facts",
    "prepare": "preparing",
    "missing": "store",
    "receive": "store",
    "install_runtime": "runtimes",
    "stage": "releases",
    "prove": "proving",
    "trial": "trial",
    "rollback": "trial",
    "settle": "trial",
    "prune": "releases",
    "releases": "releases",
    "uninstall": "uninstalling",
    "services": "status",
    "status": "status",
    "trust": "trust",
    "untrust": "trust",
    "trusted_keys": "trust",
}
"""The module that has each call, a function of the same name."""


def perform(context: Context, name: str, arguments: dict[str, Any]) -> Any:
    """Makes a call.

    Args:
        context: of the caller.
        name: of the call, one of `CALLS`.
        arguments: plain data; `layout` is what `Layout.to_dict` gives.

    Raises:
        AgentError: it could not be done; the message is for people.
    """
    if name not in CALLS:
        raise AgentError(f"The device was asked for {name!r}, which it cannot do.")
    module = importlib.import_module("." + CALLS[name], __package__)
    if "layout" in arguments:
        arguments = {**arguments, "layout": Layout(**arguments["layout"])}
    return getattr(module, name)(context, **arguments)


class _Wire:
    """What comes and goes; a thread reads, so that a sign of life is seen during a call."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._lock = threading.Lock()
        self.calls: queue.Queue[dict[str, Any] | None] = queue.Queue()
        # Bounded: a body is as large as it is, and the disk may be slow.
        self.chunks: queue.Queue[bytes] = queue.Queue(8)
        self.ended = self.cancelled = False
        self.heard = time.monotonic()

    def read(self) -> None:
        """Reads until the end of input."""
        try:
            for line in iter(self._incoming.readline, b""):
                self._take(json.loads(line))
                self.heard = time.monotonic()
        except (OSError, ValueError):
            pass
        self.ended = True
        self.chunks_end()
        self.calls.put(None)

    def _take(self, message: dict[str, Any]) -> None:
        if "chunk" in message:
            content = self._incoming.read(message["chunk"])
            if len(content) < message["chunk"]:
                raise ValueError("cut off")
            if content:
                self.chunks.put(content)
            else:
                self.chunks_end()
        elif "call" in message:
            self.cancelled = False
            self.calls.put(message)
        elif "cancel" in message:
            self.cancelled = True

    def chunks_end(self) -> None:
        self.chunks.put(b"")

    def send(self, **message: Any) -> None:
        """Sends a line; nobody may be there to read it."""
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            try:
                self._outgoing.write(line)
                self._outgoing.flush()
            except (OSError, ValueError):
                self.ended = True


class _Body(io.RawIOBase):
    """The chunks after a call as one stream."""

    def __init__(self, chunks: queue.Queue[bytes]) -> None:
        self._chunks, self._rest, self.finished = chunks, b"", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest and not self.finished:
            self._rest = self._chunks.get()
            self.finished = not self._rest
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


class _Caller(Context):
    """The laptop."""

    def __init__(self, wire: _Wire, message: dict[str, Any]) -> None:
        self._wire, self._id = wire, message["id"]
        self._body = _Body(wire.chunks) if message.get("body") else None
        self.heeded = False

    def event(self, **fields: Any) -> None:
        self._wire.send(id=self._id, event=fields)

    def alive(self) -> bool:
        silent = time.monotonic() - self._wire.heard > SILENCE_S
        cancelled = self._wire.cancelled
        self.heeded |= cancelled
        return not (self._wire.ended or cancelled or silent)

    def body(self) -> BinaryIO:
        return cast("BinaryIO", self._body) if self._body else super().body()

    def finish(self) -> None:
        """Leaves nothing of the body to be taken for the next one's."""
        while self._body and not self._body.finished:
            self._body.read(1 << 16)


def serve(incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """Answers calls until the input ends, and finishes the one that is running then."""
    wire = _Wire(incoming, outgoing)
    threading.Thread(target=wire.read, name="wire", daemon=True).start()
    for message in iter(wire.calls.get, None):
        caller = _Caller(wire, message)
        try:
            result = perform(caller, message["call"], message["arguments"])
            answer = {"result": result, "heeded": caller.heeded}
        except AgentError as error:
            answer = {"error": str(error)}
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            answer = {"error": f"On the device: {where}{error.strerror or error}."}
        except Exception as error:  # whatever it is, the laptop has to hear of it
            answer = {"error": _fault(message["call"], error)}
        # First the answer, which ends a body that nobody wants any more.
        wire.send(id=message["id"], **answer)
        caller.finish()


def _fault(name: str, error: Exception) -> str:
    """What is said of an error that should not have been, with where it was."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    where = f"{frame.f_globals['__name__']}, line {line}"
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"The device could not do {name!r} for a fault of edgelstm, which please report: {what} "
        f"({where})."
    )


def main() -> None:
    """Serves standard input and output, which nothing else may write to."""
    outgoing = os.fdopen(os.dup(1), "wb")
    # What a call prints, or a program that it starts, would be taken for an answer.
    os.dup2(2, 1)
    serve(sys.stdin.buffer, outgoing)
