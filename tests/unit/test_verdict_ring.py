from __future__ import annotations

from typing import Any

import pytest

from edgelstm.pipeline import Verdict
from edgelstm.reading import Reading
from edgelstm.verdict_ring import VerdictRing


def verdict(number: int) -> Verdict:
    return Verdict(Reading(float(number), (0.0,)))


def filled(capacity: int, count: int) -> VerdictRing:
    ring = VerdictRing(capacity)
    for number in range(count):
        ring.add(verdict(number))
    return ring


def numbers(verdicts: list[Verdict]) -> list[int]:
    return [int(each.reading.timestamp) for each in verdicts]


def test_empty_ring_has_nothing() -> None:
    ring = VerdictRing(3)
    assert ring.since(0) == (0, [])
    assert ring.last(2) == []
    assert ring.count == 0


@pytest.mark.parametrize("count", range(12))
def test_it_keeps_the_last_ones_oldest_first(count: int) -> None:
    ring = filled(4, count)
    assert ring.count == count
    assert numbers(ring.since(0)[1]) == list(range(count))[-4:]
    assert numbers(ring.last(4)) == list(range(count))[-4:]
    assert numbers(ring.last(2)) == list(range(count))[-2:]
    assert numbers(ring.last(99)) == list(range(count))[-4:]
    assert ring.last(0) == []


def test_who_asks_again_gets_only_what_is_new() -> None:
    ring = filled(4, 3)
    seen, first = ring.since(0)
    assert numbers(first) == [0, 1, 2]
    assert ring.since(seen) == (3, [])
    for number in (3, 4):
        ring.add(verdict(number))
    seen, new = ring.since(seen)
    assert (seen, numbers(new)) == (5, [3, 4])


def test_who_asks_too_seldom_misses_the_oldest() -> None:
    ring = filled(4, 3)
    seen, _ = ring.since(0)
    for number in range(3, 13):
        ring.add(verdict(number))
    seen, new = ring.since(seen)
    assert (seen, numbers(new)) == (13, [9, 10, 11, 12])


def test_count_of_another_ring_gives_nothing_at_first() -> None:
    ring = filled(4, 2)
    seen, verdicts = ring.since(100)
    assert (seen, verdicts) == (2, [])


class Watched(list[Any]):
    """Slots that let another thread look, or add, at the worst moment."""

    def __init__(self, slots: list[Any]) -> None:
        super().__init__(slots)
        self.on_write: Any = None
        self.on_read: Any = None

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(index, value)
        if self.on_write:
            self.on_write()

    def __getitem__(self, index: Any) -> Any:
        if self.on_read:
            self.on_read()
        return super().__getitem__(index)


def test_who_looks_while_one_is_put_into_its_place_sees_them_in_order() -> None:
    ring = filled(4, 6)
    slots = ring._slots = Watched(ring._slots)
    looks: list[list[int]] = []
    slots.on_write = lambda: looks.append(numbers(ring.since(0)[1]))
    for number in range(6, 16):
        ring.add(verdict(number))
    assert looks == [list(range(end - 4, end)) for end in range(6, 16)]


@pytest.mark.parametrize("newer", range(1, 12))
def test_what_is_overwritten_while_one_looks_is_left_out(newer: int) -> None:
    ring = filled(4, 6)
    slots = ring._slots = Watched(ring._slots)

    def overtake() -> None:
        slots.on_read = None
        for number in range(6, 6 + newer):
            ring.add(verdict(number))

    slots.on_read = overtake
    seen, verdicts = ring.since(0)
    assert seen == 6
    assert numbers(verdicts) == list(range(2 + newer, 6))
