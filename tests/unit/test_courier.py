from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from edgelstm.alert import Alert, AlertKind, Severity
from edgelstm.errors import RefusedNoticeError, SinkError
from edgelstm.health import Health
from edgelstm.notice import Notice
from edgelstm.outbox import Outbox
from edgelstm.sinks import BusySinkError, Sink, SinkContext, SinkOptions
from edgelstm.sinks import courier as courier_module
from edgelstm.sinks.back_off import BackOff
from edgelstm.sinks.courier import Courier

OPTIONS = SinkOptions("memory")
NIGHT, MORNING = 3 * 3600.0, 7 * 3600.0  # 3 and 7 o'clock of the first day, UTC
QUIET = SinkOptions("memory", quiet_hours="22:00-06:00")
HEALTH = Health("here", "1.0", 0.0, 0.0, ())


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def notice(
    number: int,
    event: str = "opened",
    sensor: str = "pump",
    severity: Severity = Severity.WARNING,
) -> Notice:
    alert_id = f"{sensor}-{number}"
    closed = 2000.0 if event == "closed" else None
    kind = AlertKind.ANOMALY if sensor else AlertKind.SERVICE_FAULT
    alert = Alert(number, kind, 1000.0, 9.0, closed=closed, severity=severity)
    return Notice(f"{alert_id}/{event}", alert_id, event, 1000.0, "here", sensor, alert, "text")


critical = partial(notice, severity=Severity.CRITICAL)


@dataclass(frozen=True)
class MemoryConfig:
    """No options."""


@dataclass
class Receiver:
    """What a test does to its sink, and what that got."""

    got: list[str] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    reports: int = 0
    report_error: Exception | None = None
    report_every: float | None = None
    is_open: threading.Event = field(default_factory=threading.Event)
    closed: int = 0
    seconds: float = 0.0
    attempts: int = 0
    sinks: list[Sink] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.is_open.set()

    def make(self) -> Sink:
        sink = MemorySink(self)
        self.sinks.append(sink)
        return sink


class MemorySink(Sink):
    Config = MemoryConfig

    def __init__(self, receiver: Receiver) -> None:
        super().__init__(MemoryConfig(), SinkContext())
        self._receiver = receiver
        self.report_every = receiver.report_every

    def send(self, notice: Notice) -> None:
        self._receiver.attempts += 1
        self._receiver.is_open.wait(30)
        time.sleep(self._receiver.seconds)
        if self._receiver.errors:
            raise self._receiver.errors.pop(0)
        if notice.id in self._receiver.refused:
            raise RefusedNoticeError("It refuses this one.")
        self._receiver.got.append(notice.id)

    def report(self, health: Health) -> None:
        assert health is HEALTH
        self._receiver.reports += 1
        if self._receiver.report_error:
            raise self._receiver.report_error

    def close(self) -> None:
        self._receiver.closed += 1


def soon(what: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


class Rig:
    """An outbox in memory and couriers that try again at once."""

    def __init__(self) -> None:
        self.outbox = Outbox(None)
        self.now = MORNING
        self.couriers: list[Courier] = []
        self.submitted = 0

    def courier(
        self, receiver: Receiver, options: SinkOptions = OPTIONS, longest: float = 0.01
    ) -> Courier:
        self.outbox.register(["sink"])
        made = Courier(
            "sink",
            options,
            receiver.make,
            self.outbox,
            health=lambda: HEALTH,
            clock=lambda: self.now,
            back_off=lambda: BackOff(longest, longest, draw=lambda: 1.0),
        )
        made.start()
        self.couriers.append(made)
        return made

    def submit(self, *notices: Notice) -> None:
        """Brings notices, and waits until couriers can see them."""
        self.outbox.submit(notices)
        self.submitted += len(notices)
        soon(lambda: self.outbox.wait(-1, 0.0) == self.submitted)

    def pending(self) -> list[str]:
        return [notice.id for _, notice in self.outbox.pending("sink")]


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(courier_module, "_POLL_S", 0.02)
    rig = Rig()
    yield rig
    for courier in rig.couriers:
        courier.close(1.0)
    rig.outbox.close()


def test_notices_come_once_and_in_order(rig: Rig) -> None:
    receiver = Receiver()
    courier = rig.courier(receiver)
    sent = [notice(n, event, s) for n in range(40) for s in "ab" for event in ("opened", "closed")]
    for one in sent:
        rig.outbox.submit([one])  # and does not wait
    soon(lambda: len(receiver.got) == len(sent))
    assert receiver.got == [one.id for one in sent]
    soon(lambda: not rig.pending())
    health = courier.health()
    assert (health.name, health.kind, health.sent, health.pending) == ("sink", "memory", 160, 0)
    assert (health.problem, health.failures, health.last_sent) == ("", 0, MORNING)
    assert courier.close(5)
    assert receiver.closed == 1
    assert receiver.got == [one.id for one in sent]


def test_what_fails_is_tried_again_and_logged_once(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    receiver = Receiver(errors=[SinkError("The broker is away."), *map(ValueError, "bcdef")])
    courier = rig.courier(receiver)
    rig.submit(notice(1), notice(2), notice(1, "closed"))
    soon(lambda: len(receiver.got) == 3)
    assert receiver.got == ["pump-1/opened", "pump-2/opened", "pump-1/closed"]
    soon(lambda: courier.health().sent == 3)
    assert courier.health().failures == 6
    assert courier.health().problem == ""
    failed, worked = (record.getMessage() for record in caplog.records)
    assert failed == "Sink sink: The broker is away. It is tried again."
    assert worked.startswith("Sink sink works again after 0 s and 6 failures")


def test_a_failure_is_a_problem_while_it_lasts(rig: Rig) -> None:
    receiver = Receiver(errors=[SinkError("away")] * 3 + [ZeroDivisionError("plug-in")] * 1000)
    courier = rig.courier(receiver)
    rig.submit(notice(1), notice(2))
    soon(lambda: "plug-in" in courier.health().problem)
    assert courier.health().problem == "It failed (ZeroDivisionError: plug-in)."
    assert courier.health().pending == 2
    assert not courier.close(5)
    assert receiver.got == []
    assert rig.pending() == ["pump-1/opened", "pump-2/opened"]


def test_what_is_refused_holds_nothing_up(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    receiver = Receiver(refused={"pump-2/opened"})
    courier = rig.courier(receiver)
    rig.submit(notice(1), notice(2), notice(3))
    soon(lambda: not rig.pending())
    assert receiver.got == ["pump-1/opened", "pump-3/opened"]
    health = courier.health()
    assert (health.sent, health.refused, health.failures, health.problem) == (2, 1, 0, "")
    assert [record.getMessage() for record in caplog.records] == [
        "Sink sink refuses notice pump-2/opened: It refuses this one."
    ]
    assert rig.outbox.flush(5)
    courier.close(5)
    (first,), (second,) = (rig.outbox.deliveries(f"pump-{n}") for n in (1, 2))
    assert (first[1].refused, second[1].refused) == ("", "It refuses this one.")


def test_a_sink_that_cannot_be_made_is_made_later(rig: Rig) -> None:
    receiver = Receiver()
    failures = [OSError("no such library"), RuntimeError("plug-in")]

    def make() -> Sink:
        if failures:
            raise failures.pop()
        return receiver.make()

    rig.outbox.register(["sink"])
    back_off = partial(BackOff, 0.01, 0.01)
    courier = Courier("sink", OPTIONS, make, rig.outbox, back_off=back_off)
    courier.start()
    rig.submit(notice(1))
    soon(lambda: receiver.got == ["pump-1/opened"])
    assert courier.close(5)
    assert len(receiver.sinks) == 1


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (OPTIONS, ["a-1/opened", "b-2/opened", "a-1/escalated", "a-1/closed", "-1/opened"]),
        (
            SinkOptions("x", sensors=("a",)),
            ["a-1/opened", "a-1/escalated", "a-1/closed", "-1/opened"],
        ),
        (SinkOptions("x", events=("opened",)), ["a-1/opened", "b-2/opened", "-1/opened"]),
        (SinkOptions("x", minimum_severity=Severity.CRITICAL), ["a-1/escalated", "a-1/closed"]),
    ],
)
def test_only_what_the_sink_takes_is_sent(rig: Rig, options: SinkOptions, kept: list[str]) -> None:
    receiver = Receiver()
    courier = rig.courier(receiver, options)
    rig.submit(
        notice(1, sensor="a"),
        notice(2, sensor="b"),
        critical(1, "escalated", "a"),
        critical(1, "closed", "a"),
        notice(1, sensor=""),
    )
    soon(lambda: not rig.pending())
    assert receiver.got == kept
    soon(lambda: courier.health().sent == len(kept))


def test_quiet_hours_hold_back_until_the_morning(rig: Rig) -> None:
    receiver = Receiver()
    rig.now = NIGHT
    courier = rig.courier(receiver, QUIET)
    rig.submit(notice(1), notice(1, "closed"), notice(2))
    soon(lambda: courier.health().held == 3)
    assert receiver.got == []
    assert courier.health().pending == 3
    rig.now = MORNING
    soon(lambda: not rig.pending())
    assert receiver.got == ["pump-1/opened", "pump-1/closed", "pump-2/opened"]
    assert courier.health().held == 0
    rig.now = NIGHT + 86_400  # and the next night likewise
    time.sleep(0.05)
    rig.submit(notice(3))
    soon(lambda: courier.health().held == 1)
    assert len(receiver.got) == 3
    rig.now = NIGHT - 4 * 3600  # a clock that is set back to before midnight
    time.sleep(0.05)
    assert len(receiver.got) == 3
    rig.now = NIGHT - 8 * 3600
    soon(lambda: len(receiver.got) == 4)


def test_a_critical_one_comes_at_night_with_what_waits_of_its_sensor(rig: Rig) -> None:
    receiver = Receiver()
    rig.now = NIGHT
    courier = rig.courier(receiver, QUIET)
    rig.submit(notice(1, sensor="a"), notice(1, sensor="b"), notice(2, sensor="a"))
    soon(lambda: courier.health().held == 3)
    rig.submit(critical(1, "escalated", "b"), notice(3, sensor="b"))
    soon(lambda: len(receiver.got) == 2)
    assert receiver.got == ["b-1/opened", "b-1/escalated"]
    soon(lambda: courier.health().held == 3)
    assert rig.pending() == ["a-1/opened", "a-2/opened", "b-3/opened"]
    rig.now = MORNING
    soon(lambda: len(receiver.got) == 5)
    assert receiver.got[2:] == ["a-1/opened", "a-2/opened", "b-3/opened"]


def test_a_critical_one_is_found_behind_very_many_that_wait(rig: Rig) -> None:
    receiver = Receiver()
    rig.now = NIGHT
    many = [notice(number) for number in range(300)]
    rig.outbox.register(["sink"])
    rig.submit(*many, critical(300))
    rig.courier(receiver, QUIET)
    soon(lambda: len(receiver.got) == 301)


def test_what_is_not_taken_does_not_wait_at_night(rig: Rig) -> None:
    receiver = Receiver()
    rig.now = NIGHT
    rig.courier(receiver, replace(QUIET, events=("opened",)))
    rig.submit(notice(1, "closed"), notice(2), notice(2, "closed"))
    soon(lambda: rig.pending() == ["pump-2/opened", "pump-2/closed"])
    assert receiver.got == []


def test_a_sink_that_hangs_is_told_and_left_behind(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "_HANGS_S", 0.0)
    receiver = Receiver()
    receiver.is_open.clear()
    courier = rig.courier(receiver)
    rig.submit(notice(1))
    soon(lambda: receiver.attempts == 1)
    time.sleep(0.01)
    assert courier.health().problem == "It has not answered for 0 s."
    assert courier.health().pending == 1
    began = time.monotonic()
    assert not courier.close(0.05)
    assert time.monotonic() - began < 5  # it hangs for 30 s
    receiver.is_open.set()
    courier.close(5)
    assert receiver.got == ["pump-1/opened"]
    assert not rig.pending()


def test_closing_sends_what_is_due_and_leaves_what_is_held(rig: Rig) -> None:
    receiver = Receiver()
    rig.now = NIGHT
    courier = rig.courier(receiver, QUIET)
    rig.submit(notice(1, sensor="a"), critical(1, sensor="b"))
    assert courier.close(5)
    assert receiver.got == ["b-1/opened"]
    assert rig.pending() == ["a-1/opened"]


def test_closing_tries_once_more_what_failed(rig: Rig) -> None:
    receiver = Receiver(errors=[SinkError("away")])
    courier = rig.courier(receiver, longest=1000.0)
    rig.submit(notice(1))
    soon(lambda: courier.health().problem == "away")
    time.sleep(0.05)
    assert receiver.attempts == 1  # it waits
    assert courier.close(5)
    assert receiver.got == ["pump-1/opened"]


def test_closing_takes_no_longer_than_it_may(rig: Rig) -> None:
    receiver = Receiver(errors=[SinkError("away")])
    courier = rig.courier(receiver, longest=1000.0)
    rig.submit(*(notice(number) for number in range(500)))
    soon(lambda: courier.health().problem == "away")
    assert not courier.close(0.0)
    assert len(receiver.got) < 500
    assert Courier("other", OPTIONS, receiver.make, rig.outbox).close(0.0) is False


def test_closing_stops_in_the_middle_of_what_is_due(rig: Rig) -> None:
    receiver = Receiver(seconds=0.01)
    courier = rig.courier(receiver)
    rig.submit(*(notice(number) for number in range(90)))
    soon(lambda: receiver.got)
    assert not courier.close(0.05)
    soon(lambda: receiver.closed)
    assert len(receiver.got) < 60
    assert rig.pending()[0] == f"pump-{len(receiver.got)}/opened"


def test_one_that_hangs_takes_no_time_from_the_others(rig: Rig) -> None:
    hanging, other = Receiver(), Receiver()
    hanging.is_open.clear()
    rig.outbox.register(["hanging", "other"])
    couriers = [
        Courier("hanging", OPTIONS, hanging.make, rig.outbox),
        Courier("other", OPTIONS, other.make, rig.outbox),
    ]
    rig.submit(*(notice(number) for number in range(300)))
    for courier in couriers:
        courier.start()
    for courier in couriers:
        courier.end(5.0)
    assert [couriers[0].close(0.1), couriers[1].close(5.0)] == [False, True]
    assert len(other.got) == 300
    hanging.is_open.set()
    couriers[0].close(5)


def test_the_next_courier_goes_on_where_the_last_one_was(rig: Rig) -> None:
    first, second = Receiver(), Receiver()
    rig.courier(first).close(5)
    rig.submit(notice(1), notice(2))
    rig.courier(second)
    soon(lambda: len(second.got) == 2)
    rig.couriers.pop().close(5)
    third = Receiver()
    rig.courier(third)
    rig.submit(notice(3))
    soon(lambda: third.got == ["pump-3/opened"])
    assert first.got == []


def test_reports_are_made_while_nothing_is_to_be_sent(rig: Rig) -> None:
    receiver = Receiver(report_every=0.01)
    rig.courier(receiver)
    soon(lambda: receiver.reports >= 3)
    silent = Receiver()
    rig.couriers[0].close(5)
    rig.courier(silent)
    rig.submit(notice(1))
    soon(lambda: silent.got)
    assert silent.reports == 0


def test_a_report_that_fails_holds_no_alert_up(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    receiver = Receiver(report_every=0.01, report_error=KeyError("plug-in"))
    courier = rig.courier(receiver, longest=0.02)
    soon(lambda: receiver.reports >= 3)
    rig.submit(notice(1))
    soon(lambda: receiver.got == ["pump-1/opened"])
    assert "KeyError" in courier.health().problem
    assert len(caplog.records) == 1
    receiver.report_error = None
    soon(lambda: courier.health().problem == "")


def test_a_report_that_works_brings_forward_what_waits(rig: Rig) -> None:
    receiver = Receiver(report_every=0.05, errors=[SinkError("away")])
    rig.courier(receiver, longest=1000.0)
    rig.submit(notice(1))
    soon(lambda: receiver.got == ["pump-1/opened"])


def test_a_receiver_may_ask_to_wait_longer(rig: Rig) -> None:
    receiver = Receiver(errors=[BusySinkError("busy", 0.15)])
    rig.courier(receiver)
    began = time.monotonic()
    rig.submit(notice(1))
    soon(lambda: receiver.got)
    assert time.monotonic() - began >= 0.15


def test_standing_alerts_are_those_that_are_open_and_were_told(rig: Rig) -> None:
    receiver = Receiver()
    rig.now = NIGHT
    rig.courier(receiver, replace(QUIET, sensors=("a", "b")))
    rig.submit(critical(1, sensor="a"), critical(1, sensor="b"), critical(1, sensor="c"))
    rig.submit(critical(1, "closed", "b"), notice(2, sensor="a"))
    soon(lambda: receiver.got == ["a-1/opened", "b-1/opened", "b-1/closed"])
    (sink,) = receiver.sinks
    assert [one.id for one in sink.standing()] == ["a-1/opened"]  # of a-2 nobody knows yet
    rig.submit(critical(1, "escalated", "a"))
    soon(lambda: len(receiver.got) == 5)
    assert [one.id for one in sink.standing()] == ["a-2/opened", "a-1/escalated"]


def test_a_courier_outlives_a_failing_outbox(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver()
    failures = [OSError("disk"), OSError("disk")]
    pending = rig.outbox.pending

    def failing(sink: str, limit: int = 100) -> list[tuple[int, Notice]]:
        if failures:
            raise failures.pop()
        return pending(sink, limit)

    monkeypatch.setattr(rig.outbox, "pending", failing)
    rig.courier(receiver)
    rig.submit(notice(1))
    soon(lambda: receiver.got == ["pump-1/opened"])


def test_the_wait_doubles_up_to_a_bound_and_is_drawn_by_chance() -> None:
    highest, half = BackOff(draw=lambda: 1.0), BackOff(draw=lambda: 0.5)
    waits = []
    for _ in range(12):
        highest.failed(100.0)
        waits.append(highest.due - 100)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    half.failed(0.0)
    half.failed(0.0)
    assert half.due == 1.0
    half.failed(0.0, at_least=60)
    assert half.due == 60
    half.failed(0.0, at_least=1e9)
    assert half.due == 3600
    half.worked()
    assert (half.failures, half.due) == (0, float("-inf"))
    for _ in range(5000):  # months of an outage
        highest.failed(0.0)
    assert highest.due == 300
