from __future__ import annotations

import math

import numpy as np
import pytest

from edgelstm.latency import LatencyHistogram


def histogram(*nanoseconds: int) -> LatencyHistogram:
    counts = LatencyHistogram()
    for value in nanoseconds:
        counts.add(value)
    return counts


def test_nothing_before_the_first_duration() -> None:
    assert LatencyHistogram().quantile_us(0.5) is None
    assert LatencyHistogram().count == 0


@pytest.mark.parametrize("nanoseconds", [1, 2, 999, 1000, 123_456, 10**6, 10**9, 10**12])
def test_one_duration_is_every_quantile(nanoseconds: int) -> None:
    counts = histogram(nanoseconds)
    for q in (0.0, 0.5, 0.99, 1.0):
        assert counts.quantile_us(q) == pytest.approx(nanoseconds / 1000, rel=0.011)
    assert counts.count == 1


@pytest.mark.parametrize("q", [0.01, 0.5, 0.9, 0.99, 1.0])
def test_quantiles_of_many_durations(q: float) -> None:
    samples = np.random.default_rng(0).lognormal(10, 1, 5000).astype(int)
    counts = histogram(*samples.tolist())
    expected = np.quantile(samples, q, method="inverted_cdf") / 1000
    assert counts.quantile_us(q) == pytest.approx(expected, rel=0.012)


def test_quantiles_tell_the_tail_from_the_middle() -> None:
    counts = histogram(*[50_000] * 98, 900_000, 900_000)
    assert counts.quantile_us(0.98) == pytest.approx(50, rel=0.011)
    assert counts.quantile_us(0.99) == pytest.approx(900, rel=0.011)


def test_durations_beyond_the_range_are_counted_at_its_ends() -> None:
    counts = histogram(0, -5, 10**18)
    assert counts.count == 3
    assert counts.quantile_us(0.1) == pytest.approx(0.001, rel=0.011)
    assert counts.quantile_us(1.0) == pytest.approx(2**40 / 1000, rel=0.011)


def test_memory_does_not_grow() -> None:
    counts = LatencyHistogram()
    before = len(counts._buckets)
    for value in range(1, 10_000):
        counts.add(value)
    assert len(counts._buckets) == before


@pytest.mark.parametrize("octave", range(13, 28))
def test_cumulative_counts_are_exact_at_their_bounds(octave: int) -> None:
    bound = 2**octave - 1
    for nanoseconds, within in ((bound, 1), (bound + 1, 0)):
        counts = dict(histogram(nanoseconds).cumulative())
        assert counts[bound / 1e9] == within
        assert counts[math.inf] == 1


def test_cumulative_counts_of_many_durations() -> None:
    samples = np.random.default_rng(1).lognormal(11, 2, 5000).astype(int)
    counts = histogram(*samples.tolist())
    for seconds, count in counts.cumulative():
        bound = math.inf if seconds == math.inf else round(seconds * 1e9)
        assert count == np.sum(samples <= bound)
    assert counts.total == np.maximum(samples, 1).sum()


def test_nothing_is_counted_before_the_first_duration() -> None:
    assert {count for _, count in LatencyHistogram().cumulative()} == {0}
    assert LatencyHistogram().total == 0


def test_a_copy_stays_as_it_is() -> None:
    counts = histogram(10_000, 20_000)
    copy = counts.copy()
    assert copy == counts
    counts.add(30_000)
    assert copy == histogram(10_000, 20_000)
