from __future__ import annotations

import numpy as np
import pytest

from edgelstm.errors import RecordingError
from edgelstm.evaluation.labels import (
    Event,
    Labels,
    Window,
    all_normal,
    from_column,
    from_windows,
    match_rows,
)

NAN = np.nan
TIMES = np.arange(10, dtype=np.float64) * 60 + 1e9


def test_column_of_zeros_and_ones() -> None:
    labels = from_column([0, 1, 1, 0, 0, 1], "pump.csv")
    assert labels.events == (Event(1, 3), Event(5, 6))
    assert labels.anomalous.tolist() == [False, True, True, False, False, True]
    assert labels.known.all()


def test_column_that_begins_anomalous() -> None:
    assert from_column([1, 0, 1], "x").events == (Event(0, 1), Event(2, 3))


def test_rows_without_a_label_do_not_end_an_event() -> None:
    labels = from_column([NAN, 1, NAN, 1, NAN, 0, NAN, 1, NAN], "x")
    assert labels.events == (Event(1, 4), Event(7, 8))
    assert labels.known.tolist() == [False, True, False, True, False, True, False, True, False]
    known = labels.known_only()
    assert known.anomalous.tolist() == [True, True, False, True]
    assert known.events == (Event(0, 2), Event(3, 4))
    assert known.known.all()


def test_rows_before_the_first_that_counts() -> None:
    labels = from_column([1, 1, 0, 1, 1, 1, 0], "x").from_row(4)
    assert labels.events == (Event(0, 2),)
    assert labels.anomalous.tolist() == [True, True, False]
    assert len(labels) == 3


def test_event_that_ends_just_before_is_gone() -> None:
    assert from_column([1, 1, 0], "x").from_row(2).events == ()


@pytest.mark.parametrize("value", [2, 0.5, -1])
def test_column_of_something_else(value: float) -> None:
    with pytest.raises(RecordingError, match=r"pump.csv holds .* in row 2 .*is it a column of"):
        from_column([0, 1, value], "pump.csv")


def test_column_without_any_label() -> None:
    with pytest.raises(RecordingError, match="no label in any row"):
        from_column([NAN, NAN], "pump.csv")


def test_windows_include_both_ends() -> None:
    window = Window(TIMES[2], TIMES[4], TIMES[3])
    labels = from_windows(TIMES, [window], "pump.csv")
    assert labels.events == (Event(2, 5, TIMES[3]),)
    assert np.flatnonzero(labels.anomalous).tolist() == [2, 3, 4]


def test_windows_between_readings() -> None:
    labels = from_windows(TIMES, [Window(TIMES[6] - 1, TIMES[7] + 1), Window(0, TIMES[1])], "x")
    assert labels.events == (Event(0, 2), Event(6, 8))


def test_windows_that_overlap_stay_two_events() -> None:
    windows = [Window(TIMES[1], TIMES[4]), Window(TIMES[3], TIMES[6])]
    labels = from_windows(TIMES, windows, "x")
    assert labels.events == (Event(1, 5), Event(3, 7))
    assert labels.anomalous.sum() == 6


def test_window_in_a_gap_of_the_recording_is_left_out() -> None:
    assert from_windows(TIMES, [Window(TIMES[3] + 1, TIMES[4] - 1)], "x").events == ()


def test_no_windows_mean_that_all_is_normal() -> None:
    labels = from_windows(TIMES, [], "x")
    assert not labels.anomalous.any()
    assert labels.events == all_normal(10).events == ()


@pytest.mark.parametrize(
    "window", [Window(TIMES[0] - 9, TIMES[0] - 1), Window(TIMES[-1] + 1, TIMES[-1] + 9)]
)
def test_window_outside_the_recording(window: Window) -> None:
    with pytest.raises(RecordingError, match=r"lies outside pump.csv.*another recording\?$"):
        from_windows(TIMES, [window], "pump.csv")


def test_window_that_ends_before_it_starts() -> None:
    with pytest.raises(RecordingError, match="ends before it starts"):
        from_windows(TIMES, [Window(TIMES[4], TIMES[2])], "x")


def labelled(values: list[float]) -> Labels:
    return from_column(values, "labels.csv")


WHERE = ("labels.csv", "scores.csv")


def test_labels_are_found_by_time() -> None:
    labels = labelled([0, 0, 1, 1, 1, 0, NAN, 0, 0, 0])
    found = match_rows(labels, TIMES, np.array([TIMES[3], TIMES[4], TIMES[6], TIMES[7]]), WHERE)
    assert found.events == (Event(0, 2),)
    assert found.known.tolist() == [True, True, False, True]


def test_time_without_a_label_is_not_known() -> None:
    found = match_rows(labelled([0] * 10), TIMES, np.array([TIMES[3], TIMES[3] + 1, 2e9]), WHERE)
    assert found.known.tolist() == [True, False, False]


def test_no_time_in_common() -> None:
    with pytest.raises(RecordingError, match="files of another recording"):
        match_rows(labelled([0] * 10), TIMES, TIMES[:9] + 1, WHERE)


def test_the_same_time_twice() -> None:
    with pytest.raises(RecordingError, match=r"labels.csv has rows with the same time or back"):
        match_rows(labelled([0, 1]), np.array([5.0, 5.0]), np.array([5.0]), WHERE)


def test_as_many_rows_of_another_day_are_refused() -> None:
    labels = labelled([0, 1, 0])
    assert match_rows(labels, TIMES[:3], TIMES[2:5], WHERE) is labels  # they overlap
    for days in (-1, 1):
        with pytest.raises(RecordingError, match="do not overlap; are these files of another"):
            match_rows(labels, TIMES[:3] + days * 86_400, TIMES[:3], WHERE)


def test_as_many_rows_are_matched_row_by_row() -> None:
    labels = labelled([0, 1, 0])
    assert match_rows(labels, np.zeros(3), np.array([5.0, 6.0, 7.0]), WHERE) is labels
