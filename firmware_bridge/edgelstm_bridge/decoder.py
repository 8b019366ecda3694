"""`FrameDecoder`: bytes in, messages out, and a count of everything that went wrong. No I/O."""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass
from operator import mul

from edgelstm.errors import ProtocolError
from edgelstm_bridge.codec import (
    CRC_SIZE,
    DELIMITER,
    MAX_BLOCK_SIZE,
    MAX_ENCODED_SIZE,
    CrcError,
    decode_frame,
)
from edgelstm_bridge.hello import VersionError
from edgelstm_bridge.messages import (
    End,
    Hello,
    Message,
    MessageType,
    Sample,
    ValueType,
    decode_message,
)

_KNOWN_TYPES = frozenset(MessageType)
_SAMPLE = int(MessageType.SAMPLE)
_SEQUENCE_MASK = 0xFFFF
_COUNT_MASK = 0xFFFFFFFF
_FORWARD = 2**15  # a sequence number less than this ahead of the expected one is newer
_FORWARD_COUNT = 2**31


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
        samples: samples decoded and given out.
        samples_before_hello: samples that could not be decoded for want of a hello.
        lost: samples missing, by their numbers and by the counts of hello and end.
        reordered: samples dropped because they came late or twice, by their numbers.
        restarts: hellos of a device that had restarted.
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
    restarts: int = 0

    @property
    def damaged(self) -> int:
        """Frames that arrived and could not be used."""
        return self.bad_crc + self.bad_frame + self.bad_payload + self.oversize


@dataclass(frozen=True, slots=True)
class Restart:
    """The device has restarted: its hello follows, and its numbers and its clock count anew."""


class FrameDecoder:
    """Turns the bytes from one serial line into messages.

    It never holds more than one frame's bytes, and after garbage it is in step again at the
    next delimiter. The sequence numbers of the samples it gives grow within a boot and do not
    wrap; a sample that comes late or twice is dropped.

    Attributes:
        counters: what was seen so far.
        complaint: what was wrong with the last malformed payload; empty before one.
    """

    def __init__(self) -> None:
        self.counters = Counters()
        self.complaint = ""
        self._hello: Hello | None = None
        self._next = 0  # the number of the sample that should come next
        self._late: int | None = None  # what would follow the late sample that came last
        self._incomplete = b""
        self._skipping = False  # inside an over-long frame, until the next delimiter
        self._fast = _FastSamples(None)

    @property
    def hello(self) -> Hello | None:
        """The last hello, which says how to read samples."""
        return self._hello

    def feed(self, data: bytes) -> list[Message | Restart]:
        """Take bytes as they come, in chunks of any size, and return the messages they end.

        Raises:
            VersionError: a hello is of an unknown version, so that nothing can be read.
        """
        messages: list[Message | Restart] = []
        counters = self.counters
        for frame in self._split(data):
            if len(frame) == self._fast.size:
                sample = self._fast.decode(frame)
                if sample is not None:
                    counters.good += 1
                    # The usual case: it is the one that was expected.
                    if sample[0] == self._next & _SEQUENCE_MASK:
                        number = self._next
                    else:
                        expected = self._jump(sample[0])
                        if expected is None:
                            continue
                        number = expected
                    self._next = number + 1
                    counters.samples += 1
                    messages.append(Sample(number, sample[1], sample[2]))
                    continue
            if frame:  # an empty one only flushed the line
                self._decode(frame, messages)
        return messages

    def break_line(self) -> None:
        """Forget the frame that is incomplete: the line was cut, and begins anew elsewhere."""
        self._incomplete = b""
        self._skipping = False

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

    def _decode(self, frame: bytes, messages: list[Message | Restart]) -> None:
        """Append the message of a frame, or count why there is none."""
        counters = self.counters
        if len(frame) > MAX_ENCODED_SIZE:
            counters.oversize += 1
            return
        try:
            payload = decode_frame(frame)
        except CrcError:
            counters.bad_crc += 1
            return
        except ProtocolError:
            counters.bad_frame += 1
            return
        counters.good += 1
        message = self._interpret(payload)
        if isinstance(message, Hello):
            if self._hello is None:
                self._next = message.sample_count
            elif self._has_restarted(message):
                counters.restarts += 1
                self._next = message.sample_count
                messages.append(Restart())
            else:
                self._count_to(message.sample_count)
            self._hello = message
            self._late = None
            self._fast = _FastSamples(message)
        elif isinstance(message, End):
            self._count_to(message.sample_count)
        elif isinstance(message, Sample):
            number = self._jump(message.sequence_number)
            if number is None:
                return
            self._next = number + 1
            counters.samples += 1
            message = message._replace(sequence_number=number)
        if message is not None:
            messages.append(message)

    def _interpret(self, payload: bytes) -> Message | None:
        message_type = payload[0]
        if message_type not in _KNOWN_TYPES:
            self.counters.unknown += 1
            return None
        if message_type == MessageType.SAMPLE and self._hello is None:
            self.counters.samples_before_hello += 1
            return None
        try:
            return decode_message(payload, self._hello)
        except VersionError:
            raise
        except ProtocolError as error:
            self.counters.bad_payload += 1
            self.complaint = str(error)
            return None

    def _jump(self, sequence_number: int) -> int | None:
        """Return the unwrapped number of a sample and count what is missing before it.

        None for one that comes late or twice. Two such in a row that follow one another are
        no late ones: more were lost than sequence numbers can tell.
        """
        ahead = (sequence_number - self._next) & _SEQUENCE_MASK
        if ahead >= _FORWARD and sequence_number != self._late:
            self.counters.reordered += 1
            self._late = (sequence_number + 1) & _SEQUENCE_MASK
            return None
        self._late = None
        self.counters.lost += ahead
        return self._next + ahead

    def _has_restarted(self, hello: Hello) -> bool:
        last = self._hello
        if last is None or hello.boot_id != last.boot_id:
            return last is not None
        return (hello.sample_count - self._next) & _COUNT_MASK >= _FORWARD_COUNT

    def _count_to(self, sample_count: int) -> None:
        """Count what is missing up to the sample of this number."""
        missing = (sample_count - self._next) & _COUNT_MASK
        if missing < _FORWARD_COUNT:
            self.counters.lost += missing
            self._next += missing


class _FastSamples:
    """Decodes the frames of a hello's samples, and nothing else, in one go.

    Attributes:
        size: of such a frame, without its delimiter; -1 where there is no fast way.
    """

    def __init__(self, hello: Hello | None) -> None:
        self.size = -1
        if hello is None:
            return
        layout = hello.sample_layout
        # Within one COBS block every code byte but the first stands where a 0x00 was.
        if layout.size + CRC_SIZE < MAX_BLOCK_SIZE:
            self.size = 1 + layout.size + CRC_SIZE
        self._layout = struct.Struct(f"<x{layout.format.removeprefix('<')}H")
        plain = hello.value_type is ValueType.FLOAT32 and set(hello.scales) == {1.0}
        self._scales = None if plain else hello.scales

    def decode(self, frame: bytes) -> tuple[int, int, tuple[float, ...]] | None:
        """Return sequence number, device clock and values; None if anything is wrong with it."""
        body = bytearray(frame)
        size = len(body)
        position = 0
        while position < size:
            code = body[position]
            body[position] = 0
            position += code
        fields = self._layout.unpack(body)
        if (
            position != size
            or fields[0] != _SAMPLE
            or fields[-1] != binascii.crc_hqx(body[1:-CRC_SIZE], 0xFFFF)
        ):
            return None
        values = fields[3:-1]
        if self._scales is not None:
            values = tuple(map(mul, values, self._scales))
        return fields[1], fields[2], values
