from __future__ import annotations

import math
import re
import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.errors import ConfigurationError, SourceError
from edgelstm.reading import Reading
from edgelstm.recording import Recording
from edgelstm_bridge.events import Connected, Ended, Gap
from edgelstm_bridge.messages import ChannelInfo
from edgelstm_bridge.polled_source import PolledSource
from edgelstm_bridge.recording_source import RecordingSource
from edgelstm_bridge.urls import SourceUrl


def test_a_polled_sensor_is_read_at_its_pace() -> None:
    values = iter(range(1000))
    closed = []
    with PolledSource(
        lambda: [next(values), 2.5],
        ["a", ChannelInfo("b", "V")],
        0.005,
        description="adc",
        close=lambda: closed.append(1),
    ) as source:
        began = time.time()
        events = list(islice(source.events(), 21))
        took = time.time() - began
    assert events[0] == Connected("adc")
    readings = [event for event in events if isinstance(event, Reading)]
    assert [r.values for r in readings] == [(float(i), 2.5) for i in range(len(readings))]
    assert took >= 0.005 * 18
    assert all((r.time_error or 0) < 1 for r in readings)
    assert source.channels == (ChannelInfo("a"), ChannelInfo("b", "V"))
    assert source.sample_period == 0.005
    source.close()
    assert closed == [1]


def test_a_wall_clock_that_is_set_back_takes_no_time_back(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    with PolledSource(lambda: [1.0], ["a"], 0.002) as source:
        before = list(islice(source, 3))
        monkeypatch.setattr(time, "time", lambda: real() - 3600)
        after = list(islice(source, 3))
    stamps = [reading.timestamp for reading in before + after]
    assert stamps == sorted(stamps)
    assert all((reading.time_error or 0) > 3000 for reading in after)


def test_what_falls_due_meanwhile_is_lost_and_counted() -> None:
    with PolledSource(lambda: [1.0], ["a"], 0.01) as source:
        events = source.events()
        list(islice(events, 3))
        time.sleep(0.2)
        gap, after = islice(events, 2)
    assert isinstance(gap, Gap)
    assert isinstance(after, Reading)
    assert gap.missing >= 15
    assert gap.exact
    assert after.sequence_number == 2 + gap.missing
    assert source.counters.lost == gap.missing


def test_a_sensor_that_does_not_answer_once_gives_nan() -> None:
    given: list[list[float] | OSError] = [[1.0], OSError("no answer"), [3.0]]
    answers = iter(given)

    def read() -> list[float]:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    with PolledSource(read, ["a"], 0.001) as source:
        readings = list(islice(source, 3))
    assert [math.isnan(r.values[0]) for r in readings] == [False, True, False]
    assert source.counters.damaged == 1


def test_another_number_of_values_is_an_error() -> None:
    with (
        PolledSource(lambda: [1.0, 2.0], ["a"], 0.001) as source,
        pytest.raises(SourceError, match="2 values for 1 channels"),
    ):
        next(iter(source))


@pytest.mark.parametrize("period", [0.0, -1.0, math.nan, math.inf])
def test_a_period_has_to_be_above_zero(period: float) -> None:
    with pytest.raises(ConfigurationError, match="above 0"):
        PolledSource(lambda: [1.0], ["a"], period)


def test_closing_from_another_thread_ends_it() -> None:
    with PolledSource(lambda: [1.0], ["a"], 60.0) as source:
        timer = threading.Timer(0.05, source.close)
        timer.start()
        assert len(list(source)) == 1
        timer.join()


def test_the_example_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs/sources.md").read_text()
    (example,) = (b for b in re.findall(r"```python\n(.*?)```", page, re.S) if "open_load" in b)
    names: dict[str, Any] = {}
    exec(example, names)  # noqa: S102 - our own page
    with names["open_load"](SourceUrl("load", options={"period": "0.01"})) as source:
        assert [len(reading.values) for reading in islice(source, 3)] == [1, 1, 1]


def recording(size: int) -> Recording:
    return Recording.from_array(np.arange(size * 2.0).reshape(size, 2), sample_period=0.01)


def test_a_recording_keeps_its_times() -> None:
    with RecordingSource(recording(5)) as source:
        events = list(source.events())
    assert isinstance(events[0], Connected)
    assert isinstance(events[-1], Ended)
    readings = [event for event in events if isinstance(event, Reading)]
    assert [r.timestamp for r in readings] == [0.0, 0.01, 0.02, 0.03, 0.04]
    assert [r.values for r in readings][1] == (2.0, 3.0)
    assert source.sample_period == 0.01


def test_a_recording_is_paced_on_request() -> None:
    with RecordingSource(recording(20), speed=2.0) as source:
        began = time.monotonic()
        assert len(list(source)) == 20
        assert time.monotonic() - began >= 0.09


def test_a_recording_is_left_when_it_is_closed() -> None:
    with RecordingSource(recording(20)) as source:
        assert len(list(islice(source, 3))) == 3
        source.close()
        assert list(source) == []


def test_a_function_that_fails_is_named() -> None:
    def read() -> list[float]:
        raise ValueError("bad frame")

    with PolledSource(read, ["a"], 0.001, description="adc 1") as source:
        events = source.events()
        assert isinstance(next(events), Connected)
        with pytest.raises(SourceError, match=r"Reading adc 1 failed \(ValueError: bad frame\)"):
            next(events)
