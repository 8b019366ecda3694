"""`Lane`: a source of readings and the sensors that are watched on it, in a thread of their own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from edgelstm.errors import BackendError, ConfigurationError, EdgelstmError
from edgelstm.health import SourceHealth
from edgelstm.reading import Reading
from edgelstm.service.sensor import WatchedSensor
from edgelstm_bridge.events import Connected, Disconnected, Event, Gap, Silence
from edgelstm_bridge.receiver import SourceCounters
from edgelstm_bridge.source import Source

log = logging.getLogger(__name__)

_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 60.0
_LOCK_S = 0.5  # a delegate that hangs holds the lock for longer
_DRAIN_S = 3.0


class Group(Protocol):
    """Sensors that take the readings of a source together."""

    sensors: tuple[WatchedSensor, ...]

    def connect(self, device: Sequence[str], announced: float | None) -> None:
        """Takes note of what the source has; see `Intake`."""

    def update(self, reading: Reading) -> None:
        """Takes one reading of the device."""

    def flush(self) -> None:
        """Takes what was held back: no more readings come for now."""

    def close(self) -> None:
        """Lets go of the model."""


class Lane:
    """Takes the events of a source, for as long as the service runs.

    Args:
        name: of the source.
        open_source: opens it.
        groups: that take its readings.
        patient: whether a source that cannot be opened, or fails, is tried again for ever; False:
            that ends the lane with the error.
        on_event: told of every event that is no reading.
        on_connected: called when the source is open, before the first reading.
        on_end: called when the lane has ended.
    """

    def __init__(
        self,
        name: str,
        open_source: Callable[[], Source],
        groups: Sequence[Group],
        *,
        patient: bool,
        on_event: Callable[[str, Event], None],
        on_connected: Callable[[Lane], None],
        on_end: Callable[[], None],
    ) -> None:
        self.name = name
        self.source: Source | None = None
        self.groups = tuple(groups)
        self.lock = threading.Lock()
        """Held while a reading is taken: pipelines are for one thread at a time."""
        self.error: Exception | None = None
        """Why the lane has ended; None while it goes on, and when the source had sent all."""
        self._open_source = open_source
        self._patient = patient
        self._on_event, self._on_connected, self._on_end = on_event, on_connected, on_end
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"edgelstm {name}", daemon=True)
        self._log_fields = {"journal": {"EDGELSTM_SOURCE": name}}
        self._problem = ""
        self._connected = False
        self._fitted: Source | None = None  # that the groups of a swap to come were connected to
        self._quiet_since: float | None = time.monotonic()
        self._before = SourceCounters()  # of sources that this one took the place of
        self._working = False
        self._done = 0
        self._seen = -1

    @property
    def sensors(self) -> list[WatchedSensor]:
        """All that are watched on it."""
        return sensors_of(self.groups)

    @property
    def alive(self) -> bool:
        """Whether it still takes readings."""
        return self._thread.is_alive()

    @property
    def counters(self) -> SourceCounters:
        """Of the source, since the start."""
        source = self.source
        return self._before if source is None else self._before + source.counters

    def open(self) -> None:
        """Opens the source now, so that what is wrong with it is known; else the thread does.

        Raises:
            EdgelstmError: it cannot be opened, or does not fit the models.
        """
        source = self._open_source()
        try:
            if not self._stopping.is_set():  # opening may last longer than anybody waits for it
                self._connect(source)
        except BaseException:
            self._close(source)
            raise
        if self._stopping.is_set():
            self._close(source)

    def start(self) -> None:
        """Begins to take events."""
        self._thread.start()

    def has_progressed(self) -> bool:
        """Whether something was taken since the last call, or nothing is to be taken."""
        seen, self._seen = self._seen, self._done
        return not self._working or self._done != seen

    def fits(self, groups: Sequence[Group]) -> None:
        """Makes sure that the source has what other groups need.

        Raises:
            ConfigurationError: it has not.
        """
        source = self._fitted = self.source
        if source is not None:
            _connect(groups, source)

    def swap(self, groups: Sequence[Group]) -> tuple[Group, ...]:
        """Puts other groups in the place of those that there are. The caller holds the lock.

        Args:
            groups: that were tried with `fits`.

        Returns:
            Those that there were; whoever calls closes them.
        """
        if self.source is not self._fitted:  # it was opened since
            with suppress(ConfigurationError):  # which the next reading then tells of
                self.fits(groups)
        before, self.groups = self.groups, tuple(groups)
        return before

    def tick(self) -> None:
        """Lets time go on for the sensors while nothing comes."""
        since = self._quiet_since
        if since is None or not self.lock.acquire(timeout=_LOCK_S):
            return
        try:
            if self._quiet_since is not None:
                for sensor in self.sensors:
                    sensor.silent(time.monotonic() - since)
        finally:
            self.lock.release()

    def save(self) -> None:
        """Saves the states of its sensors."""
        if self.lock.acquire(timeout=_LOCK_S):
            try:
                for sensor in self.sensors:
                    sensor.save()
            finally:
                self.lock.release()

    def health(self) -> SourceHealth:
        """How the source is."""
        source, counters = self.source, self.counters
        return SourceHealth(
            self.name,
            "" if source is None else source.description,
            self._connected,
            counters.readings,
            counters.lost,
            counters.damaged,
            counters.overflow,
            counters.reordered,
            counters.restarts,
            counters.reconnects,
            self._problem,
        )

    def stop(self) -> None:
        """Asks the source to end; what is on its way is still taken. Does not wait."""
        self._stopping.set()
        source = self.source
        if source is not None:
            source.stop()

    def close(self) -> None:
        """Ends it, after a few seconds by force; saves the states. The models stay open."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(_DRAIN_S)
        source = self.source
        if source is not None:
            self._close(source)
            if self._thread.ident is not None:
                self._thread.join(_DRAIN_S)
        self.save()

    def _run(self) -> None:
        delay = _FIRST_DELAY_S
        try:
            while True:
                began = time.monotonic()
                try:
                    if self.source is None:
                        self.open()
                    if self.source is not None:
                        self._follow()
                    break
                except BackendError:
                    raise  # no other source would mend that
                except (EdgelstmError, OSError) as error:
                    if not self._patient:
                        raise
                    self._fail(str(error))
                if time.monotonic() - began > _LONGEST_DELAY_S:
                    delay = _FIRST_DELAY_S
                if self._stopping.wait(delay):
                    break
                delay = min(2 * delay, _LONGEST_DELAY_S)
            if not self._stopping.is_set():
                self._problem = "It has sent everything, and nothing more comes."
                if self._quiet_since is None:
                    self._quiet_since = time.monotonic()
        except Exception as error:  # whatever it is, the service says it
            self.error = error
        finally:
            self._connected = False
            self._working = False
            self._on_end()

    def _connect(self, source: Source) -> None:
        with self.lock:
            _connect(self.groups, source)
            for sensor in self.sensors:
                sensor.pipeline.renumber()
            self.source = source
        self._problem, self._connected = "", True
        for sensor in self.sensors:
            sensor.problem = ""
        self._on_connected(self)

    def _fail(self, why: str) -> None:
        if why != self._problem:
            log.warning("%s: %s", self.name, why, extra=self._log_fields)
        self._problem, self._connected = why, False
        source = self.source
        if source is not None:
            self._before = self._before + source.counters
            self.source = None
            self._close(source)
        if self._quiet_since is None:
            self._quiet_since = time.monotonic()
        with self.lock:
            for group in self.groups:
                group.flush()

    def _close(self, source: Source) -> None:
        """Closes a source; if that fails, as with a capture on a full disk, the rest goes on."""
        try:
            source.close()
        except EdgelstmError as error:
            log.warning("%s: %s", self.name, error, extra=self._log_fields)

    def _follow(self) -> None:
        """Takes events until there are no more."""
        source, lock = self.source, self.lock
        assert source is not None  # noqa: S101 - it was opened before
        for event in source.events():
            self._working = True
            if type(event) is Reading:
                with lock:
                    self._quiet_since = None
                    for group in self.groups:
                        group.update(event)
            elif type(event) is not Gap:  # the pipeline knows what to do, the counters tell
                self._other(event)
            self._done += 1
            self._working = False
        with lock:
            for group in self.groups:
                group.flush()

    def _other(self, event: Event) -> None:
        if isinstance(event, Silence):
            self._quiet_since = time.monotonic() - event.seconds
        elif isinstance(event, Disconnected):
            self._connected, self._problem = False, event.reason
            if self._quiet_since is None:
                self._quiet_since = time.monotonic()
        elif isinstance(event, Connected):
            self._connected, self._problem = True, ""
        self._on_event(self.name, event)


def _connect(groups: Sequence[Group], source: Source) -> None:
    names = [channel.name for channel in source.channels]
    for group in groups:
        group.connect(names, source.sample_period)


def sensors_of(groups: Sequence[Group]) -> list[WatchedSensor]:
    """All sensors of groups, in order."""
    return [sensor for group in groups for sensor in group.sensors]


def one_rate(sensors: Sequence[WatchedSensor]) -> float | None:
    """What the device is to be asked for, in seconds between two readings; None for nothing.

    Raises:
        ConfigurationError: the sensors need several rates.
    """
    periods = {s.manifest.sample_period for s in sensors if s.settings.rate == "set"}
    if len(periods) > 1:
        raise ConfigurationError(
            f"The sensors {', '.join(sensor.name for sensor in sensors)} would each set another "
            "rate on one source: give 'rate = \"resample\"' to all but one of them."
        )
    return periods.pop() if periods else None
