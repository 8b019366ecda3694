from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.errors import ProtocolError
from edgelstm_bridge.codec import MAX_ENCODED_SIZE, cobs_encode, encode_frame
from edgelstm_bridge.decoder import Counters, FrameDecoder, Restart
from edgelstm_bridge.messages import (
    ChannelInfo,
    End,
    Hello,
    Log,
    LogLevel,
    Message,
    Sample,
    ValueType,
)

HELLO = Hello(channels=(ChannelInfo("a", "V", 0.5), ChannelInfo("b")), value_type=ValueType.INT32)
HELLO_FRAME = encode_frame(HELLO.encode())


def sample_frame(sequence_number: int) -> bytes:
    return encode_frame(sample(sequence_number).encode(HELLO))


def sample(sequence_number: int) -> Sample:
    return Sample(sequence_number & 0xFFFF, 0, (1.5, -2.0))


def hello_frame(sample_count: int, boot_id: int = 0) -> bytes:
    return encode_frame(replace(HELLO, sample_count=sample_count, boot_id=boot_id).encode())


def numbers(messages: list[Message | Restart]) -> list[int]:
    return [m.sequence_number for m in messages if isinstance(m, Sample)]


def fed(*chunks: bytes) -> tuple[list[Message | Restart], Counters]:
    decoder = FrameDecoder()
    messages = [message for chunk in chunks for message in decoder.feed(chunk)]
    return messages, decoder.counters


def test_hello_samples_end() -> None:
    stream = HELLO_FRAME + sample_frame(0) + sample_frame(1) + encode_frame(End(2).encode())
    messages, counters = fed(stream)
    assert messages == [HELLO, sample(0), sample(1), End(2)]
    assert counters == Counters(good=4, samples=2)


def test_split_at_every_byte() -> None:
    stream = HELLO_FRAME + sample_frame(0) + b"\0" + sample_frame(1)
    whole = fed(stream)
    for position in range(len(stream) + 1):
        assert fed(stream[:position], stream[position:]) == whole


def test_empty_frames_are_silent() -> None:
    messages, counters = fed(b"\0\0" + HELLO_FRAME + b"\0\0\0")
    assert messages == [HELLO]
    assert counters == Counters(good=1)


def test_bad_crc_is_counted_and_delivers_nothing() -> None:
    payload = sample(1).encode(HELLO)
    damaged = cobs_encode(payload + b"\x12\x34") + b"\0"
    messages, counters = fed(HELLO_FRAME + sample_frame(0) + damaged + sample_frame(2))
    assert messages == [HELLO, sample(0), sample(2)]
    assert counters == Counters(good=3, bad_crc=1, samples=2, lost=1)


def test_a_hello_with_a_bad_crc_changes_nothing() -> None:
    damaged = cobs_encode(HELLO.encode() + b"\x12\x34") + b"\0"
    messages, counters = fed(damaged + sample_frame(0))
    assert messages == []
    assert counters == Counters(good=1, bad_crc=1, samples_before_hello=1)


def test_bad_cobs_and_short_frames_are_counted() -> None:
    messages, counters = fed(HELLO_FRAME + b"\x09\x01\0" + b"\x03\x01\x02\0" + sample_frame(0))
    assert messages == [HELLO, sample(0)]
    assert counters == Counters(good=2, bad_frame=2, samples=1)


def test_garbage_costs_only_the_frame_it_touches() -> None:
    garbage = bytes(range(1, 200))
    messages, counters = fed(
        garbage + HELLO_FRAME + HELLO_FRAME + garbage + b"\0" + sample_frame(7)
    )
    assert messages == [HELLO, sample(7)]
    assert counters.bad_crc + counters.bad_frame == 2


def test_a_malformed_payload_is_counted() -> None:
    short_sample = encode_frame(sample(0).encode(HELLO)[:-1])
    messages, counters = fed(HELLO_FRAME + short_sample + encode_frame(b"\x03"))
    assert messages == [HELLO]
    assert counters == Counters(good=3, bad_payload=2)


def test_unknown_types_are_counted_and_ignored() -> None:
    messages, counters = fed(encode_frame(b"\x7f future") + HELLO_FRAME)
    assert messages == [HELLO]
    assert counters == Counters(good=2, unknown=1)


def test_samples_before_hello_are_reported_apart() -> None:
    # This hello says that the count is at 0: two went missing between it and sample 2.
    messages, counters = fed(sample_frame(0) + sample_frame(1) + HELLO_FRAME + sample_frame(2))
    assert messages == [HELLO, sample(2)]
    assert counters == Counters(good=4, samples=1, samples_before_hello=2, lost=2)


@pytest.mark.parametrize("extra", [1, 2, 100, 5000])
@pytest.mark.parametrize("chunk_size", [1, 7, 4096, 100_000])
def test_an_over_long_frame_is_dropped_and_counted_once(extra: int, chunk_size: int) -> None:
    stream = HELLO_FRAME + b"x" * (MAX_ENCODED_SIZE + extra) + b"\0" + sample_frame(0)
    messages, counters = fed(*chunks_of(stream, chunk_size))
    assert messages == [HELLO, sample(0)]
    assert counters == Counters(good=2, oversize=1, samples=1)


def test_the_longest_frame_is_not_over_long() -> None:
    _, counters = fed(encode_frame(b"\x7f" * 1024))
    assert counters == Counters(good=1, unknown=1)


def test_a_line_without_delimiters_is_not_kept() -> None:
    decoder = FrameDecoder()
    for _ in range(1000):
        decoder.feed(b"x" * 1000)
        assert len(decoder._incomplete) <= MAX_ENCODED_SIZE
    assert decoder.counters.oversize == 1


@pytest.mark.parametrize(
    ("sequence", "given", "lost", "reordered"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3], 0, 0),
        ([0, 2, 5], [0, 2, 5], 3, 0),
        ([65_534, 65_535, 0, 1], [65_534, 65_535, 65_536, 65_537], 0, 0),
        ([65_533, 2], [65_533, 65_538], 4, 0),
        ([65_535, 1], [65_535, 65_537], 1, 0),
        ([10, 10, 11], [10, 11], 0, 1),  # repeated
        ([10, 9, 11], [10, 11], 0, 1),  # late
        ([10, 9, 8, 11], [10, 11], 0, 2),
        ([0, 0x8000], [0, 0x8000], 0x7FFF, 0),
        ([0, 0x8001], [0], 0, 1),
        # Two in a row: more were lost than the numbers can tell, and none is thrown away for long.
        ([0, 0x9000, 0x9001, 0x9002], [0, 0x9001, 0x9002], 0x9000, 1),
    ],
)
def test_sequence_counting(
    sequence: list[int], given: list[int], lost: int, reordered: int
) -> None:
    messages, counters = fed(
        hello_frame(sequence[0]), *[sample_frame(number) for number in sequence]
    )
    assert numbers(messages) == given
    assert (counters.lost, counters.reordered) == (lost, reordered)
    assert counters.samples == len(given)


def test_what_is_lost_before_the_first_sample_and_before_the_end_is_counted() -> None:
    end = encode_frame(End(20).encode())
    messages, counters = fed(hello_frame(7) + sample_frame(10) + end)
    assert numbers(messages) == [10]
    assert counters.lost == 3 + 9


def test_a_full_turn_of_the_sequence_loses_nothing() -> None:
    frames = [sample_frame(number) for number in range(65_536 + 10)]
    _, counters = fed(HELLO_FRAME, b"".join(frames))
    assert counters == Counters(good=len(frames) + 1, samples=len(frames))


def test_a_hello_of_the_same_boot_says_what_was_lost_however_much() -> None:
    ahead = 5 * 2**16 + 3
    messages, counters = fed(
        hello_frame(0, 9) + sample_frame(0) + hello_frame(ahead, 9) + sample_frame(ahead)
    )
    assert numbers(messages) == [0, ahead]
    assert (counters.lost, counters.restarts) == (ahead - 1, 0)
    assert not any(isinstance(message, Restart) for message in messages)


def test_a_hello_that_repeats_the_count_changes_nothing() -> None:
    messages, counters = fed(HELLO_FRAME + sample_frame(0) + hello_frame(1) + sample_frame(1))
    assert numbers(messages) == [0, 1]
    assert counters == Counters(good=4, samples=2)


def test_counts_of_32_bits_wrap() -> None:
    last = 2**32 - 1
    messages, counters = fed(hello_frame(last) + sample_frame(last) + hello_frame(1))
    assert numbers(messages) == [last]
    assert (counters.lost, counters.restarts) == (1, 0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (hello_frame(0, 1), hello_frame(0, 2)),
        (hello_frame(0, 1), hello_frame(50, 2)),  # later than the last sample, but another boot
        (hello_frame(0, 0), hello_frame(0, 0)),  # no boot_id: the count has gone back
        (hello_frame(0, 5), hello_frame(0, 5)),  # the same number twice, against the law
    ],
)
def test_a_restart_is_recognised_and_counts_anew(before: bytes, after: bytes) -> None:
    messages, counters = fed(before + sample_frame(0) + sample_frame(1) + after)
    assert isinstance(messages[-2], Restart)
    assert isinstance(messages[-1], Hello)
    assert (counters.restarts, counters.lost) == (1, 0)


def test_numbers_go_on_from_the_hello_after_a_restart() -> None:
    messages, counters = fed(
        hello_frame(500, 1) + sample_frame(500) + hello_frame(0, 2) + sample_frame(1)
    )
    assert numbers(messages) == [500, 1]
    assert (counters.restarts, counters.lost) == (1, 1)


def test_a_cut_line_costs_no_more_than_the_frame_it_cuts() -> None:
    decoder = FrameDecoder()
    decoder.feed(HELLO_FRAME + sample_frame(0)[:-4])
    decoder.break_line()
    assert decoder.feed(sample_frame(1)) == [sample(1)]
    assert decoder.counters == Counters(good=2, samples=1, lost=1)


def test_log_messages_are_given_out() -> None:
    log = Log(LogLevel.WARNING, "sensor 2 is slow: 80 °C")
    assert fed(encode_frame(log.encode()))[0] == [log]


def test_a_new_hello_says_how_to_read_what_follows() -> None:
    other = Hello(channels=(ChannelInfo("only"),), sample_count=1)
    value = Sample(1, 0, (0.25,))
    decoder = FrameDecoder()
    decoder.feed(HELLO_FRAME + sample_frame(0))
    decoder.feed(encode_frame(other.encode()))
    assert decoder.hello == other
    assert decoder.feed(encode_frame(value.encode(other))) == [value]


def test_a_hello_of_another_version_is_an_error() -> None:
    decoder = FrameDecoder()
    with pytest.raises(ProtocolError, match="version 9"):
        decoder.feed(encode_frame(b"\x01\x09 and who knows"))
    assert decoder.hello is None


def test_a_malformed_hello_is_counted_and_the_last_good_one_stays() -> None:
    decoder = FrameDecoder()
    cut = encode_frame(HELLO.encode()[:-1])
    messages = decoder.feed(HELLO_FRAME + sample_frame(0) + cut + sample_frame(1))
    assert messages == [HELLO, sample(0), sample(1)]
    assert decoder.counters.bad_payload == 1
    assert "cut short" in decoder.complaint


def chunks_of(data: bytes, size: int) -> Iterable[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


pieces = st.one_of(
    st.integers(0, 2**16 - 1).map(sample_frame),
    st.just(HELLO_FRAME),
    st.just(b"\0"),
    st.just(b"x" * 600),
    st.binary(max_size=30),
)


@given(st.lists(pieces, max_size=12), st.lists(st.integers(0, 700), max_size=20))
def test_any_chunking_gives_the_same(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts)
    edges = [0, *sorted(cuts), len(stream)]
    chunks = [stream[start:stop] for start, stop in pairwise(edges)]
    assert fed(*chunks) == fed(stream)


wide = Hello(channels=tuple(ChannelInfo(f"c{i}") for i in range(64)), value_type=ValueType.FLOAT32)
odd = Hello(channels=(ChannelInfo("x", "", 0.25),), value_type=ValueType.INT16)


@pytest.mark.parametrize("hello", [HELLO, wide, odd], ids=["int32", "longer than a block", "int16"])
@given(data=st.data())
def test_the_quick_way_decodes_what_the_slow_one_does(hello: Hello, data: st.DataObject) -> None:
    raw = st.lists(st.integers(-300, 300), min_size=64, max_size=64)
    values = tuple(v * s for v, s in zip(data.draw(raw), hello.scales, strict=False))
    sent = Sample(
        data.draw(st.integers(0, 2**15 - 1)), data.draw(st.integers(0, 2**32 - 1)), values
    )
    decoder = FrameDecoder()
    decoder.feed(encode_frame(hello.encode()))
    assert decoder.feed(encode_frame(sent.encode(hello))) == [sent]


@given(st.integers(0, 15), st.integers(1, 255))
def test_no_flipped_byte_gets_through(position: int, flips: int) -> None:
    frame = bytearray(sample_frame(3))
    position %= len(frame) - 1
    frame[position] ^= flips
    messages, counters = fed(HELLO_FRAME + bytes(frame) + b"\0")
    assert messages == [HELLO]
    assert counters.bad_crc + counters.bad_frame >= 1
