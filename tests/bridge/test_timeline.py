import pytest

from edgelstm_bridge.messages import ChannelInfo, Hello, Sample
from edgelstm_bridge.timeline import Timeline, clock_step, sequence_step

EPOCH_MS = 1_700_000_000_000


def hello(clock_epoch_ms: int = EPOCH_MS, clock_tick_us: int = 1000) -> Hello:
    channels = (ChannelInfo("t"),)
    return Hello(channels=channels, clock_epoch_ms=clock_epoch_ms, clock_tick_us=clock_tick_us)


def timestamps(timeline: Timeline, *clocks: int) -> list[float]:
    return [timeline.reading(Sample(0, clock, (0.0,)), 5.0).timestamp for clock in clocks]


@pytest.mark.parametrize(
    ("previous", "current", "step"),
    [(0, 1, 1), (0, 0, 65_536), (65_535, 0, 1), (5, 4, 65_535), (0, 0x8000, 0x8000)],
)
def test_sequence_step(previous: int, current: int, step: int) -> None:
    assert sequence_step(previous, current) == step


@pytest.mark.parametrize(
    ("previous", "current", "step"),
    [
        (0, 1, 1),
        (7, 7, 0),
        (10, 4, -6),
        (2**32 - 1, 0, 1),
        (0, 2**32 - 1, -1),
        (0, 2**31 - 1, 2**31 - 1),
        (2**31, 0, -(2**31)),
    ],
)
def test_clock_step(previous: int, current: int, step: int) -> None:
    assert clock_step(previous, current) == step


def test_timestamps_follow_the_device_clock_over_its_wrap() -> None:
    late = 2**32 - 500
    first = EPOCH_MS / 1000 + late / 1000
    assert timestamps(Timeline(hello()), late, 0, 500) == [first, first + 0.5, first + 1.0]


def test_timestamps_go_back_when_the_wall_clock_does() -> None:
    hour = 3_600_000
    start = EPOCH_MS / 1000
    got = timestamps(Timeline(hello()), 1000, 1000 - hour & 0xFFFFFFFF, 2000 - hour & 0xFFFFFFFF)
    assert got == [start + 1, start + 1 - 3600, start + 2 - 3600]


def test_ticks_have_the_length_that_the_hello_says() -> None:
    start = EPOCH_MS / 1000
    assert timestamps(Timeline(hello(clock_tick_us=1)), 1_500_000) == [start + 1.5]
    assert timestamps(Timeline(hello(clock_tick_us=2_000_000)), 3) == [start + 6]


def test_without_a_wall_clock_the_time_of_decoding_counts() -> None:
    assert timestamps(Timeline(hello(clock_epoch_ms=0)), 1000, 2000) == [5.0, 5.0]


def test_a_new_hello_brings_a_new_epoch() -> None:
    timeline = Timeline(hello())
    timestamps(timeline, 4_000_000_000)
    timeline.restart(hello(clock_epoch_ms=EPOCH_MS + 60_000))
    assert timestamps(timeline, 10) == [EPOCH_MS / 1000 + 60.01]


def test_sequence_numbers_are_unwrapped_and_only_grow() -> None:
    timeline = Timeline(hello())

    def unwrapped(number: int) -> int | None:
        return timeline.reading(Sample(number, 0, (0.0,)), 0.0).sequence_number

    assert [unwrapped(number) for number in (65_534, 65_535, 0, 3)] == [
        65_534,
        65_535,
        65_536,
        65_539,
    ]
    timeline.restart(hello())  # a device that began again: its 0 comes one turn later
    assert unwrapped(0) == 2 * 65_536
    assert unwrapped(0) == 3 * 65_536
