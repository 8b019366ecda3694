from __future__ import annotations

import dataclasses
import io
import sys
from pathlib import Path

import click
import pytest

from edgelstm.artifact import Artifact
from edgelstm.commands.console import (
    LiveLine,
    Percentage,
    ProgressLine,
    Rows,
    format_budget,
    format_runtimes,
    read_recording,
)
from edgelstm.errors import RecordingError
from edgelstm.sinks.log import format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.025, "0.025 s"),
        (1.5, "1.5 s"),
        (40, "40 s"),
        (60, "1 min"),
        (1500, "25 min"),
        (3599, "1 h"),
        (3600, "1 h"),
        (8100, "2 h 15 min"),
        (86_399, "1 d"),
        (86_400, "1 d"),
        (3 * 86_400 + 4 * 3600 + 59, "3 d 4 h"),
        (76 * 86_400, "76 d"),
    ],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (1 / 7, "one false alarm in 7 days"),
        (0.5, "one false alarm in 2 days"),
        (0.003, "one false alarm in 333 days"),
        (2, "2 false alarms a day"),
        (2.5, "2.5 false alarms a day"),
        (24, "24 false alarms a day"),
    ],
)
def test_format_budget(budget: float, text: str) -> None:
    assert format_budget(budget) == text


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (":", (None, None)),
        ("0:750", (0, 750)),
        ("750:", (750, None)),
        (":750", (None, 750)),
        ("-100:", (-100, None)),
    ],
)
def test_rows(text: str, rows: tuple[int | None, int | None]) -> None:
    assert Rows().convert(text, None, None) == rows
    assert Rows().convert(rows, None, None) == rows  # a default that is converted already


@pytest.mark.parametrize("text", ["", "750", "a:b", "1:2:3", "1.5:", "0-750"])
def test_bad_rows(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not of the form START:STOP, such as 0:750"):
        Rows().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("1%", 0.01),
        ("0.5%", 0.005),
        ("99.9%", 0.999),
        ("0.01", 0.01),
        ("5 %", 0.05),
        ("1e-3", 1e-3),
    ],
)
def test_percentage(text: str, share: float) -> None:
    assert Percentage().convert(text, None, None) == pytest.approx(share)
    assert Percentage().convert(share, None, None) == share  # a default that is converted already


@pytest.mark.parametrize("text", ["", "%", "one", "1%%", "1,5%"])
def test_percentage_that_is_no_number(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is no share such as 1% or 0\.01"):
        Percentage().convert(text, None, None)


@pytest.mark.parametrize("text", ["0", "0%", "1", "5", "100%", "-1%", "nan", "inf%"])
def test_percentage_of_nothing_or_all(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not between 0 and 100%"):
        Percentage().convert(text, None, None)


@pytest.mark.parametrize(
    ("runtimes", "text"),
    [
        ({"ai-edge-litert": "2.1.0"}, "ai-edge-litert 2.1.0 or later"),
        ({"a": "1", "b": "2"}, "a 1 or later, b 2 or later"),
        ({}, "none that was tried"),
    ],
)
def test_format_runtimes(tiny: Artifact, runtimes: dict[str, str], text: str) -> None:
    assert format_runtimes(dataclasses.replace(tiny.manifest, runtimes=runtimes)) == text


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_live_line_is_written_over_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    line = LiveLine()
    for text in ("one", "one", "two"):
        line.show(text)
    line.clear()
    line.clear()
    assert terminal.getvalue() == "\r\x1b[K  one\r\x1b[K  two\r\x1b[K"


def test_live_line_is_silent_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    line = LiveLine()
    line.show("one")
    line.clear()
    assert output.getvalue() == ""


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = ProgressLine()
    progress("training", 1, 2)
    progress.done()
    assert f"[{'#' * 12}{'.' * 12}] training" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_progress_is_a_line_per_stage_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    progress = ProgressLine()
    for stage, done in (("a", 0), ("a", 1), ("b", 0)):
        progress(stage, done, 2)
    progress.done()
    progress("b", 1, 2)
    assert output.getvalue() == "  a ...\n  b ...\n"


def test_read_recording_takes_the_options(tmp_path: Path) -> None:
    file = tmp_path / "pump.csv"
    file.write_text("when,a,b,c\n" + "".join(f"{10 * i},{i},{2 * i},{3 * i}\n" for i in range(9)))
    recording = read_recording(file, "c, a", "when", 1.0, (2, 5))
    assert recording.channels == ("c", "a")
    assert recording.values.tolist() == [[6, 2], [9, 3], [12, 4]]
    assert recording.timestamps.tolist() == [20, 30, 40]
    with pytest.raises(RecordingError, match="has 9 rows"):
        read_recording(file, None, "when", 1.0, (9, None))


def test_progress_is_a_line_per_stage_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ProgressLine()
    for stage in ("reading", "training"):
        for done in range(10):
            progress(stage, done, 10)
    progress.done()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["  reading ...", "  training ..."]
