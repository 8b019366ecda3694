"""Noise and mutated frames through decoder and receivers: only documented errors, flat memory."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest
from fuzzing import mutated, noise

from edgelstm.errors import ProtocolError, SourceError
from edgelstm.reading import Reading
from edgelstm_bridge.auto_receiver import AutoReceiver
from edgelstm_bridge.codec import encode_frame
from edgelstm_bridge.decoder import FrameDecoder
from edgelstm_bridge.frame_receiver import FrameReceiver
from edgelstm_bridge.messages import (
    ChannelInfo,
    Command,
    End,
    Hello,
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
    ValueType,
)
from edgelstm_bridge.receiver import Receiver

SIZE = 300_000
PEAK = 2_000_000  # bytes that a receiver and what it gives for a chunk may take
GROWTH = 20_000

HELLO = Hello(
    (ChannelInfo("a", "V", 0.5), ChannelInfo("b")),
    ValueType.INT16,
    sample_period_us=1000,
    clock_tick_us=100,
    boot_id=1,
    device_id="fuzz",
)
WALL = replace(HELLO, clock_epoch_ms=1_700_000_000_000, value_type=ValueType.FLOAT32, boot_id=2)


def frames(hello: Hello) -> bytes:
    """A stream with every message in it."""
    samples = [encode_frame(Sample(n, 10 * n, (n / 2, -1.0)).encode(hello)) for n in range(200)]
    others: list[Log | End | Pong | Statistics | Command] = [
        Log(LogLevel.INFO, "warm"),
        Pong(1, 100),
        Statistics(200, 1, 2, 3),
        End(200),
        Start(),
        Stop(),
        Ping(1),
        Rate(1000),
        Report(),
    ]
    parts = [encode_frame(hello.encode()), *samples, *(encode_frame(m.encode()) for m in others)]
    return b"".join(parts)


def stream_of(seed: int, size: int) -> Iterator[bytes]:
    """Noise of half the size, then mutated frames."""
    valid = frames(HELLO) + frames(WALL)
    return itertools.chain(noise(seed, size // 2), mutated(valid, seed, size - size // 2))


RECEIVERS = {"frames": FrameReceiver, "auto": AutoReceiver}


def fuzz(kind: str, seed: int, size: int) -> int:
    """Feeds a receiver and returns how many readings came of it; anew after an error."""
    receiver = opened(kind)
    readings, now = 0, 0.0
    for chunk in stream_of(seed, size):
        now += 0.01
        try:
            events = receiver.receive(chunk, now, 1.7e9)
        except (ProtocolError, SourceError):
            receiver = opened(kind)
            continue
        readings += sum(type(event) is Reading for event in events)
        receiver.due(now)
        receiver.missing()
    return readings


def opened(kind: str) -> Receiver:
    receiver: Receiver = RECEIVERS[kind]()
    receiver.connected(0.0)
    return receiver


@pytest.mark.slow
@pytest.mark.parametrize("kind", RECEIVERS)
def test_nothing_breaks_a_receiver(kind: str) -> None:
    tracemalloc.start()
    try:
        fuzz(kind, 0, SIZE // 10)
        before = memory()
        readings = fuzz(kind, 1, SIZE)
        _, peak = tracemalloc.get_traced_memory()
        after = memory()
    finally:
        tracemalloc.stop()
    assert readings > 100
    assert peak < PEAK
    assert after - before < GROWTH


def memory() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_chunks_do_not_matter_to_damage() -> None:
    stream = b"".join(stream_of(2, SIZE))
    assert decoded(stream, 1000) == decoded(stream, 77)


def decoded(stream: bytes, size: int) -> tuple[str, str]:
    decoder = FrameDecoder()
    messages = []
    for start in range(0, len(stream), size):
        try:
            messages += decoder.feed(stream[start : start + size])
        except ProtocolError as error:
            return repr(messages), str(error)
    return repr(messages), repr(decoder.counters)
