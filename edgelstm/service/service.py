"""`Service`: watches every sensor of a configuration until it is told to stop."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import edgelstm
from edgelstm.configuration import RunSettings, SinkSettings, read_settings
from edgelstm.configuration.changes import Changes, changed
from edgelstm.errors import ConfigurationError, EdgelstmError
from edgelstm.evidence import Evidence
from edgelstm.feed import SensorInfo
from edgelstm.health import Health
from edgelstm.notice import Notice
from edgelstm.outbox import FILE, Outbox
from edgelstm.service.building import Crew, build_crew, restore
from edgelstm.service.handover import adopt, hand_over, kept_lanes
from edgelstm.service.health_file import HealthFile
from edgelstm.service.hooks import ExtraSink, Hooks, Page
from edgelstm.service.lane import Group, Lane, one_rate, sensors_of
from edgelstm.sinks import Sink, SinkContext
from edgelstm.sinks.courier import Courier
from edgelstm.sinks.registry import find_sink
from edgelstm.systemd import Notifier
from edgelstm.verdict_ring import VerdictRing
from edgelstm_bridge.source import Source
from edgelstm_bridge.sources import open_source

log = logging.getLogger(__name__)

_TICK_S = 0.5
_STATUS_S = 10.0
_FLUSH_S = 5.0
_DRAIN_S = 5.0
_LOCK_S = 0.2
_AT_ONCE = ("save_every", "public_keys")  # what a reload can change beside the tables


@dataclass(frozen=True)
class _Message:
    """What is said to the service's loop: "stop", "reload", "reloaded" or "ended"."""

    what: str
    settings: RunSettings | None = None
    crew: Crew | None = None


class Service:
    """Watches every sensor of a configuration; a `Feed` for those who look on.

    ```
    service = Service(read_settings(Path("pump.toml")))
    service.run()  # until stop() is called, from a signal's handler or another thread
    ```

    Args:
        settings: the configuration.
        patient: whether a source that cannot be opened is tried again for ever; False: that ends
            it with the error, as for a device that a person has just plugged in.
        reconnect: whether a lost link is opened again.
        extra_sinks: beside those of the configuration.
        hooks: who is told what.
        notifier: of the service manager.
        health_file: where it keeps written down how it is; None for nowhere.

    Raises:
        EdgelstmError: an artifact, the outbox or a setting is not what it should be.
    """

    def __init__(
        self,
        settings: RunSettings,
        *,
        patient: bool = True,
        reconnect: bool = True,
        extra_sinks: Sequence[ExtraSink] = (),
        hooks: Hooks | None = None,
        notifier: Notifier | None = None,
        health_file: Path | None = None,
    ) -> None:
        self.settings = settings
        self._patient, self._reconnect = patient, reconnect
        self._extra_sinks = tuple(extra_sinks)
        self._hooks = hooks or Hooks()
        self._notifier = notifier or Notifier({})
        self._health_file = HealthFile(health_file, self.health) if health_file else None
        # A simple queue, because a signal's handler may put into it at any moment.
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._started = time.time()
        self._reloads = 0
        self._reloading = self._reload_again = self._closed = False
        self._problem = ""
        self._couriers: dict[str, Courier] = {}
        self._pages: list[Page] = []
        self.lanes: dict[str, Lane] = {}
        """By the name of the source."""
        self.outbox = _open_outbox(settings)
        try:
            self._crew = build_crew(settings, self.outbox)
        except BaseException:
            self.outbox.close()
            raise
        for sensor in self._crew.sensors.values():
            restore(sensor, self.outbox.state(sensor.name))
        self.outbox.close_orphans(self._crew.sensors)

    def run(self) -> None:
        """Starts, and runs until it is stopped or every source has ended; then saves everything.

        Raises:
            EdgelstmError: why it cannot go on.
        """
        with self:
            self.wait()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Opens the sources and begins to watch.

        Raises:
            EdgelstmError: a source cannot be opened, and it is not patient; or a port for others
                to look on is taken.
        """
        self._open_pages()
        for name, groups in self._crew.groups.items():
            self.lanes[name] = self._make_lane(name, groups)
        if not self._patient:
            for lane in self.lanes.values():
                lane.open()
        self._start_couriers()
        for lane in self.lanes.values():
            lane.start()
        if self._health_file is not None:
            self._health_file.start()
        self._notifier.ready(self._status())

    def stop(self) -> None:
        """Asks it to end. May be called from any thread, and from a signal's handler."""
        self._inbox.put(_Message("stop"))

    def reload(self) -> None:
        """Asks it to read its configuration and artifacts anew; no reading is lost by that.

        May be called from any thread, and from a signal's handler.
        """
        self._inbox.put(_Message("reload"))

    def wait(self) -> None:
        """Looks after everything until it is stopped, or every source has ended.

        Raises:
            EdgelstmError: why it cannot go on.
        """
        saved = watched = told = time.monotonic()
        watchdog_s = self._notifier.watchdog_seconds
        while self._take_messages():
            lanes = list(self.lanes.values())
            for lane in lanes:
                if lane.error is not None:
                    raise lane.error
                lane.tick()
            if not self._reloading and not any(lane.alive for lane in lanes):
                return
            now = time.monotonic()
            if now - saved >= self.settings.save_every:
                saved = now
                for lane in lanes:
                    lane.save()
            if watchdog_s is not None and now - watched >= watchdog_s / 3:
                watched = now
                # Each is asked, so that each remembers.
                if sum(lane.has_progressed() for lane in lanes) == len(lanes):
                    self._notifier.watchdog()
            if now - told >= _STATUS_S:
                told = now
                self._notifier.status(self._status())
            self._hooks.tick()

    def close(self) -> None:
        """Takes what is on its way, saves everything and lets go; may be called twice."""
        if self._closed:
            return
        self._closed = True
        self._notifier.stopping()
        if self._health_file is not None:
            self._health_file.close()
        for lane in self.lanes.values():
            lane.stop()
        for lane in self.lanes.values():
            lane.close()
        self.outbox.flush(_FLUSH_S)
        _end(list(self._couriers.values()))
        if any(lane.source is not None for lane in self.lanes.values()):
            self._hooks.ended()
        for page in self._pages:
            page.close()
        self._crew.close()
        self.outbox.close()

    # What others see: `Feed`.

    def health(self) -> Health:
        """See `Feed.health`."""
        settings, lanes = self.settings, list(self.lanes.values())
        sensors = {}
        for lane in lanes:
            locked = lane.lock.acquire(timeout=_LOCK_S)  # a step that hangs is told of as well
            try:
                sensors.update({s.name: s.health(lane.name) for s in lane.sensors})
            finally:
                if locked:
                    lane.lock.release()
        return Health(
            settings.name,
            edgelstm.__version__,
            self._started,
            time.time(),
            tuple(sensors[name] for name in settings.sensors if name in sensors),
            tuple(lane.health() for lane in lanes),
            tuple(courier.health() for courier in list(self._couriers.values())),
            self.outbox.health(),
            self._reloads,
            self._problem,
        )

    def sensors(self) -> tuple[SensorInfo, ...]:
        """See `Feed.sensors`."""
        return tuple(sensor.info for sensor in self._crew.sensors.values())

    def ring(self, sensor: str) -> VerdictRing:
        """See `Feed.ring`."""
        return self._crew.sensors[sensor].ring

    def alerts(self, limit: int = 100) -> Sequence[Notice]:
        """See `Feed.alerts`."""
        return self.outbox.alerts(limit)

    def evidence(self, alert_id: str) -> Evidence | None:
        """See `Feed.evidence`."""
        return self.outbox.evidence(alert_id)

    def acknowledge(self, alert_id: str, by: str, note: str = "") -> None:
        """See `Feed.acknowledge`."""
        self.outbox.acknowledge(alert_id, by, note)

    @property
    def pages(self) -> Sequence[Page]:
        """What serves its state to others."""
        return tuple(self._pages)

    # Inside.

    def _take_messages(self) -> bool:
        """Waits for a message, for half a second at most; whether it is to go on."""
        try:
            message = self._inbox.get(timeout=_TICK_S)
        except queue.Empty:
            return True
        if message.what == "reload" and self._reloading:
            self._reload_again = True  # the file may have changed since it was read
        elif message.what == "reload":
            self._begin_reload()
        elif message.what == "reloaded":
            self._reloading = False
            if message.crew is not None and message.settings is not None:
                self._change_over(message.settings, message.crew)
            self._notifier.ready(self._status())
            if self._reload_again:
                self._reload_again = False
                self._begin_reload()
        return message.what != "stop"

    def _status(self) -> str:
        health = self.health()
        number = len(health.sensors)
        open_alerts = sum(sensor.open_alerts for sensor in health.sensors)
        text = f"{number} sensor{'' if number == 1 else 's'}, {health.status.value}"
        if open_alerts:
            text += f", {open_alerts} alert{'' if open_alerts == 1 else 's'} open"
        problems = health.problems
        return f"{text}: {problems[0]}" if problems else text

    def _make_lane(self, name: str, groups: Sequence[Group]) -> Lane:
        source = self.settings.sources[name]
        period = one_rate(sensors_of(groups))

        captures = [source.raw]  # once: to open a source again must not replace what was captured

        def opened() -> Source:
            return open_source(
                source.url(),
                baud_rate=source.baud_rate,
                format=source.format,
                sample_period=period,
                reconnect=self._reconnect,
                capture=captures.pop() if captures else None,
                connect_timeout=source.timeout,
            )

        return Lane(
            name,
            opened,
            groups,
            patient=self._patient,
            on_event=self._hooks.event,
            on_connected=self._hooks.connected,
            on_end=lambda: self._inbox.put(_Message("ended")),
        )

    def _context(self) -> SinkContext:
        settings = self.settings
        directory = Path() if settings.path is None else settings.path.parent
        return SinkContext(
            settings.name, edgelstm.__version__, self.sensors, self.outbox.evidence, directory
        )

    def _start_couriers(self) -> None:
        """Starts those that there are not yet."""
        context = self._context()
        made = {extra.name: (extra.options, _extra(extra, context)) for extra in self._extra_sinks}
        for name, sink in self.settings.sinks.items():
            made[name] = sink.options, configured_sink(sink, context)
        self.outbox.register(made.keys())
        for name, (options, make) in made.items():
            if name not in self._couriers:
                courier = Courier(name, options, make, self.outbox, health=self.health)
                self._couriers[name] = courier
                courier.start()

    def _open_pages(self) -> None:
        settings = self.settings
        if settings.metrics is not None:
            from edgelstm.metrics import MetricsServer

            self._add_page(MetricsServer(settings.metrics, self.health))
        if settings.dashboard is not None:
            from edgelstm.dashboard import Dashboard

            self._add_page(Dashboard(settings.dashboard, self))

    def _add_page(self, page: Page) -> None:
        page.start()
        self._pages.append(page)

    def _begin_reload(self) -> None:
        path = self.settings.path
        if path is None:
            log.warning("There is no configuration file to read anew.")
            return
        self._reloading = True
        self._notifier.reloading()
        log.info("Reading %s anew.", path)
        threading.Thread(target=self._load, args=(path,), name="edgelstm reload").start()

    def _load(self, path: Path) -> None:
        """Loads what is new, in a thread: readings go on meanwhile."""
        message = _Message("reloaded")
        try:
            settings = read_settings(path)
            kept = replace(settings, name=self.settings.name)  # until the next start
            message = _Message("reloaded", settings, build_crew(kept, self.outbox))
        except EdgelstmError as error:
            self._refuse_reload(str(error))
        except Exception as error:  # a bug, which must not end what runs well
            log.exception("Reading the configuration anew failed.")
            self._refuse_reload(repr(error))
        self._inbox.put(message)

    def _refuse_reload(self, why: str) -> None:
        self._problem = f"The configuration was not read anew: {why}"
        log.error("%s", self._problem)

    def _change_over(self, settings: RunSettings, crew: Crew) -> None:
        """Puts what is new in the place of what there was."""
        before, old = self.settings, self._crew
        changes = changed(before, settings)
        try:
            kept = kept_lanes(self.lanes, crew, changes.sources.all)
        except ConfigurationError as error:
            crew.close()
            self._refuse_reload(str(error))
            return
        retired: list[Group] = []
        gone = [self.lanes.pop(name) for name in list(self.lanes) if name not in kept]
        for lane in gone:
            lane.stop()
        for lane in gone:
            lane.close()  # before another takes its port
            retired += lane.groups
        retired += hand_over(kept, crew, old)
        # What needs a new start keeps what it was started with.
        later = {name: getattr(before, name) for name in changes.rest if name not in _AT_ONCE}
        self.settings = replace(settings, **later)
        self._crew = crew
        for name, groups in crew.groups.items():
            if name not in self.lanes:
                adopt(groups, old)
                lane = self.lanes[name] = self._make_lane(name, groups)
                lane.start()
        for group in retired:
            group.close()
        self.outbox.close_orphans(crew.sensors)
        self._change_sinks(changes)
        self._reloads += 1
        self._problem = ""
        if later:
            log.warning("Changed, which takes effect at the next start: %s.", ", ".join(later))
        log.info("Read anew: %d sensors, %d sinks.", len(settings.sensors), len(settings.sinks))

    def _change_sinks(self, changes: Changes) -> None:
        ended = changes.sinks.removed | changes.sinks.changed
        _end([self._couriers.pop(name) for name in ended if name in self._couriers])
        self._start_couriers()


def _end(couriers: Sequence[Courier]) -> None:
    """Ends them together: one whose sink hangs must not take the time of the others."""
    end = time.monotonic() + _DRAIN_S
    for courier in couriers:
        courier.end(_DRAIN_S)
    for courier in couriers:
        courier.close(max(0.0, end - time.monotonic()))


def _open_outbox(settings: RunSettings) -> Outbox:
    directory, bounds = settings.state_directory, settings.outbox
    if directory is not None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"The state directory {directory} cannot be made: {error.strerror}; choose another "
                "with 'state_directory', or make it."
            ) from error
    return Outbox(
        None if directory is None else directory / FILE,
        max_bytes=int(bounds.max_megabytes * 1e6),
        max_age=bounds.max_days * 86_400,
        gateway=settings.name,
    )


def configured_sink(sink: SinkSettings, context: SinkContext) -> Callable[[], Sink]:
    """What makes a sink of the configuration; it knows only of the sensors that it takes."""
    named = sink.options.sensors

    def sensors() -> tuple[SensorInfo, ...]:
        # A sink that never hears of a sensor's alerts must not say that none is open.
        return tuple(info for info in context.sensors() if not named or info.name in named)

    return lambda: find_sink(sink.options.type)(sink.config, replace(context, sensors=sensors))


def _extra(sink: ExtraSink, context: SinkContext) -> Callable[[], Sink]:
    return lambda: sink.make(context)
