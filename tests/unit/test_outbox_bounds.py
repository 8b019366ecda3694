from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from outbox_notices import evidence, life, notice

from edgelstm.outbox import FILE, Archive, Outbox
from edgelstm.outbox.bounds import Dropped, drop_for_space
from edgelstm.outbox.schema import LOG_BYTES, file_bytes, log_bytes


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_bytes_are_bounded_and_open_alerts_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, bound = tmp_path / FILE, 4_000_000
    outbox = Outbox(path, max_bytes=bound)
    outbox.register(["log", "away"])
    outbox.submit([notice("open", 1)], evidence={"open": evidence(600)})
    most = 0
    for start in range(0, 760, 40):
        for name in range(start, start + 40):
            what = {f"a{name:05}": evidence(150, name)} if name % 2 else {}
            outbox.submit(life(f"a{name:05}"), evidence=what)
        for sequence, one in outbox.pending("log", 1_000):
            if name < 400:  # of the later ones it has nothing
                outbox.mark("log", sequence, one.sensor)
        assert outbox.flush(20)
        most = max(most, file_bytes(path))
    deadline = time.monotonic() + 20
    while outbox.health().bytes > bound * 0.75 and time.monotonic() < deadline:
        time.sleep(0.01)
    health = outbox.health()
    assert most <= bound
    assert health.evidence_dropped > 0
    kept = {one.alert_id for one in outbox.alerts(None)}
    assert "open" in kept
    assert "a00759" in kept
    assert health.alerts == len(kept)
    outbox.close()


def test_order_of_dropping(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / FILE)
    outbox.register(["log"])
    outbox.submit([notice("open", 1)], evidence={"open": evidence()})
    for name in range(200):
        sensor = "fan" if name % 2 else "pump"
        what = {f"a{name:03}": evidence(40, name)}
        outbox.submit(life(f"a{name:03}", sensor), evidence=what)
        assert name % 50 or outbox.flush(20)  # memory holds the evidence of a hundred
    assert outbox.flush(20)
    order = [*range(1, 200, 2), *range(0, 200, 2)]

    def floor(sensor: str) -> int:
        return 1_000 if sensor == "fan" else 0  # every sink has those of the fan

    def state() -> tuple[list[int], list[int]]:
        with outbox._database.reading() as connection:
            found = connection.execute("SELECT alert_id FROM evidence ORDER BY first").fetchall()
            alerts = connection.execute("SELECT id FROM alerts ORDER BY first").fetchall()
        assert alerts[0] == ("open",)
        assert found[:1] == [("open",)] or len(alerts) < 201  # its evidence is the last to go
        return [int(one[1:]) for (one,) in found[1:]], [int(one[1:]) for (one,) in alerts[1:]]

    database = outbox._database
    before = _pages(outbox)
    dropped = Dropped()
    while True:
        step = drop_for_space(database, _used(outbox) - 1, floor)
        if step == Dropped():
            break
        dropped = dropped.plus(step)
        assert state() == (list(range(dropped.evidence, 200)), sorted(order[dropped.alerts :]))
        assert dropped.alerts == 0 or dropped.evidence >= 200
        assert dropped.unsent == max(0, dropped.alerts - 100)
    assert dropped == (201, 200, 100)
    assert _pages(outbox) < before / 4  # the file shrinks
    assert outbox.evidence("open") is None
    assert [one.id for one in outbox.alerts(None)] == ["open/1"]
    assert [one.id for _, one in outbox.pending("log")] == ["open/1"]
    outbox.close()


def _pages(outbox: Outbox) -> int:
    with outbox._database.reading() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    return int(pages)


def _used(outbox: Outbox) -> int:
    with outbox._database.reading() as connection:
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return (_pages(outbox) - int(free)) * 4096


def test_the_log_shrinks_when_others_no_longer_read(tmp_path: Path) -> None:
    path = tmp_path / FILE
    outbox = Outbox(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM alerts").fetchall()
    for name in range(60):
        outbox.submit(life(f"a{name}"), evidence={f"a{name}": evidence(300, name)})
    assert outbox.flush(20)
    assert log_bytes(path) > LOG_BYTES
    other.close()
    outbox.submit([notice("b", 1)])
    assert outbox.flush(20)
    assert log_bytes(path) <= LOG_BYTES
    outbox.close()


def test_age_is_the_time_for_which_the_service_ran(tmp_path: Path) -> None:
    day = 86400.0
    running, wall = Clock(), Clock()

    def run(days: float, *alerts: str) -> list[str]:
        outbox = Outbox(tmp_path / FILE, max_age=90 * day, clock=wall, monotonic=running)
        for name in alerts:
            outbox.submit(life(name))
        outbox.submit([notice("open", 1)])
        assert outbox.flush(20)
        running.now += days * day
        outbox.submit([notice(f"now{running.now}", 1, sensor="other")])
        assert outbox.flush(20)
        outbox.close()
        with Archive(tmp_path / FILE) as archive:
            return [one.alert_id for one in archive.alerts(None, sensor="pump")]

    wall.now = 0.0
    assert run(50, "a") == ["open", "a"]
    wall.now = 4e9  # a clock that jumped by a century
    running.now = 5.0  # and a computer that was started again
    assert run(30, "b") == ["b", "open", "a"]
    assert run(9) == ["b", "open", "a"]
    assert run(2) == ["b", "open"]
    wall.now = 1e6
    assert run(48) == ["b", "open"]
    assert run(2) == ["open"]
