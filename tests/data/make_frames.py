"""Makes `frames.json`: what the Python, C and MicroPython sides of the protocol must agree on.

Run it again after a change of the protocol: python tests/data/make_frames.py [FILE]. All bytes are
in hexadecimal.

- `crc16`: `data` and its `crc`, a number;
- `cobs`: `data` and the `encoded` bytes, without the 0x00 that ends a frame;
- `payloads`: any `payload` and the whole `frame`: the edges of COBS blocks, and the longest one;
- `hellos`: by name, the fields of a hello with its `payload` and `frame`;
- `samples`: of the device with the `hello` of that name: `values` as they are on the wire;
- `messages`: all others, by `type`, with their fields;
- `bad_commands`: frames that a device must count and ignore, each with a `reason`.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgelstm_bridge.codec import cobs_encode, crc16, encode_frame
from edgelstm_bridge.hello import ChannelInfo, Hello, ValueType
from edgelstm_bridge.messages import (
    Command,
    End,
    Log,
    LogLevel,
    Ping,
    Pong,
    Rate,
    Report,
    Sample,
    Start,
    Statistics,
    Stop,
)

HERE = Path(__file__).parent
LARGEST_FLOAT32 = (2 - 2**-23) * 2**127


def span(first: int, last: int) -> bytes:
    return bytes(range(first, last + 1))


def cobs_data() -> Iterable[bytes]:
    """The examples of the COBS article on Wikipedia, and the edges of a block."""
    yield from (b"", b"\0", b"\0\0", b"\0\x11\0", b"\x11\x22\0\x33", b"\x11\x22\x33\x44")
    yield from (b"\x11\0\0\0", span(1, 0xFE), span(0, 0xFE), span(1, 0xFF))
    yield from (span(2, 0xFF) + b"\0", span(3, 0xFF) + b"\0\x01")
    for size in (253, 254, 255, 507, 508, 509):
        yield b"\x07" * size
        yield b"\x07" * size + b"\0"
        yield b"\0" + b"\x07" * size


def payloads() -> Iterable[bytes]:
    """Payloads whose body, with the CRC, ends around the end of a block, or in 0x00."""
    yield from (b"\x7f", b"\0", b"\0" * 16, b"\0" * 1024, b"\xff" * 1024, span(0, 0xFF) * 4)
    for size in (250, 251, 252, 253, 254, 504, 505, 506, 507, 1023):
        yield b"\x7f" * size
    for size in (250, 251, 252, 253):
        for crc in ("low is 0", "high is 0", "no 0"):
            yield _with_crc(size, crc)


def _with_crc(size: int, wish: str) -> bytes:
    """Return a payload without 0x00 whose CRC has, or has not, a byte that is 0."""
    for value in range(1, 2**16):
        tail = bytes([value >> 8 or 1, value & 0xFF or 1])
        payload = b"\x55" * (size - 2) + tail
        high, low = divmod(crc16(payload), 256)
        if {"low is 0": not low and high, "high is 0": low and not high}.get(wish, low and high):
            return payload
    raise AssertionError(size, wish)


def channels(*names: str) -> tuple[ChannelInfo, ...]:
    return tuple(ChannelInfo(name) for name in names)


HELLOS = {
    "int16": Hello(
        channels=(ChannelInfo("a0", "V", 0.25), ChannelInfo("a1", "", 0.5)),
        value_type=ValueType.INT16,
        sample_period_us=10_000,
        clock_tick_us=1,
        boot_id=7,
        sample_count=258,
        device_id="board",
        firmware_version="1.0.0",
    ),
    "int32": Hello(
        channels=channels("x", "y", "z"),
        value_type=ValueType.INT32,
        sample_period_us=2**32 - 1,
        clock_tick_us=2**32 - 1,
        clock_epoch_ms=-1,
        boot_id=2**32 - 1,
        sample_count=2**32 - 1,
    ),
    "float32": Hello(
        channels=(
            ChannelInfo("Vorlauf Süd", "°C", 0.1),
            ChannelInfo("流量", "m³/h", -LARGEST_FLOAT32),
        ),
        value_type=ValueType.FLOAT32,
        clock_tick_us=1000,
        clock_epoch_ms=1_700_000_000_123,
        device_id="é" * 127 + "!",
        firmware_version="v" * 255,
    ),
    "64 channels": Hello(
        channels=channels(*(f"channel{i:02}" for i in range(64))),
        value_type=ValueType.FLOAT32,
        sample_period_us=1,
        device_id="all",
    ),
}

SAMPLES: list[tuple[str, int, int, tuple[float, ...]]] = [
    ("int16", 0, 0, (0, 0)),
    ("int16", 65_535, 2**32 - 1, (-32_768, 32_767)),
    ("int16", 258, 0x04030201, (-1, 256)),
    ("int32", 1, 256, (-(2**31), 2**31 - 1, 0)),
    ("int32", 2, 65_536, (1, -1, 0x01020304)),
    ("float32", 3, 2**24, (1.5, -0.0)),
    ("float32", 4, 5, (LARGEST_FLOAT32, 2**-149)),
    ("float32", 5, 6, (math.inf, -math.inf)),
    ("64 channels", 6, 7, tuple(i / 8 - 4 for i in range(64))),
]

MESSAGES: list[End | Log | Pong | Statistics | Command] = [
    End(0),
    End(2**32 - 1),
    Log(LogLevel.INFO, ""),
    Log(LogLevel.ERROR, "sensor at 0x68: kein Gerät"),
    Log(LogLevel.DEBUG, "x" * 1022),
    Pong(1, 0x01020304),
    Pong(2**32 - 1, 0),
    Statistics(1, 2, 3, 4),
    Statistics(2**32 - 1, 256, 65_536, 2**24),
    Stop(),
    Start(),
    Ping(0),
    Ping(0x0A0B0C0D),
    Ping(0x01010101),
    Rate(1),
    Rate(10_000),
    Rate(2**32 - 1),
    Report(),
]


def carried(value: float) -> float | str:
    """JSON knows no infinity."""
    return value if math.isfinite(value) else str(value)


def bad_commands() -> Iterable[tuple[str, bytes]]:
    start = encode_frame(Start().encode())
    damaged = bytearray(start)
    damaged[1] ^= 1
    yield "CRC", bytes(damaged)
    yield "CRC, the higher byte", bytes([*start[:-2], start[-2] ^ 0x80, 0])
    yield "cut short", start[:-2] + b"\0"
    yield "without CRC", cobs_encode(Start().encode()) + b"\0"
    yield "CRC only", cobs_encode(b"\xff\xff") + b"\0"
    yield "unknown type", encode_frame(b"\x7f")
    yield "of a device", encode_frame(End(1).encode())
    yield "start with an argument", encode_frame(Start().encode() + b"\0")
    yield "ping without a token", encode_frame(b"\x13")
    yield "ping, one byte short", encode_frame(Ping(0).encode()[:-1])
    yield "ping, one byte long", encode_frame(Ping(0).encode() + b"\0")
    yield "rate of 0", encode_frame(Rate(0).encode())
    yield "rate, one byte long", encode_frame(Rate(1).encode() + b"\x01")
    yield "longest command", encode_frame(b"\x12" + b"\x01" * 15)
    yield "longer than any command", encode_frame(b"\x12" + b"\x01" * 16)
    yield "much longer", encode_frame(b"\x12" * 1024)


def make() -> dict[str, Any]:
    crc_data = [b"", b"123456789", b"\0", b"\xff", b"\0\0\0", b"A", span(0, 0xFF)]
    return {
        "crc16": [{"data": data.hex(), "crc": crc16(data)} for data in crc_data],
        "cobs": [{"data": data.hex(), "encoded": cobs_encode(data).hex()} for data in cobs_data()],
        "payloads": [framed(payload) for payload in payloads()],
        "hellos": {name: asdict(hello) | framed(hello.encode()) for name, hello in HELLOS.items()},
        "samples": [
            {
                "hello": name,
                "sequence_number": number,
                "device_clock": clock,
                "values": [carried(value) for value in values],
                **framed(_sample(HELLOS[name], number, clock, values)),
            }
            for name, number, clock, values in SAMPLES
        ],
        "messages": [
            {"type": type(message).__name__.lower(), **asdict(message), **framed(message.encode())}
            for message in MESSAGES
        ],
        "bad_commands": [
            {"reason": reason, "frame": frame.hex()} for reason, frame in bad_commands()
        ],
    }


def _sample(hello: Hello, number: int, clock: int, values: tuple[float, ...]) -> bytes:
    """Return the payload with these values on the wire: no scale, and infinity as it is."""
    if any(map(math.isinf, values)):
        return hello.sample_layout.pack(2, number, clock, *values)
    plain = Hello(
        channels=channels(*(channel.name for channel in hello.channels)),
        value_type=hello.value_type,
    )
    payload = Sample(number, clock, values).encode(plain)
    assert struct.unpack_from("<BHI", payload) == (2, number, clock)
    return payload


def framed(payload: bytes) -> dict[str, str]:
    return {"payload": payload.hex(), "frame": encode_frame(payload).hex()}


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "frames.json"
    path.write_text(json.dumps(make(), indent=1, ensure_ascii=False) + "\n")
