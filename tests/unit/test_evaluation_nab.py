from __future__ import annotations

import math

import numpy as np
import pytest

from edgelstm.evaluation.events import Alerts
from edgelstm.evaluation.labels import Event
from edgelstm.evaluation.nab import nab_points, nab_score

WINDOWS = (Event(100, 200), Event(500, 600))


def at(*rows: int) -> Alerts:
    starts = np.array(rows, np.int64)
    return Alerts(starts, starts + 1, np.ones(len(rows), bool))


def test_no_alerts_get_0() -> None:
    assert nab_points(at(), WINDOWS) == -2
    assert nab_score([(at(), WINDOWS), (at(), ())]) == 0


def test_an_alert_at_the_start_of_every_window_gets_100() -> None:
    assert nab_score([(at(100, 500), WINDOWS), (at(), ())]) == pytest.approx(100)


def test_places_in_a_window() -> None:
    # NAB: halfway into the window the weight is 0.84828, over 0.98661 at its start.
    assert nab_points(at(150), WINDOWS[:1]) == pytest.approx(0.84828 / 0.98661, abs=1e-5)
    last = 2 / (1 + math.exp(-5 / 100)) - 1
    assert nab_points(at(199), WINDOWS[:1]) == pytest.approx(last / 0.986614, abs=1e-5)


def test_only_the_first_alert_of_a_window_counts() -> None:
    assert nab_points(at(110, 150, 190), WINDOWS) == nab_points(at(110), WINDOWS)


def test_false_alarms() -> None:
    missed = nab_points(at(), WINDOWS)
    assert nab_points(at(99), WINDOWS) == pytest.approx(missed - 0.11)
    # One window's length, less a row, behind the window: 0.98661 of the whole.
    assert nab_points(at(298), WINDOWS) == pytest.approx(missed - 0.11 * 0.986614, abs=1e-6)
    assert nab_points(at(499), WINDOWS) == pytest.approx(missed - 0.11)
    just_after = nab_points(at(200), WINDOWS)
    assert missed - 0.01 < just_after < missed


def test_alert_open_before_the_first_row_is_none() -> None:
    assert nab_points(Alerts(np.array([150]), np.array([170]), np.array([False])), WINDOWS) == -2


def test_nothing_to_tell() -> None:
    assert nab_score([(at(5), ())]) is None
