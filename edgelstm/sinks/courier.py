"""`Courier`: takes notices from the outbox to one sink, in a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Protocol

from edgelstm.alert import AlertEvent, Severity
from edgelstm.errors import EdgelstmError, RefusedNoticeError
from edgelstm.health import Health, SinkHealth
from edgelstm.notice import Notice
from edgelstm.sinks import BusySinkError, Sink, SinkOptions
from edgelstm.sinks.back_off import BackOff
from edgelstm.sinks.quiet import QuietHours

log = logging.getLogger(__name__)

_BATCH = 100
_POLL_S = 0.5  # how soon a courier that sleeps sees that it is to end, or the end of quiet hours
_HANGS_S = 30.0  # longer than any of our own sinks waits for its receiver
_MOST_STANDING = 1000


class Queue(Protocol):
    """What a courier needs of the outbox; see there."""

    def pending(
        self, sink: str, limit: int = 100, *, skip_sensors: Collection[str] = ()
    ) -> list[tuple[int, Notice]]:
        """What the sink has not got, as (sequence, notice), in order."""

    def count(self, sink: str) -> int:
        """How many notices that are."""

    def mark(self, sink: str, sequence: int, sensor: str, *, refused: str = "") -> None:
        """This one is done."""

    def wait(self, seen: int, timeout: float) -> int:
        """Waits until there is something newer; gives the newest sequence."""

    def alerts(self, limit: int = 100, *, open_only: bool = False) -> list[Notice]:
        """The last notice of each alert."""


class Courier:
    """Takes notices from the outbox to one sink: each at least once, and in order per sensor.

    A sink that fails or hangs stops this thread and nothing else. What fails is tried again, after
    1 s at first and after 5 min at most; what the receiver refuses is marked and left behind.

    Args:
        name: of the sink.
        options: which notices it takes, and when.
        make: makes the sink; it is called in the courier's thread.
        queue: the outbox.
        health: how the service is, for sinks that report it.
        clock: the time, seconds since the Unix epoch; quiet hours go by it.
        back_off: makes what says when to try again.
    """

    def __init__(
        self,
        name: str,
        options: SinkOptions,
        make: Callable[[], Sink],
        queue: Queue,
        *,
        health: Callable[[], Health] | None = None,
        clock: Callable[[], float] = time.time,
        back_off: Callable[[], BackOff] = BackOff,
    ) -> None:
        self.name = name
        self._options = options
        self._make = make
        self._queue = queue
        self._service_health = health
        self._clock = clock
        self._quiet = QuietHours.parse(options.quiet_hours)
        self._sending, self._reporting = _Attempts(name, back_off()), _Attempts(name, back_off())
        self._sink: Sink | None = None
        self._end = threading.Event()
        self._deadline = float("inf")
        self._busy_since: float | None = None
        self._next_report = float("-inf")
        self._looked = -1
        self._look_again = float("-inf")
        self._health = SinkHealth(name, options.type)
        self._drained = False
        self._thread = threading.Thread(target=self._run, name=f"sink {name}", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def health(self) -> SinkHealth:
        """How the sink is; from any thread."""
        health = self._health
        problem = self._sending.problem or self._reporting.problem
        since = self._busy_since
        if since is not None and (seconds := time.monotonic() - since) > _HANGS_S:
            problem = f"It has not answered for {seconds:.0f} s."
        pending = 0
        with contextlib.suppress(EdgelstmError):  # it is known no more: it is being closed
            pending = self._queue.count(self.name)
        return replace(health, pending=pending, problem=problem)

    def end(self, timeout: float) -> None:
        """Says that it is to end, and does not wait: so several end at the same time.

        What is due is sent first; what failed before is tried once more, not more often.

        Args:
            timeout: seconds after which it sends no more.
        """
        self._deadline = time.monotonic() + timeout
        self._end.set()

    def close(self, timeout: float) -> bool:
        """Sends what is due and ends, within a time; a sink that hangs is left behind.

        Args:
            timeout: seconds; after `end` those to wait.

        Returns:
            Whether nothing is left but what quiet hours hold back.
        """
        if not self._end.is_set():
            self.end(timeout)
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return self._drained and not self._thread.is_alive()

    def _run(self) -> None:
        seen = -1
        while not self._end.is_set():
            seen = self._work(seen)
        self._sending.back_off.try_now()
        self._look_again, self._looked = float("-inf"), -1
        self._work(seen, ending=True)
        if self._sink is not None:
            try:
                self._sink.close()
            except Exception as error:
                log.warning("Sink %s: %s", self.name, sentence(error))

    def _work(self, seen: int, *, ending: bool = False) -> int:
        """Does what is due, and sleeps until there may be more."""
        try:
            newest = self._queue.wait(seen, 0.0)
            if time.monotonic() >= self._sending.back_off.due:
                self._drained = self._deliver(newest)
            if ending:
                return newest
            self._report()
            now = time.monotonic()
            if now < self._sending.back_off.due:
                self._end.wait(min(_POLL_S, self._sending.back_off.due - now))
                return newest
            return self._queue.wait(newest, min(_POLL_S, max(self._report_in(now), 0.0)))
        except Exception as error:  # of the outbox: this thread must not die of it
            self._sending.failed(error)
            self._end.wait(_POLL_S)
            return seen

    def _open(self) -> Sink:
        if self._sink is None:
            sink = self._make()
            sink.standing = self._standing
            self._sink = sink
        return self._sink

    def _deliver(self, newest: int) -> bool:
        """Sends all that is due; whether there is nothing left of that."""
        quiet = self._quiet is not None and self._quiet.hold(self._clock())
        now = time.monotonic()
        if quiet and (newest == self._looked or now < self._look_again):
            return True  # nothing has come that could be due
        limit = _BATCH
        while time.monotonic() < self._deadline:
            batch = self._queue.pending(self.name, limit)
            due = self._due(batch) if quiet else batch
            for sequence, notice in due:
                if time.monotonic() >= self._deadline or not self._pass_on(sequence, notice):
                    return False
            if due:
                continue
            if len(batch) < limit:
                self._health = replace(self._health, held=len(batch))
                self._looked = newest if quiet else -1
                # What is held back is read again and again: it must not eat up the processor.
                self._look_again = time.monotonic() + 10.0 * (time.monotonic() - now)
                return True
            limit *= 10
        return False

    def _due(self, batch: list[tuple[int, Notice]]) -> list[tuple[int, Notice]]:
        """Of each sensor what comes up to its last critical notice, and all that is not taken."""
        last: dict[str, int] = {}
        held: set[str] = set()
        for sequence, notice in batch:
            if self._options.takes(notice):
                goes = notice.alert.severity is Severity.CRITICAL
            else:
                goes = notice.sensor not in held
            if goes:
                last[notice.sensor] = sequence
            else:
                held.add(notice.sensor)
        return [(k, notice) for k, notice in batch if k <= last.get(notice.sensor, -1)]

    def _pass_on(self, sequence: int, notice: Notice) -> bool:
        """Sends a notice if the sink takes it; whether it is done with."""
        refused, sent = "", False
        if self._options.takes(notice):
            try:
                self._call(lambda sink: sink.send(notice))
                sent = True
            except RefusedNoticeError as error:
                refused = sentence(error)
                log.warning("Sink %s refuses notice %s: %s", self.name, notice.id, refused)
            except Exception as error:
                self._sending.failed(error)
                self._health = replace(self._health, failures=self._health.failures + 1)
                return False
            self._sending.worked()
            self._reporting.back_off.try_now()
        self._queue.mark(self.name, sequence, notice.sensor, refused=refused)
        health = self._health
        if sent:
            self._health = replace(health, sent=health.sent + 1, last_sent=self._clock())
        elif refused:
            self._health = replace(health, refused=health.refused + 1)
        return True

    def _report(self) -> None:
        now = time.monotonic()
        if self._service_health is None or self._report_in(now) > 0:
            return
        health = self._service_health
        try:
            self._call(lambda sink: sink.report(health()) if sink.report_every else None)
        except Exception as error:
            self._reporting.failed(error)
            return
        # Before the first call nobody knows whether the sink reports at all.
        every = None if self._sink is None else self._sink.report_every
        self._next_report = now + every if every else float("inf")
        self._reporting.worked()
        if every:
            self._sending.back_off.try_now()

    def _report_in(self, now: float) -> float:
        """Seconds until the next report."""
        if self._service_health is None:
            return float("inf")
        return max(self._next_report, self._reporting.back_off.due) - now

    def _call(self, use: Callable[[Sink], None]) -> None:
        """Lets the sink work; meanwhile `health` sees since when."""
        self._busy_since = time.monotonic()
        try:
            use(self._open())
        finally:
            self._busy_since = None

    def _standing(self) -> tuple[Notice, ...]:
        """The last notice of each open alert whose opening was sent, or passed before a restart."""
        count = self._queue.count(self.name)
        waiting = {
            notice.alert_id
            for _, notice in self._queue.pending(self.name, max(count, 1))
            if notice.event == AlertEvent.OPENED.value
        }
        return tuple(
            notice
            for notice in self._queue.alerts(_MOST_STANDING, open_only=True)
            if notice.alert_id not in waiting and self._options.concerns(notice)
        )


class _Attempts:
    """What fails again and again is logged once, and so is its end."""

    def __init__(self, name: str, back_off: BackOff) -> None:
        self._name = name
        self.back_off = back_off
        self._error = ""
        self._since = 0.0

    @property
    def problem(self) -> str:
        """What is wrong, as a sentence; "" while it works."""
        return self._error

    def failed(self, error: Exception) -> None:
        first = not self._error
        now = time.monotonic()
        self._error = sentence(error)
        asked = error.retry_after if isinstance(error, BusySinkError) else 0.0
        self.back_off.failed(now, asked)
        if first:
            self._since = now
            log.warning("Sink %s: %s It is tried again.", self._name, self._error)

    def worked(self) -> None:
        if self._error:
            log.info(
                "Sink %s works again after %.0f s and %d failures.",
                self._name,
                time.monotonic() - self._since,
                self.back_off.failures,
            )
        self._error = ""
        self.back_off.worked()


def sentence(error: Exception) -> str:
    """What went wrong, for people: of our own errors their text, of others their kind as well."""
    if isinstance(error, EdgelstmError):
        return str(error)
    return f"It failed ({type(error).__name__}: {error})."
