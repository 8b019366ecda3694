import random
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm.errors import ConfigurationError
from edgelstm.reading import Reading
from edgelstm_bridge.rate import RateMismatch, RateMonitor

BEGIN = 1_700_000_000.0


def readings(
    period: float,
    seconds: float,
    *,
    begin: float = 0.0,
    number: int | None = 0,
    keep: float = 1.0,
    burst: float = 0.0,
    error: float | None = 0.005,
    seed: int = 0,
) -> Iterator[Reading]:
    """Of a steady device, of which a share of `keep` arrives; dated by bursts where there are."""
    chance = random.Random(seed)  # noqa: S311 - no secrets
    for i in range(max(2, round(seconds / period))):
        if chance.random() > keep:
            continue
        time = BEGIN + begin + i * period
        if burst:
            time = -(-time // burst) * burst
        yield Reading(time, (0.0,), None if number is None else number + i, error)


def found(monitor: RateMonitor, stream: Iterable[Reading]) -> list[tuple[float, RateMismatch]]:
    """The mismatches that were said, and when."""
    said = ((reading.timestamp - BEGIN, monitor.update(reading)) for reading in stream)
    return [(time, mismatch) for time, mismatch in said if mismatch is not None]


@pytest.mark.parametrize("number", [0, None])
@pytest.mark.parametrize("period", [0.001, 0.01, 0.1, 1.0])
def test_the_right_rate_is_fine(period: float, number: int | None) -> None:
    monitor = RateMonitor(period)
    assert monitor.measured_period is None
    assert found(monitor, readings(period * 1.05, max(5.0, 50 * period), number=number)) == []
    assert monitor.measured_period == pytest.approx(period * 1.05, rel=1e-3)
    assert monitor.mismatch is None


@pytest.mark.parametrize("number", [0, None])
@pytest.mark.parametrize("ratio", [0.2, 0.85, 1.15, 2.0, 30.0])
def test_a_wrong_rate_is_said_once_and_soon(ratio: float, number: int | None) -> None:
    monitor = RateMonitor(0.01)
    stream = readings(0.01 * ratio, 60.0, number=number)
    ((after, mismatch),) = found(monitor, stream)
    assert mismatch.measured == pytest.approx(0.01 * ratio, rel=1e-3)
    assert mismatch.expected == 0.01
    assert monitor.mismatch is not None
    assert monitor.mismatch.measured == pytest.approx(mismatch.measured)
    assert after <= 2 * max(2.1, 21 * 0.01 * ratio)  # two blocks


def test_it_says_both_units_and_what_to_do() -> None:
    text = str(RateMismatch(0.02, 0.01))
    assert text.startswith(
        "The device sends a reading every 0.02 s (50 Hz), but the model was made for one every "
        "0.01 s (100 Hz): "
    )
    assert text.count(".") == text.count("0.0") + 1
    for way in ("--set-rate", "--resample", "convert"):
        assert way in text


def test_less_than_two_times_twenty_readings_say_nothing() -> None:
    monitor = RateMonitor(1.0)
    assert found(monitor, readings(3.0, 60.0)) == []  # 20 readings
    assert monitor.measured_period is None
    assert found(monitor, readings(3.0, 60.0, begin=60.0, number=20)) == []
    assert monitor.measured_period == pytest.approx(3.0)
    assert found(monitor, readings(3.0, 60.0, begin=120.0, number=40))


@pytest.mark.parametrize("number", [0, None])
def test_what_a_link_had_gathered_does_not_look_like_a_rate(number: int | None) -> None:
    monitor = RateMonitor(0.01)
    at_once = readings(0.0001, 0.2, number=number)
    assert found(monitor, at_once) == []
    after = None if number is None else 2000
    assert found(monitor, readings(0.01, 10.0, begin=0.2, number=after)) == []


def test_readings_that_are_lost_are_counted_by_their_numbers() -> None:
    monitor = RateMonitor(0.01)
    assert found(monitor, readings(0.01, 30.0, keep=0.3)) == []
    assert monitor.measured_period == pytest.approx(0.01, rel=1e-6)


def test_lines_that_are_lost_now_and_then_change_nothing() -> None:
    monitor = RateMonitor(0.01)
    assert found(monitor, readings(0.01, 30.0, keep=0.8, number=None)) == []


@pytest.mark.parametrize("number", [0, None])
def test_bursts_do_not_look_like_a_rate(number: int | None) -> None:
    monitor = RateMonitor(0.01)
    assert found(monitor, readings(0.01, 30.0, number=number, burst=0.016)) == []
    assert monitor.measured_period == pytest.approx(0.01, rel=0.02)


def test_a_gap_between_bursts_does_not_look_like_a_rate() -> None:
    monitor = RateMonitor(0.01)
    before = readings(0.01, 5.3, number=None, burst=0.016)
    assert found(monitor, before) == []
    after = readings(0.01, 5.3, number=None, burst=0.016, begin=65.3)
    assert found(monitor, after) == []


@pytest.mark.parametrize("number", [0, None])
@pytest.mark.parametrize("pause", [0.5, 10.0, 86_400.0])
def test_gaps_do_not_look_like_a_rate(pause: float, number: int | None) -> None:
    monitor = RateMonitor(0.01)
    assert found(monitor, readings(0.01, 5.3, number=number)) == []
    after = None if number is None else 530  # a device that slept, or a clock that was set
    assert found(monitor, readings(0.01, 5.0, begin=5.3 + pause, number=after)) == []
    after = None if number is None else 530 + 500 + round(pause / 0.01)
    assert found(monitor, readings(0.01, 5.0, begin=11.0 + 2 * pause, number=after)) == []


def test_readings_of_one_time_at_the_start_do_not_look_like_a_rate() -> None:
    monitor = RateMonitor(0.01)
    first = [Reading(BEGIN, (0.0,))] * 100
    assert found(monitor, [*first, *readings(0.01, 5.0, number=None, begin=0.01)]) == []


def test_a_restart_does_not_look_like_a_rate() -> None:
    monitor = RateMonitor(0.01)
    assert found(monitor, readings(0.01, 5.3)) == []
    assert found(monitor, readings(0.01, 5.0, begin=8.0, number=555)) == []


def test_a_clock_that_is_set_back_does_not_look_like_a_rate() -> None:
    monitor = RateMonitor(0.01)
    assert found(monitor, readings(0.01, 5.3, begin=3600.0)) == []
    assert found(monitor, readings(0.01, 5.0, number=530)) == []


def test_uncertain_times_take_longer_to_tell() -> None:
    monitor = RateMonitor(0.01)
    wrong = list(readings(0.02, 100.0, error=1.0))
    assert found(monitor, [r for r in wrong if r.timestamp < BEGIN + 39]) == []
    assert found(monitor, [r for r in wrong if r.timestamp > BEGIN + 39])


def test_a_rate_that_changes_is_noticed_and_so_is_its_return() -> None:
    monitor = RateMonitor(0.01)
    assert found(monitor, readings(0.01, 5.0)) == []
    ((after, mismatch),) = found(monitor, readings(0.02, 20.0, begin=5.0, number=500))
    assert after < 12.0
    assert mismatch.measured == pytest.approx(0.02, rel=0.05)
    assert len(found(monitor, readings(0.005, 20.0, begin=25.0, number=1500))) == 1
    assert found(monitor, readings(0.01, 20.0, begin=45.0, number=5500)) == []
    assert monitor.mismatch is None
    assert monitor.measured_period == pytest.approx(0.01)
    assert len(found(monitor, readings(0.02, 20.0, begin=65.0, number=7500))) == 1


@pytest.mark.parametrize(("period", "tolerance"), [(0.0, 0.1), (-1.0, 0.1), (1.0, 0.0)])
def test_settings_that_make_no_sense(period: float, tolerance: float) -> None:
    with pytest.raises(ConfigurationError, match="above 0"):
        RateMonitor(period, tolerance)


def test_memory_stays_flat() -> None:
    monitor = RateMonitor(1e-5)
    for reading in readings(1e-5, 1.0, error=10.0):
        monitor.update(reading)
    assert len(monitor._times) <= 10_001


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e10), st.none() | st.integers(0, 10**9), st.none() | st.floats(0, 1)
        ),
        max_size=100,
    ),
    st.booleans(),
)
@settings(deadline=None)
def test_whatever_comes_it_does_not_fail(
    stream: list[tuple[float, int | None, float | None]], ordered: bool
) -> None:
    monitor = RateMonitor(0.5)
    if ordered:
        stream.sort(key=lambda one: one[0])
    for time, number, error in stream:
        monitor.update(Reading(time, (), number, error))
    assert monitor.measured_period is None or monitor.measured_period > 0
