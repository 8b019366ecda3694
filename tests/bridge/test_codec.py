import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.errors import ProtocolError
from edgelstm_bridge.codec import (
    MAX_ENCODED_SIZE,
    MAX_FRAME_SIZE,
    MAX_PAYLOAD_SIZE,
    CrcError,
    cobs_decode,
    cobs_encode,
    crc16,
    decode_frame,
    encode_frame,
)
from edgelstm_bridge.messages import ChannelInfo, Hello, Sample, ValueType

PROTOCOL = Path(__file__).parents[2] / "firmware_bridge" / "PROTOCOL.md"


def span(first: int, last: int) -> bytes:
    return bytes(range(first, last + 1))


# The examples of the COBS article on Wikipedia, and the edges of a 254-byte block.
COBS_VECTORS = [
    (b"", b"\x01"),
    (b"\x00", b"\x01\x01"),
    (b"\x00\x00", b"\x01\x01\x01"),
    (b"\x00\x11\x00", b"\x01\x02\x11\x01"),
    (b"\x11\x22\x00\x33", b"\x03\x11\x22\x02\x33"),
    (b"\x11\x22\x33\x44", b"\x05\x11\x22\x33\x44"),
    (b"\x11\x00\x00\x00", b"\x02\x11\x01\x01\x01"),
    (span(0x01, 0xFD), b"\xfe" + span(0x01, 0xFD)),
    (span(0x01, 0xFE), b"\xff" + span(0x01, 0xFE)),
    (span(0x00, 0xFE), b"\x01\xff" + span(0x01, 0xFE)),
    (span(0x01, 0xFF), b"\xff" + span(0x01, 0xFE) + b"\x02\xff"),
    (span(0x02, 0xFF) + b"\x00", b"\xff" + span(0x02, 0xFF) + b"\x01\x01"),
    (span(0x03, 0xFF) + b"\x00\x01", b"\xfe" + span(0x03, 0xFF) + b"\x02\x01"),
    (b"\x07" * 508, (b"\xff" + b"\x07" * 254) * 2),
]


def test_crc_has_the_published_check_value() -> None:
    assert crc16(b"123456789") == 0x29B1
    assert crc16(b"") == 0xFFFF


@pytest.mark.parametrize(("data", "encoded"), COBS_VECTORS)
def test_cobs_vectors(data: bytes, encoded: bytes) -> None:
    assert cobs_encode(data) == encoded
    assert cobs_decode(encoded) == data


# Few distinct bytes make runs around the block length and zeros at the edges likely.
runs = st.lists(st.tuples(st.sampled_from(b"\x00\x01\xff"), st.integers(0, 260)), max_size=6)


@given(runs)
def test_cobs_round_trip(parts: list[tuple[int, int]]) -> None:
    data = b"".join(bytes([value]) * count for value, count in parts)
    encoded = cobs_encode(data)
    assert 0 not in encoded
    assert len(encoded) <= len(data) + max(1, -(-len(data) // 254))
    assert cobs_decode(encoded) == data


@given(st.binary(min_size=1, max_size=MAX_PAYLOAD_SIZE))
def test_frame_round_trip(payload: bytes) -> None:
    frame = encode_frame(payload)
    assert frame.index(0) == len(frame) - 1
    assert len(frame) <= MAX_FRAME_SIZE
    assert decode_frame(frame[:-1]) == payload


def test_the_longest_frame_is_exactly_the_maximum() -> None:
    frame = encode_frame(b"\x01" * MAX_PAYLOAD_SIZE)
    assert len(frame) == MAX_FRAME_SIZE == MAX_ENCODED_SIZE + 1 == 1032


@given(st.binary(min_size=1, max_size=40), st.data())
def test_a_frame_with_a_flipped_bit_never_passes_for_the_payload(
    payload: bytes, data: st.DataObject
) -> None:
    encoded = bytearray(encode_frame(payload)[:-1])
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decoded = decode_frame(bytes(encoded))
    except ProtocolError:
        return
    # A flipped code byte may cut the frame elsewhere, which the CRC misses once in 2^16.
    assert decoded != payload


@pytest.mark.parametrize("size", [0, MAX_PAYLOAD_SIZE + 1])
def test_payload_sizes_out_of_range_are_not_encoded(size: int) -> None:
    with pytest.raises(ProtocolError, match=f"this one has {size}"):
        encode_frame(b"x" * size)


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "this one 0"),
        (cobs_encode(b"\xff\xff"), "this one 2"),  # the CRC of nothing, and nothing
        (cobs_encode(b"x" * 1025 + crc16(b"x" * 1025).to_bytes(2, "little")), "this one 1027"),
        (b"\x05\x01\x02\x03", "1 bytes short"),
        (b"\x03\x01", "1 bytes short"),
        (b"\x03\x01\x00\x02\x03", "0x00 inside"),
    ],
)
def test_malformed_frames_say_what_is_wrong(encoded: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason) as caught:
        decode_frame(encoded)
    assert not isinstance(caught.value, CrcError)


def test_a_wrong_crc_shows_both_values() -> None:
    body = b"123456789" + (0x29B0).to_bytes(2, "little")
    with pytest.raises(CrcError, match=r"0x29B0.*0x29B1"):
        decode_frame(cobs_encode(body))


def protocol_example(name: str) -> bytes:
    match = re.search(rf"^    {name}:\s+((?:[0-9A-F]{{2}} ?)+)$", PROTOCOL.read_text(), re.M)
    assert match, f"PROTOCOL.md has no example '{name}'"
    return bytes.fromhex(match[1])


def test_the_example_of_the_protocol_page() -> None:
    hello = Hello(
        channels=(ChannelInfo("t", "C", 0.5),),
        value_type=ValueType.INT16,
        sample_period_us=10_000,
        clock_tick_us=1000,
        boot_id=7,
        sample_count=1,
        device_id="p1",
        firmware_version="7",
    )
    sample = Sample(sequence_number=1, device_clock=10, values=(21.0,))
    assert hello.encode() == protocol_example("hello payload")
    assert encode_frame(hello.encode()) == protocol_example("hello frame")
    assert sample.encode(hello) == protocol_example("sample payload")
    assert encode_frame(sample.encode(hello)) == protocol_example("sample frame")
    assert crc16(sample.encode(hello)).to_bytes(2, "little") == protocol_example("sample CRC")


def test_the_protocol_page_states_the_limits() -> None:
    page = PROTOCOL.read_text()
    assert f"1 to {MAX_PAYLOAD_SIZE} bytes" in page
    assert f"{MAX_FRAME_SIZE} bytes" in page
