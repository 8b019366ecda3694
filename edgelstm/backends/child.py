"""The process that has a delegate in it: `python -m edgelstm.backends.child SOCKET`.

A delegate's library may hang, crash or print; here it does so without harm. The process loads one
graph and then runs steps, each a pure function: inputs and states come in, outputs and the next
states go back, and nothing is remembered that the parent does not have.

Messages are a header (kind, bytes that follow) and a body:

    LOAD    what to load: the length of a JSON text, the text, the flatbuffer
    STEP    the inputs and the states, one after the other as raw bytes
    BEAT    nothing: run the last step again
    READY   at the start nothing; to LOAD as JSON: how many operations the graph has, and how many
            of them the delegate took
    ANSWER  the outputs and the next states, as above; to BEAT nothing
    FAILED  a text

SOCKET is the number of a descriptor of its own, so that what libraries print is not read as an
answer. When the parent ends in whatever way, so does this process: the socket ends, and should that
be of no use because a library hangs, so does the pipe that is standard input.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.backends import open_graph
from edgelstm.backends.graph import Delegate, Graph, Wiring
from edgelstm.errors import BackendError
from edgelstm.manifest import TensorSpec
from edgelstm.strict import build

LOAD, STEP, BEAT, READY, ANSWER, FAILED = range(6)
HEADER = struct.Struct("<II")
TEXT_LIMIT = 1000
"""Bytes that a READY or FAILED may have; an answer's buffer always holds them."""
_LENGTH = struct.Struct("<I")


class Block:
    """A message of tensors that is sent or received again and again.

    Attributes:
        size: bytes of the tensors.
        groups: arrays of the tensors, in the groups that were given.
        parts: the bytes of each group.
        message: header and tensors.
        message_space: where a message is received: as long, or as long as a text may be.
    """

    def __init__(self, kind: int, *groups: Sequence[TensorSpec], batch: int) -> None:
        shapes = [[(s.dtype, (batch, *s.shape[1:])) for s in specs] for specs in groups]
        counts = [[int(np.prod(shape)) for _, shape in group] for group in shapes]
        sizes = [
            [np.dtype(dtype).itemsize * n for (dtype, _), n in zip(group, ns, strict=True)]
            for group, ns in zip(shapes, counts, strict=True)
        ]
        self.size = sum(map(sum, sizes))
        memory = bytearray(HEADER.size + max(self.size, TEXT_LIMIT))
        HEADER.pack_into(memory, 0, kind, self.size)
        self.groups: list[list[NDArray[Any]]] = []
        self.parts: list[memoryview] = []
        offset = HEADER.size
        for group, ns, lengths in zip(shapes, counts, sizes, strict=True):
            arrays, start = [], offset
            for (dtype, shape), count, length in zip(group, ns, lengths, strict=True):
                array = np.frombuffer(memory, dtype, count, offset).reshape(shape)
                arrays.append(array)
                offset += length
            self.groups.append(arrays)
            self.parts.append(memoryview(memory)[start:offset])

        self.message = memoryview(memory)[: HEADER.size + self.size]
        self.message_space = memoryview(memory)


def blocks(wiring: Wiring, batch: int) -> tuple[Block, Block]:
    """A STEP of (inputs, states) and its ANSWER of (outputs, next states)."""
    into, out = [pair.input for pair in wiring.states], [pair.output for pair in wiring.states]
    return (
        Block(STEP, wiring.inputs, into, batch=batch),
        Block(ANSWER, wiring.outputs, out, batch=batch),
    )


def receive(connection: socket.socket, into: memoryview) -> tuple[int, int]:
    """Reads one message, header included, into a buffer.

    Returns:
        Its kind, and how many bytes follow the header.

    Raises:
        EOFError: the other side is gone.
        OSError: as sockets do; TimeoutError among them.
        ValueError: what came is no message, or does not fit.
    """
    got, wanted, kind, length = 0, HEADER.size, 0, 0
    while got < wanted:
        count = connection.recv_into(into[got:])
        if not count:
            raise EOFError
        got += count
        if wanted == HEADER.size and got >= wanted:
            kind, length = HEADER.unpack_from(into)
            wanted += length
            if wanted > len(into):
                raise ValueError(f"a message of {length} bytes")
    if got != wanted:
        raise ValueError("more than one message")
    return kind, length


def load_message(
    flatbuffer: bytes, wiring: Wiring, delegate: Delegate, backend: str, threads: int, batch: int
) -> bytes:
    """The LOAD that asks for a graph."""
    options = {"library": delegate.library, "options": dict(delegate.options)}
    text = json.dumps(
        {
            "wiring": dataclasses.asdict(wiring),
            "delegate": options,
            "backend": backend,
            "threads": threads,
            "batch": batch,
        }
    ).encode()
    size = _LENGTH.size + len(text) + len(flatbuffer)
    return HEADER.pack(LOAD, size) + _LENGTH.pack(len(text)) + text + flatbuffer


def text_message(kind: int, text: str) -> bytes:
    """A READY or FAILED."""
    data = text.encode(errors="replace")[:TEXT_LIMIT]
    return HEADER.pack(kind, len(data)) + data


def main() -> None:
    """Loads what the first message says, and runs steps until the parent is gone."""
    # The parent decides when this process ends, also at Ctrl-C and when a service is stopped.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _end_with_the_parent()
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        try:
            _serve(connection)
        except (EOFError, OSError):
            return  # the parent is gone


def _end_with_the_parent() -> None:
    """Lets the kernel end this process when the pipe at standard input does.

    A thread that reads it would need the interpreter's lock, which a library that hangs while it
    is loaded keeps. PR_SET_PDEATHSIG would end this process with the thread that started it.
    """
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([0], [], [], 0)[0]:
        raise SystemExit  # it ended before that


def _serve(connection: socket.socket) -> None:
    connection.sendall(text_message(READY, ""))
    header = _exactly(connection, HEADER.size)
    kind, length = HEADER.unpack(header)
    if kind != LOAD:
        raise SystemExit(f"The first message is of kind {kind}.")
    body = _exactly(connection, length)
    (size,) = _LENGTH.unpack_from(body)
    start = _LENGTH.size + size
    wanted = json.loads(body[_LENGTH.size : start])
    wiring = build(Wiring, wanted["wiring"], "wiring", BackendError)
    batch = wanted["batch"]
    try:
        graph, ready = _load(bytes(body[start:]), wiring, wanted)
    except Exception as error:  # whatever it is, the parent is to know
        connection.sendall(text_message(FAILED, _reason(error)))
        return
    connection.sendall(text_message(READY, json.dumps(ready)))
    request, answer = blocks(wiring, batch)
    into = request.message_space
    beat = HEADER.pack(ANSWER, 0)
    inputs, states = request.groups
    outputs, following = answer.groups
    while True:
        kind, length = receive(connection, into)
        if (kind, length) not in ((STEP, request.size), (BEAT, 0)):
            raise SystemExit(f"A message of kind {kind} has {length} bytes.")
        try:
            graph.states = states
            for value, result in zip(outputs, graph.run(inputs), strict=True):
                value[...] = result
            for value, result in zip(following, graph.states, strict=True):
                value[...] = result
        except Exception as error:
            connection.sendall(text_message(FAILED, _reason(error)))
            continue
        connection.sendall(answer.message if kind == STEP else beat)


def _load(flatbuffer: bytes, wiring: Wiring, wanted: dict[str, Any]) -> tuple[Graph, Any]:
    backend: str = wanted["backend"]
    graph = open_graph(
        flatbuffer,
        wiring,
        backend,
        wanted["threads"],
        batch=wanted["batch"],
        delegate=Delegate(**wanted["delegate"]),
    )
    nodes = getattr(graph, "nodes", ())
    operations, delegated = count_operations(nodes) if nodes else (None, None)
    return graph, {"operations": operations, "delegated": delegated}


def count_operations(nodes: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """How many operations a graph has, and how many of them a delegate took.

    Args:
        nodes: of each node "op_name" and the tensors' numbers in "inputs" and "outputs". A runtime
            keeps the operations that a delegate took, and adds a node DELEGATE for each group.
    """
    makers = {
        int(tensor): i
        for i, node in enumerate(nodes)
        if node["op_name"] != "DELEGATE"
        for tensor in node["outputs"]
    }
    taken: set[int] = set()
    for node in nodes:
        if node["op_name"] == "DELEGATE":
            seen = set(map(int, node["inputs"]))
            left = list(map(int, node["outputs"]))
            while left:
                tensor = left.pop()
                if tensor in seen or tensor not in makers:
                    continue
                seen.add(tensor)
                taken.add(makers[tensor])
                left += map(int, nodes[makers[tensor]]["inputs"])
    return sum(node["op_name"] != "DELEGATE" for node in nodes), len(taken)


def _exactly(connection: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return data


def _reason(error: Exception) -> str:
    """What went wrong at first, in one line."""
    said = str(error.__cause__ or error)
    return " ".join(said.split()) or type(error).__name__


if __name__ == "__main__":
    main()
