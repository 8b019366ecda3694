"""Where a signature is in an artifact's file, byte for byte; docs/signing.md describes it.

```
flatbuffer | entries of the archive | the signature's entry | directory | end | seal
<------------- signed ------------->|<-------- follow from what is signed --------->
```

The signature is an entry of the archive like the others, the last one, not compressed. All bytes
before it are signed as they are. All bytes after them are written in one way only, so a reader
writes them itself and compares: no other entry, order, comment or gap, and so no second way to
read the same file, has room in it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from edgelstm.artifact import SEAL_BYTES, SIGNATURE, seal
from edgelstm.keys import PublicKey

ALGORITHM = "ed25519"
VERSION = 1
SIGNATURE_BYTES = 64

_ENTRY = struct.Struct("<4s5H3L2H")
_ENTRY_MARK = b"PK\x03\x04"
_IN_DIRECTORY = struct.Struct("<4s6H3L5H2L")
_IN_DIRECTORY_MARK = b"PK\x01\x02"
_END = struct.Struct("<4s4H2LH")
_END_MARK = b"PK\x05\x06"
_MADE_BY = 3 << 8 | 20  # on Unix, version 2.0 of the format, as Python's zipfile has it
_DATE = 1 << 5 | 1  # 1 January 1980, as all entries have it
_MODE = 0o600 << 16
_STORED, _DEFLATED = 0, 8
_MOST_ENTRIES = 100
_LARGEST_SIGNATURE = 4096  # bytes; one has some three hundred


class LayoutError(Exception):
    """The bytes are not laid out as those of an artifact; the message says where."""


class UnknownSignatureError(Exception):
    """The signature is of a kind that this edgelstm does not know; the message names it."""


@dataclass(frozen=True)
class Content:
    """What is signed of a file.

    Attributes:
        data: all bytes up to the signature.
        model_bytes: how many of them are the flatbuffer's; the archive begins behind it.
    """

    data: bytes
    model_bytes: int

    def message(self) -> bytes:
        """What the key signs: how long the content and its flatbuffer are, and the SHA-256.

        The first line keeps it apart from whatever else a key might sign.
        """
        digest = hashlib.sha256(self.data).hexdigest()
        return (
            f"edgelstm signature {VERSION}\n{self.model_bytes} {len(self.data)} {digest}\n".encode()
        )


@dataclass(frozen=True)
class Signature:
    """What the file says of its signature, not checked.

    Attributes:
        key: that it is said to be of.
        value: the signature, 64 bytes.
    """

    key: PublicKey
    value: bytes


@dataclass(frozen=True)
class _Entry:
    """A local header: its fields from the version on, as in the format, and its name."""

    fields: tuple[Any, ...]
    name: bytes
    start: int

    @classmethod
    def of(cls, name: str, content: bytes, start: int) -> _Entry:
        """Of an entry that is not compressed."""
        size = len(content)
        fields = (20, 0, _STORED, 0, _DATE, zlib.crc32(content), size, size)
        return cls(fields, name.encode(), start)

    @property
    def stored_bytes(self) -> int:
        return int(self.fields[6])

    def header(self) -> bytes:
        return _ENTRY.pack(_ENTRY_MARK, *self.fields, len(self.name), 0) + self.name

    def in_directory(self) -> bytes:
        numbers = (*self.fields, len(self.name), 0, 0, 0, 0, _MODE, self.start)
        return _IN_DIRECTORY.pack(_IN_DIRECTORY_MARK, _MADE_BY, *numbers) + self.name


def divide(data: bytes) -> tuple[Content, Signature | None]:
    """What of a file is signed or to be signed, and its signature; None when it has none.

    Every byte is accounted for: `compose` makes the very same file of the two.

    Args:
        data: the file, whose seal need not be right.

    Raises:
        LayoutError: it is not laid out as an artifact's file is.
        UnknownSignatureError: it is signed in a way that this edgelstm does not know.
    """
    start, directory = _archive(data)
    entries = _walk(data[:directory], start)
    last = entries[-1]
    if last.name == SIGNATURE.encode():
        content = Content(data[: last.start], start)
        signature = _parse(data[directory - last.stored_bytes : directory])
    else:
        content, signature = Content(data[:directory], start), None
    if compose(content, signature) != data:
        raise LayoutError("the end of its archive does not follow from its entries")
    return content, signature


def compose(content: Content, signature: Signature | None) -> bytes:
    """The file of a content and its signature.

    Raises:
        LayoutError: the content is not laid out as that of an artifact.
    """
    entries = _walk(content.data, content.model_bytes)
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise LayoutError("two entries of its archive have the same name")
    if SIGNATURE.encode() in names:
        raise LayoutError("its archive has an entry behind the signature")
    whole = content.data
    if signature is not None:
        stored = _format(content, signature)
        entries.append(_Entry.of(SIGNATURE, stored, len(whole)))
        whole += entries[-1].header() + stored
    directory = b"".join(entry.in_directory() for entry in entries)
    number = len(entries)
    numbers = 0, 0, number, number, len(directory), len(whole), SEAL_BYTES
    whole += directory + _END.pack(_END_MARK, *numbers)
    return whole + seal(whole)


def _archive(data: bytes) -> tuple[int, int]:
    """Where the archive begins, and where its directory does.

    Raises:
        LayoutError: there is none that ends with a seal.
    """
    end = len(data) - SEAL_BYTES - _END.size
    if end < 0:
        raise LayoutError("it is too short")
    mark, disk, first_disk, here, number, size, directory, comment = _END.unpack_from(data, end)
    if (mark, disk, first_disk, comment) != (_END_MARK, 0, 0, SEAL_BYTES) or here != number:
        raise LayoutError("it does not end with an archive and a seal")
    if not number or directory + size != end or size < _IN_DIRECTORY.size:
        raise LayoutError("the directory of its archive is not where it belongs")
    mark, *_, start = _IN_DIRECTORY.unpack_from(data, directory)
    if mark != _IN_DIRECTORY_MARK or start >= directory:
        raise LayoutError("the directory of its archive is damaged")
    return start, directory


def _walk(data: bytes, start: int) -> list[_Entry]:
    """The entries from `start` to the end of the bytes, one right behind the other.

    Raises:
        LayoutError: there is anything else, or an entry of a kind that no artifact has.
    """
    entries: list[_Entry] = []
    at = start
    while at < len(data):
        if len(data) - at < _ENTRY.size or len(entries) == _MOST_ENTRIES:
            raise LayoutError("its archive has what is no entry")
        mark, *fields, name_bytes, extra = _ENTRY.unpack_from(data, at)
        flags, method = fields[1], fields[2]
        if mark != _ENTRY_MARK or flags or extra or method not in (_STORED, _DEFLATED):
            raise LayoutError("its archive has what is no entry of an artifact")
        name = data[at + _ENTRY.size : at + _ENTRY.size + name_bytes]
        if not name.isascii() or b"\0" in name:
            raise LayoutError("an entry of its archive has no proper name")
        entry = _Entry(tuple(fields), name, at)
        entries.append(entry)
        at += _ENTRY.size + name_bytes + entry.stored_bytes
    if at != len(data) or not entries:
        raise LayoutError("an entry of its archive is cut off")
    return entries


def _format(content: Content, signature: Signature) -> bytes:
    fields = {
        "algorithm": ALGORITHM,
        "bytes": len(content.data),
        "key": base64.b64encode(signature.key.der).decode(),
        "model_bytes": content.model_bytes,
        "signature": base64.b64encode(signature.value).decode(),
        "version": VERSION,
    }
    return (json.dumps(fields, indent=2) + "\n").encode()


def _parse(stored: bytes) -> Signature:
    """What the signature's entry says; `compose` checks that it is written as it must be.

    Raises:
        LayoutError: it makes no sense.
        UnknownSignatureError: it is of another kind.
    """
    if len(stored) > _LARGEST_SIGNATURE:
        raise LayoutError("its signature is damaged")
    try:
        fields = json.loads(stored)
        kind = fields["algorithm"], fields["version"]
        if kind != (ALGORITHM, VERSION):
            raise UnknownSignatureError(f"{kind[0]!r}, version {kind[1]!r}")
        key = PublicKey.from_der(base64.b64decode(fields["key"], validate=True))
        value = base64.b64decode(fields["signature"], validate=True)
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error) as error:
        raise LayoutError("its signature is damaged") from error
    if key is None or len(value) != SIGNATURE_BYTES:
        raise LayoutError("its signature is damaged")
    return Signature(key, value)
