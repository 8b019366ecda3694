from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.errors import OutboxError
from edgelstm.evidence import Evidence
from edgelstm.pipeline import Verdict
from edgelstm.reading import Reading

NAN = math.nan
PREDICTED, RESIDUAL = np.array([19.5]), np.array([0.5])
VERDICTS = [
    Verdict(Reading(1000.0, (20.0, -5.0))),
    Verdict(Reading(1060.0, (21.5, NAN)), PREDICTED, RESIDUAL),
    Verdict(Reading(1090.0, ())),  # silence, and no reading
    Verdict(Reading(1120.0, (NAN, math.inf))),
    Verdict(Reading(1180.25, (1 / 3, 2e9 / 3)), PREDICTED / 3, RESIDUAL, 12.3456789, 9.0, True),
]
EVIDENCE = Evidence.of(VERDICTS, ("flow", "level"), ("flow",))


def stored(evidence: Evidence) -> Evidence:
    text = json.dumps(evidence.to_dict(), allow_nan=False)
    return Evidence.from_dict(json.loads(text))


def test_it_has_a_row_per_reading() -> None:
    expected = Evidence(
        channels=("flow", "level"),
        compared=("flow",),
        times=(1000.0, 1060.0, 1120.0, 1180.25),
        values=((20.0, -5.0), (21.5, None), (None, None), (1 / 3, 2e9 / 3)),
        predicted=(None, (19.5,), None, (6.5,)),
        scores=(None, None, None, 12.3456789),
        thresholds=(None, None, None, 9.0),
    )
    assert expected == EVIDENCE


def test_of_a_window_the_last_reading_is_kept() -> None:
    window = np.arange(6.0)  # three readings of two channels
    verdict = Verdict(Reading(0.0, (1.0, 2.0)), window, window, 1.0, 2.0)
    assert Evidence.of([verdict], ("a", "b"), ("a", "b")).predicted == ((4.0, 5.0),)


def test_prediction_that_is_no_number_is_none() -> None:
    verdict = Verdict(Reading(0.0, (1.0,)), np.array([NAN]), np.array([NAN]))
    assert Evidence.of([verdict], ("a",), ("a",)).predicted == (None,)


def test_what_is_stored_is_rounded_and_otherwise_the_same() -> None:
    back = stored(EVIDENCE)
    assert back.values == ((20.0, -5.0), (21.5, None), (None, None), (0.333333, 666667000.0))
    assert back.scores == (None, None, None, 12.3457)
    assert back.times == EVIDENCE.times
    assert back.predicted == EVIDENCE.predicted
    assert stored(back) == back


def test_times_keep_their_microseconds() -> None:
    time = 1_764_547_200.123456
    evidence = Evidence.of([Verdict(Reading(time, (1.0,)))], ("a",), ())
    assert stored(evidence).times == (time,)
    assert evidence.to_dict()["times"] == [time]


def test_no_readings_are_evidence_too() -> None:
    empty = Evidence.of([], ("a", "b"), ("a",))
    assert stored(empty) == empty


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_rounded_to_six_digits(number: float) -> None:
    evidence = Evidence.of([Verdict(Reading(0.0, (number,)))], ("a",), ())
    ((rounded,),) = stored(evidence).values
    assert rounded is not None
    assert rounded == pytest.approx(number, rel=5.1e-6, abs=1e-299)
    if 1e-15 < abs(number) < 1e22:  # written in no more digits than that
        assert rounded == float(f"{rounded:.6g}")


@pytest.mark.parametrize(
    "changes",
    [
        {"times": [1000.0]},
        {"times": [None, 1.0, 2.0, 3.0]},
        {"times": ["1", "2", "3", "4"]},
        {"values": [[1.0]] * 4},
        {"values": [1.0] * 4},
        {"values": None},
        {"predicted": [[1.0, 2.0]] * 4},
        {"predicted": [[None]] * 4},
        {"predicted": [[]] * 4},
        {"scores": [True] * 4},
        {"channels": "fl"},
        {"compared": [1]},
    ],
)
def test_what_is_no_evidence_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(OutboxError, match="no evidence of an alert"):
        Evidence.from_dict(EVIDENCE.to_dict() | changes)


def test_a_missing_column_is_refused() -> None:
    data = EVIDENCE.to_dict()
    for name in data:
        with pytest.raises(OutboxError, match=name):
            Evidence.from_dict({key: value for key, value in data.items() if key != name})
