from __future__ import annotations

import dataclasses
import importlib
import io
import json
import math
import os
import pty
import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgelstm.alert import Alert, AlertChange, AlertEvent, AlertKind, ChannelShare, Severity
from edgelstm.artifact import Artifact
from edgelstm.errors import ConfigurationError, SinkError
from edgelstm.feed import SensorInfo
from edgelstm.manifest import ChannelLimits
from edgelstm.notice import Acknowledgement, AlertBook, Notice
from edgelstm.pipeline import Verdict
from edgelstm.reading import Reading
from edgelstm.secret import Secret
from edgelstm.sinks import Sink, SinkContext, SinkOptions
from edgelstm.sinks.jsonl import JsonlConfig, JsonlSink
from edgelstm.sinks.log import LogConfig, LogSink, format_notice, limits_by_name, painter, summary
from edgelstm.sinks.registry import SINKS, find_sink, sink_types
from edgelstm.sinks.templates import FIELDS
from edgelstm.sinks.webhook import sign

CHANNELS = tuple(map(ChannelShare, ["temperature", "flow", "level", "speed"], [0.71, 0.2, 0.06, 0]))
ANOMALY = Alert(1, AlertKind.ANOMALY, 1000.0, 12.0, CHANNELS)
FAULT = Alert(2, AlertKind.SENSOR_FAULT, 1000.0, None, (ChannelShare("flow", 1.0),), "flat")
NOTICE = Notice("a-1/1", "a-1", "opened", 1000.0, "here", "pump", ANOMALY, "ALERT 1 opened", 12, 9)


def verdict(event: AlertEvent, *alerts: Alert, at: float = 1000.0, score: float = 12.0) -> Verdict:
    changes = tuple(AlertChange(event, alert) for alert in alerts)
    return Verdict(Reading(at, (9.0,)), None, None, score, 9.0, True, changes)


def opens(*alerts: Alert) -> Verdict:
    return verdict(AlertEvent.OPENED, *alerts)


def closes(alert: Alert, peak: float | None) -> Verdict:
    closed = replace(alert, peak_score=peak, closed=1200.0)
    return verdict(AlertEvent.CLOSED, closed, at=1200.0, score=2.0)


def lines_of(*verdicts: Verdict, limits: dict[str, ChannelLimits] | None = None) -> list[str]:
    lines: list[str] = []
    book = AlertBook("here", "pump", lambda change, on: summary(change, on, limits))
    sink = LogSink(LogConfig(), SinkContext(), lines.append)
    for each in verdicts:
        for notice in book.take(each):
            sink.send(notice)
    sink.close()
    return lines


def test_log_writes_a_line_per_event() -> None:
    quiet = Verdict(Reading(900.0, (1.0,)), None, None, 1.0, 9.0)
    assert lines_of(quiet, opens(ANOMALY), quiet, closes(ANOMALY, 20.0)) == [
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


def test_a_score_that_rises_and_a_critical_one_are_told() -> None:
    risen = replace(ANOMALY, peak_score=84.4, severity=Severity.CRITICAL)
    assert lines_of(opens(replace(ANOMALY, severity=Severity.CRITICAL)))[0].startswith(
        "1970-01-01 00:16:40  ALERT 1 opened   score 12.0 > 9.0, critical  temperature 71 %"
    )
    assert lines_of(verdict(AlertEvent.ESCALATED, risen, at=1060.0)) == [
        "1970-01-01 00:17:40  ALERT 1 is worse   score 84.4, critical  "
        "temperature 71 %, flow 20 %, level 6 %"
    ]
    assert lines_of(verdict(AlertEvent.UPDATED, risen, at=1060.0)) == [
        "1970-01-01 00:17:40  alert 1 rose     score 84.4, critical  "
        "temperature 71 %, flow 20 %, level 6 %"
    ]


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
    severe = Severity.CRITICAL
    silent = Alert(1, AlertKind.SENSOR_FAULT, 1000.0, None, CHANNELS[:2], "missing", None, severe)
    assert lines_of(opens(silent), verdict(AlertEvent.UPDATED, silent)) == [
        "1970-01-01 00:16:40  SENSOR FAULT 1 opened  temperature, flow: missing, critical",
        "1970-01-01 00:16:40  sensor fault 1 goes on  temperature, flow: missing, critical",
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


def test_the_sensor_is_named_where_there_are_several() -> None:
    infos = [SensorInfo(name, "a", "0" * 64, (), (), 1.0) for name in ("pump", "fan")]
    lines: list[str] = []
    watched = infos[:1]
    sink = LogSink(LogConfig(), SinkContext(sensors=lambda: tuple(watched)), lines.append)
    sink.send(NOTICE)
    watched.append(infos[1])  # a configuration that was read again
    sink.send(NOTICE)
    assert lines == [
        "1970-01-01 00:16:40  ALERT 1 opened",
        "1970-01-01 00:16:40  pump  ALERT 1 opened",
    ]
    assert format_notice(replace(NOTICE, sensor=""), named=True) == lines[0]


def test_an_acknowledgement_says_who_and_what() -> None:
    seen = replace(
        NOTICE, event="acknowledged", time=1300.0, acknowledged=Acknowledgement(1300.0, "ann")
    )
    assert format_notice(seen) == "1970-01-01 00:21:40  alert 1 acknowledged by ann"
    noted = replace(seen, acknowledged=Acknowledgement(1300.0, "ann", "on my way"))
    assert format_notice(noted).endswith("  alert 1 acknowledged by ann: on my way")
    odd = replace(NOTICE, summary="ALERT 1  a\x1b[2J\nb\ud800")
    assert format_notice(odd).endswith("  ALERT 1  a?[2J?b?")


def test_lines_have_colours_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    leader, follower = pty.openpty()
    with os.fdopen(leader, "rb"), os.fdopen(follower, "w") as terminal:
        paint = painter(terminal)
        red = paint("[red]1970-01-01[/]  x" + " wide" * 100, "bold red")
        assert red == "\x1b[1;31m[red]1970-01-01[/]  x" + " wide" * 100 + "\x1b[0m"
        monkeypatch.setenv("NO_COLOR", "1")
        assert painter(terminal)("x", "bold red") == "x"
        monkeypatch.delenv("NO_COLOR")
        monkeypatch.setenv("TERM", "dumb")
        assert painter(terminal)("x", "bold red") == "x"
    assert painter(io.StringIO())("x", "bold red") == "x"


def test_a_stream_that_is_closed_is_an_error_of_the_sink(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    LogSink(LogConfig(), SinkContext()).send(NOTICE)
    LogSink(LogConfig("stderr"), SinkContext()).send(NOTICE)
    out, err = capsys.readouterr()
    assert out == err == "1970-01-01 00:16:40  ALERT 1 opened\n"
    gone = io.StringIO()
    monkeypatch.setattr(sys, "stdout", gone)
    sink = LogSink(LogConfig(), SinkContext(), None)
    sink.send(NOTICE)
    gone.close()
    with pytest.raises(SinkError, match="cannot be written"):
        sink.send(NOTICE)


def jsonl(path: Path, max_megabytes: float = 10.0, keep: int = 5) -> JsonlSink:
    return JsonlSink(JsonlConfig(path, max_megabytes, keep), SinkContext())


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def numbered(number: int) -> Notice:
    return replace(NOTICE, id=f"a-{number}/1")


def test_jsonl_appends_the_notice(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    path.write_text('{"event": "older"}\n')
    sink = JsonlSink(JsonlConfig(Path("alerts.jsonl")), SinkContext(directory=tmp_path))
    sink.send(NOTICE)
    older, opened = map(json.loads, path.read_text().splitlines())  # before it is closed
    assert older == {"event": "older"}
    assert opened == NOTICE.to_dict()
    assert Notice.from_dict(opened).id == NOTICE.id
    sink.close()
    sink.close()


def test_jsonl_makes_no_file_before_there_is_an_alert(tmp_path: Path) -> None:
    sink = jsonl(tmp_path / "alerts.jsonl")
    assert list(tmp_path.iterdir()) == []
    sink.open()
    assert [path.name for path in tmp_path.iterdir()] == ["alerts.jsonl"]
    sink.close()


def test_jsonl_puts_full_files_by(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    size = len(json.dumps(numbered(10).to_dict(), ensure_ascii=False)) + 1
    sink = jsonl(path, max_megabytes=2 * size / 1e6, keep=2)
    for number in range(10, 19):
        sink.send(numbered(number))
    sink.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["alerts.jsonl", "alerts.jsonl.1", "alerts.jsonl.2"]
    assert [ids(file) for file in files] == [
        ["a-18/1"],
        ["a-16/1", "a-17/1"],
        ["a-14/1", "a-15/1"],
    ]
    small = jsonl(tmp_path / "small", max_megabytes=1e-6, keep=0)
    for number in range(10, 13):
        small.send(numbered(number))
    small.close()
    assert ids(tmp_path / "small") == ["a-12/1"]
    assert not (tmp_path / "small.1").exists()


def test_jsonl_without_a_bound_is_never_put_by(tmp_path: Path) -> None:
    sink = jsonl(tmp_path / "alerts.jsonl", max_megabytes=0)
    for number in range(10):
        sink.send(numbered(number))
    sink.close()
    assert len(ids(tmp_path / "alerts.jsonl")) == 10


def test_jsonl_goes_on_after_its_file_was_renamed_or_deleted(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    sink = jsonl(path)
    sink.send(numbered(1))
    path.rename(tmp_path / "by-logrotate")
    path.touch()
    sink.send(numbered(2))
    path.unlink()
    sink.send(numbered(3))
    sink.close()
    assert ids(tmp_path / "by-logrotate") == ["a-1/1"]
    assert ids(path) == ["a-3/1"]


def test_jsonl_begins_a_line_after_one_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    path.write_text('{"id": "cut o')
    sink = jsonl(path)
    sink.send(NOTICE)
    sink.close()
    cut, whole = path.read_text().splitlines()
    assert cut == '{"id": "cut o'
    assert json.loads(whole) == NOTICE.to_dict()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that takes a part of a line only; Python ignores SIGXFSZ."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_jsonl_leaves_no_half_line_on_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    sink = jsonl(path)
    sink.send(numbered(1))
    before = path.read_bytes()
    with files_of_at_most(len(before) + 20), pytest.raises(SinkError, match="see to its disk"):
        sink.send(numbered(2))
    assert path.read_bytes() == before
    sink.send(numbered(2))
    sink.close()
    assert ids(path) == ["a-1/1", "a-2/1"]


def test_jsonl_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    path = tmp_path / "no" / "alerts.jsonl"
    with pytest.raises(SinkError, match=f"{path} \\(No such file or directory\\)"):
        jsonl(path).open()
    with pytest.raises(SinkError, match="Is a directory"):
        jsonl(tmp_path).send(NOTICE)


@pytest.mark.parametrize(
    ("size", "keep", "message"),
    [(-1.0, 1, "max_megabytes"), (math.nan, 1, "max_megabytes"), (1.0, -1, "keep")],
)
def test_jsonl_refuses_bounds_that_make_no_sense(size: float, keep: int, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        JsonlConfig(Path("x"), size, keep)


PLUGIN = """
from dataclasses import dataclass
from edgelstm.sinks import Sink

class Pager(Sink):
    @dataclass(frozen=True)
    class Config:
        number: str = ""

    def send(self, notice):
        pass

class Bare(Sink):
    def send(self, notice):
        pass

class Mute(Sink):
    Config = Pager.Config

class Odd:
    pass

number = 42
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(site: Path, name: str, source: str = PLUGIN, **entries: str) -> None:
    """Puts a distribution where Python finds it, as pip would."""
    module = name.replace("-", "_")
    (site / f"{module}.py").write_text(source)
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{kind} = {module}:{target}" for kind, target in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[edgelstm.sinks]", *lines, ""]))
    sys.modules.pop(module, None)
    importlib.invalidate_caches()


@pytest.mark.parametrize("name", SINKS)
def test_every_sink_of_ours_is_found(name: str) -> None:
    found = find_sink(name)
    assert issubclass(found, Sink)
    assert found.__name__ == SINKS[name][1]


def test_a_plug_in_brings_a_sink(site: Path) -> None:
    install(site, "edgelstm-bare", bare="Bare")
    install(site, "edgelstm-pager", pager="Pager", log="Pager")
    assert sink_types() == (*SINKS, "bare", "pager")
    found = find_sink("pager")
    assert found(found.Config("112"), SinkContext()).config.number == "112"
    assert find_sink("log") is LogSink  # no plug-in takes a name of ours


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("raise RuntimeError('no modem')", "x", r"cannot be loaded \(RuntimeError: no modem\): re"),
        (PLUGIN, "Absent", "cannot be loaded"),
        (PLUGIN, "Odd", "gives something else than a class of edgelstm.sinks.Sink: tell its auth"),
        (PLUGIN, "number", "gives something else"),
        (PLUGIN, "Bare", "lacks a dataclass Config of its options: tell its author"),
        (PLUGIN, "Mute", "lacks the method send: tell its author"),
    ],
)
def test_a_plug_in_that_is_broken_is_named(
    site: Path, source: str, target: str, message: str
) -> None:
    install(site, "edgelstm-pager", source, pager=target)
    with pytest.raises(
        ConfigurationError,
        match=f"The plug-in edgelstm-pager, which brings the sink pager, {message}",
    ):
        find_sink("pager")


PAGE = (Path(__file__).parents[2] / "docs/alerts.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_documented_plug_in_works(site: Path) -> None:
    (source,) = (block for block in blocks("python") if "PagerSink" in block)
    install(site, "edgelstm-pager", source, pager="PagerSink")
    found = find_sink("pager")
    device = site / "modem"
    found(found.Config(str(device)), SinkContext()).send(NOTICE)
    assert device.read_text() == "ATD112;ALERT 1 opened\n"
    with pytest.raises(SinkError, match="cannot be reached"):
        found(found.Config(str(site)), SinkContext()).send(NOTICE)
    with pytest.raises(ConfigurationError, match="digits"):
        found.Config("x", "no number")


def test_the_documented_notice_is_one() -> None:
    (block,) = blocks("json")
    data = json.loads(block)
    assert Notice.from_dict(data).to_dict() == data
    (table,) = re.findall(r"## A notice\n.*?\n\|---\|---\|\n(.*?)\n\n", PAGE, re.DOTALL)
    names = [re.findall("`([a-z_]+)`", row.split("|")[1]) for row in table.splitlines()]
    assert sorted(name for row in names for name in row) == sorted(data)


def test_the_documented_signature_is_verified() -> None:
    (code,) = (block for block in blocks("python") if "genuine" in block)
    scope: dict[str, Any] = {}
    exec(code, scope)  # noqa: S102  # as a reader would
    now = int(time.time())
    header = sign(Secret("key"), b"{}", now)
    assert scope["genuine"](header, b"{}", "key")
    assert not scope["genuine"](header, b"{ }", "key")
    assert not scope["genuine"](header, b"{}", "other")
    assert not scope["genuine"](sign(Secret("key"), b"{}", now - 1000), b"{}", "key")


@pytest.mark.parametrize("name", ["log", "jsonl", "webhook", "command", "syslog"])
def test_the_page_has_every_option_with_its_default(name: str) -> None:
    section = PAGE.split(f"\n### `{name}`\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| `([a-z_]+)` \|([^|]*)\|", section, re.M)
    options = {option.name: option for option in dataclasses.fields(find_sink(name).Config)}
    assert [row[0] for row in rows] == list(options)
    for option, shown in rows:
        default = options[option].default
        if isinstance(default, str | int | float) and default:
            text = default if isinstance(default, str) else f"{default:g}"
            assert shown.strip("` ") == text


def test_the_page_has_every_field_of_a_custom_body() -> None:
    assert set(re.findall(r"`\$\{([a-z_]+)\}`", PAGE)) == set(FIELDS)


def test_two_plug_ins_with_one_sink_are_named(site: Path) -> None:
    install(site, "edgelstm-one", pager="Pager")
    install(site, "edgelstm-two", pager="Pager")
    with pytest.raises(ConfigurationError, match="edgelstm-one and edgelstm-two both bring the"):
        find_sink("pager")


def test_a_type_that_there_is_not_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="'web-hook'; did you mean 'webhook'"):
        find_sink("web-hook")
    with pytest.raises(ConfigurationError, match="'zzz'; there are log, jsonl, mqtt"):
        find_sink("zzz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"events": ("open",)}, "'events' has 'open', which no alert has; there are opened, upda"),
        ({"events": ()}, "'events' would take none"),
        ({"quiet_hours": "22-6"}, "'22-6'"),
        (
            {"events": ("opened",), "minimum_severity": Severity.CRITICAL},
            "opened without escalated; an alert may become critical after it was opened",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SinkOptions("log", **options)  # type: ignore[arg-type]
