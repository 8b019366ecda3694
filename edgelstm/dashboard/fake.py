"""`FakeFeed`: a service that is none, for looking at the page without a device, and for tests.

from edgelstm.configuration.settings import DashboardSettings
from edgelstm.dashboard import Dashboard, FakeFeed

feed = FakeFeed()
Dashboard(DashboardSettings(), feed).start()
feed.run()
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from edgelstm import __version__
from edgelstm.alert import AlertChange, AlertEvent, AlertPolicy, AlertRule, ChannelShare
from edgelstm.errors import ConfigurationError
from edgelstm.evidence import Evidence
from edgelstm.feed import SensorInfo
from edgelstm.health import Health, OutboxHealth, SensorHealth, SinkHealth, SourceHealth, Status
from edgelstm.latency import LatencyHistogram
from edgelstm.manifest import Channel
from edgelstm.notice import ACKNOWLEDGED, Acknowledgement, AlertBook, Notice
from edgelstm.pipeline import PipelineCounters, Verdict
from edgelstm.reading import Reading
from edgelstm.threshold import Judgement
from edgelstm.verdict_ring import VerdictRing

_THRESHOLD = 4.0
_LOOP_S = 120.0  # after which the same values come again
_EVENTS = ((27.0, 3.0, 2), (75.0, 1.5, 5))  # second, seconds, channel
_SPIKE_S = 50.0
_EVIDENCE = 500
_CHANNELS = (
    ("vibration_x", "mm/s", 0.0, 2.4, 0.9),
    ("vibration_y", "mm/s", 0.0, 1.8, 0.7),
    ("bearing_temp", "°C", 61.0, 1.5, 0.05),
    ("motor_current", "A", 8.2, 0.4, 0.35),
    ("inlet_pressure", "bar", 1.9, 0.08, 0.12),
    ("outlet_pressure", "bar", 6.4, 0.25, 0.2),
    ("flow", "l/min", 148.0, 4.0, 0.08),
    ("speed", "rpm", 2940.0, 12.0, 0.15),
)  # name, unit, middle, swing, times a second


class FakeFeed:
    """Makes verdicts of up to eight channels, with two anomalies in two minutes.

    Args:
        sensors: their names.
        channels: how many each has.
        rate: readings a second of each.
        history: seconds of readings that there are from the start.
        clock: seconds since the Unix epoch.
    """

    def __init__(
        self,
        sensors: Sequence[str] = ("pump",),
        *,
        channels: int = 8,
        rate: float = 100.0,
        history: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock, self._rate = clock, rate
        self._names = tuple(sensors)
        self._chosen = _CHANNELS[:channels]
        self.problem = ""
        """A sentence on what is wrong, to be shown."""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = clock()
        begin = self._started - history
        self._machines = {
            name: _Machine(name, self._chosen, rate, begin, number)
            for number, name in enumerate(self._names)
        }
        self._evidence: dict[str, Evidence] = {}
        self._notices: dict[str, Notice] = {}
        self.advance()

    def advance(self, upto: float | None = None) -> None:
        """Makes the readings until a time, by default now."""
        end = self._clock() if upto is None else upto
        for machine in self._machines.values():
            while machine.next_time <= end:
                verdict = machine.step()
                if verdict.changes:
                    self._note(machine, verdict)

    def start(self) -> None:
        """Makes readings as time passes, in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="fake feed", daemon=True)
        self._thread.start()

    def run(self) -> None:
        """Makes readings as time passes, until `close`."""
        while not self._stop.wait(0.01):
            self.advance()

    def close(self) -> None:
        """Ends the thread; may be called twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def health(self) -> Health:
        """See `Feed`."""
        now = self._clock()
        with self._lock:
            notices = tuple(self._notices.values())
        sensors = tuple(self._sensor_health(machine, now) for machine in self._machines.values())
        readings = sum(machine.ring.count for machine in self._machines.values())
        return Health(
            "pump-room",
            __version__,
            self._started,
            now,
            sensors,
            (SourceHealth("board", "/dev/ttyACM0, a made-up device", True, readings),),
            (SinkHealth("log", "log", sent=len(notices), last_sent=now if notices else None),),
            OutboxHealth(alerts=len(notices)),
            problem=self.problem,
        )

    def sensors(self) -> tuple[SensorInfo, ...]:
        """See `Feed`."""
        return tuple(machine.info for machine in self._machines.values())

    def ring(self, sensor: str) -> VerdictRing:
        """See `Feed`."""
        return self._machines[sensor].ring

    def alerts(self, limit: int = 100) -> Sequence[Notice]:
        """See `Feed`."""
        with self._lock:
            found = sorted(self._notices.values(), key=lambda one: one.alert.opened, reverse=True)
        return found[:limit]

    def evidence(self, alert_id: str) -> Evidence | None:
        """See `Feed`."""
        return self._evidence.get(alert_id)

    def acknowledge(self, alert_id: str, by: str, note: str = "") -> None:
        """See `Feed`."""
        with self._lock:
            notice = self._notices.get(alert_id)
            if notice is None:
                raise ConfigurationError(
                    f"There is no alert {alert_id}; 'edgelstm alerts' lists them."
                )
            if notice.acknowledged is not None:
                raise ConfigurationError(
                    f"The alert {alert_id} was acknowledged by {notice.acknowledged.by} before."
                )
            self._notices[alert_id] = replace(
                notice,
                id=f"{notice.id}a",
                event=ACKNOWLEDGED,
                acknowledged=Acknowledgement(self._clock(), by, note),
            )

    def _note(self, machine: _Machine, verdict: Verdict) -> None:
        for notice in machine.book.take(verdict):
            names = [channel.name for channel in machine.info.channels]
            with self._lock:
                before = self._notices.get(notice.alert_id)
                seen = None if before is None else before.acknowledged
                self._notices[notice.alert_id] = replace(notice, acknowledged=seen)
                self._evidence[notice.alert_id] = Evidence.of(
                    machine.ring.last(_EVIDENCE), names, machine.info.compared
                )

    def _sensor_health(self, machine: _Machine, now: float) -> SensorHealth:
        count, last = machine.ring.count, machine.ring.last(1)
        latency = LatencyHistogram()
        for nanoseconds in (48_000, 52_000, 55_000, 81_000):
            latency.add(nanoseconds)
        return SensorHealth(
            machine.info.name,
            machine.info.artifact,
            machine.info.sha256,
            "int8-float",
            "litert 2.1.3",
            "board",
            Status.OK,
            PipelineCounters(readings=count, scored=count),
            machine.rule.opened,
            int(machine.rule.open is not None),
            last[0].reading.timestamp if last else None,
            now - last[0].reading.timestamp if last else now - self._started,
            last[0].score if last else None,
            _THRESHOLD if last else None,
            not last,
            latency,
        )


class _Machine:
    """What one sensor is on."""

    def __init__(
        self,
        name: str,
        channels: Sequence[tuple[str, str, float, float, float]],
        rate: float,
        begin: float,
        number: int,
    ) -> None:
        names = tuple(channel[0] for channel in channels)
        self.info = SensorInfo(
            name,
            f"{name}.tflite",
            f"{number:064x}",
            tuple(
                Channel(one, unit, middle, swing, None) for one, unit, middle, swing, _ in channels
            ),
            names,
            1 / rate,
        )
        rows = max(2, int(_LOOP_S * rate))
        t = np.arange(rows) / rate
        random = np.random.default_rng(number)
        calm, values = [], []
        for at, (_, _, middle, swing, pace) in enumerate(channels):
            turns = max(1, round(pace * _LOOP_S)) / _LOOP_S  # whole turns, so that the loop closes
            wave = np.sin(2 * np.pi * turns * t + number + at)
            wave += 0.25 * np.sin(2 * np.pi * 3 * turns * t)
            calm.append(middle + swing * wave)
            values.append(calm[-1] + 0.08 * swing * random.normal(size=rows))
            for event, (second, seconds, channel) in enumerate(_EVENTS):
                if at in (channel, (channel + 1 + event) % len(channels)):
                    inside = (t > second) & (t < second + seconds)
                    values[-1][inside] += swing * (1.1 if at == channel else 0.5)
            if at == 0:
                values[-1][int(_SPIKE_S * rate) % rows] += 4 * swing
        self._values, self._calm = np.stack(values, axis=1), np.stack(calm, axis=1)
        self._residuals = self._values - self._calm
        swings = np.array([channel[3] for channel in channels])
        self._weights = (self._residuals / (0.08 * swings)) ** 2
        raw = np.sqrt(self._weights.mean(axis=1))
        fade = min(0.2, 8 / rate)
        smooth, level = np.empty(rows), 1.0
        for row in range(rows):
            level += fade * (raw[row] - level)
            smooth[row] = level
        self._scores = smooth.tolist()
        self._rate, self._begin, self._row = rate, begin, 0
        self.ring = VerdictRing(max(100, int(600 * rate)))
        self.rule = AlertRule(AlertPolicy(k=3, n=4, quiet=max(3, int(rate / 2))))
        self.book = AlertBook("pump-room", name, _summary)

    @property
    def next_time(self) -> float:
        """Of the reading that comes next."""
        return self._begin + self._row / self._rate

    def step(self) -> Verdict:
        """Makes one reading."""
        time, row = self.next_time, self._row % len(self._scores)
        score = self._scores[row]
        exceeded = score > _THRESHOLD
        judgement = Judgement(_THRESHOLD, exceeded, 0.7 * _THRESHOLD)
        change = self.rule.update(time, score, judgement, lambda: self._shares(row))
        verdict = Verdict(
            Reading(time, tuple(self._values[row].tolist()), self._row),
            self._calm[row],
            self._residuals[row],
            score,
            _THRESHOLD,
            exceeded,
            () if change is None else (change,),
        )
        self._row += 1
        self.ring.add(verdict)
        return verdict

    def _shares(self, row: int) -> tuple[ChannelShare, ...]:
        weights = self._weights[row] / self._weights[row].sum()
        return tuple(
            ChannelShare(name, *map(float, figures))
            for name, *figures in zip(
                self.info.compared,
                weights,
                self._residuals[row],
                self._values[row],
                self._calm[row],
                strict=True,
            )
        )


def _summary(change: AlertChange, verdict: Verdict) -> str:
    alert = change.alert
    if change.event is AlertEvent.CLOSED:
        return f"ALERT {alert.number} closed   peak {alert.peak_score or math.nan:.1f}"
    return f"ALERT {alert.number} {change.event.value}   score {verdict.score or math.nan:.1f}"
