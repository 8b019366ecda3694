"""`edgelstm train`, from files to a model, a record and a report."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgelstm.cli import main
from edgelstm_quantize import keras_files

MODES = ("idle", "wash")


def write(path: Path, rows: int, seed: int, start: float = 1.7e9) -> Path:
    """A pump with two modes, whose level follows its flow; now and then a cell is missing."""
    rng = np.random.default_rng(seed)
    mode = np.arange(rows) // 40 % 2
    flow = 5 + 3 * mode + 0.5 * np.sin(np.arange(rows) / 6) + rng.normal(0, 0.05, rows)
    level = np.roll(flow, 1) * 2 + rng.normal(0, 0.1, rows)
    lines = ["time,mode,flow,level"]
    for i in range(rows):
        cells = [f"{start + 2 * i:.1f}", MODES[mode[i]], f"{flow[i]:.4f}", f"{level[i]:.4f}"]
        if i % 50 == 7:
            cells[2] = ""
        lines.append(",".join(cells))
    path.write_text("\n".join(lines) + "\n")
    return path


def train(*arguments: str | Path) -> str:
    result = CliRunner().invoke(main, ["train", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    write(folder / "a.csv", 260, 1)
    write(folder / "b.csv", 240, 2, 1.8e9)
    return folder


@pytest.fixture(scope="module")
def output(folder: Path) -> str:
    """What is printed when two files with missing values and modes are trained on."""
    return train(
        *(folder / "a.csv", folder / "b.csv", "-o", folder / "pump.keras"),
        *("--categorical", "mode", "--units", "4", "--iterations", "20", "--horizon", "1"),
        *("--report", folder / "pump.html"),
    )


def test_the_record_says_what_it_was_trained_on(folder: Path, output: str) -> None:
    model, record = keras_files.load(folder / "pump.keras")
    assert record
    assert record.channels == ("mode", "flow", "level")
    assert record.targets == ("flow", "level")
    assert record.categories == (MODES, None, None)
    assert (record.task, record.horizon, record.sample_period) == ("forecast", 1, 2.0)
    assert record.residuals.shape == (500, 2)
    assert model.output_shape[-1] == 2


def test_what_people_are_told(folder: Path, output: str) -> None:
    assert "Read 500 readings from 2 files." in output
    assert "Targets are flow, level; mode only helps." in output
    assert "Note: a.csv: 6 missing values are filled with the last good one (flow 6)" in output
    assert "Trained on 500 readings of mode, flow, level (" in output
    assert re.search(r"Forecast error on readings it had not seen: 0\.\d+ standard dev", output)
    assert re.search(r"its linear part alone: 0\.\d+", output)
    assert re.search(r"Best forecast is \w+ \(\d+% of its variance explained\), worst", output)
    assert f"Wrote {folder / 'pump.keras'}.\nWrote {folder / 'pump.html'}." in output


def test_the_report_is_written(folder: Path, output: str) -> None:
    page = (folder / "pump.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "6 missing values are filled" in page
    assert "categories: idle, wash" in page


def test_an_output_that_exists_is_kept(folder: Path, output: str) -> None:
    before = (folder / "pump.keras").read_bytes()
    result = CliRunner().invoke(
        main, ["train", str(folder / "a.csv"), "-o", str(folder / "pump.keras")]
    )
    assert result.exit_code == 2
    assert "--force" in result.output
    assert (folder / "pump.keras").read_bytes() == before


def test_warm_start(folder: Path, output: str) -> None:
    """It begins with the other model's weights: with no iteration they are still there."""
    said = train(
        *(folder / "b.csv", folder / "a.csv", "-o", folder / "warm.keras"),
        *("--categorical", "mode", "--units", "4", "--iterations", "0"),
        *("--warm-start", folder / "pump.keras"),
    )
    assert "0 iterations of the LSTM" in said
    # The same files, if in another order.
    assert "pump.keras was trained on some of these readings" in said
    ours, theirs = (
        keras_files.load(folder / name)[0].get_layer("lstm").get_weights()
        for name in ("warm.keras", "pump.keras")
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_resampled_ridge_of_one_target(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 700, 1)
    said = train(
        *(path, "-o", tmp_path / "r.keras", "--model", "ridge", "--resample", "4"),
        *("--columns", "flow,level", "--target", "level", "--horizon", "2"),
    )
    assert "one every 4 s: means of the readings around each time" in said
    assert "Targets are level; flow only helps." in said
    assert "iterations" not in said
    _, record = keras_files.load(tmp_path / "r.keras")
    assert record
    assert record.sample_period == 4
    assert record.targets == ("level",)
    assert record.horizon == 2
    assert 345 <= len(record.residuals) <= 352


def test_autoencoder(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 500, 1)
    said = train(
        *(path, "-o", tmp_path / "e.keras", "--model", "autoencoder", "--window", "8"),
        *("--units", "3", "--iterations", "10", "--report", tmp_path / "e.html"),
    )
    assert "Reconstruction error on readings it had not seen" in said
    assert "Note: A linear model is better" in said  # ten iterations are none
    _, record = keras_files.load(tmp_path / "e.keras")
    assert record
    assert record.task == "reconstruction"
    assert record.residuals.shape[1] == 8 * 2
    assert "give its window of readings back" in (tmp_path / "e.html").read_text()


def test_rows_apply_to_each_file(folder: Path) -> None:
    said = train(
        *(folder / "a.csv", folder / "b.csv", "-o", folder / "rows.keras", "--rows", "10:180"),
        *("--model", "ridge"),
    )
    assert "Read 340 readings from 2 files." in said
    assert "Trained on 340 readings of flow, level" in said


def test_quantize_resamples_as_the_training_did(tmp_path: Path) -> None:
    """At the same rate, too, and with the modes held: then it has the readings of the training."""
    rng = np.random.default_rng(4)
    times = 1.7e9 + np.arange(600) + rng.uniform(-0.4, 0.4, 600)
    mode = np.arange(600) // 30 % 3
    flow = np.sin(np.arange(600) / 4) + 2 * mode + rng.normal(0, 0.3, 600)
    cells = zip(times.tolist(), mode.tolist(), flow.tolist(), strict=True)
    rows = [f"{time:.3f},{code},{value:.4f},{value:.4f},0.1" for time, code, value in cells]
    path, model = tmp_path / "a.csv", tmp_path / "m.keras"
    path.write_text("\n".join(["time,mode,flow,same,steady", *rows]) + "\n")
    said = train(
        *(path, "-o", model, "--model", "ridge", "--resample", "1", "--categorical", "mode")
    )
    # What never changes is not what is forecast best.
    assert re.search(r"Best forecast is same \((\d+%) of .* explained\), worst flow \(\1\)", said)
    record = keras_files.read_record(model)
    assert record
    assert record.resampled
    assert record.categorical == ("mode",)
    artifact = tmp_path / "m.tflite"
    result = CliRunner().invoke(
        main, ["quantize", str(model), "--calibration", str(path), "-o", str(artifact)]
    )
    assert result.exit_code == 0, result.output
    assert "out-of-fold residuals" in result.output
