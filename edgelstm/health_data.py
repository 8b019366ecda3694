"""A `Health` as plain data for JSON: what `/healthz` and the health file of a service say."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from edgelstm.health import Health, SensorHealth, SinkHealth, SourceHealth


def describe(health: Health) -> dict[str, Any]:
    """How the service is; sensors, sources and sinks by their names.

    Times are seconds since the Unix epoch, durations seconds where the name says nothing else. A
    number that is not finite is None.
    """
    return {
        "status": health.status.value,
        "problems": list(health.problems),
        "gateway": health.gateway,
        "version": health.version,
        "time": health.time,
        "started": health.started,
        "uptime_seconds": round(max(0.0, health.time - health.started), 3),
        "reloads": health.reloads,
        "sensors": {sensor.name: _sensor(sensor) for sensor in health.sensors},
        "sources": {source.name: _named(source) for source in health.sources},
        "sinks": {sink.name: _named(sink) for sink in health.sinks},
        "outbox": asdict(health.outbox),
    }


def _sensor(sensor: SensorHealth) -> dict[str, Any]:
    counters, delegate = sensor.counters, sensor.delegate
    return {
        "status": sensor.status.value,
        "problem": sensor.problem,
        "artifact": sensor.artifact,
        "sha256": sensor.sha256,
        "recipe": sensor.recipe,
        "backend": sensor.backend,
        "source": sensor.source,
        "readings": counters.readings,
        "scored": counters.scored,
        "skipped": counters.skipped,
        "gaps": counters.gaps,
        "resets": counters.restarts,
        "sensor_faults": counters.sensor_faults,
        "alerts": sensor.alerts,
        "open_alerts": sensor.open_alerts,
        "last_reading": _finite(sensor.last_reading),
        "silent_seconds": round(sensor.silent_for, 3),
        "score": _finite(sensor.score),
        "threshold": _finite(sensor.threshold),
        "warming_up": sensor.warming_up,
        "step_microseconds": {"median": _quantile(sensor, 0.5), "p99": _quantile(sensor, 0.99)},
        "delegate": None if delegate is None else asdict(delegate),
    }


def _quantile(sensor: SensorHealth, q: float) -> float | None:
    microseconds = sensor.latency.quantile_us(q)
    return None if microseconds is None else round(microseconds, 3)


def _named(part: SourceHealth | SinkHealth) -> dict[str, Any]:
    data = asdict(part)
    del data["name"]
    return data


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
