from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgelstm.alert import Alert, AlertEvent
from edgelstm.pipeline import Verdict
from edgelstm.reading import Reading
from edgelstm.sinks import Sink
from edgelstm.sinks.jsonl import JsonlSink
from edgelstm.sinks.log import LogSink

OPENED = Alert(1, 1000.0, 12.0)
VERDICTS = [
    Verdict(Reading(900.0, (1.0,)), None, 1.0, 9.0),
    Verdict(Reading(1000.0, (9.0,)), None, 12.0, 9.0, True, AlertEvent.OPENED, OPENED),
    Verdict(Reading(1100.0, (1.0,)), None, 8.0, 9.0),
    Verdict(
        Reading(1200.0, (1.0,)), None, 2.0, 9.0, False, AlertEvent.CLOSED, Alert(1, 1000, 20, 1200)
    ),
]


def told(sink: Sink) -> list[bool]:
    return [sink.take(verdict) for verdict in VERDICTS]


def test_log_writes_a_line_per_event() -> None:
    lines: list[str] = []
    sink = LogSink(lines.append)
    assert told(sink) == [False, True, False, True]
    assert [line.split("  ")[1].split()[:3] for line in lines] == [
        ["ALERT", "1", "opened"],
        ["alert", "1", "closed"],
    ]
    sink.close()


def test_jsonl_appends_an_object_per_event(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    path.write_text('{"event": "older"}\n')
    sink = JsonlSink(path)
    assert told(sink) == [False, True, False, True]
    older, opened, closed = map(json.loads, path.read_text().splitlines())  # before it is closed
    assert older == {"event": "older"}
    assert opened == {
        "event": "opened",
        "alert": 1,
        "time": "1970-01-01T00:16:40+00:00",
        "score": 12.0,
        "threshold": 9.0,
        "peak_score": 12.0,
    }
    assert (closed["event"], closed["peak_score"]) == ("closed", 20)
    sink.close()
    sink.close()


def test_jsonl_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        JsonlSink(tmp_path / "no" / "alerts.jsonl")
