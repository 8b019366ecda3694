"""A recording through the pipeline of `run`: `score_recording`, and `edgelstm score` around it."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from edgelstm.alert import AlertPolicy
from edgelstm.artifact import Artifact
from edgelstm.calibration_file import CalibrationFile
from edgelstm.cli import main
from edgelstm.commands.console import format_budget
from edgelstm.commands.detection_options import detection_options, take_detection
from edgelstm.commands.scoring import read_for_model, score_recording
from edgelstm.errors import ArtifactError, RecordingError
from edgelstm.pipeline import Pipeline, Verdict
from edgelstm.reading import Reading
from edgelstm.recording import Recording
from edgelstm.session import Session

PERIOD = 60.0
FAULT = 300
START = datetime(2024, 3, 30, 22, 0, tzinfo=UTC)


@pytest.fixture
def recording(sines: NDArray[np.float64]) -> Recording:
    """500 readings; from row 300 to 330 one channel is far off."""
    values = sines.copy()
    values[FAULT : FAULT + 30, 0] += 8
    times = np.arange(len(values), dtype=np.float64) * PERIOD + START.timestamp()
    return Recording("pump", ("flow", "level"), times, values, PERIOD)


def when(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC).replace(tzinfo=None)


def write(recording: Recording, path: Path, **columns: Any) -> Path:
    """A CSV file with the times as text, and other columns first."""
    lines = [",".join(["time", *columns, *recording.channels])]
    for i, row in enumerate(recording.values.tolist()):
        moment = when(recording.timestamps[i]).isoformat(" ")
        others = [str(column[i]) for column in columns.values()]
        cells = ["" if math.isnan(value) else repr(value) for value in row]
        lines.append(",".join([moment, *others, *cells]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def file(recording: Recording, tmp_path: Path) -> Path:
    return write(recording, tmp_path / "pump.csv")


def score(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["score", *map(str, arguments)])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


# The library


def test_it_is_the_pipeline_of_run(tiny: Artifact, recording: Recording) -> None:
    pipeline = Pipeline(Session(tiny))
    verdicts = [
        pipeline.update(Reading(t, tuple(x)))
        for t, x in zip(recording.timestamps.tolist(), recording.values.tolist(), strict=True)
    ]
    scored = score_recording(Session(tiny), recording, residuals=True)
    assert np.array_equal(scored.times, recording.timestamps)
    for name, found in (("score", scored.scores), ("threshold", scored.thresholds)):
        expected = [getattr(v, name) for v in verdicts]
        assert [None if math.isnan(x) else x for x in found.tolist()] == expected
    assert scored.residuals is not None
    for verdict, row in zip(verdicts, scored.residuals, strict=True):
        assert np.isnan(row).all() if verdict.residual is None else (row == verdict.residual).all()
    (onset,) = np.flatnonzero(scored.onsets)
    assert FAULT <= onset <= FAULT + 5
    opened = [i for i, v in enumerate(verdicts) if v.changes]
    assert opened[0] == onset
    assert np.flatnonzero(scored.alerts).tolist() == list(range(opened[0], opened[1]))
    assert scored.names == ("flow", "level")
    assert scored.achieved == pipeline.achieved()


def test_what_comes_later_changes_nothing(tiny: Artifact, recording: Recording) -> None:
    whole = score_recording(Session(tiny), recording)
    part = score_recording(Session(tiny), recording.rows(0, 320))
    assert np.array_equal(whole.scores[:320], part.scores, equal_nan=True)
    assert np.array_equal(whole.thresholds[:320], part.thresholds, equal_nan=True)
    assert np.array_equal(whole.alerts[:320], part.alerts)


def test_rows_before_the_first_are_warm_up(tiny: Artifact, recording: Recording) -> None:
    changes: list[Verdict] = []
    whole = score_recording(Session(tiny), recording)
    late = score_recording(Session(tiny), recording, from_row=310, on_change=changes.append)
    assert np.array_equal(whole.scores, late.scores, equal_nan=True)
    assert late.alerts[310]  # it was opened in the warm-up
    assert late.achieved.alerts == 0
    assert late.achieved.days == pytest.approx(190 / 1440)
    assert [change.event.value for v in changes for change in v.changes] == ["closed"]


def test_a_session_is_begun_afresh(tiny: Artifact, recording: Recording) -> None:
    session = Session(tiny)
    first, second = (score_recording(session, recording).scores for _ in range(2))
    assert np.array_equal(first, second, equal_nan=True)


def test_channels_are_found_by_name(tiny: Artifact, recording: Recording) -> None:
    swapped = recording.with_channels(["level", "flow"])
    found = score_recording(Session(tiny), swapped).scores
    assert np.array_equal(found, score_recording(Session(tiny), recording).scores, equal_nan=True)


def test_settings_reach_the_pipeline(tiny: Artifact, recording: Recording) -> None:
    scored = score_recording(
        Session(tiny),
        recording,
        policy=AlertPolicy(quiet=1000),
        threshold="static-quantile",
        false_alarms_per_day=3,
    )
    assert scored.alerts[-1]
    assert len(set(scored.thresholds[20:].tolist())) == 1
    assert scored.pipeline.budget == 3


def test_windows_have_a_score_now_and_then(tiny_window: Artifact, recording: Recording) -> None:
    scored = score_recording(Session(tiny_window), recording)
    there = np.flatnonzero(np.isfinite(scored.scores))
    assert set(np.diff(there).tolist()) == {tiny_window.manifest.hop}
    assert scored.achieved.days == pytest.approx(len(there) * 3 / 1440)


def test_progress_is_reported(tiny: Artifact, recording: Recording) -> None:
    seen: list[tuple[int, int]] = []
    score_recording(Session(tiny), recording, on_progress=lambda *at: seen.append(at))
    assert seen == [(0, 500)]


def test_times_may_be_ignored(tiny: Artifact, recording: Recording) -> None:
    slow = dataclasses.replace(recording, timestamps=recording.timestamps * 3, sample_period=180.0)
    with pytest.raises(RecordingError, match=r"every 180 s, but the model .* 60 s.*--any-rate"):
        score_recording(Session(tiny), slow)
    found = score_recording(Session(tiny), slow, any_rate=True).scores
    assert np.array_equal(found, score_recording(Session(tiny), recording).scores, equal_nan=True)


def test_rows_without_a_value_are_missing_also_where_times_are_ignored(
    tiny: Artifact, recording: Recording
) -> None:
    values = recording.values.copy()
    values[100:102] = math.nan
    holed = dataclasses.replace(recording, values=values)
    found = score_recording(Session(tiny), holed, any_rate=True)
    expected = score_recording(Session(tiny), holed)
    assert np.array_equal(found.scores, expected.scores, equal_nan=True)
    assert found.pipeline.counters == expected.pipeline.counters


@pytest.mark.parametrize(("from_row", "message"), [(500, "500 rows"), (600, "earlier one")])
def test_rows_that_are_not_there_are_refused(
    tiny: Artifact, recording: Recording, from_row: int, message: str
) -> None:
    with pytest.raises(RecordingError, match=message):
        score_recording(Session(tiny), recording, from_row=from_row)
    assert score_recording(Session(tiny), recording, from_row=499).achieved.days > 0


@pytest.mark.parametrize("name", ["tiny", "tiny_window"])
def test_the_least_that_can_be_scored(
    name: str, request: pytest.FixtureRequest, recording: Recording
) -> None:
    artifact: Artifact = request.getfixturevalue(name)
    warm_up, window = artifact.manifest.warm_up, artifact.manifest.window or 1
    first = window - 1 + (warm_up - 1) * artifact.manifest.hop + 1
    scored = score_recording(Session(artifact), recording.rows(0, first + 1))
    assert np.flatnonzero(np.isfinite(scored.scores)).tolist() == [first]
    with pytest.raises(RecordingError, match=f"needs at least {first + 1}"):
        score_recording(Session(artifact), recording.rows(0, first))


def test_too_few_rows_for_the_hop_of_a_window_are_refused(
    tiny_window: Artifact, recording: Recording
) -> None:
    with pytest.raises(RecordingError, match="gives a score every 3"):
        score_recording(Session(tiny_window), recording, from_row=498)


def test_readings_of_the_past_have_no_score(tiny: Artifact, recording: Recording) -> None:
    times = recording.timestamps.copy()
    times[200:] -= 300  # four of them are older than what was, and one is as old
    twice = dataclasses.replace(recording, timestamps=times)
    found = score_recording(Session(tiny), twice)
    assert np.isnan(found.scores[200:204]).all()
    assert np.isfinite(found.scores[204:]).all()
    (remark,) = found.remarks
    assert "row 200 (counted from 0): the time goes back" in remark
    assert "--any-rate" in remark
    found = score_recording(Session(tiny), twice, any_rate=True)
    assert found.remarks == ()
    whole = score_recording(Session(tiny), recording).scores
    assert np.array_equal(found.scores, whole, equal_nan=True)


# Files


def test_other_columns_are_no_channels(
    tiny: Artifact, recording: Recording, tmp_path: Path
) -> None:
    labels = ["0"] * 499 + ["?"]
    path = write(recording, tmp_path / "a.csv", anomaly=labels, note=["x"] * 500)
    read = read_for_model(path, tiny.manifest)
    assert read.channels == ("flow", "level")
    assert np.array_equal(read.values, recording.values)


def test_missing_cells_go_the_way_of_nan(
    tiny: Artifact, recording: Recording, tmp_path: Path
) -> None:
    recording.values[100, 0] = recording.values[200] = math.nan
    path = write(recording, tmp_path / "a.csv")
    scored = score_recording(Session(tiny), read_for_model(path, tiny.manifest), residuals=True)
    assert scored.residuals is not None
    assert np.isnan(scored.residuals[100]).tolist() == [True, False]
    assert np.isfinite(scored.scores[100])
    assert np.isnan(scored.scores[[200, 201]]).all()
    assert scored.pipeline.counters.unusable == 1


def test_texts_are_the_codes_that_the_model_knows(
    tiny: Artifact, recording: Recording, tmp_path: Path
) -> None:
    (port,) = tiny.manifest.inputs
    flow, level = port.channels
    mode = dataclasses.replace(level, name="mode", categories=("idle", "on"))
    inputs = (dataclasses.replace(port, channels=(flow, mode)),)
    modes = ["on", "idle", "broken", ""] * 125
    path = write(recording, tmp_path / "a.csv", mode=modes)
    read = read_for_model(path, dataclasses.replace(tiny.manifest, inputs=inputs))
    assert read.channels == ("flow", "mode")
    assert np.array_equal(read.values[:4, 1], [1, 0, math.nan, math.nan], equal_nan=True)


def test_without_a_time_column_readings_come_at_the_models_rate(
    tiny: Artifact, recording: Recording, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    rows = [f"{a!r},{b!r}" for a, b in recording.values.tolist()]
    path.write_text("\n".join(["flow,level", *rows]))
    assert read_for_model(path, tiny.manifest).sample_period == PERIOD
    assert score(DATA / "tiny.tflite", path, "-o", tmp_path / "s.csv").exit_code == 0
    assert [row["time"] for row in table(tmp_path / "s.csv")[:3]] == ["0", "60", "120"]


# The command

DATA = Path(__file__).parents[1] / "data"
TINY = DATA / "tiny.tflite"


def test_rows_are_written_as_they_were_scored(
    tiny: Artifact, recording: Recording, file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "s.csv"
    result = score(TINY, file, "-o", out, "--from-row", "10", "--channels")
    assert result.exit_code == 0, result.output
    scored = score_recording(Session(tiny), recording, residuals=True)
    assert scored.residuals is not None
    rows = table(out)
    assert list(rows[0]) == [
        *["time", "score", "threshold", "alert"],
        *["residual_flow", "residual_level"],
    ]
    assert len(rows) == 490
    numbers = {
        "score": scored.scores,
        "threshold": scored.thresholds,
        "residual_flow": scored.residuals[:, 0],
    }
    for name, expected in numbers.items():
        found = np.array([float(row[name] or "nan") for row in rows])
        assert np.array_equal(found, expected[10:], equal_nan=True)
    assert [row["alert"] for row in rows] == [str(int(alert)) for alert in scored.alerts[10:]]
    assert "490 readings, after 10 to warm up; 480 with a score" in result.stdout
    assert "1 alert in 8 h of scored readings" in result.stdout
    assert f"the budget is {format_budget(scored.pipeline.budget)}." in result.stdout


@pytest.mark.parametrize(
    "texts",
    [
        ["2024-03-31 00:00:00", "2024-03-31T00:01", "2024-03-31 02:02:00+02:00"],
        ["1711843200", "1711843260.0", "1.71184332e9"],
        ["0", "60", "120"],
    ],
)
def test_times_are_written_as_they_were_read(texts: list[str], tmp_path: Path) -> None:
    path, out = tmp_path / "a.csv", tmp_path / "s.csv"
    start = float(texts[0]) if texts[0].isdigit() else 1711843200.0
    texts = texts + [str(start + PERIOD * i) for i in range(3, 60)]
    lines = [f'20.0,"{text}",-5.0,0' for text in texts]
    path.write_text("\n".join(["flow,when,level,label", *lines]))
    result = score(TINY, path, "-o", out, "--time-column", "when", "--rows", "1:50")
    assert result.exit_code == 0, result.output
    assert [row["time"] for row in table(out)] == texts[1:50]


def test_parquet_is_scored_alike(recording: Recording, file: Path, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    moments = [when(t) for t in recording.timestamps]
    columns = dict(zip(recording.channels, recording.values.T, strict=True))
    parquet.write_table(pyarrow.table({"time": moments, **columns}), tmp_path / "p.parquet")
    assert score(TINY, file, "-o", tmp_path / "a.csv").exit_code == 0
    assert score(TINY, tmp_path / "p.parquet", "-o", tmp_path / "b.csv").exit_code == 0
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


def test_standard_output_holds_the_scores_alone(file: Path, tmp_path: Path) -> None:
    assert score(TINY, file, "-o", tmp_path / "s.csv").exit_code == 0
    result = score(TINY, file, "-o", "-")
    assert result.stdout == (tmp_path / "s.csv").read_text()
    assert "500 readings" in result.stderr


def test_the_summary_is_there_for_programs(tiny: Artifact, file: Path, tmp_path: Path) -> None:
    result = score(TINY, file, "-o", tmp_path / "s.csv", "--json", "--from-row", "100")
    found = json.loads(result.stdout)
    assert found["alerts"] == 1
    assert (found["rows"], found["from_row"], found["scored"]) == (500, 100, 400)
    assert found["alerts_per_day"] == pytest.approx(1440 / 400)
    assert tiny.manifest.detection is not None
    assert found["false_alarms_per_day_budget"] == tiny.manifest.detection.false_alarms_per_day


def test_alerts_are_appended(file: Path, tmp_path: Path) -> None:
    log = tmp_path / "alerts.jsonl"
    assert score(TINY, file, "-o", tmp_path / "s.csv", "--alerts", log).exit_code == 0
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["event"] for event in events] == ["opened", "closed"]


def test_a_picture_is_drawn(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "s.png"
    result = score(TINY, file, "-o", tmp_path / "s.csv", "--plot", plot, "--from-row", 310)
    assert result.exit_code == 0, result.output
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_calibration_beside_the_artifact_is_taken_and_said(
    tiny: Artifact, file: Path, tmp_path: Path
) -> None:
    artifact = tmp_path / "pump.tflite"
    artifact.write_bytes(TINY.read_bytes())
    assert tiny.manifest.detection is not None
    detection = dataclasses.replace(tiny.manifest.detection, false_alarms_per_day=2.0)
    CalibrationFile.of(tiny, detection, "test").write(tmp_path / "pump.calibration.json")
    result = score(artifact, file, "-o", tmp_path / "s.csv")
    assert "Using the calibration in" in result.stderr
    assert "the budget is 2 false alarms a day" in result.stdout
    result = score(artifact, file, "-o", tmp_path / "s.csv", "--force", "--no-calibration")
    assert result.stderr == ""
    assert format_budget(tiny.manifest.detection.false_alarms_per_day) in result.stdout


# The options of the detection


def chosen(*arguments: str) -> Any:
    """What the options give, or the error."""
    found: list[Any] = []

    @click.command()
    @detection_options
    def command(**options: Any) -> None:
        found.append(take_detection(options))
        assert not options

    result = CliRunner().invoke(command, arguments)
    if found:
        return found[0]
    return result.output if isinstance(result.exception, SystemExit) else result.exception


def test_by_default_the_artifact_decides() -> None:
    assert chosen() == {"false_alarms_per_day": None, "policy": None, "threshold": None}


def test_a_budget_may_be_by_the_month() -> None:
    assert chosen("--false-alarms-per-month", "2")["false_alarms_per_day"] == pytest.approx(
        24 / 365.25
    )
    assert chosen("--false-alarms-per-day", "2")["false_alarms_per_day"] == 2


def test_a_policy_is_made_of_what_is_said() -> None:
    assert chosen("--open-after", "3/5")["policy"] == AlertPolicy(k=3, n=5)
    assert chosen("--open-after", "4")["policy"] == AlertPolicy(k=4, n=4)
    options = "--close-after 7 --cool-down 1h --minimum-duration 30s --release 80%"
    assert chosen(*options.split())["policy"] == AlertPolicy(
        quiet=7, cool_down=3600, minimum_duration=30, release=0.8
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--false-alarms-per-day", "1", "--false-alarms-per-month", "1"], "one budget"),
        (["--open-after", "5/3"], "cannot open"),
        (["--open-after", "many"], "not of the form K/N"),
        (["--false-alarms-per-day", "0"], "not in the range"),
        (["--release", "120%"], "not between 0 and 100%"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: list[str], message: str) -> None:
    assert message in str(chosen(*arguments))


# What is refused


def fails(result: Result, message: str) -> None:
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_bad_input_is_a_sentence(
    tiny: Artifact, recording: Recording, file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "s.csv"
    other = write(
        dataclasses.replace(recording, channels=("flow", "pressure")), tmp_path / "other.csv"
    )
    fails(score(TINY, other, "-o", out), "has no column 'level'")
    fails(score(TINY, file, "-o", out, "--from-row", "500"), "500 rows")
    fails(score(TINY, file, "-o", out, "--rows", "0:10"), "needs at least")
    fails(score(TINY, tmp_path / "none.csv", "-o", out), "cannot be read")
    fails(score(TINY, file, "-o", file), "exists already")
    fails(score(TINY, file, "-o", file, "--force"), "named for two things")
    fails(score(TINY, file, "-o", tmp_path / "no" / "s.csv"), "does not exist")
    fails(score(TINY, file, "-o", "-", "--json"), "both want standard output")
    fails(score(TINY, file, "-o", out, "--false-alarms-per-day", "100"), "ask for fewer")
    fails(score(DATA / "tiny_ports.tflite", file, "-o", out), "neither forecasts nor reconstructs")
    assert not out.exists()


def test_a_file_whose_time_goes_back_once_is_scored_with_a_warning(
    recording: Recording, tmp_path: Path
) -> None:
    recording.timestamps[250:] -= 3600
    result = score(TINY, write(recording, tmp_path / "a.csv"), "-o", tmp_path / "s.csv")
    assert result.exit_code == 0
    assert "Warning: a.csv, line 252: the time goes back" in result.stderr


def test_a_file_in_no_order_is_a_sentence(recording: Recording, tmp_path: Path) -> None:
    recording.timestamps[::2] -= 3600
    result = score(TINY, write(recording, tmp_path / "a.csv"), "-o", tmp_path / "s.csv")
    fails(result, "time")


def test_an_artifact_without_detection_says_what_to_do(
    tiny: Artifact, recording: Recording
) -> None:
    bare = dataclasses.replace(tiny, manifest=dataclasses.replace(tiny.manifest, detection=None))
    with pytest.raises(ArtifactError, match="run 'edgelstm calibrate'"):
        score_recording(Session(bare), recording)
