"""Files as they come from the laptop, known by the sha256 of their content.

A file comes as `<sha256>.part` and gets its name once its content is what it should be. What has
come stays, so that a connection that breaks costs only what was under way.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .context import AgentError, Context
from .files import FILE, free_bytes, full, in_words, is_full, make_folder, sync
from .layout import Layout

RESERVE = 8_000_000
"""Bytes that are never taken from a disk: the release that runs keeps its alerts there."""

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_BLOCK = 1 << 18


def missing(
    context: Context,  # noqa: ARG001  # as every call
    *,
    layout: Layout,
    files: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Which files have to be sent.

    Args:
        context: of the caller.
        layout: of the installation, of which nothing need be there.
        files: `sha256` and `size` in bytes of each that is needed.

    Returns:
        Those that are not there, each with its `sha256`, its `size` and `have`, the bytes of it
        that came before.

    Raises:
        AgentError: the disk has no room for them.
    """
    answer = []
    for file in files:
        path = stored(layout, file["sha256"])
        if _size(path) != file["size"]:
            have = min(max(_size(_part(path)), 0), int(file["size"]))
            answer.append({"sha256": file["sha256"], "size": file["size"], "have": have})
    needed = sum(file["size"] - file["have"] for file in answer)
    if answer and needed + RESERVE > free_bytes(layout.store):
        raise full(layout.store)
    return answer


def receive(
    context: Context, *, layout: Layout, sha256: str, size: int, offset: int
) -> dict[str, Any]:
    """Takes a file, or the rest of one, from the bytes that follow the call.

    Two that send the same file at once do no harm: they write the same bytes to the same places,
    and what is wrong in the end gets no name.

    Args:
        context: of the caller; its body is the file from `offset` on.
        layout: of the installation.
        sha256: of the whole file.
        size: of the whole file in bytes.
        offset: where the body begins, at most the `have` of `missing`.

    Raises:
        AgentError: the connection ended, and what came stays; it is another file than it should be,
            or the disk is full, and nothing of it stays.
    """
    path = stored(layout, sha256)
    part = _part(path)
    with in_words(layout.store):
        make_folder(layout.store)
        if _size(path) == size:
            return {}
        if not 0 <= offset <= max(_size(part), 0):
            raise AgentError(
                f"The device has {max(_size(part), 0)} bytes of a file that was to go on at "
                f"{offset}; deploy again."
            )
        if size - offset + RESERVE > free_bytes(layout.store):
            raise full(layout.store)
        try:
            _take(context, part, sha256, size, offset)
        except OSError as error:
            if is_full(error):  # who runs there needs the room
                part.unlink(missing_ok=True)
            raise
        try:
            part.replace(path)
        except FileNotFoundError:  # another call has given it its name
            if _size(path) != size:
                raise
        sync(layout.store)
    return {}


def _take(context: Context, part: Path, sha256: str, size: int, offset: int) -> None:
    """Writes the body to its place, and looks whether the whole is what it should be."""
    body = context.body()
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE)
    with os.fdopen(descriptor, "r+b") as file:
        os.fchmod(file.fileno(), FILE)
        digest = hashlib.sha256()
        position = 0
        while position < offset:
            block = file.read(min(_BLOCK, offset - position))
            if not block:
                raise AgentError("What the device had of a file is gone; deploy again.")
            digest.update(block)
            position += len(block)
        while position < size:
            block = body.read(min(_BLOCK, size - position))
            if not block:
                file.flush()
                raise AgentError(
                    f"The connection ended after {position:,} of {size:,} bytes of a file; deploy "
                    "again, and it goes on from there."
                )
            file.write(block)
            digest.update(block)
            position += len(block)
        file.truncate(size)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != sha256:
        part.unlink(missing_ok=True)
        raise AgentError(
            "A file did not arrive at the device as it was sent, or lay there damaged; deploy "
            "again, and it is sent anew."
        )


def stored(layout: Layout, sha256: str) -> Path:
    """Where a file of the store is, or would be.

    Raises:
        AgentError: that is no sha256.
    """
    if not _DIGEST.match(sha256):
        raise AgentError(f"{sha256!r} is no sha256 of a file.")
    return layout.store / sha256


def intact(layout: Layout, sha256: str) -> Path:
    """A file of the store whose content was looked at just now; a damaged one is removed.

    Raises:
        AgentError: it is not there, or was damaged.
        OSError: it cannot be read.
    """
    path = stored(layout, sha256)
    if not path.is_file():
        raise AgentError(f"The device lacks the file {sha256[:12]}..., deploy again to send it.")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(_BLOCK), b""):
            digest.update(block)
    if digest.hexdigest() != sha256:
        path.unlink()
        raise AgentError(
            f"The file {path} of the device was damaged and is removed now; deploy again, and it "
            "is sent anew (a memory card may be wearing out)."
        )
    return path


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _size(path: Path) -> int:
    """In bytes; -1 where there is no such file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
