from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgelstm.errors import ConfigurationError, RecordingError
from edgelstm.evaluation.label_files import need_two_kinds, read_column, read_windows
from edgelstm.evaluation.labels import Event, Window, all_normal, from_column

PUMP = Path("somewhere/realPumps/pump.csv")
PAIR = ["1970-01-01 00:01:00", "1970-01-01T00:02:00+00:00"]


def write(folder: Path, content: Any, name: str = "labels.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    "content",
    [
        [PAIR],
        [[60, 120.0]],
        {"realPumps/pump.csv": [PAIR], "realPumps/fan.csv": []},
        {"pump.csv": [[60, 120]]},
        {"failures": [{"window": PAIR}]},
    ],
)
def test_forms_of_windows(tmp_path: Path, content: Any) -> None:
    assert read_windows(write(tmp_path, content), PUMP) == [Window(60, 120)]


def test_failures_say_when_they_happened(tmp_path: Path) -> None:
    content = {"failures": [{"time": "1970-01-01 00:01:30", "window": PAIR}]}
    assert read_windows(write(tmp_path, content), PUMP) == [Window(60, 120, 90)]


def test_times_of_events_from_another_file(tmp_path: Path) -> None:
    windows = write(tmp_path, {"a/pump.csv": [[60, 120], [300, 400]]})
    times = write(tmp_path, {"a/pump.csv": ["1970-01-01 00:01:30"]}, "times.json")
    found = read_windows(windows, PUMP, times_file=times)
    assert found == [Window(60, 120, 90), Window(300, 400)]


def test_folder_tells_series_of_one_name_apart(tmp_path: Path) -> None:
    path = write(tmp_path, {"a/pump.csv": [], "Pumps/pump.csv": [], "realPumps/pump.csv": [PAIR]})
    assert len(read_windows(path, PUMP)) == 1
    with pytest.raises(ConfigurationError, match=r"no one series for pump.csv; .*--series"):
        read_windows(path, Path("pump.csv"))
    assert read_windows(path, Path("pump.csv"), "a/pump.csv") == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"fan.csv": []}, "no one series for pump.csv; name it with --series: it has fan.csv"),
        ({}, "it has none at all"),
        ({"pump.csv": 3}, "holds no labels; they are"),
        ({"pump.csv": ["1970-01-01"]}, r"where a window \[start, end\] belongs"),
        ([[1, 2, 3]], r"where a window \[start, end\] belongs"),
        ([["soon", 2]], '"soon" where a time'),
        ([[True, 2]], "true where a time"),
    ],
)
def test_json_of_another_form(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read_windows(write(tmp_path, content), PUMP)


def test_series_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path, {f"{k}.csv": [] for k in range(9)})
    with pytest.raises(ConfigurationError, match=r"'x'; it has 0.csv, 1.csv, 2.csv and 6 more"):
        read_windows(path, PUMP, "x")


def test_no_json(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_windows(tmp_path / "none.json", PUMP)
    (tmp_path / "labels.json").write_text("not JSON")
    with pytest.raises(ConfigurationError, match="is not JSON"):
        read_windows(tmp_path / "labels.json", PUMP)
    (tmp_path / "labels.json").write_text("[" * 100_000)
    with pytest.raises(ConfigurationError, match="is not JSON"):
        read_windows(tmp_path / "labels.json", PUMP)


def test_column_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "pump.csv"
    path.write_text("time;anomaly;value\n10;0;1\n20;1;x\n30;;3\n40;1.0;4\n")
    labels, times = read_column(path, "anomaly", None)
    assert labels.events == (Event(1, 4),)
    assert labels.known.tolist() == [True, True, False, True]
    assert times.tolist() == [10, 20, 30, 40]
    with pytest.raises(RecordingError, match="no column 'wrong'"):
        read_column(path, "wrong", None)


@pytest.mark.parametrize(
    ("cells", "anomalous", "known"),
    [
        ("False,True,false,TRUE", [0, 1, 0, 1], [1, 1, 1, 1]),
        ("True,,True,nan", [1, 0, 1, 0], [1, 0, 1, 0]),
        ("0,1.0,,1", [0, 1, 0, 1], [1, 1, 0, 1]),
    ],
)
def test_forms_of_labels(
    tmp_path: Path, cells: str, anomalous: list[int], known: list[int]
) -> None:
    path = tmp_path / "pump.csv"
    path.write_text("\n".join(["label,x", *(f"{cell},1" for cell in cells.split(","))]))
    labels, _ = read_column(path, "label", None)
    assert labels.anomalous.astype(int).tolist() == anomalous
    assert labels.known.astype(int).tolist() == known


def test_column_of_texts(tmp_path: Path) -> None:
    path = tmp_path / "pump.csv"
    path.write_text("label,x\nok,1\nTrue,2\n")
    with pytest.raises(RecordingError, match=r"'label', holds 'ok', but labels are 0"):
        read_column(path, "label", None)


def test_labels_of_one_kind_only() -> None:
    normal, anomalous = all_normal(3), from_column([1, 1], "x")
    with pytest.raises(RecordingError, match="normal by --labels y, so there is nothing to find"):
        need_two_kinds([normal], "--labels y")
    with pytest.raises(RecordingError, match="anomalous by --labels y, so no alert could be false"):
        need_two_kinds([anomalous], "--labels y")
    need_two_kinds([normal, anomalous], "--labels y")
