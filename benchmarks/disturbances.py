"""What disturbances cost the pipeline: `python benchmarks/disturbances.py`, about four minutes.

One service watches a device of 1,000 readings a second and is disturbed in turns: by a disk that
is full, a clock that jumps, a sink that hangs, a webhook that fails, pages that never read, and by
all of it at once. Its own metrics have the time from reading to verdict; what counts is the p99
beside that of the turns without disturbance, in the same run. The alerts are as many in each turn.
Exits with 1 when a bar falls short. It needs the rights to mount a small disk, and gcc.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bars import Bar, print_bars

from edgelstm.benchmark.machine import cores, cpu_name

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/system"))
from disturbing import Disturbed

ROUNDS = 4
SECONDS = 5.0
RATIO_BAR = 2.0

_DISK_MB = 40  # so large that no alert of the run is too old to be kept
_HOUR, _DAY = 3600, 86_400
_ALERT_EVERY_S = 0.5
_AFTER_S = 1.5  # what was held up comes then, and counts as well
_NOTHING, _EVERYTHING = "nothing", "all at once"

Buckets = Counter[float]
"""How many verdicts took at most so long, and longer than the bound before: by seconds."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table and the bars; 1 when one falls short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each turn")
    parser.add_argument("--no-bars", action="store_true", help="exit with 0 whatever falls short")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, Disturbed(Path(folder), _DISK_MB) as rig:
        rig.service.until_taken(2000)
        taken, alerts = take_turns(rig, options.rounds, options.seconds)
        unaccounted = rig.device.pause()
        figures = rig.service.until_taken(unaccounted)
        lost = figures["edgelstm_lost_total line"]
        unaccounted -= int(figures["edgelstm_readings_total pump"] + lost)
        rig.service.stop()
    bars = [Bar("readings lost", lost, 0, at_least=False, form="{:.0f}")]
    bars.append(Bar("unaccounted for", abs(unaccounted), 0, at_least=False, form="{:.0f}"))
    bars += print_table(taken, alerts)
    hold = print_bars(bars)
    print(f"\n{cpu_name()}, {cores()} cores.")
    return 0 if options.no_bars else int(not hold)


def take_turns(
    rig: Disturbed, rounds: int, seconds: float
) -> tuple[dict[str, Buckets], Counter[str]]:
    """Disturbs it in each way in turn; how long verdicts took meanwhile, and how many alerts."""
    taken = {name: Buckets() for name in WAYS}
    alerts: Counter[str] = Counter()
    names = list(WAYS)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if sys.stderr.isatty():
                print(f"\rround {turn + 1}: {name:<40}", end="", file=sys.stderr)
            before = rig.service.figures()
            end = time.monotonic() + seconds
            with WAYS[name](rig):
                while time.monotonic() < end:
                    rig.device.misbehave()
                    time.sleep(_ALERT_EVERY_S)
            time.sleep(_AFTER_S)
            after = rig.service.figures()
            taken[name] += buckets(after) - buckets(before)
            alerts[name] += round(after[_ALERTS] - before[_ALERTS])
            rig.until_no_problem("disk full")
            rig.until_all_arrived(slow=True)
    return taken, alerts


_ALERTS = "edgelstm_alerts_total pump anomaly"
_BUCKET = "edgelstm_verdict_seconds_bucket pump "


def buckets(figures: Mapping[str, float]) -> Buckets:
    """The histogram, not cumulative."""
    cumulative = {
        float(name.removeprefix(_BUCKET)): round(count)
        for name, count in figures.items()
        if name.startswith(_BUCKET)
    }
    found, below = Buckets(), 0
    for bound, count in sorted(cumulative.items()):
        found[bound], below = count - below, count
    return found


def quantile_us(counts: Buckets, q: float) -> float:
    """A quantile in microseconds; between two bounds, which are an octave apart, on a log scale."""
    wanted, below = q * counts.total(), 0
    for bound, count in sorted(counts.items()):
        if count and below + count >= wanted:
            if math.isinf(bound):
                return math.inf
            return 1e6 * bound * 2.0 ** ((wanted - below) / count - 1)
        below += count
    raise ValueError("no verdicts")


def print_table(taken: Mapping[str, Buckets], alerts: Mapping[str, int]) -> list[Bar]:
    """Prints what was seen, and returns the ratios."""
    heads = f"{'verdicts':>10}{'alerts':>8}{'median us':>11}{'p99 us':>9}{'ratio':>8}"
    print(f"{'disturbed by':<24}{heads}")
    undisturbed = quantile_us(taken[_NOTHING], 0.99)
    bars = []
    for name, counts in taken.items():
        p99 = quantile_us(counts, 0.99)
        print(
            f"{name:<24}{counts.total():>10,}{alerts[name]:>8}{quantile_us(counts, 0.5):>11.1f}"
            f"{p99:>9.1f}{p99 / undisturbed:>8.2f}"
        )
        if name != _NOTHING:
            bars.append(Bar(f"p99 beside undisturbed, {name}", p99 / undisturbed, RATIO_BAR, False))
    return bars


@contextmanager
def nothing(_rig: Disturbed) -> Iterator[None]:
    """All is well."""
    yield


@contextmanager
def full_disk(rig: Disturbed) -> Iterator[None]:
    """The outbox cannot be written."""
    rig.fill_disk()
    try:
        yield
    finally:
        rig.free_disk()


@contextmanager
def jumping_clock(rig: Disturbed) -> Iterator[None]:
    """The wall clock goes an hour back, and comes back; a day forward it was before."""
    rig.set_clock(_DAY)
    time.sleep(0.2)
    rig.set_clock(-_HOUR)
    try:
        yield
    finally:
        rig.set_clock(0)


@contextmanager
def hanging_sink(rig: Disturbed) -> Iterator[None]:
    """A receiver takes requests and never answers."""
    rig.slow.hang()
    try:
        yield
    finally:
        rig.slow.answer()


@contextmanager
def failing_webhook(rig: Disturbed) -> Iterator[None]:
    """A receiver answers with 500 some times."""
    rig.hook.fail(2)
    yield


@contextmanager
def mute_pages(rig: Disturbed) -> Iterator[None]:
    """Clients of the dashboard ask for everything and never read."""
    pages = rig.mute_pages(8)
    try:
        yield
    finally:
        for page in pages:
            page.close()


@contextmanager
def everything(rig: Disturbed) -> Iterator[None]:
    """All of it."""
    with (
        full_disk(rig),
        jumping_clock(rig),
        hanging_sink(rig),
        failing_webhook(rig),
        mute_pages(rig),
    ):
        yield


WAYS: Mapping[str, Callable[[Disturbed], AbstractContextManager[None]]] = {
    _NOTHING: nothing,
    "a full disk": full_disk,
    "a clock that jumps": jumping_clock,
    "a sink that hangs": hanging_sink,
    "a webhook that fails": failing_webhook,
    "pages that never read": mute_pages,
    _EVERYTHING: everything,
}


if __name__ == "__main__":
    sys.exit(main())
