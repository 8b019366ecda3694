from __future__ import annotations

from random import Random

from edgelstm_bridge.links.backoff import Backoff


def seeded(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - it shall repeat itself


def test_delays_double_up_to_the_longest() -> None:
    backoff = Backoff(jitter=0)
    delays = [backoff.next_delay() for _ in range(8)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_connection_that_lasted_starts_them_anew() -> None:
    backoff = Backoff(jitter=0, lasting=2)
    assert [backoff.next_delay() for _ in range(3)] == [0.1, 0.2, 0.4]
    assert backoff.next_delay(lasted=1.9) == 0.8
    assert backoff.next_delay(lasted=2.0) == 0.1
    assert backoff.next_delay() == 0.2


def test_jitter_spreads_a_delay_by_a_quarter_both_ways() -> None:
    delays = [Backoff(1.0, chance=seeded(seed)).next_delay() for seed in range(500)]
    assert 0.75 <= min(delays) < 0.77
    assert 1.23 < max(delays) <= 1.25


def test_the_jitter_does_not_add_up() -> None:
    backoff = Backoff(chance=seeded(1))
    for _ in range(100):
        assert backoff.next_delay() <= 5.0 * 1.25


def test_a_seed_repeats_the_delays() -> None:
    first, second = (Backoff(chance=seeded(7)) for _ in range(2))
    assert [first.next_delay() for _ in range(9)] == [second.next_delay() for _ in range(9)]
