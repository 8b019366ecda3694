"""What `edgelstm train` refuses or remarks on before TensorFlow is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgelstm.cli import main
from edgelstm.commands.resampling import as_trained, how_resampled, resample
from edgelstm.errors import RecordingError
from edgelstm.recording import Recording

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes columns to a CSV file, with a reading every 10 s unless told otherwise."""

    def write_file(name: str = "pump.csv", period: float = 10.0, **columns: object) -> str:
        rows = [[str(cell) for cell in column] for column in columns.values()]  # type: ignore[attr-defined]
        times = [1.7e9 + period * i for i in range(len(rows[0]))]
        lines = [",".join(row) for row in zip(map(str, times), *rows, strict=True)]
        path = tmp_path / name
        path.write_text("\n".join([",".join(["time", *columns]), *lines]) + "\n")
        return str(path)

    return write_file


def train(*arguments: str) -> Result:
    output = Path(arguments[0]).with_name("model.keras")
    return CliRunner().invoke(main, ["train", *arguments, "-o", str(output)])


def refusal(*arguments: str) -> str:
    result = train(*arguments)
    assert result.exit_code == 2
    last = result.output.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert "Traceback" not in result.output
    assert not Path(arguments[0]).with_name("model.keras").exists()
    return last


def noise(rows: int, seed: int = 0) -> list[float]:
    return np.random.default_rng(seed).normal(20, 1, rows).round(4).tolist()  # type: ignore[no-any-return]


def test_too_short(write: Write) -> None:
    assert "pump.csv: 120 readings can be trained on; this training needs at least 180" in refusal(
        write(flow=noise(120))
    )
    message = refusal(write(flow=noise(400)), "--rows", "0:150")
    assert "150 readings can be trained on" in message
    message = refusal(write(flow=noise(300)), "--horizon", "50")
    assert "300 readings can be trained on; this training needs at least 327" in message
    message = refusal(write(flow=noise(400)), "--model", "autoencoder", "--window", "64")
    assert "needs at least 576" in message


def test_constant_everything(write: Write) -> None:
    assert "no channel ever changes" in refusal(write(flow=[3] * 400, level=[4] * 400))


@pytest.mark.parametrize("option", ["--target", "--categorical", "--columns"])
def test_unknown_column(write: Write, option: str) -> None:
    message = refusal(write(flow=noise(400)), option, "presure")
    assert "'presure'" in message
    assert "flow" in message


def test_categorical_with_hundreds_of_values(write: Write) -> None:
    path = write(flow=noise(400), batch=[f"b{i}" for i in range(400)])
    assert "'batch' has 400 different values" in refusal(path, "--categorical", "batch")


def test_time_going_backwards(write: Write, tmp_path: Path) -> None:
    lines = Path(write(flow=noise(400))).read_text().splitlines()
    lines[200], lines[300] = lines[300], lines[200]
    (tmp_path / "pump.csv").write_text("\n".join(lines))
    message = refusal(str(tmp_path / "pump.csv"))
    assert "pump.csv, line 202: the time goes back" in message
    assert "daylight saving" in message


def test_files_with_different_channels(write: Write) -> None:
    paths = write("a.csv", flow=noise(400)), write("b.csv", level=noise(400))
    assert "a.csv has flow, but b.csv has level" in refusal(*paths)


def test_files_with_different_periods(write: Write) -> None:
    paths = write("a.csv", flow=noise(400)), write("b.csv", 60, flow=noise(400))
    assert "a.csv has a reading every 10 s, but b.csv one every 60 s" in refusal(*paths)


def test_the_file_is_the_output(write: Write, tmp_path: Path) -> None:
    path = write("model.keras", flow=noise(400))
    for also in ([], ["--force"]):
        result = train(path, *also)
        assert result.exit_code == 2
        assert "model.keras is the recording itself; name another output" in result.output
    (tmp_path / "report.html").symlink_to(path)
    result = CliRunner().invoke(
        main,
        ["train", path, "-o", str(tmp_path / "x.keras"), "--report", str(tmp_path / "report.html")],
    )
    assert result.exit_code == 2
    assert "is the recording itself" in result.output
    assert Path(path).read_text().startswith("time,flow")


def test_no_file_and_an_empty_one(write: Write, tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal(str(tmp_path / "pump.csv"))
    (tmp_path / "pump.csv").write_text("")
    assert "pump.csv is empty" in refusal(str(tmp_path / "pump.csv"))


def test_text_among_numbers(write: Write) -> None:
    path = write(flow=[*noise(400), "off"])
    assert "line 402, column 'flow': 'off' is not a number" in refusal(path)


def test_warm_start_that_is_no_model(write: Write, tmp_path: Path) -> None:
    path = write(flow=noise(400))
    assert "cannot be read" in refusal(path, "--warm-start", str(tmp_path / "none.keras"))


def test_report_that_is_no_page(write: Write, tmp_path: Path) -> None:
    path = write(flow=noise(400))
    assert "report.txt does not end in .html" in refusal(
        path, "--report", str(tmp_path / "report.txt")
    )


@pytest.mark.parametrize(
    "option",
    [
        ["--units", "0"],
        ["--horizon", "0"],
        ["--dropout", "1"],
        ["--model", "mlp"],
        ["--seed", "-1"],
        ["--seed", str(2**32)],
    ],
)
def test_options_that_make_no_sense(write: Write, option: list[str]) -> None:
    assert option[0] in refusal(write(flow=noise(400)), *option)


# Resampling


def waves(rows: int, period: float) -> Recording:
    times = 1.7e9 + np.arange(rows, dtype=np.float64) * period
    return Recording("pump.csv", ("wave", "mode"), times, np.zeros((rows, 2)), period)


def test_resampling_to_a_slower_rate_takes_means() -> None:
    given = waves(600, 1.0)
    given.values[:, 0] = np.arange(600)
    given.values[:, 1] = np.repeat([3, 8], 300)
    found = resample(given, 10.0, ["mode"])
    assert found.sample_period == 10
    assert np.diff(found.timestamps).tolist() == [10.0] * (len(found) - 1)
    assert set(found.values[:, 1]) == {3.0, 8.0}  # no mode between the two
    at = given.timestamps.searchsorted(found.timestamps[5])
    assert found.values[5, 0] == pytest.approx(np.arange(600)[at - 5 : at + 5].mean())
    assert how_resampled(given, 10.0).startswith("means")
    assert found.lines is None
    assert "10 s" in found.source


def test_resampling_to_a_faster_rate_goes_along_the_line() -> None:
    given = waves(50, 10.0)
    given.values[:, 0] = np.arange(50)
    found = resample(given, 5.0)
    np.testing.assert_allclose(np.diff(found.values[:, 0]), 0.5)
    assert how_resampled(given, 5.0).startswith("on the line")


def test_resampling_keeps_gaps_and_missing_values() -> None:
    given = waves(200, 1.0)
    given.values[:, 0] = 5
    given.values[50:60, 0] = np.nan
    given.timestamps[100:] += 500
    found = resample(given, 2.0)
    assert np.diff(found.timestamps).max() == 500
    assert np.isnan(found.values[:, 0]).sum() in range(3, 7)


def test_resampling_what_goes_back_in_time() -> None:
    given = waves(100, 1.0)
    given.timestamps[50:] -= 30
    with pytest.raises(RecordingError, match="the time goes back"):
        resample(given, 2.0)


def test_a_recording_at_the_rate_of_the_model_stays_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = waves(100, 1.0)
    assert as_trained(given, 1.05) is given
    assert as_trained(given, None) is given
    assert capsys.readouterr().err == ""
    assert as_trained(given, 2.0).sample_period == 2
    assert as_trained(given, 1.0, always=True).resampled
    assert "pump.csv is resampled to one reading every 2 s" in capsys.readouterr().err
