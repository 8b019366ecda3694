"""Messages: what the payloads of the protocol say, as values."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from enum import IntEnum
from operator import mul, truediv
from typing import ClassVar, NamedTuple, Self

from edgelstm.errors import ProtocolError
from edgelstm_bridge.hello import (
    MAX_CHANNELS,
    PROTOCOL_VERSION,
    ChannelInfo,
    Hello,
    ValueType,
    decode_hello,
)

__all__ = [
    "MAX_CHANNELS",
    "PROTOCOL_VERSION",
    "ChannelInfo",
    "Command",
    "End",
    "Hello",
    "Log",
    "LogLevel",
    "Message",
    "MessageType",
    "Ping",
    "Pong",
    "Rate",
    "Report",
    "Sample",
    "Start",
    "Statistics",
    "Stop",
    "ValueType",
    "decode_message",
]

_U32 = 0xFFFFFFFF
_INTEGER_LIMITS = {ValueType.INT16: 2**15 - 1, ValueType.INT32: 2**31 - 1}


class MessageType(IntEnum):
    """The first byte of a payload."""

    HELLO = 0x01
    SAMPLE = 0x02
    END = 0x03
    LOG = 0x04
    PONG = 0x05
    STATISTICS = 0x06
    STOP = 0x11
    START = 0x12
    PING = 0x13
    RATE = 0x14
    REPORT = 0x15


class LogLevel(IntEnum):
    """How much a log message matters."""

    DEBUG = 0
    INFO = 1
    WARNING = 2
    ERROR = 3


class Sample(NamedTuple):
    """The values of all channels at one time. A tuple, because there are thousands a second.

    Attributes:
        sequence_number: the device's count of samples; on the wire modulo 2^16. A decoder that
            follows a device gives it unwrapped.
        device_clock: in ticks of the device clock, modulo 2^32.
        values: one value per channel, in physical units.
    """

    sequence_number: int
    device_clock: int
    values: tuple[float, ...]

    def encode(self, hello: Hello) -> bytes:
        """Return the payload; integers are rounded and saturated, counts wrap.

        Raises:
            ProtocolError: there is not one value per channel of `hello`, or a value cannot be
                carried: NaN as an integer, or beyond the range of float32.
        """
        if len(self.values) != len(hello.channels):
            raise ProtocolError(
                f"a sample of {len(self.values)} values from a device with "
                f"{len(hello.channels)} channels"
            )
        scaled: Sequence[float] = list(map(truediv, self.values, hello.scales))
        limit = _INTEGER_LIMITS.get(hello.value_type)
        if limit is not None:
            scaled = [_to_integer(value, limit) for value in scaled]
        try:
            return hello.sample_layout.pack(
                MessageType.SAMPLE,
                self.sequence_number & 0xFFFF,
                self.device_clock & _U32,
                *scaled,
            )
        except OverflowError as error:
            raise ProtocolError(f"a value does not fit float32: {self.values}") from error


@dataclass(frozen=True, slots=True)
class Log:
    """A line of text from the device, for people.

    Attributes:
        level: how much it matters; a level that is not known counts as an error.
        text: what it says; on the wire bytes that are not UTF-8 are shown as U+FFFD.
    """

    level: LogLevel
    text: str

    def encode(self) -> bytes:
        """Return the payload."""
        return bytes([MessageType.LOG, self.level]) + self.text.encode()

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the message of a payload of this type.

        Raises:
            ProtocolError: it has no level.
        """
        if len(payload) < 2:
            raise ProtocolError("log: cut short at 1 byte")
        return cls(LogLevel(min(payload[1], LogLevel.ERROR)), payload[2:].decode(errors="replace"))


@dataclass(frozen=True, slots=True)
class _Numbers:
    """A message of a type byte and unsigned 32 bit numbers, which wrap."""

    TYPE: ClassVar[MessageType]
    FIELDS: ClassVar[int] = 0

    def encode(self) -> bytes:
        """Return the payload."""
        return struct.pack(
            f"<B{self.FIELDS}I", self.TYPE, *(number & _U32 for number in astuple(self))
        )

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Return the message of a payload of this type.

        Raises:
            ProtocolError: it is too long or too short.
        """
        layout = struct.Struct(f"<B{cls.FIELDS}I")
        _check_size(cls.__name__.lower(), payload, layout.size)
        return cls(*layout.unpack(payload)[1:])


@dataclass(frozen=True, slots=True)
class End(_Numbers):
    """Nothing follows until the next start.

    Attributes:
        sample_count: samples due since the device booted, modulo 2^32.
    """

    TYPE: ClassVar = MessageType.END
    FIELDS: ClassVar = 1
    sample_count: int


@dataclass(frozen=True, slots=True)
class Pong(_Numbers):
    """The answer to a ping.

    Attributes:
        token: of the ping.
        device_clock: when it was answered, in ticks modulo 2^32.
    """

    TYPE: ClassVar = MessageType.PONG
    FIELDS: ClassVar = 2
    token: int
    device_clock: int


@dataclass(frozen=True, slots=True)
class Statistics(_Numbers):
    """What went wrong on the device since it booted, each modulo 2^32.

    Attributes:
        sample_count: samples that were due.
        dropped: samples that were taken but not sent for want of room.
        overruns: samples that were not taken for want of time.
        bad_commands: frames from the host that were damaged or not understood.
    """

    TYPE: ClassVar = MessageType.STATISTICS
    FIELDS: ClassVar = 4
    sample_count: int
    dropped: int
    overruns: int
    bad_commands: int


@dataclass(frozen=True, slots=True)
class Stop(_Numbers):
    """The host asks the device to send no more samples."""

    TYPE: ClassVar = MessageType.STOP


@dataclass(frozen=True, slots=True)
class Start(_Numbers):
    """The host asks the device for a hello and samples."""

    TYPE: ClassVar = MessageType.START


@dataclass(frozen=True, slots=True)
class Ping(_Numbers):
    """The host asks the device for its clock.

    Attributes:
        token: any number; comes back with the answer.
    """

    TYPE: ClassVar = MessageType.PING
    FIELDS: ClassVar = 1
    token: int


@dataclass(frozen=True, slots=True)
class Rate(_Numbers):
    """The host asks the device to take its samples at another pace.

    Attributes:
        sample_period_us: microseconds between two samples, at least 1.
    """

    TYPE: ClassVar = MessageType.RATE
    FIELDS: ClassVar = 1
    sample_period_us: int


@dataclass(frozen=True, slots=True)
class Report(_Numbers):
    """The host asks the device for its statistics."""

    TYPE: ClassVar = MessageType.REPORT


Command = Start | Stop | Ping | Rate | Report
Message = Hello | Sample | End | Log | Pong | Statistics | Command

_BY_TYPE: dict[int, type[Log | _Numbers]] = {
    MessageType.LOG: Log,
    **{kind.TYPE: kind for kind in (End, Pong, Statistics, Start, Stop, Ping, Rate, Report)},
}


def decode_message(payload: bytes, hello: Hello | None) -> Message:
    """Return the message in a payload of at least one byte.

    Args:
        payload: the content of one frame, without the CRC.
        hello: the last hello of the device; only a sample needs it.

    Raises:
        ProtocolError: the type is unknown, a field or the length is wrong, or a sample comes
            without a hello.
    """
    message_type = payload[0]
    if message_type == MessageType.SAMPLE:
        if hello is None:
            raise ProtocolError("a sample came before any hello")
        return _decode_sample(payload, hello)
    if message_type == MessageType.HELLO:
        return decode_hello(payload)
    kind = _BY_TYPE.get(message_type)
    if kind is not None:
        message: Message = kind.decode(payload)  # type: ignore[assignment]  # the union of them
        return message
    raise ProtocolError(f"unknown message type 0x{message_type:02X}")


def _decode_sample(payload: bytes, hello: Hello) -> Sample:
    layout = hello.sample_layout
    _check_size("sample", payload, layout.size)
    _, sequence_number, device_clock, *values = layout.unpack(payload)
    return Sample(sequence_number, device_clock, tuple(map(mul, values, hello.scales)))


def _check_size(name: str, payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise ProtocolError(f"{name}: {len(payload)} bytes where {size} were expected")


def _to_integer(value: float, limit: int) -> int:
    if math.isnan(value):
        raise ProtocolError("NaN cannot be sent as an integer")
    return round(min(max(value, -limit - 1), limit))
