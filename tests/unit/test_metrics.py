"""What Prometheus reads, by its own parser."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from edgelstm.backends.graph import DelegateCounters
from edgelstm.configuration.settings import MetricsSettings
from edgelstm.errors import MissingDependencyError
from edgelstm.health import Health, OutboxHealth, SensorHealth, SinkHealth, SourceHealth, Status
from edgelstm.health_data import describe
from edgelstm.latency import LatencyHistogram
from edgelstm.metrics import MetricsServer
from edgelstm.metrics.collector import HealthCollector
from edgelstm.pipeline import PipelineCounters

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def latency(*nanoseconds: int) -> LatencyHistogram:
    counts = LatencyHistogram()
    for value in nanoseconds:
        counts.add(value)
    return counts


def numbers(kind: type[Any], count: Iterator[int]) -> dict[str, Any]:
    """Another number for every field of a dataclass that has a number, or none, by default."""
    fields = dataclasses.fields(kind)
    return {f.name: next(count) for f in fields if f.default in (0, None) and f.type != "str"}


def make_health() -> Health:
    """Every number is another one."""
    count = iter(range(1000, 2000))
    sensor = SensorHealth(
        name="pump",
        artifact="pump.tflite",
        sha256="ab" * 32,
        recipe="int8-float",
        backend="ai-edge-litert 2.3",
        source="board",
        status=Status.DEGRADED,
        counters=PipelineCounters(**numbers(PipelineCounters, count)),
        alerts=next(count),
        open_alerts=next(count),
        last_reading=next(count) + 0.25,
        silent_for=next(count) + 0.5,
        score=next(count) + 0.125,
        threshold=next(count) + 0.75,
        warming_up=False,
        latency=latency(5_000, 20_000, 90_000, 900_000_000),
        delegate=DelegateCounters(**numbers(DelegateCounters, count)),
        problem="is flat",
    )
    source = SourceHealth(
        "board", "Uno", True, **numbers(SourceHealth, count) | {"problem": "was away"}
    )
    sink = SinkHealth("phone", "webhook", **numbers(SinkHealth, count) | {"problem": "is full"})
    outbox = OutboxHealth(
        **numbers(OutboxHealth, count) | {"path": "state/outbox", "problem": "is full"}
    )
    return Health(
        gateway="gate",
        version="1.2.3",
        started=next(count),
        time=next(count),
        sensors=(sensor,),
        sources=(source,),
        sinks=(sink,),
        outbox=outbox,
        reloads=next(count),
        problem="line 3",
    )


def exposition(health: Health, encode: Callable[[Any], bytes] = generate_latest) -> str:
    registry = CollectorRegistry()
    registry.register(HealthCollector(lambda: health))
    return encode(registry).decode()


def samples(health: Health) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(exposition(health))
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def leaves(thing: Any) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    """Of every field below: its path, its value, and what makes all of it anew with another."""
    if dataclasses.is_dataclass(thing) and not isinstance(thing, LatencyHistogram | type):
        for field in dataclasses.fields(thing):
            for path, leaf, rebuild in leaves(getattr(thing, field.name)):

                def outer(
                    new: Any, name: str = field.name, inner: Callable[[Any], Any] = rebuild
                ) -> Any:
                    return replace(thing, **{name: inner(new)})

                yield f"{field.name}.{path}".rstrip("."), leaf, outer
    elif isinstance(thing, tuple):
        [only] = thing
        for path, leaf, rebuild in leaves(only):

            def alone(new: Any, inner: Callable[[Any], Any] = rebuild) -> Any:
                return (inner(new),)

            yield path, leaf, alone
    else:
        yield "", thing, lambda new: new


def another(leaf: Any) -> Any:
    if isinstance(leaf, bool):
        return not leaf
    if isinstance(leaf, Enum):
        return next(member for member in type(leaf) if member is not leaf)
    if isinstance(leaf, LatencyHistogram):
        return latency(7)
    return "" if isinstance(leaf, str) else leaf + 5000


LEAVES = [(path, leaf, rebuild) for path, leaf, rebuild in leaves(make_health())]


@pytest.mark.parametrize(("path", "leaf", "rebuild"), LEAVES, ids=[path for path, *_ in LEAVES])
def test_no_field_of_the_health_is_forgotten(
    path: str, leaf: Any, rebuild: Callable[[Any], Health]
) -> None:
    before = samples(make_health())
    after = samples(rebuild(another(leaf)))
    assert before != after
    if isinstance(leaf, int | float) and not isinstance(leaf, bool):
        assert leaf in before.values()
        assert leaf not in after.values()
        assert leaf + 5000 in after.values()


def test_figures_of_a_sensor() -> None:
    found = samples(make_health())
    [sensor] = make_health().sensors
    counters = sensor.counters
    assert value(found, "edgelstm_readings_total", sensor="pump") == counters.readings
    assert value(found, "edgelstm_scored_total", sensor="pump") == counters.scored
    for reason, number in counters.skipped.items():
        told = value(found, "edgelstm_readings_skipped_total", sensor="pump", reason=reason)
        assert told == number
    assert value(found, "edgelstm_alerts_total", sensor="pump", kind="anomaly") == sensor.alerts
    faults = value(found, "edgelstm_alerts_total", sensor="pump", kind="sensor_fault")
    assert faults == counters.sensor_faults
    assert value(found, "edgelstm_score", sensor="pump") == sensor.score
    assert value(found, "edgelstm_threshold", sensor="pump") == sensor.threshold
    for status, is_it in (("ok", 0), ("degraded", 1), ("failing", 0)):
        assert value(found, "edgelstm_sensor_status", sensor="pump", status=status) == is_it


def test_figures_of_sources_sinks_and_the_whole() -> None:
    health = make_health()
    found = samples(health)
    [source], [sink] = health.sources, health.sinks
    assert value(found, "edgelstm_lost_total", source="board") == source.lost
    assert value(found, "edgelstm_source_connected", source="board") == 1
    assert value(found, "edgelstm_sink_failures_total", sink="phone") == sink.failures
    assert value(found, "edgelstm_sink_info", sink="phone", type="webhook") == 1
    assert value(found, "edgelstm_build_info", version="1.2.3", gateway="gate") == 1
    assert value(found, "edgelstm_outbox_bytes") == health.outbox.bytes
    assert value(found, "edgelstm_status", status="degraded") == 1


def test_the_histogram_is_one_of_prometheus() -> None:
    found = samples(make_health())
    buckets = {
        float(dict(labels)["le"]): count
        for (name, labels), count in found.items()
        if name == "edgelstm_verdict_seconds_bucket"
    }
    assert list(buckets) == sorted(buckets)
    assert min(buckets) < 1e-5
    assert sorted(buckets)[-2] > 0.1
    assert (buckets[8.191e-06], buckets[3.2767e-05], buckets[0.000131071]) == (1, 2, 3)
    assert buckets[float("inf")] == 4
    assert value(found, "edgelstm_verdict_seconds_count", sensor="pump") == 4
    assert value(found, "edgelstm_verdict_seconds_sum", sensor="pump") == 0.900115


def test_what_there_is_not_is_not_told() -> None:
    health = make_health()
    sensor = replace(
        health.sensors[0], score=None, threshold=None, last_reading=None, delegate=None
    )
    names = {name for name, _ in samples(replace(health, sensors=(sensor,)))}
    assert "edgelstm_readings_total" in names
    assert names.isdisjoint({"edgelstm_score", "edgelstm_threshold"})
    assert "edgelstm_last_reading_timestamp_seconds" not in names
    assert not [name for name in names if "delegate" in name]


def test_names_follow_the_conventions() -> None:
    for family in parse(exposition(make_health())):
        assert family.name.startswith("edgelstm_")
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total")


def test_odd_names_of_sensors_are_escaped() -> None:
    name = 'a "b"\\c\nd{e}'
    health = make_health()
    found = samples(replace(health, sensors=(replace(health.sensors[0], name=name),)))
    assert value(found, "edgelstm_scored_total", sensor=name) > 0


def test_openmetrics_too() -> None:
    text = exposition(make_health(), generate_openmetrics)
    families = {family.name: family for family in openmetrics(text)}  # type: ignore[no-untyped-call]
    assert families["edgelstm_readings"].type == "counter"
    assert families["edgelstm_verdict_seconds"].type == "histogram"


def test_several_sensors_share_families() -> None:
    health = make_health()
    fan = replace(health.sensors[0], name="fan", delegate=None)
    text = exposition(replace(health, sensors=(*health.sensors, fan)))
    assert text.count("# TYPE edgelstm_readings_total counter") == 1
    assert 'edgelstm_readings_total{sensor="fan"}' in text


def test_without_anything() -> None:
    found = samples(Health("gate", "1", 0.0, 1.0, ()))
    assert value(found, "edgelstm_status", status="ok") == 1
    assert value(found, "edgelstm_outbox_bytes") == 0


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgelstm\[metrics\]'"):
        MetricsServer(MetricsSettings(), make_health)


def test_healthz_as_plain_data() -> None:
    told = describe(make_health())
    assert told["status"] == "degraded"
    assert "pump: is flat" in told["problems"]
    assert told["sensors"]["pump"]["status"] == "degraded"


def test_the_docs_have_every_figure() -> None:
    docs = (Path(__file__).parents[2] / "docs/service.md").read_text()
    names = {name for name, _ in samples(make_health())}
    told = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    assert {name for name in told if f"`{name}`" not in docs} == set()
    reasons = [reason for reason in PipelineCounters().skipped if f"`{reason}`" not in docs]
    assert reasons == []
