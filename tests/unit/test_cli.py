from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

import edgelstm
from edgelstm.artifact import Artifact, Golden
from edgelstm.cli import main
from edgelstm.commands.quantize import describe_conversion, describe_detection
from edgelstm.errors import ConversionError
from edgelstm.manifest import Manifest
from edgelstm_quantize.jobs import QuantizeOptions, TargetDevice
from edgelstm_quantize.summary import DetectionSummary

COMMANDS = ("demo", "train", "quantize", "inspect", "calibrate", "run", "simulate")


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--faults", "bang=5"), "'bang=5' is no fault; write them as in drop=0.2%,"),
        (("--faults", "drop=200%"), "drop is a share of the bytes from 0 to below 100%, not 2."),
        (("--rate", "5", "--as-fast-as-possible"), "exclude each other; give one."),
        (("--boot-message", "hi"), "--boot-message needs a text format; give --format csv, say."),
        (("--link", "."), "exists and is not a symbolic link; choose another name."),
    ],
)
@pytest.mark.usefixtures("folder")
def test_simulate_with_nonsense(options: tuple[str, ...], message: str) -> None:
    assert message in refusal("simulate", "pump.csv", *options)


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf", "fast"])
@pytest.mark.usefixtures("folder")
def test_simulate_at_no_rate(rate: str) -> None:
    result = invoke("simulate", "pump.csv", "--rate", rate)
    assert result.exit_code == 2
    assert f"{rate!r} is neither a rate above 0 nor the word recorded." in result.stderr
    assert result.stdout == ""


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
    assert "does not give its golden vectors on this machine: the runtime litert" in message
    assert "first in run 7, target " in message


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
    tolerance = max(manifest.golden_tolerance)
    assert page["golden"] == f"128 readings, tolerance {tolerance:g} at most"
    error, most = manifest.fidelity.relative_error, manifest.fidelity.max_error
    assert page["fidelity"] == (
        f"differs by {error:.2%} of the output over 180 steps, {most:.2%} at most"
    )
    scale = manifest.inputs[0].tensor.scale
    assert page["input"].startswith(f"x int8 (1 x 2), scale {scale:.4g}, zero point ")


def page_of(artifact: Path) -> list[tuple[str, str]]:
    result = invoke("inspect", artifact)
    assert result.exit_code == 0
    return [(line[:11].strip(), line[11:]) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("name", "mode", "recipe", "labels"),
    [
        ("tiny", "stream, one step per reading", "int8", (2, 2, 1, 1)),
        ("tiny_float", "stream, one step per reading", "int8-float", (2, 2, 1, 1)),
        ("tiny_window", "window of 8 readings, run every 3 readings", "int8", (2, 2, 1, 1)),
        ("tiny_ports", "stream, one step per reading", "int8", (3, 3, 2, 2)),
        ("tiny_tokens", "stream, one step per reading", "int8", (1, 5, 1, 1)),
    ],
)
def test_inspect_page_of(
    name: str,
    mode: str,
    recipe: str,
    labels: tuple[int, ...],
    tiny_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    page = page_of(tiny_path.with_name(f"{name}.tflite"))
    found = [label for label, _ in page]
    kinds = ("channel", "target", "input", "output")
    assert tuple(map(found.count, kinds)) == labels
    assert found.count("state") == len(request.getfixturevalue(name).manifest.states)
    values = dict(page)
    assert (values["mode"], values["recipe"]) == (mode, recipe)
    assert values["runtimes"].startswith("ai-edge-litert ")
    assert ("tflite-runtime" in values["runtimes"]) == (name != "tiny_float")
    assert "FULLY_CONNECTED v" in values["operations"]


def test_inspect_shows_what_a_forecast_forecasts(tiny_path: Path) -> None:
    page = page_of(tiny_path.with_name("tiny_float.tflite"))
    assert ("channel", "flow: mean 20, std 2.121") in page
    assert ("target", "level: mean -5, std 0.7071, 1 step ahead") in page
    assert ("input", "x float32 (1 x 2)") in page
    assert ("state", "state_0 float32 (1 x 32) -> next_state_0") in page


def test_inspect_shows_ports_and_tokens(tiny_path: Path) -> None:
    ports = page_of(tiny_path.with_name("tiny_ports.tflite"))
    assert [v.split(":")[0] for k, v in ports if k == "target"] == [
        "higher_0",
        "higher_1",
        "next_load",
    ]
    assert [v.split()[0] for k, v in ports if k in ("input", "output")] == [
        "vibration",
        "load",
        "higher",
        "next_load",
    ]
    assert ("threshold", "none") in ports
    tokens = page_of(tiny_path.with_name("tiny_tokens.tflite"))
    assert ("channel", "channel_0: 5 tokens") in tokens
    assert ("input", "token int32 (1)") in tokens


def test_inspect_shows_units(tiny: Artifact, folder: Path) -> None:
    (port,) = tiny.manifest.inputs
    channel = dataclasses.replace(port.channels[0], unit="l/min")
    port = dataclasses.replace(port, channels=(channel, port.channels[1]))
    changed(tiny, inputs=(port,)).write(folder / "pump.tflite")
    assert ("channel", "flow: mean 20 l/min, std 2.121 l/min") in page_of(folder / "pump.tflite")


def changed(artifact: Artifact, **changes: Any) -> Artifact:
    manifest = dataclasses.replace(artifact.manifest, **changes)
    return dataclasses.replace(artifact, manifest=manifest)


def test_inspect_shows_the_first_of_many_targets(tiny: Artifact, folder: Path) -> None:
    (port,) = tiny.manifest.outputs
    for targets, more in ((16, []), (17, ["... and 1 more"]), (40, ["... and 24 more"])):
        tensor = dataclasses.replace(port.tensor, shape=(1, targets))
        many = dataclasses.replace(port, channels=port.channels[:1] * targets, tensor=tensor)
        tolerance = (1.0,) * targets
        artifact = changed(tiny, outputs=(many,), golden_tolerance=tolerance, detection=None)
        golden = Golden(tiny.golden.x, np.zeros((len(tiny.golden.x), targets), np.int8))
        dataclasses.replace(artifact, golden=golden).write(folder / "wide.tflite", force=True)
        shown = [value for label, value in page_of(folder / "wide.tflite") if label == "target"]
        assert shown[16:] == more
        assert all(value.startswith("flow: ") for value in shown[:16])


def test_inspect_of_a_window_that_runs_at_every_reading(
    tiny_window: Artifact, folder: Path
) -> None:
    golden = Golden(tiny_window.golden.x[:8], tiny_window.golden.y[:1])
    artifact = dataclasses.replace(changed(tiny_window, hop=1), golden=golden)
    artifact.write(folder / "pump.tflite")
    page = page_of(folder / "pump.tflite")
    assert ("mode", "window of 8 readings, run at every reading") in page


def test_inspect_of_an_artifact_that_no_runtime_was_tried_with(
    tiny: Artifact, folder: Path
) -> None:
    changed(tiny, runtimes={}).write(folder / "pump.tflite")
    assert ("runtimes", "none that was tried") in page_of(folder / "pump.tflite")


@pytest.mark.parametrize("name", ["tiny", "tiny_float", "tiny_window", "tiny_ports", "tiny_tokens"])
def test_inspect_json_is_the_manifest(
    name: str, tiny_path: Path, request: pytest.FixtureRequest
) -> None:
    result = invoke("inspect", tiny_path.with_name(f"{name}.tflite"), "--json")
    assert result.exit_code == 0
    assert Manifest.from_json(result.stdout) == request.getfixturevalue(name).manifest
    assert json.loads(result.stdout)["recipe"] in ("int8", "int8-float")


# What quantize is given, and what it says


@pytest.fixture
def given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the job in its own process is asked to do, instead of doing it."""
    (folder / "pump.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    asked: list[Any] = []

    def note(job: object, *arguments: Any, **options: Any) -> None:
        asked.extend([*arguments, options])
        raise ConversionError("Enough.")

    monkeypatch.setattr("edgelstm_quantize.isolated.run_isolated", note)
    return asked


QUANTIZE = ("quantize", "pump.h5", "--calibration", "pump.csv", "-o", "pump.tflite")


def test_quantize_asks_for_what_its_options_say(given: list[Any]) -> None:
    options = (
        *("--recipe", "int16x8", "--runtime", "tflite-runtime", "--max-error", "2%"),
        *("--mode", "window", "--window", "16", "--hop", "4", "--custom-objects", "mine.py"),
        *("--name", "pump 7", "--horizon", "0", "--false-alarms-per-day", "3"),
        *("--force-recipe", "--allow-low-fidelity", "--device", "pi4", "--report", "pump.html"),
    )
    assert refusal(*QUANTIZE, *options) == "Enough."
    model, (recording,), output, asked, rest = given
    assert (model, output) == (Path("pump.h5"), Path("pump.tflite"))
    assert (len(recording), recording.channels) == (400, ("flow", "level"))
    assert asked == QuantizeOptions(
        recipe="int16x8",
        device=TargetDevice("pi4", "ai-edge-litert", "int8-float", ""),
        runtime="tflite-runtime",
        mode="window",
        window=16,
        hop=4,
        name="pump 7",
        horizon=0,
        false_alarms_per_day=3,
        max_error=0.02,
        force_recipe=True,
        allow_low_fidelity=True,
        custom_objects="mine.py",
    )
    assert (rest["report"], rest["force"]) == (Path("pump.html"), False)


def test_quantize_asks_for_the_detection_that_its_options_say(given: list[Any]) -> None:
    options = (
        *("--task", "forecast", "--horizon", "3", "--target", "level", "--target", "flow"),
        *("--scorer", "robust", "--threshold", "conformal", "--false-alarms-per-month", "30.4375"),
        *("--range", "flow=0:40", "--range", "level=:0"),
    )
    assert refusal(*QUANTIZE, *options) == "Enough."
    assert given[3] == QuantizeOptions(
        name="pump",
        task="forecast",
        horizon=3,
        targets=("level", "flow"),
        scorer="robust",
        threshold="conformal",
        ranges={"flow": (0.0, 40.0), "level": (None, 0.0)},
        false_alarms_per_day=1.0,
    )


def test_quantize_takes_one_budget_and_one_range(given: list[Any]) -> None:
    budgets = ("--false-alarms-per-day", "1", "--false-alarms-per-month", "30")
    assert "two words for one budget" in refusal(*QUANTIZE, *budgets)
    assert "twice" in refusal(*QUANTIZE, "--range", "flow=0:1", "--range", "flow=0:2")
    assert not given


def test_quantize_leaves_the_choice_to_the_converter(given: list[Any]) -> None:
    assert refusal(*QUANTIZE) == "Enough."
    assert given[3] == QuantizeOptions(name="pump")
    assert given[4]["report"] is None


def test_quantize_takes_several_recordings(given: list[Any], folder: Path) -> None:
    (folder / "more.csv").write_text("time,flow,level\n0,1,2\n60,3,4\n")
    assert refusal(*QUANTIZE, "--calibration", "more.csv", "--columns", "level") == "Enough."
    assert [(len(r), r.channels) for r in given[1]] == [(400, ("level",)), (2, ("level",))]


@pytest.mark.parametrize("share", ["0%", "100%", "-1%", "1", "nan", "one"])
def test_quantize_refuses_an_error_that_is_no_share(given: list[Any], share: str) -> None:
    result = invoke(*QUANTIZE, "--max-error", share)
    assert result.exit_code == 2
    assert "Invalid value for '--max-error'" in result.stderr
    assert given == []


def test_quantize_refuses_an_unknown_device(given: list[Any]) -> None:
    message = refusal(*QUANTIZE, "--device", "pi9")
    assert message.startswith("No device is called 'pi9'; the known ones are ")
    assert given == []


def test_quantize_refuses_a_report_that_exists_or_is_no_page(
    given: list[Any], folder: Path
) -> None:
    (folder / "pump.html").write_text("precious")
    message = refusal(*QUANTIZE, "--report", "pump.html")
    assert message == "pump.html exists already; use --force to replace it."
    assert "does not end in .html" in refusal(*QUANTIZE, "--report", "pump.pdf")
    assert given == []


def test_describe_conversion(tiny_float: Artifact) -> None:
    manifest = tiny_float.manifest
    fidelity = manifest.fidelity
    assert describe_conversion(manifest) == [
        f"Model     int8-float, {manifest.flatbuffer_bytes:,} bytes, 2 states, forecasts flow, "
        "level one reading ahead",
        f"Fidelity  differs from the Keras model by {fidelity.relative_error:.2%} of its output "
        f"over 180 held-out steps ({fidelity.max_error:.2%} at most, drift {fidelity.drift:.2f}, "
        f"correlation {fidelity.correlation:.4f})",
        f"Runtimes  ai-edge-litert {manifest.runtimes['ai-edge-litert']} or later",
        "Threshold set on 880 recording residuals for one false alarm in 7 days; int8-float "
        f"changes scores by {fidelity.score_change:.1%}",
    ]


def test_describe_conversion_of_a_window(tiny_window: Artifact) -> None:
    assert "bytes, window 8, forecasts flow" in describe_conversion(tiny_window.manifest)[0]


def test_describe_conversion_without_a_forecast(tiny_tokens: Artifact) -> None:
    model, fidelity, _, threshold = describe_conversion(tiny_tokens.manifest)
    assert model.endswith(f"bytes, {len(tiny_tokens.manifest.states)} states")
    assert "correlation" in fidelity
    assert threshold == "Threshold none: the model forecasts nothing"
    constant = dataclasses.replace(tiny_tokens.manifest.fidelity, correlation=None)
    manifest = dataclasses.replace(tiny_tokens.manifest, fidelity=constant)
    assert "correlation" not in describe_conversion(manifest)[1]


def test_describe_conversion_of_a_window_of_another_kind(tiny_window: Artifact) -> None:
    other = dataclasses.replace(tiny_window.manifest, task="none", horizon=0, detection=None)
    assert describe_conversion(other)[3] == (
        "Threshold none: the model forecasts nothing; an autoencoder needs --task reconstruction"
    )


def test_describe_conversion_of_a_forecast_further_ahead(tiny: Artifact) -> None:
    manifest = dataclasses.replace(tiny.manifest, horizon=3)
    assert describe_conversion(manifest)[0].endswith("forecasts flow, level 3 readings ahead")
    manifest = dataclasses.replace(manifest, detection=None)
    assert describe_conversion(manifest)[3] == "Threshold none: the calibration is too short"


@pytest.mark.parametrize(
    ("alerts", "days", "line"),
    [
        (0, 2.5, "          0 alerts in the 2.5 days of the calibration itself"),
        (1, 2.0, "          1 alert in the 2 days of the calibration itself, 0.5 a day"),
        (3, 0.25, "          3 alerts in the 0.25 days of the calibration itself, 12 a day"),
    ],
)
def test_what_the_threshold_makes_of_its_calibration(alerts: int, days: float, line: str) -> None:
    detection = DetectionSummary("recording", 900, (), 1.0, 0.1, 1.0, alerts, days)
    assert describe_detection(detection) == [line]
    assert describe_detection(dataclasses.replace(detection, alerts=None, days=None)) == []
    assert describe_detection(None) == []


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
