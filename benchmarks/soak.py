"""Months in minutes: `python benchmarks/soak.py [--readings N]`, about ten minutes.

`edgelstm run` watches eight channels as fast as it can, with an outbox, a sink and the metrics,
while what goes wrong on a line and in a sensor goes wrong again and again: frames are lost and
damaged, values are missing, sensors stick, gaps are long and short, anomalies come, the device
restarts, the configuration is read anew. Its memory and its open files are looked at from outside,
and in the end every reading that was sent must be accounted for. Exits with 1 when a bar falls
short.
"""

from __future__ import annotations

import argparse
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from bars import Bar, print_bars
from lstm_models import default_cache
from pipeline import PERIOD_S, cached, names, values
from prometheus_client.parser import text_string_to_metric_families

from edgelstm_bridge.codec import encode_frame
from edgelstm_bridge.messages import ChannelInfo, End, Hello
from edgelstm_bridge.sample_encoder import SampleEncoder

READINGS = 10_000_000
WARM_UP = 0.1  # of them, after which memory is to stay
GROWTH_BAR = 0.01

_BLOCK = 2_000
_CYCLE = 20_000  # readings until the values come again
_LOOK_S = 2.0

# What goes wrong at every so many readings; primes, so that everything meets everything.
_LOST, _DAMAGED = 997, 1_009
_PARTLY_MISSING, _MISSING = 499, 1_511
_LONG_GAP, _LONG_GAP_LENGTH = 99_991, 50
_ANOMALY, _ANOMALY_LENGTH = 19_997, 40
_STUCK, _STUCK_LENGTH = 150_001, 90
_RESTART = 1_000_003
_RELOAD_S = 30.0
_TICK_US = 1000
_TICKS = round(1e6 * PERIOD_S / _TICK_US)  # of the device's clock between two samples


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what was seen and the bars; 1 when one falls short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readings", type=int, default=READINGS)
    parser.add_argument("--no-bars", action="store_true", help="exit with 0 whatever falls short")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        bars = soak(Path(folder), options.readings)
    return 0 if print_bars(bars) or options.no_bars else 1


def soak(folder: Path, readings: int) -> list[Bar]:
    """Runs it and returns how it went."""
    port = free_port()
    (folder / "soak.toml").write_text(configuration(cached(default_cache()), port))
    command = [sys.executable, "-m", "edgelstm", "run", str(folder / "soak.toml")]
    with (
        (folder / "output.txt").open("w") as output,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output) as service,
    ):
        if service.stdin is None:
            raise AssertionError
        sender = Sender(readings)
        watcher = Watcher(service.pid)
        reload_at = time.monotonic() + _RELOAD_S
        began = time.monotonic()
        for block in sender.blocks():
            service.stdin.write(block)
            watcher.look(sender.due / readings)
            if time.monotonic() > reload_at:
                reload_at = time.monotonic() + _RELOAD_S
                service.send_signal(signal.SIGHUP)
        service.stdin.flush()
        counts = settled(port, sender.due)
        took = time.monotonic() - began
        watcher.look(1.0, now=True)
        service.stdin.write(encode_frame(End(sender.count).encode()))
        service.stdin.close()
        code = service.wait(60)
    print((folder / "output.txt").read_text()[-1500:])
    print(f"{readings:,} readings in {took:.0f} s, {readings / took:,.0f} a second")
    print_counts(counts, sender.done)
    return judge(counts, sender, watcher, code)


def judge(counts: dict[str, float], sender: Sender, watcher: Watcher, code: int) -> list[Bar]:
    """What must hold."""
    arrived = counts["edgelstm_readings_total"]
    skipped = sum(v for k, v in counts.items() if k.startswith("skipped "))
    known = sender.done
    scored, lost = counts["edgelstm_scored_total"], counts["edgelstm_lost_total"]
    damaged, missing = counts["edgelstm_damaged_total"], counts["skipped unusable"]
    exact = {
        "sent - (scored + lost + skipped)": sender.due - scored - lost - skipped,
        "readings - (scored + skipped)": arrived - scored - skipped,
        "lost, beside what was": lost - known["lost"] - known["damaged"],
        "damaged, beside what was": damaged - known["damaged"],
        "unusable, beside what was missing": missing - known["missing"],
        "open files, growth after warm-up": watcher.files_growth,
        "exit code": code,
    }
    bars = [
        Bar(what, abs(figure), 0, at_least=False, form="{:.0f}") for what, figure in exact.items()
    ]
    bars.append(Bar("memory, growth after warm-up", watcher.growth, GROWTH_BAR, False, "{:.2%}"))
    return bars


class Sender:
    """A device whose line and sensors are bad; it knows exactly how bad.

    Args:
        readings: how many samples it takes.
    """

    def __init__(self, readings: int) -> None:
        self._readings = readings
        self._random = random.Random(1)  # noqa: S311 - noise, no secret
        self.due = 0
        """Samples taken so far."""
        self.count = 0
        """Samples since it booted."""
        self.done: Counter[str] = Counter()
        """What went wrong, and how often."""
        self._boots = 0

    def blocks(self) -> Iterator[bytes]:
        """The bytes of the line, some thousand samples each time."""
        rows = values()[:_CYCLE].tolist()
        yield self._boot()
        while self.due < self._readings:
            parts = []
            for _ in range(min(_BLOCK, self._readings - self.due)):
                if self.due and self.due % _RESTART == 0:
                    parts.append(self._boot())
                    self.done["restarts"] += 1
                parts.append(self._sample(rows[self.due % len(rows)]))
                self.due += 1
                self.count += 1
            yield b"".join(parts)

    def _boot(self) -> bytes:
        self._boots += 1
        self.count = 0
        hello = Hello(
            tuple(ChannelInfo(name) for name in names()),
            sample_period_us=round(1e6 * PERIOD_S),
            clock_tick_us=_TICK_US,
            boot_id=self._boots,
            device_id="soak",
        )
        self._encoder = SampleEncoder(hello)
        return encode_frame(hello.encode()) * 2

    def _sample(self, row: list[float]) -> bytes:
        n, done = self.due, self.done
        if n % _LOST == _LOST - 1 or 0 <= n % _LONG_GAP - 1000 < _LONG_GAP_LENGTH:
            done["lost"] += 1
            return b""
        row = list(row)
        if n > _CYCLE:
            if n % _ANOMALY < _ANOMALY_LENGTH:
                row[n // _ANOMALY % len(row)] += 12 * (-1) ** n
                done["anomalous"] += 1
            if n % _STUCK < _STUCK_LENGTH:
                row[3] = 0.25
                done["stuck"] += 1
        if n % _DAMAGED == _DAMAGED - 1:
            done["damaged"] += 1
            frame = bytearray(self._encoder.encode(self.count, _TICKS * self.count, row))
            at = self._random.randrange(1, len(frame) - 1)
            # Neither the end of a frame nor what would make one of it.
            frame[at] = frame[at] ^ 0x80 if frame[at] ^ 0x80 else frame[at] ^ 0x40
            return bytes(frame)
        if n % _MISSING == _MISSING - 1:
            done["missing"] += 1
            row = [float("nan")] * len(row)
        elif n % _PARTLY_MISSING == _PARTLY_MISSING - 1:
            done["partly missing"] += 1
            row[n % len(row)] = float("nan")
        return self._encoder.encode(self.count, _TICKS * self.count, row)


class Watcher:
    """Looks at a process from outside.

    Args:
        pid: of it.
    """

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self._next = 0.0
        self._seen: list[tuple[float, int, int]] = []  # share done, kB, files

    def look(self, share: float, *, now: bool = False) -> None:
        """Takes note of its memory and its files, now and then.

        Args:
            share: of the readings that were sent.
            now: whether in any case.
        """
        if not now and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LOOK_S
        lines = (self._folder / "smaps_rollup").read_text().splitlines()
        (kilobytes,) = [int(line.split()[1]) for line in lines if line.startswith("Rss:")]
        files = len(list((self._folder / "fd").iterdir()))
        self._seen.append((share, kilobytes, files))
        if sys.stderr.isatty():
            print(
                f"\r{share:6.1%}  {kilobytes / 1024:.1f} MB  {files} files", end="", file=sys.stderr
            )

    @property
    def growth(self) -> float:
        """Of the resident memory since the warm-up: medians of a tenth each."""
        tenths = [
            float(np.median([kb for share, kb, _ in self._seen if k <= share / WARM_UP < k + 1]))
            for k in range(round(1 / WARM_UP))
        ]
        print("resident, MB, by tenths: " + ", ".join(f"{kb / 1024:.2f}" for kb in tenths))
        return tenths[-1] / tenths[1] - 1

    @property
    def files_growth(self) -> int:
        """Of the open files since the warm-up, at most."""
        first = max(files for share, _, files in self._seen if share < 2 * WARM_UP)
        return max(files for share, _, files in self._seen if share >= 2 * WARM_UP) - first


def configuration(artifact: Path, port: int) -> str:
    """What `edgelstm run` is told."""
    return f"""
name = "soak"
state_directory = "state"
save_every = 5.0
[sources.line]
port = "stdin:"
format = "frames"
[sensors.machine]
artifact = "{artifact}"
rate = "any"
[sinks.file]
type = "jsonl"
path = "alerts.jsonl"
max_megabytes = 1
[outbox]
max_megabytes = 8
[metrics]
port = {port}
"""


def settled(port: int, due: int) -> dict[str, float]:
    """The figures, once every sample is accounted for, or after a while."""
    end = time.monotonic() + 60
    while True:
        counts = figures(port)
        arrived = counts["edgelstm_readings_total"] + counts["edgelstm_lost_total"]
        if arrived >= due or time.monotonic() > end:
            return counts
        time.sleep(0.2)


def figures(port: int) -> dict[str, float]:
    """The metrics by name; skipped readings by their reason."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            reason = sample.labels.get("reason")
            found[f"skipped {reason}" if reason else sample.name] = sample.value
    return found


def print_counts(counts: dict[str, float], done: Counter[str]) -> None:
    """What was done to it, and what it counted."""
    print("done      " + ", ".join(f"{number:,} {what}" for what, number in sorted(done.items())))
    wanted = [k for k in counts if k.startswith("skipped ") or k.endswith("_total")]
    for name in sorted(wanted):
        print(f"  {name:<44}{counts[name]:>14,.0f}")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
