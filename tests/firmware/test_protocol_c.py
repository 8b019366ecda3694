"""The encoder and the command receiver in C, compiled for this machine with sanitizers."""

import math
import random
import struct
from collections import Counter
from collections.abc import Iterator

import pytest
from building import LIBRARY, STRICT, host_program, needs_host_compiler, run
from host_process import HostProcess
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors import HELLOS, VECTORS

from edgelstm.errors import ProtocolError
from edgelstm_bridge.codec import decode_frame, encode_frame
from edgelstm_bridge.hello import ChannelInfo, Hello, ValueType
from edgelstm_bridge.messages import (
    Command,
    End,
    Log,
    LogLevel,
    Message,
    Ping,
    Pong,
    Rate,
    Report,
    Start,
    Statistics,
    Stop,
    decode_message,
)

pytestmark = needs_host_compiler

BAD = 1

u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
commands = st.one_of(
    st.sampled_from([Start(), Stop(), Report()]),
    st.builds(Ping, u32),
    st.builds(Rate, st.integers(1, 2**32 - 1)),
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
channels = st.lists(
    st.builds(
        ChannelInfo,
        name=texts.filter(bool),
        unit=texts,
        scale=st.floats(width=32, allow_nan=False, allow_infinity=False).filter(bool),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda channel: channel.name,
).map(tuple)
hellos = st.builds(
    Hello,
    channels=channels,
    value_type=st.sampled_from(ValueType),
    sample_period_us=u32,
    clock_tick_us=st.integers(1, 2**32 - 1),
    clock_epoch_ms=st.integers(-(2**63), 2**63 - 1),
    boot_id=u32,
    sample_count=u32,
    device_id=texts,
    firmware_version=texts,
)


@pytest.fixture(scope="module", params=[(), ("-DEDGELSTM_SMALL_CRC",)], ids=["fast", "small"])
def program(request: pytest.FixtureRequest) -> Iterator[HostProcess]:
    with HostProcess(host_program("protocol_host", *request.param)) as process:
        yield process


def bits(value: float) -> int:
    number: int = struct.unpack("<I", struct.pack("<f", value))[0]
    return number


def device(hello: Hello) -> list[object]:
    epoch = hello.clock_epoch_ms % 2**64
    return [
        int(hello.value_type),
        hello.clock_tick_us,
        *(epoch % 2**32, epoch >> 32),
        *(hello.device_id.encode(), hello.firmware_version.encode()),
        *channel_words(*((c.name, c.unit, c.scale) for c in hello.channels)),
    ]


def channel_words(*channels: tuple[str, str, float]) -> list[object]:
    """Channels that `ChannelInfo` might refuse."""
    words: list[object] = [len(channels)]
    for name, unit, scale in channels:
        words += [name.encode(), unit.encode(), bits(scale)]
    return words


def hello_frame(program: HostProcess, hello: Hello) -> bytes:
    run = hello.sample_period_us, hello.boot_id, hello.sample_count
    return bytes.fromhex(program.ask("hello", *device(hello), *run))


def sample_frame(
    program: HostProcess, hello: Hello, number: int, clock: int, values: list[float]
) -> bytes:
    if hello.value_type is ValueType.FLOAT32:
        values = [bits(value) for value in values]
    head = int(hello.value_type), number, clock, len(values)
    return bytes.fromhex(program.ask("sample", *head, *values))


def message_frame(program: HostProcess, message: Message) -> bytes:
    match message:
        case Log(level, text):
            answer = program.ask("log", int(level), text.encode())
        case End(sample_count):
            answer = program.ask("end", sample_count)
        case Pong(token, clock):
            answer = program.ask("pong", token, clock)
        case Statistics(due, dropped, overruns, bad):
            answer = program.ask("statistics", due, dropped, overruns, bad)
        case _:
            raise AssertionError(message)
    return bytes.fromhex(answer)


def received(program: HostProcess, data: bytes) -> list[tuple[int, int]]:
    """What the receiver makes of some bytes: types and arguments."""
    pairs = (found.split(":") for found in program.ask("commands", data).split())
    return [(int(kind), int(argument)) for kind, argument in pairs]


def meaning(command: Command) -> tuple[int, int]:
    payload = command.encode()
    return payload[0], int.from_bytes(payload[1:], "little")


# --- the vectors ---


def test_crc_vectors(program: HostProcess) -> None:
    for entry in VECTORS["crc16"]:
        assert int(program.ask("crc", bytes.fromhex(entry["data"]))) == entry["crc"]


def test_payload_vectors(program: HostProcess) -> None:
    every = [*VECTORS["payloads"], *VECTORS["messages"], *VECTORS["samples"]]
    for entry in [*every, *VECTORS["hellos"].values()]:
        assert program.ask("payload", bytes.fromhex(entry["payload"])) == entry["frame"]


def test_hello_vectors(program: HostProcess) -> None:
    for name, hello in HELLOS.items():
        assert hello_frame(program, hello).hex() == VECTORS["hellos"][name]["frame"]


def test_sample_vectors(program: HostProcess) -> None:
    for entry in VECTORS["samples"]:
        values = [float(value) for value in entry["values"]]
        hello = HELLOS[entry["hello"]]
        if hello.value_type is not ValueType.FLOAT32:
            values = list(map(int, values))
        frame = sample_frame(
            program, hello, entry["sequence_number"], entry["device_clock"], values
        )
        assert frame.hex() == entry["frame"]


def test_message_vectors(program: HostProcess) -> None:
    for entry in VECTORS["messages"]:
        message = decode_message(bytes.fromhex(entry["payload"]), None)
        if isinstance(message, Command):
            frame = bytes.fromhex(entry["frame"])
            assert received(program, frame) == [meaning(message)]
        else:
            assert message_frame(program, message).hex() == entry["frame"]


def test_bad_commands_are_counted(program: HostProcess) -> None:
    good = encode_frame(Ping(9).encode())
    for entry in VECTORS["bad_commands"]:
        found = received(program, bytes.fromhex(entry["frame"]) + good)
        assert found == [(BAD, 0), meaning(Ping(9))], entry["reason"]


# --- round trips ---


@settings(deadline=None)
@given(hello=hellos)
def test_hello_round_trip(program: HostProcess, hello: Hello) -> None:
    frame = hello_frame(program, hello)
    assert frame == encode_frame(hello.encode())
    assert decode_message(decode_frame(frame[:-1]), None) == hello


@settings(deadline=None)
@given(st.data())
def test_sample_round_trip(program: HostProcess, data: st.DataObject) -> None:
    hello = data.draw(st.sampled_from(list(HELLOS.values())))
    value = {
        ValueType.INT16: st.integers(-(2**15), 2**15 - 1),
        ValueType.INT32: st.integers(-(2**31), 2**31 - 1),
        ValueType.FLOAT32: st.floats(width=32, allow_nan=False),
    }[hello.value_type]
    size = len(hello.channels)
    values: list[float] = data.draw(st.lists(value, min_size=size, max_size=size))
    number, clock = data.draw(u16), data.draw(u32)
    frame = sample_frame(program, hello, number, clock, values)
    assert frame == encode_frame(hello.sample_layout.pack(2, number, clock, *values))


@settings(deadline=None)
@given(
    message=st.one_of(
        st.builds(End, u32),
        st.builds(Pong, u32, u32),
        st.builds(Statistics, u32, u32, u32, u32),
        st.builds(Log, st.sampled_from(LogLevel), texts),
    )
)
def test_message_round_trip(program: HostProcess, message: Message) -> None:
    frame = message_frame(program, message)
    assert decode_message(decode_frame(frame[:-1]), None) == message


runs = st.lists(st.tuples(st.sampled_from(b"\x00\x01\xff"), st.integers(0, 260)), max_size=4)


@settings(deadline=None)
@given(payload=runs.map(lambda pairs: b"".join(bytes([b]) * n for b, n in pairs)))
def test_any_payload(program: HostProcess, payload: bytes) -> None:
    payload = payload[:1024] or b"\0"
    assert program.ask("payload", payload) == encode_frame(payload).hex()


@settings(deadline=None)
@given(sent=st.lists(commands, max_size=5))
def test_commands_round_trip(program: HostProcess, sent: list[Command]) -> None:
    data = b"".join(encode_frame(command.encode()) for command in sent)
    assert received(program, b"\0" + data) == list(map(meaning, sent))


# --- limits ---


def test_a_log_is_cut_where_the_payload_is_full(program: HostProcess) -> None:
    frame = message_frame(program, Log(LogLevel.INFO, "y" * 2000))
    assert decode_message(decode_frame(frame[:-1]), None) == Log(LogLevel.INFO, "y" * 1022)


def test_a_text_is_cut_at_255_bytes(program: HostProcess) -> None:
    hello = Hello(channels=(ChannelInfo("n" * 300, "u" * 256),))
    payload = decode_frame(hello_frame(program, hello)[:-1])
    assert decode_message(payload, None) == Hello(channels=(ChannelInfo("n" * 255, "u" * 255),))


def is_valid(program: HostProcess, *words: object) -> bool:
    return program.ask("valid", *words) == "1"


def with_names(*names: str) -> list[object]:
    return [0, 1, 0, 0, "-", "-", *channel_words(*((name, "", 1.0) for name in names))]


def with_scale(scale: float) -> list[object]:
    return [0, 1, 0, 0, "-", "-", *channel_words(("c", "", scale))]


def test_descriptions_that_are_valid(program: HostProcess) -> None:
    for hello in HELLOS.values():
        assert is_valid(program, *device(hello))
    assert is_valid(program, *with_names("n" * 255))
    assert is_valid(program, *with_scale(-1e-45))
    assert is_valid(program, *with_scale(3e38))


@pytest.mark.parametrize(
    "names",
    [[], ["a", "b", "a"], ["a", ""], ["n" * 256], [f"c{i}" for i in range(65)]],
    ids=["none", "twice", "empty", "long", "many"],
)
def test_names_that_are_not_valid(program: HostProcess, names: list[str]) -> None:
    assert not is_valid(program, *with_names(*names))


@pytest.mark.parametrize("scale", [0.0, -0.0, math.inf, -math.inf, math.nan])
def test_scales_that_are_not_valid(program: HostProcess, scale: float) -> None:
    assert not is_valid(program, *with_scale(scale))


def test_other_descriptions_that_are_not_valid(program: HostProcess) -> None:
    channels = channel_words(("a", "", 1.0))
    assert is_valid(program, 0, 1, 0, 0, "-", "-", *channels)
    assert not is_valid(program, 0, 0, 0, 0, "-", "-", *channels), "a clock without ticks"
    assert not is_valid(program, 3, 1, 0, 0, "-", "-", *channels), "an unknown value type"
    assert not is_valid(program, 0, 1, 0, 0, b"i" * 256, "-", *channels)
    assert not is_valid(program, 0, 1, 0, 0, "-", b"v" * 256, *channels)


def test_the_longest_hello_is_valid_and_no_longer_one(program: HostProcess) -> None:
    long = ["n" * 255, "m" * 255, "o" * 255]
    fixed = len(Hello(channels=tuple(map(ChannelInfo, long))).encode()) + len("\x00\x00scal")
    assert is_valid(program, *with_names(*long, "p" * (1024 - fixed)))
    assert not is_valid(program, *with_names(*long, "p" * (1025 - fixed)))


# --- a fuzz run: the C receiver against the Python decoder ---


def classified(frame: bytes) -> int | None:
    """What a device should make of the bytes between two 0x00; None: nothing."""
    if not frame:
        return None
    try:
        payload = decode_frame(frame)
        message = decode_message(payload, None)
    except ProtocolError:
        return BAD
    if not isinstance(message, Command) or message == Rate(0):
        return BAD
    return payload[0]


def mutated_commands(rng: random.Random, size: int) -> bytes:
    """Frames of commands, most of them damaged: bits flipped, bytes lost, doubled or put in."""
    good = [Start(), Stop(), Report(), Ping(0), Ping(0x01020304), Rate(0), Rate(1), Rate(2**32 - 1)]
    frames = [bytearray(encode_frame(command.encode())) for command in good]
    stream = bytearray()
    while len(stream) < size:
        frame = frames[rng.randrange(len(frames))][:]
        for _ in range(rng.choice((0, 0, 1, 1, 2, 5))):
            place = rng.randrange(len(frame))
            action = rng.randrange(4)
            if action == 0:
                frame[place] ^= 1 << rng.randrange(8)
            elif action == 1 and len(frame) > 1:
                del frame[place]
            elif action == 2:
                frame.insert(place, frame[place])
            else:
                frame[place:place] = rng.randbytes(rng.choice((1, 3, 20, 300)))
        stream += frame
    return bytes(stream)


@pytest.mark.parametrize("kind", ["random", "few zeros", "mutated"])
def test_fuzz_of_the_receiver(program: HostProcess, kind: str) -> None:
    size = 2_000_000
    rng = random.Random(kind)  # noqa: S311
    if kind == "mutated":
        data = mutated_commands(rng, size)
    else:
        data = rng.randbytes(size)
        if kind == "few zeros":  # short blocks: more of it is COBS
            data = bytes(byte % 23 for byte in data)
    data += b"\0"
    expected = Counter(filter(None, map(classified, data.split(b"\0"))))
    found = (pair.split(":") for pair in program.ask("count", len(data), raw=data).split())
    assert {int(kind): int(count) for kind, count in found} == dict(expected)
    if kind == "mutated":
        assert set(expected) == {BAD, 0x11, 0x12, 0x13, 0x14, 0x15}


# --- the code itself ---


def test_only_small_headers() -> None:
    allowed = {"<stdbool.h>", "<stddef.h>", "<stdint.h>", "<string.h>"}
    for path in LIBRARY.glob("edgelstm_[!e]*"):
        lines = (line.split() for line in path.read_text().splitlines())
        used = {words[1] for words in lines if words[:1] == ["#include"]}
        assert {header for header in used if header.startswith("<")} <= allowed, path


@pytest.mark.parametrize(
    "flags", [("gcc", "-std=c99"), ("g++", "-std=c++11", "-x", "c++")], ids=["C99", "C++11"]
)
def test_compiles_without_a_warning(flags: tuple[str, ...]) -> None:
    strict = [flag for flag in STRICT if not flag.startswith("-std")]
    for path in LIBRARY.glob("*.c"):
        run(*flags, *strict, "-O2", "-fsyntax-only", path)


def test_functions_take_little_of_the_stack() -> None:
    for path in LIBRARY.glob("edgelstm_[!e]*.c"):
        limits = "-Werror=stack-usage=256", "-Werror=vla"
        run("gcc", "-std=c99", "-O2", *limits, "-c", path, "-o", "/dev/null")
