"""Streams to feed a decoder with: noise, and valid streams with everything done to them.

A test takes some megabytes of either; a long run takes as much as it likes, in flat memory.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

_LARGEST_CHUNK = 4096
_FEW = 20  # bytes that one mutation touches at most, but for those that are long


def noise(seed: int, size: int) -> Iterator[bytes]:
    """Random bytes, in chunks of random sizes that make up `size` bytes."""
    chance = random.Random(seed)  # noqa: S311 (not for secrets)
    while size > 0:
        length = min(size, chance.randint(1, _LARGEST_CHUNK))
        size -= length
        yield chance.randbytes(length)


def mutated(stream: bytes, seed: int, size: int) -> Iterator[bytes]:
    """A valid stream over and over, damaged at random places, in chunks of random sizes.

    Args:
        stream: not empty.
        seed: of the damage and the chunks.
        size: of all chunks together, in bytes.
    """
    chance = random.Random(seed)  # noqa: S311 (not for secrets)
    position = 0
    while size > 0:
        length = chance.choice((1, 7, 64, 512, _LARGEST_CHUNK))
        piece = bytearray()
        while len(piece) < length:
            piece += stream[position : position + length - len(piece)]
            position = (position + length) % len(stream)
        for _ in range(chance.choice((0, 0, 1, 3))):
            _damage(piece, chance)
        chunk = bytes(piece[:size])
        size -= len(chunk)
        if chunk:
            yield chunk


def _damage(piece: bytearray, chance: random.Random) -> None:
    """Does one of the things to some bytes that lines, buffers and boards do."""
    start = chance.randrange(len(piece) + 1)
    end = start + chance.randint(1, _FEW)
    match chance.randrange(7):
        case 0:
            del piece[start:end]
        case 1:
            piece[start:start] = chance.randbytes(end - start)
        case 2:
            piece[start:start] = piece[start:end]
        case 3:
            for k in range(start, min(end, len(piece))):
                piece[k] ^= 1 << chance.randrange(8)
        case 4:
            piece[start:start] = bytes([chance.choice(b'\0\r\n\xff,;:={["*$')]) * (end - start)
        case 5:  # a line that does not end for long
            piece[start:start] = bytes([chance.choice(b"9[{,:= \t")]) * chance.randrange(9000)
        case _:
            piece.reverse()
