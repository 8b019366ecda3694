"""Frames: a payload and its CRC, COBS-encoded and ended by 0x00. No state, no I/O."""

from __future__ import annotations

import binascii

from edgelstm.errors import ProtocolError

DELIMITER = b"\0"
MAX_PAYLOAD_SIZE = 1024
CRC_SIZE = 2

MAX_BLOCK_SIZE = 254  # the most bytes that one COBS code byte can stand for
_FULL_BLOCK = b"\xff"  # the code byte of such a block, the only one that implies no 0x00
_MAX_BODY_SIZE = MAX_PAYLOAD_SIZE + CRC_SIZE

# COBS adds at most one byte for every 254 begun.
MAX_ENCODED_SIZE = _MAX_BODY_SIZE + -(-_MAX_BODY_SIZE // MAX_BLOCK_SIZE)
MAX_FRAME_SIZE = MAX_ENCODED_SIZE + len(DELIMITER)


class CrcError(ProtocolError):
    """A frame is whole, but its payload does not match its CRC."""


def crc16(data: bytes) -> int:
    """Return the CRC-16/CCITT-FALSE of `data`.

    The standard library's `crc_hqx` is this CRC (polynomial 0x1021, nothing reflected) once
    it starts from 0xFFFF, and it runs in C.
    """
    return binascii.crc_hqx(data, 0xFFFF)


def cobs_encode(data: bytes) -> bytes:
    """Return `data` encoded with COBS: no 0x00 inside, and none at the end."""
    encoded = bytearray()
    segments = data.split(b"\0")
    last = len(segments) - 1
    for index, segment in enumerate(segments):
        start = 0
        while len(segment) - start >= MAX_BLOCK_SIZE:
            encoded += _FULL_BLOCK + segment[start : start + MAX_BLOCK_SIZE]
            start += MAX_BLOCK_SIZE
        # A full block that ends the data says so by itself: no empty block follows it.
        if index == last and start and start == len(segment):
            break
        encoded.append(len(segment) - start + 1)
        encoded += segment[start:]
    return bytes(encoded)


def cobs_decode(encoded: bytes) -> bytes:
    """Return the data that `encoded` (without the delimiter) stands for.

    Raises:
        ProtocolError: there is a 0x00 inside, or the last block is cut short.
    """
    if 0 in encoded:
        raise ProtocolError("COBS: 0x00 inside a frame")
    data = bytearray()
    size = len(encoded)
    start = 0
    while start < size:
        code = encoded[start]
        end = start + code
        data += encoded[start + 1 : end]
        if code <= MAX_BLOCK_SIZE:
            data.append(0)
        start = end
    if start > size:
        raise ProtocolError(f"COBS: the last block is {start - size} bytes short")
    if size and code <= MAX_BLOCK_SIZE:
        data.pop()  # the end of the data stands for no 0x00
    return bytes(data)


def encode_frame(payload: bytes) -> bytes:
    """Return the frame that carries `payload`, with the 0x00 that ends it.

    Raises:
        ProtocolError: the payload is empty or longer than `MAX_PAYLOAD_SIZE`.
    """
    if not 1 <= len(payload) <= MAX_PAYLOAD_SIZE:
        raise ProtocolError(
            f"a payload has 1 to {MAX_PAYLOAD_SIZE} bytes, this one has {len(payload)}"
        )
    return cobs_encode(payload + crc16(payload).to_bytes(CRC_SIZE, "little")) + DELIMITER


def decode_frame(encoded: bytes) -> bytes:
    """Return the payload of a frame, given without the 0x00 that ended it.

    Raises:
        CrcError: the payload does not match its CRC.
        ProtocolError: the frame is not COBS, or too short or too long to hold a payload.
    """
    body = cobs_decode(encoded)
    if not CRC_SIZE < len(body) <= _MAX_BODY_SIZE:
        raise ProtocolError(
            f"a frame holds {CRC_SIZE + 1} to {_MAX_BODY_SIZE} bytes, this one {len(body)}"
        )
    payload = body[:-CRC_SIZE]
    received = int.from_bytes(body[-CRC_SIZE:], "little")
    computed = crc16(payload)
    if received != computed:
        raise CrcError(f"CRC: the frame says 0x{received:04X}, its payload 0x{computed:04X}")
    return payload
