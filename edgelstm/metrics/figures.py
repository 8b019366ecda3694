"""Which figures of a `Health` there are for Prometheus; `docs/service.md` lists them, too.

Names and units follow Prometheus's conventions: base units, and what only grows is a counter, whose
name ends in `_total` when it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from edgelstm.backends.graph import DelegateCounters
from edgelstm.health import Health, SensorHealth, SinkHealth, SourceHealth

T = TypeVar("T")


@dataclass(frozen=True)
class Figure(Generic[T]):
    """A number that something has.

    Attributes:
        name: without the prefix of them all, and without `_total`.
        help: what it is, for people.
        of: gives it; None when there is none now.
        grows: whether it only grows, until the service starts anew.
    """

    name: str
    help: str
    of: Callable[[T], float | None]
    grows: bool = False


SERVICE: tuple[Figure[Health], ...] = (
    Figure("start_time_seconds", "When the service started.", lambda h: h.started),
    Figure("health_time_seconds", "When these figures were taken.", lambda h: h.time),
    Figure("problem", "Whether the service itself has a problem.", lambda h: bool(h.problem)),
    Figure("reloads", "How often the configuration was read anew.", lambda h: h.reloads, True),
    Figure("outbox_bytes", "That the outbox has on the disk.", lambda h: h.outbox.bytes),
    Figure("outbox_alerts", "Alerts in the outbox.", lambda h: h.outbox.alerts),
    Figure("outbox_unsaved", "Notices that are in memory only.", lambda h: h.outbox.unsaved),
    Figure("outbox_problem", "Such as a full disk.", lambda h: bool(h.outbox.problem)),
    Figure(
        "outbox_dropped",
        "Alerts dropped before every sink had them.",
        lambda h: h.outbox.dropped,
        True,
    ),
    Figure(
        "outbox_evidence_dropped",
        "Alerts whose evidence was dropped.",
        lambda h: h.outbox.evidence_dropped,
        True,
    ),
)

SENSORS: tuple[Figure[SensorHealth], ...] = (
    Figure("readings", "Readings that came.", lambda s: s.counters.readings, True),
    Figure("scored", "Readings with a score.", lambda s: s.counters.scored, True),
    Figure("gaps", "Short gaps in the readings.", lambda s: s.counters.gaps, True),
    Figure("resets", "Of the model's states.", lambda s: s.counters.restarts, True),
    Figure("score", "Of the last scored reading.", lambda s: s.score),
    Figure("threshold", "That this score had to exceed.", lambda s: s.threshold),
    Figure(
        "warming_up",
        "Whether there is no score yet, since the start or a reset.",
        lambda s: s.warming_up,
    ),
    Figure("last_reading_timestamp_seconds", "Of the last reading.", lambda s: s.last_reading),
    Figure("silent_seconds", "Since the last reading arrived.", lambda s: s.silent_for),
    Figure("open_alerts", "Anomalies and sensor faults that are open.", lambda s: s.open_alerts),
    Figure("sensor_problem", "Whether the sensor has a problem.", lambda s: bool(s.problem)),
)

DELEGATES: tuple[Figure[DelegateCounters], ...] = (
    Figure("delegate_steps", "Steps that the delegate ran.", lambda d: d.delegate_steps, True),
    Figure("delegate_cpu_steps", "Steps that the CPU ran instead.", lambda d: d.cpu_steps, True),
    Figure("delegate_fallbacks", "How often the delegate failed.", lambda d: d.fallbacks, True),
    Figure("delegate_retries", "How often it was started again.", lambda d: d.retries, True),
    Figure(
        "delegate_retry_delay_seconds",
        "Between its last failure and the next try.",
        lambda d: d.retry_delay,
    ),
    Figure("delegate_operations", "Operations of the model.", lambda d: d.operations),
    Figure(
        "delegate_taken_operations",
        "Those of them that the delegate took.",
        lambda d: d.delegated_operations,
    ),
)

SOURCES: tuple[Figure[SourceHealth], ...] = (
    Figure("source_connected", "Whether the link is open.", lambda s: s.connected),
    Figure("source_problem", "Whether the source has a problem.", lambda s: bool(s.problem)),
    Figure("source_readings", "Readings that came.", lambda s: s.readings, True),
    Figure("lost", "Readings sent that did not arrive.", lambda s: s.lost, True),
    Figure("damaged", "Frames or lines that were of no use.", lambda s: s.damaged, True),
    Figure(
        "overflow",
        "Readings dropped because this computer did not keep up.",
        lambda s: s.overflow,
        True,
    ),
    Figure("reordered", "Readings that came late or twice.", lambda s: s.reordered, True),
    Figure("device_restarts", "Of the device.", lambda s: s.restarts, True),
    Figure("reconnects", "Of the link.", lambda s: s.reconnects, True),
)

SINKS: tuple[Figure[SinkHealth], ...] = (
    Figure("sink_sent", "Notices that were taken.", lambda s: s.sent, True),
    Figure("sink_refused", "Notices that will never be taken.", lambda s: s.refused, True),
    Figure("sink_failures", "Attempts that failed and are made again.", lambda s: s.failures, True),
    Figure("sink_pending", "Notices that wait.", lambda s: s.pending),
    Figure("sink_held", "Those that wait for the end of quiet hours.", lambda s: s.held),
    Figure("sink_last_sent_timestamp_seconds", "When the last was taken.", lambda s: s.last_sent),
    Figure("sink_problem", "Whether the sink fails or hangs.", lambda s: bool(s.problem)),
)
