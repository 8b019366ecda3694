"""`edgelstm evaluate` as a process of its own, beside `score`, and its picture."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.evaluation.judging import DETECTOR, Series, Track
from edgelstm.evaluation.labels import from_column
from edgelstm.evaluation.plot import Drawing, draw

ARTIFACT = Path(__file__).parents[1] / "data/tiny.tflite"
ROWS, FIRST = 3000, 500
EVENTS = ((900, 960), (1500, 1600), (2500, 2540))


def edgelstm(*arguments: str | int | Path, fail: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgelstm", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == fail, done.stderr
    return done


def figures(*arguments: str | int | Path) -> Any:
    return json.loads(edgelstm("evaluate", *arguments, "--json").stdout)


@pytest.fixture(scope="module")
def pump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Readings like those that `tiny` was trained on; noise of another kind in the events."""
    rng = np.random.default_rng(3)
    t = np.arange(ROWS)
    waves = np.stack([np.sin(t / 8), np.sin(t / 5 + 1)], axis=1) + rng.normal(0, 0.1, (ROWS, 2))
    label = np.zeros(ROWS, int)
    for start, stop in EVENTS:
        waves[start:stop] += rng.normal(0, 1.5, (stop - start, 2))
        label[start:stop] = 1
    waves[600:604] += 2  # a false alarm
    values = waves * [3, 1] + [20, -5]
    first = np.datetime64("2026-03-01T00:00:00")
    lines = [
        f"{first + np.timedelta64(60 * row, 's')},{flow:.5f},{level:.5f},{label[row]}"
        for row, (flow, level) in enumerate(values)
    ]
    path = tmp_path_factory.mktemp("pump") / "pump.csv"
    path.write_text("\n".join(["time,flow,level,anomaly", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def judged(pump: Path) -> Any:
    return figures(ARTIFACT, pump, "--labels", "anomaly", "--from-row", FIRST)


@pytest.fixture(scope="module")
def scores(pump: Path) -> Path:
    path = pump.parent / "scores.csv"
    edgelstm("score", ARTIFACT, pump, "--from-row", FIRST, "-o", path)
    return path


def test_figures_are_those_of_the_alerts_that_score_gives(scores: Path, judged: Any) -> None:
    with scores.open() as file:
        alarm = [row["alert"] == "1" for row in csv.DictReader(file)]
    onsets = [FIRST + k for k, is_open in enumerate(alarm) if is_open and not (k and alarm[k - 1])]
    anomalous = [any(a <= row < b for a, b in EVENTS) for row in range(FIRST, ROWS)]
    detector = judged["methods"]["detector"]
    assert detector["alerts"] == len(onsets) >= 2
    assert detector["found"] == sum(any(a <= row < b for row in onsets) for a, b in EVENTS) >= 2
    assert detector["false_alarms"] == sum(not anomalous[row - FIRST] for row in onsets)
    hits = sum(a and b for a, b in zip(alarm, anomalous, strict=True))
    assert detector["missed_alarm_rate"] == pytest.approx(100 * (1 - hits / sum(anomalous)))
    assert detector["false_alarm_rate"] == pytest.approx(
        100 * (sum(alarm) - hits) / (len(alarm) - sum(anomalous))
    )
    assert detector["vus_pr"] > judged["methods"]["random"]["vus_pr"] + 0.3


def test_scores_of_a_file_are_judged_like_the_artifact_that_made_them(
    pump: Path, scores: Path, judged: Any
) -> None:
    detector = judged["methods"]["detector"]
    alone = figures("--scores", scores, "--labels", f"{pump}:anomaly")
    assert alone["methods"]["detector"] == detector
    assert alone["methods"]["random"] == judged["methods"]["random"]
    assert "ridge" not in alone["methods"]
    assert "--columns" in alone["remarks"][0]
    beside = figures("--scores", scores, pump, "--labels", "anomaly", "--columns", "flow,level")
    assert beside["methods"]["detector"] == detector
    assert beside["methods"]["ridge"] == judged["methods"]["ridge"]
    assert beside["files"][0]["from_row"] == FIRST


def test_same_recording_twice_counts_twice(pump: Path, judged: Any) -> None:
    twice = figures(ARTIFACT, pump, pump, "--labels", "anomaly", "--from-row", FIRST)
    both, once = twice["methods"], judged["methods"]
    assert both["detector"]["found"] == 2 * once["detector"]["found"]
    for method in ("detector", "ridge", "clock", "always_on"):
        assert both[method]["j"] == pytest.approx(once[method]["j"])
        assert both[method]["vus_pr"] == pytest.approx(once[method]["vus_pr"])
    assert [file["figures"] for file in twice["files"]] == [judged["files"][0]["figures"]] * 2


def test_one_sentence_on_standard_error_and_nothing_else(pump: Path) -> None:
    done = edgelstm("evaluate", ARTIFACT, pump, "--labels", "wrong", fail=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"Error: {pump} has no column 'wrong'")
    assert done.stdout == ""


def test_loads_no_tensorflow(pump: Path) -> None:
    program = (
        "import sys; from edgelstm.cli import main; "
        "main(sys.argv[1:], standalone_mode=False); "
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "evaluate", ARTIFACT, pump, "--labels", "anomaly"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "edgelstm" in loaded
    assert loaded.isdisjoint({"tensorflow", "keras", "matplotlib"})


# The picture


def test_picture(pump: Path, tmp_path: Path) -> None:
    picture = tmp_path / "pump.png"
    arguments = (ARTIFACT, pump, "--labels", "anomaly", "--from-row", FIRST, "--plot", picture)
    done = edgelstm("evaluate", *arguments)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"Wrote {picture}." in done.stdout
    assert "exists already" in edgelstm("evaluate", *arguments, fail=True).stderr
    edgelstm("evaluate", *arguments, "--force")


@pytest.mark.parametrize(("rows", "channels", "alerts"), [(12, 1, 1), (9000, 6, 60), (50, 0, 0)])
def test_picture_of_any_size(tmp_path: Path, rows: int, channels: int, alerts: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros(rows)
    labels[rows // 2 : rows // 2 + 5] = 1
    labels[: rows // 10] = np.nan
    scores = rng.random(rows) ** 8
    scores[3] = np.nan
    alarm = np.zeros(rows, bool)
    alarm[:: max(rows // max(alerts, 1), 2)] = alerts > 0
    times = np.arange(rows, dtype=np.float64)
    series = Series(
        "x", times, from_column(labels, "x"), 1.0, {DETECTOR: Track(alarm, None, scores)}
    )
    values = rng.random((rows, channels)) if channels else None
    names = tuple(f"a channel with a long name, number {k}" for k in range(channels))
    draw(series, Drawing(values, names, scores + 1, scores), "x", tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 5000
