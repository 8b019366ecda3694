"""What the page is told of sensors and of the service's health, as plain data for JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from edgelstm.feed import SensorInfo
from edgelstm.health import Health, SensorHealth


def sensor_view(info: SensorInfo) -> dict[str, Any]:
    """What is fixed about a sensor."""
    return {
        "name": info.name,
        "artifact": info.artifact,
        "sha256": info.sha256,
        "channels": [{"name": one.name, "unit": one.unit} for one in info.channels],
        "compared": list(info.compared),
        "sample_period": info.sample_period,
        "window": info.window,
    }


def health_view(health: Health) -> dict[str, Any]:
    """How the service is; durations in seconds, latencies in microseconds."""
    return {
        "gateway": health.gateway,
        "version": health.version,
        "started": health.started,
        "time": health.time,
        "reloads": health.reloads,
        "status": health.status.value,
        "problems": list(health.problems),
        "sensors": [_sensor_health(sensor) for sensor in health.sensors],
        "sources": [asdict(source) for source in health.sources],
        "sinks": [asdict(sink) for sink in health.sinks],
        "outbox": asdict(health.outbox),
    }


def _sensor_health(sensor: SensorHealth) -> dict[str, Any]:
    counters, delegate = sensor.counters, sensor.delegate
    return {
        "name": sensor.name,
        "artifact": sensor.artifact,
        "recipe": sensor.recipe,
        "backend": sensor.backend,
        "source": sensor.source,
        "status": sensor.status.value,
        "readings": counters.readings,
        "scored": counters.scored,
        "skipped": counters.skipped,
        "gaps": counters.gaps,
        "restarts": counters.restarts,
        "sensor_faults": counters.sensor_faults,
        "alerts": sensor.alerts,
        "open_alerts": sensor.open_alerts,
        "last_reading": sensor.last_reading,
        "silent_for": sensor.silent_for,
        "score": sensor.score,
        "threshold": sensor.threshold,
        "warming_up": sensor.warming_up,
        "latency_p50": sensor.latency.quantile_us(0.5),
        "latency_p99": sensor.latency.quantile_us(0.99),
        "delegate": None if delegate is None else asdict(delegate),
        "problem": sensor.problem,
    }


def to_json(data: Any) -> str:
    """Compact JSON; a browser refuses numbers that are not finite, so they become null."""
    try:
        return json.dumps(data, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(_finite(data), separators=(",", ":"), allow_nan=False)


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
