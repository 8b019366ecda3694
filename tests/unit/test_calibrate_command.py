from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.calibrating import calibrate, find_limits
from edgelstm.calibration_file import CalibrationFile, calibration_path, with_calibration
from edgelstm.cli import main
from edgelstm.commands.collecting import Collected, collect
from edgelstm.reading import Reading
from edgelstm.session import Session

Array = NDArray[np.float64]
PERIOD = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def values_of(readings: int, seed: int = 5) -> Array:
    """What the tiny models know: two noisy sines."""
    t = np.arange(readings)
    noise = np.random.default_rng(seed).normal(0, 0.1, (readings, 2))
    waves = np.stack([np.sin(t / 8), np.sin(t / 5 + 1)], axis=1) + noise
    return waves * [3, 1] + [20, -5]


def record(path: Path, values: Array, header: str = "flow,level", period: float = PERIOD) -> Path:
    rows = [
        ",".join([repr(i * period), *("" if np.isnan(x) else repr(float(x)) for x in row)])
        for i, row in enumerate(values)
    ]
    path.write_text("\n".join([f"time,{header}", *rows]) + "\n")
    return path


@pytest.fixture
def pump(folder: Path, tiny: Artifact) -> Path:
    tiny.write(folder / "pump.tflite")
    return folder / "pump.tflite"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["calibrate", *map(str, arguments)])


def refusal(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith(("Error: ", "Usage: "))
    assert "Traceback" not in result.output
    return result.stderr


def residuals_of(artifact: Artifact, values: Array) -> Array:
    """By hand: the reading less the forecast made before it, from the 20th run on."""
    rows = np.full((len(values), 2), np.nan)
    with Session(artifact) as session:
        outputs = [session.step(x) for x in values]
    for t in range(20, len(values)):
        rows[t] = values[t] - outputs[t - 1]
    return rows


# What it makes


def test_it_is_what_the_host_makes_of_the_same_residuals(
    pump: Path, folder: Path, tiny: Artifact
) -> None:
    middle = np.array([20.0, -5.0])
    values = middle + 0.8 * (values_of(900) - middle)  # none beyond what int8 holds
    result = run(pump, record(folder / "mine.csv", values))
    assert result.exit_code == 0, result.output
    made = CalibrationFile.read(calibration_path(pump))
    assert made.source == "mine.csv"
    expected = calibrate(
        residuals_of(tiny, values),
        values,
        targets=[0, 1],
        residuals_kind="recording",
        false_alarms_per_day=tiny.manifest.detection.false_alarms_per_day,  # type: ignore[union-attr]
    )
    assert made.detection.residual_scale == pytest.approx(expected.residual_scale, rel=1e-12)
    assert made.detection.score_peaks == pytest.approx(expected.score_peaks, rel=1e-12)
    assert dataclasses.astuple(made.detection.tail) == pytest.approx(
        dataclasses.astuple(expected.tail), rel=1e-12
    )
    assert made.detection.limits == expected.limits
    assert made.detection.readings == expected.readings == 880
    assert with_calibration(tiny, pump).manifest.detection == made.detection


def test_what_it_says(pump: Path, folder: Path) -> None:
    result = run(pump, record(folder / "mine.csv", values_of(900)))
    lines = result.stdout.splitlines()
    assert lines[0] == "Readings  900, of which 880 gave a residual"
    assert lines[1].startswith("Residual  flow: 0.3503 -> 0.3")
    assert lines[2].startswith("          level: 0.1554 -> 0.1")
    assert lines[3].startswith("Tail      starts at 1.404 -> ")
    assert lines[4].startswith("Threshold ")
    assert lines[4].endswith(" at first, for one false alarm in 7 days")
    assert "alerts in the 0.611 days of the calibration itself" in lines[5]
    assert lines[6].startswith(f"Wrote {calibration_path(pump)} (")
    assert "Warning: The budget is one false alarm in 10,080 scored" in result.stderr


def test_a_window_has_a_residual_for_each_run(folder: Path, tiny_window: Artifact) -> None:
    path = folder / "window.tflite"
    tiny_window.write(path)
    assert run(path, record(folder / "mine.csv", values_of(900))).exit_code == 0
    made = CalibrationFile.read(calibration_path(path)).detection
    assert tiny_window.manifest.warm_up == 20
    assert made.readings == (900 - 8 - 1) // 3 + 1 - 19  # runs with a reading after them


def test_a_forecast_further_ahead_of_one_channel(folder: Path, tiny_ahead: Artifact) -> None:
    """By hand: the level less what was forecast for it three readings before."""
    middle = np.array([20.0, -5.0])
    values = middle + 0.8 * (values_of(600) - middle)
    path = folder / "ahead.tflite"
    tiny_ahead.write(path)
    assert run(path, record(folder / "mine.csv", values)).exit_code == 0
    made = CalibrationFile.read(calibration_path(path)).detection
    with Session(tiny_ahead) as session:
        outputs = [session.step(x) for x in values]
    residuals = np.full((600, 1), np.nan)
    for t in range(22, 600):
        residuals[t] = values[t, 1] - outputs[t - 3]
    expected = calibrate(
        residuals, values, targets=[1], residuals_kind="recording", false_alarms_per_day=1.0
    )
    assert made.readings == 578
    assert made.residual_scale == pytest.approx(expected.residual_scale, rel=1e-12)
    assert made.tail.start == pytest.approx(expected.tail.start, rel=1e-12)
    assert len(made.limits) == 2


def test_a_window_that_is_given_back(folder: Path, tiny_again: Artifact) -> None:
    """By hand: each window of eight less what the model makes of it."""
    middle = np.array([20.0, -5.0])
    values = middle + 0.8 * (values_of(600) - middle)
    path = folder / "again.tflite"
    tiny_again.write(path)
    result = run(path, record(folder / "mine.csv", values))
    assert result.exit_code == 0, result.output
    made = CalibrationFile.read(calibration_path(path)).detection
    residuals, runs = np.full((600, 16), np.nan), 0
    with Session(tiny_again) as session:
        for t, x in enumerate(values):
            y = session.step(x)
            runs += y is not None
            if y is not None and runs > 20:
                residuals[t] = values[t - 7 : t + 1].reshape(-1) - y
    expected = calibrate(
        residuals,
        values,
        targets=[0, 1] * 8,
        residuals_kind="recording",
        false_alarms_per_day=1.0,
    )
    assert made.readings == runs - 20 == 277
    assert made.residual_scale == pytest.approx(expected.residual_scale, rel=1e-12)
    assert made.tail.start == pytest.approx(expected.tail.start, rel=1e-12)
    of_flow = np.sqrt(np.mean(np.square(made.residual_scale[0::2])))
    assert f"-> {of_flow:.4g} counts as one" in result.stdout


def test_options_and_ranges(pump: Path, folder: Path) -> None:
    data = record(folder / "mine.csv", values_of(900))
    options = ["--scorer", "robust", "--threshold", "spot", "--range", "level=-9:"]
    assert run(pump, data, *options, "--false-alarms-per-month", 61).exit_code == 0
    made = CalibrationFile.read(calibration_path(pump)).detection
    assert (made.scorer, made.threshold) == ("robust", "spot")
    assert made.false_alarms_per_day == pytest.approx(61 / (365.25 / 12))
    assert [(one.low, one.high) for one in made.limits] == [(None, None), (-9.0, None)]


def test_what_is_not_said_stays_as_it_was(folder: Path, tiny: Artifact) -> None:
    own = dataclasses.replace(
        tiny.manifest.detection,  # type: ignore[type-var]
        threshold="static-quantile",
        scorer="robust",
        false_alarms_per_day=2.5,
        limits=tuple(find_limits(values_of(100), [(0.0, 50.0), (None, None)])),
    )
    path = folder / "own.tflite"
    manifest = dataclasses.replace(tiny.manifest, detection=own)
    dataclasses.replace(tiny, manifest=manifest).write(path)
    assert run(path, record(folder / "mine.csv", values_of(900))).exit_code == 0
    made = CalibrationFile.read(calibration_path(path)).detection
    assert (made.scorer, made.threshold, made.false_alarms_per_day) == (
        "robust",
        "static-quantile",
        2.5,
    )
    assert (made.limits[0].low, made.limits[0].high) == (0.0, 50.0)


def test_an_artifact_without_a_detection_gets_one(folder: Path, tiny: Artifact) -> None:
    path = folder / "none.tflite"
    manifest = dataclasses.replace(tiny.manifest, detection=None)
    dataclasses.replace(tiny, manifest=manifest).write(path)
    result = run(path, record(folder / "mine.csv", values_of(900)), "--into")
    assert result.exit_code == 0, result.output
    assert "->" not in result.stdout
    made = Artifact.read(path).manifest.detection
    assert made is not None
    assert made.false_alarms_per_day == pytest.approx(1440 / 8800)  # ten times 880 readings


def test_into_the_artifact(pump: Path, folder: Path, tiny: Artifact) -> None:
    result = run(pump, record(folder / "mine.csv", values_of(900)), "--into")
    assert result.exit_code == 0, result.output
    after = Artifact.read(pump)
    assert after.flatbuffer == tiny.flatbuffer
    assert after.manifest.sha256 == tiny.manifest.sha256
    assert after.golden.y.tobytes() == tiny.golden.y.tobytes()
    assert after.manifest.detection is not None
    assert after.manifest.detection.readings == 880
    changed = dataclasses.replace(after.manifest, detection=tiny.manifest.detection)
    assert changed == tiny.manifest
    assert sorted(path.name for path in folder.iterdir()) == ["mine.csv", "pump.tflite"]


def test_a_file_of_its_own(pump: Path, folder: Path) -> None:
    output = folder / "other.calibration.json"
    assert run(pump, record(folder / "mine.csv", values_of(900)), "-o", output).exit_code == 0
    assert output.exists()
    assert not calibration_path(pump).exists()


def test_what_is_there_is_replaced_on_request_only(pump: Path, folder: Path) -> None:
    data = record(folder / "mine.csv", values_of(900))
    assert run(pump, data, "--rows", "0:500").exit_code == 0
    assert "exists already; use --force" in refusal(pump, data)
    assert run(pump, data, "--force").exit_code == 0
    assert CalibrationFile.read(calibration_path(pump)).detection.readings == 880


def test_the_calibration_beside_has_no_say_in_the_next(pump: Path, folder: Path) -> None:
    data = record(folder / "mine.csv", values_of(900))
    first = run(pump, data)
    again = run(pump, data, "--force")
    assert first.stdout == again.stdout


def test_inspect_shows_what_lies_beside(pump: Path, folder: Path) -> None:
    run(pump, record(folder / "mine.csv", values_of(900)), "--range", "flow=0:40")
    shown = CliRunner().invoke(main, ["inspect", str(pump)]).stdout
    assert "beside     pump.calibration.json is taken in its place: one false alarm in 7" in shown
    assert "set on 880 recording residuals, from mine.csv, made " in shown
    calibration_path(pump).write_text("{}")
    assert "beside     cannot be used: " in CliRunner().invoke(main, ["inspect", str(pump)]).stdout


# Warnings


def warned(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return "".join(line for line in result.stderr.splitlines() if line.startswith("Warning: "))


def test_another_machine_is_warned_of(pump: Path, folder: Path) -> None:
    values = values_of(900) * [3, 1]
    text = warned(run(pump, record(folder / "mine.csv", values)))
    assert "flow is at 60" in text
    assert "The residuals of flow are " in text
    assert "level" not in text


def test_an_anomaly_in_it_is_warned_of(pump: Path, folder: Path) -> None:
    values = values_of(900)
    values[500] += 30
    assert "of the calibration the score rises to" in warned(
        run(pump, record(folder / "mine.csv", values))
    )


def test_a_constant_channel_is_remarked(pump: Path, folder: Path) -> None:
    values = values_of(900)
    values[:, 1] = -5.0
    text = warned(run(pump, record(folder / "mine.csv", values)))
    assert "level stayed the same all the time" in text


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either from FILE or from a device at --port"),
        (["mine.csv", "--port", "stdin:"], "either from FILE or from a device at --port"),
        (["none.csv"], "none.csv cannot be read"),
        (["mine.csv", "--into", "-o", "x.calibration.json"], "leave out -o"),
        (["mine.csv", "-o", "x.json"], "does not end in .calibration.json"),
        (["mine.csv", "-o", "no/x.calibration.json"], "does not exist"),
        (["mine.csv", "--range", "pressure=0:1"], "'pressure', which is none of the model's"),
        (["mine.csv", "--range", "flow=0:1", "--range", "flow=0:2"], "twice for the channel"),
        (["mine.csv", "--range", "flow=1:1"], "not below the highest"),
        (["mine.csv", "--range", "flow"], "not of the form NAME=LOW:HIGH"),
        (["mine.csv", "--range", "flow=:"], "not of the form NAME=LOW:HIGH"),
        (["mine.csv", "--range", "=0:1"], "not of the form NAME=LOW:HIGH"),
        (["mine.csv", "--range", "flow=0:inf"], "not of the form NAME=LOW:HIGH"),
        (
            ["mine.csv", "--false-alarms-per-day", "1", "--false-alarms-per-month", "1"],
            "two words for one budget",
        ),
        (["mine.csv", "--false-alarms-per-day", "1000"], "ask for fewer"),
        (["mine.csv", "--rows", "0:165"], "145 residuals, and a threshold needs 150: record for 5"),
        (["mine.csv", "--rows", "950:"], "has 900"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    pump: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    record(folder / "mine.csv", values_of(900))
    monkeypatch.chdir(folder)
    assert message in refusal(pump, *arguments)
    assert sorted(path.name for path in folder.iterdir()) == ["mine.csv", "pump.tflite"]


def test_other_channels_are_refused(pump: Path, folder: Path) -> None:
    data = record(folder / "mine.csv", values_of(900), "flow,pressure")
    assert "no column 'level'" in refusal(pump, data)


def test_time_that_goes_back_is_refused(pump: Path, folder: Path) -> None:
    data = record(folder / "mine.csv", values_of(900))
    lines = data.read_text().splitlines()
    lines[500], lines[501] = lines[501], lines[500]
    data.write_text("\n".join(lines))
    assert "502" in refusal(pump, data)


def test_another_rate_is_refused_unless_it_is_let_pass(pump: Path, folder: Path) -> None:
    data = record(folder / "mine.csv", values_of(900), period=1.0)
    assert "a reading every 1 s, but the model was made for one every 60 s" in refusal(pump, data)
    assert run(pump, data, "--any-rate").exit_code == 0
    assert CalibrationFile.read(calibration_path(pump)).detection.readings == 880


@pytest.mark.parametrize("name", ["tiny_ports", "tiny_tokens"])
def test_a_model_without_residuals_is_refused(
    folder: Path, name: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(name).write(folder / "other.tflite")
    data = record(folder / "mine.csv", values_of(900))
    assert "neither forecasts its channels nor reconstructs" in refusal(
        folder / "other.tflite", data
    )


def test_a_calibration_beside_stands_in_the_way_of_one_within(pump: Path, folder: Path) -> None:
    data = record(folder / "mine.csv", values_of(900))
    run(pump, data)
    assert "would be taken in place of what is in it" in refusal(pump, data, "--into")


# Missing values, gaps and the end


def test_missing_values_and_gaps_cost_what_they_must(
    pump: Path, folder: Path, tiny: Artifact
) -> None:
    values = values_of(900)
    values[300, 0] = np.nan
    values[400] = np.nan
    result = run(pump, record(folder / "mine.csv", values))
    assert result.exit_code == 0, result.output
    made = CalibrationFile.read(calibration_path(pump)).detection
    assert made.readings == 880 - 2  # the empty reading, and the one whose forecast it made void
    assert made.channel_mean == pytest.approx(np.nanmean(values, axis=0))


def readings(values: Array) -> Iterator[Reading]:
    return (Reading(i * PERIOD, tuple(row)) for i, row in enumerate(values.tolist()))


def test_ctrl_c_ends_it_with_what_is_there(tiny: Artifact) -> None:
    def interrupted() -> Iterator[Reading]:
        yield from readings(values_of(300))
        raise KeyboardInterrupt

    with Session(tiny) as session:
        found, _ = collect(session, interrupted(), lambda *_: True)
    assert len(found) == 300
    assert np.isfinite(found.residuals).all(axis=1).sum() == 280


def test_it_ends_when_told(tiny: Artifact) -> None:
    seconds: list[float] = []

    def go_on(found: Collected, passed: float) -> bool:
        seconds.append(passed)
        return len(found) < 50

    with Session(tiny) as session:
        given = session.artifact
        found, _ = collect(session, readings(values_of(300)), go_on)
        assert session.artifact is given
    assert len(found) == 50
    assert seconds == [i * PERIOD for i in range(50)]


def test_collected_rows_are_those_that_were_added() -> None:
    found = Collected(2, 3)
    rng = np.random.default_rng(0)
    values, residuals = rng.normal(size=(2500, 2)), rng.normal(size=(2500, 3))
    for i, (x, r) in enumerate(zip(values, residuals, strict=True)):
        found.add(tuple(x), r if i % 2 else None)
    assert np.array_equal(found.values, values)
    assert np.array_equal(found.residuals[1::2], residuals[1::2])
    assert np.isnan(found.residuals[::2]).all()
    assert found.room == 10_000_000


def test_a_channel_that_is_late_stands_at_its_mean_meanwhile(tiny: Artifact) -> None:
    assert tiny.manifest.detection is not None
    late, mean = values_of(100), values_of(100)[10:]
    late[:60, 0] = np.nan
    mean[:50, 0] = tiny.manifest.detection.channel_mean[0]
    with Session(tiny) as session:
        found, _ = collect(session, readings(late), lambda *_: True)
        expected, _ = collect(session, readings(mean), lambda *_: True)
    assert np.isfinite(found.residuals[30:, 1]).all()
    np.testing.assert_array_equal(found.residuals[10:60, 1], expected.residuals[:50, 1])
