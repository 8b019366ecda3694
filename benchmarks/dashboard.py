"""What the page costs the service, and the browser: `python benchmarks/dashboard.py`.

Eight channels at 100 readings a second are made by a `FakeFeed` and shown to no page, to one and
to three that read all, each for 20 seconds, in turns. A figure is the CPU time of this process over
the time that passed, in percent of a core; that with no page is taken off. The pages are a process
of their own. With Chromium installed it also opens the page and measures, in the browser, how far
apart its frames are and what its own drawing takes.
Exits with 1 when a bar falls short or was not measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from bars import Bar, print_bars

from edgelstm.benchmark.machine import cores, cpu_name
from edgelstm.configuration.settings import DashboardSettings
from edgelstm.dashboard import Dashboard, FakeFeed

CHANNELS, RATE, SECONDS, ROUNDS = 8, 100.0, 20.0, 3
MOST_PERCENT = 15.0
MOST_FRAME_GAP_MS = 100.0
_CLIENTS = (0, 1, 3)


def look_on(url: str, clients: int, seconds: float, counts: Any) -> None:
    """Reads everything that a page would; a process of its own."""
    from tornado.websocket import websocket_connect

    async def one() -> int:
        connection = await websocket_connect(f"{url.replace('http', 'ws')}stream")
        await connection.write_message(json.dumps({"subscribe": "pump"}))
        size, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            message = await connection.read_message()
            if message is None:
                break
            size += len(message)
        connection.close()
        return size

    async def several() -> list[int]:
        return await asyncio.gather(*(one() for _ in range(clients)))

    counts.put(asyncio.run(several()))


def percent_of_a_core(url: str, clients: int, seconds: float) -> tuple[float, float]:
    """CPU time of this process in percent, and kB a second that a page was sent."""
    counts: Any = multiprocessing.get_context("spawn").Queue()
    context = multiprocessing.get_context("spawn")
    readers = context.Process(target=look_on, args=(url, clients, seconds + 2, counts))
    if clients:
        readers.start()
    time.sleep(2)  # the past has been sent by then
    cpu, begin = time.process_time(), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - begin
    figure = 100 * (time.process_time() - cpu) / passed
    sizes = [0]
    if clients:
        sizes = counts.get(timeout=30)
        readers.join()
    return figure, max(sizes) / (seconds + 2) / 1000


_FRAMES = """new Promise((done) => {
  const gaps = [];
  const long = [];
  new PerformanceObserver((list) => long.push(...list.getEntries().map((one) => one.duration)))
    .observe({ type: "longtask" });
  let last = performance.now();
  const end = last + %d;
  const frame = (now) => {
    gaps.push(now - last);
    last = now;
    if (now < end) requestAnimationFrame(frame);
    else done({ gaps: gaps.sort((a, b) => a - b), long });
  };
  requestAnimationFrame(frame);
})"""


def frames(url: str, seconds: float) -> dict[str, float] | None:
    """Gaps between frames in the browser, and its long tasks; None without Chromium."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests/system"))
    from browser import Browser, find_chromium

    if find_chromium() is None:
        return None
    with Browser(1280, 900) as browser:
        browser.go(url)
        browser.wait_for("!!document.querySelector('#channels canvas')")
        browser.pause(3)
        browser.call("Performance.enable")
        before = _tasks(browser)
        found = browser.run(_FRAMES % round(1000 * seconds))
        busy = _tasks(browser) - before
    gaps = found["gaps"]
    return {
        "median": statistics.median(gaps),
        "p99": gaps[int(0.99 * len(gaps))],
        "worst": gaps[-1],
        "long": len(found["long"]),
        "busy": 100 * busy / seconds,
    }


def _tasks(browser: Any) -> float:
    metrics = browser.call("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))


def main() -> None:
    """Measures, prints and holds the bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    print(f"{cpu_name()}, {cores()} cores; {CHANNELS} channels at {RATE:g} readings a second")
    feed = FakeFeed(channels=CHANNELS, rate=RATE)
    feed.start()
    dashboard = Dashboard(DashboardSettings(port=0), feed)
    dashboard.start()
    figures: dict[int, list[float]] = {clients: [] for clients in _CLIENTS}
    size = 0.0
    try:
        for _ in range(options.rounds):
            for clients in _CLIENTS:
                figure, sent = percent_of_a_core(dashboard.url, clients, options.seconds)
                figures[clients].append(figure)
                size = max(size, sent)
        seen = frames(dashboard.url, min(10.0, options.seconds))
    finally:
        dashboard.close()
        feed.close()
    without = statistics.median(figures[0])
    print(
        f"\nNo page: {without:.2f} % of a core, which makes the readings; "
        f"a page gets {size:.1f} kB/s"
    )
    bars = []
    for clients in _CLIENTS[1:]:
        cost = statistics.median(figures[clients]) - without
        name = "a page" if clients == 1 else f"{clients} pages"
        print(f"With {name}: {cost:.2f} % more, {cost / clients:.2f} % each")
        bars.append(Bar(f"{name}, percent of a core", cost, MOST_PERCENT, at_least=False))
    if seen is not None:
        print(
            f"In Chromium: frames {seen['median']:.1f} ms apart, p99 {seen['p99']:.1f}, worst "
            f"{seen['worst']:.1f}; {seen['long']:.0f} tasks above 50 ms; its main thread is busy "
            f"{seen['busy']:.1f} % of the time"
        )
    gap = None if seen is None else seen["p99"]
    bars.append(
        Bar("p99 between frames, ms", gap, MOST_FRAME_GAP_MS, at_least=False, form="{:.1f}")
    )
    sys.exit(0 if print_bars(bars) else 1)


if __name__ == "__main__":
    main()
