"""The disk takes nothing, or does not answer. `tests/system` has a disk that really is full."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from outbox_notices import evidence, life, notice

from edgelstm.outbox import FILE, Archive, Delivery, Outbox, memory


class Clock:
    """Seconds that go on only when told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outbox]:
    monkeypatch.setattr("edgelstm.outbox.writer._TICK", 0.01)
    outbox = Outbox(tmp_path / FILE, gateway="gate", monotonic=clock)
    outbox.register(["log"])
    assert outbox.flush(10)
    yield outbox
    outbox.close()


def fill(outbox: Outbox) -> None:
    """From now on the file may not grow: SQLite says that the disk is full."""
    with outbox._database.tidying() as connection:
        connection.execute("PRAGMA max_page_count = 1")


def make_room(outbox: Outbox, clock: Clock) -> None:
    with outbox._database.tidying() as connection:
        connection.execute("PRAGMA max_page_count = 100000")
    clock.now += 60


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def got(outbox: Outbox) -> list[str]:
    """Takes all that there is now."""
    taken = []
    for sequence, one in outbox.pending("log", 10_000):
        taken.append(one.id if one.sensor else f"{one.alert.reason} {one.event}")
        outbox.mark("log", sequence, one.sensor)
    return taken


def test_a_full_disk(outbox: Outbox, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    fill(outbox)
    sent: list[str] = []
    for name in range(50):
        outbox.submit(life(f"a{name}"), evidence={f"a{name}": evidence(300, name)})
        until(lambda: outbox.count("log") > 0)
        sent += got(outbox)
    until(lambda: outbox.health().problem != "")
    sent += got(outbox)
    outbox.submit([notice("a49", 3, "closed")])  # once more
    assert got(outbox) == []
    assert sent.count("disk full opened") == 1
    assert [one for one in sent if one.startswith("a")] == [
        f"a{name}/{place}" for name in range(50) for place in (1, 2, 3)
    ]
    health = outbox.health()
    assert "disk full" in health.problem
    assert health.unsaved > 0
    assert caplog.text.count("disk full") == 1
    assert not outbox.flush(0.01)
    assert outbox.alerts(1)[0].id == "a49/3" or outbox.alerts(2)[1].id == "a49/3"
    assert len(outbox.history("a49")) == 3
    assert outbox.evidence("a49") is not None
    make_room(outbox, clock)
    assert outbox.flush(20)
    assert got(outbox) == ["disk full closed"]
    assert outbox.flush(20)
    assert outbox.health().unsaved == 0
    assert outbox.health().problem == ""
    assert outbox.health().alerts == 51
    with outbox._database.reading() as connection:
        (stored,) = connection.execute("SELECT count(*) FROM notices").fetchone()
    assert stored == 152


def test_after_a_full_disk_what_was_sent_is_not_sent_again(
    outbox: Outbox, clock: Clock, tmp_path: Path
) -> None:
    fill(outbox)
    for name in range(30):
        outbox.submit(life(f"a{name}"), evidence={f"a{name}": evidence(600, name)})
    until(lambda: outbox.health().problem != "")
    until(lambda: outbox.count("log") == 91)
    assert len(got(outbox)) == 91
    clock.now += 60
    until(lambda: outbox._writer._retry_at > clock.now)  # it was tried once more
    make_room(outbox, clock)
    assert outbox.flush(20)
    outbox.close()
    again = Outbox(tmp_path / FILE)
    again.register(["log"])
    assert got(again) == ["disk full closed"]
    again.close()


def test_memory_is_bounded(outbox: Outbox, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_NOTICES", 100)
    monkeypatch.setattr(memory, "MOST_EVIDENCE", 5)
    fill(outbox)
    outbox.submit([notice("open", 1)], evidence={"open": evidence(600)})
    outbox.submit(life("first"))
    for name in range(20):
        outbox.submit(life(f"a{name:02}", "fan"), evidence={f"a{name:02}": evidence(600, name)})
    until(lambda: outbox.count("log") == 65)
    for sequence, one in outbox.pending("log", 100):
        if one.sensor == "fan":
            outbox.mark("log", sequence, "fan")
    for name in range(20, 70):
        outbox.submit(life(f"a{name}"), evidence={f"a{name}": evidence(600, name)})
    health = outbox.health()
    assert health.unsaved <= 100
    assert health.dropped > 0
    assert health.evidence_dropped > 0
    kept = {one.alert_id for one in outbox.alerts(None)}
    assert {"open", "a69"} <= kept
    assert "first" not in kept
    assert not {f"a{name:02}" for name in range(20)} & kept  # the sink has them: they went first
    others = {"first", *(f"a{name}" for name in range(20, 70))}
    assert health.dropped == len(others - kept)
    make_room(outbox, clock)
    assert outbox.flush(20)
    assert {one.alert_id for one in outbox.alerts(None)} == kept


def test_a_disk_that_does_not_answer(outbox: Outbox, clock: Clock, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # the writer waits for this, as it would for the disk
    seen = outbox.wait(-1, 0)
    started = time.monotonic()
    outbox.submit([notice("a", 1)])
    assert time.monotonic() - started < 4  # SQLite waits for 5 s
    assert outbox.wait(seen, 0.05) == seen
    assert got(outbox) == []
    clock.now += 11
    assert got(outbox) == ["a/1", "disk hangs opened"]
    assert "does not answer" in outbox.health().problem
    other.execute("COMMIT")
    other.close()
    assert outbox.flush(20)
    assert got(outbox) == ["disk hangs closed"]
    assert outbox.flush(20)
    assert [one.id for one in outbox.history("a")] == ["a/1"]


def test_damage_while_it_runs(outbox: Outbox, tmp_path: Path) -> None:
    for name in range(40):
        outbox.submit(life(f"a{name}"), evidence={f"a{name}": evidence()})
    assert outbox.flush(20)
    assert len(got(outbox)) == 120
    with outbox._database.tidying() as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute("PRAGMA cache_size = 1")
    path = tmp_path / FILE
    with path.open("r+b") as file:
        for page in range(4096, path.stat().st_size, 4096):
            file.seek(page)
            file.write(b"\xff" * 200)
    outbox.submit(life("b"))
    until(lambda: outbox.count("log") == 4)
    assert outbox.flush(20)
    assert sorted(got(outbox)) == ["b/1", "b/2", "b/3", "outbox damaged opened"]
    assert len(list(tmp_path.glob(f"{FILE}.damaged-*"))) >= 1
    assert outbox.flush(20)
    assert got(outbox) == []


def test_damage_that_a_reader_runs_into(outbox: Outbox, tmp_path: Path) -> None:
    outbox.submit(life("a"))
    assert outbox.flush(20)
    with outbox._database.tidying() as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    path = tmp_path / FILE
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with outbox._database._alone():  # their pages are no longer in memory
        outbox._database._reader.close()
        outbox._database._reader = sqlite3.connect(path, check_same_thread=False)
    assert outbox.alerts() == []
    until(lambda: [one.alert.reason for one in outbox.alerts()] == ["outbox damaged"])
    outbox.submit(life("b"))
    assert outbox.flush(20)
    assert len(outbox.history("b")) == 3


def test_a_file_that_somebody_deleted(outbox: Outbox, tmp_path: Path) -> None:
    outbox.submit(life("a"))
    assert outbox.flush(20)
    shutil.rmtree(tmp_path)
    until(lambda: (tmp_path / FILE).exists() and outbox.flush(20))
    outbox.submit(life("b"))
    assert outbox.flush(20)
    with Archive(tmp_path / FILE) as archive:
        assert len(archive.history("b")) == 3
        assert "deleted" in archive.alerts(open_only=True)[0].summary
    assert outbox.count("log") == 4


def test_a_disk_that_damages_everything_is_not_filled(outbox: Outbox, tmp_path: Path) -> None:
    for turn in range(6):
        with outbox._database.tidying() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        outbox._writer.suspect(_damage())
        outbox.submit(life(f"a{turn}"))
        until(lambda: not outbox._writer._suspected)
    assert outbox.flush(20)
    assert len(list(tmp_path.glob(f"{FILE}.damaged-*"))) == 1  # in a minute


def _damage() -> sqlite3.Error:
    error = sqlite3.DatabaseError("as a reader has it")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def test_what_every_sink_has_leaves_memory_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_NOTICES", 100)
    held = memory.Memory()
    held.cursors.register(["log"], 0, ())
    for name in range(10):
        held.add(life(f"p{name}"), {}, {})
    for name in range(20):
        held.add(life(f"f{name}", "fan"), {}, {})
    held.cursors.mark(Delivery("log", held.newest, 0.0, ""), "fan")
    for name in range(10, 14):
        held.add(life(f"p{name}"), {}, {})
    kept = list(held.by_alert())
    assert len(held.entries) == 90
    assert kept == [f"p{k}" for k in range(10)] + [f"f{k}" for k in range(4, 20)] + [
        f"p{k}" for k in range(10, 14)
    ]
    assert held.dropped == 0


@pytest.mark.parametrize("where", ["write_notices", "chunks_of"])
def test_a_bug_does_not_end_the_writing(
    outbox: Outbox,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    def fail(*_: object) -> None:
        raise UnicodeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(f"edgelstm.outbox.writer.{where}", fail)
        outbox.submit([notice("a", 1)])
        until(lambda: outbox.count("log") > 0 and outbox.health().problem != "")
        assert next(each.id for _, each in outbox.pending("log")) == notice("a", 1).id
    assert "a bug" in caplog.text
    clock.now += 60
    assert outbox.flush(10)
    assert outbox.health().problem == ""
    assert outbox.alert(notice("a", 1).alert_id)


def test_nothing_to_write_is_no_disk_that_hangs(outbox: Outbox, clock: Clock) -> None:
    outbox.register(["log"])  # again, as a reload does
    assert outbox.flush(10)
    outbox.register(["log"])
    outbox.submit()
    clock.now += 100
    outbox.wait(0, 0.05)
    assert outbox.health().problem == ""
    assert outbox.alerts() == []
