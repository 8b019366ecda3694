from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgelstm.alert import Alert, AlertChange, AlertEvent, AlertKind, ChannelShare
from edgelstm.artifact import Artifact
from edgelstm.commands.watching import SilenceClock
from edgelstm.manifest import ChannelLimits
from edgelstm.pipeline import Verdict
from edgelstm.reading import Reading
from edgelstm.sinks import Sink
from edgelstm.sinks.jsonl import JsonlSink
from edgelstm.sinks.log import LogSink, limits_by_name

CHANNELS = tuple(map(ChannelShare, ["temperature", "flow", "level", "speed"], [0.71, 0.2, 0.06, 0]))
ANOMALY = Alert(1, AlertKind.ANOMALY, 1000.0, 12.0, CHANNELS)
FAULT = Alert(2, AlertKind.SENSOR_FAULT, 1000.0, None, (ChannelShare("flow", 1.0),), "flat")


def opens(*alerts: Alert) -> Verdict:
    changes = tuple(AlertChange(AlertEvent.OPENED, alert) for alert in alerts)
    return Verdict(Reading(1000.0, (9.0,)), None, None, 12.0, 9.0, True, changes)


def closes(alert: Alert, peak: float | None) -> Verdict:
    closed = Alert(
        alert.number, alert.kind, 1000.0, peak, alert.channels, alert.reason, closed=1200.0
    )
    reading = Reading(1200.0, (1.0,))
    return Verdict(reading, None, None, 2.0, 9.0, False, (AlertChange(AlertEvent.CLOSED, closed),))


VERDICTS = [
    Verdict(Reading(900.0, (1.0,)), None, None, 1.0, 9.0),
    opens(ANOMALY),
    Verdict(Reading(1100.0, (1.0,)), None, None, 8.0, 9.0),
    closes(ANOMALY, 20.0),
]


def told(sink: Sink) -> list[bool]:
    return [sink.take(verdict) for verdict in VERDICTS]


def lines_of(*verdicts: Verdict, limits: dict[str, ChannelLimits] | None = None) -> list[str]:
    lines: list[str] = []
    sink = LogSink(lines.append, limits)
    for verdict in verdicts:
        sink.take(verdict)
    sink.close()
    return lines


def test_log_writes_a_line_per_event() -> None:
    lines: list[str] = []
    assert told(LogSink(lines.append)) == [False, True, False, True]
    assert lines == lines_of(*VERDICTS)
    assert lines == [
        "1970-01-01 00:16:40  ALERT 1 opened   score 12.0 > 9.0  "
        "temperature 71 %, flow 20 %, level 6 %",
        "1970-01-01 00:20:00  alert 1 closed   after 3 min, peak score 20.0",
    ]


def test_channels_are_only_named_where_there_are_several() -> None:
    alone = Alert(1, AlertKind.ANOMALY, 1000.0, 12.0, (ChannelShare("flow", 1.0),))
    assert lines_of(opens(alone)) == ["1970-01-01 00:16:40  ALERT 1 opened   score 12.0 > 9.0"]


def test_channels_with_next_to_no_share_are_not_named() -> None:
    channels = (ChannelShare("flow", 0.97), ChannelShare("level", 0.03))
    (line,) = lines_of(opens(Alert(1, AlertKind.ANOMALY, 1000.0, 12.0, channels)))
    assert line.endswith("  flow 97 %")


@pytest.mark.parametrize(
    ("reason", "limits", "text"),
    [
        ("flat", ChannelLimits(flat=60), "flow: flat for 60 readings"),
        ("flat", None, "flow: flat"),
        ("out of range", ChannelLimits(low=0.0, high=2.5), "flow: out of range (0..2.5)"),
        ("out of range", ChannelLimits(high=2.5), "flow: out of range (..2.5)"),
        ("missing", ChannelLimits(flat=60), "flow: missing"),
    ],
)
def test_a_fault_is_told_with_its_figures(
    reason: str, limits: ChannelLimits | None, text: str
) -> None:
    fault = Alert(2, AlertKind.SENSOR_FAULT, 1000.0, None, FAULT.channels, reason)
    known = {"flow": limits} if limits else None
    assert lines_of(opens(fault), closes(fault, None), limits=known) == [
        f"1970-01-01 00:16:40  SENSOR FAULT 2 opened  {text}",
        f"1970-01-01 00:20:00  sensor fault 2 closed  flow: no longer {reason}, after 3 min",
    ]


def test_a_fault_of_all_channels_names_them() -> None:
    silent = Alert(1, AlertKind.SENSOR_FAULT, 1000.0, None, CHANNELS[:2], "missing")
    assert lines_of(opens(silent)) == [
        "1970-01-01 00:16:40  SENSOR FAULT 1 opened  temperature, flow: missing"
    ]


def test_several_events_at_one_reading_are_a_line_each() -> None:
    assert [line.split("  ")[1] for line in lines_of(opens(FAULT, ANOMALY))] == [
        "SENSOR FAULT 2 opened",
        "ALERT 1 opened",
    ]


def test_limits_are_those_of_the_artifact(tiny: Artifact) -> None:
    assert tiny.manifest.detection is not None
    assert limits_by_name(tiny.manifest) == dict(
        zip(["flow", "level"], tiny.manifest.detection.limits, strict=True)
    )


def test_jsonl_appends_an_object_per_event(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    path.write_text('{"event": "older"}\n')
    sink = JsonlSink(path)
    assert told(sink) == [False, True, False, True]
    older, opened, closed = map(json.loads, path.read_text().splitlines())  # before it is closed
    assert older == {"event": "older"}
    assert opened == {
        "event": "opened",
        "kind": "anomaly",
        "alert": 1,
        "time": "1970-01-01T00:16:40+00:00",
        "score": 12.0,
        "threshold": 9.0,
        "peak_score": 12.0,
        "channels": [{"name": name, "share": share} for name, share in CHANNELS],
        "reason": "",
    }
    assert (closed["event"], closed["peak_score"]) == ("closed", 20)
    sink.close()
    sink.close()


def test_jsonl_tells_a_fault_apart(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    sink = JsonlSink(path)
    assert sink.take(opens(FAULT, ANOMALY))
    sink.close()
    fault, anomaly = map(json.loads, path.read_text().splitlines())
    assert anomaly["kind"] == "anomaly"
    assert fault == {
        "event": "opened",
        "kind": "sensor_fault",
        "alert": 2,
        "time": "1970-01-01T00:16:40+00:00",
        "score": None,
        "threshold": None,
        "peak_score": None,
        "channels": [{"name": "flow", "share": 1.0}],
        "reason": "flat",
    }


def test_jsonl_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        JsonlSink(tmp_path / "no" / "alerts.jsonl")


def test_what_a_sink_raises_while_nothing_comes_is_raised_with_the_next_reading() -> None:
    waits: list[float] = []

    def tick(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            raise OSError("disk full")

    clock = SilenceClock(tick)
    clock.stop()  # it has not begun
    clock.start(5.0)
    with pytest.raises(OSError, match="disk full"):
        clock.stop()
    clock.start(7.0)
    clock.start(9.0)  # it goes on as it was
    clock.stop()
    clock.stop()
    assert [round(wait) for wait in waits] == [5, 7]
