"""A cable that is pulled and plugged in 200 times while the pipeline runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, pairwise
from pathlib import Path

import numpy as np
import pytest

import edgelstm
from edgelstm.pipeline import LONG_GAP, Pipeline, PipelineCounters, Verdict
from edgelstm.reading import Reading
from edgelstm_bridge.events import Connected, Disconnected, Gap
from edgelstm_bridge.frame_receiver import FrameReceiver
from edgelstm_bridge.link_source import LinkSource
from edgelstm_bridge.links import make_opener
from edgelstm_bridge.links.backoff import Backoff
from edgelstm_bridge.messages import ChannelInfo, Hello
from edgelstm_bridge.pacing import Row
from edgelstm_bridge.urls import parse_url
from edgelstm_bridge.virtual_device import RunReport, VirtualDevice

TINY = Path(__file__).parent.parent / "data" / "tiny.tflite"
CYCLES = 200
RATE = 1000.0
HELLO = Hello(
    (ChannelInfo("flow"), ChannelInfo("level")),
    sample_period_us=1000,
    clock_tick_us=1000,
    device_id="pump",
)


def rows(stop: threading.Event) -> Iterator[Row]:
    """Sines like those that the tiny model was trained on, until the test has had enough."""
    for i in count():
        if stop.is_set():
            return
        yield i / RATE, (20 + 3 * np.sin(i / 8), -5 + np.sin(i / 5 + 1))


def values_of(row: int) -> tuple[float, float]:
    flow, level = 20 + 3 * np.sin(row / 8), -5 + np.sin(row / 5 + 1)
    return float(np.float32(flow)), float(np.float32(level))


class Puller(threading.Thread):
    """Pulls the cable and plugs it in again, once readings have come since the last time."""

    def __init__(self, device: VirtualDevice, drain: bool, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.came = threading.Event()
        self.cycles = 0
        self.error: BaseException | None = None
        self._device, self._drain, self._stop_rows = device, drain, stop

    def run(self) -> None:
        try:
            for _ in range(CYCLES):
                assert self.came.wait(60), "no reading came after the cable was plugged in"
                self._device.unplug(drain=self._drain)
                self.came.clear()
                self._device.plug()
                self.cycles += 1
            assert self.came.wait(60)
        except BaseException as error:
            self.error = error
        finally:
            self._stop_rows.set()


@contextmanager
def running(device: VirtualDevice, stop: threading.Event) -> Iterator[list[RunReport]]:
    reports: list[RunReport] = []
    thread = threading.Thread(
        target=lambda: reports.append(device.run(rows(stop), rate=RATE)), daemon=True
    )
    thread.start()
    yield reports
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("drain", "powered"),
    [
        pytest.param(True, False, id="the device waits"),
        pytest.param(True, True, id="the device goes on"),
        pytest.param(False, True, id="in the middle of a frame"),
    ],
)
def test_every_reading_comes_once_and_the_pipeline_keeps_its_rules(
    tmp_path: Path, drain: bool, powered: bool
) -> None:
    stop = threading.Event()
    verdicts: list[Verdict] = []
    happened: list[type] = []
    missing = 0
    with (
        VirtualDevice(HELLO, link=tmp_path / "port", powered=powered) as device,
        running(device, stop) as reports,
        edgelstm.load(TINY) as session,
        LinkSource(
            make_opener(parse_url(str(tmp_path / "port"))),
            FrameReceiver(),
            backoff=Backoff(0.005, 0.02),
        ) as source,
    ):
        puller = Puller(device, drain, stop)
        puller.start()
        pipeline = Pipeline(session)
        for event in source.events():
            if isinstance(event, Reading):
                verdicts.append(pipeline.update(event))
                if happened[-1] is Connected:  # one from before may have been on its way
                    puller.came.set()
                    happened.append(Reading)
            elif isinstance(event, Gap):
                assert event.exact
                missing += event.missing
            else:
                happened.append(type(event))
        puller.join(60)
        counters = source.counters
        source.close()
    assert puller.error is None
    assert puller.cycles == CYCLES
    assert happened.count(Disconnected) == CYCLES
    assert happened.count(Connected) == CYCLES + 1
    assert (counters.reconnects, counters.restarts, counters.overflow) == (CYCLES, 0, 0)

    (report,) = reports
    readings = [verdict.reading for verdict in verdicts]
    numbers = [reading.sequence_number or 0 for reading in readings]
    assert all(after > before for before, after in pairwise(numbers))
    assert all(reading.values == values_of(n) for n, reading in zip(numbers, readings, strict=True))
    assert all(a.timestamp <= b.timestamp for a, b in pairwise(readings))
    if drain:
        assert numbers == report.arriving
    else:  # what waited in the port went away with it
        assert set(numbers) <= set(report.arriving)
    if not powered:
        assert numbers == list(range(report.sent))
    # What did not come was counted, to the last one.
    assert missing == counters.lost
    assert len(numbers) + counters.lost == len(report.fates) + report.sent
    check_rules(verdicts, pipeline.counters)


def check_rules(verdicts: list[Verdict], counters: PipelineCounters) -> None:
    """After a short gap a reading has no forecast; after a long one the states begin anew."""
    numbers = [verdict.reading.sequence_number or 0 for verdict in verdicts]
    steps = [after - before - 1 for before, after in pairwise(numbers)]
    short = sum(0 < step <= LONG_GAP for step in steps)
    long = sum(step > LONG_GAP for step in steps)
    assert (counters.gaps, counters.restarts) == (short, long)
    for step, verdict in zip(steps, verdicts[1:], strict=True):
        assert (verdict.predicted is None) == (step > 0)
    # A pipeline that is given the same readings in peace judges the same.
    with edgelstm.load(TINY) as session:
        pipeline = Pipeline(session)
        for verdict in verdicts:
            again = pipeline.update(verdict.reading)
            assert (again.score, again.threshold, again.changes) == (
                verdict.score,
                verdict.threshold,
                verdict.changes,
            )
