from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgelstm.errors import MissingDependencyError, RecordingError
from edgelstm.parquet import read_parquet, read_recording
from edgelstm.recording import read_csv

EPOCH_2024 = 1_704_067_200  # 2024-01-01 00:00:00 UTC


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pump.parquet"


def write(file: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), file)
    return file


def refusal(file: Path, **options: Any) -> str:
    """The message with which reading the file is refused."""
    with pytest.raises(RecordingError) as caught:
        read_parquet(file, **options)
    assert str(file) in str(caught.value)
    return str(caught.value)


# What is read


def test_columns_and_times(file: Path) -> None:
    write(file, flow=[1.5, 2.5, 3.5], time=[100, 160, 220], level=[1, 2, 3])
    recording = read_parquet(file)
    assert recording.source == "pump.parquet"
    assert recording.channels == ("flow", "level")
    assert recording.values.tolist() == [[1.5, 1], [2.5, 2], [3.5, 3]]
    assert recording.timestamps.tolist() == [100, 160, 220]
    assert recording.sample_period == 60
    assert recording.values.dtype == recording.timestamps.dtype == np.float64


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York", "+05:30"])
@pytest.mark.parametrize(("unit", "ticks"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_timestamps_of_any_unit_and_zone(
    file: Path, unit: str, ticks: int, zone: str | None
) -> None:
    stamps = pa.array([(EPOCH_2024 + k) * ticks for k in (0, 2, 4)], pa.timestamp(unit, zone))
    recording = read_parquet(write(file, time=stamps, flow=[1, 2, 3]))
    assert recording.timestamps.tolist() == [EPOCH_2024, EPOCH_2024 + 2, EPOCH_2024 + 4]
    assert recording.sample_period == 2


def test_parts_of_a_second(file: Path) -> None:
    stamps = pa.array([EPOCH_2024 * 10**9 + k * 250_000_000 for k in range(4)], pa.timestamp("ns"))
    recording = read_parquet(write(file, time=stamps, flow=[1, 2, 3, 4]))
    assert recording.timestamps.tolist() == [EPOCH_2024 + k / 4 for k in range(4)]


@pytest.mark.parametrize(
    "times",
    [
        [float(EPOCH_2024), EPOCH_2024 + 86_400.0],
        [EPOCH_2024, EPOCH_2024 + 86_400],
        ["2024-01-01", "2024-01-02T00:00:00Z "],
        [str(EPOCH_2024), str(EPOCH_2024 + 86_400)],
        [date(2024, 1, 1), date(2024, 1, 2)],
        pa.array([date(2024, 1, 1), date(2024, 1, 2)], pa.date64()),
        pa.array(["2024-01-01", "2024-01-02"]).dictionary_encode(),
        [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)],
    ],
)
def test_other_kinds_of_times(file: Path, times: Any) -> None:
    recording = read_parquet(write(file, when=times, flow=[1, 2]), time_column="when")
    assert recording.timestamps.tolist() == [EPOCH_2024, EPOCH_2024 + 86_400]
    assert recording.channels == ("flow",)


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([1, 2], pa.uint8()),
        pa.array([1, 2], pa.int64()),
        pa.array([1, 2], pa.float32()),
        pa.array(np.array([1, 2], np.float16)),
        pa.array([Decimal("1.00"), Decimal("2.00")]),
        pa.array(["1", " 2.0"]),
        pa.array(["1", "2"], pa.large_string()),
        pa.array(["1", "2"]).dictionary_encode(),
        pa.array([1.0, 2.0]).dictionary_encode(),
        pa.chunked_array([[1.0], [2.0]]),
    ],
)
def test_kinds_of_numbers(file: Path, cells: Any) -> None:
    assert read_parquet(write(file, flow=cells)).values.tolist() == [[1], [2]]


def test_the_same_table_is_read_the_same_from_csv(tmp_path: Path) -> None:
    rows: dict[str, list[Any]] = {
        "Time": ["2024-01-01 00:00:00", "2024-01-01 00:00:05", "2024-01-01 00:00:09"],
        "status": ["ok", "", "bad"],
        "flow": [1.5, 2.5, 0.1],
        "on": [True, False, True],
        "count": [3, 4, 5],
        "empty": [None, None, None],
        "later": [datetime(2025, 1, 1)] * 3,
    }
    stamped = {**rows, "Time": pa.array([datetime.fromisoformat(t) for t in rows["Time"]])}
    write(tmp_path / "pump.parquet", **stamped)
    lines = [",".join(rows)]
    lines += [
        ",".join("" if cell is None else str(cell) for cell in cells)
        for cells in zip(*rows.values(), strict=True)
    ]
    (tmp_path / "pump.csv").write_text("\n".join(lines))
    ours, theirs = read_parquet(tmp_path / "pump.parquet"), read_csv(tmp_path / "pump.csv")
    assert ours.channels == theirs.channels == ("flow", "count")
    assert ours.values.tolist() == theirs.values.tolist()
    assert ours.timestamps.tolist() == theirs.timestamps.tolist()
    assert ours.sample_period == theirs.sample_period == 4.5


def test_without_a_time_column_readings_are_a_sample_period_apart(file: Path) -> None:
    recording = read_parquet(write(file, flow=[1, 2, 3]), sample_period=0.5)
    assert recording.timestamps.tolist() == [0, 0.5, 1]
    assert recording.sample_period == 0.5


def test_columns_are_chosen_and_ordered(file: Path) -> None:
    write(file, time=[0, 1], a=[1, 2], b=[None, 3.0], c=[5, 6])
    recording = read_parquet(file, columns=["c", "a"])
    assert recording.channels == ("c", "a")
    assert recording.values.tolist() == [[5, 1], [6, 2]]


def test_an_unnamed_pandas_index_of_timestamps_is_the_time(file: Path) -> None:
    stamps = pa.array([EPOCH_2024, EPOCH_2024 + 30], pa.timestamp("s"))
    recording = read_parquet(write(file, flow=[1, 2], __index_level_0__=stamps))
    assert recording.timestamps.tolist() == [EPOCH_2024, EPOCH_2024 + 30]
    assert recording.channels == ("flow",)


def test_a_named_time_column_goes_before_an_unnamed_index(file: Path) -> None:
    stamps = pa.array([EPOCH_2024, EPOCH_2024 + 30], pa.timestamp("s"))
    write(file, flow=[1, 2], time=[10, 20], __index_level_0__=stamps)
    assert read_parquet(file).timestamps.tolist() == [10, 20]


def test_an_unnamed_pandas_index_of_numbers_is_no_channel(file: Path) -> None:
    write(file, flow=[1, 2], __index_level_0__=[5, 9])
    assert read_parquet(file).channels == ("flow",)
    assert read_parquet(file, columns=["__index_level_0__"]).values.tolist() == [[5], [9]]


# What is refused


@pytest.mark.parametrize(
    ("cells", "called"),
    [
        ([1.0, 2.0, None], "an empty cell"),
        ([1, 2, None], "an empty cell"),
        ([1.0, 2.0, float("nan")], "'nan'"),
        ([1.0, 2.0, float("-inf")], "'-inf'"),
        (["1", "2", "off"], "'off'"),
        (["1", "2", ""], "an empty cell"),
        (["1", "2", None], "an empty cell"),
        ([Decimal(1), Decimal(2), None], "an empty cell"),
    ],
)
def test_cell_that_is_no_number(file: Path, cells: Any, called: str) -> None:
    message = refusal(write(file, level=[1, 2, 3], flow=cells))
    assert f"row 2 (counted from 0), column 'flow': {called} is not a number" in message
    assert "--columns" in message


@pytest.mark.parametrize(
    ("cells", "called"),
    [
        ([True, False], "'True'"),
        ([[1], [2]], r"'[1]'"),
        ([{"x": 1}, {"x": 2}], "\"{'x': 1}\""),
        (pa.array([1, 2], pa.timestamp("s")), "'1970-01-01 00:00:01'"),
        (pa.array([1, 2], pa.timestamp("ns")), "'1"),
        (pa.array([1, 2], pa.timestamp("ms", "Nowhere/Atlantis")), "'1' is not a number"),
        (pa.nulls(2), "an empty cell"),
    ],
)
def test_chosen_column_that_is_no_numbers(file: Path, cells: Any, called: str) -> None:
    message = refusal(write(file, flow=[1, 2], other=cells), columns=["flow", "other"])
    assert f"row 0 (counted from 0), column 'other': {called}" in message


@pytest.mark.parametrize(
    ("times", "called"),
    [
        (["2024-01-01", "yesterday"], "'yesterday'"),
        (["2024-01-01", None], "''"),
        ([1.0, None], "''"),
        ([1.0, float("nan")], "'nan'"),
        (pa.array([1, None], pa.timestamp("ns")), "''"),
        ([date(2024, 1, 1), None], "''"),
    ],
)
def test_bad_time(file: Path, times: Any, called: str) -> None:
    message = refusal(write(file, time=times, flow=[1, 2]))
    assert f"row 1 (counted from 0), column 'time': {called} is not a time" in message


@pytest.mark.parametrize("times", [pa.array([1, 2], pa.time64("us")), [True, False]])
def test_column_that_is_no_times(file: Path, times: Any) -> None:
    assert "column 'time': " in refusal(write(file, time=times, flow=[1, 2]))


def test_milliseconds_since_1970_are_refused(file: Path) -> None:
    message = refusal(write(file, time=[EPOCH_2024 * 1000, EPOCH_2024 * 1000 + 1], flow=[1, 2]))
    assert "row 0 (counted from 0), column 'time': 1704067200000 is no time in seconds" in message
    assert "divide it by 1000" in message


@pytest.mark.parametrize("zone", [None, "Nowhere/Atlantis"])
def test_time_beyond_the_calendar_is_refused(file: Path, zone: str | None) -> None:
    stamps = pa.array([0, 10**15], pa.timestamp("ms", zone))
    message = refusal(write(file, time=stamps, flow=[1, 2]))
    assert "row 1 (counted from 0), column 'time': 1000000000000000 is no time" in message


@pytest.mark.parametrize("times", [[5, 4, 3], [5, 5, 5]])
def test_times_that_do_not_grow(file: Path, times: list[int]) -> None:
    assert "the times in column 'time' do not grow" in refusal(
        write(file, time=times, flow=[1, 2, 3])
    )


def test_unknown_columns(file: Path) -> None:
    write(file, time=[0, 1], flow=[1, 2])
    assert "no column 'presure'; its columns are time, flow" in refusal(file, columns=["presure"])
    assert "no column 'when'" in refusal(file, time_column="when")


def test_two_columns_of_one_name(file: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["flow", "flow"]), file)
    assert "two columns called 'flow'" in refusal(file)


def test_no_column_of_numbers(file: Path) -> None:
    assert "no column of numbers" in refusal(write(file, time=[0, 1], status=["ok", "ok"]))


def test_no_rows_and_no_columns(file: Path) -> None:
    assert "is empty: it has no rows" in refusal(write(file, flow=pa.array([], pa.float64())))
    assert "is empty: it has no columns" in refusal(write(file))


def test_missing_file_and_directory(file: Path, tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal(file)
    assert "cannot be read: Is a directory" in refusal(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"time,flow\n1,2\n", b"PAR1" + bytes(99) + b"PAR1"]
)
def test_file_that_is_no_parquet(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert "is damaged, or is no Parquet file" in refusal(file)


def test_file_with_a_damaged_page(file: Path) -> None:
    write(file, flow=np.random.default_rng(0).normal(size=5000).round(3))
    content = bytearray(file.read_bytes())
    content[4:200] = bytes(196)
    file.write_bytes(content)
    assert "is damaged, or is no Parquet file" in refusal(file)


@pytest.mark.parametrize("name", ["time", "note"])
def test_text_that_is_not_in_utf_8(file: Path, name: str) -> None:
    offsets = np.array([0, 1, 3], np.int32).tobytes()
    text = pa.StringArray.from_buffers(2, pa.py_buffer(offsets), pa.py_buffer(b"1\xff\xfe"))
    message = refusal(write(file, flow=[1, 2], **{name: text}))
    assert "is damaged, or is no Parquet file (" in message
    assert "UTF8" in message


# Which of the two a file is


def test_read_recording_knows_a_file_by_its_content(tmp_path: Path) -> None:
    write(tmp_path / "pump.dat", time=[0, 5], flow=[1, 2], level=[3, 4])
    parquet = read_recording(tmp_path / "pump.dat", columns=["level"])
    (tmp_path / "pump.csv").write_text("time,flow,level\n0,1,3\n5,2,4\n")
    text = read_recording(tmp_path / "pump.csv", columns=["level"])
    assert parquet.channels == text.channels == ("level",)
    assert parquet.values.tolist() == text.values.tolist() == [[3], [4]]
    assert parquet.sample_period == text.sample_period == 5


def test_read_recording_passes_every_option(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", when=[0, 5], flow=[1, 2])
    recording = read_recording(tmp_path / "a.parquet", time_column="when", columns=["flow"])
    assert recording.timestamps.tolist() == [0, 5]
    recording = read_recording(tmp_path / "a.parquet", columns=["flow"], sample_period=3)
    assert recording.timestamps.tolist() == [0, 3]


def test_csv_file_with_a_column_called_par1(tmp_path: Path) -> None:
    (tmp_path / "light.csv").write_text("PAR1,PAR2\n1,2\n")
    assert read_recording(tmp_path / "light.csv").channels == ("PAR1", "PAR2")


@pytest.mark.parametrize("name", ["pump.parquet", "pump.PQ"])
def test_damaged_file_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PAR1\x00\xff")
    with pytest.raises(RecordingError, match="is no Parquet file"):
        read_recording(tmp_path / name)


def test_read_recording_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be read: No such file"):
        read_recording(tmp_path / "pump.csv")


# pyarrow itself


def test_without_pyarrow(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(file, flow=[1, 2])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingDependencyError) as caught:
        read_recording(file)
    assert str(caught.value) == "This needs pyarrow; run: pip install 'edgelstm[parquet]'"


def test_pyarrow_is_loaded_by_parquet_files_only(tmp_path: Path) -> None:
    (tmp_path / "pump.csv").write_text("flow\n1\n2\n")
    code = (
        "import sys, edgelstm, edgelstm.cli; from edgelstm.parquet import read_recording; "
        f"read_recording({str(tmp_path / 'pump.csv')!r}); sys.exit('pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
