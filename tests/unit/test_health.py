from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from edgelstm.health import Health, OutboxHealth, SensorHealth, SinkHealth, SourceHealth, Status
from edgelstm.latency import LatencyHistogram
from edgelstm.pipeline import PipelineCounters

SENSOR = SensorHealth(
    "pump",
    "pump.tflite",
    "0" * 64,
    "int8",
    "ai-edge-litert 2.3",
    "board",
    Status.OK,
    PipelineCounters(),
    alerts=0,
    open_alerts=0,
    last_reading=None,
    silent_for=0.0,
    score=None,
    threshold=None,
    warming_up=True,
    latency=LatencyHistogram(),
)
HEALTH = Health(
    "gate",
    "1.0",
    0.0,
    1.0,
    (SENSOR, replace(SENSOR, name="fan")),
    (SourceHealth("board", "/dev/ttyACM0", connected=True),),
    (SinkHealth("phone", "webhook"),),
)


@pytest.mark.parametrize(("first", "second"), list(product(Status, repeat=2)))
def test_the_status_is_that_of_the_worst_sensor(first: Status, second: Status) -> None:
    sensors = (replace(SENSOR, status=first), replace(SENSOR, status=second))
    order = list(Status)
    worst = max(first, second, key=order.index)
    assert replace(HEALTH, sensors=sensors).status is worst


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (replace(HEALTH, problem="line 3 is wrong"), "line 3 is wrong"),
        (replace(HEALTH, outbox=OutboxHealth(problem="the disk is full")),
         "outbox: the disk is full"),
        (replace(HEALTH, sensors=(replace(SENSOR, problem="silent"),)), "pump: silent"),
        (replace(HEALTH, sources=(SourceHealth("board", "", connected=False, problem="gone"),)),
         "board: gone"),
        (replace(HEALTH, sinks=(SinkHealth("phone", "webhook", problem="answers 500"),)),
         "phone: answers 500"),
    ],
)  # fmt: skip
def test_a_problem_anywhere_degrades_the_whole(changed: Health, said: str) -> None:
    assert changed.problems == (said,)
    assert changed.status is Status.DEGRADED
    failing = replace(changed, sensors=(replace(SENSOR, status=Status.FAILING),))
    assert failing.status is Status.FAILING


def test_nothing_wrong() -> None:
    assert HEALTH.problems == ()
    assert HEALTH.status is Status.OK
