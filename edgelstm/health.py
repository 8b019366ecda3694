"""`Health`: how a service is, as a value: for metrics, the page, MQTT and `/healthz`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from edgelstm.backends.graph import DelegateCounters
from edgelstm.latency import LatencyHistogram
from edgelstm.pipeline import PipelineCounters


class Status(Enum):
    """How well something does its work, worst last."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILING = "failing"


@dataclass(frozen=True)
class SensorHealth:
    """How a sensor is.

    Attributes:
        name: of the sensor.
        artifact: file name of the model.
        sha256: of the model, 64 hexadecimal digits.
        recipe: of the model.
        backend: that computes it, and its release.
        source: name of the source of its readings.
        status: FAILING when nothing is watched: no reading comes, or the pipeline failed; DEGRADED
            while a sensor fault is open.
        counters: what became of the readings, see `PipelineCounters`.
        alerts: anomalies opened so far.
        open_alerts: anomalies and sensor faults that are open now.
        last_reading: timestamp of the last reading, seconds since the Unix epoch.
        silent_for: seconds since the last reading arrived (or since the start), by this computer's
            clock.
        score: of the last scored reading; None before the first.
        threshold: of that reading.
        warming_up: whether there is no score yet, since the start or a reset.
        latency: from decoded reading to verdict.
        delegate: what ran on the delegate; None without one.
        problem: a sentence on what is wrong, or "".
    """

    name: str
    artifact: str
    sha256: str
    recipe: str
    backend: str
    source: str
    status: Status
    counters: PipelineCounters
    alerts: int
    open_alerts: int
    last_reading: float | None
    silent_for: float
    score: float | None
    threshold: float | None
    warming_up: bool
    latency: LatencyHistogram
    delegate: DelegateCounters | None = None
    problem: str = ""


@dataclass(frozen=True)
class SourceHealth:
    """How a source of readings is; counts since the start.

    Attributes:
        name: of the source.
        description: the port and the device.
        connected: whether the link is open.
        readings: that came.
        lost: readings that the device sent and that did not arrive.
        damaged: frames or lines that could not be used.
        overflow: readings that this computer dropped because it did not keep up.
        reordered: readings that came late or twice.
        restarts: of the device.
        reconnects: of the link.
        problem: a sentence on what is wrong, or "".
    """

    name: str
    description: str
    connected: bool
    readings: int = 0
    lost: int = 0
    damaged: int = 0
    overflow: int = 0
    reordered: int = 0
    restarts: int = 0
    reconnects: int = 0
    problem: str = ""


@dataclass(frozen=True)
class SinkHealth:
    """How a sink is; counts since the start.

    Attributes:
        name: of the sink.
        kind: its type, such as "mqtt".
        sent: notices that were taken.
        refused: notices that the receiver will never take.
        failures: attempts that failed and are tried again.
        pending: notices that wait.
        held: those of them that wait for the end of quiet hours.
        last_sent: when the last was taken, seconds since the Unix epoch; None before the first.
        problem: a sentence on why it fails, or hangs; "" while it works.
    """

    name: str
    kind: str
    sent: int = 0
    refused: int = 0
    failures: int = 0
    pending: int = 0
    held: int = 0
    last_sent: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class OutboxHealth:
    """How the outbox is.

    Attributes:
        path: of its file; None when it is in memory only.
        bytes: on the disk.
        alerts: that it holds.
        unsaved: notices that are in memory only, because the disk does not take them.
        dropped: alerts that were dropped before every sink had them, because of its bounds.
        evidence_dropped: alerts whose evidence was dropped because of its bounds.
        problem: a sentence, such as that the disk is full; "" while all is well.
    """

    path: str | None = None
    bytes: int = 0
    alerts: int = 0
    unsaved: int = 0
    dropped: int = 0
    evidence_dropped: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Health:
    """How the whole service is.

    Attributes:
        gateway: name of this computer in alerts.
        version: of edgelstm.
        started: seconds since the Unix epoch.
        time: when this was taken.
        sensors: in the order of the configuration.
        sources: likewise.
        sinks: likewise.
        outbox: of alerts.
        reloads: how often the configuration was read anew.
        problem: what is wrong with the service itself, such as a configuration that could not be
            read anew; "" while all is well.
    """

    gateway: str
    version: str
    started: float
    time: float
    sensors: tuple[SensorHealth, ...]
    sources: tuple[SourceHealth, ...] = ()
    sinks: tuple[SinkHealth, ...] = ()
    outbox: OutboxHealth = field(default_factory=OutboxHealth)
    reloads: int = 0
    problem: str = ""

    @property
    def status(self) -> Status:
        """FAILING when a sensor is; DEGRADED when anything else has a problem."""
        statuses = [sensor.status for sensor in self.sensors]
        if Status.FAILING in statuses:
            return Status.FAILING
        if self.problems or Status.DEGRADED in statuses:
            return Status.DEGRADED
        return Status.OK

    @property
    def problems(self) -> tuple[str, ...]:
        """Every problem as a sentence, with the name of what has it."""
        named = [("", self.problem), ("outbox", self.outbox.problem)]
        named += [(sensor.name, sensor.problem) for sensor in self.sensors]
        named += [(source.name, source.problem) for source in self.sources]
        named += [(sink.name, sink.problem) for sink in self.sinks]
        return tuple(f"{name}: {text}" if name else text for name, text in named if text)
