"""Missing values and categories, in CSV and Parquet files alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgelstm.errors import RecordingError
from edgelstm.parquet import read_recording
from edgelstm.recording import Recording

Write = Callable[..., Path]


@pytest.fixture(params=["csv", "parquet"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Write:
    """Writes columns to a file; None is a cell that is missing."""

    def write_file(**columns: list[object]) -> Path:
        path = tmp_path / f"pump.{request.param}"
        if request.param == "parquet":
            pq.write_table(pa.table(columns), path)
        else:
            rows = [columns, *zip(*columns.values(), strict=True)]
            lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
            path.write_text("\n".join(lines) + "\n")
        return path

    return write_file


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(RecordingError) as caught:
        read_recording(path, **options)  # type: ignore[arg-type]
    assert str(path) in str(caught.value)
    return str(caught.value)


def column(recording: Recording, name: str) -> list[float]:
    found: list[float] = recording.values[:, recording.channels.index(name)].tolist()
    return found


# Missing values


def test_missing_values_become_nan_where_they_may(write: Write) -> None:
    path = write(time=[0, 1, 2], flow=[1.5, None, float("nan")], level=[1, None, 3])
    recording = read_recording(path, missing=True)
    np.testing.assert_equal(column(recording, "flow"), [1.5, np.nan, np.nan])
    np.testing.assert_equal(column(recording, "level"), [1, np.nan, 3])
    assert recording.timestamps.tolist() == [0, 1, 2]


def test_missing_values_are_refused_else_and_the_way_out_is_named(write: Write) -> None:
    message = refusal(write(time=[0, 1], flow=[1.5, None]))
    assert "column 'flow': an empty cell is not a number" in message
    assert "edgelstm train" in message


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "NA", "n/a", "null", "None", "  "])
def test_texts_that_stand_for_a_missing_value(write: Write, cell: str) -> None:
    path = write(time=[0, 1], flow=["1", cell])
    np.testing.assert_equal(column(read_recording(path, missing=True), "flow"), [1, np.nan])


@pytest.mark.parametrize("cell", ["off", "-", "1,5", "inf", "-inf", "1e999"])
def test_text_that_is_no_number_stays_an_error(write: Write, cell: str) -> None:
    path = write(time=[0, 1, 2], flow=["1", None, f'"{cell}"' if "," in cell else cell])
    message = refusal(path, missing=True)
    place = "line 4" if path.suffix == ".csv" else "row 2"
    assert place in message
    assert "column 'flow'" in message
    assert "is not a number" in message


def test_a_column_that_was_named_is_not_to_be_exchanged(write: Write) -> None:
    path = write(time=[0, 1, 2], flow=["1", None, "off"])
    with pytest.raises(RecordingError, match="Mend the file, or leave such cells empty"):
        read_recording(path, columns=["flow"], missing=True)
    assert "choose other columns with --columns" in refusal(path, missing=True)


def test_infinite_number_in_a_parquet_file_is_not_missing(tmp_path: Path) -> None:
    path = tmp_path / "pump.parquet"
    pq.write_table(pa.table({"flow": [1.0, float("inf")]}), path)
    assert "'inf' is not a number" in refusal(path, missing=True)


def test_time_may_not_be_missing(write: Write) -> None:
    assert "is not a time" in refusal(write(time=[0, None, 2], flow=[1, 2, 3]), missing=True)


def test_column_without_a_number_is_no_channel_unless_chosen(write: Write) -> None:
    path = write(time=[0, 1], flow=[1, 2], note=["", ""])
    assert read_recording(path, missing=True).channels == ("flow",)
    chosen = read_recording(path, missing=True, columns=["flow", "note"])
    assert np.isnan(column(chosen, "note")).all()


# Categories


def test_texts_become_codes_in_sorted_order(write: Write) -> None:
    path = write(time=[0, 1, 2, 3], mode=["run", "idle", " run", "wash"], flow=[1, 2, 3, 4])
    recording = read_recording(path, categorical=["mode"])
    assert recording.channels == ("mode", "flow")
    assert column(recording, "mode") == [1, 0, 1, 2]
    assert recording.categories == {"mode": ("idle", "run", "wash")}
    assert recording.rows(1, 3).with_channels(["mode"]).categories == recording.categories
    assert recording.with_channels(["flow"]).categories == {}


def test_whole_numbers_are_codes_as_they_are(write: Write) -> None:
    recording = read_recording(write(mode=[7, 3, 7], flow=[1, 2, 3]), categorical=["mode"])
    assert column(recording, "mode") == [7, 3, 7]
    assert recording.categories == {}


def test_booleans_are_categories(write: Write) -> None:
    recording = read_recording(write(on=[True, False], flow=[1, 2]), categorical=["on"])
    assert recording.categories == {"on": ("False", "True")}
    assert column(recording, "on") == [1, 0]


def test_codes_of_an_artifact_hold_for_other_files(write: Write) -> None:
    path = write(mode=["wash", "run"], flow=[1, 2])
    recording = read_recording(path, categorical={"mode": ("idle", "run", "wash")})
    assert column(recording, "mode") == [2, 1]
    assert recording.categories == {"mode": ("idle", "run", "wash")}


def test_unknown_text_is_missing(write: Write) -> None:
    path = write(mode=["wash", "boil"], flow=[1, 2])
    known = {"mode": ("idle", "wash")}
    recording = read_recording(path, categorical=known, missing=True)
    np.testing.assert_equal(column(recording, "mode"), [1, np.nan])
    assert "'boil' is none of the categories that are known: idle, wash" in refusal(
        path, categorical=known
    )


def test_missing_category(write: Write) -> None:
    path = write(mode=["wash", None, "idle"], flow=[1, 2, 3])
    recording = read_recording(path, categorical=["mode"], missing=True)
    np.testing.assert_equal(column(recording, "mode"), [1, np.nan, 0])
    assert recording.categories == {"mode": ("idle", "wash")}
    assert "the category is missing" in refusal(path, categorical=["mode"])


def test_categorical_column_comes_last_where_others_are_chosen(write: Write) -> None:
    path = write(mode=["a", "b"], flow=[1, 2], level=[3, 4])
    assert read_recording(path, columns=["level"], categorical=["mode"]).channels == (
        "level",
        "mode",
    )


def test_categorical_column_that_is_not_there_or_holds_the_time(write: Write) -> None:
    path = write(time=[0, 1], flow=[1, 2])
    assert "no column 'mode'; its columns are time, flow" in refusal(path, categorical=["mode"])
    assert "column 'time' holds the time" in refusal(path, categorical=["time"])
