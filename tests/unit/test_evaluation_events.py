from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgelstm.evaluation.events import (
    Alerts,
    EventTally,
    Finding,
    count_events,
    false_rows,
    find,
)
from edgelstm.evaluation.labels import Event, Labels, from_column

ROWS = 40
TIMES = np.arange(ROWS, dtype=np.float64) * 10 + 1e9
EVENTS = (Event(10, 15), Event(25, 30))


def alerts(*spans: tuple[int, int]) -> Alerts:
    """Alerts from row to row; -1: open before the first."""
    starts, stops = zip(*spans, strict=True) if spans else ((), ())
    firsts = np.array(starts, np.int64)
    return Alerts(np.maximum(firsts, 0), np.array(stops, np.int64), firsts >= 0)


def labels(events: tuple[Event, ...] = EVENTS) -> Labels:
    anomalous = np.zeros(ROWS, bool)
    for event in events:
        anomalous[event.start : event.stop] = True
    return Labels(anomalous, np.ones(ROWS, bool), events)


def tally(*spans: tuple[int, int], lead: float = 0.0) -> EventTally:
    return count_events(alerts(*spans), labels(), TIMES, 10.0, lead)


# Alerts from rows


def test_alerts_from_whether_one_is_open() -> None:
    found = Alerts.from_rows([0, 1, 1, 0, 1, 0, 1])
    assert found.starts.tolist() == [1, 4, 6]
    assert found.stops.tolist() == [3, 5, 7]
    assert found.rows(7).tolist() == [False, True, True, False, True, False, True]


def test_alert_that_opens_where_another_ends() -> None:
    found = Alerts.from_rows([1, 1, 1, 0], [1, 0, 1, 0])
    assert found.starts.tolist() == [0, 2]
    assert found.stops.tolist() == [2, 3]


def test_alert_that_was_open_before_the_first_row() -> None:
    found = Alerts.from_rows([1, 1, 0, 1], [0, 0, 0, 1])
    assert found.starts.tolist() == [0, 3]
    assert found.stops.tolist() == [2, 4]
    assert found.opened.tolist() == [False, True]
    assert found.rows(4).tolist() == [True, True, False, True]


def test_no_alerts() -> None:
    found = Alerts.from_rows([0, 0, 0], [0, 0, 0])
    assert len(found.starts) == len(found.stops) == 0
    assert not found.rows(3).any()


# What finds an event


def test_alert_in_an_event_finds_it_late_by_so_much() -> None:
    result = tally((12, 20))
    assert (result.events, result.found, result.alerts, result.false_alarms) == (2, 1, 1, 0)
    assert result.delays_s == (20.0,)
    assert result.delays_readings == (2,)
    assert result.precision == 1
    assert result.recall == 0.5
    assert result.f1 == pytest.approx(2 / 3)


@pytest.mark.parametrize(("row", "found"), [(9, 0), (10, 1), (14, 1), (15, 0)])
def test_first_and_last_row_of_an_event_belong_to_it(row: int, found: int) -> None:
    result = tally((row, row + 1))
    assert result.found == found
    assert result.false_alarms == 1 - found


def test_second_alert_in_an_event_is_right_but_finds_nothing_new() -> None:
    result = tally((11, 12), (13, 14))
    assert (result.found, result.alerts, result.false_alarms) == (1, 2, 0)
    assert result.delays_readings == (1,)


def test_alert_that_was_open_already_counts_apart() -> None:
    result = tally((8, 20))
    assert (result.found, result.already_open, result.false_alarms) == (0, 1, 1)
    assert result.recall == 0
    assert result.precision == 0
    assert result.f1 == 0


def test_already_open_alert_within_the_lead_finds_the_event() -> None:
    result = tally((8, 20), lead=20.0)
    assert (result.found, result.already_open, result.false_alarms) == (1, 0, 0)
    assert result.delays_s == (-20.0,)
    assert result.delays_readings == (-2,)
    assert tally((8, 20), lead=19.9).found == 0


def test_alert_that_closed_before_the_event_finds_nothing_whatever_the_lead() -> None:
    result = tally((8, 10), lead=1000.0)
    assert (result.found, result.already_open, result.false_alarms) == (0, 0, 1)


def test_already_open_alert_followed_by_one_in_the_event() -> None:
    result = tally((8, 12), (13, 20))
    assert (result.found, result.already_open, result.false_alarms) == (1, 0, 1)
    assert result.delays_readings == (3,)


def test_one_alert_over_two_events_finds_the_first() -> None:
    result = tally((12, 40))
    assert (result.found, result.already_open, result.false_alarms) == (1, 1, 0)


def test_alert_from_before_the_first_row_is_none_and_finds_nothing() -> None:
    result = tally((-1, 20), lead=1e9)
    assert (result.found, result.already_open, result.alerts) == (0, 1, 0)


def test_alert_that_opened_in_a_row_that_is_left_out() -> None:
    carried = Alerts(np.array([12, 20]), np.array([14, 22]), np.array([False, False]))
    result = count_events(carried, labels(), TIMES, 10.0)
    assert (result.alerts, result.found, result.already_open, result.false_alarms) == (0, 0, 1, 0)


def test_findings_say_which_alert() -> None:
    findings = find(alerts((3, 4), (8, 12), (26, 27)), EVENTS, TIMES)
    assert findings == (Finding(EVENTS[0], None, True), Finding(EVENTS[1], 26, False))
    assert false_rows(alerts((3, 4), (8, 12), (26, 27)), labels(), findings).tolist() == [3, 8]


def test_false_alarms_per_day_of_normal_time() -> None:
    result = tally((1, 2), (20, 21), (26, 27))
    assert result.normal_days == pytest.approx(30 * 10 / 86_400)  # 30 normal rows at 10 s
    assert result.false_alarms_per_day == pytest.approx(2 / (300 / 86_400))


def test_nothing_to_tell() -> None:
    nothing = EventTally()
    assert nothing.precision is nothing.recall is nothing.f1 is None
    assert nothing.false_alarms_per_day is None
    assert tally().f1 == 0
    assert tally().precision is None


def test_tallies_add_up() -> None:
    both = tally((12, 20)) + tally((1, 2), (26, 27))
    assert (both.events, both.found, both.alerts, both.false_alarms) == (4, 2, 3, 1)
    assert both.delays_readings == (2, 1)
    assert both.normal_days == pytest.approx(2 * tally().normal_days)


# What is true of any alerts and labels


def seconds(count: int) -> NDArray[np.float64]:
    return np.arange(count, dtype=np.float64)


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[np.bool_], Labels]:
    rows = draw(st.integers(1, 40))
    bits = st.lists(st.booleans(), min_size=rows, max_size=rows)
    return np.array(draw(bits)), from_column(np.array(draw(bits), float), "x")


@given(cases())
@settings(max_examples=20)
def test_alerts_at_the_labels_are_perfect(case: tuple[NDArray[np.bool_], Labels]) -> None:
    _, truth = case
    result = count_events(Alerts.from_rows(truth.anomalous), truth, seconds(len(truth)), 1.0)
    if truth.events:
        assert result.precision == result.recall == result.f1 == 1
        assert set(result.delays_s) == {0.0}
    assert result.false_alarms == 0


@given(cases(), st.integers(-(10**9), 10**9), st.floats(0, 10))
@settings(max_examples=20)
def test_another_zero_of_time_changes_nothing(
    case: tuple[NDArray[np.bool_], Labels], shift: int, lead: float
) -> None:
    alarm, truth = case
    times = seconds(len(truth)) * 4
    found = Alerts.from_rows(alarm)
    assert count_events(found, truth, times, 4.0, lead) == count_events(
        found, truth, times + shift * 4, 4.0, lead
    )


@given(cases(), st.data())
@settings(max_examples=40)
def test_one_more_false_alarm_never_raises_precision_or_recall(
    case: tuple[NDArray[np.bool_], Labels], data: st.DataObject
) -> None:
    alarm, truth = case
    near = np.convolve(alarm, [1, 1, 1])[1:-1] > 0  # so that it is an alert of its own
    free = np.flatnonzero(~near & ~truth.anomalous)
    if not len(free):
        return
    more = alarm.copy()
    more[data.draw(st.sampled_from(free.tolist()))] = True
    times = seconds(len(truth))
    before = count_events(Alerts.from_rows(alarm), truth, times, 1.0)
    after = count_events(Alerts.from_rows(more), truth, times, 1.0)
    assert after.false_alarms == before.false_alarms + 1
    assert after.found == before.found
    if before.precision is not None:
        assert after.precision is not None
        assert after.precision <= before.precision


@given(cases())
@settings(max_examples=20)
def test_alerts_from_rows_and_back(case: tuple[NDArray[np.bool_], Labels]) -> None:
    alarm, _ = case
    assert (Alerts.from_rows(alarm).rows(len(alarm)) == alarm).all()
