"""Entries of the journal, over real sockets; tests/system/test_systemd_unit.py has journald."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgelstm.alert import Alert, AlertKind, ChannelShare, Severity
from edgelstm.errors import RefusedNoticeError, SinkError
from edgelstm.journal import Journal, encode
from edgelstm.notice import Acknowledgement, Notice
from edgelstm.sinks import SinkContext
from edgelstm.sinks.journal import MESSAGE_ID, JournalConfig, JournalSink, fields
from edgelstm.systemd import JournalHandler

ALERT = Alert(
    3,
    AlertKind.ANOMALY,
    1_700_000_000.0,
    14.5,
    (ChannelShare("temperature", 0.75), ChannelShare("current", 0.25)),
    threshold=8.0,
)
NOTICE = Notice(
    "01jx/1",
    "01jx",
    "opened",
    1_700_000_000.5,
    "gate",
    "pump",
    ALERT,
    "ALERT 3 opened  score 13.8 > 8.0",
    13.75,
    8.0,
)


def decode(data: bytes) -> dict[str, str]:
    """As journald reads an entry."""
    entry = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            [size] = struct.unpack_from("<Q", data)
            value, end, data = data[8 : 8 + size], data[8 + size : 9 + size], data[9 + size :]
            assert end == b"\n"
        entry[name.decode()] = value.decode()
    return entry


class Journald:
    """Listens as journald does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(5)
        self.socket.bind(str(path))

    def entry(self) -> dict[str, str]:
        return decode(self.socket.recv(1_000_000))

    def close(self) -> None:
        self.socket.close()
        self.path.unlink(missing_ok=True)


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    listening = Journald(tmp_path / "socket")
    yield listening
    listening.close()


@pytest.fixture
def logger(journald: Journald) -> Iterator[logging.Logger]:
    handler = JournalHandler(journald.path)
    logger = logging.Logger("edgelstm.service")
    logger.addHandler(handler)
    yield logger
    handler.close()


def test_the_bytes_of_an_entry() -> None:
    assert encode({"MESSAGE": "one line", "N": 3}) == b"MESSAGE=one line\nN=3\n"
    two = encode({"MESSAGE": "one\ntwo", "N": 3})
    assert two == b"MESSAGE\n\x07\0\0\0\0\0\0\0one\ntwo\nN=3\n"


@pytest.mark.parametrize(
    "value",
    ["", "a=b", "\n", "é\nß", "ends\n", "x" * 100, "line\n" * 1000, "\x00\x01"],
)
def test_values_come_back(value: str) -> None:
    entry = {"BEFORE": "1", "MESSAGE": value, "AFTER": "2"}
    assert decode(encode(entry)) == entry


def test_none_is_left_out() -> None:
    assert encode({"A": None, "B": ""}) == b"B=\n"


@pytest.mark.parametrize("name", ["", "_PID", "message", "A-B", "1A", "A=B", "A\nB", "A" * 65])
def test_names_that_journald_would_drop(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a journal field"):
        encode({name: "x"})


def test_of_long_values_the_middle_is_left_out() -> None:
    for begin, end in (("", ""), ("x", "y")):  # so that some character is where it is cut
        value = begin + "é" * 10_000 + "\n" + "ß" * 10_000 + end
        found = decode(encode({"MESSAGE": value}))["MESSAGE"]
        assert found.startswith(begin + "é" * 1000)
        assert found.endswith("ß" * 1000 + end)
        assert " [...] " in found
        assert len(found.encode()) <= 8192


def test_what_is_no_unicode() -> None:
    assert decode(encode({"CODE_FILE": "a\udcff.py"}))["CODE_FILE"] == "a\\udcff.py"


def test_a_log_record(journald: Journald, logger: logging.Logger) -> None:
    extra = {"journal": {"EDGELSTM_SENSOR": "pump", "EDGELSTM_READINGS": 12}}
    logger.warning("no reading for %d s", 30, extra=extra)
    entry = journald.entry()
    assert entry["MESSAGE"] == "no reading for 30 s"
    assert entry["PRIORITY"] == "4"
    assert entry["SYSLOG_IDENTIFIER"] == "edgelstm"
    assert entry["LOGGER"] == "edgelstm.service"
    assert entry["CODE_FILE"] == __file__
    assert entry["CODE_FUNC"] == "test_a_log_record"
    assert int(entry["CODE_LINE"]) > 0
    assert entry["THREAD_NAME"] == "MainThread"
    assert (entry["EDGELSTM_SENSOR"], entry["EDGELSTM_READINGS"]) == ("pump", "12")


@pytest.mark.parametrize(
    ("level", "priority"),
    [(10, "7"), (20, "6"), (25, "6"), (30, "4"), (40, "3"), (50, "2"), (99, "2")],
)
def test_priorities(journald: Journald, logger: logging.Logger, level: int, priority: str) -> None:
    logger.log(level, "x")
    assert journald.entry()["PRIORITY"] == priority


def test_a_traceback_stays_one_entry(journald: Journald, logger: logging.Logger) -> None:
    try:
        raise ValueError("what it was")
    except ValueError:
        logger.exception("It failed.")
    lines = journald.entry()["MESSAGE"].splitlines()
    assert lines[0] == "It failed."
    assert lines[-1] == "ValueError: what it was"


def test_without_journald_records_go_to_standard_error(
    journald: Journald, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    journald.close()
    logger.warning("nobody listens")
    assert capsys.readouterr().err == "nobody listens\n"
    again = Journald(journald.path)
    logger.warning("now one does")
    assert again.entry()["MESSAGE"] == "now one does"
    again.close()


def test_a_journald_that_hangs_stops_nothing(
    journald: Journald, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2000):
        logger.warning("%d", number)
    taken = [journald.entry()]
    journald.socket.setblocking(False)
    try:
        while True:
            taken.append(journald.entry())
    except BlockingIOError:
        pass
    logger.warning("at last")
    journald.socket.setblocking(True)
    entry = journald.entry()
    assert int(entry["EDGELSTM_LOST_ENTRIES"]) == 2000 - len(taken) > 0
    logger.warning("and again")
    assert "EDGELSTM_LOST_ENTRIES" not in journald.entry()
    assert capsys.readouterr().err == ""


def test_logging_never_raises(
    journald: Journald, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.warning("x", extra={"journal": {"no name": 1}})
    assert "no name of a journal field" in capsys.readouterr().err


def sink(path: Path) -> JournalSink:
    return JournalSink(JournalConfig(socket=path), SinkContext())


def test_a_notice(journald: Journald) -> None:
    journal = sink(journald.path)
    journal.send(NOTICE)
    assert journald.entry() == {
        "MESSAGE": "pump: ALERT 3 opened  score 13.8 > 8.0",
        "MESSAGE_ID": MESSAGE_ID,
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "edgelstm",
        "EDGELSTM_NOTICE_ID": "01jx/1",
        "EDGELSTM_ALERT_ID": "01jx",
        "EDGELSTM_EVENT": "opened",
        "EDGELSTM_KIND": "anomaly",
        "EDGELSTM_SEVERITY": "warning",
        "EDGELSTM_GATEWAY": "gate",
        "EDGELSTM_SENSOR": "pump",
        "EDGELSTM_TIME": "2023-11-14T22:13:20.500000+00:00",
        "EDGELSTM_SCORE": "13.75",
        "EDGELSTM_THRESHOLD": "8.0",
        "EDGELSTM_PEAK_SCORE": "14.5",
        "EDGELSTM_CHANNELS": "temperature, current",
    }
    journal.close()
    journal.close()


@pytest.mark.parametrize(
    ("event", "severity", "priority"),
    [
        ("opened", Severity.WARNING, "4"),
        ("opened", Severity.CRITICAL, "2"),
        ("updated", Severity.CRITICAL, "2"),
        ("closed", Severity.CRITICAL, "5"),
        ("acknowledged", Severity.CRITICAL, "6"),
    ],
)
def test_how_much_a_notice_matters(
    journald: Journald, event: str, severity: Severity, priority: str
) -> None:
    journal = sink(journald.path)
    journal.send(replace(NOTICE, event=event, alert=replace(ALERT, severity=severity)))
    assert journald.entry()["PRIORITY"] == priority
    journal.close()


def test_a_fault_of_the_service_itself(journald: Journald) -> None:
    journal = sink(journald.path)
    alert = Alert(1, AlertKind.SERVICE_FAULT, 1_700_000_000.0, reason="disk full")
    seen = Acknowledgement(1_700_000_100.0, "Ann")
    notice = replace(NOTICE, sensor="", alert=alert, score=None, threshold=None, acknowledged=seen)
    journal.send(notice)
    entry = journald.entry()
    assert entry["MESSAGE"] == NOTICE.summary
    assert entry["EDGELSTM_REASON"] == "disk full"
    assert entry["EDGELSTM_ACKNOWLEDGED_BY"] == "Ann"
    assert {"EDGELSTM_SENSOR", "EDGELSTM_SCORE", "EDGELSTM_PEAK_SCORE"}.isdisjoint(entry)
    journal.close()


def test_without_journald_a_notice_is_tried_again(journald: Journald) -> None:
    journal = sink(journald.path)
    journald.close()
    with pytest.raises(SinkError, match="journald does not take entries"):
        journal.send(NOTICE)
    again = Journald(journald.path)
    journal.send(NOTICE)
    assert again.entry()["EDGELSTM_ALERT_ID"] == "01jx"
    again.close()
    journal.close()


def test_a_journald_that_hangs_is_tried_again(
    journald: Journald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgelstm.sinks.journal._TIMEOUT_S", 0.05)
    journal = sink(journald.path)

    def send_many() -> None:
        for _ in range(2000):
            journal.send(NOTICE)

    with pytest.raises(SinkError, match="timed out"):
        send_many()
    journal.close()


def test_a_notice_of_many_channels(journald: Journald) -> None:
    channels = tuple(ChannelShare("é" * 5000, 0.1) for _ in range(10))
    journal = sink(journald.path)
    journal.send(replace(NOTICE, alert=replace(ALERT, channels=channels)))
    assert len(journald.entry()["EDGELSTM_CHANNELS"].encode()) <= 8192
    journal.close()


def test_a_socket_without_room(journald: Journald, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelstm.journal._MOST_BYTES", 10_000_000)
    journal = sink(journald.path)
    with pytest.raises(RefusedNoticeError, match="too large for the journal"):
        journal.send(replace(NOTICE, summary="x" * 1_000_000))
    journal.close()


def test_nothing_is_sent_after_closing(journald: Journald) -> None:
    channel = Journal(journald.path)
    channel.close()
    channel.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        channel.send({"MESSAGE": "x"})


def test_the_docs_have_every_field() -> None:
    docs = (Path(__file__).parents[2] / "docs/service.md").read_text()
    seen = replace(NOTICE, acknowledged=Acknowledgement(0.0, "Ann"))
    own = {name for name in fields(seen) if name.startswith("EDGELSTM_")}
    assert len(own) > 10
    assert {name for name in own if f"`{name}`" not in docs} == set()
    assert MESSAGE_ID in docs
