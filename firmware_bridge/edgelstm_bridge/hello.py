"""`Hello`: what a device says about itself, and how its samples are to be read."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

from edgelstm.errors import ProtocolError

PROTOCOL_VERSION = 1
MAX_CHANNELS = 64

_TYPE = 0x01
_MAX_TEXT_SIZE = 255  # its length travels in one byte
_HEAD = struct.Struct("<BBBIIqII")
_SAMPLE_HEAD = "<BHI"
_FLOAT32 = struct.Struct("<f")


class VersionError(ProtocolError):
    """The device speaks a version of the protocol that this edgelstm does not."""


class ValueType(IntEnum):
    """How a sample carries its values."""

    INT16 = 0
    INT32 = 1
    FLOAT32 = 2


_STRUCT_CODES = {ValueType.INT16: "h", ValueType.INT32: "i", ValueType.FLOAT32: "f"}


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """One channel of a device.

    Attributes:
        name: not empty, and used once per device.
        unit: the physical unit, such as "degC"; may be empty.
        scale: physical value = value on the wire * scale. Held as the float32 that the wire
            carries, so that both ends compute with the same number.

    Raises:
        ProtocolError: the name is empty, or the scale is zero or not finite as a float32.
    """

    name: str
    unit: str = ""
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.name:
            raise ProtocolError("a channel has no name")
        try:
            scale = _FLOAT32.unpack(_FLOAT32.pack(self.scale))[0]
        except OverflowError:
            scale = math.inf
        if scale == 0 or not math.isfinite(scale):
            raise ProtocolError(
                f"channel {self.name}: a scale must be a finite float32 other than zero, "
                f"not {self.scale}"
            )
        object.__setattr__(self, "scale", scale)


@dataclass(frozen=True)
class Hello:
    """What a device says about itself before its first sample.

    Attributes:
        channels: 1 to 64 channels, in the order of the values of a sample.
        value_type: how the samples carry their values.
        sample_period_us: time between two samples in microseconds; 0 when it is not known.
        clock_tick_us: length of one tick of the device clock in microseconds, at least 1.
        clock_epoch_ms: Unix time in milliseconds at device clock 0; 0 when the device has no
            wall clock.
        boot_id: a number that no earlier boot of the device had; 0 when it has none.
        sample_count: samples due since the device booted, modulo 2^32: the number of the next.
        device_id: tells one device from another.
        firmware_version: free text.

    Raises:
        ProtocolError: a field has a value that the protocol does not allow.
    """

    channels: tuple[ChannelInfo, ...]
    value_type: ValueType = ValueType.FLOAT32
    sample_period_us: int = 0
    clock_tick_us: int = 1000
    clock_epoch_ms: int = 0
    boot_id: int = 0
    sample_count: int = 0
    device_id: str = ""
    firmware_version: str = ""

    def __post_init__(self) -> None:
        if not 1 <= len(self.channels) <= MAX_CHANNELS:
            raise ProtocolError(
                f"a device has 1 to {MAX_CHANNELS} channels, not {len(self.channels)}"
            )
        names = [channel.name for channel in self.channels]
        if len(set(names)) < len(names):
            raise ProtocolError(f"two channels have the same name: {', '.join(names)}")
        if self.clock_tick_us < 1:
            raise ProtocolError("a tick of the device clock must last at least 1 us")

    @cached_property
    def sample_layout(self) -> struct.Struct:
        """The layout of a sample's payload."""
        return struct.Struct(_SAMPLE_HEAD + _STRUCT_CODES[self.value_type] * len(self.channels))

    @cached_property
    def scales(self) -> tuple[float, ...]:
        """The scale of each channel."""
        return tuple(channel.scale for channel in self.channels)

    def encode(self) -> bytes:
        """Return the payload.

        Raises:
            ProtocolError: a text is longer than 255 bytes, or a number does not fit its field.
        """
        try:
            head = _HEAD.pack(
                _TYPE,
                PROTOCOL_VERSION,
                self.value_type,
                self.sample_period_us,
                self.clock_tick_us,
                self.clock_epoch_ms,
                self.boot_id,
                self.sample_count & 0xFFFFFFFF,
            )
        except struct.error as error:
            raise ProtocolError(f"hello: a number does not fit its field ({error})") from error
        payload = bytearray(head)
        payload += _encode_text(self.device_id) + _encode_text(self.firmware_version)
        payload.append(len(self.channels))
        for channel in self.channels:
            payload += _encode_text(channel.name) + _encode_text(channel.unit)
            payload += _FLOAT32.pack(channel.scale)
        return bytes(payload)


def decode_hello(payload: bytes) -> Hello:
    """Return the hello in a payload of that type.

    Raises:
        VersionError: it is of another version of the protocol.
        ProtocolError: it is malformed.
    """
    # The version comes first: another version may lay out everything after it differently.
    if len(payload) > 1 and payload[1] != PROTOCOL_VERSION:
        raise VersionError(
            f"the device speaks protocol version {payload[1]}, this edgelstm version "
            f"{PROTOCOL_VERSION}: update the older of the two"
        )
    fields = _Fields(payload)
    (
        _,
        _,
        value_type,
        sample_period_us,
        clock_tick_us,
        clock_epoch_ms,
        boot_id,
        sample_count,
    ) = fields.unpack(_HEAD)
    if value_type not in _STRUCT_CODES:
        raise ProtocolError(f"hello: unknown value type {value_type}")
    device_id = fields.text()
    firmware_version = fields.text()
    channels = tuple(
        ChannelInfo(name=fields.text(), unit=fields.text(), scale=fields.unpack(_FLOAT32)[0])
        for _ in range(fields.byte())
    )
    fields.finish()
    return Hello(
        channels=channels,
        value_type=ValueType(value_type),
        sample_period_us=sample_period_us,
        clock_tick_us=clock_tick_us,
        clock_epoch_ms=clock_epoch_ms,
        boot_id=boot_id,
        sample_count=sample_count,
        device_id=device_id,
        firmware_version=firmware_version,
    )


class _Fields:
    """Reads the fields of a hello one after the other."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._position = 0

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self._take(layout.size))

    def byte(self) -> int:
        return self._take(1)[0]

    def text(self) -> str:
        encoded = self._take(self.byte())
        try:
            return encoded.decode()
        except UnicodeDecodeError as error:
            raise ProtocolError(f"hello: a text is not UTF-8: {encoded!r}") from error

    def finish(self) -> None:
        if len(self._payload) != self._position:
            raise ProtocolError(
                f"hello: {len(self._payload)} bytes where {self._position} were expected"
            )

    def _take(self, size: int) -> bytes:
        start = self._position
        self._position += size
        if self._position > len(self._payload):
            raise ProtocolError(f"hello: cut short at {len(self._payload)} bytes")
        return self._payload[start : self._position]


def _encode_text(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > _MAX_TEXT_SIZE:
        raise ProtocolError(f"a text is longer than {_MAX_TEXT_SIZE} bytes: {text}")
    return bytes([len(encoded)]) + encoded
