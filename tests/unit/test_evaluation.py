from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from edgelstm.demo.evaluation import (
    RECORDING,
    TRAINING_ROWS,
    Announcement,
    Failure,
    evaluate,
    read_failures,
)
from edgelstm.recording import Recording, read_csv

FIRST = Failure(time=100, start=90, end=110)
SECOND = Failure(time=200, start=180, end=220)


def test_alert_in_a_window_announces_its_failure() -> None:
    evaluation = evaluate([185.0], [FIRST, SECOND])
    assert evaluation.announcements == (Announcement(FIRST, None), Announcement(SECOND, 185))
    assert evaluation.hits == 1
    assert evaluation.false_alarms == ()


@pytest.mark.parametrize(("alert", "hits"), [(89.9, 0), (90, 1), (100, 1), (110, 1), (110.1, 0)])
def test_window_includes_both_ends(alert: float, hits: int) -> None:
    evaluation = evaluate([alert], [FIRST])
    assert evaluation.hits == hits
    assert len(evaluation.false_alarms) == 1 - hits


def test_first_alert_of_a_window_counts_and_the_others_are_not_false() -> None:
    evaluation = evaluate([105.0, 95.0, 109.0], [FIRST])
    assert evaluation.announcements == (Announcement(FIRST, 95),)
    assert evaluation.false_alarms == ()


def test_alerts_outside_all_windows_are_false() -> None:
    evaluation = evaluate([10.0, 95.0, 150.0, 230.0], [FIRST, SECOND])
    assert evaluation.false_alarms == (10, 150, 230)
    assert evaluation.hits == 1


def test_alert_in_two_windows_announces_both() -> None:
    overlapping = Failure(time=120, start=105, end=130)
    assert evaluate([107.0], [FIRST, overlapping]).hits == 2


def test_no_alerts_and_no_failures() -> None:
    assert evaluate([], [FIRST]).hits == 0
    assert evaluate([5.0], []).false_alarms == (5,)


def test_failures_are_read_as_utc(tmp_path: Path) -> None:
    path = tmp_path / "failures.json"
    window = ["1970-01-01 00:00:30", "1970-01-01 00:02:00"]
    path.write_text(json.dumps({"failures": [{"time": "1970-01-01 00:01:00", "window": window}]}))
    assert read_failures(path) == (Failure(60, 30, 120),)


@pytest.fixture(scope="module")
def shipped() -> Recording:
    return read_csv(RECORDING)


def test_shipped_recording(shipped: Recording) -> None:
    assert len(shipped) == 22_695
    assert shipped.channels == ("value",)
    assert shipped.sample_period == 300


def test_shipped_failures_lie_in_the_part_that_is_watched(shipped: Recording) -> None:
    failures = read_failures()
    assert len(failures) == 4
    watched = shipped.rows(TRAINING_ROWS, None)
    for failure in failures:
        assert watched.timestamps[0] < failure.start < failure.time < failure.end
        assert failure.end < watched.timestamps[-1]


def test_shipped_windows_do_not_overlap() -> None:
    failures = read_failures()
    assert all(a.end < b.start for a, b in pairwise(failures))
