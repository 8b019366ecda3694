from __future__ import annotations

import dataclasses
import math

import pytest

from edgelstm.artifact import Artifact
from edgelstm.errors import ReadingError, StateError
from edgelstm.stand_ins import LONG_ABSENCE, Completed, StandIns, StandInState

NAN = math.nan
SETTLING = 21  # of `tiny`: a warm-up of 20 readings, and a horizon of 1


def take(stand_ins: StandIns, *values: float) -> Completed | None:
    return stand_ins.complete(values, whole=all(map(math.isfinite, values)))


def lists(completed: Completed | None) -> tuple[list[float], list[float]]:
    assert completed is not None
    return list(completed.inputs), list(completed.observed)


@pytest.fixture
def stand_ins(tiny: Artifact) -> StandIns:
    return StandIns(tiny.manifest)


def test_a_whole_reading_is_as_it_is(stand_ins: StandIns) -> None:
    assert lists(take(stand_ins, 1, 2)) == ([1, 2], [1, 2])


@pytest.mark.parametrize("missing", [NAN, math.inf, -math.inf])
def test_the_last_value_stands_in_for_ever(stand_ins: StandIns, missing: float) -> None:
    take(stand_ins, 1, 2)
    for k in range(1000):
        inputs, observed = lists(take(stand_ins, missing, k))
        assert inputs == [1, k]
        assert math.isnan(observed[0])
        assert observed[1] == k


def test_a_short_absence_has_no_aftermath(stand_ins: StandIns) -> None:
    take(stand_ins, 1, 2)
    for _ in range(LONG_ABSENCE):
        take(stand_ins, NAN, 2)
    assert lists(take(stand_ins, 3, 2)) == ([3, 2], [3, 2])


def test_after_a_long_absence_a_channel_is_not_compared_at_once(stand_ins: StandIns) -> None:
    take(stand_ins, 1, 2)
    for _ in range(LONG_ABSENCE + 1):
        take(stand_ins, NAN, 2)
    for _ in range(SETTLING):
        inputs, observed = lists(take(stand_ins, 3, 2))
        assert inputs == [3, 2]
        assert math.isnan(observed[0])
        assert observed[1] == 2
    assert lists(take(stand_ins, 3, 2)) == ([3, 2], [3, 2])


def test_a_channel_without_any_value_stands_at_its_mean_after_a_while(
    tiny: Artifact, stand_ins: StandIns
) -> None:
    assert tiny.manifest.detection is not None
    for _ in range(LONG_ABSENCE):
        assert take(stand_ins, NAN, 2) is None
    inputs, _ = lists(take(stand_ins, NAN, 2))
    assert inputs == [tiny.manifest.detection.channel_mean[0], 2]


def test_codes_have_no_mean(tiny: Artifact) -> None:
    port = tiny.manifest.inputs[0]
    codes = dataclasses.replace(port.channels[0], categories=("off", "on"))
    port = dataclasses.replace(port, channels=(codes, *port.channels[1:]))
    stand_ins = StandIns(dataclasses.replace(tiny.manifest, inputs=(port,)))
    assert all(take(stand_ins, NAN, 2) is None for _ in range(3 * LONG_ABSENCE))
    take(stand_ins, 1, 2)
    inputs, _ = lists(take(stand_ins, NAN, 2))
    assert inputs == [1, 2]


@pytest.mark.parametrize("values", [(1.0,), (NAN, 1.0, 1.0), (1.0, 2.0, 3.0)])
def test_another_number_of_values_is_refused(
    stand_ins: StandIns, values: tuple[float, ...]
) -> None:
    before = stand_ins.state
    with pytest.raises(ReadingError, match="this model takes"):
        take(stand_ins, *values)
    assert stand_ins.state == before


def test_it_goes_on_from_its_state(tiny: Artifact, stand_ins: StandIns) -> None:
    run = [(NAN, 1.0)] * 12 + [(2.0, 1.0)] * 2 + [(3.0, NAN)] * 12 + [(3.0, 1.0)] * 25
    for values in run:
        other = StandIns(tiny.manifest)
        other.state = stand_ins.state
        assert repr(take(other, *values)) == repr(take(stand_ins, *values))
        assert other.state == stand_ins.state


@pytest.mark.parametrize(
    "state",
    [
        StandInState((1.0,), (0,), (0,)),
        StandInState((1.0, NAN), (0, 0), (0, 0)),
        StandInState((1.0, None), (0, -1), (0, 0)),
        StandInState((1.0, None), (0, 1), (-1, 0)),
        "state",
    ],
)
def test_a_state_that_cannot_be_is_refused(stand_ins: StandIns, state: StandInState) -> None:
    before = stand_ins.state
    with pytest.raises(StateError, match="not of this model"):
        stand_ins.state = state
    assert stand_ins.state == before
