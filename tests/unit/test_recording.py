from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm.errors import RecordingError
from edgelstm.recording import Recording, format_time, read_csv

EPOCH_2024 = 1_704_067_200.0  # 2024-01-01 00:00:00 UTC


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pump.csv"


def refusal(file: Path, text: str | None = None, **options: object) -> str:
    """The message with which reading the file is refused."""
    if text is not None:
        file.write_text(text, encoding="utf-8", newline="")
    with pytest.raises(RecordingError) as caught:
        read_csv(file, **options)  # type: ignore[arg-type]
    assert str(file) in str(caught.value)
    return str(caught.value)


# What is read


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_detected(file: Path, delimiter: str) -> None:
    rows = [["time", "flow", "level"], ["10", "1.5", "-2"], ["15", "1e3", "0.25"]]
    file.write_text("\n".join(delimiter.join(row) for row in rows))
    recording = read_csv(file)
    assert recording.channels == ("flow", "level")
    assert recording.values.tolist() == [[1.5, -2], [1000, 0.25]]
    assert recording.timestamps.tolist() == [10, 15]
    assert recording.source == "pump.csv"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_byte_order_mark_and_line_ends(file: Path, end: str) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + end.join(["time,flow", "0,1", "1,2", ""]).encode())
    recording = read_csv(file)
    assert recording.channels == ("flow",)
    assert recording.values.tolist() == [[1], [2]]


def test_quoted_cells(file: Path) -> None:
    file.write_text('"time","flow, l/min","note"\n"0","1.5","a, b"\n"60","2.5","say ""hi"""\n')
    recording = read_csv(file)
    assert recording.channels == ("flow, l/min",)
    assert recording.values.tolist() == [[1.5], [2.5]]


def test_spaces_around_cells_are_not_part_of_them(file: Path) -> None:
    file.write_text("time , flow\n0 ,  1.5\n1 , 2.5 \n")
    recording = read_csv(file)
    assert recording.channels == ("flow",)
    assert recording.values.tolist() == [[1.5], [2.5]]


def test_blank_lines_are_skipped_and_lines_still_counted(file: Path) -> None:
    text = "time,flow\n\n0,1\n\n\n1,2\n"
    file.write_text(text)
    assert len(read_csv(file)) == 2
    assert "line 7, column 'flow'" in refusal(file, text + "2,x\n")


@pytest.mark.parametrize("name", ["timestamp", "time", "datetime", "Time", "TIMESTAMP", "DateTime"])
def test_time_column_by_its_usual_names(file: Path, name: str) -> None:
    file.write_text(f"flow,{name}\n1,100\n2,130\n")
    recording = read_csv(file)
    assert recording.channels == ("flow",)
    assert recording.timestamps.tolist() == [100, 130]
    assert recording.sample_period == 30


def test_time_column_by_an_unusual_name(file: Path) -> None:
    file.write_text("taken at,time,flow\n100,7,1\n160,8,2\n")
    recording = read_csv(file, time_column="taken at")
    assert recording.timestamps.tolist() == [100, 160]
    assert recording.channels == ("time", "flow")


@pytest.mark.parametrize(
    ("cell", "seconds"),
    [
        ("1704067200.5", EPOCH_2024 + 0.5),
        ("2024-01-01 00:00:00", EPOCH_2024),
        ("2024-01-01T00:00:00Z", EPOCH_2024),
        ("2024-01-01T02:00:00+02:00", EPOCH_2024),
        ("2023-12-31T19:30:00.250-04:30", EPOCH_2024 + 0.25),
        ("2024-01-01", EPOCH_2024),
    ],
)
def test_times(file: Path, cell: str, seconds: float) -> None:
    file.write_text(f"time,flow\n{cell},1\n")
    assert read_csv(file).timestamps.tolist() == [seconds]


def test_times_of_both_kinds_in_one_column(file: Path) -> None:
    file.write_text("time,flow\n1704067200,1\n2024-01-01T00:00:10Z,2\n1704067220,3\n")
    assert (read_csv(file).timestamps - EPOCH_2024).tolist() == [0, 10, 20]


def test_without_a_time_column_readings_are_a_sample_period_apart(file: Path) -> None:
    file.write_text("flow,level\n1,2\n3,4\n5,6\n")
    recording = read_csv(file, sample_period=0.5)
    assert recording.timestamps.tolist() == [0, 0.5, 1]
    assert recording.timestamps.dtype == np.float64
    assert recording.sample_period == 0.5
    assert recording.channels == ("flow", "level")


def test_sample_period_is_the_median_step(file: Path) -> None:
    file.write_text("time,flow\n0,1\n10,1\n20,1\n95,1\n105,1\n104,1\n114,1\n")
    assert read_csv(file, sample_period=3).sample_period == 10


def test_sample_period_of_a_single_reading_is_the_stated_one(file: Path) -> None:
    file.write_text("time,flow\n100,1\n")
    assert read_csv(file, sample_period=3).sample_period == 3


def test_columns_of_text_are_no_channels(file: Path) -> None:
    file.write_text("time,status,flow,note\n0,ok,1,\n1,bad,2,\n")
    assert read_csv(file).channels == ("flow",)


def test_columns_are_chosen_and_ordered(file: Path) -> None:
    file.write_text("time,a,b,c,status\n0,1,2,3,ok\n1,4,5,6,ok\n")
    recording = read_csv(file, columns=["c", "a"])
    assert recording.channels == ("c", "a")
    assert recording.values.tolist() == [[3, 1], [6, 4]]


# What is refused


def test_missing_file(file: Path) -> None:
    assert "cannot be read: No such file" in refusal(file)


def test_directory(tmp_path: Path) -> None:
    assert "cannot be read: Is a directory" in refusal(tmp_path)


def test_binary_file(file: Path) -> None:
    file.write_bytes(bytes(range(256)))
    assert "is not text in UTF-8" in refusal(file)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_empty_file(file: Path, text: str) -> None:
    assert "is empty" in refusal(file, text)


def test_header_only(file: Path) -> None:
    assert "header row and nothing below it" in refusal(file, "time,flow\n")


def test_no_header(file: Path) -> None:
    assert "no header row" in refusal(file, "0,1.5\n1,2.5\n")


def test_open_quote(file: Path) -> None:
    assert "is not a CSV file" in refusal(file, 'time,flow\n0,"1\n1,2\n')


@pytest.mark.parametrize(
    ("cell", "called"),
    [
        ("off", "'off'"),
        ("", "an empty cell"),
        ("nan", "'nan'"),
        ("inf", "'inf'"),
        ("-inf", "'-inf'"),
    ],
)
def test_cell_that_is_no_number(file: Path, cell: str, called: str) -> None:
    message = refusal(file, f"time,flow,level\n0,1,2\n1,{cell},4\n")
    assert f"line 3, column 'flow': {called} is not a number" in message
    assert "--columns" in message


@pytest.mark.parametrize("row", ["1", "1,2,3"])
def test_ragged_row(file: Path, row: str) -> None:
    message = refusal(file, f"time,flow\n0,1\n{row}\n")
    assert re.search(r"line 3: \d cells, but the header has 2", message)


def test_two_columns_of_one_name(file: Path) -> None:
    assert "two columns called 'flow'" in refusal(file, "time,flow,level,flow\n0,1,2,3\n")


def test_unknown_column(file: Path) -> None:
    message = refusal(file, "time,flow,level\n0,1,2\n", columns=["flow", "presure"])
    assert "no column 'presure'" in message
    assert "time, flow, level" in message


def test_unknown_time_column(file: Path) -> None:
    message = refusal(file, "time,flow\n0,1\n", time_column="when")
    assert "no column 'when'" in message
    assert "time, flow" in message


@pytest.mark.parametrize("cell", ["yesterday", "", "nan", "inf", "2024-13-01", "31.12.2024"])
def test_bad_time(file: Path, cell: str) -> None:
    message = refusal(file, f"time,flow\n0,1\n{cell},2\n")
    assert f"line 3, column 'time': {cell!r} is not a time" in message


@pytest.mark.parametrize("times", [(5, 4, 3), (5, 5, 5)])
def test_times_that_do_not_grow(file: Path, times: tuple[int, ...]) -> None:
    message = refusal(file, "when,flow\n" + "".join(f"{t},1\n" for t in times), time_column="when")
    assert "the times in column 'when' do not grow" in message


def test_no_column_of_numbers(file: Path) -> None:
    assert "no column of numbers" in refusal(file, "time,status\n0,ok\n1,ok\n")


_cells = st.sampled_from(
    ["1", "2.5", "nan", "", "x", "time", "1e999", '"', "é", "2024-01-01", "9999-12-31T23:59-12:00"]
)
_table = st.lists(st.lists(_cells, max_size=4).map(",".join), max_size=6).map("\n".join)
_text = st.text(st.sampled_from('\r\n,;"1a \t\0'), max_size=30)


@settings(deadline=None, max_examples=150)
@given(_table.map(str.encode) | _text.map(str.encode) | st.binary(max_size=60))
def test_any_file_is_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.csv"
        path.write_bytes(content)
        try:
            recording = read_csv(path)
        except RecordingError:
            return
    assert recording.values.shape == (len(recording), len(recording.channels))
    assert len(recording) > 0
    assert np.isfinite(recording.values).all()
    assert np.isfinite(recording.timestamps).all()
    assert recording.sample_period > 0


# Time


@pytest.mark.parametrize("blank", ["", "\n\n"])
def test_time_that_goes_back_is_named_with_its_line(file: Path, blank: str) -> None:
    rows = [f"{60 * i},{i}" for i in range(60)]
    rows[40] = "120,40"
    file.write_text("time,flow\n" + blank + "\n".join(rows))
    recording = read_csv(file)  # a clock that was set back once: for the caller to judge
    place = f"pump.csv, line {42 + len(blank)}: the time goes back from 1970-01-01 00:39:00 to "
    assert (recording.step_back() or "").startswith(place + "1970-01-01 00:02:00")
    with pytest.raises(RecordingError) as caught:
        recording.rows(10, None).need_order()
    assert str(caught.value).startswith(place)
    assert "daylight saving" in str(caught.value)
    recording.rows(0, 40).need_order()
    recording.rows(40, None).need_order()


def test_rows_of_a_table_without_lines_are_counted_as_the_file_has_them() -> None:
    times = np.array([0.0, 1, 2, 3, 2, 5])
    recording = Recording("pump.parquet", ("flow",), times, np.zeros((6, 1)), 1.0)
    with pytest.raises(RecordingError, match=r"pump.parquet, row 4 \(counted from 0\): the time"):
        recording.rows(2, None).rows(1, None).need_order()


def test_rows_in_no_order_at_all_are_refused(file: Path) -> None:
    times = np.random.default_rng(0).permutation(50) * 10
    message = refusal_of("time,flow\n" + "".join(f"{t},1\n" for t in times), file)
    assert re.search(r"pump\.csv, line \d+: the time goes back", message)


def refusal_of(text: str, file: Path) -> str:
    file.write_text(text)
    with pytest.raises(RecordingError) as caught:
        read_csv(file)
    return str(caught.value)


def test_readings_of_the_same_second(file: Path) -> None:
    times = [i // 4 for i in range(41)]
    file.write_text("time,flow\n" + "".join(f"{t},1\n" for t in times))
    recording = read_csv(file)
    recording.need_order()
    assert recording.sample_period == pytest.approx(0.25, rel=0.1)
    assert recording.timestamps.tolist() == times


# The recording itself


@pytest.fixture
def recording() -> Recording:
    values = np.arange(20.0).reshape(10, 2)
    return Recording("pump.csv", ("flow", "level"), np.arange(10.0), values, 1.0)


@pytest.mark.parametrize(
    ("start", "stop", "first", "count"),
    [(None, None, 0, 10), (2, 5, 2, 3), (7, None, 7, 3), (None, 4, 0, 4), (-3, None, 7, 3)],
)
def test_rows(
    recording: Recording, start: int | None, stop: int | None, first: int, count: int
) -> None:
    part = recording.rows(start, stop)
    assert len(part) == count
    assert part.timestamps[0] == first
    assert part.values[0, 0] == 2 * first


@pytest.mark.parametrize(("start", "stop"), [(10, None), (5, 5), (6, 2), (None, 0)])
def test_rows_that_are_none(recording: Recording, start: int | None, stop: int | None) -> None:
    with pytest.raises(RecordingError, match=r"pump\.csv has 10 rows; the rows .* are none"):
        recording.rows(start, stop)


def test_need(recording: Recording) -> None:
    recording.need(10, "training")
    with pytest.raises(RecordingError, match=r"pump\.csv has 10 rows here; training needs .* 11"):
        recording.need(11, "training")


def test_with_channels_reorders(recording: Recording) -> None:
    turned = recording.with_channels(["level", "flow"])
    assert turned.channels == ("level", "flow")
    assert turned.values[1].tolist() == [3, 2]
    with pytest.raises(RecordingError, match="no channel 'presure'; it has flow, level"):
        recording.with_channels(["presure"])


def test_format_time() -> None:
    assert format_time(EPOCH_2024 + 62) == "2024-01-01 00:01:02"


def test_column_chosen_twice_is_refused(file: Path) -> None:
    file.write_text("a,b\n1,2\n")
    with pytest.raises(RecordingError, match="'a' is chosen twice"):
        read_csv(file, columns=["a", "b", "a"])


def test_milliseconds_since_1970_are_refused(file: Path) -> None:
    message = refusal(file, "time,a\n1704067200000,1\n1704067201000,2\n")
    assert "line 2, column 'time'" in message
    assert "divide it by 1000" in message


def test_decimal_commas_are_explained(file: Path) -> None:
    assert "1.5, not 1,5" in refusal(file, "a;b\n1,5;2,5\n")


def test_row_of_empty_cells_is_not_dropped(file: Path) -> None:
    assert "line 3, column 'a': an empty cell" in refusal(file, "a,b\n1,2\n,\n3,4\n")


# Arrays


def test_from_array() -> None:
    recording = Recording.from_array([[1, 2], [3, 4]], sample_period=0.5, source="pump")
    assert recording.source == "pump"
    assert recording.channels == ("channel_0", "channel_1")
    assert recording.values.tolist() == [[1, 2], [3, 4]]
    assert recording.values.dtype == recording.timestamps.dtype == np.float64
    assert recording.timestamps.tolist() == [0, 0.5]
    assert recording.sample_period == 0.5


def test_from_array_of_a_single_channel() -> None:
    recording = Recording.from_array(np.arange(3, dtype=np.float32), channels=["flow"])
    assert recording.channels == ("flow",)
    assert recording.values.tolist() == [[0], [1], [2]]


def test_from_array_copies() -> None:
    values = np.zeros((3, 2))
    recording = Recording.from_array(values)
    values[:] = 7
    assert not recording.values.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_from_array_names_the_value_that_is_not_finite(bad: float) -> None:
    values = np.zeros((30, 2))
    values[17, 1] = values[20, 0] = bad
    with pytest.raises(RecordingError) as caught:
        Recording.from_array(values, channels=["flow", "level"], source="pump")
    assert f"pump, row 17 (counted from 0), channel 'level': {bad} is not" in str(caught.value)


def test_masked_values_are_missing() -> None:
    values = np.ma.masked_equal([[1, 2], [3, -999]], -999)
    with pytest.raises(RecordingError, match=r"row 1 \(counted from 0\), channel 'channel_1': nan"):
        Recording.from_array(values)
    assert Recording.from_array(values[:1]).values.tolist() == [[1, 2]]


def test_from_array_with_missing_values() -> None:
    values = np.ma.masked_equal([[1, np.nan], [-999, 4]], -999)
    recording = Recording.from_array(values, missing=True)
    np.testing.assert_equal(recording.values, [[1, np.nan], [np.nan, 4]])
    with pytest.raises(RecordingError, match=r"row 1 \(counted from 0\).*: -inf is not"):
        Recording.from_array([1.0, -np.inf, np.nan], missing=True)


@pytest.mark.parametrize("shape", [(), (0,), (0, 2), (3, 0), (1, 3, 2)])
def test_from_array_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(RecordingError, match=re.escape(f"array has the shape {shape}")):
        Recording.from_array(np.zeros(shape))


@pytest.mark.parametrize(
    "values", [[["1", "2"]], [[None, 1.0]], [[1j]], np.zeros((2, 1), "datetime64[s]")]
)
def test_from_array_of_what_is_no_numbers(values: object) -> None:
    with pytest.raises(RecordingError, match=r"array holds values of type .*, not numbers"):
        Recording.from_array(values)


def test_from_array_of_a_ragged_list() -> None:
    with pytest.raises(RecordingError, match="array is no array of numbers"):
        Recording.from_array([[1, 2], [3]])


@pytest.mark.parametrize("channels", [["flow"], ["flow", "flow"], ["a", "b", "c"], []])
def test_from_array_with_names_that_do_not_fit(channels: list[str]) -> None:
    with pytest.raises(RecordingError, match=r"array has 2 columns, which .* does not name"):
        Recording.from_array(np.zeros((3, 2)), channels=channels)
