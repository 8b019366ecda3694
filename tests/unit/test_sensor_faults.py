from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from itertools import zip_longest

import numpy as np
import pytest

from edgelstm.alert import Alert, AlertChange, AlertEvent, AlertKind, ChannelShare, Severity
from edgelstm.errors import ConfigurationError, StateError
from edgelstm.manifest import ChannelLimits
from edgelstm.reading import Reading
from edgelstm.sensor_faults import ChannelState, FaultsState, OpenFault, SensorFaults

OPENED, CLOSED = AlertEvent.OPENED, AlertEvent.CLOSED
NAN = math.nan
News = list[tuple[int, str, AlertEvent]]


def one(
    low: float | None = None, high: float | None = None, flat: int | None = None
) -> SensorFaults:
    return SensorFaults(["a"], [ChannelLimits(low, high, flat)], 1.0)


def feed(faults: SensorFaults, values: Iterable[float], start: float = 0) -> News:
    """Feeds readings of one channel, one a second; gives (index, reason, event) of each change."""
    return [
        (i, change.alert.reason, change.event)
        for i, value in enumerate(values)
        for change in faults.update(Reading(start + i, (value,)))
    ]


def lively(count: int) -> list[float]:
    """A sensor that works: every value is another one."""
    return [i / 1000 for i in range(count)]


def test_working_sensor_has_no_fault() -> None:
    faults = one(low=-1, high=1, flat=3)
    assert feed(faults, lively(200)) == []
    assert faults.open == ()


def test_fault_is_an_alert_that_names_its_channel_and_reason() -> None:
    faults = SensorFaults(["a", "b"], [ChannelLimits(), ChannelLimits(high=5)], 1.0)
    changes = [faults.update(Reading(10.0 + i, (float(i), 6.0 + i))) for i in range(3)]
    alert = Alert(
        1,
        AlertKind.SENSOR_FAULT,
        opened=12.0,
        peak_score=None,
        channels=(ChannelShare("b", 1.0),),
        reason="out of range",
    )
    assert changes == [(), (), (AlertChange(OPENED, alert),)]
    assert faults.open == (alert,)


def test_faults_are_numbered_from_one() -> None:
    faults = one(high=1)
    feed(faults, [*[2, 3, 4], *lively(10), *[2, 3, 4]])
    assert faults.opened == 2
    assert [alert.number for alert in faults.open] == [2]


def test_closed_fault_tells_how_long_it_was() -> None:
    faults = one(high=1)
    feed(faults, [2, 3, 4, *lively(9)])
    (change,) = faults.update(Reading(20.0, (0.5,)))
    assert change.alert.duration == 18.0


# Flat


def test_sensor_that_stays_the_same_is_flat() -> None:
    assert feed(one(flat=5), [1, 2, 3, 3, 3, 3, 3, 3]) == [(6, "flat", OPENED)]


def test_sensor_that_may_stay_the_same_is_never_flat() -> None:
    assert feed(one(flat=None), [3] * 500) == []


def test_flat_fault_closes_after_ten_changes() -> None:
    stuck, change = [3.0] * 5, [(i + 4) / 1000 for i in range(12)]
    news = feed(one(flat=5), [*stuck, *change])
    assert news == [(4, "flat", OPENED), (14, "flat", CLOSED)]


def test_stuck_sensor_that_moves_now_and_then_does_not_flap() -> None:
    values = [float(i // 6) for i in range(600)]  # six equal ones, then another value
    assert feed(one(flat=5), values) == [(4, "flat", OPENED)]


def test_coarse_sensor_that_moves_is_believed_again() -> None:
    values = [3.0] * 5 + [float(i // 3) for i in range(60)]
    assert feed(one(flat=5), values) == [(4, "flat", OPENED), (32, "flat", CLOSED)]


def test_missing_value_neither_breaks_nor_adds_to_a_flat_stretch() -> None:
    assert feed(one(flat=4), [3, 3, NAN, 3, NAN, 3, 3]) == [(5, "flat", OPENED)]


# Out of range


def test_sensor_outside_its_range_three_times_in_a_row_is_at_fault() -> None:
    assert feed(one(low=0, high=1), [2, -3, 0.5, 2, -3, 4]) == [(5, "out of range", OPENED)]


def test_limits_themselves_are_inside() -> None:
    assert feed(one(low=0, high=1), [0, 1] * 5) == []


def test_sensor_without_limits_has_any_value() -> None:
    assert feed(one(), [1e300, -1e300, 0.0] * 5) == []


def test_range_fault_closes_after_ten_inside_in_a_row() -> None:
    values = [5.0, 6, 7, *lively(9), 5, *lively(10)]
    assert feed(one(high=1), values) == [(2, "out of range", OPENED), (22, "out of range", CLOSED)]


def test_sensor_at_the_edge_of_its_range_does_not_flap() -> None:
    values = [1.1, 1.2, 1.3, 0.9] * 100
    assert feed(one(high=1), values) == [(2, "out of range", OPENED)]


def test_stuck_outside_its_range_is_two_faults() -> None:
    faults = one(high=1, flat=5)
    assert feed(faults, [7] * 20) == [(2, "out of range", OPENED), (4, "flat", OPENED)]
    assert [alert.reason for alert in faults.open] == ["out of range", "flat"]


# Missing


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_channel_without_a_value_for_more_than_ten_readings_is_missing(value: float) -> None:
    assert feed(one(), [1, *[value] * 10, 2]) == []
    assert feed(one(), [1, *[value] * 20]) == [(11, "missing", OPENED)]


def test_missing_fault_closes_after_ten_values_in_a_row() -> None:
    values = [*[NAN] * 11, *lively(9), NAN, *lively(10)]
    assert feed(one(), values) == [(10, "missing", OPENED), (30, "missing", CLOSED)]


def test_missing_channel_leaves_the_others_alone() -> None:
    faults = SensorFaults(["a", "b"], [ChannelLimits(flat=50)] * 2, 1.0)
    changes = [c for i in range(40) for c in faults.update(Reading(i, (NAN, i / 7)))]
    assert [c.alert.channels for c in changes] == [(ChannelShare("a", 1.0),)]


# Silence


def test_silence_is_missing_of_all_channels_until_the_next_reading() -> None:
    faults = SensorFaults(["a", "b"], [ChannelLimits()] * 2, 1.0)
    faults.update(Reading(100.0, (1.0, 2.0)))
    assert faults.silent(109.9) == ()
    ((event, alert),) = faults.silent(110.0)
    assert (event, alert.reason, alert.opened) == (OPENED, "missing", 110.0)
    assert alert.channels == (ChannelShare("a", 0.5), ChannelShare("b", 0.5))
    assert faults.silent(200.0) == ()
    ((event, alert),) = faults.update(Reading(201.0, (1.0, 2.0)))
    assert (event, alert.reason, alert.closed) == (CLOSED, "missing", 201.0)
    assert faults.open == ()


@pytest.mark.parametrize("value", [NAN, math.inf])
def test_readings_without_any_value_are_one_fault_of_all_channels(value: float) -> None:
    faults = SensorFaults(["a", "b"], [ChannelLimits()] * 2, 1.0)
    readings = [(1.0, 2.0), *[(value, NAN)] * 30, (1.0, 2.0)]
    changes = [c for i, v in enumerate(readings) for c in faults.update(Reading(i, v))]
    assert [(c.event, c.alert.opened, c.alert.closed) for c in changes] == [
        (OPENED, 10, None),
        (CLOSED, 10, 31),
    ]
    assert [share.name for share in changes[0].alert.channels] == ["a", "b"]


def test_only_that_all_channels_are_missing_is_critical() -> None:
    limits = [ChannelLimits(), ChannelLimits(high=5, flat=3)]
    faults = SensorFaults(["a", "b"], limits, 1.0)
    values = [(NAN, 6.0)] * 11 + [(NAN, NAN)] * 11
    alerts = {
        change.alert.reason: change.alert.severity
        for i, each in enumerate(values)
        for change in faults.update(Reading(float(i), each))
        if len(change.alert.channels) == 1
    }
    assert alerts == dict.fromkeys(["missing", "out of range", "flat"], Severity.WARNING)
    assert [len(a.channels) for a in faults.open if a.severity is Severity.CRITICAL] == [2]
    again = SensorFaults(["a", "b"], limits, 1.0)
    again.state = faults.state
    assert again.open == faults.open


@pytest.mark.parametrize("silent", [False, True])
def test_only_channel_that_is_missing_is_critical(silent: bool) -> None:
    faults = one(flat=3)
    if silent:
        faults.update(Reading(0.0, (1.0,)))
        faults.silent(20.0)
    else:
        feed(faults, [NAN] * 11)
    assert [alert.severity for alert in faults.open] == [Severity.CRITICAL]
    again = one(flat=3)
    again.state = faults.state
    assert again.open == faults.open


def test_wrong_rate_is_a_warning() -> None:
    faults = one()
    for i in range(60):
        faults.update(Reading(2.0 * i, (float(i),)))
    assert [(a.reason, a.severity) for a in faults.open] == [("wrong rate", Severity.WARNING)]


def test_numbers_that_begin_anew_are_no_gap_after_renumber() -> None:
    def counts(faults: SensorFaults) -> int:
        return len(faults.state.intervals)

    faults = one()
    faults.update(Reading(0.0, (1.0,), 700))
    faults.update(Reading(1.0, (2.0,), 701))
    faults.update(Reading(2.0, (3.0,), 0))
    assert counts(faults) == 1
    faults.renumber()
    faults.update(Reading(3.0, (4.0,), 9))
    assert counts(faults) == 2


def test_silence_of_a_fast_sensor_lasts_five_seconds_at_least() -> None:
    faults = SensorFaults(["a"], [ChannelLimits()], 0.01)
    faults.update(Reading(100.0, (1.0,)))
    assert faults.silent(104.9) == ()
    assert len(faults.silent(105.0)) == 1


def test_silence_before_the_first_reading_counts_from_when_it_was_told() -> None:
    faults = one()
    assert faults.silent(1000.0) == ()
    assert faults.silent(1009.0) == ()
    assert len(faults.silent(1010.0)) == 1


# The rate


def at(faults: SensorFaults, times: Iterable[float], numbers: Iterable[int] = ()) -> News:
    """Feeds readings of one channel at given times; changes as of `feed`."""
    return [
        (i, change.alert.reason, change.event)
        for i, (time, number) in enumerate(zip_longest(times, numbers))
        for change in faults.update(Reading(time, (i / 7,), number))
    ]


@pytest.mark.parametrize("interval", [0.75, 1.25, 10.0])
def test_rate_that_is_wrong_for_fifty_intervals_is_a_fault(interval: float) -> None:
    assert at(one(), [i * interval for i in range(300)]) == [(50, "wrong rate", OPENED)]


@pytest.mark.parametrize("interval", [0.85, 1.0, 1.15])
def test_rate_that_is_nearly_right_is_none(interval: float) -> None:
    assert at(one(), [i * interval for i in range(300)]) == []


@pytest.mark.parametrize("interval", [0.5, 2.0])
def test_wrong_rate_is_over_when_three_quarters_of_the_intervals_are_right(interval: float) -> None:
    times = [i * interval for i in range(60)]
    times += [times[-1] + i for i in range(1, 60)]
    assert at(one(), times) == [(50, "wrong rate", OPENED), (97, "wrong rate", CLOSED)]


def test_wrong_rate_is_of_all_channels() -> None:
    faults = SensorFaults(["a", "b"], [ChannelLimits()] * 2, 1.0)
    (change,) = [c for i in range(60) for c in faults.update(Reading(2.0 * i, (i, i)))]
    assert change.alert.channels == (ChannelShare("a", 0.5), ChannelShare("b", 0.5))


@pytest.mark.parametrize(
    "intervals", [[1.3] * 7 + [0.3] * 3, [1.3] * 14 + [0.0] * 11, [0.0] * 6 + [5.0] * 4]
)
def test_median_and_mean_must_be_wrong_the_same_way(intervals: list[float]) -> None:
    assert at(one(), np.cumsum(intervals * 20).tolist()) == []


def test_wrong_rate_is_over_when_readings_come_in_bursts_at_the_right_one() -> None:
    times = [i * 2.0 for i in range(60)]
    times += [times[-1] + i // 10 * 10 + 10 for i in range(100)]
    news = at(one(), times)
    assert [event for _, _, event in news] == [OPENED, CLOSED]


def test_rate_on_the_boundary_does_not_flap() -> None:
    # intervals of 1.15 and 1.25 in turns, stretches of either
    times, time = [], 0.0
    for i in range(2000):
        times.append(time)
        time += 1.25 if i // 30 % 2 or i % 2 else 1.15
    assert len(at(one(), times)) <= 1


def test_readings_in_bursts_have_no_wrong_rate() -> None:
    assert at(one(), [float(i // 10 * 10) for i in range(500)]) == []


def test_readings_some_of_which_are_missing_have_no_wrong_rate() -> None:
    assert at(one(), [float(i) for i in range(500) if i % 3]) == []


def test_gaps_that_sequence_numbers_tell_of_are_no_wrong_rate() -> None:
    numbers = [i for i in range(900) if i % 3 == 0]
    assert at(one(), map(float, numbers), numbers) == []
    # and without the numbers
    assert at(one(), map(float, numbers)) == [(50, "wrong rate", OPENED)]


def test_silence_is_no_interval() -> None:
    faults = one()
    feed(faults, lively(60))
    before = faults.state.intervals
    faults.silent(1000.0)
    faults.update(Reading(1001.0, (5.0,)))
    assert faults.state.intervals == before


# The state


def test_restored_faults_go_on_as_before() -> None:
    faults, other = one(high=1, flat=5), one(high=1, flat=5)
    feed(faults, [7.0] * 9 + [NAN] * 20)
    other.state = faults.state
    assert other.open == faults.open
    values = [7.0] * 3 + lively(12)
    assert feed(other, values, 29) == feed(faults, values, 29) != []
    assert other.state == faults.state


def test_rate_is_judged_as_before_after_a_restore() -> None:
    faults, other = one(), one()
    times = [i * 2.0 for i in range(40)]
    assert at(faults, times) == []
    other.state = faults.state
    rest = [80 + i * 2.0 for i in range(20)]
    assert at(other, rest) == at(faults, rest) == [(10, "wrong rate", OPENED)]


def test_faults_restored_anywhere_go_on_as_before() -> None:
    values = [
        9.0,
        9,
        0.5,
        *[NAN] * 12,
        7,
        NAN,
        8,
        8,
        *lively(11),
        *[0.25] * 9,
        *lively(15),
        8,
        8,
        8,
    ]
    whole = one(high=1, flat=5)
    expected = feed(whole, values)
    assert len(expected) == 7
    for place in range(len(values)):
        first, second = one(high=1, flat=5), one(high=1, flat=5)
        head = feed(first, values[:place])
        second.state = first.state
        rest = feed(second, values[place:], start=place)
        assert head + [(i + place, *news) for i, *news in rest] == expected
        assert second.state == whole.state


GOOD = FaultsState(1, (ChannelState(),))


@pytest.mark.parametrize(
    "state",
    [
        None,
        FaultsState(0, ()),
        dataclasses.replace(GOOD, timestamp=NAN),
        dataclasses.replace(GOOD, opened=-1),
        dataclasses.replace(GOOD, silent=OpenFault(2, 0.0)),
        dataclasses.replace(GOOD, intervals=(1.0,) * 51),
        dataclasses.replace(GOOD, channels=(ChannelState(same=-1),)),
        dataclasses.replace(GOOD, channels=(ChannelState(value=math.inf),)),
        dataclasses.replace(GOOD, channels=(ChannelState(flat=OpenFault(0, 0.0)),)),
    ],
)
def test_wrong_state_is_refused(state: object) -> None:
    one().state = GOOD
    with pytest.raises(StateError, match="no state of the sensor faults of 1 channels"):
        one().state = state  # type: ignore[assignment]


# Settings


def test_limits_that_do_not_fit_the_channels_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="limits for 1 channels, and 2 channels"):
        SensorFaults(["a", "b"], [ChannelLimits()], 1.0)


@pytest.mark.parametrize("period", [0.0, -1.0, NAN, math.inf])
def test_sample_period_that_is_not_positive_is_refused(period: float) -> None:
    with pytest.raises(ConfigurationError, match="must be above 0"):
        SensorFaults(["a"], [ChannelLimits()], period)
