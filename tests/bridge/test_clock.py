import itertools
import math
import random
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm_bridge.clock import (
    BURST_S,
    FIRST_ERROR_S,
    FLOOR_ALLOWANCE_S,
    ClockModel,
    lower_line,
)

BEGIN = 1000.0


class Arrival(NamedTuple):
    """What came at once: when, and of each sample the device's clock and the true time."""

    at: float
    samples: list[tuple[int, float]]


class Answer(NamedTuple):
    """The answer to a ping."""

    at: float
    ticks: int
    sent_at: float


class Device:
    """A device and its line, with known true times.

    Its clock is off by `ppm`, and by up to `wander` ppm more, to and fro in 20 minutes. Its
    samples come by its own clock. The host takes what is there every `burst` seconds, by its own
    clock, and now and then not for up to 100 ms.
    """

    def __init__(
        self,
        seed: int,
        *,
        rate: float = 100.0,
        seconds: float = 90.0,
        ppm: float = 50.0,
        wander: float = 0.0,
        tick: float = 1e-6,
        burst: float = BURST_S,
        pause: tuple[float, float] = (0.0, 0.0),
        pings: bool = False,
    ) -> None:
        self.random = random.Random(seed)  # noqa: S311 - no secrets
        self.rate, self.seconds, self.ppm, self.wander = rate, seconds, ppm, wander
        self.tick, self.burst, self.pause, self.pings = tick, burst, pause, pings
        self.phase = self.random.random() * max(burst, 1e-3)
        self.spikes = list(itertools.accumulate(self.random.expovariate(0.1) for _ in range(1000)))

    def ticks_at(self, time: float) -> int:
        turn = 1200 / (2 * math.pi)
        off = self.ppm * time + self.wander * turn * (1 - math.cos(time / turn))
        return 12_345 + math.floor((time + off * 1e-6) / self.tick)

    def taken_at(self, time: float) -> float:
        """When the host has what the device sent at this time."""
        time += 0.0005 + 0.0005 * self.random.random()
        if self.burst:
            time = self.phase + math.ceil((time - self.phase) / self.burst) * self.burst
        for spike in self.spikes:
            if spike > time:
                break
            time = max(time, spike + 0.1 * ((spike * 7919) % 1)) if time < spike + 0.1 else time
        return time

    def events(self) -> Iterator[Arrival | Answer]:
        period = 1 / self.rate / (1 + self.ppm * 1e-6)
        came: list[tuple[float, tuple[int, float] | Answer]] = []
        latest = 0.0
        for number in range(int(self.seconds * self.rate)):
            time = number * period
            if not self.pause[0] <= time < self.pause[1]:
                latest = max(latest, self.taken_at(time))
                came.append((latest, (self.ticks_at(time), time)))
        sent = 0.02
        for number in itertools.count():
            if not self.pings or sent > self.seconds:
                break
            heard = sent + 0.0005 + 0.0005 * self.random.random()
            at = self.taken_at(heard)
            came.append((at, Answer(BEGIN + at, self.ticks_at(heard), BEGIN + sent)))
            sent += 0.05 if number < 4 else 10.0
        came.sort(key=lambda one: one[0])
        for at, group in itertools.groupby(came, key=lambda one: one[0]):
            whole = [what for _, what in group]
            samples = [(w[0], BEGIN + w[1]) for w in whole if not isinstance(w, Answer)]
            if samples:
                yield Arrival(BEGIN + at, samples)
            yield from (w for w in whole if isinstance(w, Answer))


class Dated(NamedTuple):
    """A sample as the model dated it."""

    true: float
    time: float
    error: float


def dated(device: Device, model: ClockModel) -> list[Dated]:
    out = []
    for event in device.events():
        if isinstance(event, Answer):
            model.observe_ping(event.ticks, event.sent_at, event.at)
            continue
        model.observe(event.samples[-1][0], event.at)
        out += [Dated(true, model.time_of(ticks), model.error) for ticks, true in event.samples]
    return out


def covered(samples: list[Dated]) -> float:
    return sum(abs(s.time - s.true) <= s.error for s in samples) / len(samples)


def largest_error(samples: list[Dated], after: float) -> float:
    return max(s.error for s in samples if s.true - BEGIN > after)


# The share of samples whose true time lies within the stated error, and the largest error stated
# after 30 s. Over seeds 0 to 5 the share was 1.0 in most cases, at least 0.996 with a crystal that
# follows the temperature, 0.98 with a resonator that does (and pings, so that the error is small),
# 0.93 with a sample every 10 s, so that bursts keep step with them.
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("settings", "share", "error_s"),
    [
        ({}, 1.0, 0.012),
        ({"pings": True}, 1.0, 0.015),
        ({"ppm": 5000.0}, 1.0, 0.01),
        ({"ppm": -5000.0}, 1.0, 0.01),
        ({"ppm": -200.0, "tick": 1e-3}, 1.0, 0.013),
        ({"tick": 1.0}, 1.0, 1.1),
        ({"rate": 1000.0, "seconds": 40.0}, 1.0, 0.008),
        ({"burst": 0.0}, 1.0, 0.017),
        ({"rate": 62.5}, 0.99, 0.045),
        ({"rate": 1.0, "seconds": 600.0}, 0.99, 0.03),
        ({"rate": 0.1, "seconds": 3600.0}, 0.9, 0.06),
        ({"rate": 0.1, "seconds": 3600.0, "pings": True}, 0.99, 0.06),
        ({"rate": 50.0, "wander": 20.0, "seconds": 500.0}, 0.99, 0.02),
        ({"rate": 20.0, "wander": 200.0, "seconds": 700.0}, 0.99, 0.02),
        ({"rate": 20.0, "wander": 200.0, "seconds": 700.0, "pings": True}, 0.97, 0.015),
        ({"pause": (20.0, 80.0), "seconds": 120.0}, 1.0, 0.02),
    ],
)
def test_true_times_lie_within_the_stated_error(
    settings: dict[str, float], share: float, error_s: float, seed: int
) -> None:
    device = Device(seed, **settings)  # type: ignore[arg-type]
    samples = dated(device, ClockModel(device.tick, sample_period=1 / device.rate))
    assert covered(samples) >= share
    assert largest_error(samples, after=30) <= error_s
    assert samples[0].error >= FIRST_ERROR_S


@given(
    st.integers(0, 2**32),
    st.floats(-5000, 5000),
    st.sampled_from([0.0, 0.001, 0.004, 0.0125, BURST_S]),  # not the period: see below
    st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_true_times_lie_within_the_stated_error_of_any_device(
    seed: int, ppm: float, burst: float, pings: bool
) -> None:
    device = Device(seed, ppm=ppm, burst=burst, pings=pings, seconds=15.0)
    samples = dated(device, ClockModel(device.tick, sample_period=0.01))
    assert covered(samples) >= 0.99


def test_a_burst_as_long_as_the_sample_period_may_pass_for_a_drift() -> None:
    """The limit of it: the delay then changes as slowly as a clock that drifts."""
    device = Device(2001449106, ppm=-4944, burst=0.01, pings=True, seconds=15.0)
    samples = dated(device, ClockModel(device.tick, sample_period=0.01))
    assert 0.8 < covered(samples) < 0.99
    assert all(abs(s.time - s.true) <= s.error + 0.01 for s in samples)


def test_pings_make_the_error_smaller() -> None:
    def usual_error(pings: bool) -> float:
        samples = dated(Device(3, pings=pings), ClockModel(1e-6, sample_period=0.01))
        return sorted(s.error for s in samples)[len(samples) // 2]

    assert usual_error(pings=True) < 0.5 * usual_error(pings=False)


@pytest.mark.parametrize("ppm", [-5000.0, -40.0, 0.0, 200.0, 5000.0])
def test_the_drift_is_measured(ppm: float) -> None:
    model = ClockModel(1e-6)
    assert model.drift_ppm is None
    dated(Device(1, ppm=ppm, burst=0.001, seconds=60.0), model)
    assert model.drift_ppm == pytest.approx(ppm, abs=10)
    assert model.seconds_per_tick == pytest.approx(1e-6 / (1 + ppm * 1e-6), rel=1e-5)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(0, 0.5)), min_size=1, max_size=200))
@settings(deadline=None)
def test_no_time_is_later_than_the_arrival(steps: list[tuple[int, float]]) -> None:
    model = ClockModel(1e-3)
    ticks, at = 0, 50.0
    for step, wait in steps:
        ticks, at = ticks + step, at + wait
        model.observe(ticks, at)
        assert model.time_of(ticks) <= at + 1e-9
        assert model.error > 0


def test_without_pings_the_error_allows_for_the_delay_that_nothing_shows() -> None:
    device = Device(0, burst=0.0)
    samples = dated(device, ClockModel(1e-6))
    assert samples[-1].error >= FLOOR_ALLOWANCE_S + 0.9 * BURST_S
    samples = dated(device, ClockModel(1e-6, sample_period=0.001))
    assert FLOOR_ALLOWANCE_S < samples[-1].error < FLOOR_ALLOWANCE_S + 0.004


@pytest.mark.parametrize("hours", [0.1, 1, 3, 30])
def test_unwrapping_survives_silences_of_hours(hours: float) -> None:
    model = ClockModel(1e-6)
    clock = 2**32 - 5
    assert model.unwrap(clock, 0.0) == clock
    passed = round(hours * 3600e6 * 1.005)
    ticks = model.unwrap((clock + passed) % 2**32, hours * 3600)
    assert ticks == clock + passed
    assert model.unwrap((clock + passed - 3) % 2**32, hours * 3600) == clock + passed - 3


@given(st.lists(st.integers(0, 2**34), max_size=20), st.integers(0, 2**32 - 1))
def test_unwrapping_undoes_wrapping(steps: list[int], start: int) -> None:
    model = ClockModel(1e-6)
    true = start
    assert model.unwrap(start, 7.0) == true
    at = 7.0
    for step in steps:
        true += step
        at += step * 1e-6
        assert model.unwrap(true % 2**32, at) == true


def test_memory_stays_flat() -> None:
    model = ClockModel(1e-6)
    for number in range(200_000):
        model.observe(number * 10_000, number * 0.01)
        if not number % 2500:
            model.observe_ping(number * 10_000, number * 0.01, number * 0.01 + 1e-3)
    assert len(model._minima) <= 128
    assert len(model._pings) <= 32


def steady(model: ClockModel, start: int, count: int, lead: float = 0.0) -> None:
    """Let arrive a sample every 10 ms, each of 10,000 ticks of 1 us, `lead` after it was due."""
    for number in range(start, start + count):
        model.observe(number * 10_000, number * 0.01 + lead)


def test_a_clock_that_stood_still_is_taken_as_it_is() -> None:
    model = ClockModel(1e-6, sample_period=0.01)
    steady(model, 0, 3000)
    steady(model, 3000, 2, lead=2.0)
    assert model.time_of(30_000_000) == pytest.approx(30.0, abs=0.01)  # it may be a delay
    steady(model, 3002, 1500, lead=2.0)
    assert model.time_of(45_010_000) == pytest.approx(47.01, abs=0.01)
    assert model.error < 0.05


def test_while_arrivals_are_late_the_error_grows() -> None:
    model = ClockModel(1e-6, sample_period=0.01)
    steady(model, 0, 3000)
    before = model.error
    steady(model, 3000, 1500, lead=0.2)
    assert before < 0.05
    assert model.error > 0.2


def test_a_ping_tells_at_once_that_a_clock_has_lost_time() -> None:
    model = ClockModel(1e-6)
    steady(model, 0, 3000)
    model.observe_ping(30_000_000, 30.1, 30.102)
    assert model.time_of(30_000_000) == pytest.approx(30.101, abs=0.001)


def test_a_host_that_slept_takes_the_clock_as_it_is() -> None:
    model = ClockModel(1e-6)
    steady(model, 0, 3000)
    steady(model, 3000, 10, lead=-600.0)
    assert model.time_of(30_090_000) == pytest.approx(30.09 - 600.0)


def test_a_clock_that_goes_back_begins_anew() -> None:
    model = ClockModel(1e-6)
    steady(model, 1000, 3000)
    for number in range(10):
        model.observe(number * 10_000, 100 + number * 0.01)
    assert model.time_of(90_000) == pytest.approx(100.09)


def test_a_device_without_a_clock_is_dated_by_arrivals() -> None:
    model = ClockModel(1e-3)
    for number in range(1000):
        model.observe(0, number * 0.01)
    assert model.time_of(0) == pytest.approx(9.99)
    assert model.error >= FIRST_ERROR_S


def test_a_clock_that_is_forgotten_keeps_its_drift() -> None:
    model = ClockModel(1e-6)
    dated(Device(0, ppm=5000.0, burst=0.0), model)
    model.forget()
    model.observe(5, 2000.0)
    assert model.time_of(5) == 2000.0
    assert model.error >= FIRST_ERROR_S
    assert model.time_of(1_000_005) == pytest.approx(2000 + 1 / 1.005, abs=1e-4)


def test_a_time_before_anything_was_observed() -> None:
    assert ClockModel(1.0).time_of(5) == 0.0


points = st.lists(
    st.tuples(st.integers(-1000, 1000), st.integers(-1000, 1000)), min_size=2, max_size=60
).filter(lambda pairs: len({x for x, _ in pairs}) > 1)


@given(points)
def test_the_lower_line_is_below_all_points_and_nowhere_could_be_higher(
    pairs: list[tuple[int, int]],
) -> None:
    pairs.sort()
    slope, height, length = lower_line(pairs)
    assert length > 0
    above = [y - (slope * x + height) for x, y in pairs]
    assert min(above) >= -1e-6
    # It touches on both sides of the middle, so that no line below all is higher there.
    middle = (pairs[0][0] + pairs[-1][0]) / 2
    touched = [x for (x, _), over in zip(pairs, above, strict=True) if over < 1e-6]
    assert touched[0] <= middle <= touched[-1]
