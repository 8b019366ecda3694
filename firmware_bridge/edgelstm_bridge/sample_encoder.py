"""`SampleEncoder`: from rows to sample frames, as fast as Python can. No I/O."""

from __future__ import annotations

import struct
from binascii import crc_hqx
from collections.abc import Sequence

from edgelstm_bridge.codec import CRC_SIZE, MAX_BLOCK_SIZE, encode_frame
from edgelstm_bridge.messages import Hello, MessageType, Sample, ValueType

_SAMPLE = int(MessageType.SAMPLE)
_BLOCK_HEADS = [bytes([code]) for code in range(MAX_BLOCK_SIZE + 1)]


class SampleEncoder:
    """Makes the sample frames of one device; the same bytes as `encode_frame` would.

    Args:
        hello: of the device.
    """

    def __init__(self, hello: Hello) -> None:
        self._hello = hello
        layout = hello.sample_layout
        plain = hello.value_type is ValueType.FLOAT32 and set(hello.scales) == {1.0}
        # Within one COBS block, every 0x00 just becomes the distance to the next.
        self._is_fast = plain and layout.size + CRC_SIZE < MAX_BLOCK_SIZE
        self._pack = layout.pack

    def encode(self, number: int, clock: int, values: Sequence[float]) -> bytes:
        """Returns a frame; both counts wrap.

        Raises:
            ProtocolError: the values do not fit the channels, or one cannot be carried.
        """
        if self._is_fast:
            try:
                payload = self._pack(_SAMPLE, number & 0xFFFF, clock & 0xFFFFFFFF, *values)
            except (struct.error, OverflowError):
                pass  # said by the other way
            else:
                body = payload + crc_hqx(payload, 0xFFFF).to_bytes(CRC_SIZE, "little")
                heads = _BLOCK_HEADS
                return b"".join([heads[len(b) + 1] + b for b in body.split(b"\0")]) + b"\0"
        return encode_frame(Sample(number, clock, tuple(values)).encode(self._hello))
