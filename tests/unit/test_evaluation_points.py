from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm.evaluation.events import Alerts
from edgelstm.evaluation.labels import Event, Labels, from_column
from edgelstm.evaluation.points import PointTally, count_points

TRUTH = [0, 0, 1, 1, 1, 1, 0, 0, 0, 1]
ALARM = [0, 1, 1, 1, 0, 0, 0, 0, 1, 0]


def test_figures_by_hand() -> None:
    tally = count_points(Alerts.from_rows(ALARM), from_column(TRUTH, "x"))
    assert (tally.hits, tally.misses, tally.false, tally.quiet) == (2, 3, 2, 3)
    assert tally.false_alarm_rate == pytest.approx(40)
    assert tally.missed_alarm_rate == pytest.approx(60)
    assert tally.f1 == pytest.approx(2 / (2 + (3 + 2) / 2))
    assert tally.j == pytest.approx(0)


def test_point_adjustment_takes_a_whole_event_for_one_row() -> None:
    tally = count_points(Alerts.from_rows(ALARM), from_column(TRUTH, "x"))
    assert tally.adjusted_hits == 4
    assert tally.adjusted_f1 == pytest.approx(4 / (4 + (1 + 2) / 2))


def test_point_adjustment_counts_overlapping_windows_once() -> None:
    anomalous = np.array(TRUTH, bool)
    events = (Event(2, 5), Event(3, 6), Event(9, 10))
    truth = Labels(anomalous, np.ones(10, bool), events)
    assert count_points(Alerts.from_rows(ALARM), truth).adjusted_hits == 4


def test_alert_just_after_an_event_adjusts_nothing() -> None:
    alarm = [0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
    assert count_points(Alerts.from_rows(alarm), from_column(TRUTH, "x")).adjusted_hits == 0


def test_alert_that_was_open_before_the_first_row_is_an_alarm() -> None:
    found = Alerts(np.array([0]), np.array([3]), np.array([False]))
    tally = count_points(found, from_column(TRUTH, "x"))
    assert (tally.hits, tally.false) == (1, 2)


def test_counts_are_summed_before_the_rates() -> None:
    both = PointTally(hits=1, false=1, quiet=1) + PointTally(hits=1, misses=2, quiet=8)
    assert both.false_alarm_rate == 10
    assert both.missed_alarm_rate == 50


def test_nothing_to_tell() -> None:
    normal = count_points(Alerts.from_rows([0, 1]), from_column([0, 0], "x"))
    assert normal.missed_alarm_rate is normal.f1 is normal.j is normal.adjusted_f1 is None
    assert normal.false_alarm_rate == 50
    anomalous = count_points(Alerts.from_rows([0, 1]), from_column([1, 1], "x"))
    assert anomalous.false_alarm_rate is anomalous.j is None
    assert anomalous.missed_alarm_rate == 50


bits = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


@given(bits)
@settings(max_examples=40)
def test_same_as_counting_row_by_row(rows: list[tuple[bool, bool]]) -> None:
    alarm, truth = np.array(rows).T
    tally = count_points(Alerts.from_rows(alarm), from_column(truth.astype(float), "x"))
    assert tally.hits == (alarm & truth).sum()
    assert tally.misses == (~alarm & truth).sum()
    assert tally.false == (alarm & ~truth).sum()
    assert tally.quiet == (~alarm & ~truth).sum()
    assert tally.hits <= tally.adjusted_hits <= tally.hits + tally.misses
