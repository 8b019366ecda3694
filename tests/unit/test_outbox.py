from __future__ import annotations

import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from outbox_notices import evidence, life, notice

from edgelstm.alert import AlertKind
from edgelstm.artifact import Artifact
from edgelstm.errors import ConfigurationError, OutboxError
from edgelstm.notice import Acknowledgement, OpenEntry
from edgelstm.outbox import FILE, Archive, Outbox
from edgelstm.outbox.memory import Entry
from edgelstm.outbox.overlay import overlaid
from edgelstm.outbox.reading import Standing
from edgelstm.pipeline import Pipeline
from edgelstm.pipeline_state import PipelineState
from edgelstm.session import Session

Open = Callable[[], Outbox]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / FILE


@pytest.fixture
def open_outbox(path: Path) -> Iterator[Open]:
    """Opens the same file as often as a test wants to."""
    opened: list[Outbox] = []

    def open_it() -> Outbox:
        opened.append(Outbox(path, gateway="gate", clock=lambda: 5_000.0))
        return opened[-1]

    yield open_it
    for outbox in opened:
        outbox.close()


@pytest.fixture(params=["file", "memory"])
def outbox(request: pytest.FixtureRequest, path: Path) -> Iterator[Outbox]:
    where = path if request.param == "file" else None
    outbox = Outbox(where, gateway="gate", clock=lambda: 5_000.0)
    yield outbox
    outbox.close()


def ids(outbox: Outbox, sink: str, **options: object) -> list[str]:
    return [one.id for _, one in outbox.pending(sink, **options)]  # type: ignore[arg-type]


def take_all(outbox: Outbox, sink: str) -> list[str]:
    """What a sink gets that takes everything."""
    got = []
    while pending := outbox.pending(sink):
        for sequence, one in pending:
            got.append(one.id)
            outbox.mark(sink, sequence, one.sensor)
    return got


def settled(outbox: Outbox) -> Outbox:
    assert outbox.flush(10)
    return outbox


def test_in_order_to_every_sink(outbox: Outbox) -> None:
    outbox.register(["broker", "log"])
    for name in ("a", "b"):
        for one in life(name):
            outbox.submit([one])
    settled(outbox)
    expected = ["a/1", "a/2", "a/3", "b/1", "b/2", "b/3"]
    assert take_all(outbox, "broker") == expected
    assert outbox.count("broker") == 0
    assert outbox.count("log") == 6
    assert take_all(outbox, "log") == expected


def test_the_same_notice_again_is_stored_once(outbox: Outbox) -> None:
    outbox.register(["log"])
    outbox.submit([notice("a", 1), notice("a", 1)])
    settled(outbox).submit([notice("a", 1)])
    settled(outbox)
    assert take_all(outbox, "log") == ["a/1"]
    outbox.submit([notice("a", 1)])
    settled(outbox)
    assert take_all(outbox, "log") == []
    assert [one.id for one in outbox.history("a")] == ["a/1"]


def test_a_sink_skips_sensors_and_comes_back_to_them(outbox: Outbox) -> None:
    outbox.register(["log"])
    outbox.submit([notice("a", 1, sensor="one"), notice("b", 1, sensor="two")])
    outbox.submit([notice("c", 1, sensor="one")])
    settled(outbox)
    assert ids(outbox, "log", skip_sensors=["one"]) == ["b/1"]
    (sequence, _), *_ = outbox.pending("log", skip_sensors=["one"])
    outbox.mark("log", sequence, "two")
    assert ids(outbox, "log") == ["a/1", "c/1"]
    assert ids(outbox, "log", limit=1) == ["a/1"]


def test_a_new_sink_begins_with_the_open_alerts(outbox: Outbox) -> None:
    outbox.register(["log"])
    outbox.submit([*life("over"), notice("open", 1), *life("too")])
    settled(outbox).register(["log", "broker"])
    outbox.submit([notice("open", 2, "updated"), notice("next", 1)])
    settled(outbox)
    assert outbox.count("broker") == 3
    assert take_all(outbox, "broker") == ["open/1", "open/2", "next/1"]
    assert len(take_all(outbox, "log")) == 9


def test_what_a_sink_that_went_has_not_got_is_forgotten(outbox: Outbox) -> None:
    outbox.register(["log", "broker"])
    outbox.submit([notice("a", 1)])
    (sequence, _) = settled(outbox).pending("log")[0]
    outbox.register(["broker"])
    outbox.mark("log", sequence, "pump")  # it was under way
    with pytest.raises(ConfigurationError, match="knows no sink 'log'"):
        outbox.pending("log")
    outbox.submit(life("b"))
    settled(outbox).register(["broker", "log"])
    outbox.submit([notice("a", 2, "closed")])
    settled(outbox)
    assert take_all(outbox, "log") == ["a/1", "a/2"]  # as to one that is new
    assert take_all(outbox, "broker") == ["a/1", "b/1", "b/2", "b/3", "a/2"]


def test_wait(outbox: Outbox) -> None:
    seen = outbox.wait(0, 0)
    timer = threading.Timer(0.05, outbox.submit, [[notice("a", 1)]])
    timer.start()
    assert outbox.wait(seen, 20) > seen
    timer.join()


def test_alerts_as_they_stand(outbox: Outbox) -> None:
    outbox.submit([*life("01a"), notice("01b", 1, sensor="fan", time=2_000.0)])
    for _ in range(2):  # first from memory, maybe, and then from the disk
        assert [one.id for one in outbox.alerts()] == ["01b/1", "01a/3"]
        assert [one.id for one in outbox.alerts(1)] == ["01b/1"]
        assert [one.id for one in outbox.alerts(open_only=True)] == ["01b/1"]
        assert [one.id for one in outbox.alerts(sensor="pump")] == ["01a/3"]
        assert [one.id for one in outbox.alerts(since=1_500.0)] == ["01b/1"]
        assert outbox.alert("1a").id == outbox.alert("01a").id == "01a/3"
        with pytest.raises(ConfigurationError, match="may mean 01a, 01b"):
            outbox.alert("01")
        with pytest.raises(ConfigurationError, match="no alert"):
            outbox.alert("x")
        settled(outbox)


def test_evidence_takes_the_place_of_what_there_was(outbox: Outbox) -> None:
    outbox.submit([notice("a", 1)], evidence={"a": evidence(5), "unknown": evidence(5)})
    outbox.submit([notice("a", 2, "closed")], evidence={"a": evidence(9)})
    settled(outbox)
    kept = outbox.evidence("a")
    assert kept is not None
    assert len(kept.times) == 9
    assert outbox.evidence("unknown") is None
    assert outbox.evidence("b") is None


def test_acknowledged_alerts_are_not_updated_any_more(outbox: Outbox) -> None:
    outbox.register(["log"])
    outbox.submit([notice("a", 1)])
    said = outbox.acknowledge("a", "ann", "on my way")
    assert (said.id, said.event, said.time) == ("a/acknowledged", "acknowledged", 5_000.0)
    outbox.submit([notice("a", 2, "updated")])
    settled(outbox).submit([notice("a", 3, "updated"), notice("a", 4, "closed")])
    settled(outbox)
    assert take_all(outbox, "log") == ["a/1", "a/acknowledged", "a/4"]
    history = outbox.history("a")
    assert [one.id for one in history] == ["a/1", "a/acknowledged", "a/2", "a/3", "a/4"]
    assert [one.acknowledged and one.acknowledged.by for one in history] == [None] + ["ann"] * 4
    (last,) = outbox.alerts()
    assert last.acknowledged == said.acknowledged
    assert outbox._memory.acknowledged == {}  # of alerts that are over nothing is kept in memory
    with pytest.raises(ConfigurationError, match="by ann already"):
        outbox.acknowledge("a", "bob")
    with pytest.raises(ConfigurationError, match="no alert"):
        outbox.acknowledge("b", "bob")


def test_an_acknowledgement_is_what_every_receiver_can_take(outbox: Outbox, path: Path) -> None:
    outbox.submit([notice("a", 1), notice("b", 1)])
    settled(outbox)
    said = outbox.acknowledge("a", " a\x1b[2J\nb", "x\0y \ud800 \u20ac").acknowledged
    assert said == Acknowledgement(5_000.0, "a[2J b", "xy  \u20ac")
    settled(outbox)  # half a surrogate pair ended the writer
    if path.exists():
        with Archive(path) as archive:
            archive.acknowledge("b", "ann", "\udcff")
    for by, note in (("", ""), ("\0", ""), ("a" * 101, ""), ("a", "b" * 1001)):
        with pytest.raises(ConfigurationError, match="name of up to 100"):
            outbox.acknowledge("b", by, note)


def test_the_disk_may_know_of_an_acknowledgement_first() -> None:
    seen = Acknowledgement(9.0, "ann")
    stored = Standing(1, replace(notice("a", 1), acknowledged=seen))
    (standing,) = overlaid([stored], {"a": [Entry(2, notice("a", 2, "closed"))]})
    assert standing.notice == replace(notice("a", 2, "closed"), acknowledged=seen)


def test_deliveries(outbox: Outbox) -> None:
    outbox.register(["broker", "log"])
    outbox.submit([notice("a", 1)])
    (sequence, _), *_ = settled(outbox).pending("log")
    outbox.mark("log", sequence, "pump")
    outbox.mark("broker", sequence, "pump", refused="too long")
    found = [(name, one.sink, one.time, one.refused) for name, one in outbox.deliveries("a")]
    assert found == [("a/1", "broker", 5_000.0, "too long"), ("a/1", "log", 5_000.0, "")]


def test_faults_of_the_service(outbox: Outbox) -> None:
    outbox.register(["log"])
    outbox.announce("no network", "gateway: no network")
    outbox.announce("no network", "gateway: no network")
    settled(outbox)
    outbox.settle("no network", "gateway: network again")
    outbox.settle("no network", "gateway: network again")
    opened, closed = (one for _, one in settled(outbox).pending("log"))
    assert (opened.event, closed.event) == ("opened", "closed")
    assert opened.alert.kind is AlertKind.SERVICE_FAULT
    assert (opened.sensor, opened.gateway, opened.alert.number) == ("", "gate", 1)
    assert closed.alert_id == opened.alert_id
    assert closed.alert.closed == 5_000.0


def test_states_and_alerts_outlast_the_service(open_outbox: Open, tiny: Artifact) -> None:
    outbox = open_outbox()
    outbox.register(["log"])
    pipeline = Pipeline(Session(tiny))
    outbox.submit([notice("a", 1, number=4), notice("a", 2, "updated", number=4)])
    outbox.submit(states={"pump": pipeline.state, "fan": pipeline.state})
    (sequence, _), *_ = settled(outbox).pending("log")
    outbox.mark("log", sequence, "pump")
    outbox.acknowledge("a", "ann")
    outbox.close()
    outbox.close()
    again = open_outbox()
    assert again.open_entries("pump") == (OpenEntry("a", AlertKind.ANOMALY, 4, 2),)
    assert again.open_entries("fan") == ()
    saved = again.state("pump")
    assert saved is not None
    assert PipelineState.load(saved) == pipeline.state
    assert again.state("other") is None
    assert ids(again, "log") == ["a/2", "a/acknowledged"]
    again.submit([notice("a", 3, "updated"), notice("a", 4, "closed")])
    settled(again)
    assert take_all(again, "log") == ["a/2", "a/acknowledged", "a/4"]
    assert again.health().alerts == 1


def test_alerts_of_sensors_that_went_are_closed(open_outbox: Open, tiny: Artifact) -> None:
    outbox = open_outbox()
    outbox.register(["log"])
    outbox.submit([notice("a", 1), notice("a", 2, "updated"), notice("b", 1, sensor="fan")])
    outbox.announce("no network", "gateway: no network")
    state = Pipeline(Session(tiny)).state
    outbox.submit(states={"pump": state, "fan": state})
    outbox.acknowledge("a", "ann")
    outbox.close_orphans(["fan"])
    outbox.close()
    again = open_outbox()
    (closed,) = again.alerts(sensor="pump")
    assert (closed.id, closed.event, closed.alert.closed) == ("a/3", "closed", 5_000.0)
    assert len(again.alerts(open_only=True)) == 2
    assert again.state("pump") is None
    assert again.state("fan") is not None


def test_acknowledged_from_another_process(open_outbox: Open, path: Path) -> None:
    outbox = open_outbox()
    outbox.register(["log"])
    outbox.submit([notice("a", 1), notice("b", 1)])
    seen = settled(outbox).wait(0, 0)
    with Archive(path) as archive:
        archive.acknowledge("a", "ann", "seen")
        with pytest.raises(ConfigurationError, match="by ann already"):
            archive.acknowledge("a", "bob")
        assert archive.alert("a").acknowledged is not None
        assert outbox.wait(seen, 20) > seen
        outbox.submit([notice("a", 2, "updated")])
        outbox.close()
        archive.acknowledge("b", "bob")  # while no service runs
    again = open_outbox()
    settled(again)
    deadline = time.monotonic() + 20
    while again.count("log") < 4 and time.monotonic() < deadline:
        again.wait(again.wait(0, 0), 0.05)
    assert ids(again, "log") == ["a/1", "b/1", "a/acknowledged", "b/acknowledged"]
    assert again.alerts(1)[0].acknowledged is not None


def test_only_the_owner_may_read_it(open_outbox: Open, path: Path) -> None:
    settled(open_outbox()).submit([notice("a", 1)])
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_two_services_are_refused(open_outbox: Open, path: Path) -> None:
    first = open_outbox()
    with pytest.raises(OutboxError, match=r"Another service has the state directory .*process \d"):
        open_outbox()
    first.close()
    open_outbox()


def test_a_newer_file_is_refused(open_outbox: Open, path: Path) -> None:
    open_outbox().close()
    with Archive(path) as archive:
        archive._connection.execute("PRAGMA user_version = 2")
    with pytest.raises(OutboxError, match="written by a newer edgelstm"):
        open_outbox()
    with pytest.raises(OutboxError, match="written by a newer edgelstm"):
        Archive(path)
    assert path.exists()


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(OutboxError, match="cannot be opened"):
        Archive(tmp_path / FILE)
    (tmp_path / FILE).write_bytes(b"")
    with pytest.raises(OutboxError, match="is no outbox"):
        Archive(tmp_path / FILE)
    (tmp_path / FILE).write_bytes(b"a" * 5_000)
    with pytest.raises(OutboxError, match="damaged"):
        Archive(tmp_path / FILE)


@pytest.mark.parametrize("damage", ["header", "pages"])
def test_a_damaged_file_is_moved_aside_and_said(
    open_outbox: Open, path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = open_outbox()
    for name in range(40):
        outbox.submit(life(f"a{name}"), evidence={f"a{name}": evidence()})
    outbox.close()
    data = bytearray(path.read_bytes())
    if damage == "header":
        data[:50] = b"\xff" * 50
    else:
        for page in range(4096, len(data), 4096):  # all but the first
            data[page : page + 20] = b"\xff" * 20
    path.write_bytes(data)
    again = open_outbox()
    (moved,) = path.parent.glob(f"{FILE}.damaged-*")
    assert moved.read_bytes() == data
    assert moved.name in caplog.text
    again.register(["log"])
    again.submit([notice("b", 1)])
    settled(again)
    said, new = (one for _, one in again.pending("log"))
    assert (said.alert.reason, said.event) == ("outbox damaged", "opened")
    assert moved.name in said.summary
    assert new.id == "b/1"
    again.acknowledge(said.alert_id, "ann")  # which is all that anybody can do about it
    settled(again)
    assert [one.id for one in again.alerts(open_only=True)] == ["b/1"]


def test_what_cannot_be_written_does_not_keep_the_rest(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    outbox.register(["log"])
    bad = replace(notice("bad", 1), score=object())  # type: ignore[arg-type]
    outbox.submit([bad, notice("a", 1)])
    settled(outbox)
    assert ids(outbox, "log") == ["a/1"]
    assert "cannot write this" in caplog.text


def test_what_another_edgelstm_wrote_does_not_keep_the_rest(open_outbox: Open) -> None:
    outbox = open_outbox()
    outbox.register(["log"])
    outbox.submit([notice("a", 1), notice("b", 1)])
    settled(outbox)
    with outbox._database.tidying() as connection:
        connection.execute("UPDATE notices SET body = '{\"schema\": 9}' WHERE id = 'a/1'")
    assert ids(outbox, "log") == ["b/1"]
    assert [one.id for one in outbox.alerts()] == ["b/1"]
    assert outbox.history("a") == []


def test_bounds_that_make_no_sense(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="makes no sense"):
        Outbox(path, max_bytes=1000)
    with pytest.raises(ConfigurationError, match="makes no sense"):
        Outbox(path, max_age=0)


def test_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutboxError, match="cannot be used"):
        Outbox(tmp_path / "file" / FILE)
