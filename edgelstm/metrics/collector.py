"""A `Health` as Prometheus's metric families.

They are made when Prometheus asks: nothing is counted here, and nothing is in the readings' way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from edgelstm.health import Health, SensorHealth, Status
from edgelstm.metrics.figures import DELEGATES, SENSORS, SERVICE, SINKS, SOURCES, Figure

PREFIX = "edgelstm_"

T = TypeVar("T")


class HealthCollector(Collector):
    """Asks for the health at each scrape; what that raises ends the scrape.

    Args:
        health: how the service is now.
    """

    def __init__(self, health: Callable[[], Health]) -> None:
        self._health = health

    def describe(self) -> Iterable[Metric]:
        """Nothing: when this is registered there is no health to ask for."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The families of one moment."""
        health = self._health()
        sensors, sources, sinks = health.sensors, health.sources, health.sinks
        yield from _families(SERVICE, (), [((), health)])
        yield from _families(SENSORS, ("sensor",), [((s.name,), s) for s in sensors])
        yield from _families(
            DELEGATES, ("sensor",), [((s.name,), s.delegate) for s in sensors if s.delegate]
        )
        yield from _families(SOURCES, ("source",), [((s.name,), s) for s in sources])
        yield from _families(SINKS, ("sink",), [((s.name,), s) for s in sinks])
        yield _status("status", (), [((), health.status)])
        yield _status("sensor_status", ("sensor",), [((s.name,), s.status) for s in sensors])
        yield _skipped(sensors)
        yield _alerts(sensors)
        yield _verdicts(sensors)
        yield from _texts(health)


def _families(
    figures: Iterable[Figure[T]],
    labels: Sequence[str],
    rows: Sequence[tuple[Sequence[str], T]],
) -> Iterator[Metric]:
    """A family for each figure.

    Args:
        figures: of things of one kind.
        labels: that tell these things apart.
        rows: for each thing the values of the labels.
    """
    for figure in figures:
        kind = CounterMetricFamily if figure.grows else GaugeMetricFamily
        family = kind(PREFIX + figure.name, figure.help, labels=labels)
        for values, thing in rows:
            value = figure.of(thing)
            if value is not None:
                family.add_metric(values, float(value))
        yield family


def _status(
    name: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], Status]]
) -> Metric:
    family = GaugeMetricFamily(
        PREFIX + name, "1 for what it is, 0 for what it is not.", labels=(*labels, "status")
    )
    for values, is_now in rows:
        for status in Status:
            family.add_metric((*values, status.value), float(status is is_now))
    return family


def _skipped(sensors: Iterable[SensorHealth]) -> Metric:
    family = CounterMetricFamily(
        PREFIX + "readings_skipped",
        "Readings without a score; together with the scored ones, all that came.",
        labels=("sensor", "reason"),
    )
    for sensor in sensors:
        for reason, count in sensor.counters.skipped.items():
            family.add_metric((sensor.name, reason), count)
    return family


def _alerts(sensors: Iterable[SensorHealth]) -> Metric:
    family = CounterMetricFamily(
        PREFIX + "alerts", "Alerts that were opened.", labels=("sensor", "kind")
    )
    for sensor in sensors:
        family.add_metric((sensor.name, "anomaly"), sensor.alerts)
        family.add_metric((sensor.name, "sensor_fault"), sensor.counters.sensor_faults)
    return family


def _verdicts(sensors: Iterable[SensorHealth]) -> Metric:
    family = HistogramMetricFamily(
        PREFIX + "verdict_seconds", "From decoded reading to verdict.", labels=("sensor",)
    )
    for sensor in sensors:
        counts = sensor.latency.cumulative()
        buckets = [("+Inf" if bound == math.inf else repr(bound), n) for bound, n in counts]
        family.add_metric((sensor.name,), buckets, sensor.latency.total / 1e9)
    return family


def _texts(health: Health) -> Iterator[Metric]:
    """What is no number: labels of a 1."""
    yield _info("build", "What runs.", [{"version": health.version, "gateway": health.gateway}])
    yield _info(
        "sensor",
        "What watches a sensor.",
        [
            {
                "sensor": sensor.name,
                "artifact": sensor.artifact,
                "sha256": sensor.sha256,
                "recipe": sensor.recipe,
                "backend": sensor.backend,
                "source": sensor.source,
            }
            for sensor in health.sensors
        ],
    )
    yield _info(
        "source",
        "Where readings come from.",
        [{"source": source.name, "description": source.description} for source in health.sources],
    )
    yield _info(
        "sink", "Where alerts go.", [{"sink": s.name, "type": s.kind} for s in health.sinks]
    )
    yield _info("outbox", "Where alerts are kept.", [{"path": health.outbox.path or ""}])


def _info(name: str, help_text: str, rows: Iterable[Mapping[str, str]]) -> Metric:
    family = InfoMetricFamily(PREFIX + name, help_text, labels=())
    for row in rows:
        family.add_metric((), dict(row))
    return family
