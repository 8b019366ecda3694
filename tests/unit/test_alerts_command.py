from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from outbox_notices import evidence, life, notice

from edgelstm.alert import AlertKind
from edgelstm.cli import main
from edgelstm.commands.alert_lines import sparkline
from edgelstm.outbox import FILE, Archive, Outbox

OLD, OPEN = "01aaaaaaaaaaaaaaaaaaaaaaaa", "01bbbbbbbbbbbbbbbbbbbbbb3f"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with an alert that is over and one that is open."""
    folder = tmp_path_factory.mktemp("made")
    outbox = Outbox(folder / FILE, clock=lambda: 5_000.0)
    outbox.register(["broker", "log"])
    outbox.submit(life(OLD), evidence={OLD: evidence(90)})
    outbox.submit([notice(OPEN, 1, sensor="fan", time=90_000.0)])
    assert outbox.flush(10)
    sequence, one = outbox.pending("broker")[0]
    outbox.mark("broker", sequence, one.sensor, refused="too long")
    assert outbox.flush(10)
    outbox.close()
    return folder


@pytest.fixture
def state(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / FILE).write_bytes((made / FILE).read_bytes())
    return folder


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No service of this computer is found."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr("edgelstm.commands.alerts._SYSTEM", tmp_path / "system")
    return iter([None])


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["alerts", *map(str, arguments)])


def lines(*arguments: str | Path) -> list[str]:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def refusal(*arguments: str | Path) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    return line.removeprefix("Error: ")


def test_list(state: Path) -> None:
    header, first, second = lines("list", "--state", state)
    names = "id opened sensor kind severity lasted peak / threshold seen by"
    assert " ".join(header.split()) == names
    assert first.split("  ")[0] == "bbbb3f"
    assert "1970-01-02 01:00:00  fan     anomaly  warning   open" in first
    assert "3.5 / 2" in first
    assert second.startswith("aaaaaa")
    assert "3 s" in second


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--open"], [OPEN]),
        (["--sensor", "pump"], [OLD]),
        (["--since", "1970-01-02"], [OPEN]),
        (["--since", "36500d"], [OPEN, OLD]),
        (["--since", "1h"], []),
        (["--limit", "1"], [OPEN]),
    ],
)
def test_list_what_is_asked_for(state: Path, options: list[str], expected: list[str]) -> None:
    found = json.loads("\n".join(lines("list", "--state", state, "--json", *options)))
    assert [one["alert_id"] for one in found] == expected
    if not expected:
        assert lines("list", "--state", state, *options) == ["No alerts."]


def test_show(state: Path, tmp_path: Path) -> None:
    output = tmp_path / "alert.csv"
    shown = lines("show", "01aaa", "--state", state, "--evidence", output)
    assert shown[0] == f"alert     {OLD}"
    assert "channel   flow  75 %, observed 3, predicted 1.5, residual +1.5" in shown
    assert "channel   level  25 %" in shown
    assert "seen      by nobody so far" in shown
    assert [line for line in shown if line.startswith("notice")] == [
        f"notice    1970-01-01 00:16:4{place}  {event} {OLD}"
        for place, event in ((1, "opened"), (2, "updated"), (3, "closed"))
    ]
    assert "sink      1970-01-01 01:23:20  broker  notice 1  refused: too long" in shown
    assert "evidence  90 readings, 1970-01-01 00:16:40 to 1970-01-01 00:18:09" in shown
    flow, level, score = shown[-3:]
    assert [line.split()[0] for line in (flow, level, score)] == ["flow", "level", "score"]
    header, *rows = csv.reader(output.read_text().splitlines())
    expected = evidence(90)
    assert header == ["time", "flow", "level", "flow_predicted", "level_predicted", "score",
                      "threshold"]  # fmt: skip
    assert len(rows) == 90
    assert float(rows[5][1]) == pytest.approx(expected.values[5][0], rel=1e-5)
    assert "exists already" in refusal("show", OLD, "--state", state, "--evidence", output)


def test_show_as_json(state: Path) -> None:
    data = json.loads("\n".join(lines("show", OPEN[-4:], "--state", state, "--json")))
    assert data["alert_id"] == OPEN
    assert len(data["notices"]) == 1
    assert data["deliveries"] == []


def test_notes_of_others_do_not_drive_the_terminal(state: Path) -> None:
    assert lines("ack", OPEN, "--by", "a", "--note", "b", "--state", state)
    with closing(sqlite3.connect(state / FILE)) as file, file:  # as only others write it
        file.execute("UPDATE acknowledgements SET by = ?, note = ?", ("a\x1b[2Jb", "x\ny"))
    shown = "\n".join(lines("show", OPEN, "--state", state) + lines("list", "--state", state))
    assert "\x1b" not in shown
    assert "x\\ny" in shown


def test_acknowledge(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("LOGNAME", "ann")
    assert lines("ack", "3f", OPEN, "--note", "on my way", "--state", state) == [
        "bbbb3f  acknowledged by ann"
    ]
    with Archive(state / FILE) as archive:
        seen = archive.alert(OPEN).acknowledged
    assert seen is not None
    assert (seen.by, seen.note) == ("ann", "on my way")
    assert "by ann already" in refusal("ack", OLD, OPEN, "--state", state)
    with Archive(state / FILE) as archive:
        assert archive.alert(OLD).acknowledged is None  # all or none
    assert lines("ack", "--all", "--state", state) == ["No alerts."]
    assert lines("ack", OLD, "--by", "bob", "--state", state) == ["aaaaaa  acknowledged by bob"]
    assert lines("list", "--state", state)[1].endswith("ann")


def test_acknowledge_all_open_ones(state: Path) -> None:
    assert lines("ack", "--all", "--by", "bob", "--state", state) == ["bbbb3f  acknowledged by bob"]
    for wrong in (["ack"], ["ack", "3f", "--all"]):
        assert "Name the alerts" in refusal(*wrong, "--state", state)


def test_export(state: Path, tmp_path: Path) -> None:
    table, log = tmp_path / "alerts.csv", tmp_path / "alerts.jsonl"
    assert lines("export", "-o", table, "--state", state) == [f"{table}: 2 alerts"]
    assert lines("export", "-o", log, "--open", "--state", state) == [f"{log}: 1 alert"]
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["alert_id"] for row in rows] == [OPEN, OLD]
    assert rows[1]["closed"] == "1970-01-01T00:16:43+00:00"
    assert rows[1]["channels"] == "flow 0.75; level 0.25"
    assert rows[1]["kind"] == AlertKind.ANOMALY.value
    (line,) = log.read_text().splitlines()
    assert json.loads(line)["alert_id"] == OPEN
    assert "exists already" in refusal("export", "-o", log, "--state", state)
    assert lines("export", "-o", log, "--force", "--state", state) == [f"{log}: 2 alerts"]
    assert "does not end in .csv" in refusal("export", "-o", tmp_path / "a.txt", "--state", state)


def test_which_directory(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No service has kept alerts here" in refusal("list")
    home = tmp_path / "home/edgelstm/pump"
    home.mkdir(parents=True)
    (home / FILE).write_bytes((state / FILE).read_bytes())
    assert len(lines("list")) == 3
    system = tmp_path / "system/fan"
    system.mkdir(parents=True)
    (system / FILE).write_bytes((state / FILE).read_bytes())
    assert str(home) in (text := refusal("list"))
    assert str(system) in text
    config = tmp_path / "pump.toml"
    config.write_text(f'name = "gate"\nstate_directory = "{state}"\n')
    assert len(lines("list", "--config", config)) == 3
    monkeypatch.setenv("STATE_DIRECTORY", f"{state}:/elsewhere")
    assert len(lines("list")) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "zz"], "no alert whose id begins or ends with 'zz'"),
        (["show", "01"], "may mean"),
        (["list", "--since", "yesterday"], "is no time"),
        (["list", "--config", "no.toml"], "not both"),
        (["show", OPEN, "--evidence", "{tmp}/x.csv"], "No evidence"),
    ],
)
def test_mistakes(state: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    given = [one.replace("{tmp}", str(tmp_path)) for one in arguments]
    assert words in refusal(*given, "--state", state)


def test_no_outbox(tmp_path: Path) -> None:
    assert "There are no alerts in" in refusal("list", "--state", tmp_path)
    (tmp_path / FILE).write_bytes(b"x" * 4096)
    assert "damaged" in refusal("list", "--state", tmp_path)


@pytest.mark.parametrize("name", ["list", "show", "ack", "export"])
def test_help(name: str) -> None:
    assert f"Example: edgelstm alerts {name}" in "\n".join(lines(name, "--help"))


def test_sparkline() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([1, 1, 1], "ab") == "aaa"
    assert sparkline([None, 1, float("nan"), 2], "ab") == " a b"
    assert sparkline([None], "ab") == " "
    spike = [0.0] * 1_000
    spike[777] = 9.0
    assert sparkline(spike, "ab", 10) == "a" * 7 + "b" + "a" * 2
