from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

import edgelstm
from edgelstm.artifact import Artifact
from edgelstm.cli import main
from edgelstm.manifest import Manifest

COMMANDS = ("demo", "train", "quantize", "inspect", "run", "simulate")


@pytest.fixture(autouse=True)
def sigterm() -> Iterator[None]:
    """`run` installs a handler, which must not outlive the test."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True)
def no_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests do must be settled before the job in its own process starts."""

    def fail(*arguments: object, **options: object) -> None:
        raise AssertionError

    monkeypatch.setattr("edgelstm_quantize.isolated.run_isolated", fail)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a recording `pump.csv` in it."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{60 * i},{20 + i % 7},{-5 - i % 3}\n" for i in range(400))
    Path("pump.csv").write_text("time,flow,level\n" + rows)
    return tmp_path


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def refusal(*arguments: str | Path) -> str:
    """The one sentence with which a command ends; it may leave or change no file."""

    def files() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in Path.cwd().rglob("*") if p.is_file()}

    before = files()
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert files() == before
    return line.removeprefix("Error: ")


# Help


def test_commands() -> None:
    assert set(COMMANDS) <= set(main.commands)


def test_version() -> None:
    result = invoke("--version")
    assert result.exit_code == 0
    assert edgelstm.__version__ in result.stdout


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_the_commands(option: str) -> None:
    result = invoke(option)
    assert result.exit_code == 0
    for name in main.commands:
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize("name", main.commands)
def test_command_has_help(name: str) -> None:
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")
    command = main.commands[name]
    assert command.help
    options = [p for p in command.params if isinstance(p, click.Option)]
    assert all(p.help for p in options)


@pytest.mark.parametrize("name", main.commands)
def test_help_has_an_example(name: str) -> None:
    assert f"Example: edgelstm {name}" in invoke(name, "--help").stdout


# Recordings


def reading_commands() -> list[tuple[str, ...]]:
    """Commands that read a recording, with a place for its name."""
    return [
        ("train", "{}", "-o", "pump.keras"),
        ("quantize", "pump.keras", "--calibration", "{}", "-o", "pump.tflite"),
        ("simulate", "{}"),
    ]


@pytest.fixture(params=reading_commands(), ids=lambda c: c[0])
def command(request: pytest.FixtureRequest, folder: Path) -> list[str]:
    return list(request.param)


def on(command: list[str], csv: str) -> list[str]:
    return [part.format(csv) for part in command]


def test_missing_recording(command: list[str]) -> None:
    assert (
        refusal(*on(command, "gone.csv")) == "gone.csv cannot be read: No such file or directory."
    )


def test_recording_that_is_a_folder(command: list[str], folder: Path) -> None:
    assert "cannot be read: Is a directory" in refusal(*on(command, str(folder)))


def test_text_in_a_column_of_numbers(command: list[str], folder: Path) -> None:
    (folder / "bad.csv").write_text("time,flow\n0,1\n1,off\n2,3\n")
    message = refusal(*on(command, "bad.csv"))
    assert message.startswith("bad.csv, line 3, column 'flow': 'off' is not a number.")


def test_rows_beyond_the_recording(command: list[str]) -> None:
    message = refusal(*on(command, "pump.csv"), "--rows", "400:")
    assert message == "pump.csv has 400 rows; the rows 400: are none of them."


def test_unknown_columns(command: list[str]) -> None:
    message = refusal(*on(command, "pump.csv"), "--columns", "flow,presure")
    assert "no column 'presure'; its columns are time, flow, level" in message


def test_rows_of_another_form(command: list[str]) -> None:
    result = invoke(*on(command, "pump.csv"), "--rows", "750")
    assert result.exit_code == 2
    assert "'750' is not of the form START:STOP, such as 0:750." in result.stderr
    assert "Traceback" not in result.stderr


# Outputs


@pytest.fixture(params=["train", "quantize"])
def writing(request: pytest.FixtureRequest, folder: Path) -> list[str]:
    if request.param == "train":
        return ["train", "pump.csv"]
    return ["quantize", "pump.keras", "--calibration", "pump.csv"]


@pytest.mark.usefixtures("folder")
def test_output_in_a_missing_folder(writing: list[str]) -> None:
    message = refusal(*writing, "-o", "no/such/pump.keras")
    assert message == "The folder no/such does not exist; make it first."


def test_output_that_exists(writing: list[str], folder: Path) -> None:
    (folder / "pump.keras").write_text("precious")
    message = refusal(*writing, "-o", "pump.keras")
    assert message == "pump.keras exists already; use --force to replace it."


def test_output_that_is_a_folder(writing: list[str], folder: Path) -> None:
    (folder / "models.keras").mkdir()
    assert "models.keras is a folder" in refusal(*writing, "-o", "models.keras")


@pytest.mark.usefixtures("folder")
def test_output_of_train_with_another_suffix() -> None:
    assert "does not end in .keras" in refusal("train", "pump.csv", "-o", "pump.h5")


# Artifacts


def artifact_commands() -> list[tuple[str, ...]]:
    return [("inspect", "{}"), ("inspect", "--json", "{}"), ("run", "{}", "--port", "/dev/gone")]


@pytest.fixture(params=artifact_commands(), ids=" ".join)
def opening(request: pytest.FixtureRequest, folder: Path) -> list[str]:
    return list(request.param)


def test_missing_artifact(opening: list[str]) -> None:
    message = refusal(*on(opening, "gone.tflite"))
    assert message == "gone.tflite cannot be read: No such file or directory."


def test_artifact_that_is_none(opening: list[str]) -> None:
    assert "pump.csv is not an edgelstm artifact" in refusal(*on(opening, "pump.csv"))


def test_damaged_artifact(
    opening: list[str], folder: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*arguments: object) -> None:  # as an interpreter may, on damaged bytes
        raise AssertionError

    monkeypatch.setattr("edgelstm.session.open_graph", crash)
    damaged = bytearray(tiny_path.read_bytes())
    damaged[2000] ^= 0xFF
    (folder / "pump.tflite").write_bytes(damaged)
    assert "pump.tflite is damaged" in refusal(*on(opening, "pump.tflite"))


def test_truncated_artifact(opening: list[str], folder: Path, tiny_path: Path) -> None:
    (folder / "pump.tflite").write_bytes(tiny_path.read_bytes()[:-1000])
    assert "without a readable edgelstm manifest" in refusal(*on(opening, "pump.tflite"))


@pytest.mark.usefixtures("folder")
def test_run_on_a_missing_port(tiny_path: Path) -> None:
    assert "/dev/gone" in refusal("run", tiny_path, "--port", "/dev/gone")


@pytest.mark.usefixtures("folder")
def test_run_with_a_budget_that_is_too_generous(tiny_path: Path) -> None:
    options = ("--port", "/dev/gone", "--false-alarms-per-day", "1000")
    assert "fewer false alarms per day" in refusal("run", tiny_path, *options)


@pytest.mark.usefixtures("folder")
def test_run_checks_the_golden_vectors(tiny: Artifact, folder: Path) -> None:
    y = tiny.golden.y.copy()
    y[7] = np.where(y[7] > 0, -50, 50)
    golden = dataclasses.replace(tiny.golden, y=y)
    dataclasses.replace(tiny, golden=golden).write(folder / "pump.tflite")
    message = refusal("run", "pump.tflite", "--port", "/dev/gone")
    assert "does not give its golden vectors on this machine (first at step 7)" in message


# What inspect shows


def test_inspect_page(tiny_path: Path, tiny: Artifact) -> None:
    result = invoke("inspect", tiny_path)
    assert result.exit_code == 0
    page = {line[:11].strip(): line[11:] for line in result.stdout.splitlines()}
    manifest, size = tiny.manifest, tiny_path.stat().st_size
    assert (
        page["file"]
        == f"tiny.tflite, {size:,} bytes (model {manifest.flatbuffer_bytes:,}), undamaged"
    )
    assert page["recipe"] == "int8"
    assert page["period"] == "1 min"
    assert page["sha256"] == manifest.sha256
    assert page["threshold"].startswith("one false alarm in 7 days, set on ")
    assert page["golden"] == f"128 steps, tolerance {manifest.golden_tolerance:g}"
    assert page["fidelity"].startswith(f"{manifest.fidelity.relative_error:.2%} of the output")
    assert page["input"].startswith(f"x int8 (1 x 1 x 2), scale {manifest.input.scale:.4g}, ")
    labels = [line[:11].strip() for line in result.stdout.splitlines()]
    assert labels.count("channel") == 2
    assert labels.count("target") == 2
    assert labels.count("state") == 2


def test_inspect_json_is_the_manifest(tiny_path: Path, tiny: Artifact) -> None:
    result = invoke("inspect", tiny_path, "--json")
    assert result.exit_code == 0
    assert Manifest.from_json(result.stdout) == tiny.manifest
    assert json.loads(result.stdout)["name"] == "tiny"


# As a program


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgelstm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_program_shows_its_name_in_the_help() -> None:
    done = program("--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: edgelstm [OPTIONS] COMMAND")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "arguments", [("train", "gone.csv", "-o", "pump.keras"), ("inspect", "pump.csv")]
)
def test_program_ends_with_a_sentence_and_code_2(arguments: tuple[str, ...]) -> None:
    done = program(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")


def test_quantize_writes_tflite_files_only(folder: Path) -> None:
    message = refusal("quantize", "pump.keras", "--calibration", "pump.csv", "-o", "pump.keras2")
    assert "does not end in .tflite" in message


def test_a_model_that_is_not_keras_is_refused(folder: Path) -> None:
    (folder / "pump.keras").write_text("no model")
    message = refusal("quantize", "pump.keras", "--calibration", "pump.csv", "-o", "pump.tflite")
    assert message == (
        "pump.keras is not a Keras model: it is neither a .keras archive nor an HDF5 file."
    )
