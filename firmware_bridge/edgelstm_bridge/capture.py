"""Raw captures: every byte that came over a link, with its time, to replay a problem exactly.

A capture file is a header and then records, each written in one piece; all integers and floats
are little endian:

    header = magic (8 bytes) + u32 length + JSON (UTF-8)
    record = u8 kind + f64 monotonic + f64 wall_offset + u32 length + data + u32 CRC-32

The CRC is over the rest of the record. A file that was cut anywhere reads up to its last whole
record.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import edgelstm
from edgelstm.errors import RecordingError, SourceError
from edgelstm_bridge.links.link import Chunk, Link, LinkEnded, LinkLost, Opener

MAGIC = b"EDGECAP\x01"
"""The last byte is the version of the format."""

_LENGTH = struct.Struct("<I")
_RECORD = struct.Struct("<BddI")
_CRC = struct.Struct("<I")
# A longer length in a file is a damaged one, and must not be believed.
_MAX_HEADER = 65_536
MAX_DATA_SIZE = 1024 * 1024
_FLUSH_INTERVAL_S = 1.0


class Kind(IntEnum):
    """What a record is about."""

    RECEIVED = 1  # data: the bytes
    SENT = 2  # data: the bytes
    CONNECTED = 3  # data: the link's description
    DISCONNECTED = 4  # data: the reason; the other side went away
    ENDED = 5  # data: the reason; the stream came to its end
    CLOSED = 6  # no data; this side closed the link


_KINDS = frozenset(Kind)


class Record(NamedTuple):
    """One record of a capture.

    Attributes:
        kind: what happened.
        at: when, in seconds of the monotonic clock of that time.
        wall_offset: what makes Unix seconds of `at`.
        data: bytes, or a text in UTF-8; see `Kind`.
    """

    kind: Kind
    at: float
    wall_offset: float
    data: bytes = b""


def encode_header(url: str) -> bytes:
    """Returns the header of a capture that begins now.

    Args:
        url: of the source, without a password.
    """
    content = {"url": url, "time": time.time(), "edgelstm": edgelstm.__version__}
    text = json.dumps(content).encode()
    return MAGIC + _LENGTH.pack(len(text)) + text


def encode_record(record: Record) -> bytes:
    """Returns the bytes of a record, whose data may have `MAX_DATA_SIZE` bytes."""
    kind, at, wall_offset, data = record
    body = _RECORD.pack(kind, at, wall_offset, len(data)) + data
    return body + _CRC.pack(binascii.crc32(body))


def _encode(record: Record) -> bytes:
    """A record, or several of them where its data is too long for one."""
    data = record.data
    if len(data) <= MAX_DATA_SIZE:
        return encode_record(record)
    starts = range(0, len(data), MAX_DATA_SIZE)
    return b"".join(
        encode_record(record._replace(data=data[start : start + MAX_DATA_SIZE])) for start in starts
    )


class CaptureWriter:
    """Writes a capture file, for one link after the other.

    What was written is in the hands of the system after a second at most, as long as the link is
    read. Several threads may write.

    Args:
        path: of the file; one that exists is replaced.
        url: of the source, without a password.

    Attributes:
        has_received: whether a record of received bytes was added.

    Raises:
        SourceError: the file cannot be written; also from each method.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.has_received = False
        self._path = path
        self._lock = threading.Lock()
        self._is_dirty = True
        self._flushed_at = time.monotonic()
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise self._refused(error) from error
        try:
            self._file.write(encode_header(url))
            self._file.flush()
        except OSError as error:
            with contextlib.suppress(OSError):  # what is still in the buffer
                self._file.close()
            raise self._refused(error) from error

    def write(self, record: Record) -> None:
        """Adds a record; after `close`, nothing happens."""
        encoded = _encode(record)
        with self._lock:
            if self._file.closed:
                return
            try:
                self._file.write(encoded)
            except OSError as error:
                raise self._refused(error) from error
            self._is_dirty = True
            self.has_received = self.has_received or record.kind is Kind.RECEIVED
        self.flush_when_due()

    def add(self, kind: Kind, data: bytes = b"") -> None:
        """Adds a record of what happens now."""
        now = time.monotonic()
        self.write(Record(kind, now, time.time() - now, data))

    def flush_when_due(self) -> None:
        """Hands what was written to the system, once a second."""
        now = time.monotonic()
        if not self._is_dirty or now - self._flushed_at < _FLUSH_INTERVAL_S:
            return
        with self._lock:
            self._flushed_at = now
            self._is_dirty = False
            if self._file.closed:
                return
            try:
                self._file.flush()
            except OSError as error:
                raise self._refused(error) from error

    def close(self) -> None:
        """Writes what is left and closes the file; may be called more than once."""
        with self._lock:
            try:
                self._file.close()
            except OSError as error:
                raise self._refused(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refused(self, error: OSError) -> SourceError:
        return SourceError(f"The capture {self._path} cannot be written: {error.strerror}.")


class CaptureReader:
    """Iterates over the records of a capture file, one in memory at a time.

    Attributes:
        header: what the capture says of itself: `url`, `time`, `edgelstm`.
        is_cut: whether the end is missing or damaged; known once the iteration has ended.
        offset: where the next record begins in the file.

    Args:
        path: of the file.
        offset: where to go on, as an earlier reader's `offset` said; 0 is the first record.

    Raises:
        RecordingError: the file cannot be read, or is no capture of a known version.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.is_cut = False
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise RecordingError(f"{path} cannot be read: {error.strerror}.") from error
        try:
            self.header = _read_header(self._file, path)
            self.offset = offset or self._file.tell()
            self._file.seek(self.offset)
        except OSError as error:  # a folder opens, and then cannot be read
            self._file.close()
            raise RecordingError(f"{path} cannot be read: {error.strerror}.") from error
        except BaseException:
            self._file.close()
            raise

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        record = None if self._file.closed else self._read_record()
        if record is None:
            self._file.close()
            raise StopIteration
        return record

    def close(self) -> None:
        """Closes the file; may be called more than once."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_record(self) -> Record | None:
        head = self._file.read(_RECORD.size)
        if not head:
            return None
        self.is_cut = True
        if len(head) < _RECORD.size:
            return None
        kind, at, wall_offset, length = _RECORD.unpack(head)
        if length > MAX_DATA_SIZE or kind not in _KINDS:
            return None
        tail = self._file.read(length + _CRC.size)
        if len(tail) < length + _CRC.size:
            return None
        data = tail[:length]
        if _CRC.unpack_from(tail, length)[0] != binascii.crc32(data, binascii.crc32(head)):
            return None
        self.is_cut = False
        self.offset += len(head) + len(tail)
        return Record(Kind(kind), at, wall_offset, data)


def _read_header(file: BinaryIO, path: Path) -> Mapping[str, object]:
    magic = file.read(len(MAGIC))
    if magic[:-1] != MAGIC[:-1]:
        raise RecordingError(f"{path} is no raw capture: make one with `edgelstm record --raw`.")
    if magic != MAGIC:
        raise RecordingError(
            f"{path} is a capture of version {magic[-1]} and this edgelstm reads version "
            f"{MAGIC[-1]}: use the edgelstm that made it."
        )
    size = file.read(_LENGTH.size)
    length = _LENGTH.unpack(size)[0] if len(size) == _LENGTH.size else _MAX_HEADER + 1
    try:
        header = json.loads(file.read(length)) if length <= _MAX_HEADER else None
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise RecordingError(f"{path} is cut or damaged within its header: record it again.")
    return header


class CapturingLink(Link):
    """Another link, with all that happens on it written down.

    Args:
        link: just opened; it is closed with this one.
        writer: stays open when the link is closed, for the next one.
    """

    def __init__(self, link: Link, writer: CaptureWriter) -> None:
        self.description = link.description
        self.can_write = link.can_write
        self.is_live = link.is_live
        self.can_wait = link.can_wait
        self._link = link
        self._writer = writer
        self._lock = threading.Lock()
        self._is_over = False
        writer.add(Kind.CONNECTED, link.description.encode())

    @property
    def on_sent(self) -> Callable[[bytes, float], None] | None:
        """As the other link has it; see `Link`."""
        return self._link.on_sent

    @on_sent.setter
    def on_sent(self, listener: Callable[[bytes, float], None] | None) -> None:
        self._link.on_sent = listener

    def read(self, timeout: float) -> Chunk | None:
        """Reads from the other link; see `Link.read`."""
        try:
            chunk = self._link.read(timeout)
        except LinkLost as error:
            self._note_end(Kind.DISCONNECTED, str(error))
            raise
        except LinkEnded as error:
            self._note_end(Kind.ENDED, str(error))
            raise
        if chunk is None:
            self._writer.flush_when_due()
        else:
            self._writer.write(
                Record(Kind.RECEIVED, chunk.arrived_at, chunk.wall_offset, chunk.data)
            )
        return chunk

    def write(self, data: bytes) -> None:
        """Writes to the other link; see `Link.write`."""
        if not self.can_write:
            return
        self._writer.add(Kind.SENT, data)  # first: an answer must not come before its question
        try:
            self._link.write(data)
        except LinkLost as error:
            self._note_end(Kind.DISCONNECTED, str(error))
            raise

    def close(self) -> None:
        """Closes the other link."""
        is_first = self._end()
        try:
            self._link.close()
        finally:
            if is_first:
                self._writer.add(Kind.CLOSED)

    def _note_end(self, kind: Kind, reason: str) -> None:
        if self._end():
            self._writer.add(kind, reason.encode())

    def _end(self) -> bool:
        """Whether this is how the link ends: all that comes later is the consequence."""
        with self._lock:
            is_first = not self._is_over
            self._is_over = True
        return is_first


def capturing(opener: Opener, writer: CaptureWriter) -> Opener:
    """Returns an opener whose links write down what happens on them."""

    def open_captured() -> Link:
        link = opener()
        try:
            return CapturingLink(link, writer)
        except BaseException:
            link.close()
            raise

    return open_captured
