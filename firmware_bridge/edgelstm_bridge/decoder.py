"""`FrameDecoder`: bytes in, messages out, and a count of everything that went wrong. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from edgelstm.errors import ProtocolError
from edgelstm_bridge.codec import DELIMITER, MAX_ENCODED_SIZE, CrcError, decode_frame
from edgelstm_bridge.messages import Hello, Message, MessageType, Sample, decode_message
from edgelstm_bridge.timeline import MAX_SEQUENCE_STEP, sequence_step

_KNOWN_TYPES = frozenset(MessageType)


@dataclass(slots=True)
class Counters:
    """What a decoder has seen so far.

    Attributes:
        good: frames that are whole and match their CRC, whatever they carry.
        bad_crc: frames that do not match their CRC.
        bad_frame: frames that are not COBS, or of a size that holds no payload.
        bad_payload: good frames of a known type whose payload is malformed.
        oversize: frames dropped because they are longer than the protocol allows.
        unknown: good frames of an unknown type.
        samples: samples decoded.
        samples_before_hello: samples that could not be decoded for want of a hello.
        lost: samples missing, by the gaps in the sequence numbers.
        reordered: samples that came late or twice, by their sequence numbers.
    """

    good: int = 0
    bad_crc: int = 0
    bad_frame: int = 0
    bad_payload: int = 0
    oversize: int = 0
    unknown: int = 0
    samples: int = 0
    samples_before_hello: int = 0
    lost: int = 0
    reordered: int = 0

    @property
    def damaged(self) -> int:
        """Frames that arrived and could not be used."""
        return self.bad_crc + self.bad_frame + self.bad_payload + self.oversize


class FrameDecoder:
    """Turns the bytes from one serial line into messages.

    It never holds more than one frame's bytes, and after garbage it is in step again at the
    next delimiter.

    Attributes:
        counters: what was seen so far.
    """

    def __init__(self) -> None:
        self.counters = Counters()
        self._hello: Hello | None = None
        self._last_sequence: int | None = None
        self._incomplete = b""
        self._skipping = False  # inside an over-long frame, until the next delimiter

    @property
    def hello(self) -> Hello | None:
        """The last hello, which says how to read samples."""
        return self._hello

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes as they come, in chunks of any size, and return the messages they end.

        Raises:
            ProtocolError: a hello is malformed or of an unknown version, so that the samples
                that follow it cannot be read.
        """
        messages = []
        for frame in self._split(data):
            message = self._decode(frame)
            if message is not None:
                messages.append(message)
        return messages

    def _split(self, data: bytes) -> list[bytes]:
        """Return the frames that `data` ends, and keep what it leaves incomplete."""
        if self._skipping:
            _, delimiter, data = data.partition(DELIMITER)
            if not delimiter:
                return []
            self._skipping = False
        *frames, self._incomplete = (self._incomplete + data).split(DELIMITER)
        if len(self._incomplete) > MAX_ENCODED_SIZE:
            self.counters.oversize += 1
            self._incomplete = b""
            self._skipping = True
        return frames

    def _decode(self, frame: bytes) -> Message | None:
        """Return the message of a frame, or count why there is none."""
        if not frame:
            return None  # a delimiter sent only to flush the line
        if len(frame) > MAX_ENCODED_SIZE:
            self.counters.oversize += 1
            return None
        try:
            payload = decode_frame(frame)
        except CrcError:
            self.counters.bad_crc += 1
            return None
        except ProtocolError:
            self.counters.bad_frame += 1
            return None
        self.counters.good += 1
        return self._interpret(payload)

    def _interpret(self, payload: bytes) -> Message | None:
        message_type = payload[0]
        if message_type not in _KNOWN_TYPES:
            self.counters.unknown += 1
            return None
        if message_type == MessageType.SAMPLE and self._hello is None:
            self.counters.samples_before_hello += 1
            return None
        try:
            message = decode_message(payload, self._hello)
        except ProtocolError:
            if message_type == MessageType.HELLO:
                raise
            self.counters.bad_payload += 1
            return None
        if isinstance(message, Sample):
            self._count_sample(message.sequence_number)
        elif isinstance(message, Hello):
            self._hello = message
            self._last_sequence = None
        return message

    def _count_sample(self, sequence_number: int) -> None:
        self.counters.samples += 1
        if self._last_sequence is not None:
            step = sequence_step(self._last_sequence, sequence_number)
            if step <= MAX_SEQUENCE_STEP:
                self.counters.lost += step - 1
            else:
                self.counters.reordered += 1
        self._last_sequence = sequence_number
