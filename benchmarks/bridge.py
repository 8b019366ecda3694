"""What the bridge costs: `python benchmarks/bridge.py`, about a minute.

Decoding is bytes in memory to readings, on one core, beside a bare loop that checks nothing,
numbers nothing and dates nothing. The streams come from a process of its own through a
pseudo-terminal; the delay is that from the write of a frame to its reading. Exits with 1 when a
bar falls short.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import struct
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bars import Bar, print_bars

from edgelstm.benchmark.machine import cores, cpu_name
from edgelstm.reading import Reading
from edgelstm_bridge.codec import CRC_SIZE, cobs_decode, encode_frame
from edgelstm_bridge.formats import Format
from edgelstm_bridge.frame_receiver import FrameReceiver
from edgelstm_bridge.messages import ChannelInfo, Hello, Sample, ValueType
from edgelstm_bridge.receiver import Receiver
from edgelstm_bridge.sources import open_source
from edgelstm_bridge.text_receiver import TextReceiver

CHANNELS = 8
CHUNK = 4096
READINGS = 50_000
ROUNDS = 9
FRAMES_BAR = 150_000.0
LINES_BAR = 100_000.0

STREAM_CHANNELS = 7  # of int16: frames of 25 bytes
MBAUD_RATE = 2_000_000 / 10 / 25
CORE_BAR = 0.15
DELAY_BAR_MS = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables and the bars; 1 when one falls short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each stream")
    parser.add_argument("--no-bars", action="store_true", help="exit with 0 whatever falls short")
    parser.add_argument("--be-the-device", type=float, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.be_the_device:
        be_the_device(*options.be_the_device)
        return 0
    frames, lines = decoding()
    streams = streaming(options.seconds)
    fast = streams["2 Mbaud"]
    hold = print_bars(
        [
            Bar("readings/s from frames, worst type", frames, FRAMES_BAR, True, "{:,.0f}"),
            Bar("readings/s from CSV", lines, LINES_BAR, True, "{:,.0f}"),
            Bar("of a core at 2 Mbaud", fast.core, CORE_BAR, False, "{:.1%}"),
            Bar("lost at 2 Mbaud", float(fast.lost), 0.0, False, "{:.0f}"),
            *(
                Bar(f"ms p99 at {name}", stream.p99 * 1e3, DELAY_BAR_MS, False)
                for name, stream in streams.items()
            ),
        ]
    )
    print(f"\n{cpu_name()}, {cores()} cores; decoding is the median of {ROUNDS} rounds.")
    return 0 if options.no_bars else int(not hold)


def decoding() -> tuple[float, float]:
    """Returns readings a second from frames, of the slowest value type, and from CSV."""
    rng = random.Random(1)  # noqa: S311 - the same numbers each time
    print(f"{f'{CHANNELS} channels, in chunks of 4 KiB':<36}{'readings/s':>12}{'bare loop':>12}")
    frames = []
    for value_type in ValueType:
        hello = Hello(
            tuple(ChannelInfo(f"c{i}", scale=0.5) for i in range(CHANNELS)),
            value_type,
            sample_period_us=100,
            clock_tick_us=1,
        )
        samples = [Sample(i, 100 * i, _values(rng)).encode(hello) for i in range(READINGS)]
        stream = b"".join(map(encode_frame, samples))
        frames.append(_compare_frames(hello, stream))
    lines = b"".join(
        ",".join(f"{value:.3f}" for value in _values(rng)).encode() + b"\n" for _ in range(READINGS)
    )
    header = ",".join(f"c{i}" for i in range(CHANNELS)).encode() + b"\n"
    csv = _compare(
        "lines of CSV",
        lambda: _receive(TextReceiver(Format.parse("csv"), whole_start=True), header + lines),
        lambda: _bare_lines(lines),
    )
    return min(frames), csv


class Stream(NamedTuple):
    """How a stream went: share of a core, frames lost, and the delays in seconds."""

    core: float
    lost: int
    median: float
    p99: float


def streaming(seconds: float) -> dict[str, Stream]:
    """Returns how it went at several rates."""
    print(
        f"\n{f'pseudo-terminal to reading, {seconds:g} s each':<36}"
        f"{'readings/s':>12}{'lost':>8}{'of a core':>11}{'median':>10}{'p99':>10}{'worst':>10}"
    )
    rates = {"100 Hz": 100.0, "1 kHz": 1000.0, "2 Mbaud": MBAUD_RATE}
    return {name: _stream(name, rate, seconds) for name, rate in rates.items()}


def be_the_device(rate: float, seconds: float) -> None:
    """Sends frames of 25 bytes with this machine's time, those of a millisecond at once."""
    hello = Hello(
        tuple(ChannelInfo(f"c{i}") for i in range(STREAM_CHANNELS)),
        ValueType.INT16,
        sample_period_us=round(1e6 / rate),
        clock_tick_us=1,
        boot_id=1,
        device_id="bench",
    )
    master, slave = os.openpty()
    tty.setraw(slave)
    print(os.ttyname(slave), flush=True)
    os.read(master, 1)
    greeting = encode_frame(hello.encode())
    os.write(master, greeting + greeting)
    time.sleep(0.3)
    began = time.monotonic()
    number = 0
    layout = struct.Struct("<hh")
    while (now := time.monotonic()) < began + seconds:
        frames = bytearray()
        while number < (now - began) * rate:
            stamp = (time.monotonic_ns() // 1000) & 0xFFFFFFFF
            values = (
                *layout.unpack(stamp.to_bytes(4, "little")),
                *(0x101,) * (STREAM_CHANNELS - 2),
            )
            frames += encode_frame(Sample(number, stamp, values).encode(hello))
            number += 1
        os.write(master, frames)
        time.sleep(max(0.001, began + number / rate - time.monotonic()))
    time.sleep(1.0)


def _stream(name: str, rate: float, seconds: float) -> Stream:
    command = [sys.executable, __file__, "--be-the-device", str(rate), str(seconds)]
    delays = []
    layout = struct.Struct("<hh")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as device:
        port = device.stdout.readline().strip() if device.stdout else ""
        with open_source(port, format="frames", reconnect=False) as source:
            readings = iter(source)
            next(readings)
            wall, cpu = time.monotonic(), time.process_time()
            for _ in range(int(rate * seconds * 0.9)):
                values = next(readings).values
                now = time.monotonic_ns() // 1000
                sent = int.from_bytes(layout.pack(int(values[0]), int(values[1])), "little")
                delays.append(((now - sent) & 0xFFFFFFFF) / 1e6)
            wall, cpu = time.monotonic() - wall, time.process_time() - cpu
            lost = source.counters.lost + source.counters.overflow
        device.terminate()
    delays.sort()
    stream = Stream(cpu / wall, lost, statistics.median(delays), delays[int(0.99 * len(delays))])
    print(
        f"{name:<36}{len(delays) / wall:>12,.0f}{lost:>8}{stream.core:>11.1%}"
        f"{1e3 * stream.median:>7.2f} ms{1e3 * stream.p99:>7.2f} ms{1e3 * delays[-1]:>7.2f} ms",
        flush=True,
    )
    return stream


def _values(rng: random.Random) -> tuple[float, ...]:
    return tuple(rng.uniform(-1000, 1000) for _ in range(CHANNELS))


def _compare_frames(hello: Hello, stream: bytes) -> float:
    return _compare(
        f"frames of {hello.value_type.name.lower()}",
        lambda: _receive(FrameReceiver(), encode_frame(hello.encode()) + stream),
        lambda: _bare_frames(hello, stream),
    )


def _compare(name: str, ours: Callable[[], int], bare: Callable[[], int]) -> float:
    """Prints and returns readings a second, the median of rounds in turns."""
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for run, found in zip((ours, bare), rates, strict=True):
            began = time.process_time()
            count = run()
            found.append(count / (time.process_time() - began))
            if count != READINGS:
                raise SystemExit(f"{name}: {count} of {READINGS} readings came out")
    own, other = map(statistics.median, rates)
    print(f"{name:<36}{own:>12,.0f}{other:>12,.0f}   {own / other:.2f} x", flush=True)
    return own


def _receive(receiver: Receiver, stream: bytes) -> int:
    now, count = 100.0, 0
    receiver.connected(now)
    for start in range(0, len(stream), CHUNK):
        now += 0.01
        events = receiver.receive(stream[start : start + CHUNK], now, 1.7e9)
        count += sum(type(event) is Reading for event in events)
    last = receiver.finish(now, 1.7e9)
    return count + sum(type(event) is Reading for event in last)


def _bare_frames(hello: Hello, stream: bytes) -> int:
    layout, rest, count = hello.sample_layout, b"", 0
    for start in range(0, len(stream), CHUNK):
        *frames, rest = (rest + stream[start : start + CHUNK]).split(b"\0")
        for frame in frames:
            layout.unpack(cobs_decode(frame)[:-CRC_SIZE])
            count += 1
    return count


def _bare_lines(stream: bytes) -> int:
    rest, count = b"", 0
    for start in range(0, len(stream), CHUNK):
        *lines, rest = (rest + stream[start : start + CHUNK]).split(b"\n")
        for line in lines:
            tuple(map(float, line.split(b",")))
            count += 1
    return count


if __name__ == "__main__":
    sys.exit(main())
