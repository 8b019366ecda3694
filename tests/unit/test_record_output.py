"""What `edgelstm record` says: the summary, the events and the options."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click
import pytest

from edgelstm.commands.event_lines import EventFile, RateLimit, describe_event, format_event
from edgelstm.commands.record import Duration, Period
from edgelstm.commands.recording_summary import format_summary, rate_warning
from edgelstm.reading import Reading
from edgelstm_bridge.events import (
    Connected,
    Disconnected,
    Ended,
    Event,
    Gap,
    Log,
    Restarted,
    Silence,
)
from edgelstm_bridge.messages import LogLevel, Statistics
from edgelstm_bridge.recorder import RecordingSummary

EPOCH_2024 = 1_704_067_200.0  # 2024-01-01 00:00:00 UTC
GOOD = RecordingSummary(
    file="run.csv",
    size=412_345,
    channels=("a", "b", "c", "d", "e", "f"),
    readings=6000,
    rows=6000,
    seconds=59.99,
    rate_hz=100.0,
    announced_rate_hz=100.0,
    numbered=True,
    sequence_complete=True,
    lost=0,
    damaged=0,
    gaps=0,
    restarts=0,
    reconnects=0,
    reordered=0,
    overflow=0,
    repeated_times=0,
    unusable=0,
    notes=0,
    dropped_by_device=0,
    missed_by_device=0,
)
EVENTS: list[tuple[Event, str | None, dict[str, object]]] = [
    (
        Gap(1, True, EPOCH_2024, 0.02),
        "1 reading is missing before 2024-01-01 00:00:00.",
        {
            "event": "gap",
            "missing": 1,
            "exact": True,
            "before": "2024-01-01T00:00:00+00:00",
            "seconds": 0.02,
        },
    ),
    (
        Gap(1200, False, EPOCH_2024, 12.0),
        "about 1,200 readings are missing before 2024-01-01 00:00:00.",
        {
            "event": "gap",
            "missing": 1200,
            "exact": False,
            "before": "2024-01-01T00:00:00+00:00",
            "seconds": 12.0,
        },
    ),
    (
        Connected("/dev/x"),
        None,
        {"event": "connected", "again": False, "description": "/dev/x"},
    ),
    (
        Connected("/dev/x", again=True),
        "Connected again to /dev/x.",
        {"event": "connected", "again": True, "description": "/dev/x"},
    ),
    (Disconnected("Lost it."), "Lost it.", {"event": "disconnected", "reason": "Lost it."}),
    (Restarted(), "The device has restarted.", {"event": "restarted"}),
    (Silence(5.2), "Nothing has come for 5 s.", {"event": "silence", "seconds": 5.2}),
    (
        Log(LogLevel.WARNING, "hot\x1b[2J"),
        "The device says (warning): hot?[2J",
        {"event": "log", "level": "warning", "text": "hot\x1b[2J"},
    ),
    (
        Statistics(10, 2, 1, 0),
        None,
        {"event": "statistics", "sample_count": 10, "dropped": 2, "overruns": 1, "bad_commands": 0},
    ),
    (Ended(), None, {"event": "ended"}),
]


def summary(**changes: object) -> list[str]:
    return list(format_summary(dataclasses.replace(GOOD, **changes)))  # type: ignore[arg-type]


def test_a_good_recording_takes_one_line() -> None:
    assert summary() == [
        "6,000 readings of 6 channels in 60.0 s (100.0 Hz), 0 lost, 0 damaged frames; wrote "
        "run.csv (412 kB)."
    ]


def test_whatever_is_not_zero_is_said() -> None:
    lines = summary(
        lost=3,
        damaged=1,
        gaps=2,
        restarts=1,
        reconnects=4,
        reordered=5,
        notes=6,
        unusable=7,
        overflow=8,
        dropped_by_device=9,
        missed_by_device=10,
        rows=5990,
    )
    assert "3 lost, 1 damaged frame; wrote 5,990 rows to run.csv" in lines[0]
    assert lines[1:] == [
        "Also 2 gaps, 1 restart, 4 reconnects, 5 late or repeated readings, 6 notes.",
        "Left out for a value that is no number: 7 readings.",
        "Lost because this computer was too slow: 8 readings.",
        "The device says that it dropped 9 readings for want of room and missed 10 for want of "
        "time.",
    ]


def test_without_numbers_gaps_stand_for_losses() -> None:
    (line,) = summary(numbered=False, sequence_complete=None, gaps=2, damaged=1)
    assert ", 2 gaps, 1 damaged line; wrote" in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seconds": 8100.0}, "in 2 h 15 min (100.0 Hz)"),
        ({"readings": 1, "rows": 1, "rate_hz": None, "seconds": 0.0}, "1 reading of 6 channels"),
        ({"channels": ("a",)}, "of 1 channel in"),
        ({"size": 73_166}, "(73.2 kB)"),
        ({"size": 5_300_000_000}, "(5.3 GB)"),
        ({"size": 130}, "(130 bytes)"),
        ({"repeated_times": 3001}, "train and quantize will refuse the file"),
    ],
)
def test_figures_are_written_as_people_do(changes: dict[str, object], words: str) -> None:
    assert words in " ".join(summary(**changes))


def test_a_wrong_rate_is_said_in_both_units() -> None:
    assert rate_warning(0.02, 0.01) == (
        "The device says that it takes a reading every 0.01 s (100 Hz), but one comes every "
        "0.02 s (50 Hz)."
    )


def test_a_rate_that_was_asked_for_and_did_not_come() -> None:
    assert rate_warning(0.02, 0.01, asked=True).startswith(
        "The device was asked for a reading every 0.01 s (100 Hz), but one comes every 0.02 s"
    )


# Events


def test_a_silence_of_damaged_lines_is_none_of_the_device() -> None:
    silence = Silence(5.2, damaged=1200)
    assert describe_event(silence) == {"event": "silence", "seconds": 5.2, "damaged": 1200}
    assert "only 1,200 damaged frames or lines: does the device" in (format_event(silence) or "")


@pytest.mark.parametrize(("event", "line", "described"), EVENTS)
def test_events_are_told_to_people_and_programs(
    event: Event, line: str | None, described: dict[str, object]
) -> None:
    assert format_event(event) == line
    assert describe_event(event) == described


def test_every_event_has_its_words() -> None:
    assert {type(event) for event, _, _ in EVENTS} == set(Event.__args__) - {Reading}


def test_a_reading_is_no_event_to_be_told() -> None:
    assert format_event(Reading(0.0, (1.0,))) is None
    assert describe_event(Reading(0.0, (1.0,))) is None


def test_events_are_appended_as_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "earlier"}\n')
    file = EventFile(path)
    file.take(Restarted(), EPOCH_2024)
    file.take(Reading(0.0, (1.0,)), EPOCH_2024)
    assert len(path.read_text().splitlines()) == 2  # on the disk at once
    file.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[1] == {"time": "2024-01-01T00:00:00+00:00", "event": "restarted"}


def test_a_file_of_no_events_is_not_left(tmp_path: Path) -> None:
    EventFile(tmp_path / "events.jsonl").close()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine.jsonl").write_text("{}\n")
    EventFile(tmp_path / "mine.jsonl").close()
    assert (tmp_path / "mine.jsonl").read_text() == "{}\n"
    (tmp_path / "empty.jsonl").touch()  # of somebody else, as is /dev/null
    EventFile(tmp_path / "empty.jsonl").close()
    assert (tmp_path / "empty.jsonl").exists()


def test_a_flood_of_lines_is_cut_and_counted() -> None:
    written: list[str] = []
    limit = RateLimit(written.append)
    for number in range(100):
        limit.take(f"line {number}", 0.001 * number)
    assert written == [f"line {number}" for number in range(10)]
    limit.take("later", 60.0)
    assert written[10:] == ["(90 more such lines)", "later"]
    for number in range(30):
        limit.take(f"again {number}", 60.0)
    limit.close()
    assert written[-2:] == ["again 8", "(21 more such lines)"]
    limit.close()
    assert written[-1] == "(21 more such lines)"


# Options


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("60s", 60), ("10m", 600), ("10 min", 600), ("1.5h", 5400), ("2d", 172_800)],
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == pytest.approx(seconds)
    assert Duration().convert(seconds / 1.0, None, None) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5s", "ten", "5 parsecs", "1..5s", "1e999s", "nan"])
def test_no_durations(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no duration such as 60s, 10m or 2h"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "period"),
    [("50", 0.02), ("50Hz", 0.02), ("50 hz", 0.02), ("20ms", 0.02), ("5min", 300), ("2s", 2)],
)
def test_rates_and_periods(text: str, period: float) -> None:
    assert Period().convert(text, None, None) == pytest.approx(period)
    assert Period().convert(0.5, None, None) == 0.5


@pytest.mark.parametrize("text", ["", "0", "0Hz", "-1", "fast", "1kHz", "1e-999Hz"])
def test_no_rates(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no rate such as 50Hz, nor a period"):
        Period().convert(text, None, None)
