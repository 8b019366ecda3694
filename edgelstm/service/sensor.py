"""`WatchedSensor`: what a service keeps of one sensor beside its pipeline."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from edgelstm.alert import Alert, AlertChange, AlertEvent
from edgelstm.configuration import SensorSettings
from edgelstm.errors import StateError
from edgelstm.evidence import Evidence
from edgelstm.feed import SensorInfo
from edgelstm.health import SensorHealth, Status
from edgelstm.latency import LatencyHistogram
from edgelstm.notice import AlertBook, Notice
from edgelstm.outbox import Outbox
from edgelstm.pipeline import Pipeline, Verdict
from edgelstm.reading import Reading
from edgelstm.sinks.log import limits_by_name, summary
from edgelstm.verdict_ring import VerdictRing

_SHOWN_S = 600  # of readings for whoever looks on
_MOST_KEPT = 6000  # a verdict on eight channels is about 1 kB


class WatchedSensor:
    """A sensor with its pipeline: keeps the last verdicts, and writes notices into the outbox.

    Whoever uses it holds the lock of its lane.

    Args:
        name: of the sensor.
        settings: of it.
        pipeline: that watches it.
        gateway: name of the computer.
        outbox: where its notices go.
    """

    def __init__(
        self, name: str, settings: SensorSettings, pipeline: Pipeline, gateway: str, outbox: Outbox
    ) -> None:
        self.name, self.settings, self.pipeline = name, settings, pipeline
        self.log_fields = {"journal": {"EDGELSTM_SENSOR": name}}
        """For records about it, see `edgelstm.systemd.JournalHandler`."""
        self.latency = LatencyHistogram()
        self.problem = ""
        """Why nothing is watched, or ""."""
        manifest = self.manifest = pipeline.session.artifact.manifest
        self._outbox = outbox
        kept = min(max(int(_SHOWN_S / manifest.sample_period), _SHOWN_S), _MOST_KEPT)
        self.ring = VerdictRing(max(kept, settings.evidence))
        self._channels = tuple(channel.name for channel in manifest.channels)
        limits = limits_by_name(manifest)
        self.book = AlertBook(
            gateway,
            name,
            lambda change, verdict: summary(change, verdict, limits),
            known=outbox.open_entries(name),
        )
        self._awaited: dict[str, int] = {}  # alerts whose evidence goes on, up to which count
        self._made, self._arrived = time.time(), time.monotonic()
        self._alerts_before = 0  # of models that this one took the place of
        self.scored: Verdict | None = None
        """The last verdict with a score."""
        self._saved_at = -1
        self.timestamp: float | None = None
        """Of the last reading."""

    @property
    def info(self) -> SensorInfo:
        """What is fixed about it."""
        manifest = self.manifest
        return SensorInfo(
            self.name,
            Path(self.settings.artifact).name,
            manifest.sha256,
            manifest.channels,
            self.pipeline.compared,
            manifest.sample_period,
            manifest.task == "reconstruction",
        )

    @property
    def alerts(self) -> int:
        """How many anomalies were announced so far."""
        return self._alerts_before + self.pipeline.alerts

    def resume(self) -> None:
        """Takes note that the pipeline's state was restored."""
        self.pipeline.resume()

    def adopt(self, old: WatchedSensor) -> bool:
        """Goes on where another of the same name is, with another model or other settings.

        Args:
            old: which takes no more readings.

        Returns:
            Whether the pipeline goes on; otherwise it starts afresh.
        """
        self.book = old.book
        try:
            self.pipeline.state = old.pipeline.state
        except StateError:
            self.close_strays("the model was replaced")
            # What counts since the start goes on: figures that fall would look like a restart.
            self.pipeline.counters = replace(old.pipeline.counters)
            self.latency, self._alerts_before = old.latency, old.alerts
            return False
        if self.settings.source != old.settings.source:
            self.pipeline.renumber()
        self.latency, self._alerts_before = old.latency, old._alerts_before
        self.scored, self.timestamp, self._arrived = old.scored, old.timestamp, old._arrived
        later = 0
        if old.ring.capacity >= self.ring.capacity:
            self.ring = old.ring
        else:
            for verdict in old.ring.since(0)[1]:
                self.ring.add(verdict)
            later = self.ring.count - old.ring.count
        if self.settings.evidence:
            self._awaited = {name: until + later for name, until in old._awaited.items()}
        return True

    def update(self, reading: Reading) -> None:
        """Takes one reading."""
        start = time.perf_counter_ns()
        verdict = self.pipeline.update(reading)
        self.latency.add(time.perf_counter_ns() - start)
        self.take(verdict)

    def take(self, verdict: Verdict) -> None:
        """Keeps a verdict, and tells of what changed."""
        self.timestamp = verdict.reading.timestamp
        if verdict.score is not None:
            self.scored = verdict
        self.ring.add(verdict)
        if verdict.changes:
            self._tell(verdict)
        elif self._awaited and self.ring.count >= min(self._awaited.values()):
            self._outbox.submit(evidence=self._due_evidence())

    def silent(self, seconds: float) -> None:
        """Takes note that no reading has come for so long."""
        # Not by the clock, which may be set while nothing comes.
        timestamp = (self._made if self.timestamp is None else self.timestamp) + seconds
        if changes := self.pipeline.silent(timestamp):
            # Notices are of verdicts; this one is on no reading.
            self._tell(Verdict(Reading(timestamp, ()), changes=changes))

    def arrived(self) -> None:
        """Takes note that readings come, by this computer's clock."""
        self._arrived = time.monotonic()

    def save(self) -> None:
        """Puts the pipeline's state into the outbox, unless it is there already."""
        count = self.pipeline.counters.readings
        if count != self._saved_at:
            self._saved_at = count
            self._outbox.submit(states={self.name: self.pipeline.state})

    def close_strays(self, why: str) -> None:
        """Closes alerts that the outbox has as open and the pipeline does not know.

        They are of a state that was given up: of another model, or damaged.

        Args:
            why: the end of a sentence for people.
        """
        known = {(alert.kind, alert.number) for alert in self.pipeline.open_alerts}
        strays = [e for e in self.book.open if (e.kind, e.number) not in known]
        if not strays:
            return
        now = time.time()
        open_alerts = self._outbox.alerts(None, open_only=True)
        standing = {notice.alert_id: notice for notice in open_alerts}
        notices = []
        for entry in strays:
            notice = standing.get(entry.alert_id)
            if notice is None:
                continue
            closed = replace(notice.alert, closed=max(now, notice.alert.opened))
            change = AlertChange(AlertEvent.CLOSED, closed)
            (written,) = self.book.take(Verdict(Reading(now, ()), changes=(change,)))
            notices.append(replace(written, summary=f"{written.summary} ({why})"))
        self._outbox.submit(notices)

    def health(self, source: str) -> SensorHealth:
        """How it is."""
        pipeline, last = self.pipeline, self.scored
        open_alerts = pipeline.open_alerts
        blind = any(map(self._is_blind, open_alerts))
        status = Status.OK
        if self.problem or blind:
            status = Status.FAILING
        elif any(alert.reason for alert in open_alerts):
            status = Status.DEGRADED
        silent_for = time.monotonic() - self._arrived
        problem = self.problem
        if not problem and blind:
            problem = f"no reading has come for {silent_for:.0f} s"
        session = pipeline.session
        return SensorHealth(
            self.name,
            Path(self.settings.artifact).name,
            self.manifest.sha256,
            self.manifest.recipe,
            f"{session.backend} {session.release}",
            source,
            status,
            replace(pipeline.counters),
            self.alerts,
            len(open_alerts),
            self.timestamp,
            silent_for,
            None if last is None else last.score,
            None if last is None else last.threshold,
            pipeline.warming_up,
            self.latency.copy(),
            session.delegate_counters,
            problem,
        )

    def _tell(self, verdict: Verdict) -> None:
        notices = self.book.take(verdict)
        self._outbox.submit(
            notices,
            evidence=self._evidence_at(notices),
            states={self.name: self.pipeline.state},
        )

    def _evidence_at(self, notices: tuple[Notice, ...]) -> dict[str, Evidence]:
        """What is to be kept now: half of it is from before an alert opened, half from after.

        Two times: when it opens, and when there is the half from after, or it closes before.
        """
        if not self.settings.evidence:
            return {}
        evidence = {}
        for notice in notices:
            alert_id = notice.alert_id
            if notice.event == AlertEvent.OPENED.value:
                self._awaited[alert_id] = self.ring.count + self.settings.evidence // 2
                evidence[alert_id] = self._around(self._awaited[alert_id])
            elif notice.event == AlertEvent.CLOSED.value and alert_id in self._awaited:
                evidence[alert_id] = self._around(self._awaited.pop(alert_id))
        return evidence

    def _due_evidence(self) -> dict[str, Evidence]:
        count = self.ring.count
        due = [alert_id for alert_id, until in self._awaited.items() if count >= until]
        return {alert_id: self._around(self._awaited.pop(alert_id)) for alert_id in due}

    def _around(self, until: int) -> Evidence:
        number = self.settings.evidence
        verdicts = self.ring.since(until - number)[1][:number]
        return Evidence.of(verdicts, self._channels, self.pipeline.compared)

    def _is_blind(self, alert: Alert) -> bool:
        return alert.reason == "missing" and len(alert.channels) == len(self._channels)
