"""The linear part of a forecaster, and the cutting of readings into sequences."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm_quantize import ridge, sequences
from edgelstm_quantize.encoding import Encoding, fit_encoding
from edgelstm_quantize.training_data import TrainingData

RNG = np.random.default_rng(0)
TWO = ((0, 30), (30, 90))


def all_of(n: int, targets: int = 1) -> NDArray[np.bool_]:
    return np.ones((n, targets), bool)


def data_of(values: NDArray[np.float64], **given: object) -> TrainingData:
    names = tuple("abcdefgh"[: values.shape[1]])
    fields: dict[str, object] = {
        "channels": names,
        "targets": names,
        "categories": {},
        "texts": {},
        "values": values,
        "known": np.ones(values.shape, bool),
        "segments": ((0, len(values)),),
        "sample_period": 1.0,
    }
    return TrainingData(**(fields | given))  # type: ignore[arg-type]


def test_it_finds_the_coefficients_that_made_the_data() -> None:
    n = 20_000
    z = np.zeros((n, 2))
    for t in range(2, n):
        z[t] = z[t - 1] * [0.6, 0.5] - z[t - 2, ::-1] * [0.3, 0] + RNG.normal(0, 1, 2)
    segments = ((0, n),)
    kernel = ridge.solve(
        ridge.stack(z, segments),
        sequences.ahead_of(z, 1, segments),
        sequences.ahead_of(np.ones_like(z), 1, segments) == 1,
        ridge.penalty(np.ones(2), 2),
    )
    expected = np.zeros((ridge.TAPS, 2, 2))
    expected[-1] = [[0.6, 0], [0, 0.5]]  # of the newest reading: input, target
    expected[-2, 1, 0] = -0.3
    np.testing.assert_allclose(kernel, expected, atol=0.03)


def test_it_is_the_penalised_least_squares_solution() -> None:
    a, b = RNG.normal(size=(50, 2 * ridge.TAPS)), RNG.normal(size=(50, 1))
    penalty = ridge.penalty(np.array([1.0, 0.25]), 2)
    np.testing.assert_array_equal(penalty, [5, 1.25] * ridge.TAPS)
    kernel = ridge.solve(a, b, all_of(50), penalty).reshape(-1, 1)
    slope = a.T @ (a @ kernel - b) + penalty[:, None] * kernel
    np.testing.assert_allclose(slope, 0, atol=1e-9)


def test_what_does_not_count_has_no_influence_and_each_target_has_its_own() -> None:
    a, b = RNG.normal(size=(60, ridge.TAPS)), RNG.normal(size=(60, 3))
    counts = all_of(60, 3)
    counts[10:20, 1] = False
    penalty = ridge.penalty(np.ones(1), 1)
    whole = ridge.solve(a, b, all_of(60, 3), penalty)
    kernel = ridge.solve(a, b, counts, penalty)
    np.testing.assert_array_equal(kernel[..., [0, 2]], whole[..., [0, 2]])
    assert not np.allclose(kernel[..., 1], whole[..., 1])
    for rubbish in (1e6, np.nan):
        other = np.where(counts, b, rubbish)
        np.testing.assert_array_equal(ridge.solve(a, other, counts, penalty), kernel)
    rest = np.delete(np.arange(60), np.arange(10, 20))
    alone = ridge.solve(a[rest], b[rest, 1:2], all_of(50), penalty)
    np.testing.assert_allclose(kernel[..., 1:2], alone)


def test_windows_start_from_zeros_in_each_segment() -> None:
    features = np.arange(1.0, 91)[:, None]
    stacked = ridge.stack(features, TWO, taps=3)
    np.testing.assert_array_equal(stacked[[0, 1, 2]], [[0, 0, 1], [0, 1, 2], [1, 2, 3]])
    np.testing.assert_array_equal(stacked[[30, 31, 32]], [[0, 0, 31], [0, 31, 32], [31, 32, 33]])


def test_sequences_of_their_own_give_what_windows_give() -> None:
    features, kernel = RNG.normal(size=(40, 3)), RNG.normal(size=(ridge.TAPS, 3, 2))
    together = ridge.apply(ridge.stack(features, ((0, 20), (20, 40))), kernel)
    apart = ridge.apply_to_sequences(features.reshape(2, 20, 3), kernel)
    np.testing.assert_allclose(apart.reshape(40, 2), together)


def test_principal_axes_are_those_of_the_largest_variance() -> None:
    rows = RNG.normal(size=(500, 4)) * [1, 10, 0.1, 5]
    axes = ridge.principal_axes(rows, 2)
    np.testing.assert_allclose(np.abs(axes), np.eye(4)[:, [1, 3]], atol=0.05)


@pytest.mark.parametrize(("past", "ahead"), [(0, 0), (4, 1), (0, 20), (40, 3), (70, 30)])
def test_no_window_crosses_a_cut_or_what_is_held_out(past: int, ahead: int) -> None:
    seen = np.ones(90, bool)
    seen[50:60] = False
    label = np.repeat([0, 1], [30, 60]).astype(float)
    label[~seen] = np.nan
    found = sequences.reaches(TWO, seen, past, ahead)
    for t in range(90):
        rows = label[max(0, t - past) : t + ahead + 1]
        whole = t >= past and t + ahead < 90 and len(set(rows)) == 1 and not np.isnan(rows).any()
        assert found[t] == whole, t


def test_the_longest_run_is_within_a_segment_and_seen() -> None:
    seen = np.ones(90, bool)
    assert sequences.longest_run(TWO, seen) == 60
    seen[50:60] = False
    assert sequences.longest_run(TWO, seen) == 30
    assert sequences.longest_run(TWO, np.zeros(90, bool)) == 0


def test_shifts_stay_within_a_segment() -> None:
    values = np.arange(90.0)[:, None]
    later, earlier = (f(values, 3, TWO)[:, 0] for f in (sequences.ahead_of, sequences.behind))
    nothing = np.isnan(later)
    assert np.flatnonzero(nothing).tolist() == [27, 28, 29, 87, 88, 89]
    np.testing.assert_array_equal(later[~nothing], np.flatnonzero(~nothing) + 3)
    nothing = np.isnan(earlier)
    assert np.flatnonzero(nothing).tolist() == [0, 1, 2, 30, 31, 32]
    np.testing.assert_array_equal(earlier[~nothing], np.flatnonzero(~nothing) - 3)
    assert np.isnan(sequences.ahead_of(values, 200, TWO)).all()


def test_spans_count_each_row_once_and_run_up_within_their_segment() -> None:
    found = sequences.spans(TWO, (20, 80), length=16, run_up=20, most=99)
    rows = [row for part in found for row in range(part.counted, part.stop)]
    assert rows == list(range(20, 80))
    assert [(part.start, part.counted, part.stop) for part in found] == [
        (0, 20, 30),
        (30, 30, 46),
        (30, 46, 62),
        (42, 62, 78),
        (58, 78, 80),
    ]
    few = sequences.spans(TWO, (20, 80), length=16, run_up=20, most=2)
    assert few == [found[0], found[-1]]


def test_blocks_are_all_of_the_readings() -> None:
    parts = sequences.blocks(301, 3)
    assert parts[0][0] == 0
    assert parts[-1][1] == 301
    assert {b - a for a, b in parts} == {100, 101}
    assert np.all(sum(~sequences.outside(part, 301) for part in parts) == 1)


def test_the_scaling_is_that_of_what_is_known() -> None:
    values = RNG.normal(5, 2, (400, 2))
    known = np.ones(values.shape, bool)
    known[100:200, 0] = False
    values[100:200, 0] = 1e9
    encoding = fit_encoding(data_of(values, known=known))
    rest = np.delete(values[:, 0], np.arange(100, 200))
    assert encoding.mean[0] == pytest.approx(rest.mean())
    assert encoding.std[0] == pytest.approx(rest.std())
    assert encoding.features(values).max() == 8.0
    assert encoding.normalise(values).max() > 1e6


def test_features_are_numbers_and_then_categories() -> None:
    values = np.column_stack([np.tile([7.0, 2.0, 3.0], 20), RNG.normal(size=60)])
    encoding = fit_encoding(data_of(values, categories={"a": (2.0, 3.0, 7.0)}, targets=("b",)))
    features = encoding.features(values)
    assert encoding.width == features.shape[1] == 4
    np.testing.assert_array_equal(features[:3, 1:], [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_allclose(features[:, 0], encoding.normalise(values)[:, 1])
    assert np.abs(encoding.normalise(values)[:, 0]).max() == pytest.approx(7.0)


def test_constant_channels_are_let_be_unless_all_targets_are() -> None:
    values = np.column_stack([np.full(60, 42.0), RNG.normal(size=60)])
    encoding = fit_encoding(data_of(values))
    assert encoding.std[0] == 1.0
    assert np.all(encoding.features(values)[:, 0] == 0)
    with pytest.raises(RecordingError, match="a never change"):
        fit_encoding(data_of(values, targets=("a",)))


@pytest.mark.parametrize(("at", "by"), [(0.0, 1e-9), (1e9, 10.0), (-1.7e9, 100.0)])
def test_a_channel_too_fine_for_float32_is_refused(at: float, by: float) -> None:
    values = np.column_stack([RNG.normal(size=60), at + by * RNG.normal(size=60)])
    with pytest.raises(RecordingError, match=r"'b' changes by only .* around .* --columns\.$"):
        fit_encoding(data_of(values))


@pytest.mark.parametrize(("at", "by"), [(1e12, 1e9), (1e-4, 1e-6), (0.0, 1e12)])
def test_large_and_small_numbers_are_no_trouble(at: float, by: float) -> None:
    values = np.column_stack([np.full(60, 1e7 / 3), at + by * RNG.normal(size=60)])
    encoding = fit_encoding(data_of(values))
    assert encoding.constant == {0}
    assert encoding.normalise(values)[:, 1].std() == pytest.approx(1)


def test_a_channel_without_a_value_is_refused() -> None:
    known = np.ones((60, 2), bool)
    known[:, 1] = False
    with pytest.raises(RecordingError, match="'b' has no value"):
        fit_encoding(data_of(RNG.normal(size=(60, 2)), known=known))


def test_an_encoding_is_a_value() -> None:
    encoding = Encoding(np.zeros(2), np.ones(2), (None, (0.0, 1.0)))
    assert encoding.numbers == [0]
    assert encoding.width == 3
