import itertools
import math
import random
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm.errors import ConfigurationError
from edgelstm.reading import Reading
from edgelstm_bridge.resampling import Method, Resampler

BEGIN = 1_700_000_000.0
METHODS: list[Method] = ["auto", "linear", "mean", "hold"]


def resampled(resampler: Resampler, stream: Iterable[Reading]) -> list[Reading]:
    outputs = [output for reading in stream for output in resampler.push(reading)]
    return outputs + resampler.flush()


def wave(times: Iterable[float]) -> list[Reading]:
    """Readings of two channels at times after BEGIN."""
    return [Reading(BEGIN + t, (math.sin(t), t * t)) for t in times]


def uneven(period: float, seconds: float, seed: int = 0) -> list[float]:
    chance = random.Random(seed)  # noqa: S311 - no secrets
    return [(i + 0.4 * chance.random()) * period for i in range(round(seconds / period))]


def numbers(outputs: Iterable[Reading]) -> list[int]:
    """The places on the grid, counted from BEGIN on one of 10 ms."""
    return [(output.sequence_number or 0) - round(BEGIN * 100) for output in outputs]


@pytest.mark.parametrize("period", [0.0034, 0.01, 0.0173, 0.1])
def test_linear_is_what_numpy_interpolates(period: float) -> None:
    stream = wave(uneven(period, 3.0))
    outputs = resampled(Resampler(0.01, "linear"), stream)
    times = np.array([r.timestamp for r in stream])
    grid = np.arange(math.ceil(times[0] / 0.01), math.floor(times[-1] / 0.01) + 1)
    assert [o.sequence_number for o in outputs] == grid.tolist()
    assert [o.timestamp for o in outputs] == (grid * 0.01).tolist()
    for channel in range(2):
        expected = np.interp(grid * 0.01, times, [r.values[channel] for r in stream])
        got = [o.values[channel] for o in outputs]
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_mean_is_that_of_the_readings_around_each_time() -> None:
    stream = wave(uneven(0.0021, 2.0))
    outputs = resampled(Resampler(0.01, "mean"), stream)
    nearest = np.floor(np.array([r.timestamp for r in stream]) / 0.01 + 0.5).astype(int)
    assert [o.sequence_number for o in outputs] == sorted(set(nearest.tolist()))
    for output in outputs:
        inside = [r.values for r, n in zip(stream, nearest, strict=True) if n == output[2]]
        np.testing.assert_allclose(output.values, np.mean(inside, axis=0))


def test_hold_is_the_last_reading_before() -> None:
    stream = wave(uneven(0.03, 2.0))
    outputs = resampled(Resampler(0.01, "hold"), stream)
    for output in outputs:
        before = [r for r in stream if r.timestamp <= output.timestamp]
        assert output.values == before[-1].values
    assert len(outputs) == pytest.approx(197, abs=3)


@pytest.mark.parametrize(
    ("period", "method"), [(0.002, "mean"), (0.01, "linear"), (0.03, "linear")]
)
def test_auto_averages_what_is_faster(period: float, method: Method) -> None:
    stream = wave(uneven(period, 2.0))
    assert resampled(Resampler(0.01), stream) == resampled(Resampler(0.01, method), stream)


def test_auto_changes_with_the_input() -> None:
    fast = uneven(0.002, 2.0)
    slow = [2.0 + t for t in uneven(0.03, 4.0)]
    outputs = resampled(Resampler(0.01), wave(fast + slow + [6.0 + t for t in fast]))
    got = numbers(outputs)
    # A slower input is a row of gaps until its period is known.
    assert got[:200] == list(range(got[0], got[0] + 200))
    assert got[-530:] == list(range(got[-1] - 529, got[-1] + 1))
    assert got[-1] >= 798
    for output in outputs:
        assert output.values[0] == pytest.approx(math.sin(output.timestamp - BEGIN), abs=6e-3)


def test_a_mean_of_nothing_is_interpolated() -> None:
    stream = wave([0.0, 0.009, 0.011, 0.029, 0.031, 0.04, 0.05])
    outputs = resampled(Resampler(0.01, "mean", max_gap=0.1), stream)
    assert numbers(outputs) == [0, 1, 2, 3, 4, 5]
    assert outputs[2].values[1] == pytest.approx((0.011**2 + 0.029**2) / 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("period", [0.002, 0.01, 0.03])
def test_nothing_is_invented_in_a_gap(method: Method, period: float) -> None:
    before, after = uneven(period, 2.0), [5.0 + t for t in uneven(period, 2.0)]
    outputs = resampled(Resampler(0.01, method), wave(before + after))
    got = numbers(outputs)
    assert not [n for n in got if 201 < n < 500]
    assert [n for n in got if n <= 190][-1] == 190
    assert next(n for n in got if n > 300) <= 505
    assert all(a < b for a, b in itertools.pairwise(got))


def test_the_longest_gap_can_be_said() -> None:
    stream = wave([0.0, 0.01, 0.02, 0.1, 0.11, 0.2])
    outputs = resampled(Resampler(0.01, "linear", max_gap=0.085), stream)
    assert numbers(outputs) == [*range(12), 20]


def test_a_long_gap_at_the_start_is_one() -> None:
    outputs = resampled(Resampler(0.01, "linear"), wave([0.0, 3600.0, 3600.01, 3600.02, 3600.03]))
    assert numbers(outputs) == [0, *range(360_000, 360_004)]


def test_readings_on_the_grid_pass_as_they_are() -> None:
    stream = [
        Reading(n * 0.01, (float(n),), 5, 0.25) for n in range(170_000_000_000, 170_000_000_100)
    ]
    for method in METHODS:
        outputs = resampled(Resampler(0.01, method), stream)
        values = [o.values[0] for o in outputs]
        assert values == pytest.approx([r.values[0] for r in stream], rel=1e-12)
        assert [o.sequence_number for o in outputs] == list(range(170_000_000_000, 170_000_000_100))
        assert {o.time_error for o in outputs} == {0.25}


@pytest.mark.parametrize("method", ["linear", "hold"])
def test_a_reading_is_on_the_grid_as_far_as_a_float_can_tell(method: Method) -> None:
    resampler = Resampler(0.01, method, max_gap=1.0)
    stream = [Reading(BEGIN + n * 0.01 - 5e-7, (float(n),)) for n in range(10)]
    assert [len(resampler.push(reading)) for reading in stream] == [1] * 10


def test_the_error_is_the_largest_of_its_sources() -> None:
    stream = [
        Reading(BEGIN + 0.001 + t, (0.0,), None, error)
        for t, error in [(0.0, 0.1), (0.01, None), (0.02, 0.3), (0.03, None), (0.04, None)]
    ]
    outputs = resampled(Resampler(0.01, "linear"), stream)
    assert [o.time_error for o in outputs] == [0.1, 0.3, 0.3, None]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_value(bad: float) -> None:
    times = [0.001, 0.011, 0.021, 0.031, 0.041]
    stream = [Reading(BEGIN + t, (bad if i == 2 else 1.0, 2.0)) for i, t in enumerate(times)]
    linear = [o.values for o in resampled(Resampler(0.01, "linear"), stream)]
    assert [math.isnan(v[0]) for v in linear] == [False, True, True, False]
    assert {v[1] for v in linear} == {2.0}
    hold = [o.values for o in resampled(Resampler(0.01, "hold"), stream)]
    assert [math.isnan(v[0]) for v in hold] == [False, False, True, False]
    stream.insert(3, Reading(BEGIN + 0.023, (4.0, 2.0)))
    mean = [o.values[0] for o in resampled(Resampler(0.01, "mean", max_gap=1.0), stream)]
    assert mean == [1.0, 1.0, 4.0, 1.0, 1.0]
    alone = resampled(Resampler(0.01, "mean", max_gap=1.0), [Reading(BEGIN, (bad, 1.0))])
    assert math.isnan(alone[0].values[0])
    assert alone[0].values[1] == 1.0


@pytest.mark.parametrize("method", METHODS)
def test_a_clock_that_goes_back_is_a_gap(method: Method) -> None:
    before, after = uneven(0.01, 2.0), [t - 100.0 for t in uneven(0.01, 2.0)]
    got = numbers(resampled(Resampler(0.01, method), wave(before + after)))
    back = next(i for i, (a, b) in enumerate(itertools.pairwise(got)) if b < a)
    assert got[: back + 1] == list(range(got[0], got[0] + back + 1))
    assert -10_000 <= got[back + 1] <= -9_998
    assert got[back + 1 :] == list(range(got[back + 1], got[-1] + 1))


def test_outputs_come_as_soon_as_they_are_known() -> None:
    resampler = Resampler(0.01, "linear", max_gap=1.0)
    assert [len(resampler.push(r)) for r in wave([0.0, 0.004, 0.01, 0.019, 0.045])] == [
        1, 0, 1, 0, 3,
    ]  # fmt: skip
    resampler = Resampler(0.01, "mean", max_gap=1.0)
    assert [len(resampler.push(r)) for r in wave([0.0, 0.004, 0.006, 0.014, 0.016])] == [
        0, 0, 1, 0, 1,
    ]  # fmt: skip
    assert numbers(resampler.flush()) == [2]
    assert resampler.flush() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0,), "above 0"),
        ((math.inf,), "above 0"),
        ((math.nan,), "above 0"),
        ((1.0, "linear", 0.0), "gap"),
        ((1.0, "cubic"), "'cubic' is unknown; use one of auto"),
    ],
)
def test_settings_that_make_no_sense(arguments: tuple[float, Method], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Resampler(*arguments)


steps = st.lists(st.floats(0, 0.2), max_size=60)


@given(steps, st.sampled_from(METHODS), st.sampled_from([None, 0.004, 0.05]))
@settings(deadline=None)
def test_laws(steps: list[float], method: Method, max_gap: float | None) -> None:
    times = list(itertools.accumulate(steps, initial=0.0))
    stream = [Reading(BEGIN + t, (t, 1.0)) for t in times]
    outputs = resampled(Resampler(0.01, method, max_gap), stream)
    got = numbers(outputs)
    assert all(a < b for a, b in itertools.pairwise(got))
    assert all(o.timestamp == (o.sequence_number or 0) * 0.01 for o in outputs)
    assert all(o.values[1] == 1.0 for o in outputs)
    # None outside of the readings by more than what they are averaged over.
    assert all(-0.0051 <= o.timestamp - BEGIN <= times[-1] + 0.0051 for o in outputs)
    for output in outputs:
        assert min(times) - 1e-12 <= output.values[0] <= max(times) + 1e-12  # a mean rounds
    if max_gap is not None:
        nearest = [min(abs(BEGIN + t - o.timestamp) for t in times) for o in outputs]
        assert all(distance <= max(0.0051, max_gap) for distance in nearest)
