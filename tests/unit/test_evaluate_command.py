from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from edgelstm.cli import main
from edgelstm.evaluation.plot import _shown, most_telling

ROWS, FIRST = 900, 300  # FIRST: the first row that is judged
EVENTS = ((500, 530), (700, 740))
START = np.datetime64("2026-03-01T00:00:00")


def values(seed: int = 3) -> NDArray[np.float64]:
    """What `tiny` was trained on, with noise of another kind in the events."""
    rng = np.random.default_rng(seed)
    t = np.arange(ROWS)
    waves = np.stack([np.sin(t / 8), np.sin(t / 5 + 1)], axis=1) + rng.normal(0, 0.1, (ROWS, 2))
    for start, stop in EVENTS:
        waves[start:stop] += rng.normal(0, 1.5, (stop - start, 2))
    return np.asarray(waves * [3, 1] + [20, -5])


def time(row: int) -> str:
    return str(START + np.timedelta64(60 * row, "s"))


def write(path: Path, labels: Sequence[float | str], rows: slice = slice(None)) -> Path:
    lines = ["time,flow,level,anomaly"]
    lines += [
        f"{time(row)},{flow:.5f},{level:.5f},{label}"
        for row, ((flow, level), label) in enumerate(zip(values(), labels, strict=True))
    ]
    path.write_text("\n".join([lines[0], *lines[1:][rows]]) + "\n")
    return path


def truth() -> list[float | str]:
    labels: list[float | str] = [0] * ROWS
    for start, stop in EVENTS:
        labels[start:stop] = [1] * (stop - start)
    return labels


@pytest.fixture(scope="module")
def pump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("pump") / "pump.csv", truth())


@pytest.fixture(scope="module")
def windows(pump: Path) -> Path:
    path = pump.parent / "windows.json"
    spans = [[time(start - 10), time(stop + 9)] for start, stop in EVENTS]
    path.write_text(json.dumps({"realPumps/pump.csv": spans, "realPumps/fan.csv": []}))
    return path


def run(*arguments: str | int | Path) -> Result:
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def figures(*arguments: str | int | Path) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def judged(pump: Path) -> Any:
    artifact = Path(__file__).parents[1] / "data/tiny.tflite"
    return figures(artifact, pump, "--labels", "anomaly", "--from-row", str(FIRST))


def test_artifact_against_a_column(judged: Any) -> None:
    assert set(judged["methods"]) == {"detector", "ridge", "random", "clock", "always_on"}
    detector = judged["methods"]["detector"]
    assert (detector["events"], detector["found"], detector["false_alarms"]) == (2, 2, 0)
    assert 0 <= detector["delay_readings"] <= 10
    assert detector["j"] > judged["methods"]["random"]["j"] + 50
    assert judged["methods"]["ridge"]["found"] == 2
    (file,) = judged["files"]
    assert (file["name"], file["readings"], file["from_row"]) == ("pump.csv", ROWS - FIRST, FIRST)
    assert judged["budget_per_day"] == pytest.approx(1 / 7)


def test_windows_by_the_name_of_the_file(
    tiny_path: Path, pump: Path, windows: Path, tmp_path: Path
) -> None:
    times = tmp_path / "times.json"
    times.write_text(json.dumps({"realPumps/pump.csv": [time(500), time(700)]}))
    found = figures(
        tiny_path, pump, "--labels", windows, "--label-times", times, "--from-row", FIRST
    )
    first = found["files"][0]["events"][0]
    assert first["delay_readings"] == 10 + first["after_time_s"] / 60
    assert found["methods"]["detector"]["found"] == 2


def test_nothing_labelled_if_that_is_said(tiny_path: Path, pump: Path) -> None:
    result = run(tiny_path, pump, "--labels", "none", "--from-row", FIRST)
    assert result.exit_code == 0
    assert "0 labelled events" in result.stdout
    assert "false per day" in result.stdout
    assert "VUS-PR" not in result.stdout


def test_table_says_what_the_ridge_was_fitted_on(tiny_path: Path, pump: Path) -> None:
    assert "No ridge floor: " in run(tiny_path, pump, "--labels", "anomaly").stdout
    early = run(tiny_path, pump, "--labels", "anomaly", "--from-row", "100").stdout
    assert "needs 155 readings to be fitted on, and there are 100" in early


def write_scores(path: Path, header: str, columns: Sequence[Sequence[Any]]) -> Path:
    rows = zip(*columns, strict=True)
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_scores_of_another_tool(tmp_path: Path) -> None:
    path = write_scores(
        tmp_path / "other.csv",
        "timestamp,score,threshold,label",
        [range(6), [-1, 3, 5, "", 5, 0], [2, 2, 4, 4, 9, 2], [0, 0, 1, 1, 0, 0]],
    )
    found = figures("--scores", path, "--labels", "label", "--buffer", "0")
    detector = found["methods"]["detector"]
    # One alert in rows 1 and 2: it was open when the event began.
    assert (detector["alerts"], detector["found"], detector["already_open"]) == (1, 0, 1)
    assert detector["false_alarm_rate"] == 25
    # Row 3 has the score of row 2, which row 4 has, too.
    assert detector["auc_roc"] == pytest.approx((4 + 4 - 2 * 0.5) / 8)


def test_scores_without_alerts(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "s.csv", "score,label", [[1, 2, 3, 4], [0, 0, 0, 1]])
    result = run("--scores", path, "--labels", "label")
    assert "AUC-PR" in result.stdout
    assert "Events found" in result.stdout  # of the floors
    assert "only its scores are judged" in " ".join(result.stdout.split())


# What does not fit


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("FILE", "--labels", "wrong"), "has no column 'wrong'; its columns are time, flow"),
        (("FILE", "--labels", "flow"), "labels are 0 (normal) and 1 (anomalous)"),
        (("FILE", "--labels", "none.json"), "none.json cannot be read"),
        (("FILE", "--labels", "PUMP"), "say which of its columns holds the labels"),
        (("FILE", "--labels", "anomaly", "--from-row", "800"), "is normal by --labels anomaly"),
        (("FILE", "--labels", "anomaly", "--from-row", "9999"), "--from-row"),
        (("FILE", "--labels", "anomaly", "--series", "x"), "belong to labels in a .json file"),
        (("FILE", "--labels", "anomaly", "--columns", "flow"), "--columns goes with --scores"),
        (("FILE", "--labels", "anomaly", "--plot", "x.jpg"), "does not end in .png"),
        (("FILE", "FILE", "--labels", "anomaly", "--plot", "x.png"), "give one FILE"),
        (("FILE", "FILE", "--labels", "PUMP:anomaly"), "the labels of one recording"),
        (("--labels", "anomaly"), "nothing to judge"),
        (
            ("FILE", "--labels", "none", "--false-alarms-per-day", "1e9"),
            "ask for fewer false alarms",
        ),
    ],
)
def test_one_sentence(tiny_path: Path, pump: Path, arguments: Sequence[str], words: str) -> None:
    given = [a.replace("PUMP", str(pump)) if a != "FILE" else str(pump) for a in arguments]
    result = run(tiny_path, *given)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0] * ROWS, "normal by --labels anomaly, so there is nothing to find"),
        ([1] * ROWS, "anomalous by --labels anomaly, so no alert could be false"),
        ([""] * 899 + ["x"], "column 'anomaly', holds 'x', but labels are 0"),
        ([2, *[0, 1] * 449, 0], "holds 2 in row 0"),
    ],
)
def test_labels_that_do_not_do(tiny_path: Path, tmp_path: Path, labels: Any, words: str) -> None:
    path = write(tmp_path / "pump.csv", labels)
    result = run(tiny_path, path, "--labels", "anomaly")
    assert result.exit_code == 2
    assert words in result.stderr


def test_file_without_a_row_to_judge(tmp_path: Path) -> None:
    whole = write_scores(tmp_path / "s.csv", "score,label", [[1, 2, 3], [0, 1, 0]])
    empty = write_scores(tmp_path / "t.csv", "score,label", [[1, 2, 3], [1, 0, ""]])
    result = run("--scores", whole, "--scores", empty, "--labels", "label", "--from-row", 2)
    assert result.exit_code == 2
    assert "t.csv has no row with a label from row 2 on" in result.stderr
    result = run("--scores", whole, "--labels", "none", "--from-row", 3)
    assert result.exit_code == 2
    assert "s.csv has no row with a label from row 3 on" in result.stderr


def test_windows_of_another_recording(tiny_path: Path, pump: Path, tmp_path: Path) -> None:
    labels = tmp_path / "w.json"
    labels.write_text(json.dumps([["2020-01-01", "2020-01-02"]]))
    result = run(tiny_path, pump, "--labels", labels)
    assert result.exit_code == 2
    assert "lies outside pump.csv, which goes from 2026-03-01 00:00:00 to" in result.stderr


def test_scores_that_are_none_or_of_another_recording(pump: Path, tmp_path: Path) -> None:
    assert "has no column 'score'" in run("--scores", pump, "--labels", "anomaly").stderr
    path = write_scores(tmp_path / "s.csv", "time,score", [[1, 2], [3, 4]])
    result = run("--scores", path, pump, "--labels", "anomaly")
    assert "No time of s.csv is in pump.csv" in result.stderr
    late = write_scores(tmp_path / "t.csv", "time,score", [[time(5), time(5000)], [3, 4]])
    result = run("--scores", late, pump, "--labels", "anomaly")
    assert "1 of the 2 rows of t.csv have a time that pump.csv has not" in result.stderr
    bad = write_scores(tmp_path / "b.csv", "score,alert,label", [[3, 4], [0, 7], [0, 1]])
    assert "else than 0 and 1" in run("--scores", bad, "--labels", "label").stderr
    result = run("--scores", path, pump, pump, "--labels", "anomaly")
    assert "There is 1 file of scores and 2 recordings;" in result.stderr
    result = run("--scores", path, "--labels", "x", "--threshold", "spot")
    assert "options of the detection go to edgelstm score" in result.stderr


def test_channels_worth_drawing() -> None:
    rng = np.random.default_rng(0)
    scale = np.array([1, 100, 1, 0.01, 1, 1])
    residuals = rng.normal(0, scale, (200, 6))
    residuals[150:, [0, 3, 5]] *= [[30, 20, 10]]
    residuals[160, :] = np.nan
    names = list("abcdef")
    alarm = np.arange(200) >= 150
    found = most_telling(residuals, names, scale.tolist(), alarm)
    assert {"a", "d", "f"} < set(found)
    assert len(found) == 4
    assert list(found) == sorted(found)
    assert len(most_telling(residuals[:, :2], names[:2], [1, 1], np.zeros(200, bool))) == 2


def test_line_of_a_window_artifact_is_whole_but_for_gaps() -> None:
    values = np.full(300, np.nan)
    values[::3] = np.arange(100)
    values[120:150] = np.nan
    rows, breaks = _shown(values)
    assert rows.tolist() == [*range(0, 120, 3), *range(150, 300, 3)]
    assert rows[breaks].tolist() == [150]


def test_long_line_keeps_its_peaks() -> None:
    values = np.random.default_rng(0).normal(size=100_000)
    values[[777, 50_001]] = 99, -99
    rows, breaks = _shown(values)
    assert len(rows) <= 4_100
    assert {777, 50_001} <= set(rows.tolist())
    assert not len(breaks)


def test_no_line() -> None:
    rows, breaks = _shown(np.full(5, np.nan))
    assert not len(rows)
    assert not len(breaks)
