"""A service that starts while its disk takes nothing, and gets the file later."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from outbox_notices import life, notice

from edgelstm.outbox import FILE, Outbox, database, schema


class Disk:
    """A disk that is full while `full`."""

    full = False

    def connect(self, path: Path | None) -> object:
        if self.full and path is not None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return schema.connect(path)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(database, "connect", disk.connect)
    monkeypatch.setattr("edgelstm.outbox.writer._RETRY", (0.01, 0.01))
    monkeypatch.setattr("edgelstm.outbox.writer._TICK", 0.01)
    return disk


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A file in which a sink has one of two alerts, and a third one is open."""
    outbox = Outbox(tmp_path / FILE)
    outbox.register(["log", "gone"])
    outbox.submit([*life("a", "fan"), *life("b"), notice("open", 1, sensor="old")])
    assert outbox.flush(10)
    for sequence, one in outbox.pending("log"):
        if one.sensor == "fan":
            outbox.mark("log", sequence, one.sensor)
    assert outbox.flush(10)
    outbox.close()
    return tmp_path / FILE


@pytest.fixture
def late(before: Path, disk: Disk) -> Iterator[Outbox]:
    disk.full = True
    outbox = Outbox(before)
    outbox.register(["log", "new"])
    yield outbox
    outbox.close()


def take(outbox: Outbox, sink: str) -> list[str]:
    taken = []
    for sequence, one in outbox.pending(sink):
        taken.append(one.id if one.sensor else f"{one.alert.reason} {one.event}")
        outbox.mark(sink, sequence, one.sensor)
    return taken


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def opened(outbox: Outbox) -> None:
    until(lambda: not outbox.health().problem)
    assert outbox.flush(20)


def test_it_begins_with_what_was_left(late: Outbox, disk: Disk) -> None:
    assert "disk full" in late.health().problem
    assert late.open_entries("pump") == ()
    assert late.state("pump") is None
    late.submit([notice("c", 1, sensor="fan"), notice("d", 1)])
    until(lambda: late.count("log") == 3)
    assert take(late, "log") == ["disk full opened", "c/1", "d/1"]
    assert late.health().unsaved == 3
    disk.full = False
    opened(late)
    # Of the pump a rest was left: it comes first, and what came meanwhile once more after it.
    assert take(late, "log") == [
        "b/1", "b/2", "b/3", "open/1", "d/1", "open/2", "disk full closed",
    ]  # fmt: skip
    # A new sink has no rest; no pipeline knows the alert that was open.
    assert take(late, "new") == [
        "disk full opened", "c/1", "d/1", "open/2", "disk full closed",
    ]  # fmt: skip
    assert [one.id for one in late.alerts(open_only=True)] == ["d/1", "c/1"]
    late.submit([notice("d", 2, "closed")])
    assert late.flush(20)
    assert take(late, "log") == take(late, "new") == ["d/2"]
    assert late.count("log") == 0


def test_a_mark_from_before_says_nothing_about_the_file(late: Outbox, disk: Disk) -> None:
    late.submit([notice("d", 1)])
    until(lambda: late.count("log") == 2)
    under_way = late.pending("log")
    disk.full = False
    opened(late)
    for sequence, one in under_way:
        late.mark("log", sequence, one.sensor)
    assert [one.id for _, one in late.pending("log")][:3] == ["b/1", "b/2", "b/3"]


def test_a_courier_that_sleeps_is_woken(late: Outbox, disk: Disk) -> None:
    seen = late.wait(-1, 0)
    disk.full = False
    opened(late)
    assert late.wait(seen, 0) < seen
    sleeper = threading.Thread(target=late.wait, args=(seen, 600), daemon=True)
    sleeper.start()
    sleeper.join(20)
    assert not sleeper.is_alive()


def test_it_ends_before_the_disk_is_well(late: Outbox, disk: Disk, before: Path) -> None:
    late.submit([notice("d", 1)])
    late.close()
    disk.full = False
    again = Outbox(before)
    again.register(["log"])
    assert again.flush(20)
    assert take(again, "log") == ["b/1", "b/2", "b/3", "open/1"]
    again.close()
