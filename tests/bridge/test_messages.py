import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.errors import ProtocolError
from edgelstm_bridge.messages import (
    ChannelInfo,
    Command,
    End,
    Hello,
    Log,
    LogLevel,
    Message,
    Ping,
    Pong,
    Rate,
    Report,
    Sample,
    Start,
    Statistics,
    Stop,
    ValueType,
    decode_message,
)

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
channels = st.lists(
    st.builds(
        ChannelInfo,
        name=names,
        unit=st.text(st.characters(codec="utf-8"), max_size=4),
        scale=st.floats(2**-10, 2**10, width=32),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda channel: channel.name,
).map(tuple)
hellos = st.builds(
    Hello,
    channels=channels,
    value_type=st.sampled_from(ValueType),
    sample_period_us=st.integers(0, 2**32 - 1),
    clock_tick_us=st.integers(1, 2**32 - 1),
    clock_epoch_ms=st.integers(-(2**63), 2**63 - 1),
    boot_id=st.integers(0, 2**32 - 1),
    sample_count=st.integers(0, 2**32 - 1),
    device_id=names,
    firmware_version=names,
)


def hello_of(value_type: ValueType, *scales: float) -> Hello:
    channels = tuple(ChannelInfo(f"c{i}", "V", scale) for i, scale in enumerate(scales))
    return Hello(channels=channels, value_type=value_type)


@given(hellos)
def test_hello_round_trip(hello: Hello) -> None:
    assert decode_message(hello.encode(), None) == hello


numbers = st.integers(0, 2**32 - 1)
short_messages = st.one_of(
    st.sampled_from([Start(), Stop(), Report()]),
    st.builds(End, numbers),
    st.builds(Pong, numbers, numbers),
    st.builds(Statistics, numbers, numbers, numbers, numbers),
    st.builds(Ping, numbers),
    st.builds(Rate, numbers),
    st.builds(Log, st.sampled_from(LogLevel), st.text(st.characters(codec="utf-8"))),
)


@given(short_messages)
def test_short_messages_round_trip(message: End | Log | Command) -> None:
    decoded: Message = decode_message(message.encode(), None)
    assert decoded == message


@given(
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=8),
)
def test_integer_samples_round_trip(sequence: int, clock: int, raw: list[int]) -> None:
    hello = hello_of(ValueType.INT16, *[0.25] * len(raw))
    sample = Sample(sequence, clock, tuple(value * 0.25 for value in raw))
    assert decode_message(sample.encode(hello), hello) == sample


@pytest.mark.parametrize(
    ("value_type", "scale", "value", "received"),
    [
        (ValueType.INT16, 0.5, 1.3, 1.5),  # 2.6 -> 3
        (ValueType.INT16, 0.5, -1.3, -1.5),
        (ValueType.INT16, -2.0, 6.0, 6.0),
        (ValueType.INT16, 1.0, 40_000.0, 32_767.0),
        (ValueType.INT16, 1.0, -40_000.0, -32_768.0),
        (ValueType.INT16, 1.0, math.inf, 32_767.0),
        (ValueType.INT32, 1.0, 3e9, 2_147_483_647.0),
        (ValueType.INT32, 1.0, -3e9, -2_147_483_648.0),
        (ValueType.INT32, 0.125, 123_456.125, 123_456.125),
        (ValueType.FLOAT32, 1.0, 0.75, 0.75),
        (ValueType.FLOAT32, 4.0, 3.0, 3.0),
        (ValueType.FLOAT32, 1.0, -math.inf, -math.inf),
    ],
)
def test_values_are_scaled_rounded_and_saturated(
    value_type: ValueType, scale: float, value: float, received: float
) -> None:
    hello = hello_of(value_type, scale)
    decoded = decode_message(Sample(0, 0, (value,)).encode(hello), hello)
    assert isinstance(decoded, Sample)
    assert decoded.values == (received,)


def test_scale_is_held_as_the_float32_of_the_wire() -> None:
    # Were 0.1 kept in double precision, an int32 of 1.5e9 would come back 2 units off.
    hello = hello_of(ValueType.INT32, 0.1)
    received_hello = decode_message(hello.encode(), None)
    assert isinstance(received_hello, Hello)
    decoded = decode_message(Sample(0, 0, (150_000_000.0,)).encode(hello), received_hello)
    assert isinstance(decoded, Sample)
    assert decoded.values[0] == pytest.approx(150_000_000.0, abs=0.06)


def test_counts_wrap() -> None:
    hello = hello_of(ValueType.FLOAT32, 1.0)
    decoded = decode_message(Sample(65_536 + 5, 2**32 + 7, (0.0,)).encode(hello), hello)
    assert decoded == Sample(5, 7, (0.0,))
    assert decode_message(End(2**32 + 3).encode(), None) == End(3)


@pytest.mark.parametrize(
    ("value_type", "values", "reason"),
    [
        (ValueType.INT16, (math.nan,), "NaN"),
        (ValueType.FLOAT32, (1e300,), "float32"),
        (ValueType.FLOAT32, (1.0, 2.0), "2 values"),
        (ValueType.FLOAT32, (), "0 values"),
    ],
)
def test_what_cannot_be_carried_is_refused(
    value_type: ValueType, values: tuple[float, ...], reason: str
) -> None:
    with pytest.raises(ProtocolError, match=reason):
        Sample(0, 0, values).encode(hello_of(value_type, 1.0))


@pytest.mark.parametrize("scale", [0.0, -0.0, math.nan, math.inf, 1e-60, 1e60])
def test_scale_must_be_finite_and_not_zero(scale: float) -> None:
    with pytest.raises(ProtocolError, match="channel t: a scale must be"):
        ChannelInfo("t", "C", scale)


def test_channels_are_named_unique_and_limited() -> None:
    with pytest.raises(ProtocolError, match="no name"):
        ChannelInfo("")
    with pytest.raises(ProtocolError, match="same name: a, b, a"):
        Hello(channels=tuple(ChannelInfo(name) for name in "aba"))
    with pytest.raises(ProtocolError, match="1 to 64 channels, not 0"):
        Hello(channels=())
    with pytest.raises(ProtocolError, match="1 to 64 channels, not 65"):
        Hello(channels=tuple(ChannelInfo(f"c{i}") for i in range(65)))


def test_hello_fields_that_do_not_fit_are_refused() -> None:
    channel = (ChannelInfo("t"),)
    with pytest.raises(ProtocolError, match="tick"):
        Hello(channels=channel, clock_tick_us=0)
    with pytest.raises(ProtocolError, match="does not fit"):
        Hello(channels=channel, sample_period_us=2**32).encode()
    with pytest.raises(ProtocolError, match="longer than 255 bytes"):
        Hello(channels=channel, device_id="x" * 256).encode()


HELLO = hello_of(ValueType.INT16, 0.5)


@pytest.mark.parametrize(
    "payload",
    [
        HELLO.encode(),
        Sample(0, 0, (1.0,)).encode(HELLO),
        End(1).encode(),
        Pong(1, 2).encode(),
        Statistics(1, 2, 3, 4).encode(),
        Ping(1).encode(),
        Rate(1).encode(),
        b"\x11",
        b"\x12",
        b"\x15",
    ],
)
def test_lengths_are_exact(payload: bytes) -> None:
    decode_message(payload, HELLO)
    with pytest.raises(ProtocolError):
        decode_message(payload + b"\0", HELLO)
    for size in range(1, len(payload)):
        with pytest.raises(ProtocolError):
            decode_message(payload[:size], HELLO)


def test_a_log_takes_what_it_gets() -> None:
    assert decode_message(b"\x04\x07\xff!", None) == Log(LogLevel.ERROR, "\ufffd!")
    assert decode_message(b"\x04\x01", None) == Log(LogLevel.INFO, "")
    with pytest.raises(ProtocolError, match="log: cut short"):
        decode_message(b"\x04", None)


def test_malformed_hellos_say_what_is_wrong() -> None:
    good = HELLO.encode()
    assert good.count(b"\x01V") == 1  # the unit
    with pytest.raises(ProtocolError, match="not UTF-8"):
        decode_message(good.replace(b"\x01V", b"\x01\xff"), None)
    with pytest.raises(ProtocolError, match="value type 3"):
        decode_message(good[:2] + b"\x03" + good[3:], None)
    with pytest.raises(ProtocolError, match="scale"):
        decode_message(good[:-4] + struct.pack("<f", math.nan), None)


def test_another_version_is_named_however_it_goes_on() -> None:
    with pytest.raises(ProtocolError, match="protocol version 2, this edgelstm version 1"):
        decode_message(b"\x01\x02", None)


def test_unknown_types_and_samples_without_hello_are_refused() -> None:
    with pytest.raises(ProtocolError, match="0x7F"):
        decode_message(b"\x7f", HELLO)
    with pytest.raises(ProtocolError, match="before any hello"):
        decode_message(Sample(0, 0, (1.0,)).encode(HELLO), None)
