import itertools
import math
import random
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm.reading import Reading
from edgelstm_bridge.messages import ChannelInfo, Hello, Sample
from edgelstm_bridge.timeline import (
    ArrivalTimeline,
    TimeColumn,
    Timeline,
    clock_step,
)

EPOCH_MS = 1_700_000_000_000
OFFSET = 1_700_000_000.0
BEGIN = 500.0  # monotonic


def hello(
    clock_epoch_ms: int = EPOCH_MS, clock_tick_us: int = 1000, sample_period_us: int = 10_000
) -> Hello:
    return Hello(
        channels=(ChannelInfo("t"),),
        clock_epoch_ms=clock_epoch_ms,
        clock_tick_us=clock_tick_us,
        sample_period_us=sample_period_us,
    )


def samples(*pairs: tuple[int, int]) -> list[Sample]:
    return [Sample(number, clock & 0xFFFFFFFF, (0.0,)) for number, clock in pairs]


def timestamps(timeline: Timeline, *clocks: int) -> list[float]:
    """Of samples that come one by one."""
    return [
        timeline.readings(samples((number, clock)), 5.0, 0.0)[0].timestamp
        for number, clock in enumerate(clocks)
    ]


def never_back(readings: Sequence[Reading]) -> bool:
    return all(a.timestamp <= b.timestamp for a, b in itertools.pairwise(readings))


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


# A device with a wall clock.


def test_timestamps_follow_the_device_clock_over_its_wrap() -> None:
    late = 2**32 - 500
    first = EPOCH_MS / 1000 + late / 1000
    assert timestamps(Timeline(hello()), late, 0, 500) == [first, first + 0.5, first + 1.0]
    readings = Timeline(hello()).readings(samples((0, late), (1, 0), (2, 500)), 5.0, 0.0)
    assert [r.timestamp for r in readings] == [first, first + 0.5, first + 1.0]


def test_timestamps_go_back_when_the_wall_clock_does() -> None:
    hour = 3_600_000
    start = EPOCH_MS / 1000
    got = timestamps(Timeline(hello()), 1000, 1000 - hour, 2000 - hour)
    assert got == [start + 1, start + 1 - 3600, start + 2 - 3600]


def test_ticks_have_the_length_that_the_hello_says() -> None:
    start = EPOCH_MS / 1000
    assert timestamps(Timeline(hello(clock_tick_us=1)), 1_500_000) == [start + 1.5]
    assert timestamps(Timeline(hello(clock_tick_us=2_000_000)), 3) == [start + 6]


def test_the_first_clock_after_a_hello_is_unsigned() -> None:
    assert timestamps(Timeline(hello()), 2**32 - 1) == [EPOCH_MS / 1000 + (2**32 - 1) / 1000]


def test_a_new_hello_brings_a_new_epoch() -> None:
    timeline = Timeline(hello())
    timestamps(timeline, 4_000_000_000)
    timeline.hello(hello(clock_epoch_ms=EPOCH_MS + 60_000))
    assert timestamps(timeline, 10) == [EPOCH_MS / 1000 + 60.01]
    timeline.restart(hello(clock_epoch_ms=EPOCH_MS + 90_000))
    assert timestamps(timeline, 10) == [EPOCH_MS / 1000 + 90.01]


def test_a_wall_clock_has_no_stated_error() -> None:
    timeline = Timeline(hello())
    timeline.pong(5, 0.0, 1.0)
    assert timeline.readings(samples((0, 0)), 5.0, 0.0)[0].time_error is None


# A device without one.


def stream(
    timeline: Timeline,
    chunks: Iterable[tuple[float, Sequence[int]]],
    *,
    first: int = 0,
    clock_ahead: float = 0.0,
    drift: float = 0.0,
) -> list[Reading]:
    """Sample n is due n * 10 ms after BEGIN; a chunk has its arrival, in seconds after BEGIN, and
    the numbers of its samples."""
    readings = []
    for arrived, numbers in chunks:
        clocks = [round((clock_ahead + n * 0.01) * (1 + drift) * 1e6) for n in numbers]
        pairs = [(n - first, clock) for n, clock in zip(numbers, clocks, strict=True)]
        readings += timeline.readings(samples(*pairs), BEGIN + arrived, OFFSET)
    return readings


def bursts(start: int, stop: int, every: float = 0.016) -> list[tuple[float, list[int]]]:
    """Chunks of the samples from `start` to `stop`, taken every 16 ms."""
    due = ((math.ceil((n * 0.01 + 1e-3) / every) * every, n) for n in range(start, stop))
    grouped = itertools.groupby(due, key=lambda one: one[0])
    return [(arrived, [n for _, n in group]) for arrived, group in grouped]


def off(readings: Sequence[Reading], first: int = 0) -> list[float]:
    """How far the timestamps are from the truth, beyond what they state."""
    return [
        abs(r.timestamp - (OFFSET + BEGIN + (first + i) * 0.01)) - (r.time_error or 0.0)
        for i, r in enumerate(readings)
    ]


def test_readings_lie_at_host_time_within_their_error() -> None:
    timeline = Timeline(hello(0, 1))
    readings = stream(timeline, bursts(0, 6000), clock_ahead=4294.0, drift=1e-4)
    assert [r.sequence_number for r in readings] == list(range(6000))
    assert max(off(readings)) <= 0
    assert never_back(readings)
    assert (readings[0].time_error or 0) > 0.1
    assert (readings[3100].time_error or 1) < 0.01
    steps = [b.timestamp - a.timestamp for a, b in itertools.pairwise(readings[100:])]
    assert max(steps) < 0.015  # no burst shows


def test_the_clock_may_wrap_inside_a_chunk() -> None:
    timeline = Timeline(hello(0, 1))
    wrap_s = 2**32 / 1e6
    readings = stream(timeline, [(0.05, range(6))], clock_ahead=wrap_s - 0.03)
    steps = [b.timestamp - a.timestamp for a, b in itertools.pairwise(readings)]
    assert steps == pytest.approx([0.01] * 5)
    assert readings[-1].timestamp == OFFSET + BEGIN + 0.05


def test_a_silence_of_hours_is_no_wrap_too_few() -> None:
    timeline = Timeline(hello(0, 1))
    stream(timeline, bursts(0, 1000))
    late = 3 * 3600 * 100
    readings = stream(timeline, bursts(late, late + 100))
    assert max(off(readings, late)) <= 0


def test_a_pong_makes_the_error_smaller() -> None:
    timeline = Timeline(hello(0, 1))
    before = stream(timeline, bursts(0, 2000))[-1]
    timeline.pong(20_000_000, BEGIN + 19.9995, BEGIN + 20.0005)
    after = stream(timeline, bursts(2001, 2003))
    assert (after[-1].time_error or 1) < 0.5 * (before.time_error or 0)
    assert max(off(after, 2001)) <= 0


def test_a_slip_of_the_clock_dates_nothing_in_the_future() -> None:
    timeline = Timeline(hello(0, 1))
    stream(timeline, bursts(0, 1000))
    chunk = samples((1000, 10_000_000), (1001, 2_000_000_000), (1002, 10_020_000))
    readings = timeline.readings(chunk, BEGIN + 10.03, OFFSET)
    assert never_back(readings)
    assert readings[-1].timestamp <= OFFSET + BEGIN + 10.03


@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.just("samples"),
                st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4),
                st.floats(0, 4000),
                st.floats(-100, 100),
            ),
            st.tuples(st.just("pong"), st.integers(0, 2**32 - 1), st.floats(0, 1)),
            st.tuples(st.just("hello")),
            st.tuples(st.just("restart")),
        ),
        max_size=40,
    ),
    st.sampled_from([1, 1000, 1_000_000]),
)
@settings(deadline=None)
def test_whatever_comes_timestamps_never_go_back_and_numbers_grow(
    events: list[tuple[str, list[int] | int, float, float]], tick_us: int
) -> None:
    timeline = Timeline(hello(0, tick_us))
    readings: list[Reading] = []
    at = BEGIN
    number = 0
    for event in events:
        match event:
            case ("samples", list(clocks), wait, offset):
                at += wait
                pairs = [(number + i, clock) for i, clock in enumerate(clocks)]
                number += len(clocks)
                got = timeline.readings(samples(*pairs), at, OFFSET + offset)
                assert len(got) == len(clocks)
                readings += got
            case ("pong", int(clock), wait):
                timeline.pong(clock, at, at + wait)
                at += wait
            case ("hello",):
                timeline.hello(hello(0, tick_us))
            case ("restart",):
                timeline.restart(hello(0, tick_us))
                number = 0
    assert never_back(readings)
    assert all(r.time_error is not None and r.time_error > 0 for r in readings)
    numbers = [r.sequence_number or 0 for r in readings]
    assert all(a < b for a, b in itertools.pairwise(numbers))


def test_over_a_restart_numbers_go_on_by_the_time_that_passed() -> None:
    timeline = Timeline(hello(0, 1))
    before = stream(timeline, bursts(0, 500))
    timeline.restart(hello(0, 1))
    after = stream(timeline, bursts(700, 900), first=700, clock_ahead=-6.99)
    assert before[-1].sequence_number == 499
    assert after[0].sequence_number == pytest.approx(700, abs=3)
    numbers = [r.sequence_number or 0 for r in after]
    assert numbers == list(range(numbers[0], numbers[0] + 200))
    assert never_back(before + after)


@pytest.mark.parametrize("samples_before", [1, 200])
def test_over_a_restart_without_a_period_numbers_still_grow(samples_before: int) -> None:
    timeline = Timeline(hello(0, 1, sample_period_us=0))
    last = stream(timeline, bursts(0, samples_before))[-1]
    timeline.restart(hello(0, 1, sample_period_us=0))
    first = stream(timeline, [(10.0, [0])])[0]
    # The period was measured meanwhile, unless there was but one sample.
    expected = 1000 if samples_before > 1 else (last.sequence_number or 0) + 1
    assert first.sequence_number == pytest.approx(expected, abs=10)


def test_a_restart_at_once_costs_one() -> None:
    timeline = Timeline(hello(0, 1))
    last = stream(timeline, bursts(0, 100))[-1]
    timeline.restart(hello(0, 1))
    timeline.restart(hello(0, 1))  # and again, before any sample
    first = stream(timeline, [(1.0, [0])], first=0)[0]
    assert first.sequence_number == (last.sequence_number or 0) + 1


def test_a_restart_before_any_reading_changes_no_number() -> None:
    timeline = Timeline(hello(0, 1))
    timeline.restart(hello(0, 1))
    assert stream(timeline, [(1.0, [7])])[0].sequence_number == 7


def test_over_a_restart_of_a_wall_clock_device_numbers_go_on() -> None:
    timeline = Timeline(hello())
    timeline.readings(samples((5, 0), (6, 10)), 0.0, 0.0)
    timeline.restart(hello(clock_epoch_ms=EPOCH_MS + 1010))
    assert timeline.readings(samples((0, 0), (1, 10)), 1.0, 0.0)[1].sequence_number == 107
    timeline.restart(hello(clock_epoch_ms=EPOCH_MS - 1010))  # set back: only that it grows
    assert timeline.readings(samples((0, 0)), 1.0, 0.0)[0].sequence_number == 108


def test_a_host_clock_set_forward_is_followed_at_once() -> None:
    timeline = Timeline(hello(0, 1))
    timeline.readings(samples((0, 0)), BEGIN, OFFSET)
    reading = timeline.readings(samples((1, 10_000)), BEGIN + 0.01, OFFSET + 86_400)[0]
    assert reading.timestamp == pytest.approx(OFFSET + BEGIN + 0.01 + 86_400, abs=1e-5)


def test_when_the_host_clock_is_set_back_time_goes_slower() -> None:
    timeline = Timeline(hello(0, 1))
    readings = []
    for number in range(4000):
        at = BEGIN + number * 0.01
        offset = OFFSET - (1.0 if number >= 1000 else 0.0)
        readings += timeline.readings(samples((number, number * 10_000)), at, offset)
    steps = [b.timestamp - a.timestamp for a, b in itertools.pairwise(readings)]
    assert min(steps) > 0.009
    assert (readings[1000].time_error or 0) > 1.0
    assert readings[-1].timestamp == pytest.approx(OFFSET - 1 + at, abs=1e-5)
    assert (readings[-1].time_error or 1) < 0.05


def test_no_samples_no_readings() -> None:
    assert Timeline(hello()).readings([], 0.0, 0.0) == []
    assert ArrivalTimeline().readings([], None, 0.0, 0.0) == []


# Lines of text.


class Lines:
    """A device that prints lines, with known true times; see `Device` in test_clock.py."""

    def __init__(
        self,
        seed: int,
        *,
        rate: float = 100.0,
        seconds: float = 30.0,
        ppm: float = 50.0,
        burst: float = 0.016,
        pause: tuple[float, float] = (0.0, 0.0),
        irregular: bool = False,
    ) -> None:
        self.period = 1 / rate
        chance = random.Random(seed)  # noqa: S311 - no secrets
        phase = chance.random() * 0.016
        spikes = list(itertools.accumulate(chance.expovariate(0.1) for _ in range(1000)))
        came: list[tuple[float, float]] = []
        time = latest = 0.0
        for number in itertools.count():
            step = chance.expovariate(rate)
            time = time + step if irregular else number * self.period / (1 + ppm * 1e-6)
            if time >= seconds:
                break
            if pause[0] <= time < pause[1]:
                continue
            arrived = time + 0.0005 + 0.0005 * chance.random()
            if burst:
                arrived = phase + math.ceil((arrived - phase) / burst) * burst
            for spike in spikes:  # the host is busy
                if spike > arrived:
                    break
                if arrived < spike + 0.1:
                    arrived = max(arrived, spike + 0.1 * ((spike * 7919) % 1))
            latest = max(latest, arrived)
            came.append((latest, time))
        grouped = itertools.groupby(came, key=lambda one: one[0])
        self.chunks = [(at, [time for _, time in group]) for at, group in grouped]

    def readings(
        self,
        timeline: ArrivalTimeline,
        unit: float | None = None,
        start: float = 0.0,
        wrap: float = math.inf,
    ) -> list[Reading]:
        """The value of each reading is its true time."""
        out = []
        for at, times in self.chunks:
            clocks = None
            if unit:
                clocks = [math.floor((start + time) / unit) % wrap for time in times]
            rows = [(OFFSET + BEGIN + time,) for time in times]
            out += timeline.readings(rows, clocks, BEGIN + at, OFFSET)
        return out

    def gaps(self, readings: Sequence[Reading]) -> list[tuple[float, int]]:
        """What a pipeline would find: after how many seconds, and how many are missing."""
        found = []
        for last, reading in itertools.pairwise(readings):
            missing = round((reading.timestamp - last.timestamp) / self.period) - 1
            if missing > 0:
                found.append((reading.values[0] - OFFSET - BEGIN, missing))
        return found


def share_covered(readings: Sequence[Reading]) -> float:
    # A float of Unix time is good to a quarter of a microsecond.
    covered = [abs(r.timestamp - r.values[0]) <= (r.time_error or 0) + 1e-6 for r in readings]
    return sum(covered) / len(covered)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ppm": 5000.0},
        {"ppm": -5000.0},
        {"burst": 0.0},
        {"rate": 50.0},
        {"rate": 10.0, "seconds": 60.0},
        {"rate": 1.0, "seconds": 200.0},
        {"rate": 1000.0, "seconds": 10.0},
    ],
)
def test_bursts_make_no_false_gaps(settings: dict[str, float], seed: int) -> None:
    lines = Lines(seed, **settings)  # type: ignore[arg-type]
    readings = lines.readings(ArrivalTimeline())
    assert lines.gaps(readings) == []
    assert never_back(readings)
    assert share_covered(readings) >= 0.995
    assert all(r.sequence_number is None for r in readings)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rate", [10.0, 50.0, 100.0, 1000.0])
def test_a_pause_of_a_second_shows(rate: float, seed: int) -> None:
    lines = Lines(seed, rate=rate, pause=(20.0, 21.0), seconds=25.0)
    readings = lines.readings(ArrivalTimeline())
    ((after, missing),) = lines.gaps(readings)
    assert after == pytest.approx(21.0, abs=0.11)
    assert missing * lines.period == pytest.approx(1.0, abs=max(0.02, lines.period))
    assert share_covered(readings) >= 0.99


def test_a_pause_shows_at_once_though_a_line_was_left_out_before() -> None:
    lines = Lines(0, rate=10.0, pause=(20.0, 20.15), seconds=60.0)
    other = Lines(0, rate=10.0, pause=(30.0, 35.0), seconds=60.0)
    lines.chunks = [chunk for chunk in lines.chunks if chunk in other.chunks]
    found = [round(after, 1) for after, _ in lines.gaps(lines.readings(ArrivalTimeline()))]
    assert found == [pytest.approx(20.9, abs=0.2), 35.1]


def test_a_line_left_out_shows_where_lines_are_slow() -> None:
    lines = Lines(0, rate=1.0, pause=(99.5, 100.5), seconds=120.0)
    ((after, missing),) = lines.gaps(lines.readings(ArrivalTimeline()))
    assert after == pytest.approx(101.0, abs=0.1)
    assert missing == 1


def test_lines_left_out_show_a_little_later_where_lines_are_fast() -> None:
    lines = Lines(0, pause=(20.0, 20.05))
    found = lines.gaps(lines.readings(ArrivalTimeline()))
    assert sum(missing for _, missing in found) == pytest.approx(5, abs=1)
    assert all(20.0 < after < 21.5 for after, _ in found)


@pytest.mark.parametrize("rate", [2.0, 20.0, 100.0])
def test_an_irregular_device_is_dated_by_arrivals(rate: float) -> None:
    lines = Lines(1, rate=rate, irregular=True, seconds=300.0 if rate < 10 else 60.0)
    readings = lines.readings(ArrivalTimeline())
    assert never_back(readings)
    assert share_covered(readings) >= 0.97
    arrivals = [OFFSET + BEGIN + at for at, times in lines.chunks for _ in times]
    late = readings[len(readings) // 2 :]
    assert [r.timestamp for r in late] == pytest.approx(arrivals[len(readings) // 2 :], abs=1e-4)
    assert all((r.time_error or 0) >= 0.02 for r in late)


def test_a_known_period_needs_no_learning() -> None:
    lines = Lines(0)
    readings = lines.readings(ArrivalTimeline(sample_period=0.01))
    assert lines.gaps(readings) == []
    assert share_covered(readings) == 1.0


@pytest.mark.parametrize("period", [0.001, 0.01, 0.019, 0.0195, 0.0205, 0.021, 0.04, 1.0])
def test_a_wrong_period_is_found_out(period: float) -> None:
    lines = Lines(0, rate=50.0)
    readings = lines.readings(ArrivalTimeline(sample_period=period))
    late = readings[len(readings) // 2 :]
    assert lines.gaps(late) == []
    assert share_covered(late) == 1.0


def test_lines_that_come_at_once_first_are_dated_at_once() -> None:
    timeline = ArrivalTimeline()
    readings = timeline.readings([(float(n),) for n in range(100)], None, BEGIN, OFFSET)
    assert [r.timestamp for r in readings] == pytest.approx([OFFSET + BEGIN] * 100, abs=1e-3)
    assert all(a.timestamp < b.timestamp for a, b in itertools.pairwise(readings))
    assert [r.values for r in readings] == [(float(n),) for n in range(100)]


@pytest.mark.parametrize("unit", [1e-3, 1e-6])
@pytest.mark.parametrize("column", [None, "given"])
def test_a_time_column_is_the_clock(unit: float, column: str | None) -> None:
    lines = Lines(0, irregular=True, rate=50.0)
    clock = TimeColumn(unit if column else None, 2.0**32)
    start = 2**32 * unit - 15.0  # it wraps on the way
    readings = lines.readings(ArrivalTimeline(clock=clock), unit, start, 2.0**32)
    assert share_covered(readings) >= 0.99
    assert never_back(readings)
    # Two seconds on, time goes as the column does.
    late = readings[200:]
    steps = [b.timestamp - a.timestamp for a, b in itertools.pairwise(late)]
    true = [b.values[0] - a.values[0] for a, b in itertools.pairwise(late)]
    assert steps == pytest.approx(true, abs=max(2.5e-3, 1.5 * unit))


@pytest.mark.parametrize(("unit", "start"), [(1.0, 1.7e9), (1e-3, 1.7e9), (1e-9, 0.0)])
def test_the_unit_of_a_time_column_is_found_out(unit: float, start: float) -> None:
    lines = Lines(0, pause=(10.0, 12.0))
    readings = lines.readings(ArrivalTimeline(clock=TimeColumn()), unit, start)
    late = [r for r in readings if r.values[0] > OFFSET + BEGIN + 5]
    assert share_covered(late) >= 0.99
    if unit < 1:
        ((after, missing),) = lines.gaps(late)
        assert after == pytest.approx(12.0, abs=0.02)
        assert missing == pytest.approx(200, abs=1)


def test_seconds_with_decimals_are_as_good_as_their_digits() -> None:
    lines = Lines(0)
    timeline = ArrivalTimeline(clock=TimeColumn(1.0))
    readings = []
    for at, times in lines.chunks:
        rows = [(OFFSET + BEGIN + time,) for time in times]
        clocks = [round(7 + time, 3) for time in times]
        readings += timeline.readings(rows, clocks, BEGIN + at, OFFSET)
    assert share_covered(readings) >= 0.99
    assert (readings[-1].time_error or 1) < 0.02


def test_a_column_that_is_no_clock_is_left_alone() -> None:
    timeline = ArrivalTimeline(clock=TimeColumn())
    readings = []
    for number in range(1000):
        readings += timeline.readings([(1.0,)], [5.0], BEGIN + number * 0.01, OFFSET)
    assert readings[-1].timestamp == pytest.approx(OFFSET + BEGIN + 9.99, abs=0.02)


@pytest.mark.parametrize("wrap", [None, 2.0**32])
def test_a_time_column_that_begins_anew_loses_no_time(wrap: float | None) -> None:
    timeline = ArrivalTimeline(clock=TimeColumn(1e-3, wrap))
    readings = []
    for number in range(4000):
        clock = number * 10.0 if number < 2000 else (number - 2000) * 10.0
        readings += timeline.readings([(1.0,)], [clock], BEGIN + number * 0.01, OFFSET)
    assert never_back(readings)
    assert [r.timestamp for r in readings] == pytest.approx(
        [OFFSET + BEGIN + number * 0.01 for number in range(4000)], abs=0.002
    )


def test_a_cell_without_a_time_is_dated_by_the_others() -> None:
    timeline = ArrivalTimeline(clock=TimeColumn(1e-3))
    clocks = [1000.0, math.nan, 1020.0]
    readings = timeline.readings([(0.0,)] * 3, clocks, BEGIN, OFFSET)
    stamps = [r.timestamp for r in readings]
    assert stamps == pytest.approx([OFFSET + BEGIN - 0.02, OFFSET + BEGIN, OFFSET + BEGIN])
    for clocks in ([1030.0, math.nan], [math.nan, math.nan]):
        assert len(timeline.readings([(0.0,)] * 2, clocks, BEGIN + 0.03, OFFSET)) == 2


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats() | st.integers(0, 2**33).map(float), min_size=1, max_size=4),
            st.floats(0, 50),
            st.floats(-10, 10),
        ),
        max_size=60,
    ),
    st.sampled_from([None, 1e-3, 1.0]),
    st.sampled_from([None, 2.0**32]),
    st.booleans(),
)
@settings(deadline=None)
def test_whatever_lines_come_timestamps_never_go_back(
    chunks: list[tuple[list[float], float, float]],
    unit: float | None,
    wrap: float | None,
    column: bool,
) -> None:
    timeline = ArrivalTimeline(clock=TimeColumn(unit, wrap) if column else None)
    readings: list[Reading] = []
    at = BEGIN
    for clocks, wait, offset in chunks:
        at += wait
        rows = [(0.0,)] * len(clocks)
        readings += timeline.readings(rows, clocks if column else None, at, OFFSET + offset)
    assert len(readings) == sum(len(clocks) for clocks, _, _ in chunks)
    assert never_back(readings)
    assert all(math.isfinite(r.timestamp) for r in readings)
    assert all(r.time_error is not None and r.time_error > 0 for r in readings)
