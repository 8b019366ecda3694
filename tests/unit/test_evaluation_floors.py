from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm.evaluation.events import Alerts
from edgelstm.evaluation.floors import always_on, clock, random_alerts


def test_clock_is_on_after_a_fifth() -> None:
    alarm = clock(50).rows(50)
    assert np.flatnonzero(alarm).tolist() == list(range(10, 50))


def test_always_on() -> None:
    assert always_on(7).rows(7).all()
    assert always_on(7).starts.tolist() == [0]


bits = st.lists(st.booleans(), min_size=1, max_size=60)


@given(bits, st.integers(0, 5))
@settings(max_examples=20)
def test_random_alerts_have_the_same_alarm_time_in_as_many_alerts(
    alarm: list[bool], seed: int
) -> None:
    rows = len(alarm)
    for drawn in random_alerts(Alerts.from_rows(alarm), rows, draws=5, seed=seed):
        assert drawn.rows(rows).sum() == sum(alarm)
        assert drawn.opened.sum() == len(Alerts.from_rows(alarm).starts)
        assert (drawn.starts < drawn.stops).all()
        assert (drawn.stops[:-1] <= drawn.starts[1:]).all()
        assert (drawn.stops <= rows).all()


def test_every_row_is_as_likely_in_alarm() -> None:
    """On a line the long alert would cover the middle in every draw."""
    alarm = np.zeros(40, bool)
    alarm[:25] = alarm[30:33] = True
    draws = [d.rows(40) for d in random_alerts(Alerts.from_rows(alarm), 40, 1500)]
    assert np.mean(draws, axis=0) == pytest.approx(28 / 40, abs=0.05)


def test_alerts_come_in_any_order() -> None:
    alerts = Alerts.from_rows([1, 0, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0])
    seen = {
        tuple((d.stops - d.starts).tolist())
        for d in random_alerts(alerts, 12, 200)
        if d.opened.all()
    }
    assert len(seen) == 6


def test_same_seed_same_places() -> None:
    alerts = Alerts.from_rows([0, 1, 1, 0, 0, 1, 0, 0, 0, 0])
    first, again = (
        [(d.starts.tolist(), d.stops.tolist()) for d in random_alerts(alerts, 10, 20, seed)]
        for seed in (3, 3)
    )
    assert first == again
    other = [d.starts.tolist() for d in random_alerts(alerts, 10, 20, 4)]
    assert [starts for starts, _ in first] != other


def test_no_alerts_no_random_alerts() -> None:
    drawn = next(random_alerts(Alerts.from_rows([0, 0, 0]), 3))
    assert not drawn.rows(3).any()
